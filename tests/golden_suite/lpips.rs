//! Family `lpips_`: features, distance per layer, total and gradient of the perceptual loss, with hashed weights.

use libtest_mimic::Failed;
use medfusion::graph::Graph;
use medfusion::model::lpips;
use medfusion::tensor::DType;

use crate::harness::{Case, GRADIENT, Input, OUTPUT, Report, run};
use crate::vae::hashed_vgg;

pub fn run_case(case: &Case) -> Result<(), Failed> {
    let mut report = Report::new(case);
    let weights = hashed_vgg();
    for (key, sample) in case.under("weights_sample.") {
        let values = weights.get(&key).ok_or("no such weight")?.to_f32()?;
        let sample = sample.to_f32()?;
        report.compare("weights", &key, &values[..sample.len()], &sample, 0.0);
    }
    if let Some(known) = case.json["names_and_shapes"].as_object() {
        let all = known.len() == weights.len() && known.keys().all(|k| weights.contains_key(k));
        report.check(all, "the network has other parameters than the file names");
    }

    let (shape, prediction) = case.nhwc("in.pred")?;
    let (_, target) = case.nhwc("in.target")?;
    let inputs = [
        ("pred", Input::F32(prediction)),
        ("target", Input::F32(target)),
    ];
    let mut g = Graph::new();
    let prediction = g.input("pred", shape, DType::F32)?;
    let target = g.input("target", shape, DType::F32)?;
    let total = g.scope(lpips::PATH, |g| lpips::lpips(g, prediction, target))?;
    let loss = g.sum_to(total, &[])?;
    let grad = g.gradients(loss, &[prediction])?[0].ok_or("no gradient")?;
    g.output("out.lpips", total);
    g.output("grad.pred", grad);
    let mut maps = Vec::new();
    for key in case.tensors.keys() {
        let name = match key.split_once('.') {
            Some(("out", name)) if name != "lpips" => name,
            Some(("act", name)) => name.split('.').next().unwrap_or(name),
            _ => continue,
        };
        let value = g
            .labelled(&format!("{}.{name}", lpips::PATH))
            .ok_or_else(|| format!("what is {key}?"))?;
        g.output(key, value);
        if let &[n, h, w, c] = g.shape(value) {
            maps.push((key, [n, c, h, w]));
        }
    }
    let results = run(&g, &weights, &inputs)?;
    for key in case.tensors.keys().filter(|key| key.starts_with("out.")) {
        report.compare("out", key, &results[key], &case.floats(key)?, OUTPUT);
    }
    for (key, [_, channels, height, width]) in maps {
        let planes = results[key].chunks_exact(height * width);
        let got: Vec<f32> = if key.ends_with(".mean_c") {
            planes
                .map(|plane| {
                    let sum: f64 = plane.iter().map(|&v| f64::from(v)).sum();
                    (sum / plane.len() as f64) as f32
                })
                .collect()
        } else {
            let &[_, c, h, w] = case.tensor(key)?.shape() else {
                return Err(format!("{key} is no corner of a map").into());
            };
            planes
                .enumerate()
                .filter(|(plane, _)| plane % channels < c)
                .flat_map(|(_, plane)| plane.chunks_exact(width).take(h))
                .flat_map(|row| row[..w].to_vec())
                .collect()
        };
        report.compare("act", key, &got, &case.floats(key)?, OUTPUT);
    }
    let want = case.floats("grad.pred")?;
    report.compare("grad", "pred", &results["grad.pred"], &want, GRADIENT);
    report.finish()
}
