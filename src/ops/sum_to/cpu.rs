//! CPU kernel: rows of the innermost run of kept or summed axes, in a fixed number of chunks.

use rayon::prelude::*;

use super::SumTo;
use crate::graph::TensorType;
use crate::kernel::cpu::simd::vectorised;
use crate::kernel::cpu::{CpuCall, CpuOperator};
use crate::ops::binary::broadcast_index;

/// Chunks that are summed separately and then added in order, whatever the number of threads.
const PIECES: usize = 8;

impl SumTo {
    /// Partial results are worth their memory where many elements are summed to few.
    fn chunks(&self, x: &TensorType) -> usize {
        let results: usize = self.shape.iter().product();
        if results * PIECES * 16 <= x.len() {
            PIECES
        } else {
            1
        }
    }

    /// Length of the innermost run of axes that are all kept or all summed, and which of the two it is.
    fn inner_run(&self, x: &[usize]) -> (usize, bool) {
        let outer = x.len() - self.shape.len();
        let kept = |axis: usize| axis >= outer && self.shape[axis - outer] == x[axis];
        let mut run = 1;
        let mut kind = None;
        for axis in (0..x.len()).rev().filter(|&axis| x[axis] != 1) {
            if *kind.get_or_insert(kept(axis)) != kept(axis) {
                break;
            }
            run *= x[axis];
        }
        (run, kind.unwrap_or(true))
    }
}

impl CpuOperator for SumTo {
    fn workspace_len(&self, inputs: &[TensorType], outputs: &[TensorType]) -> usize {
        self.chunks(&inputs[0]) * outputs[0].len()
    }

    fn run(&self, call: &CpuCall<'_>) {
        let (x, full) = (call.f32(0), &call.in_type(0).shape);
        let (y, workspace) = (call.out(0), call.workspace());
        if x.is_empty() || y.is_empty() {
            return y.fill(0.0);
        }
        let (run, kept) = self.inner_run(full);
        let rows = x.len() / run;
        let chunks = workspace.len() / y.len();
        let per_chunk = rows.div_ceil(chunks);
        workspace
            .par_chunks_mut(y.len())
            .enumerate()
            .for_each(|(chunk, partial)| {
                partial.fill(0.0);
                for row in (chunk * per_chunk).min(rows)..((chunk + 1) * per_chunk).min(rows) {
                    let values = &x[row * run..][..run];
                    let at = broadcast_index(&self.shape, full, row * run);
                    if kept {
                        let target = &mut partial[at..][..run];
                        vectorised(
                            #[inline(always)]
                            || target.iter_mut().zip(values).for_each(|(t, v)| *t += v),
                        );
                    } else {
                        partial[at] += sum(values) as f32;
                    }
                }
            });
        y.copy_from_slice(&workspace[..y.len()]);
        for partial in workspace.chunks(y.len()).skip(1) {
            vectorised(
                #[inline(always)]
                || y.iter_mut().zip(partial).for_each(|(y, p)| *y += p),
            );
        }
    }
}

/// Sum of a slice: 16 lanes of `f32` over blocks of 1024, blocks in `f64`.
pub(crate) fn sum(values: &[f32]) -> f64 {
    vectorised(
        #[inline(always)]
        || {
            let mut total = 0.0;
            for block in values.chunks(1024) {
                let (chunks, rest) = block.as_chunks::<16>();
                let mut lanes = [0.0f32; 16];
                for chunk in chunks {
                    for (lane, value) in lanes.iter_mut().zip(chunk) {
                        *lane += value;
                    }
                }
                total += lanes.iter().chain(rest).map(|&v| f64::from(v)).sum::<f64>();
            }
            total
        },
    )
}
