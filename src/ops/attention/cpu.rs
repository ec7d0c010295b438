//! CPU kernels: blocks of queries against blocks of keys, with running maximum and sum (Milakov
//! and Gimelshein, online softmax).

use rayon::prelude::*;

use super::product::{Product, VECTOR};
use super::{Attention, AttentionGrad};
use crate::graph::TensorType;
use crate::kernel::cpu::simd::{exp, largest, sum_of, vectorised};
use crate::kernel::cpu::threads::{parallel_slots, width};
use crate::kernel::cpu::{CpuCall, CpuOperator, Shared};

/// Queries per block.
const QUERIES: usize = 64;
/// Keys per block; packed keys are padded to a multiple of it. With 64 channels a block of keys, one
/// of values and the scores take 32 KiB each.
const KEYS: usize = 128;

/// Extents of a call, per head.
#[derive(Clone, Copy)]
struct HeadExtents {
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

impl HeadExtents {
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

    /// Multiply-adds of one product of all queries and keys.
    fn multiply_adds(&self) -> usize {
        self.pairs() * self.queries * self.keys * self.d
    }

    /// First element of row `t` of pair `pair` in an array of `rows` rows per sample.
    fn start(&self, pair: usize, rows: usize, t: usize) -> usize {
        let (n, h) = (pair / self.heads, pair % self.heads);
        (n * rows + t) * self.channels + h * self.d
    }

    /// Copies `count` rows from `first` on to rows of `padded_d`, times `scale`; zeros follow each row.
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
                head.iter_mut()
                    .zip(from)
                    .for_each(|(to, from)| *to = scale * from);
            } else {
                head.fill(0.0);
            }
        }
    }

    /// Transposes the keys or values of a pair to `[block][d][KEYS]`; zeros stand for missing keys.
    fn pack_transposed(&self, x: &[f32], pair: usize, to: &mut [f32]) {
        for (block, to) in to.chunks_exact_mut(self.panel_len()).enumerate() {
            let first = block * KEYS;
            let count = KEYS.min(self.keys - first);
            for t in 0..KEYS {
                let start = self.start(pair, self.keys, first + t.min(count - 1));
                let row = &x[start..start + self.d];
                for (to, value) in to[t..].iter_mut().step_by(KEYS).zip(row) {
                    *to = if t < count { *value } else { 0.0 };
                }
            }
        }
    }

    /// Length of one block of keys, transposed or by rows.
    fn panel_len(&self) -> usize {
        self.padded_d * KEYS
    }

    /// Length of the packed keys or values of a pair, transposed or by rows.
    fn packed_len(&self) -> usize {
        self.padded_d * self.padded_keys
    }

    /// Product of `m` queries (rows of `padded_d`) with a transposed block of keys; `n` of its
    /// columns, rounded up to vectors.
    fn scores(&self, m: usize, n: usize) -> Product {
        Product {
            m,
            n: n.next_multiple_of(VECTOR),
            depth: self.d,
            a_row: self.padded_d,
            a_step: 1,
            b_row: KEYS,
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

/// Slot `index` of `scratch`, which has one slot per thread.
///
/// # Safety
/// No other task uses the slot at the same time.
unsafe fn slot<'a>(scratch: Shared, index: usize) -> &'a mut [f32] {
    let len = scratch.len / width();
    // SAFETY: the caller's promise.
    unsafe { scratch.slice_mut(index * len..(index + 1) * len) }
}

/// Cuts buffers off the front of a slice.
struct Cutter<'a>(&'a mut [f32]);

impl<'a> Cutter<'a> {
    fn take(&mut self, len: usize) -> &'a mut [f32] {
        let (piece, rest) = std::mem::take(&mut self.0).split_at_mut(len);
        self.0 = rest;
        piece
    }
}

impl Attention {
    /// Scratch of one thread: a block of queries, of scores and of results, maxima and sums.
    fn slot_len(extents: &HeadExtents) -> usize {
        2 * QUERIES * extents.padded_d + QUERIES * KEYS + 2 * QUERIES
    }
}

impl CpuOperator for Attention {
    fn workspace_len(&self, inputs: &[TensorType], _: &[TensorType]) -> usize {
        let extents = HeadExtents::of(inputs, self.heads);
        extents.pairs() * 2 * extents.packed_len() + width() * Self::slot_len(&extents)
    }

    fn run(&self, call: &CpuCall<'_>) {
        let e = HeadExtents::call(call, self.heads);
        let (q, k, v) = (call.f32(0), call.f32(1), call.f32(2));
        let (y, lse) = (Shared::new(call.out(0)), Shared::new(call.out(1)));
        let pair_len = 2 * e.packed_len();
        let (packed, scratch) = call.workspace().split_at_mut(e.pairs() * pair_len);
        let pack = |(pair, packed): (usize, &mut [f32])| {
            let (keys, values) = packed.split_at_mut(e.packed_len());
            e.pack_transposed(k, pair, keys);
            e.pack_rows(v, (pair, e.keys), (0, e.keys), 1.0, values);
        };
        packed.par_chunks_mut(pair_len).enumerate().for_each(pack);
        let (packed, scratch): (&[f32], _) = (packed, Shared::new(scratch));
        let blocks = e.queries.div_ceil(QUERIES);
        let work = 2 * e.multiply_adds();
        parallel_slots(work, width(), e.pairs() * blocks, |index, task| {
            let (pair, first) = (task / blocks, task % blocks * QUERIES);
            let count = QUERIES.min(e.queries - first);
            // SAFETY: tasks that run at the same time have different slots.
            let mut cut = Cutter(unsafe { slot(scratch, index) });
            let queries = cut.take(QUERIES * e.padded_d);
            let results = cut.take(QUERIES * e.padded_d);
            let scores = cut.take(QUERIES * KEYS);
            let (maxima, sums) = (cut.take(QUERIES), cut.take(QUERIES));
            let (keys, values) = packed[pair * pair_len..][..pair_len].split_at(e.packed_len());
            let range = (pair, e.queries);
            e.pack_rows(q, range, (first, count), self.scale, queries);
            results.fill(0.0);
            maxima.fill(f32::NEG_INFINITY);
            sums.fill(0.0);
            let panels = keys.chunks_exact(e.panel_len());
            let panels = panels.zip(values.chunks_exact(e.panel_len()));
            for (block, (keys, values)) in panels.enumerate() {
                let valid = KEYS.min(e.keys - block * KEYS);
                let product = e.scores(count, valid);
                product.run(queries, keys, scores);
                vectorised(
                    #[inline(always)]
                    || {
                        let rows = scores.chunks_exact_mut(KEYS);
                        let rows = rows.zip(results.chunks_exact_mut(e.padded_d));
                        for (t, (scores, result)) in rows.enumerate().take(count) {
                            let scores = &mut scores[..product.n];
                            scores[valid..].fill(f32::NEG_INFINITY);
                            // The maximum ignores NaN; the sum does not.
                            let larger = maxima[t].max(largest(scores));
                            for score in scores.iter_mut() {
                                *score = exp(*score - larger);
                            }
                            let shrink = exp(maxima[t] - larger);
                            maxima[t] = larger;
                            sums[t] = sums[t] * shrink + sum_of(scores.len(), |i| scores[i]);
                            for y in result {
                                *y *= shrink;
                            }
                        }
                    },
                );
                e.weighted(count, valid, false).run(scores, values, results);
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
    /// Scratch of one thread: keys by rows, keys and values transposed, gradients of keys and
    /// values; blocks of queries, `dy` and gradients of queries; probabilities and their
    /// gradients; a sum for each query.
    fn slot_len(e: &HeadExtents) -> usize {
        5 * e.packed_len() + 3 * QUERIES * e.padded_d + 2 * QUERIES * KEYS + QUERIES
    }
}

impl CpuOperator for AttentionGrad {
    fn workspace_len(&self, inputs: &[TensorType], _: &[TensorType]) -> usize {
        width() * Self::slot_len(&HeadExtents::of(inputs, self.heads))
    }

    fn run(&self, call: &CpuCall<'_>) {
        let e = HeadExtents::call(call, self.heads);
        let (q, k, v) = (call.f32(0), call.f32(1), call.f32(2));
        let (y, lse, dy) = (call.f32(3), call.f32(4), call.f32(5));
        let [dq, dk, dv] = [0, 1, 2].map(|i| Shared::new(call.out(i)));
        let scratch = Shared::new(call.workspace());
        // One task per head and sample, which sums over queries in order.
        let work = 5 * e.multiply_adds();
        parallel_slots(work, width(), e.pairs(), |index, pair| {
            // SAFETY: tasks that run at the same time have different slots.
            let mut cut = Cutter(unsafe { slot(scratch, index) });
            let mut whole = || cut.take(e.packed_len());
            let (keys, key_columns, value_columns) = (whole(), whole(), whole());
            let (key_grads, value_grads) = (whole(), whole());
            let mut rows = || cut.take(QUERIES * e.padded_d);
            let (queries, dys, query_grads) = (rows(), rows(), rows());
            let (p, ds) = (cut.take(QUERIES * KEYS), cut.take(QUERIES * KEYS));
            let means = cut.take(QUERIES);
            e.pack_rows(k, (pair, e.keys), (0, e.keys), 1.0, keys);
            e.pack_transposed(k, pair, key_columns);
            e.pack_transposed(v, pair, value_columns);
            key_grads.fill(0.0);
            value_grads.fill(0.0);
            // The softmax over a single key is constant, so its gradient is exactly 0, without rounding errors.
            let slope = if e.keys == 1 { 0.0 } else { 1.0 };
            for first in (0..e.queries).step_by(QUERIES) {
                let count = QUERIES.min(e.queries - first);
                let range = (pair, e.queries);
                e.pack_rows(q, range, (first, count), self.scale, queries);
                e.pack_rows(dy, range, (first, count), 1.0, dys);
                query_grads.fill(0.0);
                // sum_j p_j dy·v_j = dy·y
                for (t, mean) in means.iter_mut().enumerate().take(count) {
                    let start = e.start(pair, e.queries, first + t);
                    let (y, dy) = (&y[start..][..e.d], &dy[start..][..e.d]);
                    *mean = vectorised(
                        #[inline(always)]
                        || sum_of(e.d, |i| y[i] * dy[i]),
                    );
                }
                for block in 0..e.padded_keys / KEYS {
                    let valid = KEYS.min(e.keys - block * KEYS);
                    let panel = block * e.panel_len()..(block + 1) * e.panel_len();
                    let product = e.scores(count, valid);
                    product.run(queries, &key_columns[panel.clone()], p);
                    product.run(dys, &value_columns[panel.clone()], ds);
                    vectorised(
                        #[inline(always)]
                        || {
                            let pairs = p.chunks_exact_mut(KEYS).zip(ds.chunks_exact_mut(KEYS));
                            for (t, (p, ds)) in pairs.enumerate().take(count) {
                                let lse = lse[pair * e.queries + first + t];
                                for (p, ds) in p[..product.n].iter_mut().zip(ds) {
                                    *p = exp(*p - lse);
                                    *ds = slope * *p * (*ds - means[t]);
                                }
                            }
                        },
                    );
                    let by_query = e.weighted(count, valid, false);
                    by_query.run(ds, &keys[panel.clone()], query_grads);
                    // The queries are scaled already.
                    let by_key = e.weighted(valid, count, true);
                    by_key.run(ds, queries, &mut key_grads[panel.clone()]);
                    by_key.run(p, dys, &mut value_grads[panel]);
                }
                for t in 0..count {
                    let start = e.start(pair, e.queries, first + t);
                    // SAFETY: the row of a query and head belongs to one task.
                    let dq = unsafe { dq.slice_mut(start..start + e.d) };
                    let grad = &query_grads[t * e.padded_d..];
                    let pairs = dq.iter_mut().zip(grad);
                    pairs.for_each(|(dq, grad)| *dq = self.scale * grad);
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
