//! Softmax over the innermost axis and its gradient.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::{Operator, PrecisionRule};
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};

/// `y_i = exp(x_i) / sum_j exp(x_j)` over the innermost axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax;

/// `dx_i = y_i (dy_i - sum_j y_j dy_j)`. Inputs: `y`, `dy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftmaxGrad;

impl Operator for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [x] if x.dtype.is_float() && !x.shape.is_empty() && !x.is_empty() => {
                Ok(vec![x.clone()])
            }
            _ => Err(Mismatch::inputs("one float array […,C]", inputs)),
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        4 * inputs[0].len() as u64
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let dy = cx.dy();
        Ok(Some(vec![Some(
            cx.graph.apply(SoftmaxGrad, &[cx.outputs[0], dy])?,
        )]))
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0)]
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::FOLLOWS
    }
}

impl Operator for SoftmaxGrad {
    fn name(&self) -> &'static str {
        "softmax_grad"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [y, dy] if y == dy && y.dtype.is_float() && !y.is_empty() => Ok(vec![y.clone()]),
            _ => Err(Mismatch::inputs("y and dy of one type", inputs)),
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        4 * inputs[0].len() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::FOLLOWS
    }
}

impl Graph {
    /// Softmax over the innermost axis.
    ///
    /// # Errors
    /// If `x` is empty or not of a float type.
    pub fn softmax(&mut self, x: Value) -> Result<Value, GraphError> {
        self.apply(Softmax, &[x])
    }
}
