//! CPU kernel: blocks of four numbers over threads.

use super::PhiloxNormal;
use crate::device::cpu::{CpuCall, CpuOperator, Shared, parallel_ranges};
use crate::tensor::philox::{normals, philox4x32_10, stream_counter, stream_key};

impl CpuOperator for PhiloxNormal {
    fn run(&self, call: &CpuCall<'_>) {
        let (seed, images, step) = (call.i32(0), call.i32(1), call.i32(2)[0] as u32);
        let seed = u64::from(seed[0] as u32) | u64::from(seed[1] as u32) << 32;
        let key = stream_key(seed, self.purpose);
        let len: usize = self.shape.iter().product();
        let y = call.out(0);
        if len == 0 {
            return;
        }
        let y = Shared::from_slice(y);
        for (n, &image) in images.iter().enumerate() {
            // Ranges of blocks of 4: a block costs about as much as 16 streamed elements.
            parallel_ranges(len.div_ceil(4) * 16, |range| {
                for block in range.start.div_ceil(16)..range.end.div_ceil(16) {
                    let counter = stream_counter(u64::from(image as u32), step, block as u32);
                    let values = normals(philox4x32_10(key, counter));
                    let start = 4 * block;
                    let count = (len - start).min(4);
                    let at = n * len + start;
                    // SAFETY: each block belongs to the range that holds its first number, so it
                    // is written by one thread.
                    let target = unsafe { y.slice_mut(at..at + count) };
                    target.copy_from_slice(&values[..count]);
                }
            });
        }
    }
}
