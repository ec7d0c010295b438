//! CPU kernels.

use super::{AddNoise, MIN_VARIANCE, VarianceLoss, VarianceLossGrad};
use crate::graph::TensorType;
use crate::kernel::cpu::parallel::{for_joint_ranges, for_ranges, sum_blocks, sum_blocks_len};
use crate::kernel::cpu::simd::{exp, vectorised};
use crate::kernel::cpu::{CpuCall, CpuOperator};

impl CpuOperator for AddNoise {
    fn run(&self, call: &CpuCall<'_>) {
        let (x_0, noise) = (call.f32(0), call.f32(1));
        let (table, t) = (call.f32(2), call.i32(3));
        let len = x_0.len() / t.len();
        if len == 0 {
            return;
        }
        for_ranges(call.out(0), |range, y| {
            by_sample(range, len, |n, run, at| {
                let y = &mut y[at.clone()];
                let (x_0, noise) = (&x_0[run.clone()], &noise[run]);
                match usize::try_from(t[n]) {
                    Err(_) => y.copy_from_slice(x_0),
                    Ok(t) if 2 * t >= table.len() => y.copy_from_slice(noise),
                    Ok(t) => {
                        let (a, b) = (table[2 * t], table[2 * t + 1]);
                        vectorised(|| {
                            for (y, (x_0, noise)) in y.iter_mut().zip(x_0.iter().zip(noise)) {
                                *y = a * x_0 + b * noise;
                            }
                        });
                    }
                }
            });
        });
    }
}

/// Splits a range of elements at the borders of samples of `len`:
/// `work(sample, range, the same relative to the start)`.
fn by_sample(
    range: std::ops::Range<usize>,
    len: usize,
    mut work: impl FnMut(usize, std::ops::Range<usize>, std::ops::Range<usize>),
) {
    let mut start = range.start;
    while start < range.end {
        let n = start / len;
        let end = ((n + 1) * len).min(range.end);
        work(n, start..end, start - range.start..end - range.start);
        start = end;
    }
}

/// One row of the schedule and whether it is time step 0.
#[derive(Clone, Copy)]
struct Row {
    first: bool,
    log_posterior: f32,
    log_beta: f32,
    coef1: f32,
}

impl Row {
    fn new(table: &[f32], t: i32) -> Self {
        let row = usize::try_from(t)
            .ok()
            .and_then(|t| table.get(3 * t..3 * t + 3));
        let row = row.unwrap_or(&[f32::NAN; 3]);
        Self {
            first: t == 0,
            log_posterior: row[0],
            log_beta: row[1],
            coef1: row[2],
        }
    }

    fn logvar(self, variance: f32) -> f32 {
        let v = 0.5 * (variance + 1.0);
        v * self.log_beta + (1.0 - v) * self.log_posterior
    }

    fn loss(self, variance: f32, x_0: f32, estimate: f32) -> f32 {
        let logvar = self.logvar(variance);
        let difference = estimate - x_0;
        if self.first {
            // ln max(exp(l), m) = max(l, ln m); NaN stays NaN.
            let least = MIN_VARIANCE.ln() as f32;
            let log = if logvar < least { least } else { logvar };
            return 0.5 * (log + difference * difference * exp(-log));
        }
        let mean = self.coef1 * difference;
        let ratio = self.log_posterior - logvar;
        0.5 * (exp(ratio) - ratio - 1.0 + mean * mean * exp(-logvar))
    }

    /// Derivatives with respect to the variance output and the estimate.
    fn gradient(self, variance: f32, x_0: f32, estimate: f32) -> (f32, f32) {
        let logvar = self.logvar(variance);
        let difference = estimate - x_0;
        let by_output = 0.5 * (self.log_beta - self.log_posterior);
        if self.first {
            let least = MIN_VARIANCE.ln() as f32;
            let log = if logvar < least { least } else { logvar };
            let inverse = exp(-log);
            let by_log = 0.5 * exp(logvar - log) * (1.0 - difference * difference * inverse);
            return (by_log * by_output, difference * inverse);
        }
        let mean = self.coef1 * difference;
        let ratio = exp(self.log_posterior - logvar);
        let by_log = 0.5 * (1.0 - ratio - mean * mean * exp(-logvar));
        (by_log * by_output, 0.0)
    }
}

impl CpuOperator for VarianceLoss {
    fn workspace_len(&self, inputs: &[TensorType], _: &[TensorType]) -> usize {
        sum_blocks_len(inputs[0].len())
    }

    fn run(&self, call: &CpuCall<'_>) {
        let (variance, x_0, estimate) = (call.f32(0), call.f32(1), call.f32(2));
        let (table, t) = (call.f32(3), call.i32(4));
        let len = (variance.len() / t.len()).max(1);
        let sum = sum_blocks(call.workspace(), variance.len(), |range| {
            let mut sum = 0.0;
            by_sample(range, len, |n, run, _| {
                let row = Row::new(table, t[n]);
                let operands = variance[run.clone()].iter().zip(&x_0[run.clone()]);
                let operands = operands.zip(&estimate[run]);
                for ((&variance, &x_0), &estimate) in operands {
                    sum += f64::from(row.loss(variance, x_0, estimate));
                }
            });
            sum
        });
        call.out(0)[0] = (sum / variance.len() as f64) as f32;
    }
}

impl CpuOperator for VarianceLossGrad {
    fn run(&self, call: &CpuCall<'_>) {
        let (variance, x_0, estimate) = (call.f32(0), call.f32(1), call.f32(2));
        let (table, t) = (call.f32(3), call.i32(4));
        let len = (variance.len() / t.len()).max(1);
        let scale = call.f32(5)[0] / variance.len() as f32;
        for_joint_ranges([call.out(0), call.out(1)], |range, [dv, de]| {
            by_sample(range, len, |n, run, at| {
                let row = Row::new(table, t[n]);
                let operands = variance[run.clone()].iter().zip(&x_0[run.clone()]);
                let operands = operands.zip(&estimate[run]);
                let results = dv[at.clone()].iter_mut().zip(&mut de[at]);
                for ((dv, de), ((&variance, &x_0), &estimate)) in results.zip(operands) {
                    let (by_variance, by_estimate) = row.gradient(variance, x_0, estimate);
                    *dv = scale * by_variance;
                    *de = scale * by_estimate;
                }
            });
        });
    }
}
