//! The Gaussian forward process: its tables, and what follows from them for samples on the host.
//!
//! Symbols: `A_t` is the product of `1 - beta` up to `t`; `x_0` the clean sample, `x_T` the noise,
//! `x_t = sqrt(A_t) x_0 + sqrt(1 - A_t) x_T`. Time step 0 already carries one step of noise.
//!
//! The functions take a batch as a flat slice with one time step per sample, and broadcast the
//! tables over each sample. They panic if the lengths disagree or, where it is not said otherwise,
//! if a time step is not in `0..T`.
//!
//! Source: Ho, Jain, Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020.

use super::DiffusionError;
use super::config::NoiseConfig;

/// Variances below this are raised to it before their logarithm is taken.
const MIN_VARIANCE: f32 = 1e-20;

/// The tables of a noise schedule, one entry per time step, computed in `f64` and rounded once.
/// The names are those of the reference's buffers.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseSchedule {
    /// Variance that each step adds.
    pub betas: Vec<f32>,
    /// `1 - beta`.
    pub alphas: Vec<f32>,
    /// `A_t`.
    pub alphas_cumprod: Vec<f32>,
    /// `A_{t-1}`, 1 at the first step.
    pub alphas_cumprod_prev: Vec<f32>,
    /// `sqrt(A_t)`.
    pub sqrt_alphas_cumprod: Vec<f32>,
    /// `sqrt(1 - A_t)`.
    pub sqrt_one_minus_alphas_cumprod: Vec<f32>,
    /// `sqrt(1 / A_t)`.
    pub sqrt_recip_alphas_cumprod: Vec<f32>,
    /// `sqrt(1 / A_t - 1)`.
    pub sqrt_recipm1_alphas_cumprod: Vec<f32>,
    /// Weight of `x_0` in the posterior mean: `beta sqrt(A_{t-1}) / (1 - A_t)`.
    pub posterior_mean_coef1: Vec<f32>,
    /// Weight of `x_t` in the posterior mean: `(1 - A_{t-1}) sqrt(alpha) / (1 - A_t)`.
    pub posterior_mean_coef2: Vec<f32>,
    /// `beta (1 - A_{t-1}) / (1 - A_t)`.
    pub posterior_variance: Vec<f32>,
}

/// A reverse step `q(x_previous | x_t, x_0)`, see [`NoiseSchedule::posterior`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PosteriorStep {
    /// Weight of `x_0` in the mean.
    pub sample: f32,
    /// Weight of `x_t` in the mean.
    pub keep: f32,
    /// `ln max(variance, 1e-20)`.
    pub log_variance: f32,
    /// `ln max(beta, 1e-20)`, the upper end of a learned variance.
    pub log_beta: f32,
}

impl NoiseSchedule {
    /// The tables of a configuration.
    ///
    /// # Errors
    /// If the configuration is not valid, see [`NoiseConfig::validate`], or the first beta is 0:
    /// `1 - A_t` divides.
    pub fn new(config: &NoiseConfig) -> Result<Self, DiffusionError> {
        config.validate()?;
        let betas = config.betas();
        if betas[0] <= 0.0 {
            return Err(DiffusionError::FirstBeta);
        }
        let alphas: Vec<f64> = betas.iter().map(|b| 1.0 - b).collect();
        let mut product = 1.0;
        let cumulative: Vec<f64> = alphas
            .iter()
            .map(|alpha| {
                product *= alpha;
                product
            })
            .collect();
        let previous = |t: usize| if t == 0 { 1.0 } else { cumulative[t - 1] };
        let table = |f: &dyn Fn(usize) -> f64| -> Vec<f32> {
            (0..betas.len()).map(|t| f(t) as f32).collect()
        };
        let a = |t: usize| cumulative[t];
        Ok(Self {
            betas: table(&|t| betas[t]),
            alphas: table(&|t| alphas[t]),
            alphas_cumprod: table(&a),
            alphas_cumprod_prev: table(&previous),
            sqrt_alphas_cumprod: table(&|t| a(t).sqrt()),
            sqrt_one_minus_alphas_cumprod: table(&|t| (1.0 - a(t)).sqrt()),
            sqrt_recip_alphas_cumprod: table(&|t| (1.0 / a(t)).sqrt()),
            sqrt_recipm1_alphas_cumprod: table(&|t| (1.0 / a(t) - 1.0).sqrt()),
            posterior_mean_coef1: table(&|t| betas[t] * previous(t).sqrt() / (1.0 - a(t))),
            posterior_mean_coef2: table(&|t| (1.0 - previous(t)) * alphas[t].sqrt() / (1.0 - a(t))),
            posterior_variance: table(&|t| betas[t] * (1.0 - previous(t)) / (1.0 - a(t))),
        })
    }

    /// Number of time steps `T`.
    pub fn timesteps(&self) -> usize {
        self.betas.len()
    }

    /// The tables by the reference's buffer names.
    pub fn buffers(&self) -> [(&'static str, &[f32]); 11] {
        [
            ("betas", &self.betas),
            ("alphas", &self.alphas),
            ("alphas_cumprod", &self.alphas_cumprod),
            ("alphas_cumprod_prev", &self.alphas_cumprod_prev),
            ("sqrt_alphas_cumprod", &self.sqrt_alphas_cumprod),
            (
                "sqrt_one_minus_alphas_cumprod",
                &self.sqrt_one_minus_alphas_cumprod,
            ),
            ("sqrt_recip_alphas_cumprod", &self.sqrt_recip_alphas_cumprod),
            (
                "sqrt_recipm1_alphas_cumprod",
                &self.sqrt_recipm1_alphas_cumprod,
            ),
            ("posterior_mean_coef1", &self.posterior_mean_coef1),
            ("posterior_mean_coef2", &self.posterior_mean_coef2),
            ("posterior_variance", &self.posterior_variance),
        ]
    }

    /// The table `[T, 2]` that [`Graph::add_noise`](crate::graph::Graph::add_noise) reads:
    /// `sqrt(A_t)`, `sqrt(1 - A_t)`.
    pub fn noising_table(&self) -> Vec<f32> {
        let rows = self.sqrt_alphas_cumprod.iter();
        rows.zip(&self.sqrt_one_minus_alphas_cumprod)
            .flat_map(|(&signal, &noise)| [signal, noise])
            .collect()
    }

    /// The table `[T, 3]` that [`Graph::variance_loss`](crate::graph::Graph::variance_loss)
    /// reads: logarithms of posterior variance and beta, weight of `x_0` in the posterior mean.
    pub fn variance_table(&self) -> Vec<f32> {
        (0..self.timesteps())
            .flat_map(|t| {
                let weight = self.posterior_mean_coef1[t];
                [self.log_posterior_variance(t), self.log_beta(t), weight]
            })
            .collect()
    }

    /// The reverse step from time step `t` to `previous` (`None` for the clean sample), which may skip time steps: the
    /// posterior of a process whose steps are those between the two, with `beta = 1 - A_t / A_previous` (Nichol, Dhariwal,
    /// "Improved Denoising Diffusion Probabilistic Models", ICML 2021, section 4). Neighbours are read from the tables.
    pub fn posterior(&self, t: usize, previous: Option<usize>) -> PosteriorStep {
        if previous.map_or(0, |previous| previous + 1) == t {
            return PosteriorStep {
                sample: self.posterior_mean_coef1[t],
                keep: self.posterior_mean_coef2[t],
                log_variance: self.log_posterior_variance(t),
                log_beta: self.log_beta(t),
            };
        }
        let cumulative = |t: usize| f64::from(self.alphas_cumprod[t]);
        let (a, before) = (cumulative(t), previous.map_or(1.0, cumulative));
        let alpha = a / before;
        let beta = 1.0 - alpha;
        let log = |variance: f64| (variance as f32).max(MIN_VARIANCE).ln();
        PosteriorStep {
            sample: (beta * before.sqrt() / (1.0 - a)) as f32,
            keep: ((1.0 - before) * alpha.sqrt() / (1.0 - a)) as f32,
            log_variance: log(beta * (1.0 - before) / (1.0 - a)),
            log_beta: log(beta),
        }
    }

    /// `ln max(posterior variance, 1e-20)` of time step `t`.
    pub fn log_posterior_variance(&self, t: usize) -> f32 {
        self.posterior_variance[t].max(MIN_VARIANCE).ln()
    }

    /// `ln max(beta, 1e-20)` of time step `t`, the upper end of a learned variance.
    pub fn log_beta(&self, t: usize) -> f32 {
        self.betas[t].max(MIN_VARIANCE).ln()
    }

    /// `x_t = sqrt(A_t) x_0 + sqrt(1 - A_t) x_T`. A time step below 0 gives `x_0`, one of `T` or
    /// more gives `x_T`.
    pub fn estimate_x_t(&self, x_0: &[f32], x_final: &[f32], t: &[i64]) -> Vec<f32> {
        zip(x_0, x_final, t, |t, x_0, x_final| {
            match usize::try_from(t) {
                Err(_) => x_0,
                Ok(t) if t >= self.timesteps() => x_final,
                Ok(t) => {
                    self.sqrt_alphas_cumprod[t] * x_0
                        + self.sqrt_one_minus_alphas_cumprod[t] * x_final
                }
            }
        })
    }

    /// `x_0 = sqrt(1 / A_t) x_t - sqrt(1 / A_t - 1) x_T`, clamped to [-1, 1] if `clip`.
    pub fn estimate_x_0(&self, x_t: &[f32], x_final: &[f32], t: &[i64], clip: bool) -> Vec<f32> {
        zip(x_t, x_final, t, |t, x_t, x_final| {
            let t = index(t);
            let x_0 = self.sqrt_recip_alphas_cumprod[t] * x_t
                - self.sqrt_recipm1_alphas_cumprod[t] * x_final;
            clamp_if(clip, x_0)
        })
    }

    /// The noise, `x_T = (sqrt(1 / A_t) x_t - x_0) / sqrt(1 / A_t - 1)`, from `x_0` clamped to
    /// [-1, 1] if `clip`.
    pub fn estimate_noise(&self, x_t: &[f32], x_0: &[f32], t: &[i64], clip: bool) -> Vec<f32> {
        zip(x_t, x_0, t, |t, x_t, x_0| {
            let t = index(t);
            (self.sqrt_recip_alphas_cumprod[t] * x_t - clamp_if(clip, x_0))
                / self.sqrt_recipm1_alphas_cumprod[t]
        })
    }

    /// Mean of the posterior `q(x_{t-1} | x_t, x_0)`: `coef1 x_0 + coef2 x_t`.
    pub fn estimate_mean_t(&self, x_t: &[f32], x_0: &[f32], t: &[i64]) -> Vec<f32> {
        zip(x_t, x_0, t, |t, x_t, x_0| {
            let t = index(t);
            self.posterior_mean_coef1[t] * x_0 + self.posterior_mean_coef2[t] * x_t
        })
    }

    /// Variance of a reverse step, or its logarithm: between the posterior variance (`scale` 0)
    /// and beta (`scale` 1), interpolated between logarithms if `log`. `scale` holds any number
    /// of values per sample, and the result as many.
    pub fn estimate_variance_t(&self, t: &[i64], scale: &[f32], log: bool) -> Vec<f32> {
        zip(scale, scale, t, |t, v, _| {
            let t = index(t);
            let (low, high) = match log {
                true => (self.log_posterior_variance(t), self.log_beta(t)),
                false => (self.posterior_variance[t], self.betas[t]),
            };
            v * high + (1.0 - v) * low
        })
    }

    /// One ancestral step: posterior mean plus `noise` times the standard deviation, which is 0
    /// at time step 0. `scale` is that of [`NoiseSchedule::estimate_variance_t`], per element or
    /// per sample; the interpolation is logarithmic.
    pub fn posterior_step(
        &self,
        x_t: &[f32],
        x_0: &[f32],
        t: &[i64],
        scale: &[f32],
        noise: &[f32],
    ) -> Vec<f32> {
        let mean = self.estimate_mean_t(x_t, x_0, t);
        let log_variance = self.estimate_variance_t(t, scale, true);
        let repeat = mean.len().checked_div(log_variance.len()).unwrap_or(1);
        let len = sample_len(&mean, t);
        assert_eq!(noise.len(), mean.len(), "one noise value per element");
        mean.iter()
            .zip(noise)
            .enumerate()
            .map(|(i, (mean, noise))| match t[i / len] {
                0 => *mean,
                _ => mean + (0.5 * log_variance[i / repeat]).exp() * noise,
            })
            .collect()
    }

    /// One step of cold diffusion: `x_t` less what the noise, re-estimated from `x_t` and the
    /// clamped `x_0`, adds between time steps `t - 1` and `t`.
    ///
    /// Source: Bansal et al., "Cold Diffusion", NeurIPS 2023, algorithm 2.
    pub fn cold_step(&self, x_t: &[f32], x_0: &[f32], t: &[i64]) -> Vec<f32> {
        let noise = self.estimate_noise(x_t, x_0, t, true);
        let now = self.estimate_x_t(x_0, &noise, t);
        let before: Vec<i64> = t.iter().map(|t| t - 1).collect();
        let before = self.estimate_x_t(x_0, &noise, &before);
        let pairs = now.iter().zip(&before);
        x_t.iter()
            .zip(pairs)
            .map(|(x, (now, before))| x - (now - before))
            .collect()
    }
}

fn clamp_if(clip: bool, x: f32) -> f32 {
    if clip { x.clamp(-1.0, 1.0) } else { x }
}

fn index(t: i64) -> usize {
    usize::try_from(t).expect("time steps are not negative")
}

/// Elements per sample of a batch with one time step each.
fn sample_len(x: &[f32], t: &[i64]) -> usize {
    assert!(
        !t.is_empty() && x.len().is_multiple_of(t.len()),
        "{} elements for {} time steps",
        x.len(),
        t.len()
    );
    (x.len() / t.len()).max(1)
}

/// `f(t, a, b)` element by element, `t` being that of the element's sample.
fn zip(a: &[f32], b: &[f32], t: &[i64], f: impl Fn(i64, f32, f32) -> f32) -> Vec<f32> {
    assert_eq!(a.len(), b.len(), "two arrays of one length");
    let len = sample_len(a, t);
    let pairs = a.iter().zip(b).enumerate();
    pairs.map(|(i, (&a, &b))| f(t[i / len], a, b)).collect()
}
