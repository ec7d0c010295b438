//! CPU kernels: a row at a time, statistics recomputed in the backward pass.

use rayon::prelude::*;

use super::{LayerNorm, LayerNormInputGrad, LayerNormParamGrad};
use crate::graph::TensorType;
use crate::kernel::cpu::simd::{sum_of, vectorised};
use crate::kernel::cpu::{CpuCall, CpuOperator, Shared, parallel_rows};

/// Tasks of the sum over rows, whatever the number of threads.
const PIECES: usize = 16;

/// Mean and `1 / sqrt(variance + eps)` of a row.
#[inline(always)]
fn moments(row: &[f32], eps: f32) -> (f32, f32) {
    let count = row.len() as f32;
    let mean = sum_of(row.len(), |i| row[i]) / count;
    let square = |i: usize| (row[i] - mean) * (row[i] - mean);
    // The second sum is exact about a mean that was rounded, up to the square of its error.
    let variance = sum_of(row.len(), square) / count;
    (mean, 1.0 / (variance + eps).sqrt())
}

impl CpuOperator for LayerNorm {
    fn run(&self, call: &CpuCall<'_>) {
        let (x, gamma, beta, y) = (call.shared(0), call.f32(1), call.f32(2), call.shared_out(0));
        let channels = gamma.len();
        let in_place = x.as_ptr() == y.as_ptr();
        parallel_rows(y.len / channels, channels, |rows| {
            for row in rows {
                let range = row * channels..(row + 1) * channels;
                // SAFETY: rows of different threads are disjoint; `x` is only borrowed beside `y`
                // where it is other memory.
                let y = unsafe { y.slice_mut(range.clone()) };
                if !in_place {
                    // SAFETY: as above.
                    y.copy_from_slice(unsafe { x.slice(range) });
                }
                vectorised(
                    #[inline(always)]
                    || {
                        let (mean, rstd) = moments(y, self.eps);
                        for (y, (gamma, beta)) in y.iter_mut().zip(gamma.iter().zip(beta)) {
                            *y = (*y - mean) * rstd * gamma + beta;
                        }
                    },
                );
            }
        });
    }
}

impl CpuOperator for LayerNormInputGrad {
    fn run(&self, call: &CpuCall<'_>) {
        let (x, gamma, dy) = (call.f32(0), call.f32(1), call.f32(2));
        let channels = gamma.len();
        let dx = Shared::new(call.out(0));
        parallel_rows(dx.len / channels, channels, |rows| {
            for row in rows {
                let range = row * channels..(row + 1) * channels;
                let (x, dy) = (&x[range.clone()], &dy[range.clone()]);
                // SAFETY: rows of different threads are disjoint.
                let dx = unsafe { dx.slice_mut(range) };
                vectorised(
                    #[inline(always)]
                    || {
                        let (mean, rstd) = moments(x, self.eps);
                        let d = |i: usize| gamma[i] * dy[i];
                        let hat = |i: usize| (x[i] - mean) * rstd;
                        let count = channels as f32;
                        let plain = sum_of(channels, d) / count;
                        let scaled = sum_of(channels, |i| d(i) * hat(i)) / count;
                        for (i, dx) in dx.iter_mut().enumerate() {
                            *dx = rstd * (d(i) - plain - hat(i) * scaled);
                        }
                    },
                );
            }
        });
    }
}

impl CpuOperator for LayerNormParamGrad {
    fn workspace_len(&self, inputs: &[TensorType], _: &[TensorType]) -> usize {
        PIECES * inputs[0].channels()
    }

    fn run(&self, call: &CpuCall<'_>) {
        let (x, dy, dgamma) = (call.f32(0), call.f32(1), call.out(0));
        let channels = dgamma.len();
        let per_piece = (x.len() / channels).div_ceil(PIECES) * channels;
        let workspace = call.workspace();
        workspace
            .par_chunks_mut(channels)
            .enumerate()
            .for_each(|(piece, sums)| {
                let range =
                    (piece * per_piece).min(x.len())..((piece + 1) * per_piece).min(x.len());
                let rows = x[range.clone()]
                    .chunks_exact(channels)
                    .zip(dy[range].chunks_exact(channels));
                vectorised(
                    #[inline(always)]
                    || {
                        sums.fill(0.0);
                        for (x, dy) in rows {
                            let (mean, rstd) = moments(x, self.eps);
                            for (sum, (x, dy)) in sums.iter_mut().zip(x.iter().zip(dy)) {
                                *sum += dy * ((x - mean) * rstd);
                            }
                        }
                    },
                );
            });
        dgamma.fill(0.0);
        for sums in workspace.chunks_exact(channels) {
            dgamma
                .iter_mut()
                .zip(sums)
                .for_each(|(dgamma, sum)| *dgamma += sum);
        }
    }
}
