//! Times the memory-bound and attention ops of the paper-size networks on the CPU, forward and backward.
//!
//! ```text
//! cargo bench --bench ops -- [FILTER] [--save-baseline NAME | --baseline NAME] [criterion's other options]
//! BENCH_THREADS=1 cargo bench --bench ops                                          [default: one thread per core]
//! ```
//! Each group is a plan, each benchmark one of its steps: its processor time divided by the threads (what a busy machine
//! distorts least; on an idle one it is the time), and the operations that it has to compute and the bytes that it has to
//! move per second of that time. The whole plan runs for every sample, so that a step finds the caches as it does there.

use std::error::Error;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use medfusion::compile::PlanOptions;
use medfusion::device::cpu::CpuDevice;
use medfusion::graph::{Graph, GraphError, Value};
use medfusion::ops::{GroupNorm, GroupNormStats, Unary};
use medfusion::tensor::DType;

/// Emits one op over inputs; the loss is the sum of its result.
type Build = fn(&mut Graph) -> Result<Value, GraphError>;

const CASES: &[(&str, Build)] = &[
    ("unet norm 32x32x256 batch 1", |g| {
        norm(g, [1, 32, 32, 256], 32)
    }),
    ("unet norm 32x32x256 batch 4", |g| {
        norm(g, [4, 32, 32, 256], 32)
    }),
    ("unet norm 16x16x512 batch 1", |g| {
        norm(g, [1, 16, 16, 512], 32)
    }),
    ("unet norm 8x8x1024 batch 1", |g| {
        norm(g, [1, 8, 8, 1024], 32)
    }),
    ("vae norm 256x256x64 batch 1", |g| {
        norm(g, [1, 256, 256, 64], 8)
    }),
    ("vae norm 128x128x128 batch 1", |g| {
        norm(g, [1, 128, 128, 128], 8)
    }),
    ("attention 1024 tokens, 256 channels", |g| {
        attention(g, 1024, 1024, 256)
    }),
    ("attention 1024 tokens, 1024 channels", |g| {
        attention(g, 1024, 1024, 1024)
    }),
    ("attention 256 tokens, 512 channels", |g| {
        attention(g, 256, 256, 512)
    }),
    ("attention to one token", |g| attention(g, 1024, 1, 256)),
    ("layer norm", |g| {
        let x = input(g, "x", &[1, 1024, 256])?;
        let (gamma, beta) = (input(g, "gamma", &[256])?, input(g, "beta", &[256])?);
        g.layer_norm(x, gamma, beta, 1e-5)
    }),
    ("geglu", |g| {
        let x = input(g, "x", &[1, 1024, 2048])?;
        g.geglu(x)
    }),
    ("gelu", |g| {
        let x = input(g, "x", &[1, 1024, 1024])?;
        g.apply(Unary::Gelu, &[x])
    }),
    ("swish", |g| {
        let x = input(g, "x", &[1, 32, 32, 1024])?;
        g.swish(x)
    }),
    ("tokens linear 256-256", |g| {
        let (x, w) = (input(g, "x", &[1, 1024, 256])?, input(g, "w", &[256, 256])?);
        g.linear(x, w, None)
    }),
    ("softmax", |g| {
        let x = input(g, "x", &[8, 1024, 1024])?;
        g.softmax(x)
    }),
    ("skip concat", |g| {
        let (a, b) = (
            input(g, "a", &[1, 32, 32, 256])?,
            input(g, "b", &[1, 32, 32, 256])?,
        );
        g.concat(&[a, b])
    }),
    ("average pool", |g| {
        let x = input(g, "x", &[1, 128, 128, 128])?;
        g.avg_pool(x, 3, 2, 1)
    }),
    ("vgg max pool", |g| {
        let x = input(g, "x", &[1, 256, 256, 64])?;
        g.max_pool(x, 2, 2, 0)
    }),
    ("upsample", |g| {
        let x = input(g, "x", &[1, 64, 64, 256])?;
        g.upsample(x, 2)
    }),
];

fn input(g: &mut Graph, name: &str, shape: &[usize]) -> Result<Value, GraphError> {
    g.input(name, shape, DType::F32)
}

/// With Swish, residual and embedding as in a residual block.
fn norm(g: &mut Graph, shape: [usize; 4], groups: usize) -> Result<Value, GraphError> {
    let (x, residual) = (input(g, "x", &shape)?, input(g, "residual", &shape)?);
    let (gamma, beta) = (
        input(g, "gamma", &shape[3..])?,
        input(g, "beta", &shape[3..])?,
    );
    let embed = input(g, "embed", &[shape[0], shape[3]])?;
    let stats = g.apply(GroupNormStats { groups, eps: 1e-5 }, &[x])?;
    let op = GroupNorm {
        groups,
        swish: true,
        residual: true,
        embed: true,
        stats: None,
    };
    g.apply(op, &[x, stats, gamma, beta, residual, embed])
}

fn attention(
    g: &mut Graph,
    queries: usize,
    keys: usize,
    channels: usize,
) -> Result<Value, GraphError> {
    let q = input(g, "q", &[1, queries, channels])?;
    let (k, v) = (
        input(g, "k", &[1, keys, channels])?,
        input(g, "v", &[1, keys, channels])?,
    );
    g.attention(q, k, v, 8, (channels as f32 / 8.0).powf(-0.5))
}

/// Processor time that all threads of this process have used.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn main() -> Result<(), Box<dyn Error>> {
    let threads = match std::env::var("BENCH_THREADS") {
        Ok(threads) => Some(threads.parse()?),
        Err(_) => None,
    };
    let device = CpuDevice::new(threads)?;
    // A step takes milliseconds and the processor's time varies little: ten samples tell changes of a few per cent.
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for (name, build) in CASES {
        bench(&mut criterion, &device, name, *build)?;
    }
    criterion.final_summary();
    Ok(())
}

/// One benchmark for each step of the plan of `build`'s op and its gradients.
fn bench(
    criterion: &mut Criterion,
    device: &CpuDevice,
    name: &str,
    build: Build,
) -> Result<(), Box<dyn Error>> {
    let mut g = Graph::new();
    let y = build(&mut g)?;
    let shape = g.shape(y).to_vec();
    let weights = input(&mut g, "loss weights", &shape)?;
    let product = g.mul(y, weights)?;
    let loss = g.sum_to(product, &[])?;
    let leaves: Vec<Value> = g
        .values()
        .filter(|&v| g.info(v).name != "loss weights" && g.producer(v).is_none())
        .collect();
    let grads = g.gradients(loss, &leaves)?;
    g.output("y", y);
    for grad in grads.into_iter().flatten() {
        g.output("grad", grad);
    }
    let mut executable =
        device.load(device.plan(&g, PlanOptions::default()), &Default::default())?;
    for &leaf in leaves.iter() {
        let values: Vec<f32> = (0..g.ty(leaf).len())
            .map(|i| (i % 977) as f32 / 488.5 - 1.0)
            .collect();
        executable.write(&g.info(leaf).name, &values)?;
    }
    let steps: Vec<(String, u64, u64)> = executable
        .plan()
        .steps
        .iter()
        .map(|step| (step.op.to_string(), step.flops, step.bytes))
        .collect();
    let mut group = criterion.benchmark_group(name);
    for (index, (op, flops, bytes)) in steps.into_iter().enumerate() {
        group.throughput(Throughput::ElementsAndBytes {
            elements: flops,
            bytes,
        });
        group.bench_function(format!("{index} {op}"), |bencher| {
            bencher.iter_custom(|iterations| {
                let mut spent = Duration::ZERO;
                for _ in 0..iterations {
                    let mut before = processor_time();
                    executable.run_timed(|step, _| {
                        let now = processor_time();
                        if step == index {
                            spent += now - before;
                        }
                        before = now;
                    });
                }
                black_box(spent / device.threads() as u32)
            });
        });
    }
    group.finish();
    Ok(())
}
