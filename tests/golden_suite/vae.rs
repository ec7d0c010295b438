//! Family `vae_`: activations, posterior, reconstruction, every term of the loss, gradients, optimizer steps.

use std::collections::BTreeSet;

use libtest_mimic::Failed;
use medfusion::graph::{Graph, Value};
use medfusion::model::config::VaeConfig;
use medfusion::model::{Decoded, Moments, build_decoder, build_encoder, lpips};
use medfusion::tensor::DType;
use medfusion::train::loss::{Distance, VaeLossOptions, vae_loss};

use crate::harness::{
    Case, GRADIENT, GRADIENT_NOISE, Input, OUTPUT, Report, compare_activations, global_norm,
    output_activations, run,
};
use crate::{hyper, train};

/// The autoencoder as training runs it, its inputs already named.
pub struct Autoencoder {
    pub x: Value,
    pub target: Value,
    pub z: Value,
    pub moments: Moments,
    pub decoded: Decoded,
}

/// Adds encoder, sampling with the given noise, and decoder; the target is an input of its own.
pub fn autoencoder(
    g: &mut Graph,
    config: &VaeConfig,
    shape: [usize; 4],
    noise: [usize; 4],
) -> Result<Autoencoder, Failed> {
    let x = g.input("x", shape, DType::F32)?;
    let target = g.input("target", shape, DType::F32)?;
    let noise = g.input("noise", noise, DType::F32)?;
    let moments = build_encoder(g, config, x)?;
    let z = g.reparameterize(moments.mean, moments.logvar, noise)?;
    let decoded = build_decoder(g, config, z)?;
    Ok(Autoencoder {
        x,
        target,
        z,
        moments,
        decoded,
    })
}

/// Options of the loss that golden files call `l1`, `mse`, `l1_lpips` or `mse_lpips`.
pub fn loss_options(name: &str, kl_weight: f64) -> Result<VaeLossOptions, Failed> {
    let (pixel, perceptual) = match name.strip_suffix("_lpips") {
        Some(pixel) => (pixel, true),
        None => (name, false),
    };
    Ok(VaeLossOptions {
        pixel: match pixel {
            "l1" => Distance::L1,
            "mse" => Distance::L2,
            other => return Err(format!("unknown pixel loss '{other}'").into()),
        },
        ssim: true,
        perceptual,
        kl_weight,
        supervision_weights: Vec::new(),
    })
}

pub fn kl_weight(case: &Case) -> f64 {
    case.json["hyper"]["embedding_loss_weight"]
        .as_f64()
        .unwrap_or(1e-6)
}

pub fn run_case(case: &Case) -> Result<(), Failed> {
    if case.tensors.keys().any(|key| key.starts_with("out.step1.")) {
        return train::run_vae_steps(case);
    }
    let config = hyper::vae(&case.json["hyper"])?;
    let weights = case.weights()?;
    let mut report = Report::new(case);
    for (key, sample) in case.under("weights_sample.") {
        let values = weights.get(&key).ok_or("no such weight")?.to_f32()?;
        let sample = sample.to_f32()?;
        report.compare("weights", &key, &values[..sample.len()], &sample, 0.0);
    }

    let (shape, x) = case.nhwc("in.x")?;
    let (noise_shape, noise) = case.nhwc("in.noise")?;
    let inputs = [
        ("x", Input::F32(x.clone())),
        ("target", Input::F32(x)),
        ("noise", Input::F32(noise)),
    ];

    let mut g = Graph::new();
    let net = autoencoder(&mut g, &config, shape, noise_shape)?;
    g.output("mean", net.moments.mean);
    g.output("logvar", net.moments.logvar);
    g.output("z", net.z);
    g.output("y", net.decoded.y);
    let kl = g.gaussian_kl(net.moments.mean, net.moments.logvar)?;
    g.output("kl", kl);
    for (index, &y) in net.decoded.vertical.iter().enumerate() {
        g.output(&format!("y_ver.{index}"), y);
        let &[_, height, width, _] = g.shape(y) else {
            return Err("a vertical output is no image".into());
        };
        let target = g.resize_nearest(net.target, height, width)?;
        g.output(&format!("target.ver{index}"), target);
    }
    for (name, distance) in [("L1", Distance::L1), ("L2", Distance::L2)] {
        let value = g.mean_pixel_loss(distance, net.decoded.y, net.target)?;
        g.output(&format!("metric.{name}"), value);
    }
    let ssim = g.ssim_metric(net.decoded.y, net.target)?;
    let ssim = g.sum_to(ssim, &[])?;
    let ssim = g.scale(ssim, 1.0 / shape[0] as f32)?;
    g.output("metric.ssim", ssim);
    output_activations(&mut g, case, &mut report);
    let results = run(&g, &weights, &inputs)?;
    for (key, want) in &case.tensors {
        let group = if key.starts_with("out.metric.") {
            "metric"
        } else if key.starts_with("in.target.") {
            "target"
        } else {
            "out"
        };
        let name = match key.strip_prefix("in.target.") {
            Some(ver) => format!("target.{ver}"),
            None => match key.strip_prefix("out.") {
                // The decoder on its own is the decoder inside the whole.
                Some("decode") => "y".to_owned(),
                Some(name) if !name.starts_with("loss") => name.to_owned(),
                _ => continue,
            },
        };
        let got = results
            .get(&name)
            .ok_or_else(|| format!("what is {key}?"))?;
        let want = want.to_f32()?;
        if name == "metric.ssim" {
            report.compare_ssim(group, key, got, &want);
        } else {
            report.compare(group, key, got, &want, OUTPUT);
        }
    }
    compare_activations(&g, case, &results, &mut report)?;

    let names: BTreeSet<&str> = case
        .tensors
        .keys()
        .filter_map(|key| key.strip_prefix("out.loss.")?.strip_suffix(".total"))
        .collect();
    for name in &names {
        loss(case, &config, name, &inputs, &mut report)?;
    }
    // Full-size files hold one loss, and samples of its gradients.
    if case.tensors.contains_key("out.loss_mse_ssim_kl") {
        let results = loss(case, &config, "mse", &inputs, &mut report)?;
        let want = case.floats("out.loss_mse_ssim_kl")?;
        report.compare("loss", "total", &results["loss.mse.total"], &want, OUTPUT);
    }
    report.finish()
}

type Results = std::collections::HashMap<String, Vec<f32>>;

/// The loss `name`: its terms and its gradients.
fn loss(
    case: &Case,
    config: &VaeConfig,
    name: &str,
    inputs: &[(&str, Input)],
    report: &mut Report,
) -> Result<Results, Failed> {
    let options = loss_options(name, kl_weight(case))?;
    let mut weights = case.weights()?;
    if options.perceptual {
        weights.extend(crate::lpips::weights());
    }
    let (shape, _) = case.nhwc("in.x")?;
    let (noise_shape, _) = case.nhwc("in.noise")?;
    let mut g = Graph::new();
    let net = autoencoder(&mut g, config, shape, noise_shape)?;
    let loss = vae_loss(&mut g, &options, net.moments, &net.decoded, net.target)?;
    g.output(&format!("loss.{name}.total"), loss.total);
    g.output(&format!("loss.{name}.rec"), loss.reconstruction);
    for (index, terms) in loss.outputs.iter().enumerate() {
        let place = match index {
            0 => format!("loss.{name}.main"),
            _ => format!("loss.{name}.ver{}", index - 1),
        };
        g.output(&format!("{place}.pixel_sum_over_B"), terms.pixel);
        if let Some([term, each]) = terms.ssim {
            g.output(&format!("{place}.ssim_term"), term);
            g.output(&format!("{place}.ssim_per_sample"), each);
        }
        if let Some([term, each]) = terms.perceptual {
            g.output(&format!("{place}.lpips_term"), term);
            g.output(&format!("{place}.lpips_per_sample"), each);
        }
    }
    let mut wrt: Vec<(String, Value)> = g
        .parameters()
        .filter(|(name, _)| !name.starts_with(lpips::PATH))
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    // The target is an input of its own: the reference's gradient of the image leaves it out too.
    wrt.push(("in.x".to_owned(), net.x));
    let values: Vec<Value> = wrt.iter().map(|&(_, value)| value).collect();
    let grads = g.gradients(loss.total, &values)?;
    for ((parameter, _), grad) in wrt.iter().zip(grads) {
        let grad = grad.ok_or_else(|| format!("{parameter} has no gradient"))?;
        g.output(&format!("grad.{name}.{parameter}"), grad);
    }
    let results = run(&g, &weights, inputs)?;
    for (key, want) in &case.tensors {
        if let Some(key) = key.strip_prefix("out.")
            && key.starts_with(&format!("loss.{name}."))
        {
            let got = results.get(key).ok_or_else(|| format!("what is {key}?"))?;
            let want = want.to_f32()?;
            if key.ends_with(".ssim_per_sample") {
                report.compare_ssim("loss", key, got, &want);
            } else {
                report.compare("loss", key, got, &want, OUTPUT);
            }
        }
    }
    let floor = GRADIENT_NOISE
        * global_norm(
            results
                .iter()
                .filter(|(key, _)| key.starts_with("grad."))
                .map(|(_, values)| values.as_slice()),
        );
    for (key, want) in &case.tensors {
        let want = want.to_f32()?;
        if let Some(parameter) = key.strip_prefix(&format!("grad.{name}.")) {
            let Some(got) = results.get(&format!("grad.{name}.{parameter}")) else {
                report.check(false, format!("no gradient of {parameter}"));
                continue;
            };
            report.compare_with_floor("grad", key, got, &want, GRADIENT, floor);
        } else if let Some(parameter) = key.strip_prefix("grad_sample.") {
            let got = &results[&format!("grad.{name}.{parameter}")][..want.len()];
            report.compare_with_floor("grad_sample", key, got, &want, GRADIENT, floor);
        } else if let Some(parameter) = key.strip_prefix("grad_l2.") {
            let got = &results[&format!("grad.{name}.{parameter}")];
            let norm = global_norm(std::iter::once(got.as_slice())) as f32;
            report.compare_with_floor("grad_l2", key, &[norm], &want, GRADIENT, floor);
        }
    }
    Ok(results)
}
