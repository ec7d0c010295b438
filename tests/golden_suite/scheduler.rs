//! Families `scheduler_` and `ddim_timesteps`: tables, estimates and time-step grids.

use libtest_mimic::Failed;
use medfusion::diffusion::{NoiseSchedule, ddim_timesteps};

use crate::harness::{Case, Report, TABLE};
use crate::hyper;

/// Buffers element by element, and every estimate function, of one schedule.
pub fn run_case(case: &Case) -> Result<(), Failed> {
    let schedule = NoiseSchedule::new(&hyper::noise(&case.json["hyper"])?)?;
    let mut report = Report::new(case);
    for (name, got) in schedule.buffers() {
        let want = case.floats(&format!("buf.{name}"))?;
        report.compare("buf", name, got, &want, TABLE);
        for (t, (got, want)) in got.iter().zip(&want).enumerate() {
            let error = f64::from((got - want).abs());
            let close = error <= TABLE * f64::from(want.abs());
            report.check(close, format!("{name}[{t}]: {got}, not {want}"));
        }
    }
    let known = case.tensors.keys().filter(|key| key.starts_with("buf."));
    // timesteps_array counts 0..T.
    let all = known.count() == schedule.buffers().len() + 1;
    report.check(all, "the file has other buffers than the schedule");
    let steps: Vec<i64> = (0..schedule.timesteps() as i64).collect();
    let counted = case.tensor("buf.timesteps_array")?.to_i64()? == steps;
    report.check(counted, "buf.timesteps_array does not count the time steps");

    let (x_0, x_final) = (case.floats("in.x_0")?, case.floats("in.x_T")?);
    let (x_t, noise) = (case.floats("in.x_t")?, case.floats("in.noise")?);
    let scale = case.floats("in.var_scale")?;
    let t = case.tensor("in.t")?.to_i64()?;
    let t_oob = case.tensor("in.t_oob")?.to_i64()?;
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
                    other => return Err(format!("variance scale {other}").into()),
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
                    other => return Err(format!("posterior step {other}").into()),
                }
            }
            _ => return Err(format!("what is '{key}'?").into()),
        };
        report.compare("out", what, &got, &case.floats(key)?, TABLE);
    }
    report.finish()
}

/// The grids of all step counts, exactly.
pub fn run_timesteps(case: &Case) -> Result<(), Failed> {
    let timesteps = case.json["timesteps"].as_u64().unwrap_or(1000) as usize;
    let mut grids = 0;
    for (key, want) in &case.tensors {
        let steps = key.rsplit('.').next().unwrap_or_default().parse()?;
        let grid: Vec<i64> = ddim_timesteps(timesteps, steps)
            .into_iter()
            .map(i64::from)
            .collect();
        if grid != want.to_i64()? {
            return Err(format!("the grid of {steps} steps differs").into());
        }
        grids += 1;
    }
    println!("{} → {grids} grids equal", case.name);
    if grids == 0 {
        Err("no grids".into())
    } else {
        Ok(())
    }
}
