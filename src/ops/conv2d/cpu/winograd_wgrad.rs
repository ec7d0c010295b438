//! Weight gradient of 3×3 convolutions of stride 1 by Winograd's minimal filtering:
//! `dg = Gᵀ[Σ_tiles (A dy Aᵀ) ⊙ (Bᵀ d B)]G`, the adjoint of the forward transform.
//!
//! A chunk of tiles of `x` and `dy` is transformed to points in panels of 48 channels; then a task owns 96×96 channels
//! (or 48×48 where there are few): its products over the chunk's tiles (36 points: 1.3 MiB, in L2) are transformed to
//! nine kernel entries and added to the OIHW gradient. Tiles are summed in order, in chunks whose size depends on the
//! geometry only.

use super::scheme::{ENTRIES, F2, F4, MAX_POINTS, Scheme};
use super::tiles::{GatherTiles, Gathered, PointLayout, Points, Tiled, WinogradTile};
use crate::kernel::cpu::gemm::Isa;
use crate::kernel::cpu::gemm::kernel::{Block, LANE_MULTIPLE, PANEL, ROWS, Segment, block};
use crate::kernel::cpu::gemm::pack::{Panel, padded, panel, panel_count};
use crate::kernel::cpu::gemm::simd::{Simd, SimdJob};
use crate::kernel::cpu::threads::{Shared, parallel, parallel_slots, width};
use crate::ops::conv2d::geometry::ConvGeometry;

/// Tiles per chunk: a sum long enough that transforming and adding its products costs little, and short enough that a
/// chunk's points stay in the cache. With 512 instead, 64→64 at 256² takes 67 ms instead of 34 and 256→256 at 32² 41 instead of 35 (one
/// thread), and the workspace is 57 MB instead of 14.
const CHUNK_TILES: usize = 64;

/// Panels of either side per task, if that leaves [`TASKS_PER_THREAD`]: points come from L3, each as often as there are
/// tasks on the other side.
const GROUP: usize = 2;

/// Tasks per thread that keep threads from waiting for one another.
const TASKS_PER_THREAD: usize = 4;

/// Floats of one point of a pair of panels: a line more than a power of two times nine.
const PAIR_POINT: usize = PANEL * PANEL + LANE_MULTIPLE;

/// A weight gradient prepared for this method.
#[derive(Clone, Copy, Debug)]
pub struct WinogradWeightGrad {
    tile: WinogradTile,
    x: Tiled,
    dy: Tiled,
    tiles: usize,
}

impl WinogradWeightGrad {
    /// The weight gradient of `geometry`, to which [`super::winograd::Winograd::applies`].
    pub fn new(geometry: &ConvGeometry, tile: WinogradTile) -> WinogradWeightGrad {
        let size = geometry.output();
        let tiles = size.map(|len| len.div_ceil(tile.outputs()));
        let step = tile.outputs();
        WinogradWeightGrad {
            tile,
            x: Tiled {
                size: geometry.input(),
                channels: geometry.in_channels,
                doubled: geometry.upsample,
                origin: -(geometry.padding[0] as isize),
                step,
                tiles,
            },
            dy: Tiled {
                size,
                channels: geometry.out_channels,
                doubled: false,
                origin: 0,
                step,
                tiles,
            },
            tiles: geometry.batch * tiles[0] * tiles[1],
        }
    }

    /// Multiply-adds of the products.
    fn work(&self) -> usize {
        self.tiles * self.tile.points() * self.x.channels * self.dy.channels
    }

    /// Panels of each side per task.
    fn group(&self) -> usize {
        let groups = |tiled: &Tiled| panel_count(tiled.channels).div_ceil(GROUP);
        let tasks = groups(&self.x) * groups(&self.dy);
        if tasks >= TASKS_PER_THREAD * width() {
            GROUP
        } else {
            1
        }
    }

    fn chunk(&self) -> usize {
        self.tiles.min(CHUNK_TILES)
    }

    /// Floats of the zeros, of a chunk's points of `x` and of `dy`, and of one task's products.
    fn lens(&self) -> [usize; 4] {
        let points = self.tile.points();
        let side = |tiled: &Tiled| points * (self.chunk() * padded(tiled.channels) + LANE_MULTIPLE);
        [
            padded(self.x.channels.max(self.dy.channels)),
            side(&self.x),
            side(&self.dy),
            points * PAIR_POINT * self.group() * self.group(),
        ]
    }

    /// Floats of workspace.
    pub fn workspace_len(&self) -> usize {
        let [zeros, x, dy, products] = self.lens();
        zeros + x + dy + products * width()
    }

    /// Overwrites the OIHW gradient `dw`.
    pub fn run(&self, isa: Isa, x: &[f32], dy: &[f32], dw: &mut [f32], workspace: &mut [f32]) {
        let [zeros_len, x_len, dy_len, products_len] = self.lens();
        let (zeros, rest) = workspace.split_at_mut(zeros_len);
        zeros.fill(0.0);
        let zeros = &*zeros;
        let (x_points, rest) = rest.split_at_mut(x_len);
        let (dy_points, products) = rest.split_at_mut(dy_len);
        let slots = products.len() / products_len;
        let (x_points, dy_points) = (Shared::new(x_points), Shared::new(dy_points));
        let (products, dw) = (Shared::new(products), Shared::new(dw));
        let group = self.group();
        let c_panels = panel_count(self.x.channels);
        let o_panels = panel_count(self.dy.channels);
        let c_groups = c_panels.div_ceil(group);
        for first in (0..self.tiles).step_by(self.chunk()) {
            let tiles = (self.tiles - first).min(self.chunk());
            let some = tiles.div_ceil(8 * width());
            let parts = tiles.div_ceil(some);
            parallel(self.work(), 2 * parts, |task| {
                let start = task % parts * some;
                let range = first + start..first + tiles.min(start + some);
                let (what, from, tiled, memory) = if task < parts {
                    (Gathered::Input, x, &self.x, x_points)
                } else {
                    (Gathered::OutputGrad, dy, &self.dy, dy_points)
                };
                let to = self.points(memory, tiled, tiles);
                let gather = GatherTiles {
                    tile: self.tile,
                    what,
                    from,
                    tiled,
                    zeros,
                    to,
                    first: start,
                    tiles: range,
                };
                // SAFETY: tasks write disjoint tiles of buffers that hold the chunk.
                unsafe { gather.run(isa) }
            });
            let tasks = c_groups * o_panels.div_ceil(group);
            let (x, dy) = (
                self.points(x_points, &self.x, tiles),
                self.points(dy_points, &self.dy, tiles),
            );
            let points = Sides { x, dy, tiles };
            parallel_slots(self.work(), slots, tasks, |slot, task| {
                let products = products.as_ptr().wrapping_add(slot * products_len);
                let all = |first: usize, panels: usize| first..panels.min(first + group);
                let o_range = all(task / c_groups * group, o_panels);
                let c_range = all(task % c_groups * group, c_panels);
                let pairs = || {
                    o_range
                        .clone()
                        .flat_map(|o| c_range.clone().map(move |c| (o, c)))
                };
                let pair_len = self.tile.points() * PAIR_POINT;
                // SAFETY: a slot is one thread's; a task owns its channels of the gradient.
                unsafe {
                    for point in 0..self.tile.points() {
                        for (pair, (o, c)) in pairs().enumerate() {
                            let to = products.add(pair * pair_len + point * PAIR_POINT);
                            self.multiply(isa, &points, point, (o, c), to);
                        }
                    }
                    for (pair, (o, c)) in pairs().enumerate() {
                        isa.run(Write {
                            grad: self,
                            products: products.add(pair * pair_len),
                            o: panel(self.dy.channels, o),
                            c: panel(self.x.channels, c),
                            accumulate: first > 0,
                            dw,
                        });
                    }
                }
            });
        }
    }

    fn points(&self, memory: Shared, tiled: &Tiled, tiles: usize) -> Points {
        Points {
            start: memory.as_ptr(),
            point_stride: self.chunk() * padded(tiled.channels) + LANE_MULTIPLE,
            layout: PointLayout::Panels { tiles },
        }
    }

    /// `products[o][c] = Σ_tiles dy · x` at one point, for one panel of each side.
    ///
    /// # Safety
    /// `products` is this thread's.
    unsafe fn multiply(
        &self,
        isa: Isa,
        points: &Sides,
        point: usize,
        (o, c): (usize, usize),
        products: *mut f32,
    ) {
        let (o, c) = (panel(self.dy.channels, o), panel(self.x.channels, c));
        let Sides { x, dy, tiles } = *points;
        let c_rows: [usize; PANEL] = std::array::from_fn(|i| i * PANEL);
        let segment = Segment { b_row: 0, k: tiles };
        let a = dy
            .start
            .wrapping_add(point * dy.point_stride + o.first * tiles);
        let b = x
            .start
            .wrapping_add(point * x.point_stride + c.first * tiles);
        for row in (0..o.columns).step_by(ROWS) {
            let rows: [*const f32; ROWS] = std::array::from_fn(|i| a.wrapping_add(row + i) as _);
            // SAFETY: inside the panels of both sides and this thread's products.
            unsafe {
                block(
                    isa,
                    &Block {
                        segments: &segment,
                        segment_count: 1,
                        a: rows.as_ptr(),
                        a_segment: 0,
                        a_offset: 0,
                        a_step: o.width,
                        b,
                        b_width: c.width,
                        b_step: 1,
                        c: products,
                        c_rows: c_rows[row..].as_ptr(),
                        column: 0,
                        accumulate: false,
                        bias: std::ptr::null(),
                        residual: std::ptr::null(),
                        rows: (o.columns - row).min(ROWS),
                        columns: c.columns,
                    },
                );
            }
        }
    }
}

/// A chunk's points of both sides.
#[derive(Clone, Copy)]
struct Sides {
    x: Points,
    dy: Points,
    tiles: usize,
}

// SAFETY: the points are only read through it.
unsafe impl Sync for Sides {}

/// Transforms a task's products to kernel entries and writes or adds them to the gradient.
struct Write<'a> {
    grad: &'a WinogradWeightGrad,
    products: *const f32,
    o: Panel,
    c: Panel,
    accumulate: bool,
    dw: Shared,
}

impl Write<'_> {
    #[inline(always)]
    unsafe fn each<S: Simd, F: Scheme>(self) {
        let mut entries = [[0.0f32; PANEL]; ENTRIES];
        for o in 0..self.o.columns {
            for c in (0..self.c.columns).step_by(S::LANES) {
                // SAFETY: products are 48 wide, a multiple of every vector.
                unsafe {
                    let mut half = [[S::zero(); MAX_POINTS]; 3];
                    for j in 0..F::POINTS {
                        let mut p = [S::zero(); MAX_POINTS];
                        for (i, p) in p.iter_mut().enumerate().take(F::POINTS) {
                            let point = (i * F::POINTS + j) * PAIR_POINT;
                            *p = S::load(self.products.add(point + o * PANEL + c));
                        }
                        let g = F::filter_grad::<S>(&p);
                        for (half, g) in half.iter_mut().zip(g) {
                            half[j] = g;
                        }
                    }
                    for (ky, half) in half.iter().enumerate() {
                        for (kx, &g) in F::filter_grad::<S>(half).iter().enumerate() {
                            S::store(entries[3 * ky + kx].as_mut_ptr().add(c), g);
                        }
                    }
                }
            }
            let start = ((self.o.first + o) * self.grad.x.channels + self.c.first) * ENTRIES;
            // SAFETY: tasks own disjoint blocks of the gradient.
            let to = unsafe { self.dw.slice_mut(start..start + self.c.columns * ENTRIES) };
            for (c, to) in to.chunks_exact_mut(ENTRIES).enumerate() {
                for (entry, to) in entries.iter().zip(to) {
                    *to = if self.accumulate {
                        *to + entry[c]
                    } else {
                        entry[c]
                    };
                }
            }
        }
    }
}

impl SimdJob for Write<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: passed on.
        unsafe {
            match self.grad.tile {
                WinogradTile::Two => self.each::<S, F2>(),
                WinogradTile::Four => self.each::<S, F4>(),
            }
        }
    }
}
