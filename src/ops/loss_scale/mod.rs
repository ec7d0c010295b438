//! The scale of a loss whose gradients are f16: as large as f16 can represent, found while training.
//!
//! Source: Micikevicius et al., "Mixed Precision Training", ICLR 2018, section 3.2, with the scale adapted to overflows.

mod cuda;
#[cfg(test)]
mod tests;

use super::Operator;
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};
use crate::kernel::cpu::{CpuCall, CpuOperator};
use crate::kernel::reference::{Array, ReferenceOperator};
use crate::tensor::DType;

/// Adapts the scale after a step. If the gradient was not finite, the scale is halved, not below 1, and the count of good
/// steps starts again. After `interval` good steps in a row the scale is doubled, not beyond [`LossScale::LARGEST`].
///
/// Inputs: scale, a scalar, and the number of good steps `i32[1]` (both updated); a scalar that is 0 if the gradient was
/// not finite; if `gated`, a scalar; 0 changes nothing. Scalar result: 1 if the gradient was not finite and the
/// scale can still be lowered, which makes this an overflow and not a fault; else 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossScale {
    /// Good steps before the scale grows.
    pub interval: i32,
    /// Whether a gate is the last input.
    pub gated: bool,
}

impl LossScale {
    /// Scale of the first step. Scales are powers of two, so that they round nothing.
    pub const FIRST: f32 = 65536.0;
    /// Largest scale: f16 gains nothing from a larger one, and the scale stays an exact integer in f32.
    pub const LARGEST: f32 = 16_777_216.0;
    /// Good steps before the scale grows, as PyTorch has it.
    pub const INTERVAL: i32 = 2000;

    /// Scale, good steps and result after a step.
    fn next(self, scale: f32, good: i32, finite: bool, open: bool) -> (f32, i32, bool) {
        let overflow = !finite && scale > 1.0;
        match (open, finite) {
            (false, _) => (scale, good, overflow),
            (true, false) => ((0.5 * scale).max(1.0), 0, overflow),
            (true, true) if good + 1 >= self.interval => {
                ((2.0 * scale).min(Self::LARGEST), 0, overflow)
            }
            (true, true) => (scale, good + 1, overflow),
        }
    }
}

impl Operator for LossScale {
    fn name(&self) -> &'static str {
        "loss_scale"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let scalar = TensorType::f32([]);
        match inputs {
            [scale, good, rest @ ..]
                if *scale == scalar
                    && *good == TensorType::new([1], DType::I32)
                    && rest.len() == 1 + usize::from(self.gated)
                    && rest.iter().all(|ty| *ty == scalar) =>
            {
                Ok(vec![scalar])
            }
            _ => {
                let gate = if self.gated { " and a gate f32[]" } else { "" };
                let expected = format!("scale f32[], good steps i32[1], finite f32[]{gate}");
                Err(Mismatch::inputs(expected, inputs))
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
        &[0, 1]
    }
}

impl Graph {
    /// Adapts the states `scale` and `good` to whether the gradient was `finite`, if the scalar `gate` is not 0. The result
    /// tells whether the step was an overflow. See [`LossScale`]. Add it after everything that reads the scale.
    ///
    /// # Errors
    /// If a type does not fit.
    pub fn loss_scale(
        &mut self,
        scale: Value,
        good: Value,
        finite: Value,
        gate: Option<Value>,
    ) -> Result<Value, GraphError> {
        let mut inputs = vec![scale, good, finite];
        inputs.extend(gate);
        let op = LossScale {
            interval: LossScale::INTERVAL,
            gated: gate.is_some(),
        };
        self.apply(op, &inputs)
    }
}

impl ReferenceOperator for LossScale {
    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let at = |i: usize| inputs[i].data[0];
        let (finite, open) = (at(2) != 0.0, !self.gated || at(3) != 0.0);
        let (scale, good, overflow) = self.next(at(0) as f32, at(1) as i32, finite, open);
        vec![
            Array::scalar(f64::from(u8::from(overflow))),
            Array::scalar(f64::from(scale)),
            Array::new([1], vec![f64::from(good)]),
        ]
    }
}

impl CpuOperator for LossScale {
    fn run(&self, call: &CpuCall<'_>) {
        let (scale, good) = (call.update(0), call.update_i32(1));
        let finite = call.f32(2)[0] != 0.0;
        let open = !self.gated || call.f32(3)[0] != 0.0;
        let (next, count, overflow) = self.next(scale[0], good[0], finite, open);
        (scale[0], good[0]) = (next, count);
        call.out(0)[0] = f32::from(u8::from(overflow));
    }
}
