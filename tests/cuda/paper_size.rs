//! The 194 M-parameter UNet on the emulated GPU, compared with the CPU: minutes on two cores, so only where asked for.
//!
//! ```sh
//! cargo xtask soak paper-size
//! ```
//!
//! The last output is recorded in `kernels/README.md`.

use std::time::Instant;

use medfusion::checkpoint::ModelConfig;
use medfusion::checkpoint::{hashed_parameters, unet_parameters};
use medfusion::compile::Precision;
use medfusion::device::cuda::{CudaDevice, CudaOptions};
use medfusion::device::{Device, DeviceChoice, Executable};
use medfusion::graph::Graph;
use medfusion::model::{NetworkInputs, build_unet};
use medfusion::tensor::{DType, TensorMap};
use medfusion::train::names;

/// Values in [-1, 1) with no pattern that a kernel could hide behind.
fn made_up(len: usize) -> Vec<f32> {
    (0..len as u64)
        .map(|i| {
            let z = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn relative_error(got: &[f32], want: &[f32]) -> f64 {
    let (mut difference, mut scale) = (0.0f64, 0.0f64);
    for (&a, &b) in got.iter().zip(want) {
        difference += f64::from(a - b).powi(2);
        scale += f64::from(b).powi(2);
    }
    assert!(difference.is_finite());
    (difference / scale).sqrt()
}

fn weights(config: &ModelConfig) -> TensorMap {
    hashed_parameters(
        &unet_parameters(config.unet.as_ref().expect("a UNet")).unwrap(),
        0.8,
    )
}

fn unet(config: &ModelConfig) -> Graph {
    let mut g = Graph::new();
    let [h, w, c] = crate::paper_plans::LATENT;
    let inputs = NetworkInputs {
        x: g.input("x_0", [1, h, w, c], DType::F32)
            .expect("a new leaf"),
        t: g.input("t", [1], DType::I32).expect("a new leaf"),
        labels: Some(g.input("labels", [1], DType::I32).expect("a new leaf")),
        self_condition: None,
    };
    let y = build_unet(&mut g, config.unet.as_ref().expect("a UNet"), inputs)
        .expect("the published network")
        .y;
    g.output("y", y);
    g
}

fn fill(executable: &mut dyn Executable) {
    for (name, scale) in [("x_0", 2.0), ("noise", 1.7)] {
        if executable.has(name) {
            let values: Vec<f32> = made_up(32 * 32 * 8).iter().map(|v| v * scale).collect();
            executable.write(name, &values).unwrap();
        }
    }
    executable.write_i32("t", &[417]).unwrap();
    executable.write_i32("labels", &[1]).unwrap();
    if executable.has(names::LEARNING_RATE) {
        executable.write(names::LEARNING_RATE, &[1e-4]).unwrap();
    }
    if executable.has(names::LOSS_SCALE) {
        // A run finds its scale in its first steps, which update nothing; this one starts where it has settled.
        executable.write(names::LOSS_SCALE, &[64.0]).unwrap();
    }
    if executable.has(names::LABELS_KEPT) {
        executable.write(names::LABELS_KEPT, &[1.0]).unwrap();
    }
}

/// Runs `graph` once on the CPU and once on the emulated GPU; gives what `read` takes from each. One is gone before the
/// other begins: a training step's shadow memory on the emulator and both networks do not fit 24 GB together.
fn both<R>(
    graph: &Graph,
    weights: &TensorMap,
    precision: Precision,
    read: impl Fn(&dyn Executable) -> R,
) -> [R; 2] {
    let want = {
        let cpu = Device::builder().choice(DeviceChoice::Cpu).open().unwrap();
        let mut executable = cpu.load(cpu.compile(graph), weights).unwrap();
        fill(&mut *executable);
        executable.run().unwrap();
        read(&*executable)
    };

    let options = CudaOptions {
        precision,
        ..CudaOptions::default()
    };
    let gpu = CudaDevice::emulated(options).unwrap();
    let plan = crate::paper_plans::plan(&gpu, graph);
    println!(
        "{} launches, {:.2} GFLOP, {}",
        gpu.launches(&plan).unwrap().len(),
        plan.flops() as f64 / 1e9,
        plan.memory(&gpu.backend())
    );
    let mut executable = gpu.load(plan, weights).unwrap();
    fill(&mut executable);
    let start = Instant::now();
    executable.run().unwrap();
    // Reading waits for the run.
    let got = read(&executable);
    println!(
        "executed on {gpu} in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    [want, got]
}

#[test]
#[ignore = "minutes: see the head of this file"]
fn one_evaluation_in_f16() {
    let config = ModelConfig::published(2);
    let read = |executable: &dyn Executable| executable.output("y").unwrap();
    let [want, got] = both(&unet(&config), &weights(&config), Precision::F16, read);
    let error = relative_error(&got, &want);
    println!("relative error of the prediction {error:.2e}");
    // Some 60 values stored one behind the other, each off by up to 2^-11 of itself.
    assert!(
        error < 60.0f64.sqrt() * f64::from(2.0f32).powi(-11),
        "{error}"
    );
}

#[test]
#[ignore = "minutes: see the head of this file"]
fn one_training_step_in_f16() {
    const FIRST: &str = "in_blocks.0.0.block_seq.0.basic_block.conv.weight";
    let config = ModelConfig::published(2);
    let training = crate::paper_plans::train_unet(&config, 1, true);
    let weights = weights(&config);
    let before = weights[FIRST].to_f32().unwrap().into_owned();
    let read = |executable: &dyn Executable| {
        let after = executable.read(FIRST).unwrap();
        let moved: Vec<f32> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
        (
            executable.output(names::LOSS).unwrap()[0],
            executable.output(names::GRAD_NORMS).unwrap(),
            moved,
        )
    };
    let [want, got] = both(&training.graph, &weights, Precision::F16, read);
    let ((want_loss, want_norms, want), (got_loss, got_norms, got)) = (want, got);
    println!("loss {want_loss} on the CPU, {got_loss} on the GPU");
    assert!((got_loss / want_loss - 1.0).abs() < 1e-2);
    // Norms of the gradient of each of the 194 M parameters' tensors, as one vector.
    let error = relative_error(&got_norms, &want_norms);
    println!("relative error of the gradients' norms {error:.2e}");
    assert!(
        error < 2.0 * 120.0f64.sqrt() * f64::from(2.0f32).powi(-11),
        "{error}"
    );
    // Adam's first step is the sign of the gradient times the learning rate; those near zero may differ.
    let other = want
        .iter()
        .zip(&got)
        .filter(|(a, b)| (*a - *b).abs() > 1e-5)
        .count();
    println!("{other} of {} weights moved another way", want.len());
    assert!(other * 20 < want.len());
}
