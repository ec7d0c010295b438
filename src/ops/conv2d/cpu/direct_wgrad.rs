//! Weight gradient of any convolution as products over pixels: per tap, `dW[o][c] = Σ_pixels dy[pixel][o] · x[source][c]`.
//!
//! `x` and `dy` are first copied into panels of 48 channels, because a pixel's channels lie a power of two apart in
//! NHWC and a column of them would fall into one set of L1. A task owns 48×48 channels. It sums all taps over all pixels in
//! image order, in a buffer that stays in L2 (9 taps: 83 KiB), and then writes its part of the OIHW gradient. It goes over
//! the rows band by band, so that all taps use a band while it is in L2 (a fifth quicker at 256² than tap after tap). Taps
//! are those of the forward phases: through an upsample 16 folded taps on the small map instead of 9 on the large one.

use crate::kernel::cpu::gemm::Isa;
use crate::kernel::cpu::gemm::kernel::{Block, PANEL, ROWS, Segment, block};
use crate::kernel::cpu::gemm::pack::{pack_panel, padded, panel, panel_count};
use crate::kernel::cpu::threads::{Shared, parallel, parallel_slots, width};
use crate::ops::conv2d::geometry::{
    ConvGeometry, ConvPhase, ConvPhases, Direction, MAX_KERNEL, Tap,
};

/// Most rows of a band, and so most runs of pixels per product.
const RUNS: usize = 64;

/// Pixels per band, about: 512 of a panel of `x` and as many of `dy` are 192 KiB of L2.
const K_BLOCK: usize = 512;

/// A chunk has as many images as it takes to reach this many pixels, so that there are few passes over the gradient.
const CHUNK_PIXELS: usize = 4096;

/// Multiply-adds in the time that copying one float takes, a few bytes a cycle.
const COPY_WORK: usize = 25;

/// A weight gradient prepared for this method.
#[derive(Clone, Copy, Debug)]
pub struct DirectWeightGrad {
    geometry: ConvGeometry,
    phases: ConvPhases,
}

/// The pixels of one tap that one product sums over.
struct Runs {
    segments: [Segment; RUNS],
    /// First `dy` pixel of each run, as eight pointers to consecutive channels.
    rows: [[*const f32; ROWS]; RUNS],
    count: usize,
    /// The pixel of `dy` and of `x` that would continue the last run.
    next: (usize, usize),
}

impl DirectWeightGrad {
    /// The weight gradient of `geometry`.
    pub fn new(geometry: &ConvGeometry) -> DirectWeightGrad {
        DirectWeightGrad {
            geometry: *geometry,
            phases: geometry.phases(Direction::Forward),
        }
    }

    /// Every tap of every phase.
    fn taps(&self) -> impl Iterator<Item = (&ConvPhase, &ConvPhase, Tap, Tap)> {
        self.phases.iter().flat_map(|[y, x]| {
            y.taps()
                .iter()
                .flat_map(move |&ty| x.taps().iter().map(move |&tx| (y, x, ty, tx)))
        })
    }

    /// Products per image and pair of channels.
    pub fn products(&self) -> usize {
        self.taps().map(|(y, x, ..)| y.count * x.count).sum()
    }

    fn chunk(&self) -> usize {
        let pixels = self.geometry.output_height() * self.geometry.output_width();
        CHUNK_PIXELS.div_ceil(pixels).min(self.geometry.batch)
    }

    /// Floats of a chunk's panels of `x` and of `dy`, and of one task's sums.
    fn lens(&self) -> [usize; 3] {
        let g = &self.geometry;
        let images = self.chunk();
        [
            images * g.height * g.width * padded(g.in_channels),
            images * g.output_height() * g.output_width() * padded(g.out_channels),
            self.taps().count() * PANEL * PANEL,
        ]
    }

    /// Floats of workspace.
    pub fn workspace_len(&self) -> usize {
        let [x, dy, sums] = self.lens();
        x + dy + width() * sums
    }

    /// Overwrites the OIHW gradient `dw`.
    pub fn run(&self, isa: Isa, x: &[f32], dy: &[f32], dw: &mut [f32], workspace: &mut [f32]) {
        let g = &self.geometry;
        let [x_len, dy_len, sums_len] = self.lens();
        let (x_panels, rest) = workspace.split_at_mut(x_len);
        let (dy_panels, sums) = rest.split_at_mut(dy_len);
        let slots = sums.len() / sums_len;
        let sums = Shared::new(sums);
        let work = self.products() * g.batch * g.in_channels * g.out_channels;
        let dw = Shared::new(dw);
        let c_panels = panel_count(g.in_channels);
        let o_panels = panel_count(g.out_channels);
        for image0 in (0..g.batch).step_by(self.chunk()) {
            let images = (g.batch - image0).min(self.chunk());
            copy_panels(
                x,
                image0,
                images,
                g.height * g.width,
                g.in_channels,
                x_panels,
            );
            copy_panels(
                dy,
                image0,
                images,
                g.output_height() * g.output_width(),
                g.out_channels,
                dy_panels,
            );
            let (x_panels, dy_panels) = (&*x_panels, &*dy_panels);
            parallel_slots(work, slots, c_panels * o_panels, |slot, task| {
                // SAFETY: each slot is one thread's.
                let sums = unsafe { sums.slice_mut(slot * sums_len..slot * sums_len + sums_len) };
                let (o, c) = (task / c_panels, task % c_panels);
                self.sum_taps(isa, images, x_panels, dy_panels, (o, c), sums);
                self.write(sums, (o, c), image0 > 0, dw);
            });
        }
    }

    /// `sums[tap][o][c]` over all pixels of the chunk, for one panel of each side.
    fn sum_taps(
        &self,
        isa: Isa,
        images: usize,
        x_panels: &[f32],
        dy_panels: &[f32],
        (o, c): (usize, usize),
        mut sums: &mut [f32],
    ) {
        let g = &self.geometry;
        let (oh, ow) = (g.output_height(), g.output_width());
        let o_panel = panel(g.out_channels, o);
        let c_panel = panel(g.in_channels, c);
        let dy = dy_panels[o_panel.first * images * oh * ow..].as_ptr();
        let x = x_panels[c_panel.first * images * g.height * g.width..].as_ptr();
        let mut runs = Runs {
            segments: [Segment { b_row: 0, k: 0 }; RUNS],
            rows: [[std::ptr::null(); ROWS]; RUNS],
            count: 0,
            next: (usize::MAX, usize::MAX),
        };
        let c_rows: [usize; PANEL] = std::array::from_fn(|i| i * PANEL);
        for [y_phase, x_phase] in self.phases.iter() {
            let rows = images * y_phase.count;
            let band = (K_BLOCK / x_phase.count.max(1)).clamp(1, RUNS);
            let pairs = || {
                let taps = y_phase.taps().iter();
                taps.flat_map(|&ty| x_phase.taps().iter().map(move |&tx| (ty, tx)))
            };
            let count = pairs().count();
            let (taps_sums, rest) = sums.split_at_mut(count * PANEL * PANEL);
            sums = rest;
            // All taps of a band of rows: its panels are read from L3 for the first tap, and from L2 for the others.
            for first in (0..rows.max(1)).step_by(band) {
                for ((ty, tx), sums) in pairs().zip(taps_sums.chunks_exact_mut(PANEL * PANEL)) {
                    (runs.count, runs.next) = (0, (usize::MAX, usize::MAX));
                    let inside_y = y_phase.inside(ty, g.height);
                    let inside_x = x_phase.inside(tx, g.width);
                    for row in first..rows.min(first + band) {
                        let (image, gy) = (row / y_phase.count, row % y_phase.count);
                        if !inside_y.contains(&gy) || inside_x.is_empty() {
                            continue;
                        }
                        let source_y = (gy * y_phase.source_step) as isize + ty.offset;
                        let source_x = (inside_x.start * x_phase.source_step) as isize + tx.offset;
                        let out_y = image * oh + y_phase.first + gy * y_phase.step;
                        let out = out_y * ow + x_phase.first + inside_x.start * x_phase.step;
                        let source =
                            (image * g.height + source_y as usize) * g.width + source_x as usize;
                        let k = inside_x.len();
                        if runs.next == (out, source) {
                            runs.segments[runs.count - 1].k += k;
                        } else {
                            runs.segments[runs.count] = Segment { b_row: source, k };
                            runs.rows[runs.count] =
                                std::array::from_fn(|i| dy.wrapping_add(out * o_panel.width + i));
                            runs.count += 1;
                        }
                        runs.next = (out + k * x_phase.step, source + k * x_phase.source_step);
                    }
                    for row in (0..o_panel.columns).step_by(ROWS) {
                        // SAFETY: runs lie inside the panels by construction; `sums` holds 48×48 floats.
                        unsafe {
                            block(
                                isa,
                                &Block {
                                    segments: runs.segments.as_ptr(),
                                    segment_count: runs.count,
                                    a: runs.rows.as_ptr().cast(),
                                    a_segment: ROWS,
                                    a_offset: row,
                                    a_step: x_phase.step * o_panel.width,
                                    b: x,
                                    b_width: c_panel.width,
                                    b_step: x_phase.source_step,
                                    c: sums.as_mut_ptr(),
                                    c_rows: c_rows[row..].as_ptr(),
                                    column: 0,
                                    accumulate: first > 0,
                                    bias: std::ptr::null(),
                                    residual: std::ptr::null(),
                                    rows: (o_panel.columns - row).min(ROWS),
                                    columns: c_panel.columns,
                                },
                            );
                        }
                    }
                }
            }
        }
    }

    /// Adds each tap's sums to the kernel entries it stands for and writes (or adds) them to the gradient.
    fn write(&self, sums: &[f32], (o, c): (usize, usize), accumulate: bool, dw: Shared) {
        let g = &self.geometry;
        let o_panel = panel(g.out_channels, o);
        let c_panel = panel(g.in_channels, c);
        let entries = g.kernel[0] * g.kernel[1];
        let mut row = [0.0; MAX_KERNEL * MAX_KERNEL * PANEL];
        for i in 0..o_panel.columns {
            let row = &mut row[..entries * c_panel.columns];
            row.fill(0.0);
            for ((_, _, ty, tx), sums) in self.taps().zip(sums.chunks_exact(PANEL * PANEL)) {
                let sums = &sums[i * PANEL..][..c_panel.columns];
                for ky in ty.kernel_indices() {
                    for kx in tx.kernel_indices() {
                        let entry = ky * g.kernel[1] + kx;
                        for (row, sum) in row[entry..].iter_mut().step_by(entries).zip(sums) {
                            *row += sum;
                        }
                    }
                }
            }
            let start = ((o_panel.first + i) * g.in_channels + c_panel.first) * entries;
            // SAFETY: tasks own disjoint blocks of the filter.
            let to = unsafe { dw.slice_mut(start..start + row.len()) };
            if accumulate {
                to.iter_mut().zip(row).for_each(|(to, row)| *to += *row);
            } else {
                to.copy_from_slice(row);
            }
        }
    }
}

/// Copies the channels of some images into panels: `[panel][pixel][width]`.
fn copy_panels(
    from: &[f32],
    image0: usize,
    images: usize,
    pixels: usize,
    channels: usize,
    to: &mut [f32],
) {
    /// Pixels per task.
    const BAND: usize = 256;
    let from = &from[image0 * pixels * channels..][..images * pixels * channels];
    let count = images * pixels;
    let bands = count.div_ceil(BAND);
    let to = Shared::new(to);
    parallel(
        COPY_WORK * from.len(),
        panel_count(channels) * bands,
        |task| {
            let panel = panel(channels, task / bands);
            let first = task % bands * BAND;
            let rows = (count - first).min(BAND);
            let start = panel.first * count + first * panel.width;
            // SAFETY: tasks write disjoint panels and pixels.
            let to = unsafe { to.slice_mut(start..start + rows * panel.width) };
            pack_panel(panel, rows, &from[first * channels..], channels, 1, 1.0, to);
        },
    );
}
