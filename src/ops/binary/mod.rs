//! Elementwise operations of two arrays with broadcasting.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::{Operator, PrecisionRule, Reshape, SumTo, Unary};
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};

/// `a ∘ b`. Shapes are aligned at the innermost axis; an extent of 1 (or a missing outer axis)
/// repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `a / b`.
    Div,
}

impl Binary {
    /// The result shape of two shapes, if they broadcast.
    fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
        let rank = a.len().max(b.len());
        let extent = |shape: &[usize], axis: usize| {
            (axis + shape.len())
                .checked_sub(rank)
                .map_or(1, |axis| shape[axis])
        };
        (0..rank)
            .map(|axis| match (extent(a, axis), extent(b, axis)) {
                (x, y) if x == y => Some(x),
                (1, y) => Some(y),
                (x, 1) => Some(x),
                _ => None,
            })
            .collect()
    }
}

/// Index into an array of `shape` of the element that broadcasts to flat index `flat` of `full`.
pub(crate) fn broadcast_index(shape: &[usize], full: &[usize], mut flat: usize) -> usize {
    let (mut index, mut stride) = (0, 1);
    for axis in (0..full.len()).rev() {
        let coordinate = flat % full[axis];
        flat /= full[axis];
        if let Some(own) = (axis + shape.len()).checked_sub(full.len()) {
            if shape[own] != 1 {
                index += coordinate * stride;
            }
            stride *= shape[own];
        }
    }
    index
}

impl Operator for Binary {
    fn name(&self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
        }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let expected = "two arrays of one float type whose shapes broadcast";
        match inputs {
            [a, b] if a.dtype == b.dtype && a.dtype.is_float() => {
                Binary::broadcast(&a.shape, &b.shape)
                    .map(|shape| vec![TensorType::new(shape, a.dtype)])
                    .ok_or_else(|| Mismatch::inputs(expected, inputs))
            }
            _ => Err(Mismatch::inputs(expected, inputs)),
        }
    }

    fn flops(&self, _: &[TensorType], outputs: &[TensorType]) -> u64 {
        outputs[0].len() as u64
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let [a, b] = [cx.inputs[0], cx.inputs[1]];
        let dy = cx.dy();
        let g = &mut *cx.graph;
        let (mut da, mut db) = (None, None);
        if cx.wanted[0] {
            let full = match self {
                Binary::Add | Binary::Sub => dy,
                Binary::Mul => g.apply(Binary::Mul, &[dy, b])?,
                Binary::Div => g.apply(Binary::Div, &[dy, b])?,
            };
            let shape = g.shape(a).to_vec();
            da = Some(g.sum_to(full, &shape)?);
        }
        if cx.wanted[1] {
            let full = match self {
                Binary::Add => dy,
                Binary::Sub => g.apply(Unary::scale(-1.0), &[dy])?,
                Binary::Mul => g.apply(Binary::Mul, &[dy, a])?,
                Binary::Div => {
                    // d(a/b)/db = -(a/b)/b
                    let y_over_b = g.apply(Binary::Div, &[cx.outputs[0], b])?;
                    let product = g.apply(Binary::Mul, &[dy, y_over_b])?;
                    g.apply(Unary::scale(-1.0), &[product])?
                }
            };
            let shape = g.shape(b).to_vec();
            db = Some(g.sum_to(full, &shape)?);
        }
        Ok(Some(vec![da, db]))
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0), (0, 1)]
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::FOLLOWS
    }
}

impl Graph {
    /// `a + b`, broadcasting.
    ///
    /// # Errors
    /// If the shapes do not broadcast.
    pub fn add(&mut self, a: Value, b: Value) -> Result<Value, GraphError> {
        self.apply(Binary::Add, &[a, b])
    }

    /// `a - b`, broadcasting.
    ///
    /// # Errors
    /// If the shapes do not broadcast.
    pub fn sub(&mut self, a: Value, b: Value) -> Result<Value, GraphError> {
        self.apply(Binary::Sub, &[a, b])
    }

    /// `a * b`, broadcasting.
    ///
    /// # Errors
    /// If the shapes do not broadcast.
    pub fn mul(&mut self, a: Value, b: Value) -> Result<Value, GraphError> {
        self.apply(Binary::Mul, &[a, b])
    }

    /// `x + e` with `e` `[N, C]` repeated over the axes of `x` `[N, …, C]` between batch and
    /// channels: the per-sample embedding of a block.
    ///
    /// # Errors
    /// If batch or channels differ.
    pub fn add_channels(&mut self, x: Value, e: Value) -> Result<Value, GraphError> {
        let mut shape = vec![1; self.shape(x).len()];
        if let ([first, .., last], [n, c]) = (shape.as_mut_slice(), self.shape(e)) {
            (*first, *last) = (*n, *c);
            let e = self.apply(Reshape { shape }, &[e])?;
            return self.add(x, e);
        }
        self.add(x, e)
    }

    /// Sums `x` over the axes in which `shape` has extent 1 or none; `x` itself, or a view, if they hold one element.
    ///
    /// # Errors
    /// If `x` could not have been broadcast from `shape`.
    pub fn sum_to(&mut self, x: Value, shape: &[usize]) -> Result<Value, GraphError> {
        if self.shape(x) == shape {
            return Ok(x);
        }
        let shape = shape.to_vec();
        let sum = SumTo { shape };
        let ty = self.ty(x);
        let sums = sum.infer(std::slice::from_ref(ty));
        if sums.is_ok_and(|sums| sums[0].len() == ty.len()) {
            return self.apply(Reshape { shape: sum.shape }, &[x]);
        }
        self.apply(sum, &[x])
    }
}
