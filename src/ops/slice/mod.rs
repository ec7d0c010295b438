//! A part of an array along one axis, and its reverse, zeros around an array.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

pub(crate) use cuda::{Part, copy_parts};

use super::{Operator, PrecisionRule};
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};

/// Elements `start..start + len` along `axis`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The axis along which it cuts or pads.
    pub axis: usize,
    /// First index along the axis.
    pub start: usize,
    /// Extent of the result along the axis.
    pub len: usize,
}

/// The array with `before` zeros in front and `after` zeros behind along `axis`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pad {
    /// The axis along which it cuts or pads.
    pub axis: usize,
    /// Zeros in front of the operand.
    pub before: usize,
    /// Zeros behind the operand.
    pub after: usize,
}

impl Operator for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn describe(&self) -> String {
        format!(
            "slice axis {} {}..{}",
            self.axis,
            self.start,
            self.start + self.len
        )
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let end = self.start + self.len;
        match inputs {
            [x] if x.dtype.is_float() && x.shape.get(self.axis).is_some_and(|&n| end <= n) => {
                let mut y = x.clone();
                y.shape[self.axis] = self.len;
                Ok(vec![y])
            }
            _ => Err(Mismatch::inputs(
                format!(
                    "a float array with at least {end} elements along axis {}",
                    self.axis
                ),
                inputs,
            )),
        }
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> u64 {
        0
    }

    /// The result is read and written; the rest of the operand is not touched.
    fn bytes(&self, _: &[TensorType], outputs: &[TensorType]) -> u64 {
        2 * outputs[0].bytes() as u64
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let extent = cx.graph.shape(cx.inputs[0])[self.axis];
        let pad = Pad {
            axis: self.axis,
            before: self.start,
            after: extent - self.start - self.len,
        };
        let dy = cx.dy();
        Ok(Some(vec![Some(cx.graph.apply(pad, &[dy])?)]))
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::FOLLOWS
    }
}

impl Operator for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn describe(&self) -> String {
        format!("pad axis {} {}+{}", self.axis, self.before, self.after)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [x] if x.dtype.is_float() && self.axis < x.shape.len() => {
                let mut y = x.clone();
                y.shape[self.axis] += self.before + self.after;
                Ok(vec![y])
            }
            _ => Err(Mismatch::inputs(
                format!("a float array with an axis {}", self.axis),
                inputs,
            )),
        }
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> u64 {
        0
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let slice = Slice {
            axis: self.axis,
            start: self.before,
            len: cx.graph.shape(cx.inputs[0])[self.axis],
        };
        let dy = cx.dy();
        Ok(Some(vec![Some(cx.graph.apply(slice, &[dy])?)]))
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::FOLLOWS
    }
}

impl Graph {
    /// Elements `start..start + len` of the innermost axis.
    ///
    /// # Errors
    /// If the axis is shorter.
    pub fn slice(&mut self, x: Value, start: usize, len: usize) -> Result<Value, GraphError> {
        let axis = self.shape(x).len().saturating_sub(1);
        self.slice_along(axis, x, start, len)
    }

    /// Elements `start..start + len` along `axis`, 0 being the batch.
    ///
    /// # Errors
    /// If the axis is shorter.
    pub fn slice_along(
        &mut self,
        axis: usize,
        x: Value,
        start: usize,
        len: usize,
    ) -> Result<Value, GraphError> {
        self.apply(Slice { axis, start, len }, &[x])
    }

    /// `x` with `before` zeros in front and `after` zeros behind along `axis`.
    ///
    /// # Errors
    /// If there is no such axis.
    pub fn pad_along(
        &mut self,
        axis: usize,
        x: Value,
        before: usize,
        after: usize,
    ) -> Result<Value, GraphError> {
        self.apply(
            Pad {
                axis,
                before,
                after,
            },
            &[x],
        )
    }
}
