//! CPU kernels.

use super::{Unary, UnaryGrad};
use crate::kernel::cpu::simd::{exp, gelu, gelu_derivative, swish, swish_derivative};
use crate::kernel::cpu::{CpuCall, CpuOperator};

impl CpuOperator for Unary {
    fn run(&self, call: &CpuCall<'_>) {
        match *self {
            Unary::Swish => call.unary(0, 0, swish),
            Unary::Gelu => call.unary(0, 0, gelu),
            // A comparison keeps NaN, which `max` would replace.
            Unary::Relu => call.unary(
                0,
                0,
                #[inline(always)]
                |x| if x < 0.0 { 0.0 } else { x },
            ),
            Unary::Exp => call.unary(0, 0, exp),
            Unary::Abs => call.unary(0, 0, f32::abs),
            Unary::Square => call.unary(
                0,
                0,
                #[inline(always)]
                |x| x * x,
            ),
            Unary::Affine { scale, shift } => call.unary(
                0,
                0,
                #[inline(always)]
                |x| scale * x + shift,
            ),
            Unary::Clamp { low, high } => call.unary(
                0,
                0,
                #[inline(always)]
                |x| {
                    if x < low {
                        low
                    } else if x > high {
                        high
                    } else {
                        x
                    }
                },
            ),
        }
    }
}

impl CpuOperator for UnaryGrad {
    fn run(&self, call: &CpuCall<'_>) {
        match self.of {
            Unary::Swish => call.binary(
                0,
                1,
                0,
                #[inline(always)]
                |x, dy| swish_derivative(x) * dy,
            ),
            Unary::Gelu => call.binary(
                0,
                1,
                0,
                #[inline(always)]
                |x, dy| gelu_derivative(x) * dy,
            ),
            Unary::Relu => call.binary(
                0,
                1,
                0,
                #[inline(always)]
                |x, dy| if x > 0.0 { dy } else { 0.0 },
            ),
            Unary::Exp => call.binary(
                0,
                1,
                0,
                #[inline(always)]
                |x, dy| exp(x) * dy,
            ),
            Unary::Abs => call.binary(
                0,
                1,
                0,
                #[inline(always)]
                |x, dy| {
                    if x > 0.0 {
                        dy
                    } else if x < 0.0 {
                        -dy
                    } else {
                        0.0
                    }
                },
            ),
            Unary::Square => call.binary(
                0,
                1,
                0,
                #[inline(always)]
                |x, dy| 2.0 * x * dy,
            ),
            Unary::Affine { scale, .. } => call.binary(
                0,
                1,
                0,
                #[inline(always)]
                |_, dy| scale * dy,
            ),
            Unary::Clamp { low, high } => {
                call.binary(
                    0,
                    1,
                    0,
                    |x, dy| if x >= low && x <= high { dy } else { 0.0 },
                );
            }
        }
    }
}
