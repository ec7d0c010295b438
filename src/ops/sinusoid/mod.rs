//! Sinusoidal embedding of time steps.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::Operator;
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};
use crate::tensor::DType;

/// `[sin(t f_0) …, cos(t f_0) …]` with `f_k = exp(-k ln(10000) / (half - 1))` for `k < half = dim / 2`,
/// and a zero behind if `dim` is odd. Input: `t` `[N]` of `i32`; result `[N,dim]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sinusoid {
    /// At least 4: with fewer the spacing of the frequencies divides by zero.
    pub dim: usize,
}

impl Sinusoid {
    /// `ln(10000) / (half - 1)`.
    fn spacing(&self) -> f32 {
        (10_000f64.ln() / (self.dim / 2 - 1) as f64) as f32
    }
}

impl Operator for Sinusoid {
    fn name(&self) -> &'static str {
        "sinusoid"
    }

    fn describe(&self) -> String {
        format!("sinusoid {}", self.dim)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [t] if t.dtype == DType::I32 && t.shape.len() == 1 && self.dim >= 4 => {
                Ok(vec![TensorType::f32([t.len(), self.dim])])
            }
            _ => Err(Mismatch::inputs(
                format!(
                    "i32 time steps [N] and a dimension of at least 4 (here {})",
                    self.dim
                ),
                inputs,
            )),
        }
    }

    fn flops(&self, _: &[TensorType], outputs: &[TensorType]) -> u64 {
        2 * outputs[0].len() as u64
    }

    /// Not used: the only input is of integers.
    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }
}

impl Graph {
    /// Sinusoidal embedding `[N,dim]` of the time steps `t` `[N]` (`i32`).
    ///
    /// # Errors
    /// If `t` is of another type or `dim` is below 4.
    pub fn sinusoid(&mut self, t: Value, dim: usize) -> Result<Value, GraphError> {
        self.apply(Sinusoid { dim }, &[t])
    }
}
