//! The gated unit of transformers' feed-forward layers, and its gradient.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::{Operator, PrecisionRule};
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};

/// `y = a * gelu(b)` with `a` and `b` the halves of the innermost axis: `[…, 2C]` to `[…, C]` (Shazeer, "GLU Variants
/// Improve Transformer").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geglu;

/// `da = dy gelu(b)`, `db = dy a gelu'(b)`, in one array. Inputs: `x` `[…, 2C]`, `dy` `[…, C]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GegluGrad;

/// Type of the result for `x`, if its innermost extent is even.
fn halved(x: &TensorType) -> Option<TensorType> {
    let mut half = x.clone();
    let channels = half.shape.last_mut()?;
    if !channels.is_multiple_of(2) || !x.dtype.is_float() {
        return None;
    }
    *channels /= 2;
    Some(half)
}

impl Operator for Geglu {
    fn name(&self) -> &'static str {
        "geglu"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let half = match inputs {
            [x] => halved(x),
            _ => None,
        };
        half.map(|half| vec![half])
            .ok_or_else(|| Mismatch::inputs("an even number of channels", inputs))
    }

    fn flops(&self, _: &[TensorType], outputs: &[TensorType]) -> u64 {
        2 * outputs[0].len() as u64
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let dy = cx.dy();
        let dx = cx.graph.apply(GegluGrad, &[cx.inputs[0], dy])?;
        Ok(Some(vec![Some(dx)]))
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::FOLLOWS
    }
}

impl Operator for GegluGrad {
    fn name(&self) -> &'static str {
        "geglu_grad"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [x, dy] if halved(x).as_ref() == Some(dy) => Ok(vec![x.clone()]),
            _ => Err(Mismatch::inputs("x […, 2C] and dy […, C]", inputs)),
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        2 * inputs[0].len() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0)]
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::FOLLOWS
    }
}

impl Graph {
    /// `a * gelu(b)` with `a` and `b` the halves of the innermost axis; see [`Geglu`].
    ///
    /// # Errors
    /// If the innermost extent is odd.
    pub fn geglu(&mut self, x: Value) -> Result<Value, GraphError> {
        self.apply(Geglu, &[x])
    }
}
