//! Counters on the device: steps of a sampler, of an optimizer, of a moving average.

mod cuda;
#[cfg(test)]
mod tests;

use super::Operator;
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};
use crate::kernel::cpu::{CpuCall, CpuOperator};
use crate::kernel::reference::{Array, ReferenceOperator};
use crate::tensor::DType;

/// Adds 1 to a counter `i32[1]`; if `gated`, only if the second input, a scalar, is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Increment {
    /// Whether a gate follows the counter.
    pub gated: bool,
}

impl Operator for Increment {
    fn name(&self) -> &'static str {
        "increment"
    }

    fn describe(&self) -> String {
        if self.gated {
            "increment gated".to_owned()
        } else {
            "increment".to_owned()
        }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let counter = TensorType::new([1], DType::I32);
        match inputs {
            [c] if *c == counter && !self.gated => Ok(Vec::new()),
            [c, gate] if *c == counter && self.gated && *gate == TensorType::f32([]) => {
                Ok(Vec::new())
            }
            _ => {
                let gate = if self.gated { " and a gate f32[]" } else { "" };
                Err(Mismatch::inputs(format!("a counter i32[1]{gate}"), inputs))
            }
        }
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> u64 {
        1
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }

    fn updates(&self) -> &'static [usize] {
        &[0]
    }
}

impl Graph {
    /// Adds 1 to the state `counter` `i32[1]` in each run. Add it after every op that reads the
    /// counter.
    ///
    /// # Errors
    /// If `counter` is not `i32[1]`.
    pub fn increment(&mut self, counter: Value) -> Result<(), GraphError> {
        self.node(Increment { gated: false }, &[counter])?;
        Ok(())
    }

    /// As [`Graph::increment`], but only if the scalar `gate` is not zero.
    ///
    /// # Errors
    /// If `counter` is not `i32[1]` or `gate` is no scalar.
    pub fn increment_if(&mut self, counter: Value, gate: Value) -> Result<(), GraphError> {
        self.node(Increment { gated: true }, &[counter, gate])?;
        Ok(())
    }
}

impl ReferenceOperator for Increment {
    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let open = !self.gated || inputs[1].data[0] != 0.0;
        let count = inputs[0].data[0] + f64::from(u8::from(open));
        vec![Array::new([1], vec![count])]
    }
}

impl CpuOperator for Increment {
    fn run(&self, call: &CpuCall<'_>) {
        let open = !self.gated || call.f32(1)[0] != 0.0;
        let counter = call.update_i32(0);
        counter[0] = counter[0].wrapping_add(i32::from(open));
    }
}
