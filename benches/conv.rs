//! Times every convolution of the paper-size networks on the CPU, forward and both gradients.
//!
//! ```text
//! cargo bench --bench conv -- [--net unet|decoder|encoder] [--batch 1,4] [--layer SUBSTRING] [--what fwd,dgrad,wgrad]
//!                             [--strategy direct|winograd2|winograd4] [--runs 3] [--threads 2]
//! ```
//! A pass runs every layer once, each with its own filter, so that weights come from memory as they do in the network.
//! Per layer: the strategy, the least time over the passes (mean over identical layers), GFLOP/s of the textbook sum
//! (Winograd and folded upsamples may pass the machine's peak), the same by processor time over threads (what a busy
//! machine distorts least), the packed filter and the first time to pack it (page
//! faults included). For the weight gradient "packed" is the gradient itself.

mod layers;

use std::time::Instant;

use layers::{DECODER, ENCODER, Layer, UNET};
use medfusion::device::cpu::gemm::Isa;
use medfusion::ops::conv2d::ConvGeometry;
use medfusion::ops::conv2d::cpu::{Forward, InputGrad, Strategy, WeightGrad};

struct Options {
    nets: Vec<String>,
    batches: Vec<usize>,
    layer: String,
    what: Vec<String>,
    strategy: Option<Strategy>,
    runs: usize,
    threads: usize,
}

fn options() -> Options {
    let mut o = Options {
        nets: vec!["unet".into(), "decoder".into(), "encoder".into()],
        batches: vec![1],
        layer: String::new(),
        what: vec!["fwd".into()],
        strategy: None,
        runs: 3,
        threads: 2,
    };
    let list = |text: String| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || {
            args.next()
                .unwrap_or_else(|| fail(&format!("{arg} needs a value")))
        };
        let number = |text: &str| {
            text.parse()
                .unwrap_or_else(|_| fail(&format!("{text} is not a number")))
        };
        match arg.as_str() {
            "--bench" => {}
            "--net" => o.nets = list(value()),
            "--batch" => o.batches = list(value()).iter().map(|b| number(b)).collect(),
            "--layer" => o.layer = value(),
            "--what" => o.what = list(value()),
            "--runs" => o.runs = number(&value()),
            "--threads" => o.threads = number(&value()),
            "--strategy" => {
                o.strategy = Some(match value().as_str() {
                    "direct" => Strategy::Direct,
                    "winograd2" => Strategy::Winograd2,
                    "winograd4" => Strategy::Winograd4,
                    other => fail(&format!("unknown strategy {other}")),
                });
            }
            other => fail(&format!("unknown argument {other}")),
        }
    }
    o
}

fn fail(message: &str) -> ! {
    eprintln!("conv: {message}");
    std::process::exit(2)
}

/// Floats that no transform turns into a denormal or a special case.
fn values(len: usize) -> Vec<f32> {
    let mut state = 0x2545_f491u32;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

/// A layer as the network holds it: its own packed filter, so that a pass over all layers streams as many bytes from
/// memory as the network does.
struct Prepared {
    name: &'static str,
    geometry: ConvGeometry,
    kind: Kind,
    packed: Aligned,
    workspace_len: usize,
}

enum Kind {
    Forward(Forward),
    InputGrad(InputGrad),
    WeightGrad(WeightGrad),
}

impl Prepared {
    /// `None` where the asked-for strategy does not apply.
    fn new(name: &'static str, g: ConvGeometry, what: &str, o: &Options) -> Option<Prepared> {
        let isa = Isa::detect();
        let (kind, packed_len, workspace_len) = match what {
            "fwd" => {
                let conv = o
                    .strategy
                    .map_or_else(|| Some(Forward::new(&g)), |s| Forward::with(&g, s, isa))?;
                (Kind::Forward(conv), conv.packed_len(), conv.workspace_len())
            }
            "dgrad" => {
                let conv = o
                    .strategy
                    .map_or_else(|| Some(InputGrad::new(&g)), |s| InputGrad::with(&g, s, isa))?;
                (
                    Kind::InputGrad(conv),
                    conv.packed_len(),
                    conv.workspace_len(),
                )
            }
            "wgrad" => {
                let conv = o.strategy.map_or_else(
                    || Some(WeightGrad::new(&g)),
                    |s| WeightGrad::with(&g, s, isa),
                )?;
                (Kind::WeightGrad(conv), g.weight_len(), conv.workspace_len())
            }
            other => fail(&format!("unknown direction {other}")),
        };
        Some(Prepared {
            name,
            geometry: g,
            kind,
            packed: Aligned::new(packed_len),
            workspace_len,
        })
    }

    fn strategy(&self) -> Strategy {
        match &self.kind {
            Kind::Forward(conv) => conv.strategy(),
            Kind::InputGrad(conv) => conv.strategy(),
            Kind::WeightGrad(conv) => conv.strategy(),
        }
    }

    fn pack(&mut self, weight: &[f32]) {
        let weight = &weight[..self.geometry.weight_len()];
        match &self.kind {
            Kind::Forward(conv) => conv.pack(weight, &mut self.packed),
            Kind::InputGrad(conv) => conv.pack(weight, &mut self.packed),
            Kind::WeightGrad(_) => {}
        }
    }

    fn run(&mut self, input: &[f32], output: &mut [f32], residual: &[f32], workspace: &mut [f32]) {
        let g = &self.geometry;
        let (x, y) = (g.input_len(), g.output_len());
        match &self.kind {
            Kind::Forward(conv) => {
                let bias = &residual[..g.out_channels];
                conv.run(
                    &self.packed,
                    &input[..x],
                    Some(bias),
                    Some(&residual[..y]),
                    &mut output[..y],
                    workspace,
                );
            }
            Kind::InputGrad(conv) => {
                conv.run(&self.packed, &input[..y], None, &mut output[..x], workspace)
            }
            Kind::WeightGrad(conv) => {
                conv.run(&input[..x], &residual[..y], &mut self.packed, workspace)
            }
        }
    }
}

/// Zeros that start on a cache line, as an arena's buffers do.
struct Aligned {
    memory: Vec<f32>,
    start: usize,
}

impl Aligned {
    fn new(len: usize) -> Aligned {
        let memory = vec![0.0; len + 16];
        let address = memory.as_ptr().addr();
        Aligned {
            memory,
            start: (address.next_multiple_of(64) - address) / 4,
        }
    }
}

impl std::ops::Deref for Aligned {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.memory[self.start..][..self.memory.len() - 16]
    }
}

impl std::ops::DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        let len = self.memory.len() - 16;
        &mut self.memory[self.start..][..len]
    }
}

/// Wall-clock time, and processor time of all threads together.
#[derive(Clone, Copy)]
struct Seconds {
    wall: f64,
    cpu: f64,
}

impl Seconds {
    fn of(f: impl FnOnce()) -> Seconds {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        f();
        Seconds {
            wall: start.elapsed().as_secs_f64(),
            cpu: cpu_seconds() - cpu,
        }
    }

    fn least(self, other: Seconds) -> Seconds {
        Seconds {
            wall: self.wall.min(other.wall),
            cpu: self.cpu.min(other.cpu),
        }
    }

    fn plus(self, other: Seconds) -> Seconds {
        Seconds {
            wall: self.wall + other.wall,
            cpu: self.cpu + other.cpu,
        }
    }
}

fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn main() {
    let o = options();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(o.threads)
        .build()
        .expect("a thread pool");
    pool.install(|| {
        for net in &o.nets {
            let layers = match net.as_str() {
                "unet" => UNET,
                "decoder" => DECODER,
                "encoder" => ENCODER,
                other => fail(&format!("unknown net {other}")),
            };
            for &batch in &o.batches {
                for what in &o.what {
                    table(&o, net, layers, batch, what);
                }
            }
        }
    });
}

fn table(o: &Options, net: &str, layers: &[Layer], batch: usize, what: &str) {
    println!(
        "{net} {what} batch {batch}, {} threads, {:?}",
        o.threads,
        Isa::detect()
    );
    let mut prepared = Vec::new();
    for &(name, in_channels, out_channels, map, kernel, stride, upsample, times) in layers {
        let g = ConvGeometry {
            batch,
            height: map,
            width: map,
            in_channels,
            out_channels,
            kernel: [kernel; 2],
            stride,
            padding: [kernel / 2; 2],
            upsample,
        };
        if name.contains(&o.layer) {
            prepared.extend((0..times).filter_map(|_| Prepared::new(name, g, what, o)));
        }
    }
    let largest = |f: fn(&Prepared) -> usize| prepared.iter().map(f).max().unwrap_or(0);
    let activation = largest(|p| p.geometry.input_len().max(p.geometry.output_len()));
    let weight = values(largest(|p| p.geometry.weight_len()));
    let mut workspace = Aligned::new(largest(|p| p.workspace_len));
    let [mut input, mut residual, mut output] = [(); 3].map(|()| Aligned::new(activation));
    input.copy_from_slice(&values(activation));
    residual.copy_from_slice(&values(activation));
    let pack_s: Vec<f64> = prepared
        .iter_mut()
        .map(|p| Seconds::of(|| p.pack(&weight)).wall)
        .collect();
    let never = Seconds {
        wall: f64::INFINITY,
        cpu: f64::INFINITY,
    };
    let mut least = vec![never; prepared.len()];
    let mut pass = never;
    for run in 0..=o.runs {
        let mut total = Seconds {
            wall: 0.0,
            cpu: 0.0,
        };
        for (p, least) in prepared.iter_mut().zip(&mut least) {
            let time = Seconds::of(|| p.run(&input, &mut output, &residual, &mut workspace));
            total = total.plus(time);
            // The first pass touches the outputs' pages.
            if run > 0 {
                *least = least.least(time);
            }
        }
        if run > 0 {
            pass = pass.least(total);
        }
    }
    let mut first = 0;
    while first < prepared.len() {
        let p = &prepared[first];
        let times = prepared[first..]
            .iter()
            .take_while(|q| q.name == p.name)
            .count();
        let sum = least[first..first + times].iter().fold(
            Seconds {
                wall: 0.0,
                cpu: 0.0,
            },
            |a, &b| a.plus(b),
        );
        let pack = pack_s[first..first + times].iter().sum::<f64>() / times as f64;
        let (wall, cpu) = (
            sum.wall / times as f64,
            sum.cpu / (times * o.threads) as f64,
        );
        println!(
            "  {:18} ×{times}  {:9}  {:8.3} ms  {:7.1} GFLOP/s  cpu {:8.3} ms {:7.1} GFLOP/s  packed {:6.1} MB  pack {:7.3} ms",
            p.name,
            format!("{:?}", p.strategy()),
            wall * 1e3,
            p.geometry.flops() as f64 / wall / 1e9,
            cpu * 1e3,
            p.geometry.flops() as f64 / cpu / 1e9,
            4e-6 * p.packed.len() as f64,
            pack * 1e3,
        );
        first += times;
    }
    let flops: u64 = prepared.iter().map(|p| p.geometry.flops()).sum();
    println!(
        "  whole pass {:.3} s, {:.1} GFLOP/s, cpu {:.3} s; packed {:.0} MB, packing {:.3} s, workspace {:.1} MB",
        pass.wall,
        flops as f64 / pass.wall / 1e9,
        pass.cpu / o.threads as f64,
        prepared
            .iter()
            .map(|p| 4e-6 * p.packed.len() as f64)
            .sum::<f64>(),
        pack_s.iter().sum::<f64>(),
        4e-6 * workspace.len() as f64,
    );
}
