//! Times every convolution of the paper-size networks on the CPU, forward and both gradients.
//!
//! ```text
//! cargo bench --bench conv -- [--net unet|decoder|encoder] [--batch 1,4] [--layer SUBSTRING] [--what fwd,dgrad,wgrad]
//!                             [--strategy direct|winograd2|winograd4] [--runs 3] [--threads 2] [--pack]
//! ```
//! Per layer: the strategy, the least of `runs` times, and GFLOP/s of the textbook sum (so Winograd and folded
//! upsamples may pass the machine's peak). Identical layers are measured once and counted as often as they occur.
//! `--pack` adds the time to pack the filter, which training pays each step.

use std::time::Instant;

use medfusion::device::cpu::gemm::Isa;
use medfusion::ops::conv2d::cpu::{ConvGeometry, Forward, InputGrad, Strategy, WeightGrad};

/// name, in, out, map, kernel, stride, upsample, occurrences
type Layer = (&'static str, usize, usize, usize, usize, usize, bool, usize);

const UNET: &[Layer] = &[
    ("in_conv", 8, 256, 32, 3, 1, false, 1),
    ("256-256@32", 256, 256, 32, 3, 1, false, 7),
    ("512-256@32", 512, 256, 32, 3, 1, false, 3),
    ("res 512-256@32", 512, 256, 32, 1, 1, false, 3),
    ("down 256@32", 256, 256, 32, 3, 2, false, 1),
    ("256-512@16", 256, 512, 16, 3, 1, false, 1),
    ("res 256-512@16", 256, 512, 16, 1, 1, false, 1),
    ("512-512@16", 512, 512, 16, 3, 1, false, 5),
    ("1024-512@16", 1024, 512, 16, 3, 1, false, 2),
    ("res 1024-512@16", 1024, 512, 16, 1, 1, false, 2),
    ("768-256@16", 768, 256, 16, 3, 1, false, 1),
    ("res 768-256@16", 768, 256, 16, 1, 1, false, 1),
    ("256-256@16", 256, 256, 16, 3, 1, false, 1),
    ("up 256@16", 256, 256, 16, 3, 1, true, 1),
    ("down 512@16", 512, 512, 16, 3, 2, false, 1),
    ("512-1024@8", 512, 1024, 8, 3, 1, false, 1),
    ("res 512-1024@8", 512, 1024, 8, 1, 1, false, 1),
    ("1024-1024@8", 1024, 1024, 8, 3, 1, false, 9),
    ("2048-1024@8", 2048, 1024, 8, 3, 1, false, 2),
    ("res 2048-1024@8", 2048, 1024, 8, 1, 1, false, 2),
    ("1536-512@8", 1536, 512, 8, 3, 1, false, 1),
    ("res 1536-512@8", 1536, 512, 8, 1, 1, false, 1),
    ("512-512@8", 512, 512, 8, 3, 1, false, 1),
    ("up 512@8", 512, 512, 8, 3, 1, true, 1),
    ("outc", 256, 8, 32, 1, 1, false, 1),
];

const DECODER: &[Layer] = &[
    ("inc_dec", 8, 512, 32, 3, 1, false, 1),
    ("res inc_dec", 8, 512, 32, 1, 1, false, 1),
    ("512-512@32", 512, 512, 32, 3, 1, false, 1),
    ("up 512-256@32", 512, 256, 32, 3, 1, true, 1),
    ("256-256@64", 256, 256, 64, 3, 1, false, 2),
    ("up 256-128@64", 256, 128, 64, 3, 1, true, 1),
    ("128-128@128", 128, 128, 128, 3, 1, false, 2),
    ("up 128-64@128", 128, 64, 128, 3, 1, true, 1),
    ("64-64@256", 64, 64, 256, 3, 1, false, 2),
    ("outc", 64, 3, 256, 1, 1, false, 1),
];

const ENCODER: &[Layer] = &[
    ("inc", 3, 64, 256, 3, 1, false, 1),
    ("res inc", 3, 64, 256, 1, 1, false, 1),
    ("64-64@256", 64, 64, 256, 3, 1, false, 1),
    ("down 64-128@256", 64, 128, 256, 3, 2, false, 1),
    ("128-128@128", 128, 128, 128, 3, 1, false, 2),
    ("down 128-256@128", 128, 256, 128, 3, 2, false, 1),
    ("256-256@64", 256, 256, 64, 3, 1, false, 2),
    ("down 256-512@64", 256, 512, 64, 3, 2, false, 1),
    ("512-512@32", 512, 512, 32, 3, 1, false, 2),
    ("out_enc.0", 512, 16, 32, 3, 1, false, 1),
    ("out_enc.1", 16, 16, 32, 1, 1, false, 1),
];

struct Options {
    nets: Vec<String>,
    batches: Vec<usize>,
    layer: String,
    what: Vec<String>,
    strategy: Option<Strategy>,
    runs: usize,
    threads: usize,
    pack: bool,
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
        pack: false,
    };
    let list = |text: String| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| fail(&format!("{arg} needs a value")));
        let number = |text: &str| text.parse().unwrap_or_else(|_| fail(&format!("{text} is not a number")));
        match arg.as_str() {
            "--bench" => {}
            "--net" => o.nets = list(value()),
            "--batch" => o.batches = list(value()).iter().map(|b| number(b)).collect(),
            "--layer" => o.layer = value(),
            "--what" => o.what = list(value()),
            "--runs" => o.runs = number(&value()),
            "--threads" => o.threads = number(&value()),
            "--pack" => o.pack = true,
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

fn least(runs: usize, mut f: impl FnMut()) -> f64 {
    f();
    (0..runs)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}

struct Timing {
    strategy: Strategy,
    run_s: f64,
    pack_s: f64,
    packed_bytes: usize,
}

fn forward(g: &ConvGeometry, o: &Options) -> Option<Timing> {
    let conv = match o.strategy {
        Some(strategy) => Forward::with(g, strategy, Isa::detect())?,
        None => Forward::new(g),
    };
    let (x, weight) = (values(g.input_len()), values(g.weight_len()));
    let (bias, residual) = (values(g.out_channels), values(g.output_len()));
    let mut packed = vec![0.0; conv.packed_len()];
    let (mut y, mut workspace) = (vec![0.0; g.output_len()], vec![0.0; conv.workspace_len()]);
    let pack_s = least(if o.pack { o.runs } else { 0 }, || conv.pack(&weight, &mut packed));
    let run_s =
        least(o.runs, || conv.run(&packed, &x, Some(&bias), Some(&residual), &mut y, &mut workspace));
    Some(Timing { strategy: conv.strategy(), run_s, pack_s, packed_bytes: 4 * packed.len() })
}

fn input_grad(g: &ConvGeometry, o: &Options) -> Option<Timing> {
    let conv = match o.strategy {
        Some(strategy) => InputGrad::with(g, strategy, Isa::detect())?,
        None => InputGrad::new(g),
    };
    let (dy, weight) = (values(g.output_len()), values(g.weight_len()));
    let mut packed = vec![0.0; conv.packed_len()];
    let (mut dx, mut workspace) = (vec![0.0; g.input_len()], vec![0.0; conv.workspace_len()]);
    let pack_s = least(if o.pack { o.runs } else { 0 }, || conv.pack(&weight, &mut packed));
    let run_s = least(o.runs, || conv.run(&packed, &dy, &mut dx, &mut workspace));
    Some(Timing { strategy: conv.strategy(), run_s, pack_s, packed_bytes: 4 * packed.len() })
}

fn weight_grad(g: &ConvGeometry, o: &Options) -> Option<Timing> {
    let conv = match o.strategy {
        Some(strategy) => WeightGrad::with(g, strategy, Isa::detect())?,
        None => WeightGrad::new(g),
    };
    let (x, dy) = (values(g.input_len()), values(g.output_len()));
    let (mut dw, mut workspace) = (vec![0.0; g.weight_len()], vec![0.0; conv.workspace_len()]);
    let run_s = least(o.runs, || conv.run(&x, &dy, &mut dw, &mut workspace));
    Some(Timing { strategy: conv.strategy(), run_s, pack_s: f64::INFINITY, packed_bytes: 0 })
}

fn main() {
    let o = options();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(o.threads).build().expect("a thread pool");
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
    println!("{net} {what} batch {batch}, {} threads, {:?}", o.threads, Isa::detect());
    let (mut total_s, mut pack_s, mut flops, mut bytes) = (0.0, 0.0, 0u64, 0);
    for &(name, in_channels, out_channels, map, kernel, stride, upsample, times) in layers {
        if !name.contains(&o.layer) {
            continue;
        }
        let g = ConvGeometry {
            batch,
            height: map,
            width: map,
            in_channels,
            out_channels,
            kernel: [kernel; 2],
            stride,
            padding: kernel / 2,
            upsample,
        };
        let timing = match what {
            "fwd" => forward(&g, o),
            "dgrad" => input_grad(&g, o),
            "wgrad" => weight_grad(&g, o),
            other => fail(&format!("unknown direction {other}")),
        };
        let Some(t) = timing else { continue };
        let pack = if o.pack && t.pack_s.is_finite() { t.pack_s } else { 0.0 };
        println!(
            "  {name:18} ×{times}  {:9}  {:8.3} ms  {:7.1} GFLOP/s  packed {:6.1} MB{}",
            format!("{:?}", t.strategy),
            t.run_s * 1e3,
            g.flops() as f64 / t.run_s / 1e9,
            t.packed_bytes as f64 / 1e6,
            if pack > 0.0 { format!("  pack {:7.3} ms", pack * 1e3) } else { String::new() },
        );
        total_s += t.run_s * times as f64;
        pack_s += pack * times as f64;
        flops += g.flops() * times as u64;
        bytes += t.packed_bytes * times;
    }
    println!(
        "  total {:.3} s, {:.1} GFLOP/s, packed {:.0} MB, packing {:.3} s",
        total_s,
        flops as f64 / total_s / 1e9,
        bytes as f64 / 1e6,
        pack_s
    );
}
