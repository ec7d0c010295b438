//! Sums that stay on the device from run to run: gradients of several passes before one update.

mod cuda;
#[cfg(test)]
mod tests;

use super::Operator;
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};
use crate::kernel::cpu::parallel::for_ranges;
use crate::kernel::cpu::simd::vectorised;
use crate::kernel::cpu::{CpuCall, CpuOperator};
use crate::kernel::reference::{Array, ReferenceOperator};

/// `sum = sum + factor x` if the scalar `keep` is not 0, else `sum = factor x`, whatever `sum` held.
///
/// Inputs: sum (updated), x, of one `f32` type; keep, a scalar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accumulate {
    /// Factor of what is added.
    pub factor: f32,
}

impl Operator for Accumulate {
    fn name(&self) -> &'static str {
        "accumulate"
    }

    fn describe(&self) -> String {
        format!("accumulate x{:.3e}", self.factor)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [sum, x, keep]
                if sum == x
                    && *sum == TensorType::f32(sum.shape.clone())
                    && *keep == TensorType::f32([]) =>
            {
                Ok(Vec::new())
            }
            _ => Err(Mismatch::inputs(
                "sum and x of one f32 type and keep f32[]",
                inputs,
            )),
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        2 * inputs[0].len() as u64
    }

    fn bytes(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        3 * inputs[0].bytes() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }

    fn updates(&self) -> &'static [usize] {
        &[0]
    }
}

impl Graph {
    /// Adds `factor x` to the state `sum`, or replaces the sum if the scalar `keep` is 0. Values that are added to the
    /// graph later read the new sum.
    ///
    /// # Errors
    /// If the types differ.
    pub fn accumulate(
        &mut self,
        sum: Value,
        x: Value,
        keep: Value,
        factor: f32,
    ) -> Result<(), GraphError> {
        self.node(Accumulate { factor }, &[sum, x, keep])?;
        Ok(())
    }
}

impl ReferenceOperator for Accumulate {
    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let mut sum = inputs[0].clone();
        let keep = inputs[2].data[0] != 0.0;
        for (sum, x) in sum.data.iter_mut().zip(&inputs[1].data) {
            let old = if keep { *sum } else { 0.0 };
            *sum = old + f64::from(self.factor) * x;
        }
        vec![sum]
    }
}

impl CpuOperator for Accumulate {
    fn run(&self, call: &CpuCall<'_>) {
        let (x, keep, factor) = (call.f32(1), call.f32(2)[0] != 0.0, self.factor);
        for_ranges(call.update(0), |range, sum| {
            let x = &x[range];
            vectorised(|| {
                for (sum, x) in sum.iter_mut().zip(x) {
                    *sum = factor * x + if keep { *sum } else { 0.0 };
                }
            });
        });
    }
}
