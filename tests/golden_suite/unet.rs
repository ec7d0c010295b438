//! Family `unet_`: outputs, activations and gradients of the noise estimator.

use libtest_mimic::Failed;
use medfusion::graph::{Graph, Value};
use medfusion::model::{NetworkInputs, UnetOutput, build_unet};
use medfusion::ops::Unary;
use medfusion::tensor::DType;

use crate::harness::{
    Case, GRADIENT, GRADIENT_NOISE, Input, OUTPUT, Report, compare_activations, global_norm,
    output_activations, run,
};
use crate::hyper;

/// `mean |y - target|`.
fn mean_absolute_error(g: &mut Graph, y: Value, target: Value) -> Result<Value, Failed> {
    let difference = g.sub(y, target)?;
    let absolute = g.apply(Unary::Abs, &[difference])?;
    let count = g.ty(y).len();
    let sum = g.sum_to(absolute, &[])?;
    Ok(g.scale(sum, 1.0 / count as f32)?)
}

/// The network's output as files hold it: the prediction, behind it the variance if one is learned.
fn whole_output(g: &mut Graph, prediction: &UnetOutput) -> Result<Value, Failed> {
    Ok(match prediction.variance {
        Some(variance) => g.concat(&[prediction.y, variance])?,
        None => prediction.y,
    })
}

pub fn run_case(case: &Case) -> Result<(), Failed> {
    let named = if case.name.contains("legacy") {
        "legacy"
    } else {
        ""
    };
    let class = case.json["class"].as_str().unwrap_or(named);
    let config = hyper::unet(&case.json["hyper"], class)?;
    let weights = case.weights()?;
    let mut report = Report::new(case);
    for (key, sample) in case.under("weights_sample.") {
        let values = weights.get(&key).ok_or("no such weight")?.to_f32()?;
        let sample = sample.to_f32()?;
        report.compare("weights", &key, &values[..sample.len()], &sample, 0.0);
    }

    let (shape, x) = case.nhwc("in.x")?;
    let mut inputs = vec![("x", Input::F32(x)), ("t", Input::I32(case.ints("in.t")?))];
    // A network without a label table has no condition to give.
    let labelled = case.tensors.contains_key("in.cond");
    if labelled {
        inputs.push(("labels", Input::I32(case.ints("in.cond")?)));
    }
    let self_conditioned = case.tensors.contains_key("in.self_cond");
    let variants = [
        // (suffix of the results, condition, self-condition)
        ("", labelled, self_conditioned),
        ("_no_self_cond", labelled, false),
        ("_uncond", false, self_conditioned),
    ];
    for (suffix, conditional, self_condition) in variants {
        if !case.tensors.contains_key(&format!("out.y{suffix}")) {
            continue;
        }
        let mut g = Graph::new();
        let x = g.input("x", shape, DType::F32)?;
        let t = g.input("t", [shape[0]], DType::I32)?;
        let labels = g.input("labels", [shape[0]], DType::I32)?;
        let prediction = build_unet(
            &mut g,
            &config,
            NetworkInputs {
                x,
                t,
                labels: conditional.then_some(labels),
                // The reference concatenates x itself, whatever it is given.
                self_condition: self_condition.then_some(x),
            },
        )?;
        let y = whole_output(&mut g, &prediction)?;
        g.output("y", y);
        for (index, &value) in prediction.vertical.iter().enumerate() {
            g.output(&format!("y_ver.{index}"), value);
        }
        let main = suffix.is_empty();
        if main {
            output_activations(&mut g, case, &mut report);
        }
        let results = run(&g, &weights, &inputs)?;
        report.compare(
            "out",
            "y",
            &results["y"],
            &case.floats(&format!("out.y{suffix}"))?,
            OUTPUT,
        );
        for index in 0..prediction.vertical.len() {
            let key = if main {
                String::new()
            } else {
                suffix.to_owned()
            };
            if let Ok(want) = case.floats(&format!("out.y_ver{key}.{index}")) {
                report.compare(
                    "out",
                    "y_ver",
                    &results[&format!("y_ver.{index}")],
                    &want,
                    OUTPUT,
                );
            }
        }
        if main {
            compare_activations(&g, case, &results, &mut report)?;
        }
    }
    if case.tensors.contains_key("out.loss") {
        gradients(case, &config, &inputs, &mut report)?;
    }
    report.finish()
}

fn gradients(
    case: &Case,
    config: &medfusion::model::config::UnetConfig,
    inputs: &[(&str, Input)],
    report: &mut Report,
) -> Result<(), Failed> {
    let (shape, _) = case.nhwc("in.x")?;
    let mut g = Graph::new();
    let x = g.input("x", shape, DType::F32)?;
    let t = g.input("t", [shape[0]], DType::I32)?;
    let labels = match case.tensors.contains_key("in.cond") {
        true => Some(g.input("labels", [shape[0]], DType::I32)?),
        false => None,
    };
    let network = NetworkInputs {
        x,
        t,
        labels,
        // As for the outputs: the reference concatenates x itself.
        self_condition: case.tensors.contains_key("in.self_cond").then_some(x),
    };
    let prediction = build_unet(&mut g, config, network)?;
    let y = whole_output(&mut g, &prediction)?;
    let mut inputs = inputs.to_vec();
    let (target_shape, target) = case.nhwc("in.target")?;
    inputs.push(("target", Input::F32(target)));
    let target = g.input("target", target_shape, DType::F32)?;
    let mut loss = mean_absolute_error(&mut g, y, target)?;
    let names: Vec<String> = (0..prediction.vertical.len())
        .map(|i| format!("target_ver.{i}"))
        .collect();
    for (index, &y) in prediction.vertical.iter().enumerate() {
        let (shape, target) = case.nhwc(&format!("in.{}", names[index]))?;
        inputs.push((&names[index], Input::F32(target)));
        let target = g.input(&names[index], shape, DType::F32)?;
        let term = mean_absolute_error(&mut g, y, target)?;
        let term = g.scale(term, 0.5f32.powi(index as i32 + 1))?;
        loss = g.add(loss, term)?;
    }
    g.output("loss", loss);

    let mut wrt: Vec<(String, Value)> = g
        .parameters()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    wrt.push(("in.x".to_owned(), x));
    let values: Vec<Value> = wrt.iter().map(|&(_, value)| value).collect();
    let grads = g.gradients(loss, &values)?;
    for ((name, _), grad) in wrt.iter().zip(grads) {
        g.output(
            &format!("grad.{name}"),
            grad.ok_or("a used parameter without gradient")?,
        );
    }
    let weights = case.weights()?;
    let results = run(&g, &weights, &inputs)?;
    report.compare(
        "loss",
        "loss",
        &results["loss"],
        &case.floats("out.loss")?,
        OUTPUT,
    );

    // Gradients that are zero in exact arithmetic are rounding noise on the scale of the others.
    let floor = GRADIENT_NOISE
        * global_norm(
            results
                .iter()
                .filter(|(k, _)| k.starts_with("grad."))
                .map(|(_, v)| v.as_slice()),
        );
    for (key, want) in &case.tensors {
        let (kind, name) = match key.split_once('.') {
            Some(("grad", name)) => ("grad", name),
            Some(("grad_l2", name)) => ("grad_l2", name),
            Some(("grad_sample", name)) => ("grad_sample", name),
            _ => continue,
        };
        let want = want.to_f32()?;
        let Some(got) = results.get(&format!("grad.{name}")) else {
            // Parameters that a single-token attention never reads have a zero gradient.
            report.compare_with_floor(kind, key, &vec![0.0; want.len()], &want, 0.0, floor);
            continue;
        };
        let got = match kind {
            "grad" => got.clone(),
            "grad_sample" => got[..want.len()].to_vec(),
            _ => vec![global_norm(std::iter::once(got.as_slice())) as f32],
        };
        report.compare_with_floor(kind, key, &got, &want, GRADIENT, floor);
    }
    Ok(())
}
