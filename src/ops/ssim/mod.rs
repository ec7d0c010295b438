//! Structural similarity of image batches.
//!
//! Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural
//! Similarity", IEEE TIP 2004, eq. 13.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::Operator;
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};

/// Similarity per sample of a prediction and a target `[N, H, W, C]` in [-1, 1], result `[N]`.
///
/// Both are mapped to [0, 1] by `(x + 1) / 2`. Means, variances and covariance under an 11×11
/// Gaussian window (sigma 1.5, normalised; only windows inside the image) give
/// `S = (2 ma mb + C1)(2 cov + C2) / ((ma² + mb² + C1)(va + vb + C2))`, C1 = 0.01², C2 = 0.03²,
/// averaged over space, then over channels. Along an axis shorter than 11 there is no window.
///
/// The loss clamps the mapped prediction to [0, 1] and a channel's average to 0 from below; the
/// `metric` does neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ssim {
    /// Whether nothing is clamped, as in the logged metric.
    pub metric: bool,
}

/// Gradient of [`Ssim`] with respect to the prediction: inputs prediction, target, dy `[N]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SsimGrad {
    /// The similarity.
    pub of: Ssim,
}

/// `(K1 L)²` with `K1` = 0.01 and data range `L` = 1.
const C1: f64 = 0.01 * 0.01;
/// `(K2 L)²` with `K2` = 0.03.
const C2: f64 = 0.03 * 0.03;
/// Window extent.
const TAPS: usize = 11;
/// Standard deviation of the window in pixels.
const SIGMA: f64 = 1.5;

/// The window along an axis of `extent` pixels; a single 1 if the axis is shorter than it.
/// Weights beyond `len` are zero.
#[derive(Clone, Copy, Debug)]
struct SsimWindow {
    weights: [f64; TAPS],
    len: usize,
}

impl SsimWindow {
    fn along(extent: usize) -> Self {
        let mut weights = [0.0; TAPS];
        if extent < TAPS {
            weights[0] = 1.0;
            return Self { weights, len: 1 };
        }
        let middle = (TAPS / 2) as f64;
        for (i, weight) in weights.iter_mut().enumerate() {
            *weight = (-(i as f64 - middle).powi(2) / (2.0 * SIGMA * SIGMA)).exp();
        }
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
        Self { weights, len: TAPS }
    }

    fn taps(&self) -> &[f64] {
        &self.weights[..self.len]
    }

    /// Window positions along an axis of `extent` pixels.
    fn positions(&self, extent: usize) -> usize {
        extent + 1 - self.len
    }
}

fn fits(a: &TensorType, b: &TensorType) -> bool {
    a == b
        && *a == TensorType::f32(a.shape.clone())
        && a.shape.len() == 4
        && a.shape[1..].iter().all(|&extent| extent > 0)
}

impl Operator for Ssim {
    fn name(&self) -> &'static str {
        "ssim"
    }

    fn describe(&self) -> String {
        if self.metric { "ssim metric" } else { "ssim" }.to_owned()
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [a, b] if fits(a, b) => Ok(vec![TensorType::f32([a.shape[0]])]),
            _ => Err(Mismatch::inputs(
                "prediction and target f32[N, H, W, C]",
                inputs,
            )),
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        // Five moments, two passes of eleven taps.
        (5 * 2 * 2 * TAPS * inputs[0].len()) as u64
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        if cx.wanted[1] {
            return Ok(None);
        }
        let inputs = [cx.inputs[0], cx.inputs[1], cx.dy()];
        let dx = cx.graph.apply(SsimGrad { of: *self }, &inputs)?;
        Ok(Some(vec![Some(dx), None]))
    }
}

impl Operator for SsimGrad {
    fn name(&self) -> &'static str {
        "ssim_grad"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [a, b, dy] if fits(a, b) && *dy == TensorType::f32([a.shape[0]]) => Ok(vec![a.clone()]),
            _ => Err(Mismatch::inputs(
                "prediction and target f32[N, H, W, C] and dy f32[N]",
                inputs,
            )),
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        // The five moments again, and three maps back through the window.
        (8 * 2 * 2 * TAPS * inputs[0].len()) as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }
}

impl Graph {
    /// Structural similarity `[N]` of `prediction` and `target` `[N, H, W, C]` in [-1, 1], as in the
    /// VAE's loss; differentiable with respect to the prediction. See [`Ssim`].
    ///
    /// # Errors
    /// If the shapes differ or an extent is 0.
    pub fn ssim(&mut self, prediction: Value, target: Value) -> Result<Value, GraphError> {
        self.apply(Ssim { metric: false }, &[prediction, target])
    }

    /// As [`Graph::ssim`] without any clamping: the logged metric.
    ///
    /// # Errors
    /// As [`Graph::ssim`].
    pub fn ssim_metric(&mut self, prediction: Value, target: Value) -> Result<Value, GraphError> {
        self.apply(Ssim { metric: true }, &[prediction, target])
    }
}
