//! Convolution as an implicit matrix product, for any kernel, stride, padding and nearest-neighbour upsample, and
//! its input gradient.
//!
//! Rows of `A` are the channels of a source pixel read in place, one pointer per row and tap; pixels outside point
//! at a row of zeros. Each phase ([`ConvPhase`]) has a packed filter of its own, summed over the kernel entries that fall
//! on one source pixel.

use super::filter::{COLUMNS, DEPTH, PACK_WORK};
use crate::kernel::cpu::gemm::Isa;
use crate::kernel::cpu::gemm::kernel::{Block, ROWS, Segment, block};
use crate::kernel::cpu::gemm::pack::{Panel, padded, panel, panel_count};
use crate::kernel::cpu::threads::{Shared, parallel, width};
use crate::ops::conv2d::geometry::{ConvGeometry, ConvPhase, ConvPhases, Direction, MAX_KERNEL};

/// Most products, over channels and taps of a pass, between a load and a store of the output tile: a panel of `B` is then
/// 192 KiB and stays in L2 while a task uses it for all of its rows.
const K_BLOCK: usize = 1024;

/// Output pixels per task. At full depth their rows are 256 KiB.
const M_BLOCK: usize = 64;

/// Taps per pass; bounds the table of row pointers on the stack (16 KiB).
const TAP_BLOCK: usize = 32;

/// Tasks per thread that a product is cut into, if it has enough columns: a thread that loses its core for a while then
/// delays the others by an eighth at most.
const TASKS_PER_THREAD: usize = 8;

/// A convolution prepared for this method.
#[derive(Clone, Copy, Debug)]
pub struct Direct {
    geometry: ConvGeometry,
    direction: Direction,
    phases: ConvPhases,
}

impl Direct {
    /// The forward convolution or its input gradient.
    pub fn new(geometry: &ConvGeometry, direction: Direction) -> Direct {
        Direct {
            geometry: *geometry,
            direction,
            phases: geometry.phases(direction),
        }
    }

    /// Products per image and pair of channels.
    pub fn products(&self) -> usize {
        self.phases
            .iter()
            .map(|[y, x]| y.count * x.count * y.taps().len() * x.taps().len())
            .sum()
    }

    fn phase_len(&self, y: &ConvPhase, x: &ConvPhase) -> usize {
        y.taps().len()
            * x.taps().len()
            * self.direction.depth(&self.geometry)
            * padded(self.direction.columns(&self.geometry))
    }

    /// Floats of the packed filter: per phase, panels of `[tap][depth][column]`.
    pub fn packed_len(&self) -> usize {
        self.phases.iter().map(|[y, x]| self.phase_len(y, x)).sum()
    }

    /// Packs the OIHW filter.
    pub fn pack(&self, weight: &[f32], packed: &mut [f32]) {
        let depth = self.direction.depth(&self.geometry);
        let columns = self.direction.columns(&self.geometry);
        let to = Shared::new(&mut packed[..self.packed_len()]);
        // Each task clears 150 KiB of stack, so it gets enough depth to make that cheap.
        let task_depth = 8 * DEPTH;
        let bands = depth.div_ceil(task_depth);
        parallel(
            PACK_WORK * self.packed_len(),
            panel_count(columns) * bands,
            |task| {
                let panel = panel(columns, task / bands);
                let first = task % bands * task_depth;
                let mut entries = [0.0; MAX_KERNEL * MAX_KERNEL * DEPTH * COLUMNS];
                for depth0 in (first..depth.min(first + task_depth)).step_by(DEPTH) {
                    let count = (depth - depth0).min(DEPTH);
                    let block = (panel.first, panel.columns);
                    self.direction.read_block(
                        &self.geometry,
                        weight,
                        (depth0, count),
                        block,
                        &mut entries,
                    );
                    self.pack_block(&entries, panel, depth0, count, to);
                }
            },
        );
    }

    /// Sums the kernel entries of each tap into one panel's rows `depth0 .. depth0 + count`.
    fn pack_block(&self, entries: &[f32], panel: Panel, depth0: usize, count: usize, to: Shared) {
        let depth = self.direction.depth(&self.geometry);
        let mut phase_start = 0;
        for [y, x] in self.phases.iter() {
            let taps = y.taps().len() * x.taps().len();
            let start = phase_start + panel.first * depth * taps;
            phase_start += self.phase_len(y, x);
            let pairs = y
                .taps()
                .iter()
                .flat_map(|ty| x.taps().iter().map(move |tx| (ty, tx)));
            for (index, (ty, tx)) in pairs.enumerate() {
                let first = start + (index * depth + depth0) * panel.width;
                // SAFETY: the tasks of `pack` write disjoint panels and depths.
                let to = unsafe { to.slice_mut(first..first + count * panel.width) };
                for (d, to) in to.chunks_exact_mut(panel.width).enumerate() {
                    to.fill(0.0);
                    for ky in ty.kernel_indices() {
                        for kx in tx.kernel_indices() {
                            let entry = ky * self.geometry.kernel[1] + kx;
                            let from = &entries[(entry * DEPTH + d) * COLUMNS..][..panel.width];
                            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
                        }
                    }
                }
            }
        }
    }

    /// Floats of workspace: a row of zeros.
    pub fn workspace_len(&self) -> usize {
        self.direction.depth(&self.geometry)
    }

    /// `y = conv(x) + bias + residual`.
    #[allow(clippy::too_many_arguments)]
    pub fn run(
        &self,
        isa: Isa,
        packed: &[f32],
        x: &[f32],
        bias: Option<&[f32]>,
        residual: Option<&[f32]>,
        y: &mut [f32],
        workspace: &mut [f32],
    ) {
        let zeros = &mut workspace[..self.workspace_len()];
        zeros.fill(0.0);
        let mut start = 0;
        let out = Shared::new(y);
        for [row_phase, column_phase] in self.phases.iter() {
            let len = self.phase_len(row_phase, column_phase);
            let pass = DirectPass {
                conv: self,
                isa,
                packed: &packed[start..start + len],
                x,
                zeros,
                bias: bias.map_or(std::ptr::null(), <[f32]>::as_ptr),
                residual: residual.map_or(std::ptr::null(), <[f32]>::as_ptr),
                out,
                rows: row_phase,
                columns: column_phase,
            };
            let pixels = self.geometry.batch * row_phase.count * column_phase.count;
            let m_blocks = pixels.div_ceil(M_BLOCK);
            let panels = panel_count(self.direction.columns(&self.geometry));
            let groups = (TASKS_PER_THREAD * width())
                .div_ceil(m_blocks.max(1))
                .min(panels);
            // Tasks that share panels are neighbours: both threads stream the same weights.
            parallel(len * pixels, m_blocks * groups, |task| {
                let group = task / m_blocks;
                let first = task % m_blocks * M_BLOCK;
                let panels = group * panels / groups..(group + 1) * panels / groups;
                pass.run(first..pixels.min(first + M_BLOCK), panels);
            });
            start += len;
        }
    }
}

/// One phase of a running convolution.
struct DirectPass<'a> {
    conv: &'a Direct,
    isa: Isa,
    packed: &'a [f32],
    x: &'a [f32],
    zeros: &'a [f32],
    bias: *const f32,
    residual: *const f32,
    out: Shared,
    rows: &'a ConvPhase,
    columns: &'a ConvPhase,
}

// SAFETY: the raw pointers are only read, and stand for slices that outlive the pass.
unsafe impl Sync for DirectPass<'_> {}

impl DirectPass<'_> {
    /// Computes some pixels of the phase (counted over images, rows, columns) for some panels of channels.
    fn run(&self, pixels: std::ops::Range<usize>, panels: std::ops::Range<usize>) {
        const BLOCKS: usize = M_BLOCK / ROWS;
        let conv = self.conv;
        let depth = conv.direction.depth(&conv.geometry);
        let columns = conv.direction.columns(&conv.geometry);
        let [source_height, source_width, _] = conv.geometry.source_extents(conv.direction);
        let [height, width, _] = conv.geometry.result_extents(conv.direction);
        let mut origins = [(0, 0, 0); M_BLOCK];
        let mut c_rows = [0; M_BLOCK];
        for (i, pixel) in pixels.clone().enumerate() {
            let gx = pixel % self.columns.count;
            let gy = pixel / self.columns.count % self.rows.count;
            let image = pixel / self.columns.count / self.rows.count;
            origins[i] = (
                image * source_height,
                (gy * self.rows.source_step) as isize,
                (gx * self.columns.source_step) as isize,
            );
            let y = self.rows.first + gy * self.rows.step;
            let x = self.columns.first + gx * self.columns.step;
            c_rows[i] = ((image * height + y) * width + x) * columns;
        }
        let taps_x = self.columns.taps();
        let taps = self.rows.taps().len() * taps_x.len();
        let tap_block = (K_BLOCK / depth).clamp(1, TAP_BLOCK);
        let mut table = [std::ptr::null::<f32>(); BLOCKS * TAP_BLOCK * ROWS];
        let mut segments = [Segment { b_row: 0, k: 0 }; BLOCKS * TAP_BLOCK];
        let mut counts = [0; BLOCKS];
        let mut tap0 = 0;
        loop {
            let tap_count = (taps - tap0).min(tap_block);
            let row_blocks = pixels.len().div_ceil(ROWS);
            for (b, count) in counts.iter_mut().enumerate().take(row_blocks) {
                *count = 0;
                for tap in tap0..tap0 + tap_count {
                    let offset_y = self.rows.taps()[tap / taps_x.len()].offset;
                    let offset_x = taps_x[tap % taps_x.len()].offset;
                    let entry = b * TAP_BLOCK + *count;
                    let mut any = false;
                    for i in b * ROWS..pixels.len().min((b + 1) * ROWS) {
                        let (image, y, x) = origins[i];
                        let (y, x) = (y + offset_y, x + offset_x);
                        let inside = (0..source_height as isize).contains(&y)
                            && (0..source_width as isize).contains(&x);
                        any |= inside;
                        table[entry * ROWS + i % ROWS] = if inside {
                            self.x[((image + y as usize) * source_width + x as usize) * depth..]
                                .as_ptr()
                        } else {
                            self.zeros.as_ptr()
                        };
                    }
                    if any {
                        segments[entry] = Segment {
                            b_row: (tap - tap0) * depth,
                            k: depth,
                        };
                        *count += 1;
                    }
                }
            }
            let mut k0 = 0;
            while k0 < depth {
                let k = (depth - k0).min(K_BLOCK);
                if k < depth {
                    // Only passes of a single tap are cut along the depth.
                    for first in segments.iter_mut().step_by(TAP_BLOCK) {
                        first.k = k;
                    }
                }
                let last = tap0 + tap_count == taps && k0 + k == depth;
                for p in panels.clone() {
                    let panel = panel(columns, p);
                    // Wrapping: a phase without taps has no filter, and reads none.
                    let at = (panel.first * taps + tap0 * panel.width) * depth + k0 * panel.width;
                    let b = self.packed.as_ptr().wrapping_add(at);
                    for (rb, &count) in counts.iter().enumerate().take(row_blocks) {
                        let first = rb * ROWS;
                        // SAFETY: row pointers are pixels of `x` or the zeros, `depth` floats each, read from `k0`
                        // on; the panel holds `taps * depth` rows; this task alone writes these pixels and columns.
                        unsafe {
                            block(
                                self.isa,
                                &Block {
                                    segments: segments[rb * TAP_BLOCK..].as_ptr(),
                                    segment_count: count,
                                    a: table[rb * TAP_BLOCK * ROWS..].as_ptr(),
                                    a_segment: ROWS,
                                    a_offset: k0,
                                    a_step: 1,
                                    b,
                                    b_width: panel.width,
                                    b_step: 1,
                                    c: self.out.as_ptr(),
                                    c_rows: c_rows[first..].as_ptr(),
                                    column: panel.first,
                                    accumulate: tap0 > 0 || k0 > 0,
                                    bias: if last { self.bias } else { std::ptr::null() },
                                    residual: if last {
                                        self.residual
                                    } else {
                                        std::ptr::null()
                                    },
                                    rows: (pixels.len() - first).min(ROWS),
                                    columns: panel.columns,
                                },
                            );
                        }
                    }
                }
                k0 += k;
            }
            tap0 += tap_count;
            if tap0 >= taps {
                break;
            }
        }
    }
}
