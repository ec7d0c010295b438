//! CPU kernel.

use super::{Binary, broadcast_index};
use crate::kernel::cpu::{CpuCall, CpuOperator, parallel_ranges};

impl CpuOperator for Binary {
    fn run(&self, call: &CpuCall<'_>) {
        match self {
            Binary::Add => apply(call, |a, b| a + b),
            Binary::Sub => apply(call, |a, b| a - b),
            Binary::Mul => apply(call, |a, b| a * b),
            Binary::Div => apply(call, |a, b| a / b),
        }
    }
}

/// Iterates over the result in runs of its innermost axis. Within a run each operand either advances
/// or repeats one element.
fn apply(call: &CpuCall<'_>, f: impl Fn(f32, f32) -> f32 + Sync) {
    let (a_ty, b_ty, y_ty) = (call.in_type(0), call.in_type(1), call.out_type(0));
    if a_ty.shape == y_ty.shape && b_ty.shape == y_ty.shape {
        return call.binary(0, 1, 0, f);
    }
    // A broadcast operand has fewer elements than the result, so it is never in place; the other
    // one may be, and is then read before the same element is written.
    let (a, b, y) = (call.shared(0), call.shared(1), call.shared_out(0));
    let run = y_ty.channels().max(1);
    let strides = |shape: &[usize]| usize::from(shape.last().is_some_and(|&c| c == run && c != 1));
    let (a_stride, b_stride) = (strides(&a_ty.shape), strides(&b_ty.shape));
    parallel_ranges(y.len, |range| {
        let mut i = range.start;
        while i < range.end {
            let end = (i / run * run + run).min(range.end);
            let row = i / run * run;
            let a_row = broadcast_index(&a_ty.shape, &y_ty.shape, row);
            let b_row = broadcast_index(&b_ty.shape, &y_ty.shape, row);
            for k in i - row..end - row {
                // SAFETY: broadcast indices are in bounds; each result element is written by
                // one thread.
                unsafe {
                    let (a, b) = (
                        *a.as_ptr().add(a_row + k * a_stride),
                        *b.as_ptr().add(b_row + k * b_stride),
                    );
                    *y.as_ptr().add(row + k) = f(a, b);
                }
            }
            i = end;
        }
    });
}
