//! 3×3 convolutions of stride 1 by Winograd's minimal filtering, and their input gradients.
//!
//! Three passes over a block of tiles: inputs to points, per point a product `[tiles × depth]·[depth × columns]`, points
//! to outputs. There are two forms:
//!
//! - *Few tiles* (a latent's 4 to 64 per image) have large filters, and streaming those from memory is the limit: a
//!   1024×1024 filter is 38 MB, its 36 points 151 MB, the memory gives 12 GB/s. So the filter is kept as nine entries per
//!   pair of channels and transformed where it is used: a task takes a panel of columns, a run of depth and half of the
//!   points, transforms that part into its scratch in L2, and multiplies all tiles with it. Very few tiles need no scratch
//!   ([`few_tiles`]). Threads share each pass.
//! - *Many tiles* (hundreds per image) have small filters that are used often, and so are transformed once when packed. Each
//!   thread takes whole blocks of tiles, so that it multiplies what it transformed.
//!
//! Both add up the depth in the same runs, so that they agree to the last bit.
//!
//! Through a nearest-neighbour upsample the input pass reads the enlarged map without making it, and the input gradient's
//! output pass sums 2×2 pixels.

use super::few_tiles::{self, FewTiles};
use super::filter::{COLUMNS, DEPTH, PACK_WORK};
use super::filter_points::TransformFilter;
use super::scheme::ENTRIES;
use super::tiles::{GatherTiles, Gathered, PointLayout, Points, ScatterTiles, Tiled, WinogradTile};
use crate::kernel::cpu::gemm::Isa;
use crate::kernel::cpu::gemm::kernel::{Block, LANE_MULTIPLE, PANEL, ROWS, Segment, block};
use crate::kernel::cpu::gemm::pack::{Panel, padded, panel, panel_count};
use crate::kernel::cpu::gemm::simd::prefetch;
use crate::kernel::cpu::threads::{Shared, parallel, parallel_slots, width};
use crate::ops::conv2d::geometry::{ConvGeometry, Direction};

/// Run of depth between a load and a store of a product's tile.
const K_BLOCK: usize = 64;

/// Most tiles of an image that count as few.
const FEW_TILES: usize = 64;

/// Tiles per block where they are few: their points of 512 channels are 5 MB.
const FEW_BLOCK: usize = 64;

/// Bytes of a block's two buffers where tiles are many: half of L2. Between 0.5 and 2 MiB the time hardly changes
/// (VAE decoder: 5 %).
const MANY_BLOCK_BYTES: usize = 1 << 20;

/// Fewest tiles of such a block, so that streaming the filter from L3 is spread over enough of them: blocks of 16 cost 15 %
/// more with 256 channels.
const MANY_BLOCK_LEAST: usize = 48;

/// Most tiles of such a block: with few channels, longer blocks would be too few for the threads.
const MANY_BLOCK_MOST: usize = 256;

/// A convolution prepared for this method.
#[derive(Clone, Copy, Debug)]
pub struct Winograd {
    geometry: ConvGeometry,
    direction: Direction,
    tile: WinogradTile,
    source: Tiled,
    output: Tiled,
    tiles: usize,
    few: bool,
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
    /// Whether the method applies: 3×3, stride 1, and one padding that leaves the input gradient's at least zero.
    pub fn applies(geometry: &ConvGeometry) -> bool {
        let [rows, columns] = geometry.padding;
        geometry.kernel == [3, 3] && geometry.stride == 1 && rows == columns && rows <= 2
    }

    /// The forward convolution or its input gradient.
    pub fn new(geometry: &ConvGeometry, direction: Direction, tile: WinogradTile) -> Winograd {
        debug_assert!(Winograd::applies(geometry));
        let (input, output) = (geometry.input(), geometry.output());
        let (source, target, padding) = match direction {
            Direction::Forward => (input, output, geometry.padding[0]),
            Direction::InputGrad => (output, input, 2 - geometry.padding[0]),
        };
        let reads_doubled = geometry.upsample && direction == Direction::Forward;
        let writes_doubled = geometry.upsample && direction == Direction::InputGrad;
        let enlarge = if writes_doubled { 2 } else { 1 };
        let tiles = target.map(|len| (len * enlarge).div_ceil(tile.outputs()));
        let source = Tiled {
            size: source,
            channels: direction.depth(geometry),
            doubled: reads_doubled,
            origin: -(padding as isize),
            step: tile.outputs(),
            tiles,
        };
        let output = Tiled {
            size: target,
            channels: direction.columns(geometry),
            doubled: writes_doubled,
            origin: 0,
            step: tile.outputs(),
            tiles,
        };
        let per_image = tiles[0] * tiles[1];
        Winograd {
            geometry: *geometry,
            direction,
            tile,
            source,
            output,
            tiles: geometry.batch * per_image,
            few: per_image <= FEW_TILES,
        }
    }

    /// Multiply-adds of the products.
    fn work(&self) -> usize {
        self.tiles * self.tile.points() * self.source.channels * self.output.channels
    }

    /// Floats of the packed filter: panels of `[depth][entry][column]` where tiles are few, else per point panels of
    /// `[depth][column]`.
    pub fn packed_len(&self) -> usize {
        let kept = if self.few {
            ENTRIES
        } else {
            self.tile.points()
        };
        kept * self.source.channels * padded(self.output.channels)
    }

    /// Packs the OIHW filter.
    pub fn pack(&self, isa: Isa, weight: &[f32], packed: &mut [f32]) {
        let to = Shared::new(&mut packed[..self.packed_len()]);
        let (depth, columns) = (self.source.channels, self.output.channels);
        let bands = depth.div_ceil(DEPTH);
        parallel(
            PACK_WORK * self.packed_len(),
            panel_count(columns) * bands,
            |task| {
                let panel = panel(columns, task / bands);
                let depth0 = task % bands * DEPTH;
                let count = (depth - depth0).min(DEPTH);
                let mut entries = [0.0; ENTRIES * DEPTH * COLUMNS];
                let block = (panel.first, panel.columns);
                self.direction.read_block(
                    &self.geometry,
                    weight,
                    (depth0, count),
                    block,
                    &mut entries,
                );
                if self.direction == Direction::InputGrad {
                    // The input gradient convolves with the filter turned by half a turn.
                    for entry in 0..ENTRIES / 2 {
                        let (low, high) =
                            entries.split_at_mut((ENTRIES - 1 - entry) * DEPTH * COLUMNS);
                        low[entry * DEPTH * COLUMNS..][..DEPTH * COLUMNS]
                            .swap_with_slice(&mut high[..DEPTH * COLUMNS]);
                    }
                }
                if self.few {
                    let start = (panel.first * depth + depth0 * panel.width) * ENTRIES;
                    // SAFETY: tasks write disjoint panels and depths.
                    let to = unsafe { to.slice_mut(start..start + count * ENTRIES * panel.width) };
                    for (index, to) in to.chunks_exact_mut(panel.width).enumerate() {
                        let from = (index % ENTRIES * DEPTH + index / ENTRIES) * COLUMNS;
                        to.copy_from_slice(&entries[from..from + panel.width]);
                    }
                } else {
                    let at = panel.first * depth + depth0 * panel.width;
                    let job = TransformFilter {
                        tile: self.tile,
                        from: entries.as_ptr(),
                        entry_stride: DEPTH * COLUMNS,
                        depth_stride: COLUMNS,
                        depth: count,
                        width: panel.width,
                        half: None,
                        to: to.as_ptr().wrapping_add(at),
                        point_stride: depth * padded(columns),
                        to_stride: panel.width,
                    };
                    // SAFETY: `isa` is available; tasks write disjoint panels and depths.
                    unsafe { isa.run(job) }
                }
            },
        );
    }

    fn input_stride(&self) -> usize {
        // One line more than the channels, which are often a power of two.
        padded(self.source.channels) + LANE_MULTIPLE
    }

    fn product_stride(&self) -> usize {
        padded(self.output.channels)
    }

    /// Tiles per block.
    fn block(&self) -> usize {
        if self.few {
            return self.tiles.min(FEW_BLOCK);
        }
        let per_tile = 4 * self.tile.points() * (self.input_stride() + self.product_stride());
        (MANY_BLOCK_BYTES / per_tile)
            .clamp(MANY_BLOCK_LEAST, MANY_BLOCK_MOST)
            .next_multiple_of(ROWS)
    }

    /// Floats of the scratch in which a thread transforms a piece of the filter.
    fn scratch_len(&self) -> usize {
        if self.few {
            self.tile.points() / HALVES * K_BLOCK * PANEL
        } else {
            0
        }
    }

    /// Floats of the two buffers of a block of `tiles`.
    fn buffer_lens(&self, tiles: usize) -> [usize; 2] {
        [self.input_stride(), self.product_stride()]
            .map(|stride| self.tile.points() * (tiles * stride + LANE_MULTIPLE))
    }

    /// Floats of workspace: a row of zeros, then the buffers and scratch of the threads.
    pub fn workspace_len(&self) -> usize {
        let buffers: usize = self.buffer_lens(self.block()).iter().sum();
        let rest = if self.few {
            buffers + width() * self.scratch_len()
        } else {
            width() * buffers
        };
        padded(self.source.channels) + rest
    }

    fn buffers(&self, tiles: usize, start: *mut f32) -> Buffers {
        let [inputs, _] = self.buffer_lens(tiles);
        let (input_stride, product_stride) = (self.input_stride(), self.product_stride());
        Buffers {
            // One line more per point: the output pass reads all points of a tile at once.
            inputs: Points {
                start,
                point_stride: tiles * input_stride + LANE_MULTIPLE,
                layout: PointLayout::Rows {
                    tile_stride: input_stride,
                },
            },
            products: Points {
                start: start.wrapping_add(inputs),
                point_stride: tiles * product_stride + LANE_MULTIPLE,
                layout: PointLayout::Rows {
                    tile_stride: product_stride,
                },
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
        let pass = WinogradPass {
            conv: self,
            isa,
            packed,
            x,
            zeros,
            bias,
            residual,
            y: Shared::new(y),
        };
        let block = self.block();
        let slot_len: usize = self.buffer_lens(block).iter().sum();
        let panels = panel_count(self.output.channels);
        let range = |index: usize| index * block..self.tiles.min((index + 1) * block);
        if !self.few {
            let slots = buffers.len() / slot_len;
            let memory = Shared::new(buffers);
            parallel_slots(
                self.work(),
                slots,
                self.tiles.div_ceil(block),
                |slot, index| {
                    let buffers =
                        self.buffers(block, memory.as_ptr().wrapping_add(slot * slot_len));
                    let tiles = range(index);
                    // SAFETY: the slot's buffers are this thread's; tiles are this task's.
                    unsafe {
                        pass.gather(&buffers, 0, tiles.clone());
                        for point in 0..self.tile.points() {
                            for p in 0..panels {
                                pass.multiply_packed(&buffers, tiles.len(), point, p);
                            }
                        }
                        pass.scatter(&buffers, 0, tiles);
                    }
                },
            );
            return;
        }
        let (buffers, scratch) = buffers.split_at_mut(slot_len);
        let buffers = self.buffers(block, buffers.as_mut_ptr());
        let slots = scratch.len() / self.scratch_len();
        let scratch = Shared::new(scratch);
        for index in 0..self.tiles.div_ceil(block) {
            let tiles = range(index);
            let count = tiles.len();
            // A few tiles per task: enough tasks to share out, long enough to be worth handing out.
            let some = count.div_ceil(8 * width());
            let part = |task: usize| {
                tiles.start + task * some..tiles.end.min(tiles.start + (task + 1) * some)
            };
            // Tasks take disjoint tiles, or disjoint points and panels of the buffers, and each
            // pass ends before the next begins.
            parallel(self.work(), count.div_ceil(some), |task| {
                // SAFETY: tiles of this task alone.
                unsafe { pass.gather(&buffers, task * some, part(task)) }
            });
            // Whole panels, so that each is read from memory once; the last ones in halves, to finish together.
            let whole = panels.saturating_sub(width());
            parallel_slots(
                self.work(),
                slots,
                whole + HALVES * (panels - whole),
                |slot, task| {
                    let scratch = scratch.as_ptr().wrapping_add(slot * self.scratch_len());
                    let (p, halves) = match task.checked_sub(whole) {
                        None => (task, 0..HALVES),
                        Some(rest) => (whole + rest / HALVES, rest % HALVES..rest % HALVES + 1),
                    };
                    // SAFETY: points and panels of this task alone.
                    unsafe { pass.multiply_plain(&buffers, count, halves, p, scratch) }
                },
            );
            parallel(self.work(), count.div_ceil(some), |task| {
                // SAFETY: tiles of this task alone, behind all products.
                unsafe { pass.scatter(&buffers, task * some, part(task)) }
            });
        }
    }
}

/// Parts that a panel's points are split into, so that two threads can share out any number of panels.
const HALVES: usize = 2;

/// A running convolution.
struct WinogradPass<'a> {
    conv: &'a Winograd,
    isa: Isa,
    packed: &'a [f32],
    x: &'a [f32],
    zeros: &'a [f32],
    bias: Option<&'a [f32]>,
    residual: Option<&'a [f32]>,
    y: Shared,
}

impl WinogradPass<'_> {
    /// Transforms input tiles to the buffer's tiles from `first` on.
    ///
    /// # Safety
    /// Nothing else uses these tiles of the buffer.
    unsafe fn gather(&self, buffers: &Buffers, first: usize, tiles: std::ops::Range<usize>) {
        let gather = GatherTiles {
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

    /// Multiplies `tiles` tiles of one point with a panel of the transformed filter.
    ///
    /// # Safety
    /// Nothing else uses this panel of this point's products.
    unsafe fn multiply_packed(&self, buffers: &Buffers, tiles: usize, point: usize, p: usize) {
        let (depth, columns) = (self.conv.source.channels, self.conv.output.channels);
        let panel = panel(columns, p);
        let filter = &self.packed[(point * padded(columns) + panel.first) * depth..];
        for k0 in (0..depth).step_by(K_BLOCK) {
            let k = (depth - k0).min(K_BLOCK);
            // SAFETY: the caller's promise; the panel holds `depth` rows.
            unsafe {
                self.product(
                    buffers,
                    tiles,
                    point,
                    panel,
                    k0,
                    k,
                    filter[k0 * panel.width..].as_ptr(),
                    1,
                )
            }
        }
    }

    /// Multiplies `tiles` tiles of some halves of the points with a panel of the filter, transforming it on the way.
    ///
    /// # Safety
    /// Nothing else uses this panel of these points' products, nor the scratch.
    unsafe fn multiply_plain(
        &self,
        buffers: &Buffers,
        tiles: usize,
        halves: std::ops::Range<usize>,
        p: usize,
        scratch: *mut f32,
    ) {
        let (depth, columns) = (self.conv.source.channels, self.conv.output.channels);
        let panel = panel(columns, p);
        let side = self.conv.tile.side();
        let filter = &self.packed[panel.first * depth * ENTRIES..];
        for k0 in (0..depth).step_by(K_BLOCK) {
            let k = (depth - k0).min(K_BLOCK);
            let next = filter
                .as_ptr()
                .wrapping_add((k0 + k) * ENTRIES * panel.width);
            if tiles <= few_tiles::TILES {
                let job = FewTiles {
                    tile: self.conv.tile,
                    filter: filter[k0 * ENTRIES * panel.width..].as_ptr(),
                    next,
                    depth: k,
                    width: panel.width,
                    lines: halves.start * side / HALVES..halves.end * side / HALVES,
                    tiles,
                    inputs: buffers.inputs.start.wrapping_add(k0),
                    input_strides: [buffers.inputs.point_stride, self.conv.input_stride()],
                    products: buffers.products.start.wrapping_add(panel.first),
                    product_strides: [buffers.products.point_stride, self.conv.product_stride()],
                    accumulate: k0 > 0,
                };
                // SAFETY: the packed filter holds `k` depths from `k0`, the buffers the block's tiles.
                unsafe { self.isa.run(job) };
                continue;
            }
            for half in halves.clone() {
                let points = side * side / HALVES;
                let transform = TransformFilter {
                    tile: self.conv.tile,
                    from: filter[k0 * ENTRIES * panel.width..].as_ptr(),
                    entry_stride: panel.width,
                    depth_stride: ENTRIES * panel.width,
                    depth: k,
                    width: panel.width,
                    half: Some(half),
                    to: scratch,
                    point_stride: panel.width,
                    to_stride: points * panel.width,
                };
                // SAFETY: the packed filter holds `k` depths from `k0`; the scratch half of the points.
                unsafe {
                    self.isa.run(transform);
                    let share = (K_BLOCK * ENTRIES * panel.width).div_ceil(halves.len() * points);
                    for index in 0..points {
                        // The next run of the filter comes from memory while this one is multiplied.
                        prefetch(
                            next.wrapping_add(((half - halves.start) * points + index) * share),
                            share,
                        );
                        let filter = scratch.add(index * panel.width);
                        self.product(
                            buffers,
                            tiles,
                            half * points + index,
                            panel,
                            k0,
                            k,
                            filter,
                            points,
                        );
                    }
                }
            }
        }
    }

    /// Adds the products of `k` depths from `k0` on: `filter` is the panel's `[k][width]` at that point, its rows
    /// `b_step` widths apart.
    ///
    /// # Safety
    /// Nothing else uses this panel of this point's products.
    #[allow(clippy::too_many_arguments)]
    unsafe fn product(
        &self,
        buffers: &Buffers,
        tiles: usize,
        point: usize,
        panel: Panel,
        k0: usize,
        k: usize,
        filter: *const f32,
        b_step: usize,
    ) {
        let inputs = buffers
            .inputs
            .start
            .wrapping_add(point * buffers.inputs.point_stride);
        let products = buffers
            .products
            .start
            .wrapping_add(point * buffers.products.point_stride);
        let segment = Segment { b_row: 0, k };
        let input_stride = self.conv.input_stride();
        let c_rows: [usize; ROWS] = std::array::from_fn(|i| i * self.conv.product_stride());
        for tile in (0..tiles).step_by(ROWS) {
            let rows: [*const f32; ROWS] =
                std::array::from_fn(|i| inputs.wrapping_add((tile + i) * input_stride + k0) as _);
            // SAFETY: the rows and columns lie in the block's buffers and the panel.
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
                        b: filter,
                        b_width: panel.width,
                        b_step,
                        c: products.add(tile * self.conv.product_stride()),
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

    /// Transforms the buffer's tiles from `first` on to outputs.
    ///
    /// # Safety
    /// Nothing else writes these tiles of the output.
    unsafe fn scatter(&self, buffers: &Buffers, first: usize, tiles: std::ops::Range<usize>) {
        let scatter = ScatterTiles {
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
