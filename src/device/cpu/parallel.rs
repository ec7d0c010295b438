//! Results split over threads, and sums whose order does not depend on the number of threads.

use std::ops::Range;

use rayon::prelude::*;

use super::call::SERIAL_ELEMENTS;
use super::simd::vectorised;

/// Splits `y` over the threads in cache-line-aligned pieces: `work(range, &mut y[range])`.
pub(crate) fn for_ranges(y: &mut [f32], work: impl Fn(Range<usize>, &mut [f32]) + Sync) {
    fn split(
        y: &mut [f32],
        start: usize,
        pieces: usize,
        work: &(impl Fn(Range<usize>, &mut [f32]) + Sync),
    ) {
        if pieces <= 1 || y.len() < SERIAL_ELEMENTS {
            return work(start..start + y.len(), y);
        }
        let middle = (y.len() * (pieces / 2) / pieces).next_multiple_of(16);
        let (low, high) = y.split_at_mut(middle);
        rayon::join(
            || split(low, start, pieces / 2, work),
            || split(high, start + middle, pieces - pieces / 2, work),
        );
    }
    split(y, 0, rayon::current_num_threads(), &work);
}

/// Elements per partial sum.
const BLOCK: usize = 16 * 1024;

/// Workspace of [`sum_blocks`] over `len` elements, in `f32`s.
pub(crate) fn sum_blocks_len(len: usize) -> usize {
    2 * len.div_ceil(BLOCK)
}

/// Sum over `0..len` of what `block_sum` gives for fixed blocks, added in order of the blocks.
/// `workspace` holds at least [`sum_blocks_len`] and is aligned as every workspace is.
pub(crate) fn sum_blocks(
    workspace: &mut [f32],
    len: usize,
    block_sum: impl Fn(Range<usize>) -> f64 + Sync,
) -> f64 {
    let partials: &mut [f64] = bytemuck::cast_slice_mut(&mut workspace[..sum_blocks_len(len)]);
    partials.par_iter_mut().enumerate().for_each(|(i, sum)| {
        *sum = block_sum(i * BLOCK..((i + 1) * BLOCK).min(len));
    });
    partials.iter().sum()
}

/// `f` summed over pairs of elements in eight `f64` lanes.
#[inline(always)]
pub(crate) fn sum_pairs(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f64 {
    assert_eq!(a.len(), b.len());
    vectorised(|| {
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
        let mut lanes = [0.0f64; 8];
        for (a, b) in a.iter().zip(b) {
            for (lane, (&a, &b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
                *lane += f64::from(f(a, b));
            }
        }
        let rest = a_rest.iter().zip(b_rest).map(|(&a, &b)| f64::from(f(a, b)));
        lanes.into_iter().chain(rest).sum()
    })
}
