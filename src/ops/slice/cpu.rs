//! CPU kernels: copies of runs.

use super::{Pad, Slice};
use crate::kernel::cpu::{CpuCall, CpuOperator, Shared, parallel_rows};

/// Rows outside `axis`, and the run of one position along it.
fn rows_and_run(shape: &[usize], axis: usize) -> (usize, usize) {
    (
        shape[..axis].iter().product(),
        shape[axis + 1..].iter().product(),
    )
}

/// `write(row of x, row of y)` for every row.
fn each_row(call: &CpuCall<'_>, rows: usize, write: impl Fn(&[f32], &mut [f32]) + Sync) {
    let x = call.f32(0);
    let y = Shared::new(call.out(0));
    let (Some(x_len), Some(y_len)) = (x.len().checked_div(rows), y.len.checked_div(rows)) else {
        return;
    };
    parallel_rows(rows, y_len, |range| {
        for row in range {
            // SAFETY: each row is written by one thread.
            let y = unsafe { y.slice_mut(row * y_len..(row + 1) * y_len) };
            write(&x[row * x_len..][..x_len], y);
        }
    });
}

impl CpuOperator for Slice {
    fn run(&self, call: &CpuCall<'_>) {
        let (rows, run) = rows_and_run(&call.in_type(0).shape, self.axis);
        each_row(call, rows, |x, y| {
            y.copy_from_slice(&x[self.start * run..][..y.len()])
        });
    }
}

impl CpuOperator for Pad {
    fn run(&self, call: &CpuCall<'_>) {
        let (rows, run) = rows_and_run(&call.in_type(0).shape, self.axis);
        each_row(call, rows, |x, y| {
            let (before, rest) = y.split_at_mut(self.before * run);
            let (middle, after) = rest.split_at_mut(x.len());
            before.fill(0.0);
            middle.copy_from_slice(x);
            after.fill(0.0);
        });
    }
}
