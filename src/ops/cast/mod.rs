//! Conversion between the float types of activations; added by `compile/passes/precision.rs`, not by model code.

mod cuda;
#[cfg(test)]
mod tests;

use half::{bf16, f16};

use super::{Operator, PrecisionRule};
use crate::graph::{Gradient, GraphError, Mismatch, TensorType, Value};
use crate::kernel::cpu::{CpuCall, CpuOperator};
use crate::kernel::reference::{Array, ReferenceOperator};
use crate::tensor::DType;

/// The input rounded to another float type, to nearest even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// Type of the result.
    pub to: DType,
}

/// `value` as the nearest number of type `dtype`.
pub fn rounded(value: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F16 => f16::from_f64(value).to_f64(),
        DType::BF16 => bf16::from_f64(value).to_f64(),
        _ => value,
    }
}

impl Operator for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn describe(&self) -> String {
        format!("cast {}", self.to)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [x] if x.dtype.is_float() && self.to.is_float() => {
                Ok(vec![TensorType::new(x.shape.clone(), self.to)])
            }
            _ => Err(Mismatch::inputs("one array of floats", inputs)),
        }
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> u64 {
        0
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let to = cx.graph.ty(cx.inputs[0]).dtype;
        let dy = cx.dy();
        Ok(Some(vec![Some(cx.graph.apply(Cast { to }, &[dy])?)]))
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::Full
    }
}

impl ReferenceOperator for Cast {
    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let data = inputs[0]
            .data
            .iter()
            .map(|&v| rounded(v, self.to))
            .collect();
        vec![Array::new(inputs[0].shape.clone(), data)]
    }
}

impl CpuOperator for Cast {
    /// The CPU computes in `f32` alone, where a cast is a copy.
    fn run(&self, call: &CpuCall<'_>) {
        call.out(0).copy_from_slice(call.f32(0));
    }
}
