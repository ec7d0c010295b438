//! Elementwise functions of one array.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::{Operator, PrecisionRule};
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};

/// `f(x)`, element by element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// `x * sigmoid(x)`.
    Swish,
    /// `x * Phi(x)` with the exact normal distribution function.
    Gelu,
    /// `max(x, 0)`, with gradient 0 at 0.
    Relu,
    /// `e^x`.
    Exp,
    /// `|x|`, with gradient 0 at 0.
    Abs,
    /// `x^2`.
    Square,
    /// `scale * x + shift`.
    Affine {
        /// Factor.
        scale: f32,
        /// What is added behind it.
        shift: f32,
    },
    /// `min(max(x, low), high)`; the gradient passes where `low <= x <= high`.
    Clamp {
        /// The least result.
        low: f32,
        /// The largest result.
        high: f32,
    },
}

impl Unary {
    /// `factor * x`.
    pub fn scale(factor: f32) -> Self {
        Unary::Affine {
            scale: factor,
            shift: 0.0,
        }
    }
}

/// `f'(x) * dy`: the gradient of [`Unary`]. Inputs `x`, `dy` of one shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UnaryGrad {
    /// The function.
    pub of: Unary,
}

impl Operator for Unary {
    fn name(&self) -> &'static str {
        match self {
            Unary::Swish => "swish",
            Unary::Gelu => "gelu",
            Unary::Relu => "relu",
            Unary::Exp => "exp",
            Unary::Abs => "abs",
            Unary::Square => "square",
            Unary::Affine { .. } => "affine",
            Unary::Clamp { .. } => "clamp",
        }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [x] if x.dtype.is_float() => Ok(vec![x.clone()]),
            _ => Err(Mismatch::inputs("one array of floats", inputs)),
        }
    }

    fn flops(&self, _: &[TensorType], outputs: &[TensorType]) -> u64 {
        outputs[0].len() as u64
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let dy = cx.dy();
        let dx = match *self {
            Unary::Affine { scale, .. } => cx.graph.apply(Unary::scale(scale), &[dy])?,
            Unary::Exp => cx.graph.mul(dy, cx.outputs[0])?,
            of => cx.graph.apply(UnaryGrad { of }, &[cx.inputs[0], dy])?,
        };
        Ok(Some(vec![Some(dx)]))
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0)]
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::FOLLOWS
    }
}

impl Operator for UnaryGrad {
    fn name(&self) -> &'static str {
        "unary_grad"
    }

    fn describe(&self) -> String {
        format!("{}_grad", self.of.name())
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [x, dy] if x == dy && x.dtype.is_float() => Ok(vec![x.clone()]),
            _ => Err(Mismatch::inputs("x and dy of one type", inputs)),
        }
    }

    fn flops(&self, _: &[TensorType], outputs: &[TensorType]) -> u64 {
        outputs[0].len() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 1), (0, 0)]
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::FOLLOWS
    }
}

impl Graph {
    /// `x * sigmoid(x)`.
    ///
    /// # Errors
    /// If `x` is not of a float type.
    pub fn swish(&mut self, x: Value) -> Result<Value, GraphError> {
        self.apply(Unary::Swish, &[x])
    }

    /// `factor * x`.
    ///
    /// # Errors
    /// If `x` is not of a float type.
    pub fn scale(&mut self, x: Value, factor: f32) -> Result<Value, GraphError> {
        self.apply(Unary::scale(factor), &[x])
    }
}
