//! Times the published networks and their convolutions on a GPU.
//!
//! ```text
//! cargo bench --bench cuda -- [sample] [decode] [encode] [train] [layers]   [default: sample decode]
//!                             [--device auto|cuda:N|emulated] [--precision f16,f32] [--batch 1,8] [--runs 20]
//!                             [--layer SUBSTRING]
//! ```
//! A network is replayed as the graph that users run; then its launches are timed one by one, so that their sum is more by
//! the gaps between them. `layers` runs every convolution as a plan of its own, forward and both gradients, with operands
//! that are warm in the cache; `--precision f32` are the plain kernels, the others those on tensor cores.
//!
//! FLOPs are those of the textbook sum. GB are what has to move at least. The floor is a prediction, not a measurement:
//! per step the larger of FLOPs over the tensor pipe's rate and bytes over the memory's, summed, for an RTX 3090.
//! An emulated GPU has no times; it proves that the bench runs.

mod layers;
#[path = "../tests/paper_plans/mod.rs"]
mod paper_plans;

use std::collections::BTreeMap;

use clap::Parser;
use layers::{DECODER, ENCODER, Layer, UNET};
use medfusion::checkpoint::ModelConfig;
use medfusion::checkpoint::{hashed_parameters, unet_parameters, vae_parameters};
use medfusion::compile::Precision;
use medfusion::compile::{BindingKind, Plan};
use medfusion::device::cuda::{CudaDevice, CudaExecutable, CudaOptions};
use medfusion::device::{DeviceChoice, DeviceError, Executable};
use medfusion::graph::Graph;
use medfusion::ops::conv2d::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad};
use medfusion::tensor::{DType, TensorMap};
use medfusion::train::names;

/// RTX 3090, by NVIDIA's GA102 whitepaper, in FLOP/s and bytes/s.
const TENSOR_RATE: f64 = 71.2e12;
const HALF_SUMS_RATE: f64 = 142.3e12;
const FMA_RATE: f64 = 35.6e12;
const MEMORY_RATE: f64 = 936e9;

#[derive(Parser)]
struct Arguments {
    /// sample, decode, encode, train, layers
    #[arg(default_values = ["sample", "decode"], value_parser = ["sample", "decode", "encode", "train", "layers"])]
    what: Vec<String>,
    /// auto, cuda:N or emulated; auto does without where there is no GPU
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    #[arg(long, value_delimiter = ',', default_value = "f16")]
    precision: Vec<Precision>,
    #[arg(long, value_delimiter = ',', default_value = "1")]
    batch: Vec<usize>,
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Only layers whose names hold this
    #[arg(long, default_value = "")]
    layer: String,
    /// What `cargo bench` passes
    #[arg(long, hide = true)]
    bench: bool,
}

fn rate(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => FMA_RATE,
        Precision::F16 | Precision::BF16 => TENSOR_RATE,
        Precision::F16Fast => HALF_SUMS_RATE,
    }
}

/// FLOPs of step `index` and the bytes it has to move, its weights in the type they are packed in.
fn work(plan: &Plan, index: usize, precision: Precision) -> [f64; 2] {
    let step = &plan.steps[index];
    let packed = match step.op.operator().name() {
        "conv2d" | "conv2d_input_grad" => plan.value(step.inputs[1]).ty.len(),
        _ => 0,
    };
    let saved = packed * (DType::F32.size_bytes() - precision.storage().size_bytes());
    [step.flops as f64, (step.bytes - saved as u64) as f64]
}

/// Seconds that so much work takes at least on an RTX 3090.
fn floor([flops, bytes]: [f64; 2], precision: Precision) -> f64 {
    (flops / rate(precision)).max(bytes / MEMORY_RATE)
}

/// A figure, or a dash where the clock is not a GPU's.
struct Bench {
    emulated: bool,
    runs: usize,
}

impl Bench {
    fn figure(&self, value: f64, decimals: usize) -> String {
        match self.emulated {
            true => "-".to_owned(),
            false => format!("{value:.decimals$}"),
        }
    }

    /// Least and median seconds of a run.
    fn times(&self, executable: &mut CudaExecutable) -> Result<[f64; 2], DeviceError> {
        executable.run()?;
        let runs = if self.emulated { 1 } else { self.runs.max(1) };
        let mut seconds = (0..runs)
            .map(|_| executable.time_runs(1))
            .collect::<Result<Vec<f64>, _>>()?;
        seconds.sort_by(f64::total_cmp);
        Ok([seconds[0], seconds[seconds.len() / 2]])
    }

    fn network(
        &self,
        gpu: &CudaDevice,
        name: &str,
        graph: &Graph,
        weights: &TensorMap,
    ) -> Result<(), DeviceError> {
        let precision = gpu.options().precision;
        let plan = paper_plans::plan(gpu, graph);
        let flops = plan.flops() as f64;
        let work: Vec<[f64; 2]> = (0..plan.steps.len())
            .map(|index| work(&plan, index, precision))
            .collect();
        let floor: f64 = work.iter().map(|&work| floor(work, precision)).sum();
        let memory = plan.memory(&gpu.backend());
        let mut executable = gpu.load(plan, weights)?;
        fill(&mut executable)?;
        let [least, median] = self.times(&mut executable)?;
        println!(
            "\n{name}, {precision}: {} launches, {:.2} GFLOP, {memory}\n  {} ms a run, median {} of {}; {} TFLOP/s; \
             predicted floor on an RTX 3090 {:.3} ms",
            executable.launch_count(),
            flops / 1e9,
            self.figure(least * 1e3, 3),
            self.figure(median * 1e3, 3),
            self.runs,
            self.figure(flops / least / 1e12, 1),
            floor * 1e3,
        );

        #[derive(Default)]
        struct Kind {
            launches: usize,
            seconds: f64,
            flops: f64,
            bytes: f64,
        }
        let mut kinds: BTreeMap<&str, Kind> = BTreeMap::new();
        let (mut total, mut counted) = (0.0, None);
        executable.run_timed(|launch| {
            let kind = kinds.entry(launch.entry).or_default();
            kind.launches += 1;
            kind.seconds += launch.seconds;
            total += launch.seconds;
            // The work of a step counts once, for its first launch.
            if let Some(step) = launch
                .step
                .filter(|step| counted.replace(*step) != Some(*step))
            {
                kind.flops += work[step][0];
                kind.bytes += work[step][1];
            }
        })?;
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by(|(_, a), (_, b)| b.seconds.total_cmp(&a.seconds));
        println!(
            "  {:<32} {:>8} {:>9} {:>6} {:>8} {:>8} {:>7} {:>7}",
            "kernel", "launches", "ms", "share", "GFLOP", "TFLOP/s", "GB", "GB/s"
        );
        for (entry, kind) in kinds {
            println!(
                "  {entry:<32} {:>8} {:>9} {:>6} {:>8.2} {:>8} {:>7.3} {:>7}",
                kind.launches,
                self.figure(kind.seconds * 1e3, 3),
                self.figure(kind.seconds / total, 3),
                kind.flops / 1e9,
                self.figure(kind.flops / kind.seconds / 1e12, 1),
                kind.bytes / 1e9,
                self.figure(kind.bytes / kind.seconds / 1e9, 0),
            );
        }
        Ok(())
    }

    fn layer(&self, gpu: &CudaDevice, layer: &Layer, batch: usize) -> Result<(), DeviceError> {
        let precision = gpu.options().precision;
        for (what, graph) in convolution(layer, batch) {
            let plan = paper_plans::plan(gpu, &graph);
            let mut steps = plan.steps.iter();
            let index = steps
                .position(|step| step.op.operator().name().starts_with("conv2d"))
                .expect("the graph is a convolution");
            let [flops, bytes] = work(&plan, index, precision);
            let floor = floor([flops, bytes], precision);
            let mut executable = gpu.load(plan, &TensorMap::new())?;
            fill(&mut executable)?;
            // The casts of its operands are steps of their own.
            let runs = if self.emulated { 1 } else { self.runs.max(1) };
            let (mut least, mut launches) = (f64::INFINITY, 0);
            for _ in 0..runs {
                let (mut seconds, mut count) = (0.0, 0);
                executable.run_timed(|launch| {
                    if launch.step == Some(index) {
                        seconds += launch.seconds;
                        count += 1;
                    }
                })?;
                (least, launches) = (least.min(seconds), count);
            }
            println!(
                "{:<18} {what:<5} {batch:>5} {:<8} {launches:>8} {:>9} {:>8.3} {:>8} {:>7} {:>9.2}",
                layer.0,
                precision.to_string(),
                self.figure(least * 1e6, 1),
                flops / 1e9,
                self.figure(flops / least / 1e12, 1),
                self.figure(bytes / least / 1e9, 0),
                floor * 1e6,
            );
        }
        Ok(())
    }
}

/// The convolution and its gradients, each as a graph.
fn convolution(layer: &Layer, batch: usize) -> [(&'static str, Graph); 3] {
    let &(_, from, to, side, kernel, stride, upsample, _) = layer;
    let source = [batch, side, side, from];
    let out = if upsample { 2 * side } else { side / stride };
    let result = [batch, out, out, to];
    let filter = [to, from, kernel, kernel];
    let padding = [kernel / 2; 2];
    let graph = |inputs: [&[usize]; 2], op: medfusion::graph::Op| {
        let mut g = Graph::new();
        let inputs = ["a", "b"].into_iter().zip(inputs);
        let inputs: Vec<_> = inputs
            .map(|(name, shape)| g.input(name, shape, DType::F32).expect("a new leaf"))
            .collect();
        let y = g.apply(op, &inputs).expect("a layer of the network");
        g.output("y", y);
        g
    };
    [
        (
            "fwd",
            graph(
                [&source, &filter],
                Conv2d {
                    stride,
                    padding,
                    upsample,
                    bias: false,
                    residual: false,
                    stats: None,
                    concat: false,
                }
                .into(),
            ),
        ),
        (
            "dgrad",
            graph(
                [&result, &filter],
                Conv2dInputGrad {
                    stride,
                    padding,
                    upsample,
                    height: side,
                    width: side,
                    residual: false,
                }
                .into(),
            ),
        ),
        (
            "wgrad",
            graph(
                [&source, &result],
                Conv2dWeightGrad {
                    stride,
                    padding,
                    upsample,
                    kernel: [kernel; 2],
                }
                .into(),
            ),
        ),
    ]
}

/// Writes plausible numbers to all inputs.
fn fill(executable: &mut CudaExecutable) -> Result<(), DeviceError> {
    let bindings: Vec<_> = executable.plan().bindings.clone();
    for binding in bindings {
        if !executable.has(&binding.name) || !matches!(binding.kind, BindingKind::Input) {
            continue;
        }
        match (binding.ty.dtype, binding.name.as_str()) {
            (DType::I32, _) => executable.write_i32(&binding.name, &vec![1; binding.ty.len()])?,
            (_, names::LEARNING_RATE) => executable.write(&binding.name, &[1e-4])?,
            (_, names::LABELS_KEPT) => executable.write(&binding.name, &[1.0])?,
            _ => {
                let value = |i: usize| ((i * 7919) % 2003) as f32 / 1001.5 - 1.0;
                let values: Vec<f32> = (0..binding.ty.len()).map(value).collect();
                executable.write(&binding.name, &values)?;
            }
        }
    }
    Ok(())
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let options = CudaOptions::default();
    let gpu = match arguments.device {
        DeviceChoice::Cuda(ordinal) => CudaDevice::open(ordinal, options),
        DeviceChoice::Auto => match CudaDevice::open(0, options) {
            Err(error) => {
                println!("nothing is timed: {error}");
                return Ok(());
            }
            gpu => gpu,
        },
        DeviceChoice::Emulated => CudaDevice::emulated(options),
        DeviceChoice::Cpu => {
            return Err("--device cpu: expected a GPU; the CPU has benches of its own: paper_size, conv, ops".to_owned());
        }
    }
    .map_err(|error| error.to_string())?;
    let bench = Bench {
        emulated: arguments.device == DeviceChoice::Emulated,
        runs: arguments.runs,
    };
    if bench.emulated {
        println!("an emulated GPU has no times: they are left out");
    }
    let config = ModelConfig::published(2);
    let unet = || {
        hashed_parameters(
            &unet_parameters(config.unet.as_ref().expect("a UNet")).unwrap(),
            0.8,
        )
    };
    let vae = || {
        hashed_parameters(
            &vae_parameters(config.vae.as_ref().expect("a VAE")).unwrap(),
            0.8,
        )
    };
    for &precision in &arguments.precision {
        let gpu = gpu.with(CudaOptions {
            precision,
            ..options
        });
        println!("\n{gpu}");
        for &batch in &arguments.batch {
            for what in &arguments.what {
                let name = format!("{what}, batch {batch}");
                let result = match what.as_str() {
                    "sample" => {
                        let graph = paper_plans::sampling(&config, batch, false);
                        bench.network(&gpu, &name, &graph, &unet())
                    }
                    "decode" => {
                        bench.network(&gpu, &name, &paper_plans::decode(&config, batch), &vae())
                    }
                    "encode" => {
                        bench.network(&gpu, &name, &paper_plans::encode(&config, batch), &vae())
                    }
                    "train" => {
                        let scaled = precision.storage() == DType::F16;
                        let training = paper_plans::train_unet(&config, batch, scaled);
                        bench.network(&gpu, &name, &training.graph, &unet())
                    }
                    _ => layers(&bench, &gpu, batch, &arguments.layer),
                };
                result.map_err(|error| format!("{name}, {precision}: {error}"))?;
            }
        }
    }
    Ok(())
}

fn layers(bench: &Bench, gpu: &CudaDevice, batch: usize, wanted: &str) -> Result<(), DeviceError> {
    println!(
        "\n{:<18} {:<5} {:>5} {:<8} {:>8} {:>9} {:>8} {:>8} {:>7} {:>9}",
        "layer", "what", "batch", "type", "launches", "us", "GFLOP", "TFLOP/s", "GB/s", "floor us"
    );
    for layer in [UNET, DECODER, ENCODER].into_iter().flatten() {
        if layer.0.contains(wanted) {
            bench.layer(gpu, layer, batch)?;
        }
    }
    Ok(())
}

fn main() {
    if let Err(error) = run(&Arguments::parse()) {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}
