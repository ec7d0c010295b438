//! What the emulator counts on representative layers of the published networks, and the launches of their plans.
//!
//! ```sh
//! cargo test --release --test kernel_counters -- --ignored --nocapture --test-threads 1
//! ```
//!
//! writes `kernels/COUNTERS.md`, and fails where a layer does worse than it did. Small layers are held to the same bounds by a test
//! that is not ignored: a swizzle that gives the right numbers with conflicts of banks fails there.

mod paper_plans;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt::{Display, Write};

use libloading::os::unix::Library;
use medfusion::checkpoint::ModelConfig;
use medfusion::compile::{Plan, PlanOptions, Precision};
use medfusion::device::Executable;
use medfusion::device::cuda::{CudaDevice, CudaOptions, LaunchWork};
use medfusion::graph::{Graph, Op, Value};
use medfusion::ops::{
    Attention, Conv2d, Conv2dInputGrad, Conv2dWeightGrad, GroupNorm, GroupNormStats,
};
use medfusion::tensor::{DType, Tensor, TensorMap};
use serde_json::Value as Json;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/COUNTERS.md");

/// Launches of a sampling step at batch 1 that the project aims at.
const SAMPLING_GOAL: usize = 100;

/// Calls of the emulator's own, in the driver library that the process has loaded.
struct Emulator(Library);

impl Emulator {
    fn call<F: Copy>(&self, name: &str) -> F {
        // SAFETY: the callers name the types of emulator/README.md.
        *unsafe { self.0.get::<F>(name) }.expect("the emulator's library")
    }

    fn set(&self, name: &str, value: &str) {
        type Set = unsafe extern "C" fn(*const i8, *const i8) -> u32;
        let [name, value] = [name, value].map(|text| CString::new(text).expect("no zeros"));
        let set = self.call::<Set>("cuEmuSetOption");
        // SAFETY: two texts that outlive the call.
        let answer = unsafe { set(name.as_ptr().cast(), value.as_ptr().cast()) };
        assert_eq!(answer, 0);
    }

    fn reset(&self) {
        let reset = self.call::<unsafe extern "C" fn() -> u32>("cuEmuResetCounters");
        // SAFETY: no preconditions.
        assert_eq!(unsafe { reset() }, 0);
    }

    fn counters(&self) -> Json {
        type Give = unsafe extern "C" fn(*mut u8, usize, *mut usize) -> u32;
        let give = self.call::<Give>("cuEmuGetCounters");
        let (mut text, mut needed) = (vec![0u8; 32 << 20], 0);
        // SAFETY: a buffer of the length given.
        let answer = unsafe { give(text.as_mut_ptr(), text.len(), &mut needed) };
        assert_eq!(answer, 0);
        let end = text.iter().position(|&b| b == 0).expect("a text");
        serde_json::from_slice(&text[..end]).expect("JSON")
    }
}

/// A bound of the project on what a layer's kernels do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    /// `mma` instructions at most 1.05 of MACs / 2048.
    Mma,
    /// Passes of shared memory at most 1.02 of those without conflicts.
    Wavefronts,
    /// Loads touch no sector more than their bytes need.
    Loads,
    /// Stores touch no sector more than their bytes need.
    Stores,
    /// At most 1.25 of the bytes of all operands, each once.
    Dram,
}

impl Bound {
    const ALL: [Self; 5] = [
        Self::Mma,
        Self::Wavefronts,
        Self::Loads,
        Self::Stores,
        Self::Dram,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Mma => "mma",
            Self::Wavefronts => "wavefronts",
            Self::Loads => "load sectors",
            Self::Stores => "store sectors",
            Self::Dram => "DRAM",
        }
    }

    fn limit(self) -> f64 {
        match self {
            Self::Mma => 1.05,
            Self::Wavefronts => 1.02,
            Self::Loads | Self::Stores => 1.0,
            Self::Dram => 1.25,
        }
    }
}

/// A layer alone.
struct Layer {
    name: &'static str,
    graph: Graph,
    weights: TensorMap,
    /// Multiply-adds that belong on tensor cores.
    macs: usize,
    /// Bytes of the operands, each once.
    bytes: usize,
    precision: Precision,
}

impl Layer {
    fn new(name: &'static str, macs: usize) -> Self {
        Self {
            name,
            graph: Graph::new(),
            weights: TensorMap::new(),
            macs,
            bytes: 0,
            precision: Precision::F16,
        }
    }

    /// The most of a bound's ratio that the layer may have without a step back: what every layer has today.
    fn held(bound: Bound) -> f64 {
        match bound {
            Bound::Dram => 1.02,
            _ => 1.0,
        }
    }

    /// With sums in f16.
    fn fast(self) -> Self {
        Self {
            precision: Precision::F16Fast,
            ..self
        }
    }

    /// An f16 operand that the layer reads.
    fn activation(&mut self, name: &str, shape: &[usize]) -> Value {
        self.bytes += 2 * shape.iter().product::<usize>();
        let value = self.graph.input(name, shape, DType::F32);
        value.expect("a new leaf")
    }

    /// A weight that the kernels read as `bytes` bytes.
    fn weight(&mut self, name: &str, shape: &[usize], bytes: usize) -> Value {
        self.bytes += bytes;
        let zeros = vec![0.0; shape.iter().product()];
        let tensor = Tensor::from_f32(shape.to_vec(), &zeros);
        self.weights.insert(name.to_owned(), tensor);
        let value = self.graph.parameter(name, shape.to_vec());
        value.expect("a new leaf")
    }

    fn apply(&mut self, op: impl Into<Op>, inputs: &[Value], result_bytes: usize) -> Value {
        let y = self.graph.apply(op, inputs).expect("a layer");
        self.bytes += result_bytes * self.graph.ty(y).len();
        y
    }

    fn result(mut self, y: Value) -> Self {
        self.graph.output("y", y);
        self
    }
}

/// A convolution of one square map.
#[derive(Clone, Copy)]
struct Conv {
    side: usize,
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    upsample: bool,
}

impl Conv {
    fn new(side: usize, channels: [usize; 2], kernel: usize) -> Self {
        Self {
            side,
            channels,
            kernel,
            stride: 1,
            upsample: false,
        }
    }

    fn result_side(self) -> usize {
        self.side * (1 + usize::from(self.upsample)) / self.stride
    }

    fn shapes(self) -> [Vec<usize>; 3] {
        let ([i, o], k, out) = (self.channels, self.kernel, self.result_side());
        [
            vec![1, self.side, self.side, i],
            vec![o, i, k, k],
            vec![1, out, out, o],
        ]
    }

    /// Products of one result: with an upsample 2×2 of four folded filters instead of 3×3.
    fn taps(self) -> usize {
        self.kernel.pow(2) * if self.upsample { 4 } else { 9 } / 9
    }

    fn macs(self) -> usize {
        self.channels.iter().product::<usize>() * self.taps() * self.result_side().pow(2)
    }

    /// Bytes of the filter in f16, as packed.
    fn filter_bytes(self) -> usize {
        let phases = if self.upsample { 4 } else { 1 };
        2 * self.channels.iter().product::<usize>() * self.taps() * phases
    }

    fn padding(self) -> [usize; 2] {
        [self.kernel / 2; 2]
    }

    fn forward(self, name: &'static str) -> Layer {
        self.product(name, false)
    }

    /// Of two maps of half the channels, as the decoder's concatenations become.
    fn of_two(self, name: &'static str) -> Layer {
        self.product(name, true)
    }

    fn product(self, name: &'static str, concat: bool) -> Layer {
        let (mut layer, [x, w, _]) = (Layer::new(name, self.macs()), self.shapes());
        let maps = if concat {
            vec!["first", "last"]
        } else {
            vec!["x"]
        };
        let map = [x[0], x[1], x[2], x[3] / maps.len()];
        let maps: Vec<_> = maps
            .iter()
            .map(|part| layer.activation(part, &map))
            .collect();
        let w = layer.weight("w", &w, self.filter_bytes());
        let b = layer.weight("b", &[self.channels[1]], 4 * self.channels[1]);
        let op = Conv2d {
            stride: self.stride,
            padding: self.padding(),
            upsample: self.upsample,
            bias: true,
            residual: false,
            concat,
            stats: None,
        };
        let y = layer.apply(op, &[&[maps[0], w, b], &maps[1..]].concat(), 2);
        layer.result(y)
    }

    /// With the statistics of the result over `groups` groups.
    fn with_statistics(self, name: &'static str, groups: usize) -> Layer {
        let mut layer = self.forward(name);
        let y = layer.graph.outputs()[0].1;
        let stats = layer.apply(GroupNormStats { groups, eps: 1e-5 }, &[y], 4);
        layer.graph.output("stats", stats);
        layer
    }

    fn input_grad(self, name: &'static str) -> Layer {
        let (mut layer, [_, w, y]) = (Layer::new(name, self.macs()), self.shapes());
        let dy = layer.activation("dy", &y);
        let w = layer.weight("w", &w, self.filter_bytes());
        let op = Conv2dInputGrad {
            stride: self.stride,
            padding: self.padding(),
            upsample: self.upsample,
            height: self.side,
            width: self.side,
            residual: false,
        };
        let dx = layer.apply(op, &[dy, w], 2);
        layer.result(dx)
    }

    fn weight_grad(self, name: &'static str) -> Layer {
        let (mut layer, [x, _, y]) = (Layer::new(name, self.macs()), self.shapes());
        let x = layer.activation("x", &x);
        let dy = layer.activation("dy", &y);
        let op = Conv2dWeightGrad {
            stride: self.stride,
            padding: self.padding(),
            upsample: self.upsample,
            kernel: [self.kernel; 2],
        };
        let dw = layer.apply(op, &[x, dy], 4);
        layer.result(dw)
    }
}

/// Statistics, normalisation, Swish and the residual of one map.
fn group_norm(name: &'static str, side: usize, channels: usize) -> Layer {
    let (mut layer, groups) = (Layer::new(name, 0), 32);
    let shape = [1, side, side, channels];
    let x = layer.activation("x", &shape);
    let residual = layer.activation("residual", &shape);
    let gamma = layer.weight("gamma", &[channels], 4 * channels);
    let beta = layer.weight("beta", &[channels], 4 * channels);
    let stats = layer.apply(GroupNormStats { groups, eps: 1e-5 }, &[x], 4);
    let op = GroupNorm {
        groups,
        swish: true,
        residual: true,
        embed: false,
        stats: None,
    };
    let y = layer.apply(op, &[x, stats, gamma, beta, residual], 2);
    layer.result(y)
}

/// Attention of `heads` heads of `d` channels among `tokens` tokens.
fn attention(name: &'static str, tokens: usize, heads: usize, d: usize) -> Layer {
    let macs = 2 * tokens * tokens * heads * d;
    let (mut layer, shape) = (Layer::new(name, macs), [1, tokens, heads * d]);
    let [q, k, v] = ["q", "k", "v"].map(|name| layer.activation(name, &shape));
    let scale = (d as f32).powf(-0.5);
    let op = Attention { heads, scale };
    let y = layer.apply(op, &[q, k, v], 2);
    // The log-sum-exp is written as well.
    layer.bytes += 4 * heads * tokens;
    layer.result(y)
}

fn strided(side: usize, channels: usize) -> Conv {
    Conv {
        stride: 2,
        ..Conv::new(side, [channels; 2], 3)
    }
}

fn upsampled(side: usize, channels: usize) -> Conv {
    Conv {
        upsample: true,
        ..Conv::new(side, [channels; 2], 3)
    }
}

/// Those of the published networks.
fn layers() -> Vec<Layer> {
    let large = Conv::new(32, [256, 256], 3);
    let middle = Conv::new(16, [512, 512], 3);
    let deep = Conv::new(8, [1024, 1024], 3);
    let point = Conv::new(32, [512, 256], 1);
    let (down, up) = (strided(32, 256), upsampled(8, 512));
    let vae = Conv::new(64, [64, 64], 3);
    let wide = Conv::new(16, [1024, 512], 3);
    vec![
        large.forward("3×3 256→256, 32²"),
        middle.forward("3×3 512→512, 16²"),
        middle.forward("3×3 512→512, 16², f16-fast").fast(),
        wide.forward("3×3 1024→512, 16²"),
        deep.forward("3×3 1024→1024, 8²"),
        point.forward("1×1 512→256, 32²"),
        down.forward("3×3 stride 2 256→256, 32²→16²"),
        up.forward("upsample 3×3 512→512, 8²→16²"),
        Conv::new(32, [512, 256], 3).of_two("3×3 of two 256→256, 32²"),
        vae.forward("VAE 3×3 64→64, 64² for 256²"),
        vae.with_statistics("VAE 3×3 64→64 and statistics, 64² for 256²", 8),
        large.input_grad("dgrad of 3×3 256→256, 32²"),
        down.input_grad("dgrad of stride 2 256→256, 32²→16²"),
        up.input_grad("dgrad of upsample 3×3 512→512, 8²→16²"),
        large.weight_grad("wgrad of 3×3 256→256, 32²"),
        middle.weight_grad("wgrad of 3×3 512→512, 16²"),
        deep.weight_grad("wgrad of 3×3 1024→1024, 8²"),
        point.weight_grad("wgrad of 1×1 512→256, 32²"),
        group_norm("GroupNorm+Swish+residual 256, 32²", 32, 256),
        group_norm("GroupNorm+Swish+residual 512, 16²", 16, 512),
        group_norm("GroupNorm+Swish+residual 1024, 8²", 8, 1024),
        attention("attention of 8 heads of 64, 16²", 256, 8, 64),
    ]
}

/// Small ones, for every run of the tests.
fn small_layers() -> Vec<Layer> {
    let conv = Conv::new(16, [64, 64], 3);
    vec![
        conv.forward("3×3 64→64, 16²"),
        conv.forward("3×3 64→64, 16², f16-fast").fast(),
        Conv::new(16, [128, 128], 3).forward("3×3 128→128, 16²"),
        strided(16, 64).forward("3×3 stride 2 64→64, 16²→8²"),
        upsampled(8, 64).forward("upsample 3×3 64→64, 8²→16²"),
        conv.input_grad("dgrad of 3×3 64→64, 16²"),
        conv.weight_grad("wgrad of 3×3 64→64, 16²"),
        Conv::new(16, [64, 64], 1).weight_grad("wgrad of 1×1 64→64, 16²"),
        group_norm("GroupNorm+Swish+residual 256, 16²", 16, 256),
        attention("attention of 2 heads of 64, 8²", 64, 2, 64),
    ]
}

/// What one kernel, or all of a layer, did.
#[derive(Clone, Debug, Default)]
struct Row {
    launches: u64,
    instructions: u64,
    mma: u64,
    shared: [u64; 2],
    loads: [u64; 2],
    stores: [u64; 2],
    dram: u64,
    barriers: u64,
}

fn ratio([count, ideal]: [u64; 2]) -> Option<f64> {
    (ideal > 0).then(|| count as f64 / ideal as f64)
}

/// A ratio rounded up, so that nothing above a bound looks like it.
fn shown(ratio: Option<f64>) -> String {
    ratio.map_or("–".to_owned(), |r| {
        format!("{:.3}", (r * 1e3).ceil() / 1e3)
    })
}

impl Row {
    fn of(kernel: &Json) -> Self {
        let total = |name: &str| kernel["total"][name].as_u64().expect("a counter");
        let pair = |name: &str| [total(name), total(&format!("{name}_ideal"))];
        let mma = kernel["mma"].as_object().expect("counts by shape");
        Self {
            launches: kernel["launches"].as_u64().expect("a count"),
            instructions: total("warp_instructions"),
            mma: mma.values().filter_map(Json::as_u64).sum(),
            shared: pair("shared_wavefronts"),
            loads: pair("global_load_sectors"),
            stores: pair("global_store_sectors"),
            dram: total("dram_read_bytes") + total("dram_write_bytes"),
            barriers: total("barriers"),
        }
    }

    fn add(&mut self, other: &Self) {
        self.launches += other.launches;
        self.instructions += other.instructions;
        self.mma += other.mma;
        for (mine, theirs) in [
            (&mut self.shared, other.shared),
            (&mut self.loads, other.loads),
            (&mut self.stores, other.stores),
        ] {
            mine[0] += theirs[0];
            mine[1] += theirs[1];
        }
        self.dram += other.dram;
        self.barriers += other.barriers;
    }

    /// What the op says that the launch does.
    fn stated(work: &LaunchWork) -> Self {
        let same = |count| [count, count];
        Self {
            launches: 1,
            instructions: work.instructions,
            mma: work.mma + work.mma_half,
            shared: same(work.shared_wavefronts),
            loads: same(work.load_sectors),
            stores: same(work.store_sectors),
            dram: work.dram_bytes,
            barriers: work.barriers,
        }
    }

    /// Where the op's formulas say something else than what the emulator counted: which count, counted and stated.
    fn differences(&self, stated: &Self) -> Vec<(&'static str, u64, u64)> {
        let pairs = [
            ("mma", self.mma, stated.mma),
            ("wavefronts", self.shared[0], stated.shared[0]),
            ("load sectors", self.loads[0], stated.loads[0]),
            ("store sectors", self.stores[0], stated.stores[0]),
            ("barriers", self.barriers, stated.barriers),
        ];
        let mut different: Vec<_> = pairs
            .into_iter()
            .filter(|(_, counted, stated)| counted != stated)
            .collect();
        // Partial sums and what the cache reads again are not in the formula.
        let share = self.dram as f64 / stated.dram as f64;
        if !(0.99..=1.02).contains(&share) {
            different.push(("DRAM bytes", self.dram, stated.dram));
        }
        different
    }

    fn sum(rows: &[(String, Self)]) -> Self {
        let mut sum = Self::default();
        for (_, row) in rows {
            sum.add(row);
        }
        sum
    }

    fn measured(&self, layer: &Layer, bound: Bound) -> Option<f64> {
        match bound {
            Bound::Mma => (layer.macs > 0).then(|| self.mma as f64 * 2048.0 / layer.macs as f64),
            Bound::Wavefronts => ratio(self.shared),
            Bound::Loads => ratio(self.loads),
            Bound::Stores => ratio(self.stores),
            Bound::Dram => Some(self.dram as f64 / layer.bytes as f64),
        }
    }

    fn misses(&self, layer: &Layer) -> Vec<Bound> {
        let missed = |&bound: &Bound| {
            let measured = self.measured(layer, bound);
            measured.is_some_and(|measured| measured > bound.limit())
        };
        Bound::ALL.into_iter().filter(missed).collect()
    }
}

/// An emulated GPU that counts and checks nothing, with the blocks in the same order every time for the cache's sake.
/// `None` where there is none; not in CI.
fn emulated() -> Option<(CudaDevice, Emulator)> {
    let gpu = match CudaDevice::emulated(options(Precision::F16)) {
        Ok(gpu) => gpu,
        Err(error) => {
            assert!(
                std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                "CI must not skip this test: {error}"
            );
            eprintln!("NOT TESTED: {error}");
            return None;
        }
    };
    let emulator = Emulator(Library::this());
    emulator.set("checks", "none");
    emulator.set("counters", "on");
    emulator.set("threads", "1");
    Some((gpu, emulator))
}

fn options(precision: Precision) -> CudaOptions {
    CudaOptions {
        precision,
        capture: false,
        ..CudaOptions::default()
    }
}

/// Executes `layer`; gives its kernels in alphabetical order, without those that cast its f32 inputs and result.
fn execute(gpu: &CudaDevice, emulator: &Emulator, layer: &Layer) -> Vec<(String, Row)> {
    let (gpu, plan) = planned(gpu, layer);
    let mut executable = gpu.load(plan, &layer.weights).expect("a layer's plan");
    emulator.reset();
    executable.run().expect("a run");
    // Reading waits for the run.
    executable.output("y").expect("a result");
    let counters = emulator.counters();
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for kernel in counters["kernels"].as_array().expect("kernels") {
        let name = kernel["kernel"].as_str().expect("a name");
        if !name.starts_with("cast") {
            let row = rows.entry(name.to_owned()).or_default();
            row.add(&Row::of(kernel));
        }
    }
    rows.into_iter().collect()
}

fn planned(gpu: &CudaDevice, layer: &Layer) -> (CudaDevice, Plan) {
    let gpu = gpu.with(options(layer.precision));
    let plan = gpu.plan(&gpu.lower(&layer.graph), PlanOptions::default());
    (gpu, plan)
}

/// What the layer's ops state, by kernel; only kernels all of whose launches are stated.
fn stated(gpu: &CudaDevice, layer: &Layer) -> BTreeMap<&'static str, Row> {
    let (gpu, plan) = planned(gpu, layer);
    let launches = gpu.launches(&plan).expect("a layer's launches");
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    for launch in launches.iter().filter(|launch| launch.work.stated) {
        let row = rows.entry(launch.entry()).or_default();
        row.add(&Row::stated(&launch.work));
    }
    rows
}

/// Where the formulas of the layer's ops differ from what the emulator counted.
fn differences(gpu: &CudaDevice, layer: &Layer, counted: &[(String, Row)]) -> Vec<String> {
    let stated = stated(gpu, layer);
    assert!(
        !stated.is_empty(),
        "{}: no kernel states its work",
        layer.name
    );
    let mut texts = Vec::new();
    for (name, row) in counted {
        let Some(stated) = stated.get(name.as_str()) else {
            continue;
        };
        for (what, counted, stated) in row.differences(stated) {
            texts.push(format!(
                "{}, {name}: {what} {counted}, the formula says {stated}",
                layer.name
            ));
        }
        println!(
            "{}, {name}: warp instructions {}, the formula says {}",
            layer.name, row.instructions, stated.instructions
        );
    }
    texts
}

fn launches_by_kernel(gpu: &CudaDevice, graph: &Graph) -> Vec<(&'static str, usize)> {
    let plan = paper_plans::plan(gpu, graph);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for launch in gpu.launches(&plan).expect("the published network") {
        *counts.entry(launch.entry()).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    counts
}

fn total(counts: &[(&str, usize)]) -> usize {
    counts.iter().map(|&(_, count)| count).sum()
}

fn line(text: &mut String, cells: &[&dyn Display]) {
    for cell in cells {
        write!(text, "| {cell} ").expect("memory");
    }
    text.push_str("|\n");
}

const HEAD: &str = "\
# Counters

Made by

```sh
cargo test --release --test kernel_counters -- --ignored --nocapture --test-threads 1
```

These are counts of the project's GPU emulator (`emulator/README.md`), not measurements of a GPU, and none of them is a
time. f16 storage with f32 accumulation unless f16-fast is named, batch 1, each layer as a plan of its own; the casts of
its f32 inputs and result and the packing of its weights, which happens once at load, are left out. The VAE's layer is cut
down from 256² to 64², so that the table takes seconds; its tile and its split may differ from those of the full size.

- mma: `mma` instructions over MACs / 2048. The MACs of an upsample are those of its four folded 2×2 filters.
- wavefronts: passes of shared memory over those that the same bytes take without a conflict, over the whole kernel; the
  bound is meant for main loops, so this is stricter.
- loads, stores: 32-byte sectors of global memory over those that the same bytes take when contiguous, over all accesses
  of the kernel.
- DRAM: bytes read and written behind a 6 MB cache that starts each launch empty (so partial sums that one kernel writes
  and the next reads count twice) over the bytes of all operands, each once.

Ratios are rounded up. Bounds: mma 1.05, wavefronts 1.02, loads and stores 1, DRAM 1.25; a dash stands where there is
nothing to count.
";

#[test]
#[ignore = "writes kernels/COUNTERS.md: see the head of this file"]
fn table_of_the_papers_layers() {
    let Some((gpu, emulator)) = emulated() else {
        return;
    };
    let (mut sums, mut kernels) = (String::new(), String::new());
    let mut regressions = Vec::new();
    for layer in layers() {
        let start = std::time::Instant::now();
        let rows = execute(&gpu, &emulator, &layer);
        regressions.extend(differences(&gpu, &layer, &rows));
        let sum = Row::sum(&rows);
        let missed = sum.misses(&layer);
        let names = |bounds: &[Bound]| match bounds {
            [] => "none".to_owned(),
            _ => format!(
                "**{}**",
                bounds
                    .iter()
                    .map(|b| b.name())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        };
        let cells = Bound::ALL.map(|bound| shown(sum.measured(&layer, bound)));
        let [mma, shared, loads, stores, dram] = &cells;
        line(
            &mut sums,
            &[
                &layer.name,
                &sum.launches,
                mma,
                shared,
                loads,
                stores,
                dram,
                &names(&missed),
            ],
        );
        for (name, row) in &rows {
            let megabytes = format!("{:.2}", row.dram as f64 / 1e6);
            let of = |[count, ideal]: [u64; 2]| format!("{count} / {ideal}");
            line(
                &mut kernels,
                &[
                    &layer.name,
                    &format!("`{name}`"),
                    &row.launches,
                    &row.instructions,
                    &row.mma,
                    &of(row.shared),
                    &of(row.loads),
                    &of(row.stores),
                    &megabytes,
                    &format!("{:.2}", layer.bytes as f64 / 1e6),
                ],
            );
        }
        println!(
            "{}: {} in {:.1} s; misses {}",
            layer.name,
            cells.join(" "),
            start.elapsed().as_secs_f64(),
            names(&missed)
        );
        for bound in Bound::ALL {
            let measured = sum.measured(&layer, bound);
            if measured.is_some_and(|measured| measured > Layer::held(bound)) {
                regressions.push(format!("{}: {} {measured:?}", layer.name, bound.name()));
            }
        }
    }

    let config = ModelConfig::published(2);
    let sampling = launches_by_kernel(&gpu, &paper_plans::sampling(&config, 1, false));
    let training = paper_plans::train_unet(&config, 1, true);
    let training = launches_by_kernel(&gpu, &training.graph);

    let mut text = HEAD.to_owned();
    text.push_str("\n## Layers\n\n");
    text.push_str("| layer | launches | mma | wavefronts | loads | stores | DRAM | misses |\n");
    text.push_str("|---|---|---|---|---|---|---|---|\n");
    text.push_str(&sums);
    text.push_str("\n## Kernels\n\nCounts over their ideals; DRAM and its minimum, which is the layer's, in MB.\n\n");
    text.push_str(
        "| layer | kernel | launches | warp instructions | mma | wavefronts | load sectors | store sectors | DRAM | \
         minimum |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    text.push_str(&kernels);
    for (title, counts) in [
        ("A sampling step", &sampling),
        ("A training step with loss scaling", &training),
    ] {
        let launches = total(counts);
        writeln!(text, "\n## {title} at batch 1: {launches} launches\n").expect("memory");
        if title.starts_with("A sampling") {
            let missed = launches > SAMPLING_GOAL;
            let verdict = if missed { "**missed**" } else { "held" };
            writeln!(text, "The bound is {SAMPLING_GOAL}: {verdict}.\n").expect("memory");
        }
        text.push_str("| kernel | launches |\n|---|---|\n");
        for (name, count) in counts {
            line(&mut text, &[&format!("`{name}`"), count]);
        }
        println!("{title}: {launches} launches {counts:?}");
    }
    std::fs::write(TABLE, text).expect("kernels/ in the source folder");

    assert!(regressions.is_empty(), "steps back: {regressions:#?}");
    let [sampling, training] = [total(&sampling), total(&training)];
    let [most, most_training, _] = paper_plans::KNOWN_LAUNCHES;
    assert!(sampling <= most && training <= most_training);
}

#[test]
fn small_layers_have_no_conflicts_and_touch_no_sector_in_vain() {
    let Some((gpu, emulator)) = emulated() else {
        return;
    };
    let mut different = Vec::new();
    for layer in small_layers() {
        let rows = execute(&gpu, &emulator, &layer);
        let sum = Row::sum(&rows);
        let missed = sum.misses(&layer);
        assert!(
            missed.is_empty(),
            "{} misses {missed:?}: {sum:?}",
            layer.name
        );
        different.extend(differences(&gpu, &layer, &rows));
    }
    assert!(different.is_empty(), "{different:#?}");
}

/// The formulas hold of every tile, with and without split-K, not of those alone that are chosen.
#[test]
fn formulas_hold_of_every_tile() {
    if emulated().is_none() {
        return;
    }
    for tile in [
        "128x128",
        "128x64/2",
        "64x64/3",
        "64x16",
        "128x144/2",
        "64x144/3",
    ] {
        let output = std::process::Command::new(std::env::current_exe().expect("a test"))
            .args([
                "--exact",
                "small_layers_do_what_their_ops_state",
                "--ignored",
                "--nocapture",
            ])
            .env("MEDFUSION_TILE", tile)
            .output()
            .expect("runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{tile}: {said}");
    }
}

#[test]
#[ignore = "run by formulas_hold_of_every_tile, with another tile each time"]
fn small_layers_do_what_their_ops_state() {
    let Some((gpu, emulator)) = emulated() else {
        return;
    };
    let mut different = Vec::new();
    for layer in small_layers() {
        let rows = execute(&gpu, &emulator, &layer);
        different.extend(differences(&gpu, &layer, &rows));
    }
    assert!(different.is_empty(), "{different:#?}");
}
