//! Layer normalisation over the innermost axis and its gradients.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::{Operator, PrecisionRule};
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};

/// `y = gamma x̂ + beta` with `x̂ = (x - mean) / sqrt(variance + eps)` of each row of the innermost
/// axis. Inputs: `x` `[…,C]`, `gamma` `[C]`, `beta` `[C]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f32,
}

/// Gradient of [`LayerNorm`] with respect to `x`:
/// `dx = (d - mean(d) - x̂ mean(d x̂)) / sqrt(variance + eps)` with `d = gamma dy`.
/// Inputs: `x`, `gamma`, `dy`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNormInputGrad {
    /// Added to the variance.
    pub eps: f32,
}

/// Gradient of [`LayerNorm`] with respect to `gamma`: `sum dy x̂` over the rows. Inputs: `x`, `dy`;
/// result `[C]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNormParamGrad {
    /// Added to the variance.
    pub eps: f32,
}

fn normalisable(x: &TensorType) -> bool {
    x.dtype.is_float() && !x.shape.is_empty() && !x.is_empty()
}

fn channels(x: &TensorType) -> TensorType {
    TensorType::new([x.channels()], x.dtype)
}

impl Operator for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [x, gamma, beta] if normalisable(x) && *gamma == channels(x) && gamma == beta => {
                Ok(vec![x.clone()])
            }
            _ => Err(Mismatch::inputs("x […,C], gamma [C], beta [C]", inputs)),
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        8 * inputs[0].len() as u64
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let (x, gamma, dy, eps) = (cx.inputs[0], cx.inputs[1], cx.dy(), self.eps);
        let g = &mut *cx.graph;
        let shape = g.shape(gamma).to_vec();
        let mut grads = vec![None; 3];
        if cx.wanted[0] {
            grads[0] = Some(g.apply(LayerNormInputGrad { eps }, &[x, gamma, dy])?);
        }
        if cx.wanted[1] {
            grads[1] = Some(g.apply(LayerNormParamGrad { eps }, &[x, dy])?);
        }
        if cx.wanted[2] {
            grads[2] = Some(g.sum_to(dy, &shape)?);
        }
        Ok(Some(grads))
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0)]
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::Reduced {
            inputs: 1,
            results: 1,
        }
    }
}

impl Operator for LayerNormInputGrad {
    fn name(&self) -> &'static str {
        "layer_norm_input_grad"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [x, gamma, dy] if normalisable(x) && *gamma == channels(x) && x == dy => {
                Ok(vec![x.clone()])
            }
            _ => Err(Mismatch::inputs("x […,C], gamma [C], dy like x", inputs)),
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        14 * inputs[0].len() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::Reduced {
            inputs: 0b101,
            results: 1,
        }
    }
}

impl Operator for LayerNormParamGrad {
    fn name(&self) -> &'static str {
        "layer_norm_param_grad"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [x, dy] if normalisable(x) && x == dy => Ok(vec![channels(x)]),
            _ => Err(Mismatch::inputs("x […,C] and dy like x", inputs)),
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        8 * inputs[0].len() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::Reduced {
            inputs: 0b11,
            results: 0,
        }
    }
}

impl Graph {
    /// Normalises each row of the innermost axis of `x` `[…,C]`, then scales by `gamma` `[C]` and
    /// shifts by `beta` `[C]`.
    ///
    /// # Errors
    /// If the channels differ.
    pub fn layer_norm(
        &mut self,
        x: Value,
        gamma: Value,
        beta: Value,
        eps: f32,
    ) -> Result<Value, GraphError> {
        self.apply(LayerNorm { eps }, &[x, gamma, beta])
    }
}
