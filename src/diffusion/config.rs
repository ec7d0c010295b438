//! The settings of a diffusion: its noise schedule and what the network predicts, as `model.json` stores them.

use serde::{Deserialize, Serialize};
use std::str::FromStr;

use super::error::DiffusionError;

/// How betas follow from `beta_start`, `beta_end` and `timesteps` (`schedule_strategy`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "strategy", rename_all = "snake_case")]
pub enum BetaSchedule {
    /// β rises linearly from the first to the last step.
    Linear {
        /// β of the first step.
        beta_start: f64,
        /// β of the last step.
        beta_end: f64,
    },
    /// The square root of β rises linearly.
    ScaledLinear {
        /// β of the first step.
        beta_start: f64,
        /// β of the last step.
        beta_end: f64,
    },
    /// ᾱ follows a squared cosine (Nichol and Dhariwal, 2021).
    Cosine,
    /// Betas taken as given, one per time step.
    Given {
        /// β of each step, in order.
        betas: Vec<f32>,
    },
}

/// The forward process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoiseConfig {
    /// Number of time steps `T`.
    pub timesteps: usize,
    /// How β rises.
    #[serde(flatten)]
    pub betas: BetaSchedule,
}

impl NoiseConfig {
    /// The betas in f64, one per time step.
    ///
    /// linear: `linspace(b0, b1)`; scaled linear: `linspace(√b0, √b1)²`; cosine (Nichol and Dhariwal 2021,
    /// eq. 17): `1 - ᾱ(i+1)/ᾱ(i)` clipped to [0, 0.999] with `ᾱ(x) = cos²(((x/T) + s)/(1 + s) · π/2)`, s = 0.008.
    pub fn betas(&self) -> Vec<f64> {
        match &self.betas {
            BetaSchedule::Linear {
                beta_start,
                beta_end,
            } => linspace(*beta_start, *beta_end, self.timesteps),
            BetaSchedule::ScaledLinear {
                beta_start,
                beta_end,
            } => linspace(beta_start.sqrt(), beta_end.sqrt(), self.timesteps)
                .into_iter()
                .map(|root| root * root)
                .collect(),
            BetaSchedule::Cosine => {
                const S: f64 = 0.008;
                let survival = |x: usize| {
                    let angle = (x as f64 / self.timesteps as f64 + S) / (1.0 + S);
                    (angle * std::f64::consts::FRAC_PI_2).cos().powi(2)
                };
                (0..self.timesteps)
                    .map(|i| (1.0 - survival(i + 1) / survival(i)).clamp(0.0, 0.999))
                    .collect()
            }
            BetaSchedule::Given { betas } => betas.iter().map(|&b| f64::from(b)).collect(),
        }
    }

    /// Checks that there is one beta in [0, 1) per time step.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn validate(&self) -> Result<(), DiffusionError> {
        if !(1..=1_000_000).contains(&self.timesteps) {
            return Err(DiffusionError::config(
                "noise.timesteps",
                format!("expected 1 to 1000000, found {}", self.timesteps),
            ));
        }
        let betas = self.betas();
        if betas.len() != self.timesteps {
            return Err(DiffusionError::config(
                "noise.betas",
                format!(
                    "expected {} values, one per time step, found {}",
                    self.timesteps,
                    betas.len()
                ),
            ));
        }
        if let Some(step) = betas.iter().position(|b| !(0.0..1.0).contains(b)) {
            return Err(DiffusionError::config(
                "noise.betas",
                format!(
                    "beta of step {step} is {}, expected 0 <= beta < 1",
                    betas[step]
                ),
            ));
        }
        Ok(())
    }
}

impl FromStr for NoiseConfig {
    type Err = DiffusionError;

    /// Reads `scaled_linear:0.002:0.02:1000`, `linear:0.0001:0.02:1000` or `cosine:1000`: first and last beta, steps.
    fn from_str(text: &str) -> Result<Self, DiffusionError> {
        let invalid = || {
            DiffusionError::config(
                "schedule",
                format!(
                    "expected scaled_linear:FIRST:LAST:STEPS, linear:FIRST:LAST:STEPS or cosine:STEPS, found {text:?}"
                ),
            )
        };
        let beta = |text: &str| text.parse::<f64>().map_err(|_| invalid());
        let steps = |text: &str| text.parse::<usize>().map_err(|_| invalid());
        let fields: Vec<&str> = text.split(':').collect();
        let noise = match fields[..] {
            ["linear", first, last, count] => NoiseConfig {
                timesteps: steps(count)?,
                betas: BetaSchedule::Linear {
                    beta_start: beta(first)?,
                    beta_end: beta(last)?,
                },
            },
            ["scaled_linear", first, last, count] => NoiseConfig {
                timesteps: steps(count)?,
                betas: BetaSchedule::ScaledLinear {
                    beta_start: beta(first)?,
                    beta_end: beta(last)?,
                },
            },
            ["cosine", count] => NoiseConfig {
                timesteps: steps(count)?,
                betas: BetaSchedule::Cosine,
            },
            _ => return Err(invalid()),
        };
        noise.validate()?;
        Ok(noise)
    }
}

/// `count` values from `start` to `end`, computed from both ends as the reference's tensor library does.
fn linspace(start: f64, end: f64, count: usize) -> Vec<f64> {
    if count < 2 {
        return vec![start; count];
    }
    let step = (end - start) / (count - 1) as f64;
    (0..count)
        .map(|i| {
            if i < count / 2 {
                start + step * i as f64
            } else {
                end - step * (count - 1 - i) as f64
            }
        })
        .collect()
}

/// What the network predicts (`estimator_objective`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Objective {
    /// The noise `x_T`.
    #[default]
    #[serde(rename = "x_T")]
    Noise,
    /// The clean sample `x_0`.
    #[serde(rename = "x_0")]
    Sample,
}

impl FromStr for Objective {
    type Err = DiffusionError;

    /// Reads `x_T` or `x_0`.
    fn from_str(text: &str) -> Result<Self, DiffusionError> {
        match text {
            "x_T" => Ok(Objective::Noise),
            "x_0" => Ok(Objective::Sample),
            _ => Err(DiffusionError::config(
                "objective",
                format!("expected x_T or x_0, found {text:?}"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_and_objectives_are_read_from_flags() {
        let noise: NoiseConfig = "scaled_linear:0.002:0.02:1000".parse().unwrap();
        let betas = noise.betas();
        assert_eq!(betas.len(), 1000);
        assert!((betas[0] - 0.002).abs() < 1e-15 && (betas[999] - 0.02).abs() < 1e-15);
        assert_eq!(
            "cosine:50".parse::<NoiseConfig>().unwrap().betas().len(),
            50
        );
        for wrong in [
            "",
            "cosine",
            "cosine:x",
            "cosine:0",
            "linear:0.1:0.2",
            "linear:0.1:2:10",
            "linear:nan:0.2:10",
            "scaled_linear:-1:0.2:10",
            "linear:0:0.1:99999999999",
            "sigmoid:0:1:10",
        ] {
            assert!(wrong.parse::<NoiseConfig>().is_err(), "{wrong}");
        }
        assert_eq!("x_0".parse(), Ok(Objective::Sample));
        assert!("v".parse::<Objective>().is_err());
    }

    #[test]
    fn a_configuration_is_the_same_after_json() {
        let noise = NoiseConfig {
            timesteps: 3,
            betas: BetaSchedule::Given {
                betas: vec![0.1, 0.002, 1e-7],
            },
        };
        let text = serde_json::to_string(&noise).unwrap();
        assert_eq!(serde_json::from_str::<NoiseConfig>(&text).unwrap(), noise);
    }
}
