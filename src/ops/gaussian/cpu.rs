//! CPU kernels.

use super::{GaussianKl, GaussianKlGrad, Reparameterize, ReparameterizeGrad};
use crate::graph::TensorType;
use crate::kernel::cpu::parallel::{for_ranges, sum_blocks, sum_blocks_len, sum_pairs};
use crate::kernel::cpu::simd::{exp, vectorised};
use crate::kernel::cpu::{CpuCall, CpuOperator};

/// `out[i] = f(inputs 0, 1, 2 at i)`.
fn ternary(call: &CpuCall<'_>, f: impl Fn(f32, f32, f32) -> f32 + Sync) {
    let (a, b, c) = (call.f32(0), call.f32(1), call.f32(2));
    for_ranges(call.out(0), |range, y| {
        let operands = (&a[range.clone()], &b[range.clone()], &c[range]);
        vectorised(|| {
            let operands = operands.0.iter().zip(operands.1).zip(operands.2);
            for (y, ((&a, &b), &c)) in y.iter_mut().zip(operands) {
                *y = f(a, b, c);
            }
        });
    });
}

impl CpuOperator for Reparameterize {
    fn run(&self, call: &CpuCall<'_>) {
        ternary(call, |mean, logvar, noise| mean + exp(0.5 * logvar) * noise);
    }
}

impl CpuOperator for ReparameterizeGrad {
    fn run(&self, call: &CpuCall<'_>) {
        ternary(call, |logvar, noise, dy| {
            0.5 * exp(0.5 * logvar) * noise * dy
        });
    }
}

impl CpuOperator for GaussianKl {
    fn workspace_len(&self, inputs: &[TensorType], _: &[TensorType]) -> usize {
        sum_blocks_len(inputs[0].len())
    }

    fn run(&self, call: &CpuCall<'_>) {
        let (mean, logvar) = (call.f32(0), call.f32(1));
        let sum = sum_blocks(call.workspace(), mean.len(), |range| {
            sum_pairs(&mean[range.clone()], &logvar[range], |m, l| {
                // e^l - 1 - l cancels for small l; its series does not.
                let rest = match l.abs() < 0.03 {
                    true => l * l * (0.5 + l * (1.0 / 6.0 + l * (1.0 / 24.0))),
                    false => exp(l) - 1.0 - l,
                };
                m * m + rest
            })
        });
        let batch = call.in_type(0).shape[0];
        call.out(0)[0] = (0.5 * sum / batch as f64) as f32;
    }
}

impl CpuOperator for GaussianKlGrad {
    fn run(&self, call: &CpuCall<'_>) {
        let (mean, logvar) = (call.f32(0), call.f32(1));
        let scale = call.f32(2)[0] / call.in_type(0).shape[0] as f32;
        for_ranges(call.out(0), |range, dx| {
            let pairs = dx.iter_mut().zip(&mean[range]);
            vectorised(|| pairs.for_each(|(dx, m)| *dx = scale * m));
        });
        for_ranges(call.out(1), |range, dx| {
            let pairs = dx.iter_mut().zip(&logvar[range]);
            vectorised(|| pairs.for_each(|(dx, &l)| *dx = 0.5 * scale * (exp(l) - 1.0)));
        });
    }
}
