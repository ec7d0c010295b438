//! Norm of all gradients together, for clipping and for the check that they are finite.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::Operator;
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};

/// Euclidean norms of any number of arrays. Results:
/// 0. the norm of all together, a scalar,
/// 1. the factor that clips the norm, `min(1, max_norm / (norm + 1e-6))`, a scalar,
/// 2. 1 if the norm is finite, else 0, a scalar: a gate for updates,
/// 3. the norm of each array, `[K]`, which tells which array is not finite.
///
/// If `scaled`, the last input is a scalar, the scale by which the arrays are multiplied. Norms are divided by it, and so
/// is the factor, which then both clips and removes the scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GlobalNorm {
    /// The norm that clipping allows; infinity for no clipping.
    pub max_norm: f32,
    /// Whether the scale of the arrays is a last input.
    pub scaled: bool,
}

/// Results of [`Graph::global_norm`], see [`GlobalNorm`].
#[derive(Clone, Copy, Debug)]
pub struct Norms {
    /// Norm of all together, a scalar.
    pub total: Value,
    /// Factor that clips the norm, a scalar.
    pub clip_factor: Value,
    /// 1 if the norm is finite, else 0, a scalar.
    pub finite: Value,
    /// Norm of each array, `[K]`.
    pub each: Value,
}

/// Keeps the factor finite for gradients of zero.
const EPSILON: f64 = 1e-6;

impl Operator for GlobalNorm {
    fn name(&self) -> &'static str {
        "global_norm"
    }

    fn describe(&self) -> String {
        format!("global_norm <= {}", self.max_norm)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let floats = |ty: &TensorType| *ty == TensorType::f32(ty.shape.clone());
        let scalar = TensorType::f32([]);
        let arrays = inputs.len().saturating_sub(usize::from(self.scaled));
        let scale_fits = !self.scaled || inputs.last() == Some(&scalar);
        if arrays == 0 || !inputs.iter().all(floats) || !scale_fits {
            let scale = if self.scaled {
                " and a scale f32[]"
            } else {
                ""
            };
            let expected = format!("one or more f32 arrays{scale}");
            return Err(Mismatch::inputs(expected, inputs));
        }
        Ok(vec![
            scalar.clone(),
            scalar.clone(),
            scalar,
            TensorType::f32([arrays]),
        ])
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        inputs.iter().map(|ty| 2 * ty.len() as u64).sum()
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }
}

impl Graph {
    /// Norm of all `arrays` together, the factor that clips it to `max_norm`, and the norm of
    /// each.
    ///
    /// # Errors
    /// If there is no array.
    pub fn global_norm(&mut self, arrays: &[Value], max_norm: f32) -> Result<Norms, GraphError> {
        self.norms(arrays.to_vec(), None, max_norm)
    }

    /// As [`Graph::global_norm`] for `arrays` that are multiplied by the scalar `scale`: the norms are those without the
    /// scale, and the factor removes it.
    ///
    /// # Errors
    /// If there is no array, or the scale is no scalar.
    pub fn scaled_global_norm(
        &mut self,
        arrays: &[Value],
        scale: Value,
        max_norm: f32,
    ) -> Result<Norms, GraphError> {
        self.norms(arrays.to_vec(), Some(scale), max_norm)
    }

    fn norms(
        &mut self,
        mut inputs: Vec<Value>,
        scale: Option<Value>,
        max_norm: f32,
    ) -> Result<Norms, GraphError> {
        inputs.extend(scale);
        let op = GlobalNorm {
            max_norm,
            scaled: scale.is_some(),
        };
        let results = self.node(op, &inputs)?;
        Ok(Norms {
            total: results[0],
            clip_factor: results[1],
            finite: results[2],
            each: results[3],
        })
    }
}
