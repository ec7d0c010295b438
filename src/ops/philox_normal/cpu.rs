//! CPU kernel: threads share blocks of four numbers.

use super::{PhiloxNormal, seed_of};
use crate::kernel::cpu::{CpuCall, CpuOperator, Shared, parallel_ranges};
use crate::tensor::philox::{fill_normal_from, stream_key};

impl CpuOperator for PhiloxNormal {
    fn run(&self, call: &CpuCall<'_>) {
        let (seed, images, step) = (call.i32(0), call.i32(1), call.i32(2)[0] as u32);
        let key = stream_key(seed_of(seed), self.purpose);
        let len: usize = self.shape.iter().product();
        let y = call.out(0);
        if len == 0 {
            return;
        }
        let y = Shared::new(y);
        for (n, &image) in images.iter().enumerate() {
            // Ranges of blocks of 4: a block costs about as much as 16 streamed elements.
            parallel_ranges(len.div_ceil(4) * 16, |range| {
                let first = (4 * range.start.div_ceil(16)).min(len);
                let end = (4 * range.end.div_ceil(16)).min(len);
                // SAFETY: each block belongs to the range that holds its first number, so it is
                // written by one thread.
                let target = unsafe { y.slice_mut(n * len + first..n * len + end) };
                fill_normal_from(key, u64::from(image as u32), step, first, target);
            });
        }
    }
}
