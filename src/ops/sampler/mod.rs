//! One step of a sampler as one op: guidance, estimates of `x_0` and noise, clipping, the DDIM or
//! ancestral update and its noise, with every coefficient read from a table at a device counter,
//! and the counter's increment.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::philox_normal::NORMAL_FLOPS;
use super::{Operator, PrecisionRule};
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};
use crate::tensor::DType;
use crate::tensor::philox::RandomStream;

/// What the network's output stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prediction {
    /// The noise, `x_T`.
    Noise,
    /// The clean sample, `x_0`.
    Sample,
}

/// Columns of the coefficient table, one row per step.
///
/// ```text
/// p      = u + guidance (c - u)                      c, u: with and without the condition
/// noise predicted:   eps = p,  x_0 = clip(recip x_t - recip_m1 eps)
/// sample predicted:  x_0 = clip(p),  eps = (recip x_t - x_0) / recip_m1
/// std    = noise + learned exp((v log_beta + (1 - v) log_posterior) / 2),  v = (variance + 1) / 2
/// x_t   <- sample x_0 + direction eps + keep x_t + std z
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Coefficient {
    /// `sqrt(1 / A_t)`.
    Recip,
    /// `sqrt(1 / A_t - 1)`.
    RecipM1,
    /// Factor of the estimate of `x_0`.
    Sample,
    /// Factor of the estimate of the noise.
    Direction,
    /// Factor of the old `x_t`.
    Keep,
    /// Standard deviation of the fresh noise.
    Noise,
    /// Guidance scale.
    Guidance,
    /// 1 if the fresh noise has the standard deviation that the network predicts, else 0.
    Learned,
    /// `ln max(posterior variance, 1e-20)`.
    LogPosterior,
    /// `ln max(beta, 1e-20)`.
    LogBeta,
}

/// Number of [`Coefficient`]s.
pub const COEFFICIENTS: usize = 10;

/// Where the fresh noise of a step comes from, and the inputs that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreshNoise {
    /// There is none; no inputs.
    None,
    /// Normals of the shape of `x_t`.
    Given,
    /// The numbers that [`PhiloxNormal`](super::PhiloxNormal) gives for this purpose at the counter; seed `i32[2]` and
    /// image indices `i32[N]`.
    Philox(RandomStream),
}

/// Replaces `x_t` by the next sample of the trajectory and adds 1 to the counter.
///
/// Inputs: `x_t` `[N, …, C]` (updated), prediction, table `[rows, COEFFICIENTS]`, counter
/// `i32[1]` (updated; it selects row `clamp(counter, 0, rows - 1)`), and those of `noise`. The prediction is `[N, …, C]`.
/// Under `guidance` it has twice as many samples, the conditional ones first. With `learned_variance` it has twice as many
/// channels, the variance behind the prediction; under guidance the variance of the conditional half is used.
///
/// Results, of the shape of `x_t`: the estimates of `x_0` (clipped, if `clip`) and of the noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplerStep {
    /// What the prediction stands for.
    pub prediction: Prediction,
    /// Whether the estimate of `x_0` is clamped to [-1, 1]. A predicted noise is used as it is; an estimated noise follows
    /// from the clamped `x_0`.
    pub clip: bool,
    /// Whether the prediction has a conditional and an unconditional half of the batch.
    pub guidance: bool,
    /// Whether the prediction has a variance behind its channels.
    pub learned_variance: bool,
    /// Where fresh noise comes from.
    pub noise: FreshNoise,
}

impl SamplerStep {
    /// Type of the prediction for samples of type `x`.
    fn prediction_type(&self, x: &TensorType) -> TensorType {
        let mut shape = x.shape.clone();
        if let [first, .., last] = shape.as_mut_slice() {
            *first *= 1 + usize::from(self.guidance);
            *last *= 1 + usize::from(self.learned_variance);
        }
        TensorType::f32(shape)
    }
}

impl Operator for SamplerStep {
    fn name(&self) -> &'static str {
        "sampler_step"
    }

    fn describe(&self) -> String {
        let flags = [
            (self.prediction == Prediction::Sample, " x_0"),
            (self.clip, " clip"),
            (self.guidance, " guidance"),
            (self.learned_variance, " learned_variance"),
            (self.noise == FreshNoise::Given, " noise"),
            (
                matches!(self.noise, FreshNoise::Philox(_)),
                " philox_normal",
            ),
        ];
        let flags = flags.iter().filter(|(on, _)| *on).map(|(_, name)| *name);
        std::iter::once("sampler_step").chain(flags).collect()
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let ints = |len: usize| TensorType::new([len], DType::I32);
        let noise_fits = |x: &TensorType, noise: &[TensorType]| match self.noise {
            FreshNoise::None => noise.is_empty(),
            FreshNoise::Given => noise == std::slice::from_ref(x),
            FreshNoise::Philox(_) => *noise == [ints(2), ints(x.shape[0])],
        };
        match inputs {
            [x, p, table, counter, noise @ ..]
                if x.dtype == DType::F32
                    && x.shape.len() >= 2
                    && *p == self.prediction_type(x)
                    && table.dtype == DType::F32
                    && matches!(table.shape[..], [rows, COEFFICIENTS] if rows > 0)
                    && *counter == ints(1)
                    && noise_fits(x, noise) =>
            {
                Ok(vec![x.clone(), x.clone()])
            }
            _ => {
                let expected = match inputs.first() {
                    Some(x) => self.prediction_type(x).to_string(),
                    None => "[N, …, C]".to_owned(),
                };
                let noise = match self.noise {
                    FreshNoise::None => "",
                    FreshNoise::Given => " and noise of the type of x_t",
                    FreshNoise::Philox(_) => ", seed i32[2] and image indices i32[N]",
                };
                Err(Mismatch::inputs(
                    format!(
                        "x_t f32[N, …, C], prediction {expected}, \
                         table f32[rows, {COEFFICIENTS}], counter i32[1]{noise}"
                    ),
                    inputs,
                ))
            }
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        let noise = match self.noise {
            FreshNoise::Philox(_) => NORMAL_FLOPS,
            FreshNoise::None | FreshNoise::Given => 0,
        };
        (12 + noise) * inputs[0].len() as u64
    }

    fn bytes(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        // x_t is read and written; the table's row is too small to count.
        let x = inputs[0].bytes();
        let noise: usize = inputs[4..].iter().map(TensorType::bytes).sum();
        (2 * x + inputs[1].bytes() + noise + 2 * outputs[0].bytes()) as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }

    fn updates(&self) -> &'static [usize] {
        &[0, 3]
    }

    /// The prediction may be an activation of the network in reduced precision; the trajectory itself is `f32`.
    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::Follows {
            inputs: 1 << 1,
            results: 0,
        }
    }
}

/// Estimates behind a sampler step, of the shape of `x_t`.
#[derive(Clone, Copy, Debug)]
pub struct Estimates {
    /// The clean sample.
    pub x_0: Value,
    /// The noise.
    pub noise: Value,
}

impl Graph {
    /// Adds a [`SamplerStep`] that replaces the state `x_t` and adds 1 to the state `counter`; [`SamplerStep`] gives the
    /// shapes. Add it after every op that reads the counter.
    ///
    /// # Errors
    /// If a shape does not fit `x_t`.
    pub fn sampler_step(
        &mut self,
        op: SamplerStep,
        x_t: Value,
        prediction: Value,
        table: Value,
        counter: Value,
        noise: &[Value],
    ) -> Result<Estimates, GraphError> {
        let inputs = [&[x_t, prediction, table, counter], noise].concat();
        let results = self.node(op, &inputs)?;
        Ok(Estimates {
            x_0: results[0],
            noise: results[1],
        })
    }
}
