//! CPU kernel: copies of runs.

use super::Concat;
use crate::kernel::cpu::{CpuCall, CpuOperator, Shared, parallel_rows};

impl CpuOperator for Concat {
    fn run(&self, call: &CpuCall<'_>) {
        let outer: usize = call.out_type(0).shape[..self.axis].iter().product();
        let y = Shared::new(call.out(0));
        let Some(row_len) = y.len.checked_div(outer) else {
            return;
        };
        let mut offset = 0;
        for input in 0..call.input_count() {
            let x = call.f32(input);
            let run = x.len() / outer;
            parallel_rows(outer, run, |rows| {
                for row in rows {
                    let start = row * row_len + offset;
                    // SAFETY: each row is written by one thread, each input to its own columns.
                    let y = unsafe { y.slice_mut(start..start + run) };
                    y.copy_from_slice(&x[row * run..][..run]);
                }
            });
            offset += run;
        }
    }
}
