//! Absolute and squared differences, summed to a scalar.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::{Operator, Unary};
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};

/// What is summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// `|a - b|`, with gradient 0 where they are equal.
    L1,
    /// `(a - b)²`.
    L2,
}

/// `factor * sum(distance(prediction, target))`: two inputs of one shape, scalar result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PixelLoss {
    /// What is summed.
    pub distance: Distance,
    /// Factor on the sum.
    pub factor: f32,
}

/// Gradient of [`PixelLoss`] with respect to the prediction: inputs prediction, target, scalar dy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PixelLossGrad {
    /// The loss.
    pub of: PixelLoss,
}

impl Operator for PixelLoss {
    fn name(&self) -> &'static str {
        "pixel_loss"
    }

    fn describe(&self) -> String {
        format!("pixel_loss {:?} x{:.3e}", self.distance, self.factor)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [a, b] if a == b && *a == TensorType::f32(a.shape.clone()) => {
                Ok(vec![TensorType::f32([])])
            }
            _ => Err(Mismatch::inputs(
                "prediction and target of one f32 type",
                inputs,
            )),
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        3 * inputs[0].len() as u64
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let inputs = [cx.inputs[0], cx.inputs[1], cx.dy()];
        let da = cx.graph.apply(PixelLossGrad { of: *self }, &inputs)?;
        let db = match cx.wanted[1] {
            true => Some(cx.graph.apply(Unary::scale(-1.0), &[da])?),
            false => None,
        };
        Ok(Some(vec![Some(da), db]))
    }
}

impl Operator for PixelLossGrad {
    fn name(&self) -> &'static str {
        "pixel_loss_grad"
    }

    fn describe(&self) -> String {
        format!("pixel_loss_grad {:?}", self.of.distance)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [a, b, dy] if a == b && *dy == TensorType::f32([]) => Ok(vec![a.clone()]),
            _ => Err(Mismatch::inputs(
                "prediction, target and a scalar dy",
                inputs,
            )),
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        2 * inputs[0].len() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0), (0, 1)]
    }
}

impl Graph {
    /// `factor * sum(distance(prediction, target))`, a scalar.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn pixel_loss(
        &mut self,
        distance: Distance,
        prediction: Value,
        target: Value,
        factor: f32,
    ) -> Result<Value, GraphError> {
        self.apply(PixelLoss { distance, factor }, &[prediction, target])
    }

    /// The mean distance over all elements, a scalar.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn mean_pixel_loss(
        &mut self,
        distance: Distance,
        prediction: Value,
        target: Value,
    ) -> Result<Value, GraphError> {
        let factor = 1.0 / self.ty(prediction).len() as f32;
        self.pixel_loss(distance, prediction, target, factor)
    }
}
