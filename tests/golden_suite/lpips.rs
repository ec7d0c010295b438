//! Family `lpips_`: the perceptual distance with hashed VGG16 weights, its layers, its features
//! and the gradient with respect to the prediction.

use libtest_mimic::Failed;
use medfusion::checkpoint::hashed_parameters;
use medfusion::graph::Graph;
use medfusion::model::lpips;
use medfusion::tensor::{DType, TensorMap};

use crate::harness::{Case, GRADIENT, Input, OUTPUT, Report, run};

/// The network's weights under the names of a reference checkpoint, from the recipe.
pub fn weights() -> TensorMap {
    let parameters: Vec<(String, Vec<usize>)> = lpips::parameters()
        .into_iter()
        .map(|(name, shape)| (format!("{}.{name}", lpips::PATH), shape))
        .collect();
    hashed_parameters(&parameters, 2f64.sqrt())
}

pub fn run_case(case: &Case) -> Result<(), Failed> {
    let weights = weights();
    let mut report = Report::new(case);
    for (key, sample) in case.under("weights_sample.") {
        let values = weights.get(&key).ok_or("no such weight")?.to_f32()?;
        let sample = sample.to_f32()?;
        report.compare("weights", &key, &values[..sample.len()], &sample, 0.0);
    }

    let ((shape, prediction_values), (_, target_values)) =
        (case.nhwc("in.pred")?, case.nhwc("in.target")?);
    let mut g = Graph::new();
    let prediction = g.input("pred", shape, DType::F32)?;
    let target = g.input("target", shape, DType::F32)?;
    let total = g.scope(lpips::PATH, |g| lpips::lpips(g, prediction, target))?;
    let loss = g.sum_to(total, &[])?;
    let grad = g.gradients(loss, &[prediction])?[0].ok_or("the distance has no gradient")?;
    g.output("out.lpips", total);
    g.output("grad.pred", grad);
    // Features by their path relative to the network, with their shape.
    let mut features = Vec::new();
    for key in case.tensors.keys() {
        let (kind, path) = key.split_once('.').ok_or("a key without a kind")?;
        let labelled = |g: &Graph, path: &str| {
            g.labelled(&format!("{}.{path}", lpips::PATH))
                .ok_or_else(|| Failed::from(format!("what is '{key}'?")))
        };
        if kind == "act" {
            let (name, part) = path.split_once('.').ok_or("a feature without a part")?;
            let value = labelled(&g, name)?;
            features.push((key, part, g.shape(value).to_vec()));
            g.output(key, value);
        } else if kind == "out" && path != "lpips" {
            let value = labelled(&g, path)?;
            g.output(key, value);
        }
    }
    let inputs = [
        ("pred", Input::F32(prediction_values)),
        ("target", Input::F32(target_values)),
    ];
    let results = run(&g, &weights, &inputs)?;

    for (key, part, shape) in features {
        let (&[_, h, w, c], want) = (shape.as_slice(), case.tensor(key)?) else {
            return Err(format!("'{key}' is no map").into());
        };
        let planes = results[key].chunks_exact(h * w);
        let got: Vec<f32> = match (part, want.shape()) {
            ("mean_c", _) => planes
                .map(|plane| plane.iter().map(|&v| f64::from(v)).sum::<f64>())
                .map(|sum| (sum / (h * w) as f64) as f32)
                .collect(),
            ("corner", &[_, channels, rows, columns]) => planes
                .enumerate()
                .filter(|(i, _)| i % c < channels)
                .flat_map(|(_, plane)| plane.chunks_exact(w).take(rows))
                .flat_map(|row| &row[..columns])
                .copied()
                .collect(),
            _ => return Err(format!("which part is '{key}'?").into()),
        };
        report.compare("act", key, &got, &want.to_f32()?, OUTPUT);
    }
    for (key, want) in &case.tensors {
        let tolerance = match key.split('.').next() {
            Some("out") => OUTPUT,
            Some("grad") => GRADIENT,
            _ => continue,
        };
        let group = key.split('.').next().unwrap_or_default();
        report.compare(group, key, &results[key], &want.to_f32()?, tolerance);
    }
    report.finish()
}
