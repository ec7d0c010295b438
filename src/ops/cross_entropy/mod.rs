//! Cross-entropy of class scores.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::Operator;
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};
use crate::tensor::DType;

/// `mean_n(ln sum_k exp(z_nk) - z_n,label(n))`: logits `[N, K]`, labels `i32[N]`, scalar result in
/// nats. A label outside `0..K` gives NaN; the host checks labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrossEntropy;

/// `dy (softmax(z) - onehot(label)) / N`: inputs logits, labels, scalar dy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrossEntropyGrad;

fn fits(logits: &TensorType, labels: &TensorType) -> bool {
    logits.dtype == DType::F32
        && matches!(logits.shape[..], [n, k] if n > 0 && k > 0)
        && *labels == TensorType::new([logits.shape[0]], DType::I32)
}

impl Operator for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [logits, labels] if fits(logits, labels) => Ok(vec![TensorType::f32([])]),
            _ => Err(Mismatch::inputs(
                "logits f32[N, K] and labels i32[N]",
                inputs,
            )),
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        3 * inputs[0].len() as u64
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let inputs = [cx.inputs[0], cx.inputs[1], cx.dy()];
        let dz = cx.graph.apply(CrossEntropyGrad, &inputs)?;
        Ok(Some(vec![Some(dz), None]))
    }
}

impl Operator for CrossEntropyGrad {
    fn name(&self) -> &'static str {
        "cross_entropy_grad"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [logits, labels, dy] if fits(logits, labels) && *dy == TensorType::f32([]) => {
                Ok(vec![logits.clone()])
            }
            _ => Err(Mismatch::inputs(
                "logits f32[N, K], labels i32[N] and a scalar dy",
                inputs,
            )),
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        4 * inputs[0].len() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }
}

impl Graph {
    /// Mean cross-entropy of `logits` `[N, K]` under `labels` `i32[N]`, a scalar in nats.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn cross_entropy(&mut self, logits: Value, labels: Value) -> Result<Value, GraphError> {
        self.apply(CrossEntropy, &[logits, labels])
    }
}
