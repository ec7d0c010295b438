//! The noise schedule of a checkpoint: stated by its hyper-parameters, or recognised in its table of betas.

use serde_json::Value;

use super::Problem;
use super::facts::{Fact, Facts, Parts};
use crate::diffusion::{BetaSchedule, NoiseConfig};

/// Two tables closer than this, relative to the value, are the same: betas are stored as f32.
const TOLERANCE: f64 = 1e-6;

/// Finds the schedule. The table wins over the hyper-parameters, as it does when the reference loads a state dict.
pub(super) fn infer(
    parts: &Parts,
    pipeline: Option<&Value>,
    facts: &Facts,
    missing: &mut Vec<Fact>,
) -> Result<Option<NoiseConfig>, Problem> {
    if let Some(noise) = &facts.noise {
        return Ok(Some(noise.clone()));
    }
    let stated = pipeline.and_then(|pipeline| stated(&pipeline["noise_scheduler_kwargs"]));
    if let Some(betas) = parts.noise.get("betas") {
        let betas = betas
            .to_f32()
            .map_err(|error| Problem::tensor("noise_scheduler.betas", error))?;
        if let Some(noise) = stated.filter(|noise| reproduces(noise, &betas)) {
            return Ok(Some(noise));
        }
        return Ok(Some(recognise_betas(&betas)));
    }
    if stated.is_some() {
        return Ok(stated);
    }
    if !facts.published {
        missing.push(Fact::Schedule);
    }
    Ok(Some(published()))
}

/// The schedule of the published models.
fn published() -> NoiseConfig {
    NoiseConfig {
        timesteps: 1000,
        betas: BetaSchedule::ScaledLinear {
            beta_start: 0.002,
            beta_end: 0.02,
        },
    }
}

/// The schedule of `{'timesteps': …, 'beta_start': …, 'beta_end': …, 'schedule_strategy': …}` if it says everything.
fn stated(kwargs: &Value) -> Option<NoiseConfig> {
    let timesteps = usize::try_from(kwargs["timesteps"].as_u64()?).ok()?;
    let range = || Some((kwargs["beta_start"].as_f64()?, kwargs["beta_end"].as_f64()?));
    let betas = match kwargs["schedule_strategy"].as_str()? {
        "linear" => {
            let (beta_start, beta_end) = range()?;
            BetaSchedule::Linear {
                beta_start,
                beta_end,
            }
        }
        "scaled_linear" => {
            let (beta_start, beta_end) = range()?;
            BetaSchedule::ScaledLinear {
                beta_start,
                beta_end,
            }
        }
        "cosine" => BetaSchedule::Cosine,
        _ => return None,
    };
    let noise = NoiseConfig { timesteps, betas };
    noise.validate().ok()?;
    Some(noise)
}

fn reproduces(noise: &NoiseConfig, betas: &[f32]) -> bool {
    noise.timesteps == betas.len()
        && noise.betas().iter().zip(betas).all(|(&computed, &stored)| {
            let stored = f64::from(stored);
            (computed - stored).abs() <= TOLERANCE * stored.abs()
        })
}

/// The strategy that gives `betas`, or the betas themselves if none does.
pub fn recognise_betas(betas: &[f32]) -> NoiseConfig {
    let timesteps = betas.len();
    // The shortest decimal that rounds to the stored f32 is what a person wrote: 0.002, not 0.0020000000949949026.
    let decimal = |beta: Option<&f32>| {
        beta.and_then(|beta| beta.to_string().parse().ok())
            .unwrap_or(0.0)
    };
    let (beta_start, beta_end) = (decimal(betas.first()), decimal(betas.last()));
    let candidates = [
        BetaSchedule::ScaledLinear {
            beta_start,
            beta_end,
        },
        BetaSchedule::Linear {
            beta_start,
            beta_end,
        },
        BetaSchedule::Cosine,
    ];
    for betas_of in candidates {
        let noise = NoiseConfig {
            timesteps,
            betas: betas_of,
        };
        if reproduces(&noise, betas) {
            return noise;
        }
    }
    NoiseConfig {
        timesteps,
        betas: BetaSchedule::Given {
            betas: betas.to_vec(),
        },
    }
}
