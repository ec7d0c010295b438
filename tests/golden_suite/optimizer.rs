//! Family `ema_decay`, and the part of `train_adamw_ema` that needs no network: AdamW and the
//! moving average on the stored gradients.

use libtest_mimic::Failed;
use medfusion::graph::Graph;
use medfusion::ops::optimizer::{AdamConfig, AdamOperands};
use medfusion::tensor::{DType, TensorMap};

use crate::harness::{Case, Report, load};

/// The average of 0 and 1 shows the decay.
pub fn run_decay(case: &Case) -> Result<(), Failed> {
    let mut g = Graph::new();
    let average = g.state("average", [1], DType::F32)?;
    let one = g.constant([1], &[1.0])?;
    let step = g.state("step", [1], DType::I32)?;
    g.ema(average, one, step, None)?;
    let mut executable = load(&g, &TensorMap::new())?;
    let mut got = Vec::new();
    for step in case.ints("in.step")? {
        executable.write("average", &[0.0])?;
        executable.write_i32("step", &[step])?;
        executable.run();
        got.push(1.0 - executable.read("average")?[0]);
    }
    let mut report = Report::new(case);
    // The average is 1 - decay in f32.
    report.compare("out", "decay", &got, &case.floats("out.decay")?, 1e-6);
    report.finish()
}

/// Steps 1 and 2 of AdamW from the stored gradients.
pub fn run_stored_gradients(case: &Case) -> Result<(), Failed> {
    let optimizer = &case.json["optimizer"];
    let number = |key: &str| optimizer[key].as_f64().ok_or("no such hyper-parameter");
    let config = AdamConfig {
        beta1: optimizer["betas"][0].as_f64().ok_or("no betas")?,
        beta2: optimizer["betas"][1].as_f64().ok_or("no betas")?,
        eps: number("eps")?,
        weight_decay: number("weight_decay")?,
        decoupled: optimizer["class"].as_str() == Some("AdamW"),
    };
    let rate = number("lr")? as f32;
    let weights = case.under("weights.");
    let mut report = Report::new(case);
    for (name, weight) in &weights {
        let mut g = Graph::new();
        let shape = weight.shape();
        let step = g.state("step", [1], DType::I32)?;
        let operands = AdamOperands {
            parameter: g.parameter(name, shape)?,
            grad: g.input("grad", shape, DType::F32)?,
            moments: [
                g.state("m", shape, DType::F32)?,
                g.state("v", shape, DType::F32)?,
            ],
            learning_rate: g.input("lr", [], DType::F32)?,
            step,
            clip: None,
            gate: None,
        };
        g.adam(config, operands)?;
        g.increment(step)?;
        let mut executable = load(&g, &weights)?;
        executable.write("lr", &[rate])?;
        for step in 1.. {
            let Ok(grad) = case.floats(&format!("grad.step{step}.{name}")) else {
                break;
            };
            executable.write("grad", &grad)?;
            executable.run();
            let Ok(want) = case.floats(&format!("out.step{step}.{name}")) else {
                continue;
            };
            let got = executable.read(name)?;
            let far = got.iter().zip(&want).map(|(a, b)| (a - b).abs());
            let far = far.fold(0.0, f32::max);
            // The measured distance of another f32 implementation, and a rounding of weights of
            // magnitude 1.
            report.check(
                far <= 1.3e-7,
                format!("step {step}: {name} is off by {far:e}"),
            );
            report.compare(
                "parameter",
                &format!("step {step} {name}"),
                got,
                &want,
                1e-6,
            );
        }
    }
    report.finish()
}
