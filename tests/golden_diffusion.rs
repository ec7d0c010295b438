//! Noise schedules, time-step grids and sampler updates against the reference implementation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use medfusion::device::cpu::CpuDevice;
use medfusion::diffusion::{
    HostValues, Method, NoiseSchedule, NoiseSource, RunInputs, SamplerTable, SamplingSpec,
    ancestral_timesteps, ddim_timesteps, names, sampling_step,
};
use medfusion::graph::{Graph, Plan, PlanOptions};
use medfusion::model::config::{BetaSchedule, NoiseConfig, Objective};
use medfusion::tensor::{DType, Tensor, TensorMap};
use safetensors::SafeTensors;
use serde_json::Value as Json;

/// One golden file with its JSON.
struct Case {
    name: String,
    tensors: BTreeMap<String, Tensor>,
    json: Json,
}

impl Case {
    fn f32(&self, name: &str) -> Vec<f32> {
        self.tensors[name].to_f32().unwrap().into_owned()
    }

    fn i64(&self, name: &str) -> Vec<i64> {
        self.tensors[name].to_i64().unwrap()
    }
}

fn folder() -> Option<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    match std::env::var_os("MEDFUSION_GOLDEN") {
        Some(folder) => Some(folder.into()),
        None => [
            manifest.join("../shared/golden"),
            manifest.join("tests/golden"),
        ]
        .into_iter()
        .find(|folder| folder.is_dir()),
    }
}

/// The cases whose name starts with `family`; none, said aloud, where there is no golden data.
fn cases(family: &str) -> Vec<Case> {
    let Some(folder) = folder() else {
        eprintln!("no golden data: set MEDFUSION_GOLDEN to its folder");
        return Vec::new();
    };
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let stem = name.strip_suffix(".safetensors")?;
            stem.starts_with(family).then(|| stem.to_owned())
        })
        .collect();
    names.sort();
    names
        .into_iter()
        .map(|name| {
            let bytes = std::fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
            let file = SafeTensors::deserialize(&bytes).unwrap();
            let tensors = file.tensors().into_iter().map(|(key, view)| {
                let dtype = match view.dtype() {
                    safetensors::Dtype::F32 => DType::F32,
                    safetensors::Dtype::F64 => DType::F64,
                    safetensors::Dtype::I64 => DType::I64,
                    other => panic!("{name}: {key} is {other:?}"),
                };
                let tensor = Tensor::from_bytes(dtype, view.shape(), view.data().to_vec());
                (key, tensor.unwrap())
            });
            let tensors = tensors.collect();
            let json = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
            let json = serde_json::from_str(&json).unwrap();
            Case {
                name,
                tensors,
                json,
            }
        })
        .collect()
}

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

/// Norm-wise relative error; two arrays of zeros agree.
fn relative_error(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let square = |x: f64| x * x;
    let difference: f64 = got
        .iter()
        .zip(want)
        .map(|(&a, &b)| square(f64::from(a) - f64::from(b)))
        .sum();
    let norm: f64 = want.iter().map(|&v| square(f64::from(v))).sum();
    assert!(difference.is_finite() && norm.is_finite());
    match difference {
        0.0 => 0.0,
        _ => (difference / norm.max(1e-60)).sqrt(),
    }
}

/// Remembers the worst error of a case and fails beyond `tolerance`.
struct Report {
    case: String,
    tolerance: f64,
    worst: (f64, String),
    compared: usize,
}

impl Report {
    fn new(case: &str, tolerance: f64) -> Self {
        Self {
            case: case.to_owned(),
            tolerance,
            worst: (0.0, String::new()),
            compared: 0,
        }
    }

    fn compare(&mut self, what: &str, got: &[f32], want: &[f32]) {
        let error = relative_error(got, want);
        assert!(
            error <= self.tolerance,
            "{} {what}: relative error {error:e}",
            self.case
        );
        self.compared += 1;
        if error >= self.worst.0 {
            self.worst = (error, what.to_owned());
        }
    }

    fn print(self) {
        assert!(self.compared > 0, "{}: nothing was compared", self.case);
        println!(
            "{} -> {:.1e} ({}, worst of {})",
            self.case, self.worst.0, self.worst.1, self.compared
        );
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
