use super::*;
use crate::compile::PlanOptions;
use crate::compile::Precision;
use crate::device::DeviceChoice;
use crate::device::cuda::CudaOptions;
use crate::kernel::Unsupported;
use crate::ops::pixel_loss::Distance;
use crate::testing::{emulated_gpu, hashed};
use crate::train::run_file::{DiffusionRun, parse};

const LEN: usize = 300;

fn options(accumulate: usize, loss_scaling: bool) -> StepOptions {
    StepOptions {
        adam: AdamConfig::ADAMW,
        max_norm: 0.5,
        ema: Some(EmaOptions {
            max_decay: 0.999,
            power: 2.0 / 3.0,
        }),
        accumulate,
        loss_scaling,
    }
}

/// The mean squared difference of `a x + b` and a target.
fn training(options: StepOptions) -> TrainingGraph {
    let mut g = Graph::new();
    let x = g.input("x", [LEN], DType::F32).unwrap();
    let target = g.input("target", [LEN], DType::F32).unwrap();
    let [a, b] = ["a", "b"].map(|name| g.parameter(name, [LEN]).unwrap());
    let y = g.mul(a, x).unwrap();
    let y = g.add(y, b).unwrap();
    let loss = g.mean_pixel_loss(Distance::L2, y, target).unwrap();
    g.output(names::LOSS, loss);
    TrainingGraph::new(g, loss, options).unwrap()
}

fn values(name: &str) -> Vec<f32> {
    hashed(name, LEN).iter().map(|&v| v as f32).collect()
}

fn trainer(device: &Device, options: StepOptions) -> Result<LoadedStep, StepError> {
    let training = training(options);
    let weights = ["a", "b"].map(|name| {
        let tensor = Tensor::from_f32([LEN], &values(name));
        (name.to_owned(), tensor)
    });
    let compiled = training.compile(device, None).unwrap();
    let mut trainer = training.load(device, compiled, &TensorMap::from(weights))?;
    let executable = trainer.executable();
    executable.write("x", &values("x"))?;
    executable.write("target", &values("target"))?;
    Ok(trainer)
}

fn cpu() -> Device {
    Device::builder()
        .choice(DeviceChoice::Cpu)
        .threads(1)
        .open()
        .unwrap()
}

fn step(trainer: &mut LoadedStep) -> StepOutcome {
    for pass in 0..trainer.options.accumulate {
        trainer.run_pass(pass, 0.01, true).unwrap();
    }
    trainer.report().unwrap()
}

/// Everything that the next step depends on.
fn state(trainer: &LoadedStep) -> (BTreeMap<String, TensorMap>, Vec<(String, i64)>) {
    let owned = |part: Result<(&'static str, TensorMap), DeviceError>| {
        let (part, tensors) = part.unwrap();
        (part.to_owned(), tensors)
    };
    (
        trainer.parts().map(owned).collect(),
        trainer.counters().unwrap(),
    )
}

fn scale(trainer: &LoadedStep) -> f32 {
    trainer.executable.read(names::LOSS_SCALE).unwrap()[0]
}

/// A power of two that is taken off again rounds nothing.
#[test]
fn a_scaled_step_is_the_plain_one_to_the_bit() {
    for accumulate in [1, 2] {
        let mut plain = trainer(&cpu(), options(accumulate, false)).unwrap();
        let mut scaled = trainer(&cpu(), options(accumulate, true)).unwrap();
        for _ in 0..5 {
            assert_eq!(step(&mut plain), step(&mut scaled));
        }
        let (parts, counters) = state(&scaled);
        assert_eq!(parts, state(&plain).0);
        assert_eq!(
            counters[counters.len() - 2..],
            [
                (names::LOSS_SCALE.to_owned(), 65536),
                (names::GOOD_STEPS.to_owned(), 5)
            ]
        );
    }
}

#[test]
fn an_overflow_lowers_the_scale_and_changes_nothing_else() {
    for accumulate in [1, 2] {
        let mut trainer = trainer(&cpu(), options(accumulate, true)).unwrap();
        step(&mut trainer);
        let (before, _) = state(&trainer);
        // Beyond f32, so that it overflows without f16 too.
        let huge = f32::MAX / 2.0;
        trainer
            .executable
            .write(names::LOSS_SCALE, &[huge])
            .unwrap();
        trainer.executable.write("x", &[1e10; LEN]).unwrap();
        let report = step(&mut trainer);
        assert!(report.overflow && report.not_finite.is_none(), "{report:?}");
        assert!(trainer.executable.output(names::LOSS).unwrap()[0].is_finite());
        assert_eq!(scale(&trainer), huge / 2.0);
        assert_eq!(trainer.executable.read_i32(names::GOOD_STEPS).unwrap(), [0]);
        assert_eq!(state(&trainer).0, before);
        assert_eq!(trainer.step().unwrap(), 1);
        // And it goes on.
        trainer
            .executable
            .write(names::LOSS_SCALE, &[1024.0])
            .unwrap();
        trainer.executable.write("x", &values("x")).unwrap();
        assert!(!step(&mut trainer).overflow);
        assert_eq!(trainer.step().unwrap(), 2);
    }
}

/// What stays when there is no scale left to lower is a fault, and it is named.
#[test]
fn nan_is_no_overflow_in_the_end() {
    let mut trainer = trainer(&cpu(), options(1, true)).unwrap();
    trainer.executable.write("b", &[f32::NAN; LEN]).unwrap();
    let mut steps = 0;
    let report = loop {
        let report = step(&mut trainer);
        if !report.overflow {
            break report;
        }
        steps += 1;
    };
    assert_eq!((steps, scale(&trainer)), (16, 1.0));
    assert_eq!(report.not_finite.as_deref(), Some("a"));
}

#[test]
fn a_restored_scale_goes_on_to_the_bit() {
    let mut whole = trainer(&cpu(), options(1, true)).unwrap();
    whole.executable.write(names::LOSS_SCALE, &[512.0]).unwrap();
    whole
        .executable
        .write_i32(names::GOOD_STEPS, &[LossScale::INTERVAL - 2])
        .unwrap();
    step(&mut whole);
    let (parts, counters) = state(&whole);
    let mut resumed = trainer(&cpu(), options(1, true)).unwrap();
    let find = |name: &str| counters.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
    resumed.restore(&parts, find).unwrap();
    step(&mut whole);
    step(&mut resumed);
    assert_eq!(scale(&whole), 1024.0);
    assert_eq!(state(&whole), state(&resumed));
    // A run that had none finds its own.
    let mut fresh = trainer(&cpu(), options(1, true)).unwrap();
    let without = |name: &str| find(name).filter(|_| !name.starts_with(names::LOSS_SCALE));
    fresh.restore(&parts, without).unwrap();
    assert_eq!(scale(&fresh), LossScale::FIRST);
}

/// On the emulated GPU: f32 as the CPU, f16 with an overflow at first.
#[test]
fn scaled_steps_run_on_the_gpu() {
    let Some(gpu) = emulated_gpu() else { return };
    for precision in [Precision::F32, Precision::F16] {
        let device = Device::Cuda(gpu.with(CudaOptions {
            precision,
            ..CudaOptions::default()
        }));
        let mut on_gpu = match trainer(&device, options(2, true)) {
            Err(StepError::Device(DeviceError::Unsupported(Unsupported { op, why, .. }))) => {
                eprintln!("NOT TESTED on CUDA: {op} {why}");
                return;
            }
            other => other.unwrap(),
        };
        let mut on_cpu = trainer(&cpu(), options(2, true)).unwrap();
        let first = 2f32.powi(126);
        on_gpu
            .executable
            .write(names::LOSS_SCALE, &[first])
            .unwrap();
        let x = on_gpu.executable.read("x").unwrap();
        on_gpu.executable.write("x", &[1e5; LEN]).unwrap();
        let report = step(&mut on_gpu);
        assert!(report.overflow, "{report:?}");
        assert_eq!(scale(&on_gpu), first / 2.0);
        on_gpu.executable.write("x", &x).unwrap();
        on_gpu
            .executable
            .write(names::LOSS_SCALE, &[LossScale::FIRST])
            .unwrap();
        for _ in 0..3 {
            assert!(!step(&mut on_gpu).overflow);
            step(&mut on_cpu);
        }
        let (gpu, cpu) = (on_gpu.weights().unwrap(), on_cpu.weights().unwrap());
        for (name, tensor) in &cpu {
            let other = gpu[name].to_f32().unwrap();
            let tensor = tensor.to_f32().unwrap();
            let pairs = tensor.iter().zip(&*other);
            let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // Three steps of 0.01; this loss is all f32.
            assert!(worst < 1e-6, "{precision} {name}: {worst:e}");
        }
    }
}

/// Hundreds of updates of a network are launched together: Adam, the averages, and those again from the label table on,
/// which has a counter and a gate of its own; and so are sums over the samples of gradients.
#[test]
fn updates_of_a_network_are_a_few_launches() {
    let Some(gpu) = emulated_gpu() else { return };
    let text = "[data]\npath = \"unused\"\nimage_size = [32, 32]\n[model]\nhidden_channels = [16, 32]\n\
                norm_groups = 8\nembedding_dim = 32\n[train]\nsteps = 1\nbatch = 2\n[ema]\nenabled = true\n";
    let run: DiffusionRun = parse(text, &[]).unwrap();
    let training = crate::train::diffusion::training_graph(&run, 2).unwrap();
    let launches = |group: bool| {
        let device = gpu.with(CudaOptions {
            group,
            ..CudaOptions::default()
        });
        let (graph, _) = crate::compile::fuse(&training.graph);
        let plan = device.plan(&device.lower(&graph), PlanOptions::default());
        device.launches(&plan).map(|launches| {
            let count = |entries: &[&str]| {
                let launches = launches.iter();
                launches.filter(|l| entries.contains(&l.entry())).count()
            };
            (
                launches.len(),
                count(&["adam", "ema"]),
                count(&["sum_few_rows"]),
            )
        })
    };
    match (launches(false), launches(true)) {
        (Ok((all, updates, sums)), Ok((grouped, updates_grouped, sums_grouped))) => {
            eprintln!("{all} launches, {grouped} grouped");
            assert_eq!(updates, 2 * training.gradients.len());
            // The label table's average waits for its Adam, and those that follow join it.
            assert_eq!(updates_grouped, 4);
            // As many as the reuse of memory between them takes.
            assert!(sums_grouped <= 6 && sums >= 20, "{sums_grouped} of {sums}");
            let joined = updates - updates_grouped + sums - sums_grouped;
            assert_eq!(all - grouped, joined);
        }
        (Err(DeviceError::Unsupported(Unsupported { op, why, .. })), _) => {
            eprintln!("NOT TESTED on CUDA: {op} {why}")
        }
        (_, Err(error)) | (Err(error), _) => panic!("{error}"),
    }
}
