//! The checkpoint that the reference implementation trained on real blood cells: what it samples
//! from recorded noise, and how well it reconstructs held-out images.
//!
//! Both need files beside the checkout (`../shared`); without them the tests say that they skip,
//! and fail under CI.

use std::path::PathBuf;

use medfusion::checkpoint::{Facts, Model, read_safetensors};
use medfusion::data::{Pixels, Transform};
use medfusion::device::{Device, DeviceChoice};
use medfusion::diffusion::{
    HostValues, Method, NoiseSchedule, NoiseSource, RunInputs, SamplerTable, SamplingSpec, names,
};
use medfusion::graph::Graph;
use medfusion::model::build_decoder;
use medfusion::pipeline::{Autoencoder, psnr_db, sampling_graph};
use medfusion::tensor::{DType, nchw_to_nhwc};

use crate::shared::shared;

fn reference() -> Option<(PathBuf, Model)> {
    let folder = shared("reference")?;
    // The file does not say how its autoencoder was built; its README does.
    let overrides = Facts {
        vae_norm_groups: Some(8),
        vae_strides: Some(vec![1, 2, 2]),
        image_size: Some([64, 64]),
        ..Facts::default()
    };
    let model = Model::open_with(folder.join("cells64.ckpt"), &overrides).unwrap();
    Some((folder, model))
}

/// Images from the recorded noise, within 2/255 of the reference's everywhere.
#[test]
fn recorded_noise_gives_the_reference_images() {
    let Some((folder, model)) = reference() else {
        return;
    };
    let expected = read_safetensors(folder.join("expected_samples.safetensors"))
        .unwrap()
        .tensors;
    let device = Device::builder().choice(DeviceChoice::Cpu).open().unwrap();
    let config = &model.config;
    let schedule = NoiseSchedule::new(config.noise.as_ref().unwrap()).unwrap();
    for (case, steps, scale) in [("ddim150", 150, 1.0), ("ddim50_guided", 50, 2.0)] {
        let get = |key: &str| &expected[&format!("in.{case}.{key}")];
        let &[n, c, h, w] = get("x_T").shape() else {
            panic!("x_T is no batch of maps")
        };
        let to_nhwc = |values: &[f32]| -> Vec<f32> {
            let steps = values.chunks_exact(n * c * h * w);
            steps
                .flat_map(|step| nchw_to_nhwc(step, [n, c, h, w]))
                .collect()
        };
        let x_t = to_nhwc(&get("x_T").to_f32().unwrap());
        let noise = to_nhwc(&get("noise").to_f32().unwrap());
        let labels: Vec<i32> = get("label")
            .to_i64()
            .unwrap()
            .iter()
            .map(|&label| label as i32)
            .collect();

        let table = SamplerTable::new(&schedule, Method::default(), steps, scale, false).unwrap();
        let spec = SamplingSpec {
            batch: n,
            shape: vec![h, w, c],
            rows: steps,
            objective: config.objective,
            clip_x0: config.clip_x0,
            learned_variance: false,
            guidance: scale != 1.0,
            labels: true,
            noise: NoiseSource::Recorded,
        };
        let (graph, _) = sampling_graph(config, &spec).unwrap();
        let mut walk = device.load(device.compile(&graph), &model.unet).unwrap();
        let run = RunInputs {
            table: &table,
            x_t: &x_t,
            labels: &labels,
            opposite_labels: &[],
            seed: 0,
            images: &[],
            noise: &noise,
        };
        for (name, values) in spec.bindings(&run).unwrap() {
            match values {
                _ if !walk.has(name) => {}
                HostValues::F32(values) => walk.write(name, &values).unwrap(),
                HostValues::I32(values) => walk.write_i32(name, &values).unwrap(),
            }
        }
        for _ in 0..steps {
            walk.run().unwrap();
        }
        let mut graph = Graph::new();
        let z = graph.input("z", [n, h, w, c], DType::F32).unwrap();
        let decoded = build_decoder(&mut graph, config.vae.as_ref().unwrap(), z).unwrap();
        graph.output("image", decoded.y);
        let mut decoder = device.load(device.compile(&graph), &model.vae).unwrap();
        decoder.write("z", &walk.read(names::X_T).unwrap()).unwrap();
        decoder.run().unwrap();
        let got = decoder.output("image").unwrap();

        let want = &expected[&format!("out.{case}.image")];
        let &[n, c, h, w] = want.shape() else {
            panic!("no batch of images")
        };
        let want = nchw_to_nhwc(&want.to_f32().unwrap(), [n, c, h, w]);
        // Images in [-1, 1] span 255 levels over 2, after the clamp that export applies.
        let worst = got
            .iter()
            .zip(&want)
            .map(|(g, w)| (g.clamp(-1.0, 1.0) - w.clamp(-1.0, 1.0)).abs() * 127.5)
            .fold(0.0, f32::max);
        println!("{case} → largest difference {worst:.4} of 255 levels");
        assert!(worst <= 2.0, "{case}: {worst} levels of 255");
    }
}

/// Held-out images come back as well as the reference says.
#[test]
fn reconstructions_reach_the_reference_psnr() {
    let (Some((folder, model)), Some(data)) = (reference(), shared("data/blood-cells-64/test"))
    else {
        return;
    };
    let text = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
    let device = Device::builder().choice(DeviceChoice::Cpu).open().unwrap();
    let mut autoencoder = Autoencoder::round_trip(&model, &device, 8, [64, 64]).unwrap();
    let transform = Transform::new([64, 64], 3).unwrap();
    let mut all = Vec::new();
    for class in ["platelets", "rbc", "wbc"] {
        let mut files: Vec<PathBuf> = std::fs::read_dir(data.join(class))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        let mut psnrs = Vec::new();
        for group in files.chunks(8) {
            let images: Vec<Vec<f32>> = group
                .iter()
                .map(|file| transform.apply(Pixels::decode(&std::fs::read(file).unwrap()).unwrap()))
                .collect();
            let slices: Vec<&[f32]> = images.iter().map(Vec::as_slice).collect();
            psnrs.extend(
                autoencoder
                    .reconstruct(&slices)
                    .unwrap()
                    .iter()
                    .map(|r| psnr_db(r.mse)),
            );
        }
        let mean = psnrs.iter().sum::<f64>() / psnrs.len() as f64;
        let want = expected[class]["psnr_mean_db"].as_f64().unwrap();
        println!(
            "{class}: {} images, {mean:.3} dB, the reference {want:.3} dB",
            psnrs.len()
        );
        assert_eq!(Some(psnrs.len() as u64), expected[class]["n"].as_u64());
        // The reference's figure is rounded to 0.001 dB.
        assert!(
            (mean - want).abs() < 0.005,
            "{class}: {mean} dB, expected {want} dB"
        );
        all.extend(psnrs);
    }
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    assert!(
        (mean - expected["all"].as_f64().unwrap()).abs() < 0.01,
        "{mean} dB over all images"
    );
}

/// The first posterior means and reconstructions of each class, element by element.
#[test]
fn posterior_means_match_the_reference() {
    let (Some((folder, model)), Some(data)) = (reference(), shared("data/blood-cells-64/test"))
    else {
        return;
    };
    let expected = read_safetensors(folder.join("expected_reconstructions.safetensors"))
        .unwrap()
        .tensors;
    let device = Device::builder().choice(DeviceChoice::Cpu).open().unwrap();
    let mut autoencoder = Autoencoder::round_trip(&model, &device, 4, [64, 64]).unwrap();
    let transform = Transform::new([64, 64], 3).unwrap();
    let mut compared = 0;
    for (key, want) in &expected {
        let Some((what, class)) = ["platelets", "rbc", "wbc"].iter().find_map(|class| {
            let rest = key.replace(class, "");
            (rest != *key).then_some((rest, *class))
        }) else {
            continue;
        };
        let &[n, c, h, w] = want.shape() else {
            continue;
        };
        let mut files: Vec<PathBuf> = std::fs::read_dir(data.join(class))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        let images: Vec<Vec<f32>> = files[..n]
            .iter()
            .map(|file| transform.apply(Pixels::decode(&std::fs::read(file).unwrap()).unwrap()))
            .collect();
        let slices: Vec<&[f32]> = images.iter().map(Vec::as_slice).collect();
        let results = autoencoder.reconstruct(&slices).unwrap();
        let is_latent = c == model.config.vae.as_ref().unwrap().latent_channels;
        let got: Vec<f32> = results
            .iter()
            .flat_map(|r| {
                if is_latent {
                    r.mean.clone()
                } else {
                    r.pixels.clone()
                }
            })
            .collect();
        let mut want = nchw_to_nhwc(&want.to_f32().unwrap(), [n, c, h, w]);
        if !is_latent {
            want.iter_mut().for_each(|v| *v = v.clamp(-1.0, 1.0));
        }
        let difference: f64 = got
            .iter()
            .zip(&want)
            .map(|(g, w)| f64::from(g - w).powi(2))
            .sum();
        let scale: f64 = want.iter().map(|&w| f64::from(w).powi(2)).sum();
        let error = (difference / scale).sqrt();
        println!("{what} {class} → {error:.1e}");
        assert!(error < 1e-4, "{key}: {error:e}");
        compared += 1;
    }
    assert!(
        compared > 0,
        "nothing to compare in expected_reconstructions.safetensors"
    );
}
