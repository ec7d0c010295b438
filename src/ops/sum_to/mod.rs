//! Sums over axes: the reverse of broadcasting.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::{Binary, Operator, PrecisionRule};
use crate::graph::{Gradient, GraphError, Mismatch, TensorType, Value};

/// Sums the operand over every axis in which `shape` has extent 1, and over outer axes that `shape`
/// lacks. The order of the sum is fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumTo {
    /// Shape of the result.
    pub shape: Vec<usize>,
}

impl Operator for SumTo {
    fn name(&self) -> &'static str {
        "sum_to"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let fits = |x: &TensorType| {
            let outer = x.shape.len().checked_sub(self.shape.len());
            x.dtype.is_float()
                && outer.is_some_and(|outer| {
                    let pairs = self.shape.iter().zip(&x.shape[outer..]);
                    pairs.into_iter().all(|(&to, &from)| to == from || to == 1)
                })
        };
        match inputs {
            [x] if fits(x) => Ok(vec![TensorType::new(self.shape.clone(), x.dtype)]),
            _ => Err(Mismatch::inputs(
                format!("one array that {:?} broadcasts to", self.shape),
                inputs,
            )),
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        inputs[0].len() as u64
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        // Broadcasting against zeros repeats dy over the summed axes.
        let dy = cx.dy();
        let shape = cx.graph.shape(cx.inputs[0]).to_vec();
        let zeros = vec![0.0; shape.iter().product()];
        let zeros = cx.graph.constant(shape, &zeros)?;
        Ok(Some(vec![Some(cx.graph.apply(Binary::Add, &[zeros, dy])?)]))
    }

    /// Sums are gradients of weights and losses, and stay `f32`.
    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::Follows {
            inputs: u64::MAX,
            results: 0,
        }
    }
}
