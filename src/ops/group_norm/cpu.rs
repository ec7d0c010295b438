//! CPU kernels: one pass over memory each, channels as lanes, statistics and sums in `f64` over
//! blocks that fit the first-level cache.

use rayon::prelude::*;

use super::{GroupNorm, GroupNormGradSums, GroupNormInputGrad, GroupNormStats};
use crate::graph::TensorType;
use crate::kernel::cpu::simd::{swish, swish_derivative, vectorised};
use crate::kernel::cpu::{CpuCall, CpuOperator, Shared, parallel_rows};

/// Narrow images are treated as fewer, wider rows of up to this many elements.
const WIDE_ROW: usize = 512;
/// Elements that are summed in `f32` before the sums move to `f64`: half of a first-level cache.
const BLOCK: usize = 6 * 1024;
/// Elements of one sample that are worth a task of their own when summing.
const PIECE: usize = 32 * 1024;
/// Largest number of tasks per sample.
const MAX_PIECES: usize = 16;

/// `x` `[N,…,C]` as `[samples, rows, width]`, where `width` is a multiple of `C`. Rows and width do
/// not depend on the batch, so that no sum does.
struct SampleLayout {
    samples: usize,
    rows: usize,
    width: usize,
    channels: usize,
    groups: usize,
}

impl SampleLayout {
    fn of(x: &TensorType, groups: usize) -> Self {
        let (samples, channels) = (x.shape[0], x.channels());
        let mut rows = x.len() / (samples * channels);
        let mut width = channels;
        while rows.is_multiple_of(2) && 2 * width <= WIDE_ROW {
            rows /= 2;
            width *= 2;
        }
        Self {
            samples,
            rows,
            width,
            channels,
            groups,
        }
    }

    fn per_sample(&self) -> usize {
        self.rows * self.width
    }

    /// Parts of a sample that are summed separately.
    fn pieces(&self) -> usize {
        (self.per_sample() / PIECE)
            .clamp(1, MAX_PIECES)
            .min(self.rows)
    }

    /// Length in `f32`s of two `f64` sums for each column of each piece.
    fn sums_len(&self) -> usize {
        self.samples * self.pieces() * self.width * 2 * 2
    }

    fn group(&self, column: usize) -> usize {
        column % self.channels / (self.channels / self.groups)
    }

    /// Mean and reciprocal deviation of each column of sample `n`.
    fn expand_stats(&self, stats: &[f32], n: usize, mean: &mut [f32], rstd: &mut [f32]) {
        let stats = &stats[n * self.groups * 2..];
        for (column, (mean, rstd)) in mean.iter_mut().zip(rstd).enumerate() {
            let group = self.group(column);
            (*mean, *rstd) = (stats[2 * group], stats[2 * group + 1]);
        }
    }

    /// Repeats values of channels over the columns.
    fn expand(&self, channels: &[f32], columns: &mut [f32]) {
        let copies = columns.chunks_exact_mut(self.channels);
        copies.for_each(|copy| copy.copy_from_slice(&channels[..self.channels]));
    }

    /// For every piece of every sample, `sum(n, range of elements of the sample, sums)` has to fill
    /// `sums`, two rows of `width`.
    fn sum_pieces(
        &self,
        workspace: &mut [f64],
        sum: impl Fn(usize, std::ops::Range<usize>, &mut [f64]) + Sync,
    ) {
        let pieces = self.pieces();
        let rows = self.rows.div_ceil(pieces);
        let task = |(index, sums): (usize, &mut [f64])| {
            let (n, piece) = (index / pieces, index % pieces);
            let start = (piece * rows).min(self.rows) * self.width;
            let end = ((piece + 1) * rows).min(self.rows) * self.width;
            sums.fill(0.0);
            sum(n, start..end, sums);
        };
        workspace
            .par_chunks_mut(2 * self.width)
            .enumerate()
            .for_each(task);
    }

    /// Adds up the pieces of sample `n` for column `column` of sum `which`.
    fn total(&self, sums: &[f64], n: usize, which: usize, column: usize) -> f64 {
        let pieces = self.pieces();
        let at = |piece: usize| sums[((n * pieces + piece) * 2 + which) * self.width + column];
        (0..pieces).map(at).sum()
    }
}

/// Workspaces start on a cache line, so that they hold `f64`s as well.
fn as_f64(workspace: &mut [f32]) -> &mut [f64] {
    bytemuck::cast_slice_mut(workspace)
}

/// Calls `tile::<W>(first column)` for tiles that cover `width` columns.
macro_rules! tiles {
    ($width:expr, |$first:ident, $lanes:ident| $body:expr) => {{
        let width = $width;
        let mut $first = 0;
        while width - $first >= 64 {
            const $lanes: usize = 64;
            $body;
            $first += 64;
        }
        while width - $first >= 16 {
            const $lanes: usize = 16;
            $body;
            $first += 16;
        }
        while width - $first >= 4 {
            const $lanes: usize = 4;
            $body;
            $first += 4;
        }
        while width > $first {
            const $lanes: usize = 1;
            $body;
            $first += 1;
        }
    }};
}

/// `W` elements of `slice` from `first`.
#[inline(always)]
fn lanes<const W: usize>(slice: &[f32], first: usize) -> &[f32; W] {
    slice[first..first + W]
        .try_into()
        .expect("as long as asked for")
}

/// Adds sum and sum of squares of `W` columns of a block to `sums` (two rows of `width`). The
/// squares are taken about the block's mean, so that a large mean costs no digits.
#[inline(always)]
fn add_moments<const W: usize>(block: &[f32], width: usize, first: usize, sums: &mut [f64]) {
    let count = block.len() / width;
    let rows = || block.chunks_exact(width).map(|row| lanes::<W>(row, first));
    let mut total = [0.0f32; W];
    for row in rows() {
        for i in 0..W {
            total[i] += row[i];
        }
    }
    // Any number near the mean does: the sums below are exact about it.
    let mean = total.map(|t| t / count as f32);
    let (mut differences, mut squares) = ([0.0f32; W], [0.0f32; W]);
    for row in rows() {
        for i in 0..W {
            let difference = row[i] - mean[i];
            differences[i] += difference;
            squares[i] += difference * difference;
        }
    }
    // With x = mean + d: sum x = count mean + sum d, sum x^2 = sum d^2 + mean (2 sum d + count mean).
    let (sums, square_sums) = sums.split_at_mut(width);
    for i in 0..W {
        let (difference, mean) = (f64::from(differences[i]), f64::from(mean[i]));
        let base = count as f64 * mean;
        sums[first + i] += base + difference;
        square_sums[first + i] += f64::from(squares[i]) + mean * (2.0 * difference + base);
    }
}

impl CpuOperator for GroupNormStats {
    fn workspace_len(&self, inputs: &[TensorType], _: &[TensorType]) -> usize {
        SampleLayout::of(&inputs[0], self.groups).sums_len()
    }

    fn run(&self, call: &CpuCall<'_>) {
        let (x, stats, workspace) = (call.f32(0), call.out(0), call.workspace());
        self.compute(x, call.in_type(0), stats, workspace);
    }
}

impl GroupNormStats {
    /// Fills `stats` for `x` of type `ty`; `workspace` has at least the length that the op asks for.
    pub(in crate::ops) fn compute(
        &self,
        x: &[f32],
        ty: &TensorType,
        stats: &mut [f32],
        workspace: &mut [f32],
    ) {
        let layout = SampleLayout::of(ty, self.groups);
        let sums = as_f64(&mut workspace[..layout.sums_len()]);
        let width = layout.width;
        let block_len = (BLOCK / width).max(1) * width;
        layout.sum_pieces(sums, |n, range, sums| {
            let piece = &x[n * layout.per_sample()..][range];
            vectorised(
                #[inline(always)]
                || {
                    for block in piece.chunks(block_len) {
                        tiles!(width, |first, W| add_moments::<W>(
                            block, width, first, sums
                        ));
                    }
                },
            );
        });
        let members = (layout.per_sample() / self.groups) as f64;
        for (index, stats) in stats.chunks_exact_mut(2).enumerate() {
            let (n, group) = (index / self.groups, index % self.groups);
            let size = layout.channels / self.groups;
            let copies = || (group * size..width).step_by(layout.channels);
            let columns = || copies().flat_map(|first| first..first + size);
            let total = |which| {
                let totals = columns().map(|c| layout.total(sums, n, which, c));
                totals.sum::<f64>()
            };
            let mean = total(0) / members;
            let square = total(1) / members;
            // Rounding may leave a hair below zero; NaN must stay.
            let variance = square - mean * mean;
            let variance = if variance < 0.0 { 0.0 } else { variance };
            stats[0] = mean as f32;
            stats[1] = (1.0 / (variance + f64::from(self.eps)).sqrt()) as f32;
        }
    }
}

/// An operand of [`combine`].
#[derive(Clone, Copy)]
enum CombineSource<'a> {
    /// The result's own memory, before it is overwritten.
    InPlace,
    Slice(&'a [f32]),
    Zero,
}

impl<'a> CombineSource<'a> {
    /// Elements `start..start + len` of an operand that may be the memory of `y`.
    fn of(operand: Shared, y: Shared, start: usize, len: usize) -> Self {
        if operand.as_ptr() == y.as_ptr() {
            return CombineSource::InPlace;
        }
        // SAFETY: an operand that is not the result's memory is written by nobody.
        CombineSource::Slice(unsafe { operand.slice(start..start + len) })
    }
}

/// `y[i] = f(constants[..][i], a[i], b[i])`.
#[inline(always)]
fn combine<const K: usize>(
    y: &mut [f32],
    sources: (CombineSource<'_>, CombineSource<'_>),
    constants: [&[f32]; K],
    f: impl Fn([f32; K], f32, f32) -> f32,
) {
    tiles!(y.len(), |first, W| combine_lanes::<W, K>(
        y, sources, constants, first, &f
    ));
}

/// [`combine`] for `W` elements: all are read before one is written, so that the compiler need not
/// prove that nothing overlaps.
#[inline(always)]
fn combine_lanes<const W: usize, const K: usize>(
    y: &mut [f32],
    (a, b): (CombineSource<'_>, CombineSource<'_>),
    constants: [&[f32]; K],
    first: usize,
    f: impl Fn([f32; K], f32, f32) -> f32,
) {
    let own = *lanes::<W>(y, first);
    let read = |source: CombineSource<'_>| match source {
        CombineSource::InPlace => own,
        CombineSource::Slice(slice) => *lanes::<W>(slice, first),
        CombineSource::Zero => [0.0; W],
    };
    let (a, b) = (read(a), read(b));
    let constants = constants.map(|c| lanes::<W>(c, first));
    let mut result = [0.0; W];
    for i in 0..W {
        result[i] = f(constants.map(|c| c[i]), a[i], b[i]);
    }
    y[first..first + W].copy_from_slice(&result);
}

impl CpuOperator for GroupNorm {
    /// Mean, scale, shift and embedding of each column of each sample.
    fn workspace_len(&self, inputs: &[TensorType], _: &[TensorType]) -> usize {
        let layout = SampleLayout::of(&inputs[0], self.groups);
        let own = self.stats.map_or(0, |_| layout.sums_len());
        layout.samples * 4 * layout.width + own
    }

    fn run(&self, call: &CpuCall<'_>) {
        let layout = SampleLayout::of(call.in_type(0), self.groups);
        let gamma = self.gamma_input();
        let (gamma, beta) = (call.f32(gamma), call.f32(gamma + 1));
        let (constants, behind) = call
            .workspace()
            .split_at_mut(layout.samples * 4 * layout.width);
        let stats: &[f32] = match self.stats {
            None => call.f32(1),
            Some(own) => {
                let x = call.shared(0);
                // SAFETY: nothing writes `x` before the result is, which may be in its place.
                let x = unsafe { x.slice(0..x.len) };
                let stats = call.out(1);
                own.compute(x, call.in_type(0), stats, behind);
                stats
            }
        };
        // A result may take over an embedding of a single position; each column is read before
        // the result is written.
        let embed = self.embed_input().map(|index| call.f32(index));
        let width = layout.width;
        for (n, constants) in constants.chunks_exact_mut(4 * width).enumerate() {
            let [mean, scale, shift, added] = split(constants, width);
            layout.expand_stats(stats, n, mean, scale);
            for (column, scale) in scale.iter_mut().enumerate() {
                *scale *= gamma[column % layout.channels];
            }
            layout.expand(beta, shift);
            match embed {
                Some(embed) => layout.expand(&embed[n * layout.channels..], added),
                None => added.fill(0.0),
            }
        }
        let constants: &[f32] = constants;

        let (x, y) = (call.shared(0), call.shared_out(0));
        let residual = self.residual_input().map(|index| call.shared(index));
        parallel_rows(layout.samples * layout.rows, width, |rows| {
            for row in rows {
                let constants = &constants[row / layout.rows * 4 * width..][..4 * width];
                let constants = [0, 1, 2, 3].map(|i| &constants[i * width..][..width]);
                let start = row * width;
                // SAFETY: rows of different threads are disjoint, and operands in the result's
                // memory are read through this slice.
                let target = unsafe { y.slice_mut(start..start + width) };
                let sources = (
                    CombineSource::of(x, y, start, width),
                    residual.map_or(CombineSource::Zero, |r| {
                        CombineSource::of(r, y, start, width)
                    }),
                );
                let normalised =
                    |[mean, scale, shift, _]: [f32; 4], x: f32| (x - mean) * scale + shift;
                vectorised(
                    #[inline(always)]
                    || {
                        if self.swish {
                            combine(
                                target,
                                sources,
                                constants,
                                #[inline(always)]
                                |c, x, r| swish(normalised(c, x)) + r + c[3],
                            );
                        } else {
                            combine(
                                target,
                                sources,
                                constants,
                                #[inline(always)]
                                |c, x, r| normalised(c, x) + r + c[3],
                            );
                        }
                    },
                );
            }
        });
    }
}

/// The first `K` rows of `width` elements.
fn split<const K: usize>(rows: &mut [f32], width: usize) -> [&mut [f32]; K] {
    let mut rows = rows.chunks_exact_mut(width);
    std::array::from_fn(|_| rows.next().expect("as many rows as were reserved"))
}

/// Adds `sum d` and `sum d x̂` of `W` columns of a block to `sums` (two rows of `width`).
#[inline(always)]
fn add_products<const W: usize, const SWISH: bool>(
    (x, dy): (&[f32], &[f32]),
    constants: [&[f32]; 4],
    first: usize,
    sums: &mut [f64],
) {
    let width = constants[0].len();
    let [mean, rstd, gamma, beta] = constants.map(|c| lanes::<W>(c, first));
    let (mut plain, mut scaled) = ([0.0f32; W], [0.0f32; W]);
    for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
        let (x, dy) = (lanes::<W>(x, first), lanes::<W>(dy, first));
        for i in 0..W {
            let hat = (x[i] - mean[i]) * rstd[i];
            let mut d = dy[i];
            if SWISH {
                d *= swish_derivative(gamma[i] * hat + beta[i]);
            }
            plain[i] += d;
            scaled[i] += d * hat;
        }
    }
    let (plain_sums, scaled_sums) = sums.split_at_mut(width);
    for i in 0..W {
        plain_sums[first + i] += f64::from(plain[i]);
        scaled_sums[first + i] += f64::from(scaled[i]);
    }
}

impl CpuOperator for GroupNormGradSums {
    /// Mean, reciprocal deviation, gamma and beta of each column of each sample, then the sums.
    fn workspace_len(&self, inputs: &[TensorType], _: &[TensorType]) -> usize {
        let layout = SampleLayout::of(&inputs[0], self.groups);
        layout.sums_len() + layout.samples * 4 * layout.width
    }

    fn run(&self, call: &CpuCall<'_>) {
        let layout = SampleLayout::of(call.in_type(0), self.groups);
        let (x, stats, gamma, beta, dy) = (
            call.f32(0),
            call.f32(1),
            call.f32(2),
            call.f32(3),
            call.f32(4),
        );
        let width = layout.width;
        let (sums, constants) = call.workspace().split_at_mut(layout.sums_len());
        for (n, constants) in constants.chunks_exact_mut(4 * width).enumerate() {
            let [mean, rstd, scale, shift] = split(constants, width);
            layout.expand_stats(stats, n, mean, rstd);
            layout.expand(gamma, scale);
            layout.expand(beta, shift);
        }
        let (constants, sums): (&[f32], _) = (constants, as_f64(sums));
        let block_len = (BLOCK / 2 / width).max(1) * width;
        layout.sum_pieces(sums, |n, range, sums| {
            let constants = [0, 1, 2, 3].map(|i| &constants[(4 * n + i) * width..][..width]);
            let sample = n * layout.per_sample();
            let (x, dy) = (&x[sample..][range.clone()], &dy[sample..][range]);
            vectorised(
                #[inline(always)]
                || {
                    for block in x.chunks(block_len).zip(dy.chunks(block_len)) {
                        if self.swish {
                            tiles!(width, |first, W| add_products::<W, true>(
                                block, constants, first, sums
                            ));
                        } else {
                            tiles!(width, |first, W| add_products::<W, false>(
                                block, constants, first, sums
                            ));
                        }
                    }
                },
            );
        });
        for (which, y) in [call.out(0), call.out(1)].into_iter().enumerate() {
            for (at, y) in y.iter_mut().enumerate() {
                let (n, channel) = (at / layout.channels, at % layout.channels);
                let copies = (channel..width).step_by(layout.channels);
                *y = copies.map(|c| layout.total(sums, n, which, c)).sum::<f64>() as f32;
            }
        }
    }
}

impl CpuOperator for GroupNormInputGrad {
    /// Mean, reciprocal deviation, gamma, beta and the two group means times the reciprocal
    /// deviation, for each column of each sample.
    fn workspace_len(&self, inputs: &[TensorType], _: &[TensorType]) -> usize {
        let layout = SampleLayout::of(&inputs[0], self.groups);
        layout.samples * 6 * layout.width
    }

    fn run(&self, call: &CpuCall<'_>) {
        let layout = SampleLayout::of(call.in_type(0), self.groups);
        let (stats, gamma, beta) = (call.f32(1), call.f32(2), call.f32(3));
        let sums = [call.f32(5), call.f32(6)];
        let (width, channels) = (layout.width, layout.channels);
        let members = (layout.per_sample() / layout.groups) as f64;
        let constants = call.workspace();
        for (n, constants) in constants.chunks_exact_mut(6 * width).enumerate() {
            let [mean, rstd, scale, shift, rest @ ..] = split::<6>(constants, width);
            layout.expand_stats(stats, n, mean, rstd);
            layout.expand(gamma, scale);
            layout.expand(beta, shift);
            for (target, sums) in rest.into_iter().zip(sums) {
                let sums = &sums[n * channels..][..channels];
                let size = channels / layout.groups;
                for first in (0..channels).step_by(size) {
                    let terms =
                        (first..first + size).map(|c| f64::from(gamma[c]) * f64::from(sums[c]));
                    let mean = terms.sum::<f64>() / members * f64::from(rstd[first]);
                    target[first..first + size].fill(mean as f32);
                }
                let (one, copies) = target.split_at_mut(channels);
                layout.expand(one, copies);
            }
        }
        let constants: &[f32] = constants;

        let (x, dy, dx) = (call.shared(0), call.shared(4), call.shared_out(0));
        parallel_rows(layout.samples * layout.rows, width, |rows| {
            for row in rows {
                let constants = &constants[row / layout.rows * 6 * width..][..6 * width];
                let constants = [0, 1, 2, 3, 4, 5].map(|i| &constants[i * width..][..width]);
                let start = row * width;
                // SAFETY: as in `GroupNorm`.
                let target = unsafe { dx.slice_mut(start..start + width) };
                let sources = (
                    CombineSource::of(x, dx, start, width),
                    CombineSource::of(dy, dx, start, width),
                );
                vectorised(
                    #[inline(always)]
                    || {
                        if self.swish {
                            combine(
                                target,
                                sources,
                                constants,
                                #[inline(always)]
                                |[mean, rstd, gamma, beta, m0, m1], x, dy| {
                                    let hat = (x - mean) * rstd;
                                    let d = dy * swish_derivative(gamma * hat + beta);
                                    rstd * (gamma * d) - m0 - hat * m1
                                },
                            );
                        } else {
                            combine(
                                target,
                                sources,
                                constants,
                                #[inline(always)]
                                |[mean, rstd, gamma, _, m0, m1], x, dy| {
                                    let hat = (x - mean) * rstd;
                                    rstd * (gamma * dy) - m0 - hat * m1
                                },
                            );
                        }
                    },
                );
            }
        });
    }
}
