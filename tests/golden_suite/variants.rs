//! Family `train_loss_variants`: one diffusion training loss per variant, from the ops that
//! training is made of, with its gradients.

use libtest_mimic::Failed;
use medfusion::diffusion::NoiseSchedule;
use medfusion::graph::{Graph, Value};
use medfusion::model::{NetworkInputs, build_unet};
use medfusion::ops::Unary;
use medfusion::ops::pixel_loss::Distance;
use medfusion::tensor::DType;
use serde_json::Value as Json;

use crate::harness::{Case, GRADIENT, Input, OUTPUT, Report, global_norm, run};
use crate::hyper;

pub fn run_case(case: &Case) -> Result<(), Failed> {
    let schedule = NoiseSchedule::new(&hyper::noise(&case.json["scheduler"])?)?;
    let mut report = Report::new(case);
    let variants = case.json["cases"].as_object().ok_or("no cases")?;
    for (name, settings) in variants {
        // A variant may use the weights, and then the network, of another.
        let donor = settings["weights"].as_str().and_then(|text| {
            text.split_whitespace()
                .find(|word| variants.contains_key(*word))
        });
        let donor = donor.unwrap_or(name);
        variant(case, name, settings, donor, &schedule, &mut report)?;
    }
    report.finish()
}

fn variant(
    case: &Case,
    name: &str,
    settings: &Json,
    donor: &str,
    schedule: &NoiseSchedule,
    report: &mut Report,
) -> Result<(), Failed> {
    let mut config = hyper::unet(&case.json["cases"][donor]["unet"], "")?;
    // These may stand beside the network's hyper-parameters.
    let flag = |key: &str| settings[key].as_bool().unwrap_or(false);
    config.learned_variance |= flag("estimate_variance");
    config.self_conditioning |= flag("use_self_conditioning");
    let weights = case.under(&format!("weights.{donor}."));
    let sample_objective = settings["objective"].as_str() == Some("x_0");
    let distance = match settings["loss"].as_str() {
        Some("MSELoss") => Distance::L2,
        _ => Distance::L1,
    };
    let conditional = settings["u"].as_f64().ok_or("no u")? >= 0.5;
    let centred = flag("do_input_centering");

    let ((shape, x_0_values), (_, noise_values)) = (case.nhwc("in.x_0")?, case.nhwc("in.x_T")?);
    let inputs = [
        ("x_0", Input::F32(x_0_values)),
        ("noise", Input::F32(noise_values)),
        ("t", Input::I32(case.ints("in.t")?)),
        ("labels", Input::I32(case.ints("in.cond")?)),
    ];
    let mut g = Graph::new();
    let mut x_0 = g.input("x_0", shape, DType::F32)?;
    if centred {
        let op = Unary::Affine {
            scale: 2.0,
            shift: -1.0,
        };
        x_0 = g.apply(op, &[x_0])?;
    }
    let noise = g.input("noise", shape, DType::F32)?;
    let t = g.input("t", [shape[0]], DType::I32)?;
    let labels = g.input("labels", [shape[0]], DType::I32)?;
    let table = g.constant([schedule.timesteps(), 2], &schedule.noising_table())?;
    let x_t = g.add_noise(x_0, noise, table, t)?;
    let network = NetworkInputs {
        x: x_t,
        t,
        labels: conditional.then_some(labels),
        self_condition: config.self_conditioning.then_some(x_t),
    };
    let prediction = build_unet(&mut g, &config, network)?;
    let target = if sample_objective { x_0 } else { noise };

    // Weights 1, 1/2, 1/4, … with sum 1.
    let outputs: Vec<Value> = std::iter::once(prediction.y)
        .chain(prediction.vertical.iter().copied())
        .collect();
    let total: f32 = (0..outputs.len()).map(|i| 0.5f32.powi(i as i32)).sum();
    let mut loss: Option<Value> = None;
    for (i, &y) in outputs.iter().enumerate() {
        let &[_, h, w, _] = g.shape(y) else {
            return Err("a prediction is no map".into());
        };
        let target = match i {
            0 => target,
            _ => g.resize_area(target, h, w)?,
        };
        let term = g.mean_pixel_loss(distance, y, target)?;
        let term = g.scale(term, 0.5f32.powi(i as i32) / total)?;
        loss = Some(match loss {
            Some(loss) => g.add(loss, term)?,
            None => term,
        });
    }
    let mut loss = loss.ok_or("no output")?;
    if let Some(variance) = prediction.variance {
        // From the true noise x_0 comes back as it is.
        let estimate = if sample_objective { prediction.y } else { x_0 };
        let table = g.constant([schedule.timesteps(), 3], &schedule.variance_table())?;
        let term = g.variance_loss(variance, x_0, estimate, table, t)?;
        g.output("variance_loss", term);
        loss = g.add(loss, term)?;
    }
    g.output("loss", loss);

    let wrt: Vec<(String, Value)> = g
        .parameters()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let values: Vec<Value> = wrt.iter().map(|&(_, value)| value).collect();
    for ((name, _), grad) in wrt.iter().zip(g.gradients(loss, &values)?) {
        let grad = grad.ok_or("a used parameter without gradient")?;
        g.output(&format!("grad.{name}"), grad);
    }
    let results = run(&g, &weights, &inputs)?;

    let want = case.floats(&format!("out.{name}.loss"))?;
    report.compare("loss", name, &results["loss"], &want, OUTPUT);
    if let (Some(got), Some(want)) = (
        results.get("variance_loss"),
        settings["logged"]["train/variance_loss"].as_f64(),
    ) {
        report.compare("variance_loss", name, got, &[want as f32], OUTPUT);
    }
    let grads = results.iter().filter(|(key, _)| key.starts_with("grad."));
    let floor = 1e-8 * global_norm(grads.map(|(_, grad)| grad.as_slice()));
    for (key, want) in case.under(&format!("grad.{name}.")) {
        let got = results
            .get(&format!("grad.{key}"))
            .ok_or_else(|| format!("{name}: no gradient of '{key}'"))?;
        let key = format!("{name} {key}");
        report.compare_with_floor("grad", &key, got, &want.to_f32()?, GRADIENT, floor);
    }
    Ok(())
}
