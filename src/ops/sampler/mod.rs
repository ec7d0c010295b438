//! One step of a sampler as one op: guidance, estimates of `x_0` and noise, clipping, the DDIM or
//! ancestral update and its noise, with every coefficient read from a table at a device counter.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::{Operator, Storage};
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};
use crate::tensor::DType;

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

/// Replaces `x_t` by the next sample of the walk.
///
/// Inputs: `x_t` `[N, …, C]` (updated), prediction, table `[rows, COEFFICIENTS]`, counter
/// `i32[1]` (row `clamp(counter, 0, rows - 1)`), and, if `noise`, fresh normals of the shape of
/// `x_t`. The prediction is `[N, …, C]`; twice as many samples under `guidance`, with condition
/// first; twice as many channels with `learned_variance`, the variance behind the prediction
/// (under guidance that of the conditional half is used).
///
/// Results, of the shape of `x_t`: the estimates of `x_0` (clipped, if `clip`) and of the noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplerStep {
    /// What the prediction stands for.
    pub prediction: Prediction,
    /// Clamp the estimate of `x_0` to [-1, 1]. A predicted noise is used as it is all the same;
    /// an estimated one follows from the clamped `x_0`.
    pub clip: bool,
    /// The prediction holds a conditional and an unconditional half of the batch.
    pub guidance: bool,
    /// The prediction holds a variance behind its channels.
    pub learned_variance: bool,
    /// Fresh normals are the last input.
    pub noise: bool,
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
            (self.noise, " noise"),
        ];
        let flags = flags.iter().filter(|(on, _)| *on).map(|(_, name)| *name);
        std::iter::once("sampler_step").chain(flags).collect()
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let fits = |x: &TensorType, p: &TensorType, table: &TensorType, counter: &TensorType| {
            x.dtype == DType::F32
                && x.shape.len() >= 2
                && *p == self.prediction_type(x)
                && table.dtype == DType::F32
                && matches!(table.shape[..], [rows, COEFFICIENTS] if rows > 0)
                && *counter == TensorType::new([1], DType::I32)
        };
        match inputs {
            [x, p, table, counter] if !self.noise && fits(x, p, table, counter) => {
                Ok(vec![x.clone(), x.clone()])
            }
            [x, p, table, counter, z] if self.noise && fits(x, p, table, counter) && z == x => {
                Ok(vec![x.clone(), x.clone()])
            }
            _ => {
                let expected = match inputs.first() {
                    Some(x) => self.prediction_type(x).to_string(),
                    None => "[N, …, C]".to_owned(),
                };
                let noise = if self.noise {
                    " and noise of the type of x_t"
                } else {
                    ""
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
        12 * inputs[0].len() as u64
    }

    fn bytes(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        // x_t is read and written, the table's row is nothing.
        let x = inputs[0].bytes();
        let noise = inputs.get(4).map_or(0, TensorType::bytes);
        (2 * x + inputs[1].bytes() + noise + 2 * outputs[0].bytes()) as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }

    fn updates(&self) -> &'static [usize] {
        &[0]
    }

    /// The prediction may be an activation of the network; the walk itself is `f32`.
    fn storage(&self) -> Storage {
        Storage::Follows {
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
    /// Adds a [`SamplerStep`] that replaces the state `x_t`; see there for shapes.
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
        noise: Option<Value>,
    ) -> Result<Estimates, GraphError> {
        let mut inputs = vec![x_t, prediction, table, counter];
        inputs.extend(noise);
        let results = self.node(op, &inputs)?;
        Ok(Estimates {
            x_0: results[0],
            noise: results[1],
        })
    }
}
