//! CPU kernels: a row at a time.

use super::{Geglu, GegluGrad};
use crate::kernel::cpu::simd::{gelu, gelu_derivative, vectorised};
use crate::kernel::cpu::{CpuCall, CpuOperator, Shared, parallel_rows};

impl CpuOperator for Geglu {
    fn run(&self, call: &CpuCall<'_>) {
        let (x, y) = (call.f32(0), Shared::new(call.out(0)));
        let channels = call.out_type(0).channels();
        if y.len == 0 {
            return;
        }
        parallel_rows(y.len / channels, channels, |rows| {
            for row in rows {
                let (a, b) = x[2 * row * channels..][..2 * channels].split_at(channels);
                // SAFETY: rows of different threads are disjoint.
                let y = unsafe { y.slice_mut(row * channels..(row + 1) * channels) };
                vectorised(
                    #[inline(always)]
                    || {
                        for (y, (a, b)) in y.iter_mut().zip(a.iter().zip(b)) {
                            *y = a * gelu(*b);
                        }
                    },
                );
            }
        });
    }
}

impl CpuOperator for GegluGrad {
    fn run(&self, call: &CpuCall<'_>) {
        let (x, dy, dx) = (call.shared(0), call.f32(1), call.shared_out(0));
        let channels = call.in_type(1).channels();
        if dx.len == 0 {
            return;
        }
        let in_place = x.as_ptr() == dx.as_ptr();
        parallel_rows(dy.len() / channels, 2 * channels, |rows| {
            for row in rows {
                let range = 2 * row * channels..2 * (row + 1) * channels;
                // SAFETY: rows of different threads are disjoint; `x` is only borrowed beside `dx` where it is other
                // memory.
                let dx = unsafe { dx.slice_mut(range.clone()) };
                if !in_place {
                    // SAFETY: as above.
                    dx.copy_from_slice(unsafe { x.slice(range) });
                }
                let (a, b) = dx.split_at_mut(channels);
                let dy = &dy[row * channels..][..channels];
                vectorised(
                    #[inline(always)]
                    || {
                        for ((a, b), dy) in a.iter_mut().zip(b.iter_mut()).zip(dy) {
                            (*a, *b) = (dy * gelu(*b), gelu_derivative(*b) * (dy * *a));
                        }
                    },
                );
            }
        });
    }
}
