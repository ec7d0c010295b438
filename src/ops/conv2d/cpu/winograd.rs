//! 3×3 convolutions of stride 1 by Winograd's minimal filtering, and their input gradients.
//!
//! Three passes over a block of tiles: inputs to points, per point a product `[tiles × depth]·[depth × columns]`, points
//! to outputs. The buffers of a block are kept small enough for the caches; where there are many blocks each thread
//! takes whole ones, so that what it transforms it also multiplies, otherwise all threads share each pass.
//!
//! Through a nearest-neighbour upsample the input pass reads the enlarged map without making it, and the input gradient's
//! output pass sums 2×2 pixels.

use super::filter::{COLUMNS, DEPTH, Side};
use super::geometry::ConvGeometry;
use super::scheme::{F2, F4, MAX_POINTS, Scheme};
use super::tiles::{Gather, Gathered, Layout, Points, Scatter, Tile, Tiled};
use crate::device::cpu::gemm::Isa;
use crate::device::cpu::gemm::kernel::{Block, LANE_MULTIPLE, ROWS, Segment, block};
use crate::device::cpu::gemm::pack::{Panel, padded, panel, panel_count};
use crate::device::cpu::gemm::simd::{Job, Simd};
use crate::device::cpu::threads::{Shared, parallel, parallel_slots, width};

/// Depth between a load and a store of a product's tile, as in the direct convolution.
const K_BLOCK: usize = 1024;

/// A convolution prepared for this method.
#[derive(Clone, Copy, Debug)]
pub struct Winograd {
    geometry: ConvGeometry,
    side: Side,
    tile: Tile,
    source: Tiled,
    output: Tiled,
    tiles: usize,
}

/// One block's two buffers.
#[derive(Clone, Copy)]
struct Buffers {
    inputs: Points,
    products: Points,
}

// SAFETY: the pointers are used by tasks on disjoint parts.
unsafe impl Sync for Buffers {}

impl Winograd {
    /// Whether the method applies: 3×3, stride 1, and a padding that leaves the input gradient's at least zero.
    pub fn applies(geometry: &ConvGeometry) -> bool {
        geometry.kernel == [3, 3] && geometry.stride == 1 && geometry.padding <= 2
    }

    /// The forward convolution or its input gradient.
    pub fn new(geometry: &ConvGeometry, side: Side, tile: Tile) -> Winograd {
        debug_assert!(Winograd::applies(geometry));
        let input = [geometry.height, geometry.width];
        let output = [geometry.output_height(), geometry.output_width()];
        let (source, target, padding) = match side {
            Side::Forward => (input, output, geometry.padding),
            Side::InputGrad => (output, input, 2 - geometry.padding),
        };
        let doubled = |is_input: bool| geometry.upsample && is_input;
        let enlarge = if doubled(side == Side::InputGrad) { 2 } else { 1 };
        let tiles = target.map(|len| (len * enlarge).div_ceil(tile.outputs()));
        let source = Tiled {
            size: source,
            channels: side.depth(geometry),
            doubled: doubled(side == Side::Forward),
            origin: -(padding as isize),
            step: tile.outputs(),
            tiles,
        };
        let output = Tiled {
            size: target,
            channels: side.columns(geometry),
            doubled: doubled(side == Side::InputGrad),
            origin: 0,
            step: tile.outputs(),
            tiles,
        };
        Winograd { geometry: *geometry, side, tile, source, output, tiles: geometry.batch * tiles[0] * tiles[1] }
    }

    /// Floats of the packed filter: per point, panels of `[depth][column]`.
    pub fn packed_len(&self) -> usize {
        self.tile.points() * self.source.channels * padded(self.output.channels)
    }

    /// Packs the OIHW filter: `G g Gᵀ` of every pair of channels.
    pub fn pack(&self, isa: Isa, weight: &[f32], packed: &mut [f32]) {
        let to = Shared::new(&mut packed[..self.packed_len()]);
        let (depth, columns) = (self.source.channels, self.output.channels);
        let bands = depth.div_ceil(DEPTH);
        parallel(panel_count(columns) * bands, |task| {
            let panel = panel(columns, task / bands);
            let depth0 = task % bands * DEPTH;
            let count = (depth - depth0).min(DEPTH);
            let mut entries = [0.0; 9 * DEPTH * COLUMNS];
            let block = (panel.first, panel.columns);
            self.side.read_block(&self.geometry, weight, (depth0, count), block, &mut entries);
            let job = PackFilter { conv: self, entries: &entries, panel, depth0, count, to };
            // SAFETY: `isa` is available; tasks write disjoint panels and depths.
            unsafe { isa.run(job) }
        });
    }

    fn input_stride(&self) -> usize {
        // One line more than the channels, which are often a power of two.
        padded(self.source.channels) + LANE_MULTIPLE
    }

    fn product_stride(&self) -> usize {
        padded(self.output.channels)
    }

    /// Tiles per block, and whether each thread takes whole blocks.
    fn blocks(&self) -> (usize, bool) {
        let per_tile = 4 * self.tile.points() * (self.input_stride() + self.product_stride());
        let env = |name: &str, default: usize| std::env::var(name).ok().map_or(default, |v| v.parse().unwrap());
        let floor = env("WB_FLOOR", 48);
        let budget = env("WB_KB", 1024) << 10;
        let own = (budget / per_tile).clamp(floor, 256).next_multiple_of(ROWS);
        if self.tiles >= own * env("WB_OWN", 4) * width() {
            (own, true)
        } else {
            let shared = (env("WB_SHARED_KB", 16384) / (per_tile >> 10).max(1)).clamp(64, 512).next_multiple_of(ROWS);
            (shared.min(self.tiles), false)
        }
    }

    /// Floats of the two buffers of a block of `tiles`.
    fn buffer_lens(&self, tiles: usize) -> [usize; 2] {
        [self.input_stride(), self.product_stride()]
            .map(|stride| self.tile.points() * (tiles * stride + LANE_MULTIPLE))
    }

    /// Floats of workspace: a row of zeros and the buffers.
    pub fn workspace_len(&self) -> usize {
        let (tiles, own) = self.blocks();
        let buffers: usize = self.buffer_lens(tiles).iter().sum();
        padded(self.source.channels) + buffers * if own { width() } else { 1 }
    }

    fn buffers(&self, tiles: usize, start: *mut f32) -> Buffers {
        let [inputs, _] = self.buffer_lens(tiles);
        let (input_stride, product_stride) = (self.input_stride(), self.product_stride());
        Buffers {
            // One line more per point: the output pass reads all points of a tile at once.
            inputs: Points {
                start,
                point_stride: tiles * input_stride + LANE_MULTIPLE,
                layout: Layout::Rows { tile_stride: input_stride },
            },
            products: Points {
                start: start.wrapping_add(inputs),
                point_stride: tiles * product_stride + LANE_MULTIPLE,
                layout: Layout::Rows { tile_stride: product_stride },
            },
        }
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
        let (zeros, buffers) = workspace.split_at_mut(padded(self.source.channels));
        zeros.fill(0.0);
        let pass = Pass { conv: self, isa, packed, x, zeros, bias, residual, y: Shared::new(y) };
        let (block, own) = self.blocks();
        let slot_len: usize = self.buffer_lens(block).iter().sum();
        let slots = buffers.len() / slot_len;
        let memory = Shared::new(buffers);
        let range = |index: usize| index * block..self.tiles.min((index + 1) * block);
        let panels = panel_count(self.output.channels);
        if own {
            parallel_slots(slots, self.tiles.div_ceil(block), |slot, index| {
                let buffers = self.buffers(block, memory.as_ptr().wrapping_add(slot * slot_len));
                let tiles = range(index);
                // SAFETY: the slot's buffers are this thread's; tiles are this task's.
                unsafe {
                    pass.gather(&buffers, 0, tiles.clone());
                    for point in 0..self.tile.points() {
                        pass.multiply(&buffers, tiles.len(), point, 0..panels);
                    }
                    pass.scatter(&buffers, 0, tiles);
                }
            });
            return;
        }
        let buffers = self.buffers(block, memory.as_ptr());
        for index in 0..self.tiles.div_ceil(block) {
            let tiles = range(index);
            let count = tiles.len();
            // A few tiles per task: enough tasks to share out, long enough to be worth handing out.
            let some = count.div_ceil(8 * width());
            let part = |task: usize| tiles.start + task * some..tiles.end.min(tiles.start + (task + 1) * some);
            // SAFETY (all three): tasks take disjoint tiles, or disjoint points and panels of the buffers, and each
            // pass ends before the next begins.
            parallel(count.div_ceil(some), |task| unsafe { pass.gather(&buffers, task * some, part(task)) });
            let groups = 64usize.div_ceil(self.tile.points()).min(panels);
            parallel(self.tile.points() * groups, |task| {
                let (point, group) = (task / groups, task % groups);
                let panels = group * panels / groups..(group + 1) * panels / groups;
                unsafe { pass.multiply(&buffers, count, point, panels) }
            });
            parallel(count.div_ceil(some), |task| unsafe { pass.scatter(&buffers, task * some, part(task)) });
        }
    }
}

/// A running convolution.
struct Pass<'a> {
    conv: &'a Winograd,
    isa: Isa,
    packed: &'a [f32],
    x: &'a [f32],
    zeros: &'a [f32],
    bias: Option<&'a [f32]>,
    residual: Option<&'a [f32]>,
    y: Shared,
}

impl Pass<'_> {
    /// Transforms input tiles to the buffer's tiles from `first` on.
    ///
    /// # Safety
    /// Nothing else uses these tiles of the buffer.
    unsafe fn gather(&self, buffers: &Buffers, first: usize, tiles: std::ops::Range<usize>) {
        let gather = Gather {
            tile: self.conv.tile,
            what: Gathered::Input,
            from: self.x,
            tiled: &self.conv.source,
            zeros: self.zeros,
            to: buffers.inputs,
            first,
            tiles,
        };
        // SAFETY: `x` and the buffers fit the geometry.
        unsafe { gather.run(self.isa) }
    }

    /// Multiplies `tiles` tiles of one point with some panels of the filter.
    ///
    /// # Safety
    /// Nothing else uses these panels of this point's products.
    unsafe fn multiply(&self, buffers: &Buffers, tiles: usize, point: usize, panels: std::ops::Range<usize>) {
        let (depth, columns) = (self.conv.source.channels, self.conv.output.channels);
        let filter = &self.packed[point * depth * padded(columns)..];
        let inputs = buffers.inputs.start.wrapping_add(point * buffers.inputs.point_stride);
        let products = buffers.products.start.wrapping_add(point * buffers.products.point_stride);
        for p in panels {
            let panel = panel(columns, p);
            for k0 in (0..depth).step_by(K_BLOCK) {
                let segment = Segment { b_row: k0, k: (depth - k0).min(K_BLOCK) };
                for tile in (0..tiles).step_by(ROWS) {
                    let rows: [*const f32; ROWS] =
                        std::array::from_fn(|i| inputs.wrapping_add((tile + i) * self.conv.input_stride() + k0) as _);
                    let c_rows: [usize; ROWS] = std::array::from_fn(|i| (tile + i) * self.conv.product_stride());
                    // SAFETY: the rows and columns lie in the block's buffers and the packed filter.
                    unsafe {
                        block(
                            self.isa,
                            &Block {
                                segments: &segment,
                                segment_count: 1,
                                a: rows.as_ptr(),
                                a_segment: 0,
                                a_offset: 0,
                                a_step: 1,
                                b: filter[panel.first * depth..].as_ptr(),
                                b_width: panel.width,
                                b_step: 1,
                                c: products,
                                c_rows: c_rows.as_ptr(),
                                column: panel.first,
                                accumulate: k0 > 0,
                                bias: std::ptr::null(),
                                residual: std::ptr::null(),
                                rows: (tiles - tile).min(ROWS),
                                columns: panel.columns,
                            },
                        );
                    }
                }
            }
        }
    }

    /// Transforms the buffer's tiles from `first` on to outputs.
    ///
    /// # Safety
    /// Nothing else writes these tiles of the output.
    unsafe fn scatter(&self, buffers: &Buffers, first: usize, tiles: std::ops::Range<usize>) {
        let scatter = Scatter {
            tile: self.conv.tile,
            from: buffers.products,
            first,
            tiles,
            tiled: &self.conv.output,
            to: self.y.as_ptr(),
            bias: self.bias,
            residual: self.residual,
        };
        // SAFETY: `y` and the buffers fit the geometry.
        unsafe { scatter.run(self.isa) }
    }
}

/// Transforms one block of the filter.
struct PackFilter<'a> {
    conv: &'a Winograd,
    entries: &'a [f32],
    panel: Panel,
    depth0: usize,
    count: usize,
    to: Shared,
}

impl PackFilter<'_> {
    #[inline(always)]
    unsafe fn each<S: Simd, F: Scheme>(self) {
        let (depth, columns) = (self.conv.source.channels, self.conv.output.channels);
        let point_stride = depth * padded(columns);
        // The input gradient convolves with the filter turned by half a turn.
        let entry = |ky: usize, kx: usize| match self.conv.side {
            Side::Forward => 3 * ky + kx,
            Side::InputGrad => 8 - (3 * ky + kx),
        };
        for d in 0..self.count {
            for j in (0..self.panel.width).step_by(S::LANES) {
                // SAFETY: the block's entries are 48 wide; the panel is a multiple of every vector.
                unsafe {
                    let mut half = [[S::zero(); 3]; MAX_POINTS];
                    for kx in 0..3 {
                        let mut g = [S::zero(); 3];
                        for (ky, g) in g.iter_mut().enumerate() {
                            *g = S::load(self.entries.as_ptr().add((entry(ky, kx) * DEPTH + d) * COLUMNS + j));
                        }
                        let points = F::filter::<S>(&g);
                        for i in 0..F::POINTS {
                            half[i][kx] = points[i];
                        }
                    }
                    let at = self.panel.first * depth + (self.depth0 + d) * self.panel.width + j;
                    for (i, half) in half.iter().enumerate().take(F::POINTS) {
                        let points = F::filter::<S>(half);
                        for (k, &point) in points.iter().enumerate().take(F::POINTS) {
                            S::store(self.to.as_ptr().add((i * F::POINTS + k) * point_stride + at), point);
                        }
                    }
                }
            }
        }
    }
}

impl Job for PackFilter<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: passed on.
        unsafe {
            match self.conv.tile {
                Tile::Two => self.each::<S, F2>(),
                Tile::Four => self.each::<S, F4>(),
            }
        }
    }
}
