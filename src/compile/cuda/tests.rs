use crate::compile::plan::packed::PackedPlace;
use crate::compile::{Available, Plan, PlanOptions, Precision, fuse};
use crate::device::Executable;
use crate::device::cuda::{CudaDevice, CudaExecutable, CudaOptions, PlannedLaunch};
use crate::graph::{Graph, Value};
use crate::ops::optimizer::{AdamConfig, AdamOperands};
use crate::tensor::{DType, Tensor, TensorMap};
use crate::testing::{emulated_gpu, hashed};

fn device(group: bool) -> Option<CudaDevice> {
    Some(emulated_gpu()?.with(CudaOptions {
        precision: Precision::F16,
        group,
        ..CudaOptions::default()
    }))
}

fn adam(g: &mut Graph, parameter: Value, grad: Value) {
    let shape = g.shape(parameter).to_vec();
    let name = g.info(parameter).name.clone();
    let state = |g: &mut Graph, kind: &str| {
        let name = format!("{kind}.{name}");
        g.state(&name, shape.clone(), DType::F32).unwrap()
    };
    let operands = AdamOperands {
        parameter,
        grad,
        moments: [state(g, "m"), state(g, "v")],
        learning_rate: g.input("lr", [], DType::F32).unwrap(),
        step: g.state("step", [1], DType::I32).unwrap(),
        clip: None,
        gate: None,
    };
    g.adam(AdamConfig::ADAMW, operands).unwrap();
}

/// Filters of several sizes, some with borders in the packing kernel's blocks, and their training step.
fn training(channels: &[usize]) -> Graph {
    let mut g = Graph::new();
    let x = g.parameter("x", [1, 5, 6, channels[0]]).unwrap();
    let (mut y, mut filters) = (x, Vec::new());
    for (k, pair) in channels.windows(2).enumerate() {
        let side = if k % 2 == 0 { 3 } else { 1 };
        let w = g.parameter(&format!("w.{k}"), [pair[1], pair[0], side, side]);
        let w = w.unwrap();
        y = g.conv2d(y, w, None, 1, side / 2).unwrap();
        y = g.swish(y).unwrap();
        filters.push(w);
    }
    let loss = g.sum_to(y, &[]).unwrap();
    g.output("loss", loss);
    let grads = g.gradients(loss, &filters).unwrap();
    for (&filter, grad) in filters.iter().zip(grads) {
        adam(&mut g, filter, grad.unwrap());
    }
    g
}

fn plan(device: &CudaDevice, graph: &Graph) -> Plan {
    device.plan(&device.lower(graph), PlanOptions::default())
}

fn load(device: &CudaDevice, graph: &Graph) -> CudaExecutable {
    let weights: TensorMap = graph
        .parameters()
        .map(|(name, value)| {
            let shape = graph.shape(value).to_vec();
            let values = hashed(name, graph.ty(value).len());
            let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            (name.to_owned(), Tensor::from_f32(shape, &values))
        })
        .collect();
    let mut executable = device.load(plan(device, graph), &weights).unwrap();
    executable.write("lr", &[0.01]).unwrap();
    executable
}

fn bits(values: Vec<f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

#[test]
fn trained_filters_are_packed_by_one_launch_a_run() {
    let channels = [8, 24, 40, 72, 16];
    let graph = training(&channels);
    let (Some(grouped), Some(apart)) = (device(true), device(false)) else {
        return;
    };
    let packs = |device: &CudaDevice| {
        let launches = device.launches(&plan(device, &graph)).unwrap();
        let at = |(index, launch): (usize, &PlannedLaunch)| {
            (launch.entry() == "conv2d_tensor_pack").then_some(index)
        };
        launches
            .iter()
            .enumerate()
            .filter_map(at)
            .collect::<Vec<usize>>()
    };
    // Each filter forward, all but the first backward.
    assert_eq!((packs(&grouped), packs(&apart).len()), (vec![0], 7));

    let [mut together, mut single] = [&grouped, &apart].map(|device| load(device, &graph));
    for _ in 0..3 {
        for executable in [&mut together, &mut single] {
            executable.poison().unwrap();
            executable.run().unwrap();
        }
        for name in (0..4).map(|k| format!("w.{k}")) {
            let [a, b] =
                [&together, &single].map(|executable| bits(executable.read(&name).unwrap()));
            assert_eq!(a, b, "{name}");
        }
    }
    assert_ne!(
        bits(together.read("w.0").unwrap()),
        bits(load(&grouped, &graph).read("w.0").unwrap())
    );

    // Two bytes for each weight and form, rows of the packed filters padded to 64 products.
    let packed = |rows: usize, products: usize| 2 * rows * products.next_multiple_of(64);
    let mut expected = 0;
    for (k, pair) in channels.windows(2).enumerate() {
        let taps = if k % 2 == 0 { 9 } else { 1 };
        expected += packed(pair[1], taps * pair[0]);
        expected += if k > 0 {
            packed(pair[0], taps * pair[1])
        } else {
            0
        };
    }
    let [grouped, apart] =
        [&grouped, &apart].map(|device| plan(device, &graph).memory(&device.backend()));
    let kept = grouped.parameter_bytes - apart.parameter_bytes;
    // Counters of split sums take a few more.
    assert!(
        (expected..expected + 4096).contains(&kept),
        "{kept} for {expected}"
    );
}

/// What a run computes with a weight after its update is what the next run computes before it.
#[test]
fn a_filter_that_was_updated_is_packed_again() {
    let mut g = Graph::new();
    let x = g.parameter("x", [1, 4, 4, 8]).unwrap();
    let w = g.parameter("w", [8, 8, 3, 3]).unwrap();
    let before = g.conv2d(x, w, None, 1, 1).unwrap();
    g.output("before", before);
    let loss = g.sum_to(before, &[]).unwrap();
    let grads = g.gradients(loss, &[w]).unwrap();
    adam(&mut g, w, grads[0].unwrap());
    let after = g.conv2d(x, w, None, 1, 1).unwrap();
    g.output("after", after);

    let Some(device) = device(true) else { return };
    let plan = plan(&device, &g);
    let filters: Vec<Available> = plan
        .steps
        .iter()
        .filter(|step| step.op.operator().name() == "conv2d")
        .map(|step| step.available[1])
        .collect();
    assert_eq!(filters, [Available::AtStart, Available::DuringRun]);
    let places: Vec<PackedPlace> = plan
        .packing
        .steps
        .iter()
        .flatten()
        .map(|p| p.place)
        .collect();
    assert_eq!(places, [PackedPlace::Prepacked(0), PackedPlace::Workspace]);

    let mut executable = load(&device, &g);
    let mut after: Option<Vec<u32>> = None;
    for _ in 0..3 {
        executable.poison().unwrap();
        executable.run().unwrap();
        let [first, last] = ["before", "after"].map(|name| bits(executable.output(name).unwrap()));
        assert_ne!(first, last);
        if let Some(after) = after.replace(last) {
            assert_eq!(first, after);
        }
    }
}

/// Steps that read one weight in the same form share it, whether it is trained or not.
#[test]
fn equal_forms_are_packed_once() {
    let Some(device) = device(true) else { return };
    for trained in [false, true] {
        let mut g = Graph::new();
        let w = g.parameter("w", [8, 8, 3, 3]).unwrap();
        for name in ["a", "b"] {
            let x = g.parameter(name, [1, 4, 4, 8]).unwrap();
            let y = g.conv2d(x, w, None, 1, 1).unwrap();
            g.output(name, y);
        }
        // Folded filters: another form.
        let x = g.parameter("c", [1, 4, 4, 8]).unwrap();
        let x = g.upsample(x, 2).unwrap();
        let y = g.conv2d(x, w, None, 1, 1).unwrap();
        g.output("c", y);
        if trained {
            let grad = g.input("grad", [8, 8, 3, 3], DType::F32).unwrap();
            adam(&mut g, w, grad);
        }
        let (fused, _) = fuse(&g);
        let packing = plan(&device, &fused).packing;
        let places: Vec<PackedPlace> = packing.steps.iter().flatten().map(|p| p.place).collect();
        assert_eq!(
            places,
            [
                PackedPlace::Prepacked(0),
                PackedPlace::Prepacked(0),
                PackedPlace::Prepacked(1)
            ]
        );
        assert_eq!(packing.prepacked.len(), 2);
    }
}
