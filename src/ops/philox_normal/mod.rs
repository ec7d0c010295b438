//! Standard normals from the counter-based generator: image `k` of a seed gets the same numbers
//! in any batch.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::Operator;
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};
use crate::tensor::DType;
use crate::tensor::philox::RandomStream;

/// Normals `[N, shape…]`: element `e` (row-major within the sample) of sample `n` is number `e` of
/// the stream (seed, purpose) at (image index `n`, step); see [`crate::tensor::philox`].
///
/// Inputs: seed `i32[2]` (low and high word), image indices `i32[N]` (as unsigned numbers), step
/// `i32[1]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhiloxNormal {
    /// Which stream the numbers come from.
    pub purpose: RandomStream,
    /// Shape of one sample.
    pub shape: Vec<usize>,
}

/// Operations per number: 10 rounds of 8 on integers per 4 numbers, then about 20 for the transform.
pub(super) const NORMAL_FLOPS: u64 = 40;

impl Operator for PhiloxNormal {
    fn name(&self) -> &'static str {
        "philox_normal"
    }

    fn describe(&self) -> String {
        format!("philox_normal {:?}", self.purpose)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [seed, images, step]
                if *seed == TensorType::new([2], DType::I32)
                    && images.dtype == DType::I32
                    && images.shape.len() == 1
                    && *step == TensorType::new([1], DType::I32) =>
            {
                let mut shape = images.shape.clone();
                shape.extend(&self.shape);
                Ok(vec![TensorType::f32(shape)])
            }
            _ => Err(Mismatch::inputs(
                "seed i32[2], image indices i32[N] and step i32[1]",
                inputs,
            )),
        }
    }

    fn flops(&self, _: &[TensorType], outputs: &[TensorType]) -> u64 {
        NORMAL_FLOPS * outputs[0].len() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }
}

impl Graph {
    /// Standard normals `[N, shape…]` of the images `images` `i32[N]` of `seed` `i32[2]` at
    /// `step` `i32[1]`.
    ///
    /// # Errors
    /// If the inputs are of other types.
    pub fn philox_normal(
        &mut self,
        purpose: RandomStream,
        seed: Value,
        images: Value,
        step: Value,
        shape: impl Into<Vec<usize>>,
    ) -> Result<Value, GraphError> {
        let shape = shape.into();
        self.apply(PhiloxNormal { purpose, shape }, &[seed, images, step])
    }
}

/// The seed of [`seed_words`](crate::tensor::philox::seed_words).
pub(super) fn seed_of(words: &[i32]) -> u64 {
    u64::from(words[0] as u32) | u64::from(words[1] as u32) << 32
}
