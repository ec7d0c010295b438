//! CPU kernels: blocks of queries against blocks of keys, with running maximum and sum (Milakov
//! and Gimelshein, online softmax).

use rayon::prelude::*;

use super::{Attention, AttentionGrad};
use crate::device::cpu::simd::{exp, vectorised};
use crate::device::cpu::{CpuCall, CpuOperator, Shared};
use crate::graph::TensorType;

/// Queries per block.
const QUERIES: usize = 64;
/// Keys per block, and what packed keys are padded to.
const KEYS: usize = 64;
/// Packed rows of a head are padded to whole vectors.
const VECTOR: usize = 16;

/// `c[i][j] (+)= sum_k a[i a_row + k a_step] b[k b_row + j]` for `i < m`, `j < n`, `k < depth`; `n` is
/// a multiple of [`VECTOR`]. Sums run over `k` in order.
#[derive(Clone, Copy)]
struct Product {
    m: usize,
    n: usize,
    depth: usize,
    a_row: usize,
    a_step: usize,
    b_row: usize,
    c_row: usize,
    accumulate: bool,
}

impl Product {
    #[inline(always)]
    fn run(&self, a: &[f32], b: &[f32], c: &mut [f32]) {
        let mut i = 0;
        while self.m - i >= 4 {
            self.rows::<4>(i, a, b, c);
            i += 4;
        }
        while i < self.m {
            self.rows::<1>(i, a, b, c);
            i += 1;
        }
    }

    #[inline(always)]
    fn rows<const R: usize>(&self, i: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
        let mut j = 0;
        while self.n - j >= 4 * VECTOR {
            self.tile::<R, { 4 * VECTOR }>(i, j, a, b, c);
            j += 4 * VECTOR;
        }
        while j < self.n {
            self.tile::<R, VECTOR>(i, j, a, b, c);
            j += VECTOR;
        }
    }

    #[inline(always)]
    fn tile<const R: usize, const W: usize>(
        &self,
        i: usize,
        j: usize,
        a: &[f32],
        b: &[f32],
        c: &mut [f32],
    ) {
        let mut sums = [[0.0f32; W]; R];
        if self.accumulate {
            for (r, sums) in sums.iter_mut().enumerate() {
                sums.copy_from_slice(&c[(i + r) * self.c_row + j..][..W]);
            }
        }
        for k in 0..self.depth {
            let b: &[f32; W] = b[k * self.b_row + j..][..W].try_into().expect("W long");
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = a[(i + r) * self.a_row + k * self.a_step];
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum += a * b;
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            c[(i + r) * self.c_row + j..][..W].copy_from_slice(sums);
        }
    }
}

/// Extents of a call, per head.
#[derive(Clone, Copy)]
struct Extents {
    queries: usize,
    keys: usize,
    /// Keys padded to whole blocks.
    padded_keys: usize,
    channels: usize,
    heads: usize,
    /// Channels of a head.
    d: usize,
    /// `d` padded to whole vectors.
    padded_d: usize,
    samples: usize,
}

impl Extents {
    fn of(inputs: &[TensorType], heads: usize) -> Self {
        let (q, k) = (&inputs[0].shape, &inputs[1].shape);
        let d = q[2] / heads;
        Self {
            queries: q[1],
            keys: k[1],
            padded_keys: k[1].next_multiple_of(KEYS),
            channels: q[2],
            heads,
            d,
            padded_d: d.next_multiple_of(VECTOR),
            samples: q[0],
        }
    }

    fn call(call: &CpuCall<'_>, heads: usize) -> Self {
        Self::of(&[call.in_type(0).clone(), call.in_type(1).clone()], heads)
    }

    /// Number of (sample, head) pairs.
    fn pairs(&self) -> usize {
        self.samples * self.heads
    }

    /// First element of row `t` of pair `pair` in an array of `rows` rows per sample.
    fn start(&self, pair: usize, rows: usize, t: usize) -> usize {
        let (n, h) = (pair / self.heads, pair % self.heads);
        (n * rows + t) * self.channels + h * self.d
    }

    /// Copies `count` rows from `first` on to rows of `padded_d`, times `scale`, zeros behind.
    fn pack_rows(
        &self,
        x: &[f32],
        (pair, rows): (usize, usize),
        (first, count): (usize, usize),
        scale: f32,
        to: &mut [f32],
    ) {
        for (t, to) in to.chunks_exact_mut(self.padded_d).enumerate() {
            let (head, rest) = to.split_at_mut(self.d);
            rest.fill(0.0);
            if t < count {
                let from = &x[self.start(pair, rows, first + t)..];
                head.iter_mut().zip(from).for_each(|(to, from)| *to = scale * from);
            } else {
                head.fill(0.0);
            }
        }
    }

    /// Transposes the keys or values of a pair to `[d][padded_keys]`, zeros behind.
    fn pack_transposed(&self, x: &[f32], pair: usize, to: &mut [f32]) {
        for (i, to) in to[..self.d * self.padded_keys].chunks_exact_mut(self.padded_keys).enumerate() {
            let (real, rest) = to.split_at_mut(self.keys);
            rest.fill(0.0);
            for (t, to) in real.iter_mut().enumerate() {
                *to = x[self.start(pair, self.keys, t) + i];
            }
        }
    }

    /// Length of packed keys and values of a pair: transposed and by rows.
    fn transposed_len(&self) -> usize {
        self.padded_d * self.padded_keys
    }

    /// Product of a block of queries (rows of `padded_d`) with a transposed block of keys.
    fn scores(&self, m: usize) -> Product {
        Product {
            m,
            n: KEYS,
            depth: self.d,
            a_row: self.padded_d,
            a_step: 1,
            b_row: self.padded_keys,
            c_row: KEYS,
            accumulate: false,
        }
    }

    /// `c += a b` with `a` a block of scores (transposed: of its columns) and `b` packed rows.
    fn weighted(&self, m: usize, depth: usize, transposed: bool) -> Product {
        let (a_row, a_step) = if transposed { (1, KEYS) } else { (KEYS, 1) };
        Product {
            m,
            n: self.padded_d,
            depth,
            a_row,
            a_step,
            b_row: self.padded_d,
            c_row: self.padded_d,
            accumulate: true,
        }
    }
}

/// The calling thread's piece of `scratch`.
///
/// # Safety
/// `scratch` is cut into one piece per thread of the pool, and the caller's task runs to its end
/// on one thread before that thread takes another of the same step.
unsafe fn slot<'a>(scratch: Shared) -> &'a mut [f32] {
    let slots = rayon::current_num_threads();
    let len = scratch.len / slots;
    let index = rayon::current_thread_index().unwrap_or(0);
    // SAFETY: the caller's promise.
    unsafe { scratch.slice_mut(index * len..(index + 1) * len) }
}

/// Cuts pieces off the front of a slice.
struct Cutter<'a>(&'a mut [f32]);

impl<'a> Cutter<'a> {
    fn take(&mut self, len: usize) -> &'a mut [f32] {
        let (piece, rest) = std::mem::take(&mut self.0).split_at_mut(len);
        self.0 = rest;
        piece
    }
}

/// Largest element, ignoring NaN, which shows in the sum of exponentials.
#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; VECTOR];
    for chunk in row.as_chunks::<VECTOR>().0 {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

#[inline(always)]
fn sum(row: &[f32]) -> f32 {
    let mut lanes = [0.0f32; VECTOR];
    for chunk in row.as_chunks::<VECTOR>().0 {
        lanes.iter_mut().zip(chunk).for_each(|(lane, value)| *lane += value);
    }
    lanes.iter().sum()
}

impl Attention {
    /// Scratch of one thread: a block of queries, of scores and of results, maxima and sums.
    fn slot_len(extents: &Extents) -> usize {
        2 * QUERIES * extents.padded_d + QUERIES * KEYS + 2 * QUERIES
    }
}

impl CpuOperator for Attention {
    fn workspace_len(&self, inputs: &[TensorType], _: &[TensorType]) -> usize {
        let extents = Extents::of(inputs, self.heads);
        extents.pairs() * 2 * extents.transposed_len()
            + rayon::current_num_threads() * Self::slot_len(&extents)
    }

    fn run(&self, call: &CpuCall<'_>) {
        let e = Extents::call(call, self.heads);
        let (q, k, v) = (call.f32(0), call.f32(1), call.f32(2));
        let (y, lse) = (Shared::from_slice(call.out(0)), Shared::from_slice(call.out(1)));
        let (packed, scratch) = call.workspace().split_at_mut(e.pairs() * 2 * e.transposed_len());
        packed.par_chunks_mut(2 * e.transposed_len()).enumerate().for_each(|(pair, packed)| {
            let (keys, values) = packed.split_at_mut(e.transposed_len());
            e.pack_transposed(k, pair, keys);
            e.pack_rows(v, (pair, e.keys), (0, e.keys), 1.0, values);
        });
        let (packed, scratch): (&[f32], _) = (packed, Shared::from_slice(scratch));
        let blocks = e.queries.div_ceil(QUERIES);
        (0..e.pairs() * blocks).into_par_iter().for_each(|task| {
            let (pair, first) = (task / blocks, task % blocks * QUERIES);
            let count = QUERIES.min(e.queries - first);
            // SAFETY: the workspace ends with one slot per thread; the task calls no rayon.
            let mut cut = Cutter(unsafe { slot(scratch) });
            let queries = cut.take(QUERIES * e.padded_d);
            let results = cut.take(QUERIES * e.padded_d);
            let scores = cut.take(QUERIES * KEYS);
            let (maxima, sums) = (cut.take(QUERIES), cut.take(QUERIES));
            let (keys, values) =
                packed[pair * 2 * e.transposed_len()..][..2 * e.transposed_len()].split_at(e.transposed_len());
            e.pack_rows(q, (pair, e.queries), (first, count), self.scale, queries);
            results.fill(0.0);
            maxima.fill(f32::NEG_INFINITY);
            sums.fill(0.0);
            for block in (0..e.keys).step_by(KEYS) {
                let valid = KEYS.min(e.keys - block);
                vectorised(|| {
                    e.scores(count).run(queries, &keys[block..], scores);
                    let rows = scores.chunks_exact_mut(KEYS).zip(results.chunks_exact_mut(e.padded_d));
                    for (t, (scores, result)) in rows.enumerate().take(count) {
                        scores[valid..].fill(f32::NEG_INFINITY);
                        let larger = maxima[t].max(largest(scores));
                        scores.iter_mut().for_each(|s| *s = exp(*s - larger));
                        let shrink = exp(maxima[t] - larger);
                        maxima[t] = larger;
                        sums[t] = sums[t] * shrink + sum(scores);
                        result.iter_mut().for_each(|y| *y *= shrink);
                    }
                    e.weighted(count, valid, false).run(scores, &values[block * e.padded_d..], results);
                });
            }
            // SAFETY: the rows of a block of queries belong to one task.
            let lse = unsafe {
                let start = pair * e.queries + first;
                lse.slice_mut(start..start + count)
            };
            for (t, lse) in lse.iter_mut().enumerate() {
                *lse = maxima[t] + sums[t].ln();
                let start = e.start(pair, e.queries, first + t);
                // SAFETY: the row of a query and head belongs to one task.
                let y = unsafe { y.slice_mut(start..start + e.d) };
                let result = &results[t * e.padded_d..];
                y.iter_mut().zip(result).for_each(|(y, r)| *y = r / sums[t]);
            }
        });
    }
}

impl AttentionGrad {
    /// Scratch of one thread: keys and values by rows and transposed, gradients of keys and
    /// values, and blocks of queries, `dy`, gradients of queries, probabilities and their
    /// gradients.
    fn slot_len(e: &Extents) -> usize {
        6 * e.transposed_len() + 3 * QUERIES * e.padded_d + 2 * QUERIES * KEYS
    }
}

impl CpuOperator for AttentionGrad {
    fn workspace_len(&self, inputs: &[TensorType], _: &[TensorType]) -> usize {
        rayon::current_num_threads() * Self::slot_len(&Extents::of(inputs, self.heads))
    }

    fn run(&self, call: &CpuCall<'_>) {
        let e = Extents::call(call, self.heads);
        let (q, k, v) = (call.f32(0), call.f32(1), call.f32(2));
        let (y, lse, dy) = (call.f32(3), call.f32(4), call.f32(5));
        let [dq, dk, dv] = [0, 1, 2].map(|i| Shared::from_slice(call.out(i)));
        let scratch = Shared::from_slice(call.workspace());
        // One task per head and sample, which sums over queries in order.
        (0..e.pairs()).into_par_iter().for_each(|pair| {
            // SAFETY: the workspace is one slot per thread; the task calls no rayon.
            let mut cut = Cutter(unsafe { slot(scratch) });
            let mut whole = || cut.take(e.transposed_len());
            let (keys, key_columns, value_columns) = (whole(), whole(), whole());
            let (key_grads, value_grads) = (whole(), whole());
            let mut rows = || cut.take(QUERIES * e.padded_d);
            let (queries, dys, query_grads) = (rows(), rows(), rows());
            let (p, ds) = (cut.take(QUERIES * KEYS), cut.take(QUERIES * KEYS));
            e.pack_rows(k, (pair, e.keys), (0, e.keys), 1.0, keys);
            e.pack_transposed(k, pair, key_columns);
            e.pack_transposed(v, pair, value_columns);
            key_grads.fill(0.0);
            value_grads.fill(0.0);
            for first in (0..e.queries).step_by(QUERIES) {
                let count = QUERIES.min(e.queries - first);
                let range = (pair, e.queries);
                e.pack_rows(q, range, (first, count), self.scale, queries);
                e.pack_rows(dy, range, (first, count), 1.0, dys);
                query_grads.fill(0.0);
                for block in (0..e.keys).step_by(KEYS) {
                    let valid = KEYS.min(e.keys - block);
                    let rows = block * e.padded_d..(block + KEYS) * e.padded_d;
                    vectorised(|| {
                        e.scores(count).run(queries, &key_columns[block..], p);
                        e.scores(count).run(dys, &value_columns[block..], ds);
                        let pairs = p.chunks_exact_mut(KEYS).zip(ds.chunks_exact_mut(KEYS));
                        for (t, (p, ds)) in pairs.enumerate().take(count) {
                            let start = e.start(pair, e.queries, first + t);
                            let (y, dy) = (&y[start..][..e.d], &dy[start..][..e.d]);
                            let mean: f32 = y.iter().zip(dy).map(|(y, dy)| y * dy).sum();
                            let lse = lse[pair * e.queries + first + t];
                            for (p, ds) in p.iter_mut().zip(ds) {
                                *p = exp(*p - lse);
                                *ds = *p * (*ds - mean);
                            }
                        }
                        e.weighted(count, valid, false).run(ds, &keys[rows.clone()], query_grads);
                        // The queries carry the scale already.
                        e.weighted(valid, count, true).run(ds, queries, &mut key_grads[rows.clone()]);
                        e.weighted(valid, count, true).run(p, dys, &mut value_grads[rows.clone()]);
                    });
                }
                for t in 0..count {
                    let start = e.start(pair, e.queries, first + t);
                    // SAFETY: the row of a query and head belongs to one task.
                    let dq = unsafe { dq.slice_mut(start..start + e.d) };
                    let grad = &query_grads[t * e.padded_d..];
                    dq.iter_mut().zip(grad).for_each(|(dq, grad)| *dq = self.scale * grad);
                }
            }
            for (grad, packed) in [(dk, &*key_grads), (dv, &*value_grads)] {
                for t in 0..e.keys {
                    let start = e.start(pair, e.keys, t);
                    // SAFETY: the row of a key and head belongs to one task.
                    let grad = unsafe { grad.slice_mut(start..start + e.d) };
                    grad.copy_from_slice(&packed[t * e.padded_d..][..e.d]);
                }
            }
        });
    }
}
