//! Noise added to training samples, and the loss of a learned variance.
//!
//! Source: Ho, Jain, Abbeel, NeurIPS 2020, eq. 4; Nichol, Dhariwal, "Improved Denoising Diffusion
//! Probabilistic Models", ICML 2021, eq. 15 and 16.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::Operator;
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};
use crate::tensor::DType;

/// `x_t = table[t][0] x_0 + table[t][1] x_T`, per sample; `x_0` for `t < 0`, `x_T` for `t >= T`.
///
/// Inputs: `x_0`, `x_T` `[N, …]`, table `[T, 2]` of `sqrt(A_t)` and `sqrt(1 - A_t)`, `t` `i32[N]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddNoise;

/// Loss of a learned variance, a scalar: the mean over the batch of the mean over a sample of
///
/// ```text
/// v       = (variance + 1) / 2
/// logvar  = v log_beta + (1 - v) log_posterior
/// t > 0:  KL(posterior || predicted) = (logvar - log_posterior + exp(log_posterior - logvar)
///                                       + (coef1 (x_0 - x_0'))² exp(-logvar) - 1) / 2
/// t = 0:  (ln s + (x_0' - x_0)² / s) / 2,  s = max(exp(logvar), 1e-6)
/// ```
///
/// (the means of posterior and prediction differ by `coef1 (x_0 - x_0')`, because `x_t` cancels).
///
/// Inputs: variance output, `x_0`, its estimate `x_0'`, all `[N, …]`; table `[T, 3]` of
/// log_posterior, log_beta and coef1; `t` `i32[N]` in `0..T` (NaN otherwise). As in the reference
/// the means of the divergence have no gradient, the estimate has one in the `t = 0` branch, and the
/// maximum lets the gradient through. Only the branch that applies is computed, so the other one
/// cannot overflow into the gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VarianceLoss;

/// Gradients of [`VarianceLoss`] with respect to the variance output and the estimate. Inputs: those
/// of the loss and a scalar dy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VarianceLossGrad;

/// Smallest variance in the likelihood at `t = 0`.
const MIN_VARIANCE: f64 = 1e-6;

fn sample_table(x: &TensorType, table: &TensorType, t: &TensorType, columns: usize) -> bool {
    x.dtype == DType::F32
        && x.shape.first().is_some_and(|&n| n > 0)
        && table.dtype == DType::F32
        && matches!(table.shape[..], [rows, c] if rows > 0 && c == columns)
        && *t == TensorType::new([x.shape[0]], DType::I32)
}

impl Operator for AddNoise {
    fn name(&self) -> &'static str {
        "add_noise"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [x_0, x_final, table, t] if x_0 == x_final && sample_table(x_0, table, t, 2) => {
                Ok(vec![x_0.clone()])
            }
            _ => Err(Mismatch::inputs(
                "x_0 and x_T f32[N, …], table f32[T, 2] and t i32[N]",
                inputs,
            )),
        }
    }

    fn flops(&self, _: &[TensorType], outputs: &[TensorType]) -> u64 {
        3 * outputs[0].len() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }
}

impl Operator for VarianceLoss {
    fn name(&self) -> &'static str {
        "variance_loss"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [v, x_0, estimate, table, t]
                if v == x_0 && v == estimate && sample_table(v, table, t, 3) =>
            {
                Ok(vec![TensorType::f32([])])
            }
            _ => Err(Mismatch::inputs(
                "variance, x_0 and its estimate f32[N, …], table f32[T, 3] and t i32[N]",
                inputs,
            )),
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        14 * inputs[0].len() as u64
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let inputs = [cx.inputs, &[cx.dy()]].concat();
        let grads = cx.graph.node(VarianceLossGrad, &inputs)?;
        if cx.wanted[1] {
            return Ok(None);
        }
        Ok(Some(vec![Some(grads[0]), None, Some(grads[1]), None, None]))
    }
}

impl Operator for VarianceLossGrad {
    fn name(&self) -> &'static str {
        "variance_loss_grad"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [v, x_0, estimate, table, t, dy]
                if v == x_0
                    && v == estimate
                    && sample_table(v, table, t, 3)
                    && *dy == TensorType::f32([]) =>
            {
                Ok(vec![v.clone(), v.clone()])
            }
            _ => Err(Mismatch::inputs(
                "variance, x_0 and its estimate f32[N, …], table f32[T, 3], t i32[N] and \
                 a scalar dy",
                inputs,
            )),
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        14 * inputs[0].len() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }
}

impl Graph {
    /// `x_t` of the forward process, see [`AddNoise`].
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn add_noise(
        &mut self,
        x_0: Value,
        noise: Value,
        table: Value,
        t: Value,
    ) -> Result<Value, GraphError> {
        self.apply(AddNoise, &[x_0, noise, table, t])
    }

    /// Loss of a learned variance, a scalar, see [`VarianceLoss`].
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn variance_loss(
        &mut self,
        variance: Value,
        x_0: Value,
        estimate: Value,
        table: Value,
        t: Value,
    ) -> Result<Value, GraphError> {
        self.apply(VarianceLoss, &[variance, x_0, estimate, table, t])
    }
}
