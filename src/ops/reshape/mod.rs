//! The same elements under another shape.

mod cuda;

use super::{Operator, PrecisionRule};
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};
use crate::kernel::cpu::{CpuCall, CpuOperator};
use crate::kernel::reference::{Array, ReferenceOperator};

/// A view: row-major elements of the operand as `shape`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reshape {
    /// Shape of the result.
    pub shape: Vec<usize>,
}

impl Operator for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let len: usize = self.shape.iter().product();
        match inputs {
            [x] if x.len() == len => Ok(vec![TensorType::new(self.shape.clone(), x.dtype)]),
            _ => Err(Mismatch::inputs(
                format!("one array of {len} elements for {:?}", self.shape),
                inputs,
            )),
        }
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> u64 {
        0
    }

    fn bytes(&self, _: &[TensorType], _: &[TensorType]) -> u64 {
        0
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let shape = cx.graph.shape(cx.inputs[0]).to_vec();
        let dy = cx.dy();
        Ok(Some(vec![Some(cx.graph.reshape(dy, shape)?)]))
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::FOLLOWS
    }

    fn is_view(&self) -> bool {
        true
    }
}

impl Graph {
    /// `x` under another shape of as many elements.
    ///
    /// # Errors
    /// If the element counts differ.
    pub fn reshape(&mut self, x: Value, shape: impl Into<Vec<usize>>) -> Result<Value, GraphError> {
        let shape = shape.into();
        self.apply(Reshape { shape }, &[x])
    }
}

impl ReferenceOperator for Reshape {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        vec![Array::new(outputs[0].shape.clone(), inputs[0].data.clone())]
    }
}

impl CpuOperator for Reshape {
    fn run(&self, _: &CpuCall<'_>) {
        unreachable!("views are no steps")
    }
}
