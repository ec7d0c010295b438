//! Families `train_` and `ema_decay`, and the optimizer cases of `vae_`: whole training steps as plans.

use std::collections::BTreeMap;

use libtest_mimic::Failed;
use medfusion::device::Executable;
use medfusion::diffusion::NoiseSchedule;
use medfusion::diffusion::Objective;
use medfusion::graph::Graph;
use medfusion::model::config::UnetConfig;
use medfusion::ops::Ema;
use medfusion::ops::optimizer::{AdamConfig, AdamOperands};
use medfusion::tensor::{DType, TensorMap};
use medfusion::train::loss::{
    DiffusionInputs, DiffusionLossOptions, Distance, diffusion_loss, vae_loss,
};
use medfusion::train::names;
use medfusion::train::step::{EmaOptions, LoadedStep, StepOptions, TrainingGraph};
use serde_json::Value as Json;

use crate::harness::{
    Case, GRADIENT, GRADIENT_NOISE, Input, OUTPUT, Report, TABLE, device, global_norm, load, run,
};
use crate::{hyper, vae};

/// Parameters after optimizer steps on stored gradients: a few roundings of the weight itself.
const STORED: f64 = 1e-6;

pub fn run_case(case: &Case) -> Result<(), Failed> {
    if case.json["cases"].is_object() {
        return run_variants(case);
    }
    let mut report = Report::new(case);
    stored_gradients(case, &mut report)?;
    diffusion_steps(case, &mut report)?;
    report.finish()
}

/// Family `ema_decay`: the weight of the old average by step.
pub fn run_ema_decay(case: &Case) -> Result<(), Failed> {
    let mut report = Report::new(case);
    let mut g = Graph::new();
    let average = g.state("average", [1], DType::F32)?;
    let zero = g.constant([1], &[0.0])?;
    let step = g.state("step", [1], DType::I32)?;
    g.ema(average, zero, step, None)?;
    let mut executable = load(&g, &TensorMap::new())?;
    let mut got = Vec::new();
    for step in case.ints("in.step")? {
        // What is left of 1 after it moved towards 0.
        executable.write("average", &[1.0])?;
        executable.write_i32("step", &[step])?;
        executable.run()?;
        got.push(executable.read("average")?[0]);
    }
    report.compare("out", "decay", &got, &case.floats("out.decay")?, TABLE);
    report.finish()
}

/// The optimizer's settings in a case.
fn adam(json: &Json) -> Result<(AdamConfig, f64), Failed> {
    let number = |key: &str, default: f64| json[key].as_f64().unwrap_or(default);
    let config = AdamConfig {
        beta1: json["betas"][0].as_f64().unwrap_or(0.9),
        beta2: json["betas"][1].as_f64().unwrap_or(0.999),
        eps: number("eps", 1e-8),
        weight_decay: number("weight_decay", 0.0),
        decoupled: json["class"].as_str() == Some("AdamW"),
    };
    Ok((config, json["lr"].as_f64().ok_or("no learning rate")?))
}

/// Numbers `k` of the tensors `{prefix}{k}{suffix…}`, ascending.
fn numbered(case: &Case, prefix: &str) -> Vec<usize> {
    let mut found: Vec<usize> = case
        .tensors
        .keys()
        .filter_map(|key| key.strip_prefix(prefix)?.split('.').next()?.parse().ok())
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Entries by parameter whose gradient was rounding noise at some step so far ([`GRADIENT_NOISE`]): Adam divides it by its
/// own magnitude and goes either way, by up to the learning rate.
#[derive(Default)]
struct Directionless(BTreeMap<String, Vec<bool>>);

impl Directionless {
    /// Adds a step's gradients.
    fn add(&mut self, executable: &dyn Executable, names: &[String]) -> Result<(), Failed> {
        let mut grads = Vec::new();
        for name in names {
            grads.push((name, executable.output(&format!("grad.{name}"))?));
        }
        let noise = GRADIENT_NOISE * global_norm(grads.iter().map(|(_, grad)| grad.as_slice()));
        for (name, grad) in grads {
            let marks = self.0.entry(name.clone()).or_default();
            marks.resize(grad.len(), false);
            for (mark, g) in marks.iter_mut().zip(grad) {
                *mark |= f64::from(g.abs()) <= noise;
            }
        }
        Ok(())
    }

    fn contains(&self, name: &str, entry: usize) -> bool {
        self.0.get(name).is_some_and(|marks| marks[entry])
    }
}

/// All but one in a thousand of the entries with a direction have to agree to 1e-6 per step (an L1 loss turns a gradient
/// over where prediction and target meet), and none may be further off than two steps the other way.
fn compare_parameters(
    report: &mut Report,
    group: &str,
    [got, want]: [&TensorMap; 2],
    directionless: &Directionless,
    learning_rate: f64,
    steps: usize,
) -> Result<(), Failed> {
    let close = 1e-6 * steps as f64;
    let bound = 2.0 * learning_rate * steps as f64 + close;
    let (mut off, mut all) = (0usize, 0usize);
    for (name, want) in want {
        let got = got
            .get(name)
            .ok_or_else(|| format!("no {name}"))?
            .to_f32()?;
        let want = want.to_f32()?;
        let (mut compared, mut expected) = (Vec::new(), Vec::new());
        let mut worst = 0.0f64;
        for (entry, (&a, &b)) in got.iter().zip(&*want).enumerate() {
            let difference = (f64::from(a) - f64::from(b)).abs();
            // NaN is off by any measure.
            let difference = match difference.is_nan() {
                true => f64::INFINITY,
                false => difference,
            };
            worst = worst.max(difference);
            if directionless.contains(name, entry) {
                continue;
            }
            all += 1;
            if difference > close {
                off += 1;
            } else {
                compared.push(a);
                expected.push(b);
            }
        }
        report.check(
            worst <= bound && got.len() == want.len(),
            format!("{group} {name}: off by {worst:.2e}, more than {bound:.1e}"),
        );
        report.compare_with_floor(group, name, &compared, &expected, 1e-4, learning_rate);
    }
    report.check(
        off * 1000 <= all,
        format!("{group}: {off} of {all} entries are off by more than 1e-6 per step"),
    );
    Ok(())
}

/// AdamW on the stored gradients alone.
fn stored_gradients(case: &Case, report: &mut Report) -> Result<(), Failed> {
    let (config, learning_rate) = adam(&case.json["optimizer"])?;
    let weights = case.under("weights.");
    let steps = numbered(case, "grad.step");
    let Some(&last) = steps.last() else {
        return Ok(());
    };
    let mut g = Graph::new();
    let lr = g.input("lr", [], DType::F32)?;
    let mut counters = Vec::new();
    for (name, tensor) in &weights {
        let shape = tensor.shape();
        let parameter = g.parameter(name, shape)?;
        let grad = g.input(&format!("grad.{name}"), shape, DType::F32)?;
        let gate = g.input(&format!("gate.{name}"), [], DType::F32)?;
        let moments = [
            g.state(&format!("m.{name}"), shape, DType::F32)?,
            g.state(&format!("v.{name}"), shape, DType::F32)?,
        ];
        let step = g.state(&format!("step.{name}"), [1], DType::I32)?;
        g.adam(
            config,
            AdamOperands {
                parameter,
                grad,
                moments,
                learning_rate: lr,
                step,
                clip: None,
                gate: Some(gate),
            },
        )?;
        counters.push((step, gate));
    }
    for (step, gate) in counters {
        g.increment_if(step, gate)?;
    }
    let mut executable = load(&g, &weights)?;
    executable.write("lr", &[learning_rate as f32])?;
    for step in 1..=last {
        for (name, tensor) in &weights {
            // A parameter without a gradient is left as it is.
            let key = format!("grad.step{step}.{name}");
            let grad = case.floats(&key).ok();
            let gate = f32::from(u8::from(grad.is_some()));
            executable.write(&format!("gate.{name}"), &[gate])?;
            let grad = grad.unwrap_or_else(|| vec![0.0; tensor.len()]);
            executable.write(&format!("grad.{name}"), &grad)?;
        }
        executable.run()?;
        for (name, want) in case.under(&format!("out.step{step}.")) {
            let want = want.to_f32()?;
            report.compare("stored", &name, &executable.read(&name)?, &want, STORED);
        }
    }
    Ok(())
}

/// A noise estimator with its loss on inputs `x_0`, `noise`, `t` and `labels`.
fn diffusion_graph(
    unet: &UnetConfig,
    schedule: &NoiseSchedule,
    options: &DiffusionLossOptions,
    shape: [usize; 4],
    conditional: bool,
) -> Result<(Graph, medfusion::train::loss::DiffusionLoss), Failed> {
    let mut g = Graph::new();
    let inputs = DiffusionInputs {
        x_0: g.input("x_0", shape, DType::F32)?,
        noise: g.input("noise", shape, DType::F32)?,
        t: g.input(names::TIME_STEPS, [shape[0]], DType::I32)?,
        labels: match conditional {
            true => Some(g.input(names::LABELS, [shape[0]], DType::I32)?),
            false => None,
        },
    };
    let loss = diffusion_loss(&mut g, unet, schedule, options, inputs)?;
    g.output(names::LOSS, loss.total);
    Ok((g, loss))
}

/// `u < p` drops the condition of the whole batch.
fn dropped(case: &Case, u: f64) -> bool {
    u < case.json["classifier_free_guidance_dropout"]
        .as_f64()
        .unwrap_or(0.5)
}

/// Whole steps: noising, network, loss, gradients, AdamW, moving average.
fn diffusion_steps(case: &Case, report: &mut Report) -> Result<(), Failed> {
    let unet = hyper::unet(&case.json["unet"], "")?;
    let schedule = NoiseSchedule::new(&hyper::noise(&case.json["scheduler"])?)?;
    let (adam, learning_rate) = adam(&case.json["optimizer"])?;
    let objective = match case.json["objective"].as_str() {
        Some("x_0") => Objective::Sample,
        _ => Objective::Noise,
    };
    let options = DiffusionLossOptions {
        objective,
        distance: Distance::L1,
        supervision_weights: Vec::new(),
        input_centering: case.json["do_input_centering"].as_bool().unwrap_or(false),
    };
    let weights = case.under("weights.");
    let (shape, _) = case.nhwc("in.x_0.1")?;
    let device = device()?;
    let new_trainer = |gradients: bool| -> Result<LoadedStep, Failed> {
        let (graph, loss) = diffusion_graph(&unet, &schedule, &options, shape, true)?;
        let options = StepOptions {
            adam,
            max_norm: f32::INFINITY,
            ema: Some(EmaOptions {
                max_decay: Ema::MAX_DECAY,
                power: Ema::POWER,
            }),
            accumulate: 1,
            loss_scaling: false,
        };
        let mut training = TrainingGraph::new(graph, loss.total, options)?;
        if gradients {
            for (name, grad) in training.gradients.clone() {
                training.graph.output(&format!("grad.{name}"), grad);
            }
        }
        let compiled = training.compile(&device, None)?;
        Ok(training.load(&device, compiled, &weights)?)
    };
    let step_inputs = |trainer: &mut LoadedStep, step: usize| -> Result<bool, Failed> {
        let drop = dropped(case, f64::from(case.scalar(&format!("in.u.{step}"))?));
        let mut labels = case.ints(&format!("in.cond.{step}"))?;
        if drop {
            labels.fill(-1);
        }
        let t = case.ints(&format!("in.t.{step}"))?;
        let executable = trainer.executable();
        executable.write("x_0", &case.nhwc(&format!("in.x_0.{step}"))?.1)?;
        executable.write("noise", &case.nhwc(&format!("in.x_T.{step}"))?.1)?;
        executable.write_i32(names::TIME_STEPS, &t)?;
        executable.write_i32(names::LABELS, &labels)?;
        Ok(!drop)
    };

    let mut trainer = new_trainer(true)?;
    let names: Vec<String> = weights.keys().cloned().collect();
    let mut directionless = Directionless::default();
    for step in numbered(case, "in.x_0.") {
        let kept = step_inputs(&mut trainer, step)?;
        trainer.run_pass(0, learning_rate, kept)?;
        let loss = trainer.executable().output(names::LOSS)?;
        let want = case.floats(&format!("out.loss.{step}"))?;
        report.compare("loss", &format!("step {step}"), &loss, &want, OUTPUT);
        let mut grads = Vec::new();
        for (name, want) in case.under(&format!("grad.step{step}.")) {
            let got = trainer.executable().output(&format!("grad.{name}"))?;
            grads.push((name, got, want));
        }
        let floor = GRADIENT_NOISE * global_norm(grads.iter().map(|(_, got, _)| got.as_slice()));
        for (name, got, want) in &grads {
            let want = want.to_f32()?;
            report.compare_with_floor("grad", name, got, &want, GRADIENT, floor);
        }
        directionless.add(trainer.executable(), &names)?;
        for (group, key, got) in [
            ("step", "out.step", trainer.weights()?),
            ("ema", "out.ema.step", trainer.best_weights()?),
        ] {
            let want = case.under(&format!("{key}{step}."));
            let maps = [&got, &want];
            compare_parameters(report, group, maps, &directionless, learning_rate, step)?;
        }
    }

    // Where a missing gradient counts as zeros, the label table decays and moves on by its momentum.
    let mut trainer = new_trainer(false)?;
    for step in numbered(case, "out_zero_grad_mode.step")
        .last()
        .map_or(1..1, |&last| 1..last + 1)
    {
        step_inputs(&mut trainer, step)?;
        trainer.run_pass(0, learning_rate, true)?;
        let want = case.under(&format!("out_zero_grad_mode.step{step}."));
        let maps = [&trainer.weights()?, &want];
        // Only the label table is compared, whose gradients are above any rounding or exactly zero.
        let all = Directionless::default();
        compare_parameters(report, "zero_grad", maps, &all, learning_rate, step)?;
    }
    Ok(())
}

/// One loss of each kind with gradients.
fn run_variants(case: &Case) -> Result<(), Failed> {
    let mut report = Report::new(case);
    let schedule = NoiseSchedule::new(&hyper::noise(&case.json["scheduler"])?)?;
    let (shape, x_0) = case.nhwc("in.x_0")?;
    let (_, noise) = case.nhwc("in.x_T")?;
    let cases = case.json["cases"].as_object().ok_or("no cases")?;
    for (name, setting) in cases {
        // A case may borrow the network of another: "same as case no_cond".
        let owner = setting["weights"]
            .as_str()
            .and_then(|text| text.split_whitespace().last())
            .unwrap_or(name);
        let network = &cases.get(owner).ok_or("no such case")?["unet"];
        let mut unet = hyper::unet(network, "")?;
        let flag = |key: &str| setting[key].as_bool().unwrap_or(false);
        unet.learned_variance |= flag("estimate_variance");
        unet.self_conditioning |= flag("use_self_conditioning");
        let options = DiffusionLossOptions {
            objective: match setting["objective"].as_str() {
                Some("x_0") => Objective::Sample,
                _ => Objective::Noise,
            },
            distance: match setting["loss"].as_str() {
                Some("MSELoss") => Distance::L2,
                _ => Distance::L1,
            },
            supervision_weights: Vec::new(),
            input_centering: flag("do_input_centering"),
        };
        let conditional = !dropped(case, setting["u"].as_f64().unwrap_or(1.0));
        let (mut g, loss) = diffusion_graph(&unet, &schedule, &options, shape, conditional)?;
        if let Some(variance) = loss.variance {
            g.output("variance", variance);
        }
        let wrt: Vec<(String, _)> = g
            .parameters()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let values: Vec<_> = wrt.iter().map(|&(_, value)| value).collect();
        let grads = g.gradients(loss.total, &values)?;
        for ((parameter, _), grad) in wrt.iter().zip(grads) {
            let grad = grad.ok_or_else(|| format!("{parameter} has no gradient"))?;
            g.output(&format!("grad.{parameter}"), grad);
        }
        let weights = case.under(&format!("weights.{owner}."));
        let inputs = [
            ("x_0", Input::F32(x_0.clone())),
            ("noise", Input::F32(noise.clone())),
            (names::TIME_STEPS, Input::I32(case.ints("in.t")?)),
            (names::LABELS, Input::I32(case.ints("in.cond")?)),
        ];
        let results = run(&g, &weights, &inputs)?;
        let want = case.floats(&format!("out.{name}.loss"))?;
        report.compare("loss", name, &results[names::LOSS], &want, OUTPUT);
        if let Some(want) = setting["logged"]["train/variance_loss"].as_f64() {
            report.compare("loss", name, &results["variance"], &[want as f32], OUTPUT);
        }
        let floor = GRADIENT_NOISE
            * global_norm(
                results
                    .iter()
                    .filter(|(key, _)| key.starts_with("grad."))
                    .map(|(_, values)| values.as_slice()),
            );
        for (parameter, want) in case.under(&format!("grad.{name}.")) {
            let got = results
                .get(&format!("grad.{parameter}"))
                .ok_or_else(|| format!("{name}: no gradient of {parameter}"))?;
            let label = format!("{name} {parameter}");
            report.compare_with_floor("grad", &label, got, &want.to_f32()?, GRADIENT, floor);
        }
    }
    report.finish()
}

/// Cases of `vae_` with optimizer steps.
pub fn run_vae_steps(case: &Case) -> Result<(), Failed> {
    let mut report = Report::new(case);
    let config = hyper::vae(&case.json["hyper"])?;
    let weights = case.under("weights.");
    let (adam, learning_rate) = adam(&case.json["optimizer"])?;
    let text = case.json["loss"].as_str().unwrap_or("mse");
    let pixel = if text.starts_with("l1") { "l1" } else { "mse" };
    let (shape, x) = case.nhwc("in.x")?;
    let (noise_shape, _) = case.nhwc("in.noise.1")?;
    let mut g = Graph::new();
    let net = vae::autoencoder(&mut g, &config, shape, noise_shape)?;
    let options = vae::loss_options(pixel, vae::kl_weight(case))?;
    let loss = vae_loss(&mut g, &options, net.moments, &net.decoded, net.target)?;
    g.output(names::LOSS, loss.total);
    let options = StepOptions {
        adam,
        max_norm: f32::INFINITY,
        ema: None,
        accumulate: 1,
        loss_scaling: false,
    };
    let mut training = TrainingGraph::new(g, loss.total, options)?;
    for (name, grad) in training.gradients.clone() {
        training.graph.output(&format!("grad.{name}"), grad);
    }
    let names: Vec<String> = weights.keys().cloned().collect();
    let mut directionless = Directionless::default();
    let device = device()?;
    let compiled = training.compile(&device, None)?;
    let mut trainer = training.load(&device, compiled, &weights)?;
    trainer.executable().write("x", &x)?;
    trainer.executable().write("target", &x)?;
    for step in numbered(case, "in.noise.") {
        let (_, noise) = case.nhwc(&format!("in.noise.{step}"))?;
        trainer.executable().write("noise", &noise)?;
        trainer.run_pass(0, learning_rate, true)?;
        let loss = trainer.executable().output(names::LOSS)?;
        let want = case.floats(&format!("out.loss.{step}"))?;
        report.compare("loss", &format!("step {step}"), &loss, &want, OUTPUT);
        let want = case.under(&format!("out.step{step}."));
        directionless.add(trainer.executable(), &names)?;
        let maps = [&trainer.weights()?, &want];
        compare_parameters(
            &mut report,
            "step",
            maps,
            &directionless,
            learning_rate,
            step,
        )?;
    }
    report.finish()
}
