//! CPU kernels: pixels of a window one after another, channels as lanes.

use super::{
    AdaptiveAvgPool, AdaptiveAvgPoolGrad, AvgPool, AvgPoolGrad, MaxPool, MaxPoolGrad, PoolWindows,
};
use crate::graph::TensorType;
use crate::kernel::cpu::simd::vectorised;
use crate::kernel::cpu::{CpuCall, CpuOperator, Shared, parallel_rows};

/// Extents `[N,H,W,C]`.
fn extents(ty: &TensorType) -> [usize; 4] {
    ty.shape[..].try_into().expect("images have four axes")
}

/// Pixel rows and columns of one window.
struct PoolWindow {
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
}

impl PoolWindow {
    fn new(windows: PoolWindows, image: [usize; 4], oy: usize, ox: usize) -> Self {
        Self {
            rows: windows.span(0, oy, image[1]),
            columns: windows.span(1, ox, image[2]),
        }
    }

    /// `visit(pixel index in the sample)` in row-major order.
    #[inline(always)]
    fn each_pixel(&self, image: [usize; 4], mut visit: impl FnMut(usize)) {
        for y in self.rows.clone() {
            for x in self.columns.clone() {
                visit(y * image[2] + x);
            }
        }
    }

    fn count(&self) -> usize {
        self.rows.len() * self.columns.len()
    }
}

/// For every result pixel, `pool(window, sample, its channels)`.
fn each_result(
    call: &CpuCall<'_>,
    windows: PoolWindows,
    pool: impl Fn(&PoolWindow, &[f32], &mut [f32]) + Sync,
) {
    let (image, [_, oh, ow, c]) = (extents(call.in_type(0)), extents(call.out_type(0)));
    let (x, y) = (call.f32(0), Shared::new(call.out(0)));
    let sample = image[1] * image[2] * c;
    parallel_rows(y.len / (ow * c), ow * c, |rows| {
        for row in rows {
            // SAFETY: rows of different threads are disjoint.
            let y = unsafe { y.slice_mut(row * ow * c..(row + 1) * ow * c) };
            let x = &x[row / oh * sample..][..sample];
            vectorised(
                #[inline(always)]
                || {
                    for (ox, y) in y.chunks_exact_mut(c).enumerate() {
                        pool(&PoolWindow::new(windows, image, row % oh, ox), x, y);
                    }
                },
            );
        }
    });
}

/// Zeros the image, then for every result pixel `spread(window, sample index, its channels of dy,
/// band of dx, first element of the sample that the band holds)`. Where windows do not overlap,
/// each row of results owns a band of the image and bands go to threads; else whole samples do.
fn each_gradient(
    call: &CpuCall<'_>,
    windows: PoolWindows,
    dy: usize,
    spread: impl Fn(&PoolWindow, usize, &[f32], &mut [f32], usize) + Sync,
) {
    let (image, [_, oh, ow, c]) = (extents(call.out_type(0)), extents(call.in_type(dy)));
    let (dy, dx) = (call.f32(dy), Shared::new(call.out(0)));
    let row_len = image[2] * c;
    let sample = image[1] * row_len;
    let bands = if windows.disjoint() { oh } else { 1 };
    parallel_rows(image[0] * bands, sample / bands, |range| {
        for index in range {
            let (n, band) = (index / bands, index % bands);
            // Rows between two windows belong to the first, those before and behind all to the ends.
            let edge = |band: usize| match band {
                0 => 0,
                band if band == bands => image[1],
                band => windows.span(0, band, image[1]).start,
            };
            let (first, end) = (edge(band) * row_len, edge(band + 1) * row_len);
            // SAFETY: bands are disjoint.
            let dx = unsafe { dx.slice_mut(n * sample + first..n * sample + end) };
            let results = if bands == 1 { 0..oh } else { band..band + 1 };
            vectorised(
                #[inline(always)]
                || {
                    dx.fill(0.0);
                    for oy in results {
                        for ox in 0..ow {
                            let dy = &dy[((n * oh + oy) * ow + ox) * c..][..c];
                            spread(&PoolWindow::new(windows, image, oy, ox), n, dy, dx, first);
                        }
                    }
                },
            );
        }
    });
}

/// `y = sum over the window / divisor`.
#[inline(always)]
fn average(window: &PoolWindow, image: [usize; 4], divisor: usize, x: &[f32], y: &mut [f32]) {
    y.fill(0.0);
    window.each_pixel(
        image,
        #[inline(always)]
        |pixel| {
            let x = &x[pixel * image[3]..];
            for (y, x) in y.iter_mut().zip(x) {
                *y += x;
            }
        },
    );
    let factor = 1.0 / divisor as f32;
    for y in y {
        *y *= factor;
    }
}

/// `dx += dy / divisor` over the window.
#[inline(always)]
fn spread_average(
    window: &PoolWindow,
    image: [usize; 4],
    divisor: usize,
    dy: &[f32],
    dx: &mut [f32],
    first: usize,
) {
    let factor = 1.0 / divisor as f32;
    window.each_pixel(
        image,
        #[inline(always)]
        |pixel| {
            let dx = &mut dx[pixel * image[3] - first..];
            for (dx, dy) in dx.iter_mut().zip(dy) {
                *dx += factor * dy;
            }
        },
    );
}

/// Means over the windows of input 0; the divisor is each window's count of pixels if it is not the same for all.
fn mean(call: &CpuCall<'_>, windows: PoolWindows, divisor: Option<usize>) {
    let image = extents(call.in_type(0));
    each_result(
        call,
        windows,
        #[inline(always)]
        |window, x, y| {
            let divisor = divisor.unwrap_or(window.count());
            average(window, image, divisor, x, y);
        },
    );
}

/// The gradient of [`mean`] from `dy`, input 0.
fn mean_grad(call: &CpuCall<'_>, windows: PoolWindows, divisor: Option<usize>) {
    let image = extents(call.out_type(0));
    each_gradient(
        call,
        windows,
        0,
        #[inline(always)]
        |window, _, dy, dx, first| {
            let divisor = divisor.unwrap_or(window.count());
            spread_average(window, image, divisor, dy, dx, first);
        },
    );
}

impl CpuOperator for AvgPool {
    fn run(&self, call: &CpuCall<'_>) {
        mean(call, self.windows(), self.divisor());
    }
}

impl CpuOperator for AvgPoolGrad {
    fn run(&self, call: &CpuCall<'_>) {
        mean_grad(call, self.pool.windows(), self.pool.divisor());
    }
}

impl CpuOperator for AdaptiveAvgPool {
    fn run(&self, call: &CpuCall<'_>) {
        let windows = PoolWindows::regions(call.in_type(0), call.out_type(0));
        mean(call, windows, None);
    }
}

impl CpuOperator for AdaptiveAvgPoolGrad {
    fn run(&self, call: &CpuCall<'_>) {
        let windows = PoolWindows::regions(call.out_type(0), call.in_type(0));
        mean_grad(call, windows, None);
    }
}

impl CpuOperator for MaxPool {
    fn run(&self, call: &CpuCall<'_>) {
        let image = extents(call.in_type(0));
        each_result(
            call,
            self.windows(),
            #[inline(always)]
            |window, x, y| {
                y.fill(f32::NEG_INFINITY);
                window.each_pixel(
                    image,
                    #[inline(always)]
                    |pixel| {
                        let x = &x[pixel * image[3]..];
                        for (y, &x) in y.iter_mut().zip(x) {
                            // False for NaN on either side, which must win and then stay.
                            let keep = *y >= x || y.is_nan();
                            *y = if keep { *y } else { x };
                        }
                    },
                );
            },
        );
    }
}

/// Adds `dy` of `W` channels from `channel` on to the first largest pixel of the window.
#[inline(always)]
fn spread_largest<const W: usize>(
    (window, image): (&PoolWindow, [usize; 4]),
    (x, dy): (&[f32], &[f32]),
    channel: usize,
    dx: &mut [f32],
    first: usize,
) {
    let at = |pixel: usize| pixel * image[3] + channel;
    let (mut best, mut winner) = ([f32::NEG_INFINITY; W], [0u32; W]);
    let mut order = 0;
    window.each_pixel(
        image,
        #[inline(always)]
        |pixel| {
            let x = &x[at(pixel)..][..W];
            for i in 0..W {
                // NaN wins, and then stays.
                let wins = (x[i] > best[i] || x[i].is_nan()) && !best[i].is_nan();
                best[i] = if wins { x[i] } else { best[i] };
                winner[i] = if wins { order } else { winner[i] };
            }
            order += 1;
        },
    );
    let mut order = 0;
    window.each_pixel(
        image,
        #[inline(always)]
        |pixel| {
            let dx = &mut dx[at(pixel) - first..][..W];
            for i in 0..W {
                dx[i] += if winner[i] == order {
                    dy[channel + i]
                } else {
                    0.0
                };
            }
            order += 1;
        },
    );
}

impl CpuOperator for MaxPoolGrad {
    fn run(&self, call: &CpuCall<'_>) {
        let image = extents(call.out_type(0));
        let (channels, x) = (image[3], call.f32(0));
        each_gradient(
            call,
            self.pool.windows(),
            1,
            #[inline(always)]
            |window, n, dy, dx, first| {
                let x = &x[n * image[1] * image[2] * channels..];
                let mut channel = 0;
                while channels - channel >= 16 {
                    spread_largest::<16>((window, image), (x, dy), channel, dx, first);
                    channel += 16;
                }
                while channel < channels {
                    spread_largest::<1>((window, image), (x, dy), channel, dx, first);
                    channel += 1;
                }
            },
        );
    }
}
