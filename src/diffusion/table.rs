//! The coefficients of a sampler's trajectory, one row per step, as [`SamplerStep`] reads them.
//!
//! [`SamplerStep`]: crate::ops::SamplerStep

use super::{
    DiffusionError, NoiseSchedule, TimestepSpacing, ancestral_timesteps, ddim_timesteps,
    even_timesteps,
};
use crate::ops::sampler::{COEFFICIENTS, Coefficient};

/// How a sampler gets from noise to a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Song, Meng, Ermon, "Denoising Diffusion Implicit Models", ICLR 2021, eq. 12 and 16:
    ///
    /// ```text
    /// sigma^2 = eta^2 (1 - A_t / A_t') (1 - A_t') / (1 - A_t)
    /// x_t'    = sqrt(A_t') x_0 + sqrt(1 - A_t' - sigma^2) eps + sigma z
    /// ```
    ///
    /// with `t'` the grid's next lower time step. `eta` = 0 is deterministic, 1 as noisy as the
    /// ancestral sampler. The reference always takes 1, because its `eta` argument raises an
    /// error on the way; 1 is therefore the default here and other values do what the paper says.
    Ddim {
        /// Share of fresh noise: 0 for none, 1 for as much as the ancestral step.
        eta: f64,
    },
    /// The posterior step of DDPM from each time step of the grid to the next, see [`NoiseSchedule::posterior`].
    /// The only method that uses a learned variance.
    Ancestral,
}

impl Default for Method {
    fn default() -> Self {
        Self::Ddim { eta: 1.0 }
    }
}

/// Time steps and coefficients from noise to sample.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerTable {
    /// The time step that each step evaluates the network at, descending.
    pub timesteps: Vec<i32>,
    /// `[steps, COEFFICIENTS]`, see [`Coefficient`].
    pub coefficients: Vec<f32>,
}

impl SamplerTable {
    /// The trajectory of `steps` evenly spaced steps under a guidance scale (1 for none). `learned_variance` says that
    /// the network predicts a variance; DDIM has no use for it, the ancestral step takes it.
    ///
    /// # Errors
    /// As [`SamplerTable::spaced`].
    pub fn new(
        schedule: &NoiseSchedule,
        method: Method,
        steps: usize,
        guidance: f64,
        learned_variance: bool,
    ) -> Result<Self, DiffusionError> {
        let spacing = TimestepSpacing::default();
        Self::spaced(schedule, method, spacing, steps, guidance, learned_variance)
    }

    /// As [`SamplerTable::new`], over the time steps of `spacing`.
    ///
    /// # Errors
    /// If `steps` is 0 or more than the schedule has, `eta` is not in [0, 1] or `guidance` is not
    /// finite.
    pub fn spaced(
        schedule: &NoiseSchedule,
        method: Method,
        spacing: TimestepSpacing,
        steps: usize,
        guidance: f64,
        learned_variance: bool,
    ) -> Result<Self, DiffusionError> {
        let most = schedule.timesteps();
        if !(1..=most).contains(&steps) {
            return Err(DiffusionError::Steps { found: steps, most });
        }
        if !guidance.is_finite() {
            return Err(DiffusionError::Guidance(guidance));
        }
        if let Method::Ddim { eta } = method
            && !(0.0..=1.0).contains(&eta)
        {
            return Err(DiffusionError::Eta(eta));
        }
        let grid = match (spacing, method) {
            (TimestepSpacing::Even, _) => even_timesteps(most, steps),
            (TimestepSpacing::Reference, Method::Ddim { .. }) => ddim_timesteps(most, steps),
            (TimestepSpacing::Reference, Method::Ancestral) => ancestral_timesteps(steps),
        };
        let mut coefficients = vec![0.0; steps * COEFFICIENTS];
        for (step, row) in coefficients.chunks_exact_mut(COEFFICIENTS).enumerate() {
            let at = steps - 1 - step;
            let t = grid[at] as usize;
            let previous = at.checked_sub(1).map(|at| grid[at] as usize);
            let posterior = schedule.posterior(t, previous);
            let mut set = |c: Coefficient, value: f32| row[c as usize] = value;
            set(Coefficient::Recip, schedule.sqrt_recip_alphas_cumprod[t]);
            set(
                Coefficient::RecipM1,
                schedule.sqrt_recipm1_alphas_cumprod[t],
            );
            set(Coefficient::Guidance, guidance as f32);
            set(Coefficient::LogPosterior, posterior.log_variance);
            set(Coefficient::LogBeta, posterior.log_beta);
            match (method, previous) {
                (Method::Ddim { eta }, Some(previous)) => {
                    // In f32 and in this order, as the reference computes them: with many steps
                    // 1 - A_t / A_t' keeps only a few digits.
                    let a = schedule.alphas_cumprod[t];
                    let next = schedule.alphas_cumprod[previous];
                    let sigma = match a < 1.0 {
                        true => eta as f32 * ((1.0 - a / next) * (1.0 - next) / (1.0 - a)).sqrt(),
                        // Betas too small for f32.
                        false => 0.0,
                    };
                    let direction = (1.0 - next - sigma * sigma).max(0.0).sqrt();
                    set(Coefficient::Sample, next.sqrt());
                    set(Coefficient::Direction, direction);
                    set(Coefficient::Noise, sigma);
                }
                _ => {
                    // The posterior step; it also ends a DDIM trajectory, where it has no noise.
                    set(Coefficient::Sample, posterior.sample);
                    set(Coefficient::Keep, posterior.keep);
                    if previous.is_some() && learned_variance {
                        set(Coefficient::Learned, 1.0);
                    } else if previous.is_some() {
                        set(Coefficient::Noise, (0.5 * posterior.log_variance).exp());
                    }
                }
            }
        }
        Ok(Self {
            timesteps: grid.into_iter().rev().collect(),
            coefficients,
        })
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.timesteps.len()
    }

    /// One coefficient of step `step`.
    pub fn get(&self, step: usize, coefficient: Coefficient) -> f32 {
        self.coefficients[step * COEFFICIENTS + coefficient as usize]
    }

    /// True if some step adds fresh noise.
    pub fn needs_noise(&self) -> bool {
        (0..self.steps()).any(|step| {
            self.get(step, Coefficient::Noise) != 0.0 || self.get(step, Coefficient::Learned) != 0.0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::{BetaSchedule, NoiseConfig};

    fn schedule() -> NoiseSchedule {
        NoiseSchedule::new(&NoiseConfig {
            timesteps: 1000,
            betas: BetaSchedule::ScaledLinear {
                beta_start: 0.002,
                beta_end: 0.02,
            },
        })
        .unwrap()
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let schedule = schedule();
        let error = |method, steps, guidance| {
            SamplerTable::new(&schedule, method, steps, guidance, false)
                .unwrap_err()
                .to_string()
        };
        let ddim = Method::default();
        assert!(error(ddim, 0, 1.0).contains("1 to 1000, found 0"));
        assert!(error(ddim, 1001, 1.0).contains("found 1001"));
        assert!(error(Method::Ancestral, 1001, 1.0).contains("found 1001"));
        assert!(error(Method::Ddim { eta: 1.5 }, 10, 1.0).contains("eta"));
        assert!(error(Method::Ddim { eta: f64::NAN }, 10, 1.0).contains("eta"));
        assert!(error(ddim, 10, f64::INFINITY).contains("guidance"));
    }

    /// With every time step on the grid, eta 1 is the ancestral step: the paper's section 4.1.
    #[test]
    fn full_stochastic_ddim_is_the_ancestral_sampler() {
        let schedule = schedule();
        let ddim = SamplerTable::new(&schedule, Method::default(), 1000, 1.0, false).unwrap();
        let ancestral = SamplerTable::new(&schedule, Method::Ancestral, 1000, 1.0, false).unwrap();
        for step in 0..1000 {
            let t = ddim.timesteps[step] as usize;
            assert_eq!(t, ancestral.timesteps[step] as usize);
            let (a, b) = (
                ddim.get(step, Coefficient::Noise),
                ancestral.get(step, Coefficient::Noise),
            );
            // 1 - A_t / A_t' cancels all but a few digits of the f32 table where beta is small.
            assert!((a - b).abs() <= 1e-3 * b, "t {t}: {a} {b}");
            // x_0 written out: eps = (recip x_t - x_0) / recip_m1.
            let direction = ddim.get(step, Coefficient::Direction);
            let keep = direction * ddim.get(step, Coefficient::Recip)
                / ddim.get(step, Coefficient::RecipM1);
            if step < 999 {
                let want = ancestral.get(step, Coefficient::Keep);
                assert!((keep - want).abs() <= 1e-3, "t {t}: {keep} {want}");
            }
        }
    }

    /// One step goes from the last time step straight to the estimate of `x_0`; the reference's starts at time step 0.
    #[test]
    fn one_step_starts_at_the_last_time_step() {
        let schedule = schedule();
        for method in [Method::default(), Method::Ancestral] {
            let table = SamplerTable::new(&schedule, method, 1, 1.0, false).unwrap();
            assert_eq!(table.timesteps, [999]);
            assert_eq!(table.get(0, Coefficient::Sample), 1.0);
            assert_eq!(table.get(0, Coefficient::Keep), 0.0);
            assert!(!table.needs_noise());
            let recip = schedule.sqrt_recip_alphas_cumprod[999];
            assert_eq!(table.get(0, Coefficient::Recip), recip);
            let reference = TimestepSpacing::Reference;
            let table = SamplerTable::spaced(&schedule, method, reference, 1, 1.0, false).unwrap();
            assert_eq!(table.timesteps, [0]);
        }
    }

    /// Fewer ancestral steps are spaced evenly: the step of DDIM with eta 1, written with `x_t` instead of the noise.
    #[test]
    fn short_ancestral_trajectories_cover_the_whole_process() {
        let schedule = schedule();
        for steps in [2, 7, 150, 500] {
            let ddim = SamplerTable::new(&schedule, Method::default(), steps, 1.0, false).unwrap();
            let table = SamplerTable::new(&schedule, Method::Ancestral, steps, 1.0, false).unwrap();
            assert_eq!(table.timesteps[0], 999);
            assert_eq!(table.timesteps, ddim.timesteps);
            for step in 0..steps {
                let both = |c| (ddim.get(step, c), table.get(step, c));
                let (sigma, noise) = both(Coefficient::Noise);
                assert!((sigma - noise).abs() <= 1e-4, "{sigma} {noise}");
                let (direction, _) = both(Coefficient::Direction);
                let (sample, posterior) = both(Coefficient::Sample);
                let recip_m1 = ddim.get(step, Coefficient::RecipM1);
                let keep = direction * ddim.get(step, Coefficient::Recip) / recip_m1;
                let sample = sample - direction / recip_m1;
                let found = table.get(step, Coefficient::Keep);
                assert!((keep - found).abs() <= 1e-3, "{step}: {keep} {found}");
                assert!((sample - posterior).abs() <= 1e-3, "{sample} {posterior}");
            }
            let learned = SamplerTable::new(&schedule, Method::Ancestral, steps, 1.0, true);
            let learned = learned.unwrap();
            assert_eq!(learned.get(0, Coefficient::Learned), 1.0);
            assert_eq!(learned.get(steps - 1, Coefficient::Learned), 0.0);
            let (low, high) = (
                learned.get(0, Coefficient::LogPosterior),
                learned.get(0, Coefficient::LogBeta),
            );
            assert!(low < high, "{low} {high}");
        }
        // The recorded trajectories stay reachable.
        let reference = TimestepSpacing::Reference;
        let ancestral = Method::Ancestral;
        let table = SamplerTable::spaced(&schedule, ancestral, reference, 3, 1.0, false).unwrap();
        assert_eq!(table.timesteps, [2, 1, 0]);
        let full = SamplerTable::new(&schedule, ancestral, 1000, 1.0, false).unwrap();
        let row = |table: &SamplerTable, step: usize| {
            table.coefficients[step * COEFFICIENTS..][..COEFFICIENTS].to_vec()
        };
        for step in 0..3 {
            assert_eq!(row(&table, step), row(&full, 997 + step));
        }
    }

    #[test]
    fn a_schedule_starts_with_noise() {
        let config = NoiseConfig {
            timesteps: 2,
            betas: BetaSchedule::Given {
                betas: vec![0.0, 0.5],
            },
        };
        let error = NoiseSchedule::new(&config).unwrap_err().to_string();
        assert!(error.contains("first beta"), "{error}");
    }

    #[test]
    fn eta_zero_needs_no_noise() {
        let schedule = schedule();
        let table =
            |eta| SamplerTable::new(&schedule, Method::Ddim { eta }, 50, 1.0, true).unwrap();
        assert!(!table(0.0).needs_noise());
        assert!(table(0.3).needs_noise());
        let step = |eta| table(eta).get(10, Coefficient::Noise);
        assert!((step(0.3) - 0.3 * step(1.0)).abs() < 1e-7);
    }
}
