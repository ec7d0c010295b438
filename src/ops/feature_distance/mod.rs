//! The distance of two feature maps in LPIPS: squared difference of the features normalised
//! at every pixel.
//!
//! Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual
//! Metric", CVPR 2018, eq. 1 with unit weights.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::Operator;
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};

/// Added to the norm before dividing by it.
pub(crate) const EPSILON: f64 = 1e-10;

/// `mean_hw sum_c (a_c / (|a| + 1e-10) - b_c / (|b| + 1e-10))²`, where `|a|` is the norm of a pixel's
/// features. Inputs `[N, H, W, C]`, result `[N]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureDistance;

/// Gradient of [`FeatureDistance`] with respect to `a`: inputs a, b, dy `[N]`. A pixel without
/// features gets the limit of the formula without the derivative of its norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureDistanceGrad;

fn fits(a: &TensorType, b: &TensorType) -> bool {
    a == b && a.shape.len() == 4 && *a == TensorType::f32(a.shape.clone())
}

impl Operator for FeatureDistance {
    fn name(&self) -> &'static str {
        "feature_distance"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [a, b] if fits(a, b) => Ok(vec![TensorType::f32([a.shape[0]])]),
            _ => Err(Mismatch::inputs("two feature maps f32[N, H, W, C]", inputs)),
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        9 * inputs[0].len() as u64
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let (a, b, dy) = (cx.inputs[0], cx.inputs[1], cx.dy());
        let mut grads = Vec::new();
        for (wanted, operands) in cx.wanted.iter().zip([[a, b, dy], [b, a, dy]]) {
            grads.push(match wanted {
                true => Some(cx.graph.apply(FeatureDistanceGrad, &operands)?),
                false => None,
            });
        }
        Ok(Some(grads))
    }
}

impl Operator for FeatureDistanceGrad {
    fn name(&self) -> &'static str {
        "feature_distance_grad"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [a, b, dy] if fits(a, b) && *dy == TensorType::f32([a.shape[0]]) => Ok(vec![a.clone()]),
            _ => Err(Mismatch::inputs(
                "two feature maps f32[N, H, W, C] and dy f32[N]",
                inputs,
            )),
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        13 * inputs[0].len() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }
}

impl Graph {
    /// LPIPS distance `[N]` of two feature maps `[N, H, W, C]`, see [`FeatureDistance`].
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn feature_distance(&mut self, a: Value, b: Value) -> Result<Value, GraphError> {
        self.apply(FeatureDistance, &[a, b])
    }
}
