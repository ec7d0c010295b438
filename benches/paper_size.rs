//! The paper-size networks with hashed weights on the CPU device: whole plans, one JSON line each.
//!
//! ```sh
//! cargo bench --bench paper_size -- unet decode --batch 1,4 --runs 5 --steps
//! ```
//!
//! `unet` is one evaluation of the noise estimator on 32×32×8 latents, `decode` and `encode` the
//! VAE at 256×256. `--steps` adds the time of every kind of step. Seconds are wall time; `cpu` is
//! processor time of the process over its threads, which a busy machine disturbs less.

use std::collections::BTreeMap;
use std::time::Instant;

use medfusion::checkpoint::ModelConfig;
use medfusion::checkpoint::{hashed_parameters, unet_parameters, vae_parameters};
use medfusion::compile::{PlanOptions, fuse};
use medfusion::device::cpu::CpuDevice;
use medfusion::graph::{Graph, GraphError};
use medfusion::model::{NetworkInputs, build_decoder, build_encoder, build_unet};
use medfusion::tensor::{DType, TensorMap};

fn graph(what: &str, batch: usize, config: &ModelConfig) -> Result<Graph, GraphError> {
    let mut g = Graph::new();
    let unet = config.unet.as_ref().expect("a UNet");
    let vae = config.vae.as_ref().expect("a VAE");
    match what {
        "unet" => {
            let x = g.input("x", [batch, 32, 32, 8], DType::F32)?;
            let inputs = NetworkInputs {
                x,
                t: g.input("t", [batch], DType::I32)?,
                labels: Some(g.input("labels", [batch], DType::I32)?),
                self_condition: None,
            };
            let y = build_unet(&mut g, unet, inputs)?.y;
            g.output("y", y);
        }
        "decode" => {
            let z = g.input("x", [batch, 32, 32, 8], DType::F32)?;
            let y = build_decoder(&mut g, vae, z)?.y;
            g.output("y", y);
        }
        _ => {
            let x = g.input("x", [batch, 256, 256, 3], DType::F32)?;
            let moments = build_encoder(&mut g, vae, x)?;
            g.output("mean", moments.mean);
            g.output("logvar", moments.logvar);
        }
    }
    Ok(g)
}

/// Processor time of this process in seconds.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // utime and stime are fields 14 and 15, in ticks of 1/100 s; the name may hold spaces.
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    ticks / 100.0
}

fn measure(what: &str, batch: usize, runs: usize, steps: bool, weights: &TensorMap) {
    let config = ModelConfig::published(2);
    let device = CpuDevice::new(Some(2)).expect("threads");
    let (graph, _) = fuse(&graph(what, batch, &config).expect("a valid network"));
    let plan = device.plan(&graph, PlanOptions::default());
    let names: Vec<String> = plan
        .steps
        .iter()
        .map(|step| step.op.operator().name().to_owned())
        .collect();
    let flops = plan.flops();
    let mut executable = device.load(plan, weights).expect("hashed weights fit");
    let len = executable.read("x").expect("an input").len();
    let x: Vec<f32> = (0..len)
        .map(|i| ((i * 7919) % 2003) as f32 / 1001.5 - 1.0)
        .collect();
    executable.write("x", &x).expect("the input's length");
    executable.run();
    let mut seconds = Vec::new();
    let cpu = processor_seconds();
    for _ in 0..runs {
        let start = Instant::now();
        executable.run();
        seconds.push(start.elapsed().as_secs_f64());
    }
    let cpu = (processor_seconds() - cpu) / runs as f64;
    seconds.sort_by(f64::total_cmp);
    println!(
        "{{\"what\": \"{what}\", \"batch\": {batch}, \"threads\": 2, \"gflop\": {:.2}, \
         \"seconds\": {{\"min\": {:.4}, \"median\": {:.4}, \"max\": {:.4}}}, \
         \"cpu_seconds_per_thread\": {:.4}, \"memory_bytes\": {}}}",
        flops as f64 / 1e9,
        seconds[0],
        seconds[seconds.len() / 2],
        seconds[seconds.len() - 1],
        cpu / 2.0,
        executable.memory().total_bytes(),
    );
    if steps {
        let mut kinds: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
        executable.run_timed(|index, seconds| {
            let entry = kinds.entry(&names[index]).or_default();
            entry.0 += 1;
            entry.1 += seconds;
        });
        for (name, (count, seconds)) in kinds {
            println!("  {name:<24} {count:>4} steps {:>9.2} ms", seconds * 1e3);
        }
    }
}

fn main() {
    // `cargo bench` passes --bench to every target.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let value = |flag: &str| {
        let at = arguments.iter().position(|a| a == flag)?;
        arguments.get(at + 1).cloned()
    };
    let batches: Vec<usize> = value("--batch")
        .unwrap_or_else(|| "1".to_owned())
        .split(',')
        .map(|batch| batch.parse().expect("--batch takes numbers"))
        .collect();
    let runs: usize =
        value("--runs").map_or(5, |runs| runs.parse().expect("--runs takes a number"));
    let steps = arguments.iter().any(|a| a == "--steps");
    let mut wanted: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|a| ["unet", "decode", "encode"].contains(a))
        .collect();
    if wanted.is_empty() {
        wanted = vec!["unet", "decode", "encode"];
    }
    let config = ModelConfig::published(2);
    for what in wanted {
        let parameters = match what {
            "unet" => unet_parameters(config.unet.as_ref().expect("a UNet")).unwrap(),
            _ => vae_parameters(config.vae.as_ref().expect("a VAE")).unwrap(),
        };
        let weights = hashed_parameters(&parameters, 0.8);
        for &batch in &batches {
            measure(what, batch, runs, steps, &weights);
        }
    }
}
