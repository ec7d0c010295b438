//! A plan's launches with their times: predicted by the model of a GPU that need not be there.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::gpu::Gpu;
use super::model::{KernelWork, predict};
use super::published;
use crate::compile::{Compiled, Location, Plan, Precision};
use crate::device::DeviceError;
use crate::device::cuda::{PlannedLaunch, planned_launches};
use crate::kernel::cuda::Target;

/// Version of the files that [`Profile`] is written as.
pub const PROFILE_VERSION: u32 = 1;

/// Registers per thread that are assumed of a kernel whose header names none.
const UNKNOWN_REGISTERS: u32 = 64;

/// Bytes that a thread of a plain kernel has on their way at once: one access.
const PLAIN_IN_FLIGHT_BYTES: f64 = 16.0;
/// Share of the stages of a pipeline that are on their way: two of three.
const PIPELINE_SHARE: f64 = 2.0 / 3.0;

/// Where a run's time goes, launch by launch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// [`PROFILE_VERSION`].
    pub version: u32,
    /// What was profiled, such as `sampling step of published`.
    pub subject: String,
    /// The GPU.
    pub gpu: String,
    /// `predicted`, as long as nothing was measured.
    pub method: String,
    /// Samples of a run.
    pub batch: usize,
    /// Type of activations and products.
    pub precision: String,
    /// The launches of a run, in order.
    pub launches: Vec<LaunchProfile>,
    /// Seconds from the end of a launch to the start of the next, as nodes of a graph.
    pub gap_seconds: f64,
    /// Bytes that the plan needs on the device.
    pub memory_bytes: usize,
}

/// One launch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaunchProfile {
    /// The kernel's entry point.
    pub kernel: String,
    /// The op that it computes, or `pack`.
    pub op: String,
    /// Path of the layer in the model, such as `in_blocks.3.0`; empty for what belongs to none.
    pub layer: String,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Seconds from its start to its end, without the gap behind it.
    pub seconds: f64,
    /// The resource that bounds it.
    pub bound: String,
    /// Seconds that it would take less if that resource were free.
    pub saved_seconds: f64,
    /// Floating-point operations of the steps that it computes.
    pub flops: u64,
    /// Bytes that have to come from DRAM or go there.
    pub dram_bytes: u64,
    /// Least seconds by its floating-point operations and DRAM bytes alone, at the GPU's peaks.
    pub roofline_seconds: f64,
    /// Bytes of activations that are in use while it runs, scratch memory included.
    pub live_bytes: usize,
    /// Whether the op states what the launch does; otherwise the sizes of its operands stand for it.
    pub stated: bool,
}

/// Sums over launches.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProfileSum {
    /// Launches.
    pub launches: usize,
    /// Their seconds.
    pub seconds: f64,
    /// Their least seconds by FLOP and DRAM bytes.
    pub roofline_seconds: f64,
    /// Their floating-point operations.
    pub flops: u64,
    /// Their DRAM bytes.
    pub dram_bytes: u64,
}

impl ProfileSum {
    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.launches += other.launches;
        self.seconds += other.seconds;
        self.roofline_seconds += other.roofline_seconds;
        self.flops += other.flops;
        self.dram_bytes += other.dram_bytes;
    }

    fn add(&mut self, launch: &LaunchProfile) {
        self.launches += 1;
        self.seconds += launch.seconds;
        self.roofline_seconds += launch.roofline_seconds;
        self.flops += launch.flops;
        self.dram_bytes += launch.dram_bytes;
    }
}

impl Profile {
    /// Predicts a run of `compiled`, which was compiled for `gpu`'s [`target`]. Nothing is executed.
    ///
    /// # Errors
    /// If no kernel takes a step of the plan.
    pub fn predict(
        subject: &str,
        gpu: &Gpu,
        precision: Precision,
        batch: usize,
        compiled: &Compiled,
    ) -> Result<Self, DeviceError> {
        let plan = &compiled.plan;
        let (_, planned) = planned_launches(&target(gpu, precision), plan)?;
        // The steps of a group are computed by the launches of its first.
        let groups: BTreeMap<usize, &Vec<usize>> =
            plan.groups.iter().map(|group| (group[0], group)).collect();
        let live = live_bytes(plan);
        let mut launches: Vec<LaunchProfile> = Vec::new();
        let mut last = None;
        for launch in &planned {
            // Several launches of a step share its work; the first is charged with it.
            let first = launch.step != last;
            last = launch.step;
            let group = launch.step.and_then(|step| groups.get(&step));
            let steps = group.into_iter().flat_map(|group| group.iter());
            let flops = match first {
                true => steps.map(|&step| plan.steps[step].flops).sum(),
                false => 0,
            };
            let step = launch.step.map(|step| &plan.steps[step]);
            let alone = group.is_none_or(|group| group.len() == 1);
            launches.push(LaunchProfile::new(
                gpu,
                precision,
                launch,
                step.map_or("pack", |step| step.op.operator().name()),
                step.filter(|_| alone).map_or("", |step| &step.path),
                flops,
                launch.step.map_or(0, |step| live[step]),
            ));
        }
        Ok(Self {
            version: PROFILE_VERSION,
            subject: subject.to_owned(),
            gpu: gpu.name.clone(),
            method: "predicted".to_owned(),
            batch,
            precision: precision.to_string(),
            launches,
            gap_seconds: gpu.graph_gap_seconds.value,
            memory_bytes: compiled.memory.total_bytes(),
        })
    }

    /// Sum over all launches, without gaps.
    pub fn sum(&self) -> ProfileSum {
        let mut sum = ProfileSum::default();
        self.launches.iter().for_each(|launch| sum.add(launch));
        sum
    }

    /// Seconds of all gaps.
    pub fn gaps(&self) -> f64 {
        self.gap_seconds * self.launches.len() as f64
    }

    /// Seconds of a run.
    pub fn seconds(&self) -> f64 {
        self.sum().seconds + self.gaps()
    }

    /// Sums by what `key` says of a launch.
    pub fn by<'a>(
        &'a self,
        key: impl Fn(&'a LaunchProfile) -> String,
    ) -> BTreeMap<String, ProfileSum> {
        let mut sums: BTreeMap<String, ProfileSum> = BTreeMap::new();
        for launch in &self.launches {
            sums.entry(key(launch)).or_default().add(launch);
        }
        sums
    }
}

impl LaunchProfile {
    fn new(
        gpu: &Gpu,
        precision: Precision,
        launch: &PlannedLaunch,
        op: &str,
        layer: &str,
        flops: u64,
        live_bytes: usize,
    ) -> Self {
        let work = work(gpu, launch);
        let prediction = predict(gpu, &work);
        let tensor = work.mma + work.mma_half > 0.0;
        let peak = gpu.peak_flops(tensor, precision == Precision::F16Fast);
        let dram = work.dram_bytes / gpu.dram_peak_bytes_per_second.value;
        let roofline_seconds = (flops as f64 / peak).max(dram);
        Self {
            kernel: launch.entry().to_owned(),
            op: op.to_owned(),
            layer: layer.to_owned(),
            grid: launch.grid,
            threads: launch.block.iter().product(),
            seconds: prediction.seconds,
            bound: prediction.bound.to_string(),
            saved_seconds: prediction.saved_seconds,
            flops,
            dram_bytes: launch.work.dram_bytes,
            roofline_seconds,
            live_bytes,
            stated: launch.work.stated,
        }
    }
}

/// For each step the bytes of the arena that hold something while it runs: values from where they are written to where they
/// are read last, and the step's scratch memory.
fn live_bytes(plan: &Plan) -> Vec<usize> {
    let mut last: HashMap<usize, (usize, usize)> = HashMap::new();
    for (index, step) in plan.steps.iter().enumerate() {
        for &value in step.inputs.iter().chain(&step.outputs) {
            let root = plan.root(value);
            if matches!(plan.value(root).location, Location::Arena { .. }) {
                let (_, end) = last.entry(root.index()).or_insert((index, index));
                *end = index;
            }
        }
    }
    let kept = plan.outputs.iter().map(|(_, value)| plan.root(*value));
    for root in kept {
        if let Some((_, end)) = last.get_mut(&root.index()) {
            *end = plan.steps.len() - 1;
        }
    }
    let mut live: Vec<usize> = plan.steps.iter().map(|step| step.workspace.len()).collect();
    for (&value, &(first, end)) in &last {
        let bytes = plan.values[value].ty.bytes();
        live[first..=end].iter_mut().for_each(|sum| *sum += bytes);
    }
    live
}

/// A GPU as plans are compiled for it.
pub fn target(gpu: &Gpu, precision: Precision) -> Target {
    Target {
        multiprocessors: gpu.multiprocessors.value as u32,
        capability: gpu.capability.into(),
        shared_bytes_per_block: gpu.shared_bytes_per_block.value as u32,
        fast_accumulate: precision == Precision::F16Fast,
        deterministic: false,
    }
}

/// The launch in the model's terms. Products outside of tensor cores are the floating-point operations of what is not
/// stated; nothing is known of its instructions.
fn work(gpu: &Gpu, launch: &PlannedLaunch) -> KernelWork {
    let stated = &launch.work;
    let registers = launch.registers(gpu.registers.value as u32);
    let threads = f64::from(launch.block.iter().product::<u32>());
    let products = stated.mma + stated.mma_half > 0;
    KernelWork {
        blocks: stated.blocks as f64,
        threads,
        registers: f64::from(registers.unwrap_or(UNKNOWN_REGISTERS)),
        shared_bytes: f64::from(launch.shared_bytes),
        mma: stated.mma as f64,
        mma_half: stated.mma_half as f64,
        instructions: stated.instructions as f64,
        shared_wavefronts: stated.shared_wavefronts as f64,
        sectors: (stated.load_sectors + stated.store_sectors) as f64,
        dram_bytes: stated.dram_bytes as f64,
        in_flight_bytes: match products {
            // All but one of the pipeline's stages, which shared memory holds.
            true => PIPELINE_SHARE * f64::from(launch.shared_bytes) / threads,
            false => PLAIN_IN_FLIGHT_BYTES,
        },
        pipelined: products,
        ..KernelWork::default()
    }
}

/// The sentence that stands before predictions: what they are of, and how far the model is off.
pub fn caveat(gpu: &Gpu) -> String {
    format!(
        "predicted for {} at {:.0} MHz by a model whose mean error is {:.0} % on published products on tensor cores; nothing \
         was measured",
        gpu.name,
        1e-6 * gpu.clock_hz.value,
        100.0 * published::tensor_error()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::ModelConfig;
    use crate::compile::{CudaBackend, compile};
    use crate::diffusion::{NoiseSource, SamplingSpec};
    use crate::pipeline::sampler_graph;

    /// A sampling step of the published UNet.
    fn predicted(gpu: &str, precision: Precision, batch: usize) -> (Profile, usize) {
        let gpu = Gpu::named(gpu).expect("a data file");
        let config = ModelConfig::published(2);
        let spec = SamplingSpec {
            batch,
            shape: vec![32, 32, 8],
            rows: 150,
            objective: config.objective,
            clip_x0: config.clip_x0,
            learned_variance: false,
            guidance: false,
            labels: true,
            noise: NoiseSource::Philox,
        };
        let graph = sampler_graph(&config, &spec).expect("the published network");
        let backend = CudaBackend {
            target: target(gpu, precision),
            precision,
            group: true,
        };
        let compiled = compile(&graph, &backend);
        let profile = Profile::predict("a step", gpu, precision, batch, &compiled);
        (
            profile.expect("kernels for all steps"),
            compiled.memory.arena_bytes,
        )
    }

    #[test]
    fn sums_are_of_all_launches_and_memory_stays_within_the_arena() {
        let (profile, arena) = predicted("rtx3090", Precision::F16, 8);
        assert_eq!(profile.launches.len(), 88);
        let total = profile.sum();
        for sums in [
            profile.by(|launch| launch.layer.clone()),
            profile.by(|launch| launch.kernel.clone()),
            profile.by(|launch| launch.bound.clone()),
        ] {
            let mut sum = ProfileSum::default();
            sums.values().for_each(|part| sum.merge(part));
            assert_eq!((sum.launches, sum.flops), (total.launches, total.flops));
            assert!((sum.seconds / total.seconds - 1.0).abs() < 1e-9);
        }
        let most = profile
            .launches
            .iter()
            .map(|launch| launch.live_bytes)
            .max();
        let most = most.expect("launches");
        assert!(most <= arena && most > arena / 2, "{most} of {arena}");
        let text = serde_json::to_string(&profile).expect("numbers and texts");
        let read: Profile = serde_json::from_str(&text).expect("what was written");
        assert_eq!(read, profile);
        let trace = profile.trace();
        let events = trace["traceEvents"].as_array().expect("events");
        let spans = events
            .iter()
            .filter(|event| event["ph"] == "X" && event["tid"] == 1);
        assert_eq!(spans.count(), 88);
    }

    /// What follows from the hardware: more images a second in larger batches, with f16 sums where they are faster, and on
    /// larger GPUs.
    #[test]
    fn predictions_are_in_their_order() {
        let per_image = |gpu: &str, precision, batch: usize| {
            predicted(gpu, precision, batch).0.seconds() / batch as f64
        };
        let batches = [1, 2, 8, 32].map(|batch| per_image("rtx3090", Precision::F16, batch));
        assert!(batches.is_sorted_by(|a, b| a > b), "{batches:?}");
        let fast = per_image("rtx3090", Precision::F16Fast, 8);
        assert!(fast < 0.7 * batches[2], "{fast} {}", batches[2]);
        let cards = ["rtx3090", "rtx4090", "h200"].map(|gpu| per_image(gpu, Precision::F16, 32));
        assert!(cards.is_sorted_by(|a, b| a > b), "{cards:?}");
        // Nothing is faster than the peak.
        let (profile, _) = predicted("rtx3090", Precision::F16, 32);
        let gpu = Gpu::named("rtx3090").expect("a data file");
        let peak = gpu.peak_flops(true, false);
        assert!(profile.sum().flops as f64 / profile.seconds() < peak);
    }
}
