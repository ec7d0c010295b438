//! CPU kernels: a row at a time.

use super::{Softmax, SoftmaxGrad};
use crate::kernel::cpu::simd::{exp, largest, sum_of, vectorised};
use crate::kernel::cpu::{CpuCall, CpuOperator, Shared, parallel_rows};

impl CpuOperator for Softmax {
    fn run(&self, call: &CpuCall<'_>) {
        let (x, y) = (call.shared(0), call.shared_out(0));
        let channels = call.in_type(0).channels();
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
                        // The maximum ignores NaN; the sum does not.
                        let most = largest(y);
                        for y in y.iter_mut() {
                            *y = exp(*y - most);
                        }
                        let sum = sum_of(y.len(), |i| y[i]);
                        for y in y.iter_mut() {
                            *y /= sum;
                        }
                    },
                );
            }
        });
    }
}

impl CpuOperator for SoftmaxGrad {
    fn run(&self, call: &CpuCall<'_>) {
        let (y, dy, dx) = (call.f32(0), call.f32(1), Shared::new(call.out(0)));
        let channels = call.in_type(0).channels();
        parallel_rows(dx.len / channels, channels, |rows| {
            for row in rows {
                let range = row * channels..(row + 1) * channels;
                let (y, dy) = (&y[range.clone()], &dy[range.clone()]);
                // SAFETY: rows of different threads are disjoint.
                let dx = unsafe { dx.slice_mut(range) };
                vectorised(
                    #[inline(always)]
                    || {
                        let mean = sum_of(y.len(), |i| y[i] * dy[i]);
                        for (dx, (y, dy)) in dx.iter_mut().zip(y.iter().zip(dy)) {
                            *dx = y * (dy - mean);
                        }
                    },
                );
            }
        });
    }
}
