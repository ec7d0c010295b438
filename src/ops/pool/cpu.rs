//! CPU kernels: pixels of a window one after another, channels as lanes.

use super::{
    AdaptiveAvgPool, AdaptiveAvgPoolGrad, AvgPool, AvgPoolGrad, MaxPool, MaxPoolGrad, Windows,
};
use crate::graph::TensorType;
use crate::kernel::cpu::simd::vectorised;
use crate::kernel::cpu::{CpuCall, CpuOperator, Shared, parallel_rows};

/// Extents `[N,H,W,C]`.
fn extents(ty: &TensorType) -> [usize; 4] {
    ty.shape[..].try_into().expect("images have four axes")
}

/// Pixel rows and columns of one window.
struct Window {
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
}

impl Window {
    fn new(windows: Windows, image: [usize; 4], oy: usize, ox: usize) -> Self {
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
    windows: Windows,
    pool: impl Fn(&Window, &[f32], &mut [f32]) + Sync,
) {
    let (image, [_, oh, ow, c]) = (extents(call.in_type(0)), extents(call.out_type(0)));
    let (x, y) = (call.f32(0), Shared::from_slice(call.out(0)));
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
                        pool(&Window::new(windows, image, row % oh, ox), x, y);
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
    windows: Windows,
    dy: usize,
    spread: impl Fn(&Window, usize, &[f32], &mut [f32], usize) + Sync,
) {
    let (image, [_, oh, ow, c]) = (extents(call.out_type(0)), extents(call.in_type(dy)));
    let (dy, dx) = (call.f32(dy), Shared::from_slice(call.out(0)));
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
                            spread(&Window::new(windows, image, oy, ox), n, dy, dx, first);
                        }
                    }
                },
            );
        }
    });
}

/// `y = sum over the window / divisor`.
#[inline(always)]
fn average(window: &Window, image: [usize; 4], divisor: usize, x: &[f32], y: &mut [f32]) {
    y.fill(0.0);
    window.each_pixel(
        image,
        #[inline(always)]
        |pixel| {
            let x = &x[pixel * channels_of(image)..];
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
    window: &Window,
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
            let dx = &mut dx[pixel * channels_of(image) - first..];
            for (dx, dy) in dx.iter_mut().zip(dy) {
                *dx += factor * dy;
            }
        },
    );
}

/// Channels of an image.
fn channels_of(image: [usize; 4]) -> usize {
    image[3]
}

impl AvgPool {
    fn window_divisor(&self, window: &Window) -> usize {
        if self.count_padding {
            self.kernel * self.kernel
        } else {
            window.count()
        }
    }
}

impl CpuOperator for AvgPool {
    fn run(&self, call: &CpuCall<'_>) {
        let image = extents(call.in_type(0));
        each_result(
            call,
            self.windows(),
            #[inline(always)]
            |window, x, y| {
                average(window, image, self.window_divisor(window), x, y);
            },
        );
    }
}

impl CpuOperator for AvgPoolGrad {
    fn run(&self, call: &CpuCall<'_>) {
        let image = extents(call.out_type(0));
        each_gradient(
            call,
            self.pool.windows(),
            0,
            #[inline(always)]
            |window, _, dy, dx, first| {
                spread_average(
                    window,
                    image,
                    self.pool.window_divisor(window),
                    dy,
                    dx,
                    first,
                );
            },
        );
    }
}

fn regions(image: &TensorType, result: &TensorType) -> Windows {
    let ([_, h, w, _], [_, oh, ow, _]) = (extents(image), extents(result));
    Windows::Regions {
        input: [h, w],
        output: [oh, ow],
    }
}

impl CpuOperator for AdaptiveAvgPool {
    fn run(&self, call: &CpuCall<'_>) {
        let image = extents(call.in_type(0));
        each_result(
            call,
            regions(call.in_type(0), call.out_type(0)),
            #[inline(always)]
            |window, x, y| {
                average(window, image, window.count(), x, y);
            },
        );
    }
}

impl CpuOperator for AdaptiveAvgPoolGrad {
    fn run(&self, call: &CpuCall<'_>) {
        let image = extents(call.out_type(0));
        let windows = regions(call.out_type(0), call.in_type(0));
        each_gradient(
            call,
            windows,
            0,
            #[inline(always)]
            |window, _, dy, dx, first| {
                spread_average(window, image, window.count(), dy, dx, first);
            },
        );
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
                        let x = &x[pixel * channels_of(image)..];
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
    (window, image): (&Window, [usize; 4]),
    (x, dy): (&[f32], &[f32]),
    channel: usize,
    dx: &mut [f32],
    first: usize,
) {
    let at = |pixel: usize| pixel * channels_of(image) + channel;
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
        let (channels, x) = (channels_of(image), call.f32(0));
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
