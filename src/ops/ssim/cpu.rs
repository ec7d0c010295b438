//! CPU kernels: sample by sample, windows as two passes of eleven taps, row by row, in `f64`,
//! because variances and the gradient's parts are large numbers with small differences.

use rayon::prelude::*;

use super::{C1, C2, Ssim, SsimGrad, SsimWindow};
use crate::graph::TensorType;
use crate::kernel::cpu::simd::vectorised;
use crate::kernel::cpu::{CpuCall, CpuOperator};

/// Blocks of rows per sample that are tasks of their own, whatever the number of threads.
const BLOCKS: usize = 16;
/// Means of a, b, a², b² and ab.
const MOMENTS: usize = 5;
/// Derivatives with respect to the means of a, a² and ab.
const DERIVATIVES: usize = 3;

/// Extents of one sample, its windows, and how its rows are divided.
#[derive(Clone, Copy)]
struct SampleGeometry {
    height: usize,
    /// Elements of an image row, `W C`, and of a row of windows.
    row: usize,
    window_row: usize,
    /// Rows of windows.
    window_rows: usize,
    channels: usize,
    vertical: SsimWindow,
    horizontal: SsimWindow,
    clamp: bool,
}

impl SampleGeometry {
    fn new(op: Ssim, ty: &TensorType) -> Self {
        let [_, height, width, channels] = ty.shape[..] else {
            unreachable!("checked by infer")
        };
        let (vertical, horizontal) = (SsimWindow::along(height), SsimWindow::along(width));
        Self {
            height,
            row: width * channels,
            window_row: horizontal.positions(width) * channels,
            window_rows: vertical.positions(height),
            channels,
            vertical,
            horizontal,
            clamp: !op.metric,
        }
    }

    fn windows(&self) -> f64 {
        (self.window_rows * self.window_row / self.channels) as f64
    }

    /// Rows of windows per block.
    fn block_rows(&self) -> usize {
        self.window_rows.div_ceil(BLOCKS)
    }

    /// `f64`s that a block needs for itself.
    fn scratch(&self) -> usize {
        MOMENTS * (self.row + self.window_row)
    }

    /// `f64`s of the channel sums and the scratch of a sample's blocks.
    fn shared(&self) -> usize {
        BLOCKS * (self.channels + self.scratch())
    }

    /// `f64`s of the derivative maps of one block.
    fn block_maps(&self) -> usize {
        DERIVATIVES * self.block_rows() * self.window_row
    }

    fn mapped(&self, x: f32) -> f64 {
        let x = (x + 1.0) / 2.0;
        f64::from(match () {
            // Comparisons, so that NaN stays NaN.
            () if self.clamp && x < 0.0 => 0.0,
            () if self.clamp && x > 1.0 => 1.0,
            () => x,
        })
    }

    /// The moments of one row of windows into the last part of `scratch`.
    fn moments<'s>(&self, a: &[f32], b: &[f32], y: usize, scratch: &'s mut [f64]) -> &'s [f64] {
        let (columns, moments) = scratch.split_at_mut(MOMENTS * self.row);
        vectorised(|| {
            columns.fill(0.0);
            let [m0, m1, m2, m3, m4] = split(columns, self.row);
            for (i, &w) in self.vertical.taps().iter().enumerate() {
                let at = (y + i) * self.row;
                let (a, b) = (&a[at..][..self.row], &b[at..][..self.row]);
                for j in 0..self.row {
                    let (a, b) = (self.mapped(a[j]), f64::from((b[j] + 1.0) / 2.0));
                    let (wa, wb) = (w * a, w * b);
                    m0[j] += wa;
                    m1[j] += wb;
                    m2[j] += wa * a;
                    m3[j] += wb * b;
                    m4[j] += wa * b;
                }
            }
            moments.fill(0.0);
            let rows = columns.chunks_exact(self.row);
            for (column, moment) in rows.zip(moments.chunks_exact_mut(self.window_row)) {
                for (i, &w) in self.horizontal.taps().iter().enumerate() {
                    let shifted = &column[i * self.channels..][..self.window_row];
                    moment
                        .iter_mut()
                        .zip(shifted)
                        .for_each(|(m, c)| *m += w * c);
                }
            }
        });
        moments
    }

    /// Sums the similarity of one row of windows into `sums` by channel, and writes its
    /// derivatives with respect to the means of a, a² and ab to `maps` if given.
    fn row_similarity(&self, moments: &[f64], sums: &mut [f64], maps: Option<[&mut [f64]; 3]>) {
        let at = |k: usize| &moments[k * self.window_row..][..self.window_row];
        let (m0, m1, m2, m3, m4) = (at(0), at(1), at(2), at(3), at(4));
        let parts = |i: usize| {
            let (a, b) = (m0[i], m1[i]);
            let num1 = 2.0 * a * b + C1;
            let num2 = 2.0 * (m4[i] - a * b) + C2;
            let den1 = a * a + b * b + C1;
            let den2 = (m2[i] - a * a) + (m3[i] - b * b) + C2;
            (a, b, num1, num2, den1, den2)
        };
        for i in (0..self.window_row).step_by(self.channels) {
            for (c, sum) in sums.iter_mut().enumerate() {
                let (_, _, num1, num2, den1, den2) = parts(i + c);
                *sum += num1 * num2 / (den1 * den2);
            }
        }
        let Some([by_mean, by_square, by_product]) = maps else {
            return;
        };
        vectorised(|| {
            for i in 0..self.window_row {
                let (a, b, num1, num2, den1, den2) = parts(i);
                let product = 2.0 * num1 / (den1 * den2);
                let s = num1 * num2 / (den1 * den2);
                let square = -s / den2;
                let mean = 2.0 * b * num2 / (den1 * den2) - 2.0 * a * s / den1;
                by_mean[i] = mean - b * product - 2.0 * a * square;
                by_square[i] = square;
                by_product[i] = product;
            }
        });
    }
}

/// `x` as `K` parts of `len`.
fn split<const K: usize>(x: &mut [f64], len: usize) -> [&mut [f64]; K] {
    let mut parts = x.chunks_exact_mut(len);
    std::array::from_fn(|_| parts.next().expect("K parts"))
}

/// Channel sums of every block of a sample, and, if `maps` is not empty, the derivative maps.
fn similarity(
    geometry: SampleGeometry,
    a: &[f32],
    b: &[f32],
    sums: &mut [f64],
    scratch: &mut [f64],
    maps: &mut [f64],
) {
    let block_rows = geometry.block_rows();
    let with_maps = !maps.is_empty();
    let block = |block: usize, sums: &mut [f64], scratch: &mut [f64], maps: &mut [f64]| {
        sums.fill(0.0);
        let first = block * block_rows;
        for y in first..(first + block_rows).min(geometry.window_rows) {
            let moments = geometry.moments(a, b, y, scratch);
            let maps = with_maps.then(|| {
                let kinds = split(maps, block_rows * geometry.window_row);
                let at = (y - first) * geometry.window_row;
                kinds.map(|kind| &mut kind[at..][..geometry.window_row])
            });
            geometry.row_similarity(moments, sums, maps);
        }
    };
    let parts = sums
        .par_chunks_mut(geometry.channels)
        .zip(scratch.par_chunks_mut(geometry.scratch()));
    if with_maps {
        let parts = parts.zip(maps.par_chunks_mut(geometry.block_maps()));
        let parts = parts.enumerate();
        parts.for_each(|(i, ((sums, scratch), maps))| block(i, sums, scratch, maps));
    } else {
        let parts = parts.enumerate();
        parts.for_each(|(i, (sums, scratch))| block(i, sums, scratch, &mut []));
    }
}

/// Mean similarity of channel `c` from the sums of a sample's blocks.
fn channel_mean(geometry: SampleGeometry, sums: &[f64], c: usize) -> f64 {
    let sum: f64 = sums.chunks_exact(geometry.channels).map(|s| s[c]).sum();
    sum / geometry.windows()
}

impl CpuOperator for Ssim {
    fn workspace_len(&self, inputs: &[TensorType], _: &[TensorType]) -> usize {
        2 * SampleGeometry::new(*self, &inputs[0]).shared()
    }

    fn run(&self, call: &CpuCall<'_>) {
        let geometry = SampleGeometry::new(*self, call.in_type(0));
        let (a, b) = (call.f32(0), call.f32(1));
        let workspace: &mut [f64] = bytemuck::cast_slice_mut(call.workspace());
        let (sums, scratch) = workspace.split_at_mut(BLOCKS * geometry.channels);
        let image = geometry.height * geometry.row;
        let images = a.chunks_exact(image).zip(b.chunks_exact(image));
        for (y, (a, b)) in call.out(0).iter_mut().zip(images) {
            similarity(geometry, a, b, sums, scratch, &mut []);
            let means = (0..geometry.channels).map(|c| match channel_mean(geometry, sums, c) {
                mean if mean < 0.0 && !self.metric => 0.0,
                mean => mean,
            });
            *y = (means.sum::<f64>() / geometry.channels as f64) as f32;
        }
    }
}

impl CpuOperator for SsimGrad {
    fn workspace_len(&self, inputs: &[TensorType], _: &[TensorType]) -> usize {
        let geometry = SampleGeometry::new(self.of, &inputs[0]);
        2 * (geometry.shared() + BLOCKS * geometry.block_maps())
    }

    fn run(&self, call: &CpuCall<'_>) {
        let geometry = SampleGeometry::new(self.of, call.in_type(0));
        let (a, b, dy) = (call.f32(0), call.f32(1), call.f32(2));
        let workspace: &mut [f64] = bytemuck::cast_slice_mut(call.workspace());
        let (shared, maps) = workspace.split_at_mut(geometry.shared());
        let (sums, scratch) = shared.split_at_mut(BLOCKS * geometry.channels);
        let image = geometry.height * geometry.row;
        let images = a.chunks_exact(image).zip(b.chunks_exact(image));
        let samples = call.out(0).chunks_exact_mut(image).zip(images).zip(dy);
        for ((dx, (a, b)), &dy) in samples {
            similarity(geometry, a, b, sums, scratch, maps);
            let (sums, maps) = (&*sums, &*maps);
            let rows = geometry.height.div_ceil(BLOCKS);
            let blocks = dx.par_chunks_mut(rows * geometry.row);
            let blocks = blocks.zip(scratch.par_chunks_mut(geometry.scratch()));
            blocks.enumerate().for_each(|(block, (dx, scratch))| {
                for (y, dx) in dx.chunks_exact_mut(geometry.row).enumerate() {
                    let y = block * rows + y;
                    let spread = geometry.back_through_windows(maps, y, scratch);
                    let at = y * geometry.row;
                    let (a, b) = (&a[at..][..geometry.row], &b[at..][..geometry.row]);
                    for c in 0..geometry.channels {
                        let mean = channel_mean(geometry, sums, c);
                        // A channel that the loss cuts at 0 has no gradient; NaN stays NaN.
                        let cut = !self.of.metric && mean <= 0.0;
                        let share = geometry.channels as f64 * geometry.windows();
                        let scale = if cut {
                            0.0
                        } else {
                            0.5 * f64::from(dy) / share
                        };
                        geometry.input_gradient(c, scale, a, b, spread, dx);
                    }
                }
            });
        }
    }
}

impl SampleGeometry {
    /// Sums, for image row `y`, the derivative maps over the windows that hold its pixels, into the
    /// last part of `scratch`.
    fn back_through_windows<'s>(
        &self,
        maps: &[f64],
        y: usize,
        scratch: &'s mut [f64],
    ) -> &'s [f64] {
        let block_rows = self.block_rows();
        let (columns, spread) = scratch.split_at_mut(DERIVATIVES * self.window_row);
        let spread = &mut spread[..DERIVATIVES * self.row];
        vectorised(|| {
            columns.fill(0.0);
            for (i, &w) in self.vertical.taps().iter().enumerate() {
                let windows = y.checked_sub(i);
                let Some(window) = windows.filter(|&window| window < self.window_rows) else {
                    continue;
                };
                let maps = &maps[window / block_rows * self.block_maps()..];
                for (k, column) in columns.chunks_exact_mut(self.window_row).enumerate() {
                    let at = (k * block_rows + window % block_rows) * self.window_row;
                    let map = &maps[at..][..self.window_row];
                    column.iter_mut().zip(map).for_each(|(c, m)| *c += w * m);
                }
            }
            spread.fill(0.0);
            let columns = columns.chunks_exact(self.window_row);
            for (column, spread) in columns.zip(spread.chunks_exact_mut(self.row)) {
                for (i, &w) in self.horizontal.taps().iter().enumerate() {
                    let shifted = &mut spread[i * self.channels..][..self.window_row];
                    shifted
                        .iter_mut()
                        .zip(column)
                        .for_each(|(s, c)| *s += w * c);
                }
            }
        });
        spread
    }

    /// Channel `c` of one row of the gradient from the spread derivatives.
    fn input_gradient(
        &self,
        c: usize,
        scale: f64,
        a: &[f32],
        b: &[f32],
        spread: &[f64],
        dx: &mut [f32],
    ) {
        for i in (c..self.row).step_by(self.channels) {
            let (x, t) = (self.mapped(a[i]), f64::from((b[i] + 1.0) / 2.0));
            let [mean, square, product] = [0, 1, 2].map(|k| spread[k * self.row + i]);
            let outside = self.clamp && a[i].abs() > 1.0;
            dx[i] = match outside {
                true => 0.0,
                false => (scale * (mean + 2.0 * x * square + t * product)) as f32,
            };
        }
    }
}
