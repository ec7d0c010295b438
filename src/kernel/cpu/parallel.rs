//! Results split over threads, and sums whose order does not depend on the number of threads.

use std::ops::Range;

use rayon::prelude::*;

use super::call::SERIAL_ELEMENTS;
use super::simd::vectorised;

/// Splits `y` over the threads into cache-line-aligned ranges: `work(range, &mut y[range])`.
pub fn for_ranges(y: &mut [f32], work: impl Fn(Range<usize>, &mut [f32]) + Sync) {
    for_joint_ranges([y], |range, [y]| work(range, y));
}

/// Splits several arrays of one length at the same places: `work(range, [&mut y[range]; K])`.
///
/// # Panics
/// If the lengths differ.
pub fn for_joint_ranges<const K: usize>(
    ys: [&mut [f32]; K],
    work: impl Fn(Range<usize>, [&mut [f32]; K]) + Sync,
) {
    fn split<const K: usize>(
        ys: [&mut [f32]; K],
        range: Range<usize>,
        pieces: usize,
        work: &(impl Fn(Range<usize>, [&mut [f32]; K]) + Sync),
    ) {
        if pieces <= 1 || range.len() < SERIAL_ELEMENTS {
            return work(range, ys);
        }
        let middle = (range.len() * (pieces / 2) / pieces).next_multiple_of(16);
        let mut high: [&mut [f32]; K] = std::array::from_fn(|_| Default::default());
        let mut taken = high.iter_mut();
        let low = ys.map(|y| {
            let (low, rest) = y.split_at_mut(middle);
            *taken.next().expect("K arrays") = rest;
            low
        });
        let at = range.start + middle;
        rayon::join(
            || split(low, range.start..at, pieces / 2, work),
            || split(high, at..range.end, pieces - pieces / 2, work),
        );
    }
    let len = ys.first().map_or(0, |y| y.len());
    assert!(ys.iter().all(|y| y.len() == len), "arrays of one length");
    split(ys, 0..len, rayon::current_num_threads(), &work);
}

/// Elements per partial sum.
const BLOCK: usize = 16 * 1024;

/// Workspace of [`sum_blocks`] over `len` elements, in `f32`s.
pub fn sum_blocks_len(len: usize) -> usize {
    2 * len.div_ceil(BLOCK)
}

/// Sum over `0..len` of what `block_sum` gives for fixed blocks, added in order of the blocks.
/// `workspace` holds at least [`sum_blocks_len`] and is aligned as every workspace is.
pub fn sum_blocks(
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
pub fn sum_pairs(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f64 {
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
