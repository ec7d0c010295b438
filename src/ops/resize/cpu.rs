//! CPU kernels: row by row, pixels as runs of channels.

use super::{ResizeNearest, ResizeNearestGrad, Upsample, UpsampleGrad};
use crate::kernel::cpu::simd::vectorised;
use crate::kernel::cpu::{CpuCall, CpuOperator, Shared, parallel_rows};

/// `floor((i + 1/2) from / to)`, exactly.
fn nearest(i: usize, from: usize, to: usize) -> usize {
    (2 * i + 1) * from / (2 * to)
}

/// The first `i` whose [`nearest`] pixel is `source` or a later one; `to` if there is none.
fn first_nearest(source: usize, from: usize, to: usize) -> usize {
    // (2 i + 1) from >= 2 to source, so 2 i + 1 >= ceil(2 to source / from).
    (2 * to * source).div_ceil(from) / 2
}

/// `y[i][j] = x[nearest(i)][nearest(j)]`.
fn gather(call: &CpuCall<'_>) {
    let ([_, h, w, c], [_, oh, ow, _]) = extents(call);
    let (x, y) = (call.f32(0), Shared::new(call.out(0)));
    parallel_rows(y.len / (ow * c), ow * c, |rows| {
        for row in rows {
            let from = &x[(row / oh * h + nearest(row % oh, h, oh)) * w * c..][..w * c];
            // SAFETY: rows of different threads are disjoint.
            let y = unsafe { y.slice_mut(row * ow * c..(row + 1) * ow * c) };
            for (ox, y) in y.chunks_exact_mut(c).enumerate() {
                y.copy_from_slice(&from[nearest(ox, w, ow) * c..][..c]);
            }
        }
    });
}

/// `dx[i][j]` = sum of `dy` over the pixels whose nearest is `(i, j)`, in row-major order.
fn sum_back(call: &CpuCall<'_>) {
    let ([_, oh, ow, c], [_, h, w, _]) = extents(call);
    let (dy, dx) = (call.f32(0), Shared::new(call.out(0)));
    parallel_rows(dx.len / (w * c), w * c, |rows| {
        for row in rows {
            // SAFETY: rows of different threads are disjoint.
            let dx = unsafe { dx.slice_mut(row * w * c..(row + 1) * w * c) };
            let (n, y) = (row / h, row % h);
            vectorised(
                #[inline(always)]
                || {
                    dx.fill(0.0);
                    for oy in first_nearest(y, h, oh)..first_nearest(y + 1, h, oh) {
                        let dy = &dy[(n * oh + oy) * ow * c..][..ow * c];
                        for (ox, dy) in dy.chunks_exact(c).enumerate() {
                            let dx = &mut dx[nearest(ox, w, ow) * c..];
                            for (dx, dy) in dx.iter_mut().zip(dy) {
                                *dx += dy;
                            }
                        }
                    }
                },
            );
        }
    });
}

/// Extents `[N,H,W,C]` of the operand and the result.
fn extents(call: &CpuCall<'_>) -> ([usize; 4], [usize; 4]) {
    let extents = |shape: &[usize]| shape.try_into().expect("images have four axes");
    (
        extents(&call.in_type(0).shape),
        extents(&call.out_type(0).shape),
    )
}

impl CpuOperator for Upsample {
    fn run(&self, call: &CpuCall<'_>) {
        let ([_, h, w, c], [_, oh, ow, _]) = extents(call);
        let (x, y) = (call.f32(0), Shared::new(call.out(0)));
        parallel_rows(y.len / (ow * c), ow * c, |rows| {
            for row in rows {
                let from = &x[(row / oh * h + row % oh / self.factor) * w * c..][..w * c];
                // SAFETY: rows of different threads are disjoint.
                let y = unsafe { y.slice_mut(row * ow * c..(row + 1) * ow * c) };
                let repeated = y.chunks_exact_mut(self.factor * c);
                for (pixel, y) in from.chunks_exact(c).zip(repeated) {
                    y.chunks_exact_mut(c).for_each(|y| y.copy_from_slice(pixel));
                }
            }
        });
    }
}

impl CpuOperator for UpsampleGrad {
    fn run(&self, call: &CpuCall<'_>) {
        sum_back(call);
    }
}

impl CpuOperator for ResizeNearest {
    fn run(&self, call: &CpuCall<'_>) {
        gather(call);
    }
}

impl CpuOperator for ResizeNearestGrad {
    fn run(&self, call: &CpuCall<'_>) {
        sum_back(call);
    }
}
