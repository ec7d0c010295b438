//! Family `ddim`: whole trajectories with their recorded noise, network and decoder included.

use libtest_mimic::Failed;
use medfusion::checkpoint::ModelConfig;
use medfusion::diffusion::Objective;
use medfusion::diffusion::{
    HostValues, Method, NoiseSchedule, NoiseSource, RunInputs, SamplerTable, SamplingSpec,
    TimestepSpacing, names,
};
use medfusion::graph::Graph;
use medfusion::model::build_decoder;
use medfusion::pipeline::sampling_graph;
use medfusion::tensor::{DType, TensorMap, nchw_to_nhwc, nhwc_to_nchw};
use serde_json::Value as Json;

use crate::harness::{Case, Input, Report, TRAJECTORY, load, run};
use crate::{hyper, scheduler};

/// `[K, N, C, H, W]` to `[K, N, H, W, C]`.
fn steps_nhwc(values: &[f32], [n, h, w, c]: [usize; 4]) -> Vec<f32> {
    values
        .chunks_exact((n * h * w * c).max(1))
        .flat_map(|step| nchw_to_nhwc(step, [n, c, h, w]))
        .collect()
}

pub fn run_case(case: &Case) -> Result<(), Failed> {
    // Files of time-step grids belong to the family but hold nothing else.
    if case
        .tensors
        .keys()
        .all(|key| key.starts_with("out.timesteps."))
    {
        return scheduler::run_timesteps(case);
    }
    let unet = hyper::unet(&case.json["unet"], "")?;
    let vae = match &case.json["vae"] {
        Json::Null => None,
        hyper => Some(hyper::vae(hyper)?),
    };
    // With a VAE in the file the weights carry the parts' names.
    let all = case.weights()?;
    let part = |names: &[&str]| -> TensorMap {
        let prefixed: TensorMap = all
            .iter()
            .filter_map(|(key, tensor)| {
                let name = names.iter().find_map(|name| key.strip_prefix(name))?;
                Some((name.to_owned(), tensor.clone()))
            })
            .collect();
        if prefixed.is_empty() {
            all.clone()
        } else {
            prefixed
        }
    };
    let unet_weights = part(&["unet.", "noise_estimator."]);
    let vae_weights = part(&["vae.", "latent_embedder."]);
    let noise = hyper::noise(&case.json["scheduler"])?;
    let schedule = NoiseSchedule::new(&noise)?;

    let mut report = Report::new(case);
    let settings = case.json["cases"].as_object().ok_or("no cases")?;
    for (name, setting) in settings {
        let flag = |key: &str| setting[key].as_bool();
        let objective = match setting["objective"].as_str() {
            Some("x_0") => Objective::Sample,
            _ => Objective::Noise,
        };
        let method = match flag("use_ddim") {
            Some(false) => Method::Ancestral,
            _ => Method::default(),
        };
        let steps = setting["steps"].as_u64().ok_or("no steps")? as usize;
        let scale = setting["guidance_scale"].as_f64().unwrap_or(1.0);
        let list = |key: &str| -> Vec<i32> {
            serde_json::from_value(setting[key].clone()).unwrap_or_default()
        };
        let (labels, opposite) = (list("cond"), list("un_cond"));
        let guidance = scale != 1.0 && !labels.is_empty();
        let table = SamplerTable::spaced(
            &schedule,
            method,
            TimestepSpacing::Reference,
            steps,
            scale,
            unet.learned_variance,
        )?;
        let recorded: Vec<i32> = case.ints(&format!("in.{name}.timesteps"))?;
        report.check(
            table.timesteps == recorded,
            format!("{name}: other time steps"),
        );

        let (shape, x_t) = case.nhwc(&format!("in.{name}.x_T"))?;
        let [n, h, w, c] = shape;
        let recorded = case.floats(&format!("in.{name}.noise")).unwrap_or_default();
        let config = ModelConfig {
            format: 1,
            unet: Some(unet.clone()),
            vae: vae.clone(),
            noise: Some(noise.clone()),
            objective,
            clip_x0: flag("clip_x0").unwrap_or(false),
            input_centering: false,
            image_size: None,
            class_names: Vec::new(),
        };
        let spec = SamplingSpec {
            batch: n,
            shape: vec![h, w, c],
            rows: steps,
            objective,
            clip_x0: config.clip_x0,
            learned_variance: unet.learned_variance,
            guidance,
            labels: !labels.is_empty(),
            noise: NoiseSource::Recorded,
        };
        let (mut graph, step) = sampling_graph(&config, &spec)?;
        graph.output("x_0", step.estimates.x_0);
        graph.output("pred", step.estimates.noise);
        let mut executable = load(&graph, &unet_weights)?;
        executable.poison()?;
        let bindings = spec.bindings(&RunInputs {
            table: &table,
            x_t: &x_t,
            labels: &labels,
            opposite_labels: &opposite,
            seed: 0,
            images: &[],
            noise: &steps_nhwc(&recorded, shape),
        })?;
        for (binding, values) in bindings {
            if executable.has(binding) {
                match values {
                    HostValues::F32(values) => executable.write(binding, &values)?,
                    HostValues::I32(values) => executable.write_i32(binding, &values)?,
                }
            }
        }
        let len = n * h * w * c;
        let trajectory = |what: &str| case.floats(&format!("act.{name}.{what}")).ok();
        let (want_x_t, want_x_0, want_pred) =
            (trajectory("x_t"), trajectory("x_0"), trajectory("pred"));
        let mut compare = |what: &str, step: usize, got: &[f32], want: &Option<Vec<f32>>| {
            if let Some(want) = want {
                let got = nhwc_to_nchw(got, shape);
                let name = format!("{name} step {step}");
                report.compare(what, &name, &got, &want[step * len..][..len], TRAJECTORY);
            }
        };
        for step in 0..steps {
            compare("x_t", step, &executable.read(names::X_T)?, &want_x_t);
            executable.run()?;
            compare("x_0", step, &executable.output("x_0")?, &want_x_0);
            compare("pred", step, &executable.output("pred")?, &want_pred);
        }
        let latent = executable.read(names::X_T)?;
        if let Ok(want) = case.floats(&format!("act.{name}.latent_final")) {
            report.compare(
                "latent",
                name,
                &nhwc_to_nchw(&latent, shape),
                &want,
                TRAJECTORY,
            );
        }
        let image = match &vae {
            Some(vae) => {
                let mut g = Graph::new();
                let z = g.input("z", shape, DType::F32)?;
                let decoded = build_decoder(&mut g, vae, z)?;
                g.output("image", decoded.y);
                run(&g, &vae_weights, &[("z", Input::F32(latent))])?
                    .remove("image")
                    .ok_or("no image")?
            }
            None => nhwc_to_nchw(&latent, shape),
        };
        report.compare(
            "final",
            name,
            &image,
            &case.floats(&format!("out.{name}.final"))?,
            TRAJECTORY,
        );
        if let Ok(want) = case.floats(&format!("out.{name}.image01")) {
            let got: Vec<f32> = image
                .iter()
                .map(|v| ((v + 1.0) / 2.0).clamp(0.0, 1.0))
                .collect();
            report.compare("image", name, &got, &want, TRAJECTORY);
        }
        if let Ok(tensor) = case.tensor(&format!("out.{name}.final_f64")) {
            let want: Vec<f32> = tensor.to_f64()?.iter().map(|&v| v as f32).collect();
            report.compare("final_f64", name, &image, &want, TRAJECTORY);
        }
    }
    report.finish()
}
