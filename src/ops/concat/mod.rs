//! Concatenation of arrays along one axis.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::{Operator, PrecisionRule, Slice};
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};

/// Any number of arrays that agree in all axes but `axis`, one after another along `axis`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concat {
    /// The axis along which the arrays follow each other.
    pub axis: usize,
}

impl Operator for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn describe(&self) -> String {
        format!("concat axis {}", self.axis)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let joined = || {
            let mut joined = inputs.first().filter(|x| x.dtype.is_float())?.clone();
            let total = inputs
                .iter()
                .map(|x| x.shape.get(self.axis).copied().unwrap_or(0))
                .sum();
            *joined.shape.get_mut(self.axis)? = total;
            let fits = |x: &TensorType| {
                let mut x = x.clone();
                if let Some(extent) = x.shape.get_mut(self.axis) {
                    *extent = total;
                }
                x == joined
            };
            inputs.iter().all(fits).then_some(vec![joined])
        };
        joined().ok_or_else(|| {
            Mismatch::inputs(
                format!("float arrays that differ in axis {} only", self.axis),
                inputs,
            )
        })
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> u64 {
        0
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let (axis, dy) = (self.axis, cx.dy());
        let mut start = 0;
        let mut grads = Vec::with_capacity(cx.inputs.len());
        for (&input, &wanted) in cx.inputs.iter().zip(cx.wanted) {
            let len = cx.graph.shape(input)[axis];
            let slice = Slice { axis, start, len };
            grads.push(wanted.then(|| cx.graph.apply(slice, &[dy])).transpose()?);
            start += len;
        }
        Ok(Some(grads))
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::FOLLOWS
    }
}

impl Graph {
    /// Concatenates arrays along the innermost axis: the channels of activations.
    ///
    /// # Errors
    /// If there is no array or they differ in another axis.
    pub fn concat(&mut self, values: &[Value]) -> Result<Value, GraphError> {
        let axis = values
            .first()
            .map_or(0, |&v| self.shape(v).len().saturating_sub(1));
        self.apply(Concat { axis }, values)
    }

    /// Concatenates arrays along `axis`; axis 0 is the batch.
    ///
    /// # Errors
    /// If there is no array or they differ in another axis.
    pub fn concat_along(&mut self, axis: usize, values: &[Value]) -> Result<Value, GraphError> {
        self.apply(Concat { axis }, values)
    }
}
