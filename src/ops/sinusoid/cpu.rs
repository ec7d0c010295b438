//! CPU kernel on one thread, because the result is a few hundred numbers.

use super::Sinusoid;
use crate::kernel::cpu::{CpuCall, CpuOperator};

impl CpuOperator for Sinusoid {
    fn run(&self, call: &CpuCall<'_>) {
        let (t, y) = (call.i32(0), call.out(0));
        let half = self.dim / 2;
        // The reference rounds every intermediate number to f32, and so does this kernel: at t = 1000
        // the rounding of the frequency shows.
        let spacing = self.spacing();
        for (row, &t) in y.chunks_exact_mut(self.dim).zip(t) {
            let (sines, rest) = row.split_at_mut(half);
            let (cosines, rest) = rest.split_at_mut(half);
            for (k, (sine, cosine)) in sines.iter_mut().zip(cosines).enumerate() {
                let frequency = libm::expf(k as f32 * -spacing);
                let angle = t as f32 * frequency;
                (*sine, *cosine) = libm::sincosf(angle);
            }
            rest.fill(0.0);
        }
    }
}
