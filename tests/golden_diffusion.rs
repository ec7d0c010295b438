//! Noise schedules, time-step grids and sampler updates against the reference implementation.

mod support;

use medfusion::device::cpu::CpuDevice;
use medfusion::diffusion::{
    HostValues, Method, NoiseSchedule, NoiseSource, RunInputs, SamplerTable, SamplingSpec,
    ancestral_timesteps, ddim_timesteps, names, sampling_step,
};
use medfusion::graph::{Graph, Plan, PlanOptions};
use medfusion::model::config::{BetaSchedule, NoiseConfig, Objective};
use medfusion::tensor::{DType, TensorMap};
use serde_json::Value as Json;

use support::{Report, cases};

fn noise_config(hyper: &Json) -> NoiseConfig {
    let number = |key: &str| hyper[key].as_f64().unwrap();
    let betas = match hyper["schedule_strategy"].as_str().unwrap() {
        "linear" => BetaSchedule::Linear {
            beta_start: number("beta_start"),
            beta_end: number("beta_end"),
        },
        "scaled_linear" => BetaSchedule::ScaledLinear {
            beta_start: number("beta_start"),
            beta_end: number("beta_end"),
        },
        "cosine" => BetaSchedule::Cosine,
        other => panic!("schedule {other}"),
    };
    NoiseConfig {
        timesteps: number("timesteps") as usize,
        betas,
    }
}

#[test]
fn schedules_and_estimates() {
    for case in cases("scheduler_") {
        let schedule = NoiseSchedule::new(&noise_config(&case.json["hyper"])).unwrap();
        let mut report = Report::new(&case.name, 1e-6);
        for (name, got) in schedule.buffers() {
            let want = case.f32(&format!("buf.{name}"));
            report.compare(name, got, &want);
            for (t, (got, want)) in got.iter().zip(&want).enumerate() {
                let error = (got - want).abs();
                assert!(error <= 1e-6 * want.abs(), "{name}[{t}]: {got}, not {want}");
            }
        }
        let known = case.tensors.keys().filter(|key| key.starts_with("buf."));
        // timesteps_array counts 0..T.
        assert_eq!(known.count(), schedule.buffers().len() + 1);
        let steps: Vec<i64> = (0..schedule.timesteps() as i64).collect();
        assert_eq!(case.i64("buf.timesteps_array"), steps);

        let [x_0, x_final, x_t, noise, scale] =
            ["in.x_0", "in.x_T", "in.x_t", "in.noise", "in.var_scale"].map(|key| case.f32(key));
        let (t, t_oob) = (case.i64("in.t"), case.i64("in.t_oob"));
        let clip = |x: &[f32]| -> Vec<f32> { x.iter().map(|v| v.clamp(-1.0, 1.0)).collect() };
        let zero = vec![0.0; t.len()];
        for key in case.tensors.keys() {
            let Some(what) = key.strip_prefix("out.") else {
                continue;
            };
            let parts: Vec<&str> = what.split('.').collect();
            let got = match parts[..] {
                ["estimate_x_t"] => schedule.estimate_x_t(&x_0, &x_final, &t),
                ["estimate_x_t_oob"] => schedule.estimate_x_t(&x_0, &x_final, &t_oob),
                ["estimate_x_0"] => schedule.estimate_x_0(&x_t, &x_final, &t, false),
                ["estimate_x_0_clip"] => schedule.estimate_x_0(&x_t, &x_final, &t, true),
                ["estimate_x_T"] => schedule.estimate_noise(&x_t, &x_0, &t, false),
                ["estimate_x_T_clip"] => schedule.estimate_noise(&x_t, &x_0, &t, true),
                ["estimate_mean_t"] => schedule.estimate_mean_t(&x_t, &x_0, &t),
                ["estimate_variance_t", log, at] => {
                    let scale = match at {
                        "0" => zero.clone(),
                        "1" => vec![1.0; t.len()],
                        "half" => vec![0.5; t.len()],
                        "tensor" => scale.clone(),
                        other => panic!("variance scale {other}"),
                    };
                    schedule.estimate_variance_t(&t, &scale, log == "log")
                }
                ["prior_from_x_0", "cold"] => schedule.cold_step(&x_t, &x_0, &t),
                [from @ ("prior_from_x_0" | "prior_from_x_T"), clipped, what] => {
                    let mut start = match from {
                        "prior_from_x_0" => x_0.clone(),
                        _ => schedule.estimate_x_0(&x_t, &x_final, &t, false),
                    };
                    if clipped == "clip1" {
                        start = clip(&start);
                    }
                    match what {
                        "x_0" => start,
                        "var_0" => schedule.posterior_step(&x_t, &start, &t, &zero, &noise),
                        "var_tensor" => schedule.posterior_step(&x_t, &start, &t, &scale, &noise),
                        other => panic!("posterior step {other}"),
                    }
                }
                _ => panic!("{}: what is {key}?", case.name),
            };
            report.compare(what, &got, &case.f32(key));
        }
        report.print();
    }
}

#[test]
fn timestep_grids() {
    for case in cases("ddim_timesteps") {
        let timesteps = case.json["timesteps"].as_u64().unwrap_or(1000) as usize;
        let mut grids = 0;
        for key in case.tensors.keys() {
            let steps = key.rsplit('.').next().unwrap().parse().unwrap();
            let want = case.i64(key);
            let grid = ddim_timesteps(timesteps, steps).into_iter();
            assert_eq!(grid.map(i64::from).collect::<Vec<_>>(), want, "{key}");
            grids += 1;
        }
        assert!(grids > 0);
        println!("{} -> {grids} grids equal", case.name);
    }
}

/// Whole walks through the sampler op on recorded predictions: every `x_t`, both estimates and the
/// end, without a network.
#[test]
fn walks_on_recorded_predictions() {
    let device = CpuDevice::new(Some(2)).unwrap();
    for case in cases("ddim") {
        if case.name.starts_with("ddim_timesteps") {
            continue;
        }
        let schedule = NoiseSchedule::new(&noise_config(&case.json["scheduler"])).unwrap();
        for (name, settings) in case.json["cases"].as_object().unwrap() {
            let Some(recorded) = case.tensors.get(&format!("act.{name}.pred")) else {
                println!("{} {name}: predictions were not recorded", case.name);
                continue;
            };
            let steps = settings["steps"].as_u64().unwrap() as usize;
            let flag = |key: &str| settings[key].as_bool().unwrap_or(false);
            let objective = match settings["objective"].as_str().unwrap_or("x_T") {
                "x_0" => Objective::Sample,
                _ => Objective::Noise,
            };
            let method = match flag("use_ddim") {
                true => Method::default(),
                false => Method::Ancestral,
            };
            // The guided prediction was recorded, so there is one prediction per sample.
            let table = SamplerTable::new(&schedule, method, steps, 1.0, false).unwrap();
            let walked: Vec<i64> = table.timesteps.iter().copied().map(i64::from).collect();
            assert_eq!(walked, case.i64(&format!("in.{name}.timesteps")));
            if method == Method::Ancestral {
                assert!(ancestral_timesteps(steps).iter().rev().eq(&table.timesteps));
            }

            // [steps, N, C, H, W]; the update does not care which axis is the innermost.
            let shape = recorded.shape().to_vec();
            let (batch, sample) = (shape[1], shape[2..].to_vec());
            let spec = SamplingSpec {
                batch,
                shape: sample.clone(),
                rows: steps,
                objective,
                clip_x0: flag("clip_x0"),
                learned_variance: false,
                guidance: false,
                labels: false,
                noise: NoiseSource::Recorded,
            };
            let mut graph = Graph::new();
            let step = sampling_step(&mut graph, &spec, |g, _| {
                let predictions = g.input("predictions", shape.clone(), DType::F32)?;
                let counter = g.state(names::COUNTER, [1], DType::I32)?;
                g.table_row(predictions, counter)
            })
            .unwrap();
            graph.output("x_0", step.estimates.x_0);
            graph.output("noise", step.estimates.noise);
            let plan = Plan::new(&graph, &device, PlanOptions::default());
            let mut exe = device.load(plan, &TensorMap::new()).unwrap();
            let predictions = match objective {
                Objective::Noise => case.f32(&format!("act.{name}.pred")),
                Objective::Sample => case.f32(&format!("act.{name}.x_0")),
            };
            exe.write("predictions", &predictions).unwrap();
            let noise_key = format!("in.{name}.noise");
            let noise = match case.tensors.contains_key(&noise_key) {
                true => case.f32(&noise_key),
                false => Vec::new(),
            };
            let run = RunInputs {
                table: &table,
                x_t: &case.f32(&format!("in.{name}.x_T")),
                labels: &[],
                opposite_labels: &[],
                seed: 0,
                images: &[],
                noise: &noise,
            };
            for (binding, values) in spec.bindings(&run).unwrap() {
                if !exe.has(binding) {
                    continue;
                }
                match values {
                    HostValues::F32(values) => exe.write(binding, &values).unwrap(),
                    HostValues::I32(values) => exe.write_i32(binding, &values).unwrap(),
                }
            }

            // f32 over up to 20 updates; x_0 = recip x_t - recip_m1 eps cancels up to two digits.
            let mut report = Report::new(&format!("{} {name}", case.name), 1e-5);
            let len = batch * sample.iter().product::<usize>();
            let [x_t, x_0, pred] =
                ["x_t", "x_0", "pred"].map(|what| case.f32(&format!("act.{name}.{what}")));
            for k in 0..steps {
                let at = k * len..(k + 1) * len;
                report.compare("x_t", exe.read(names::X_T).unwrap(), &x_t[at.clone()]);
                exe.run();
                report.compare("x_0", exe.output("x_0").unwrap(), &x_0[at.clone()]);
                report.compare("noise", exe.output("noise").unwrap(), &pred[at]);
            }
            let last = case.f32(&format!("act.{name}.latent_final"));
            report.compare("end", exe.read(names::X_T).unwrap(), &last);
            assert_eq!(exe.read_i32(names::COUNTER).unwrap(), [steps as i32]);
            report.print();
        }
    }
}
