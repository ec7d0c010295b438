//! Convolutions on tensor cores: which tile and how many splits, and the launches of `kernels/conv2d_tensor*.cu`.
//!
//! f16 and bf16 whose summed channels are a multiple of 8 (16-byte copies); other counts, such as the 3 of an image, are
//! left to the plain kernels, as are windows of more than 32 taps and gradients of strides beyond 2. Statistics of groups
//! of the result's channels are left behind where a block sees one sample and whole groups, or a part of one. Channels of
//! two arrays are read where they are if both counts are multiples of 8, for windows of at most 16 taps.

use super::{Algorithm, Problem};
use crate::graph::TensorType;
use crate::kernel::cuda::params::{
    Conv2dTensorPackParams, Conv2dTensorParams, Conv2dTensorWgradParams,
};
use crate::kernel::cuda::{CudaCall, DevicePtr, Kernel, Target, element};
use crate::ops::GroupNormStats;
use crate::ops::conv2d::cpu::ConvGeometry;
use crate::tensor::DType;

/// The algorithm for the convolution itself, where tensor cores take it.
pub(super) fn forward(problem: &Problem) -> Option<Box<dyn Algorithm>> {
    Some(Box::new(Gemm::forward(problem)?))
}

/// The algorithm for the gradient of the input, where tensor cores take it.
pub(super) fn input_grad(problem: &Problem) -> Option<Box<dyn Algorithm>> {
    Some(Box::new(Gemm::input_grad(problem)?))
}

/// The algorithm for the gradient of the filter, where tensor cores take it.
pub(super) fn weight_grad(problem: &Problem) -> Option<Box<dyn Algorithm>> {
    Some(Box::new(WeightGrad::new(problem)?))
}

/// Bytes of a line of the L2 cache.
const LINE_BYTES: usize = 128;

/// What one block computes at a time, and with how many warps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    m: usize,
    n: usize,
    k: usize,
    warps: [usize; 2],
    stages: usize,
    /// Blocks that share a multiprocessor; what `__launch_bounds__` holds registers to.
    resident: usize,
}

/// 16 instructions of 32 clocks per warp and 16 of k against 6 `ldmatrix`; 48 KiB of stages and 128 registers let two
/// blocks share a multiprocessor, so that one's barriers and prologue hide behind the other's products.
const LARGE: Tile = Tile {
    m: 128,
    n: 128,
    k: 32,
    warps: [2, 4],
    stages: 3,
    resident: 2,
};
/// 140 registers. For filters of 64 outputs, and where `LARGE` leaves the last round of blocks half empty.
const TALL: Tile = Tile {
    m: 128,
    n: 64,
    k: 32,
    warps: [2, 2],
    stages: 4,
    resident: 2,
};
/// 95 registers. For maps of 8² at batch 1, which have 64 pixels. 64 of k per barrier, because four warps hide little else.
const SMALL: Tile = Tile {
    m: 64,
    n: 64,
    k: 64,
    warps: [2, 2],
    stages: 3,
    resident: 2,
};
/// 54 registers. For the layers back to 3 or 8 channels.
const NARROW: Tile = Tile {
    m: 64,
    n: 16,
    k: 64,
    warps: [4, 1],
    stages: 4,
    resident: 2,
};
pub(super) const TILES: [Tile; 4] = [LARGE, TALL, SMALL, NARROW];
/// The filter's gradient, for one tap per channel: rows of channels that `ldmatrix` transposes.
const GRADIENT_TILES: [Tile; 2] = [LARGE, SMALL];
/// The filter's gradient for 3x3 windows: a tile's columns are all taps of 16 channels, which lie together in the result.
/// Eight warps side by side read a filter's row each and all windows: 10 `ldmatrix` for 18 products keep shared memory
/// busy for a third of the products' time, and 72 sums in 126 registers leave room for a second block.
const GRADIENT_TILES_3X3: [Tile; 2] = [
    Tile {
        m: 128,
        n: 144,
        k: 16,
        warps: [8, 1],
        stages: 5,
        resident: 2,
    },
    Tile {
        m: 64,
        n: 144,
        k: 32,
        warps: [4, 1],
        stages: 3,
        resident: 2,
    },
];

/// Ranges of k that splits are made of: the widest tile's step, so that no tile moves a boundary.
const SPLIT_UNIT: usize = 64;
const MAX_TAPS: usize = 32;
/// Of windows over two arrays, whose taps count twice.
const MAX_JOINED_TAPS: usize = MAX_TAPS / 2;
/// What a block of the packing kernel has shared memory for.
const MAX_KERNEL_TAPS: usize = 25;
/// Bytes per clock that a multiprocessor gets from L2 while all ask for some: about 2.5 TB/s in all.
const L2_BYTES_PER_CLOCK: usize = 18;
/// Bytes per clock that one gets alone, as the last block of a split tile does.
const LONE_BYTES_PER_CLOCK: usize = 64;
/// Bytes per clock of DRAM, 936 GB/s. Partial sums are charged at it, though they are discarded before they get there: they
/// displace what others have in L2.
const DRAM_BYTES_PER_CLOCK: usize = 552;
/// Clocks before a block's first product and after its last one, about: two latencies of DRAM and its results' way out.
const BLOCK_CLOCKS: usize = 2500;
/// Of a sum over splits, beside its bytes: a way to L2 and back for the counter and for the first of them.
const SPLIT_CLOCKS: usize = 1500;
const MAX_SPLITS: usize = 32;

impl Tile {
    fn threads(&self) -> usize {
        32 * self.warps[0] * self.warps[1]
    }

    fn shared_bytes(&self) -> usize {
        self.stages * (self.m + self.n) * self.k * 2
    }

    fn kernel(&self, file: &'static str, entry: &'static str, dtype: DType) -> Kernel {
        Kernel::new(file, entry)
            .with("T", element(dtype))
            .with("TILE_M", self.m)
            .with("TILE_N", self.n)
            .with("TILE_K", self.k)
            .with("WARPS_M", self.warps[0])
            .with("WARPS_N", self.warps[1])
            .with("STAGES", self.stages)
            .with("MIN_BLOCKS", self.resident)
    }

    /// Clocks of one step over k: of the tensor cores, or of L2 where that is slower, and an eighth of L2's that the
    /// products don't hide.
    fn step_clocks(&self, target: &Target) -> usize {
        let products_per_clock = if target.fast_accumulate { 512 } else { 256 };
        let products = self.m * self.n * self.k / products_per_clock;
        let copies = (self.m + self.n) * self.k * 2 / L2_BYTES_PER_CLOCK;
        products.max(copies) + copies / 8
    }
}

/// Rows and columns of a product, and the length of its sum.
#[derive(Clone, Copy, Debug)]
struct Extents {
    m: usize,
    n: usize,
    k: usize,
}

/// Clocks of a grid of products: as many rounds of blocks as the fullest multiprocessor has, and the sum over splits.
fn clocks(tile: &Tile, splits: usize, products: &[Extents], target: &Target) -> usize {
    let blocks: usize = products
        .iter()
        .map(|e| e.m.div_ceil(tile.m) * e.n.div_ceil(tile.n) * splits)
        .sum();
    let longest = products.iter().map(|e| e.k).max().unwrap_or(0);
    let steps = longest.div_ceil(SPLIT_UNIT).div_ceil(splits) * SPLIT_UNIT / tile.k;
    let rounds = blocks.div_ceil(target.multiprocessors as usize);
    let block = steps * tile.step_clocks(target) + BLOCK_CLOCKS;
    let sums = match splits {
        1 => 0,
        _ => {
            let tile_bytes = tile.m * tile.n * 4;
            SPLIT_CLOCKS
                + (splits + 1) * tile_bytes / LONE_BYTES_PER_CLOCK
                + 2 * blocks * tile_bytes / DRAM_BYTES_PER_CLOCK
        }
    };
    rounds * block + sums
}

/// The tile and number of splits that take the fewest clocks. `alone` are the products of a batch of one, which decide
/// on the splits where a sample's bits may not depend on the batch.
fn choose(
    tiles: &[Tile],
    products: &[Extents],
    alone: &[Extents],
    target: &Target,
) -> (Tile, usize) {
    #[cfg(test)]
    if let Some((tile, splits)) = tests::FORCED.get() {
        return (
            *tiles.iter().find(|t| **t == tile).unwrap_or(&tiles[0]),
            splits,
        );
    }
    let longest = products.iter().map(|e| e.k).max().unwrap_or(0);
    let most = longest.div_ceil(SPLIT_UNIT).clamp(1, MAX_SPLITS);
    let best = |splits: std::ops::RangeInclusive<usize>, products: &[Extents]| {
        let all = tiles
            .iter()
            .flat_map(|&tile| splits.clone().map(move |splits| (tile, splits)));
        all.min_by_key(|(tile, splits)| clocks(tile, *splits, products, target))
            .expect("there are tiles")
    };
    if target.deterministic {
        let (_, splits) = best(1..=most, alone);
        best(splits..=splits, products)
    } else {
        best(1..=most, products)
    }
}

fn takes(problem: &Problem) -> bool {
    let g = &problem.geometry;
    let taps = g.kernel[0] * g.kernel[1];
    let fold = if g.upsample { 2 } else { 1 };
    let pixels =
        g.batch * (fold * g.height + 2 * g.padding[0]) * (fold * g.width + 2 * g.padding[1]);
    let elements = (pixels * g.in_channels.max(g.out_channels))
        .max(4 * MAX_TAPS * g.in_channels * g.out_channels);
    matches!(problem.dtype, DType::F16 | DType::BF16)
        && problem.target.capability >= (8, 0)
        && taps <= MAX_KERNEL_TAPS
        && elements < 1 << 31
}

/// The taps of one direction for the result's pixels of one parity. Tap `t` of the window at pixel `r` lies at
/// `stride r + t - pad` and stands for the filter's taps `taps[t].0` to `taps[t].1`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Axis {
    pixels: usize,
    pad: isize,
    taps: Vec<[usize; 2]>,
}

/// A direction of the whole convolution: one axis, or one for each parity.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Direction {
    stride: usize,
    parities: Vec<Axis>,
}

impl Axis {
    /// From the place of each of the filter's taps relative to the window's pixel; equal places are one tap.
    fn new(pixels: usize, places: impl Iterator<Item = (isize, usize)>) -> Self {
        let mut places: Vec<(isize, usize)> = places.collect();
        places.sort_unstable();
        let first = places.first().map_or(0, |&(place, _)| place);
        let mut taps: Vec<[usize; 2]> = Vec::new();
        for (place, tap) in places {
            match taps.get_mut((place - first) as usize) {
                Some(range) => range[1] = tap,
                None => taps.push([tap, tap]),
            }
        }
        Self {
            pixels,
            pad: -first,
            taps,
        }
    }
}

impl Direction {
    /// Of the convolution with a filter of `kernel` taps, `pixels` of its result.
    fn forward(g: &ConvGeometry, axis: usize, pixels: usize) -> Self {
        let (kernel, stride, pad) = (g.kernel[axis], g.stride, g.padding[axis] as isize);
        if !g.upsample {
            let axis = Axis::new(pixels, (0..kernel).map(|k| (k as isize - pad, k)));
            return Self {
                stride,
                parities: vec![axis],
            };
        }
        // Pixel j of the enlarged input is pixel j / 2 of x.
        let parity = |first: usize, pixels: usize| {
            let place = move |k: usize| ((first * stride + k) as isize - pad).div_euclid(2);
            Axis::new(pixels, (0..kernel).map(|k| (place(k), k)))
        };
        if stride.is_multiple_of(2) {
            Self {
                stride: stride / 2,
                parities: vec![parity(0, pixels)],
            }
        } else {
            Self {
                stride,
                parities: vec![parity(0, pixels.div_ceil(2)), parity(1, pixels / 2)],
            }
        }
    }

    /// Of the input's gradient as a convolution of dy, where few parities do.
    fn input_grad(g: &ConvGeometry, axis: usize, pixels: usize) -> Option<Self> {
        let (kernel, stride, pad) = (g.kernel[axis], g.stride, g.padding[axis]);
        match (g.upsample, stride) {
            (false, 1 | 2) => {
                let parity = |first: usize| {
                    let taps = (0..kernel).filter(|k| (first + pad + k).is_multiple_of(stride));
                    let place = |k: usize| (first + pad) as isize - k as isize;
                    let places = taps.map(|k| (place(k) / stride as isize, k));
                    Axis::new((pixels + stride - 1 - first) / stride, places)
                };
                Some(Self {
                    stride: 1,
                    parities: (0..stride).map(parity).collect(),
                })
            }
            // A pixel's gradient is that of the two it became: a stride of 2 over dy.
            (true, 1) => {
                let place = |first: usize, k: usize| (first + pad) as isize - k as isize;
                let both = (0..2).flat_map(|first| (0..kernel).map(move |k| (place(first, k), k)));
                Some(Self {
                    stride: 2,
                    parities: vec![Axis::new(pixels, both)],
                })
            }
            _ => None,
        }
    }
}

/// A convolution, or the gradient of its input, as one grid of products.
#[derive(Clone, Debug)]
struct Gemm {
    problem: Problem,
    /// Extents of what is read and of the result: rows, columns, channels.
    source: [usize; 3],
    result: [usize; 3],
    directions: [Direction; 2],
    /// The filter is read with inputs and outputs exchanged.
    transposed: bool,
    tile: Tile,
    splits: usize,
    /// The problem's statistics, if the blocks leave their moments behind.
    stats: Option<GroupNormStats>,
}

impl Gemm {
    fn forward(problem: &Problem) -> Option<Self> {
        let g = &problem.geometry;
        let [height, width] = [g.output_height(), g.output_width()];
        let directions = [
            Direction::forward(g, 0, height),
            Direction::forward(g, 1, width),
        ];
        Self::new(
            problem,
            [g.height, g.width, g.in_channels],
            [height, width, g.out_channels],
            directions,
            false,
        )
    }

    fn input_grad(problem: &Problem) -> Option<Self> {
        let g = &problem.geometry;
        let directions = [
            Direction::input_grad(g, 0, g.height)?,
            Direction::input_grad(g, 1, g.width)?,
        ];
        Self::new(
            problem,
            [g.output_height(), g.output_width(), g.out_channels],
            [g.height, g.width, g.in_channels],
            directions,
            true,
        )
    }

    fn new(
        problem: &Problem,
        source: [usize; 3],
        result: [usize; 3],
        directions: [Direction; 2],
        transposed: bool,
    ) -> Option<Self> {
        let mut gemm = Self {
            problem: *problem,
            source,
            result,
            directions,
            transposed,
            tile: LARGE,
            splits: 1,
            stats: None,
        };
        let windows_fit = gemm
            .phases()
            .all(|[y, x]| y.taps.len() * x.taps.len() <= MAX_TAPS);
        if !takes(problem) || !source[2].is_multiple_of(8) || !windows_fit {
            return None;
        }
        if problem.joined > 0 && !gemm.reads_joined() {
            return None;
        }
        let products = |batch: usize| -> Vec<Extents> {
            let product = |[y, x]: [&Axis; 2]| Extents {
                m: batch * y.pixels * x.pixels,
                n: result[2],
                k: gemm.sum_length([y, x]),
            };
            gemm.phases().map(product).collect()
        };
        let alone = products(1);
        // Moments are merged tile by tile: where the bits of statistics may not depend on the batch, the tile may not.
        let all = match problem.target.deterministic && problem.stats.is_some() {
            true => alone.clone(),
            false => products(problem.geometry.batch),
        };
        (gemm.tile, gemm.splits) = choose(&TILES, &all, &alone, &problem.target);
        gemm.stats = problem.stats.filter(|stats| gemm.sees_groups(stats.groups));
        // f16 sums beside the f32 ones take the registers of the second block.
        if problem.target.fast_accumulate && gemm.tile == LARGE {
            gemm.tile.resident = 1;
        }
        Some(gemm)
    }

    /// The axes of each phase.
    fn phases(&self) -> impl Iterator<Item = [&Axis; 2]> {
        let [rows, columns] = &self.directions;
        rows.parities
            .iter()
            .flat_map(|y| columns.parities.iter().map(move |x| [y, x]))
    }

    fn sum_length(&self, [y, x]: [&Axis; 2]) -> usize {
        y.taps.len() * x.taps.len() * self.source[2]
    }

    /// Whether the windows can be those of two arrays, one after the other.
    fn reads_joined(&self) -> bool {
        let taps = self.phases().map(|[y, x]| y.taps.len() * x.taps.len());
        self.problem.joined.is_multiple_of(8)
            && self.phases().count() == 1
            && taps.max() <= Some(MAX_JOINED_TAPS)
    }

    /// Whether a tile is of one sample, and of whole groups of channels or a part of one.
    fn sees_groups(&self, groups: usize) -> bool {
        let [height, width, channels] = self.result;
        let (group, tile) = (channels / groups, &self.tile);
        self.splits == 1
            && self.phases().count() == 1
            && (height * width).is_multiple_of(tile.m)
            && group.is_multiple_of(8)
            && (tile.n.is_multiple_of(group) || group.is_multiple_of(tile.n))
    }

    /// Moments of each group of a sample.
    fn moments(&self, stats: &GroupNormStats) -> usize {
        let [height, width, channels] = self.result;
        height * width / self.tile.m * (channels / stats.groups).div_ceil(self.tile.n)
    }

    /// The result's type.
    fn y(&self) -> TensorType {
        let [height, width, channels] = self.result;
        let batch = self.problem.geometry.batch;
        TensorType::new([batch, height, width, channels], self.problem.dtype)
    }

    /// Elements of each phase's packed filter.
    fn filter_lengths(&self) -> Vec<usize> {
        self.phases()
            .map(|axes| self.result[2] * self.sum_length(axes).next_multiple_of(SPLIT_UNIT))
            .collect()
    }

    /// Where each phase's filter starts.
    fn filters_at(&self) -> [i32; 4] {
        let mut starts = [0; 4];
        let mut at = 0;
        for (start, length) in starts.iter_mut().zip(self.filter_lengths()) {
            *start = at as i32;
            at += length;
        }
        starts
    }

    fn filter_bytes(&self) -> usize {
        2 * self.filter_lengths().iter().sum::<usize>()
    }

    /// Tiles of the largest phase.
    fn tiles(&self) -> usize {
        let pixels = self
            .phases()
            .map(|[y, x]| y.pixels * x.pixels)
            .max()
            .unwrap_or(0);
        (self.problem.geometry.batch * pixels).div_ceil(self.tile.m)
            * self.result[2].div_ceil(self.tile.n)
    }

    /// Tiles of all phases, if they are split: each has a counter and its partial sums.
    fn split_tiles(&self) -> usize {
        match self.splits {
            1 => 0,
            _ => self.phases().count() * self.tiles(),
        }
    }

    fn of_phases(&self, value: impl Fn([&Axis; 2]) -> usize) -> [i32; 4] {
        let mut values = [0; 4];
        for (to, axes) in values.iter_mut().zip(self.phases()) {
            *to = value(axes) as i32;
        }
        values
    }
}

impl Algorithm for Gemm {
    fn workspace_bytes(&self) -> usize {
        let moments = |stats: &GroupNormStats| stats.moments_bytes(&self.y(), self.moments(stats));
        // Never both: moments are of tiles that are not split.
        let sums = self.split_tiles() * self.splits * self.tile.m * self.tile.n * 4;
        // Room to start on a line of the cache.
        let sums = if sums > 0 { sums + LINE_BYTES } else { 0 };
        sums + self.stats.as_ref().map_or(0, moments)
    }

    fn leaves_statistics(&self) -> bool {
        self.stats.is_some()
    }

    /// The filter, and behind it the counters, which hold zeros between launches.
    fn packed_bytes(&self) -> usize {
        self.filter_bytes() + 4 * self.split_tiles()
    }

    fn pack(&self, call: &mut CudaCall<'_>) {
        let g = &self.problem.geometry;
        let sources = |direction: &Direction| {
            let mut sources = [0; 16];
            for (parity, axis) in direction.parities.iter().enumerate() {
                for (t, [first, last]) in axis.taps.iter().enumerate() {
                    sources[8 * parity + t] = (first + 16 * last) as i32;
                }
            }
            sources
        };
        let (rows, columns) = (self.result[2], self.source[2]);
        let taps = g.kernel[0] * g.kernel[1];
        let params = Conv2dTensorPackParams {
            w: call.input(1),
            packed: call.packed(),
            counters: call.packed().add(self.filter_bytes()),
            counter_count: self.split_tiles() as i32,
            rows: rows as i32,
            columns: columns as i32,
            first_columns: (columns - self.problem.joined) as i32,
            kernel_taps: taps as i32,
            kernel_width: g.kernel[1] as i32,
            transposed: i32::from(self.transposed),
            phases: self.phases().count() as i32,
            heights: self.of_phases(|[y, _]| y.taps.len()),
            widths: self.of_phases(|[_, x]| x.taps.len()),
            filter_at: self.filters_at(),
            source_rows: sources(&self.directions[0]),
            source_columns: sources(&self.directions[1]),
        };
        let kernel = Kernel::new("conv2d_tensor_pack.cu", "conv2d_tensor_pack")
            .with("T", element(self.problem.dtype));
        let blocks = columns.div_ceil(32) * rows.div_ceil(8);
        let floats = (8 * (32 * taps + 1)).max(32 * (8 * taps + 1));
        call.job(kernel, blocks, 256, 4 * floats, &params);
    }

    fn launch(&self, call: &mut CudaCall<'_>) {
        let problem = &self.problem;
        let operand = |present: bool, index: usize, call: &CudaCall<'_>| match present {
            true => call.input(index),
            false => DevicePtr::NULL,
        };
        let joined = problem.joined > 0;
        let of_axis = |pad: isize| pad as i32;
        let mut pads = [[0; 4]; 2];
        for (phase, [y, x]) in self.phases().enumerate() {
            (pads[0][phase], pads[1][phase]) = (of_axis(y.pad), of_axis(x.pad));
        }
        let params = Conv2dTensorParams {
            x: call.input(0),
            w: call.packed(),
            bias: operand(problem.bias, 2, call),
            residual: operand(problem.residual, 2 + usize::from(problem.bias), call),
            y: call.output(0),
            partial: call.workspace().aligned(LINE_BYTES),
            arrived: call.packed().add(self.filter_bytes()),
            moments: call.workspace(),
            rest: operand(joined, call.input_count() - 1, call),
            rest_channels: problem.joined as i32,
            group_channels: match self.stats {
                Some(stats) => (self.result[2] / stats.groups) as i32,
                None => 0,
            },
            batch: problem.geometry.batch as i32,
            height: self.source[0] as i32,
            width: self.source[1] as i32,
            channels: self.source[2] as i32,
            out_height: self.result[0] as i32,
            out_width: self.result[1] as i32,
            out_channels: self.result[2] as i32,
            stride: self.directions[0].stride as i32,
            scatter: self.directions[0].parities.len() as i32,
            rows: self.of_phases(|[y, _]| y.pixels),
            columns: self.of_phases(|[_, x]| x.pixels),
            kernel_height: self.of_phases(|[y, _]| y.taps.len()),
            kernel_width: self.of_phases(|[_, x]| x.taps.len()),
            pad_top: pads[0],
            pad_left: pads[1],
            filter_at: self.filters_at(),
        };
        let kernel = self
            .tile
            .kernel("conv2d_tensor.cu", "conv2d_tensor", problem.dtype)
            .with("FAST", u8::from(problem.target.fast_accumulate))
            .with("MOMENTS", u8::from(self.stats.is_some()))
            .with("JOINED", u8::from(joined));
        let grid = [self.tiles(), self.splits, self.phases().count()];
        let block = [self.tile.threads(), 1, 1];
        call.launch(kernel, grid, block, self.tile.shared_bytes(), &params);
        if let Some(stats) = &self.stats {
            let (moments, result) = (call.workspace(), call.output(1));
            stats.merge(call, &self.y(), moments, self.moments(stats), result);
        }
    }
}

/// The gradient of the filter.
#[derive(Clone, Debug)]
struct WeightGrad {
    problem: Problem,
    tile: Tile,
    splits: usize,
}

impl WeightGrad {
    fn new(problem: &Problem) -> Option<Self> {
        let g = &problem.geometry;
        if !takes(problem) || !g.in_channels.is_multiple_of(8) || !g.out_channels.is_multiple_of(8)
        {
            return None;
        }
        let taps = g.kernel[0] * g.kernel[1];
        let product = Extents {
            m: g.out_channels,
            n: taps * g.in_channels.next_multiple_of(16),
            k: g.batch * g.output_height() * g.output_width(),
        };
        let tiles = match taps {
            9 => &GRADIENT_TILES_3X3,
            _ => &GRADIENT_TILES,
        };
        // f16 sums would lose what a whole batch's pixels add up to.
        let target = Target {
            fast_accumulate: false,
            deterministic: false,
            ..problem.target
        };
        let (tile, splits) = choose(tiles, &[product], &[], &target);
        Some(Self {
            problem: *problem,
            tile,
            splits,
        })
    }

    fn tiles(&self) -> usize {
        let g = &self.problem.geometry;
        let columns = g.kernel[0] * g.kernel[1] * g.in_channels.next_multiple_of(16);
        g.out_channels.div_ceil(self.tile.m) * columns.div_ceil(self.tile.n)
    }
}

impl Algorithm for WeightGrad {
    fn workspace_bytes(&self) -> usize {
        match self.splits {
            1 => 0,
            splits => self.tiles() * splits * self.tile.m * self.tile.n * 4 + LINE_BYTES,
        }
    }

    fn packed_bytes(&self) -> usize {
        0
    }

    fn pack(&self, _: &mut CudaCall<'_>) {
        unreachable!("the gradient reads no filter")
    }

    fn launch(&self, call: &mut CudaCall<'_>) {
        let g = &self.problem.geometry;
        let taps = g.kernel[0] * g.kernel[1];
        let tiles = self.tiles();
        let (partial, arrived) = match self.splits {
            1 => (DevicePtr::NULL, DevicePtr::NULL),
            _ => (call.workspace().aligned(LINE_BYTES), call.counters(tiles)),
        };
        let params = Conv2dTensorWgradParams {
            x: call.input(0),
            dy: call.input(1),
            dw: call.output(0),
            partial,
            arrived,
            batch: g.batch as i32,
            height: g.height as i32,
            width: g.width as i32,
            channels: g.in_channels as i32,
            out_height: g.output_height() as i32,
            out_width: g.output_width() as i32,
            out_channels: g.out_channels as i32,
            kernel_width: g.kernel[1] as i32,
            stride: g.stride as i32,
            pad_top: g.padding[0] as i32,
            pad_left: g.padding[1] as i32,
            upsample: i32::from(g.upsample),
        };
        let kernel = self
            .tile
            .kernel(
                "conv2d_tensor_wgrad.cu",
                "conv2d_tensor_wgrad",
                self.problem.dtype,
            )
            .with("TAPS", taps);
        let block = [self.tile.threads(), 1, 1];
        call.launch(
            kernel,
            [tiles, self.splits, 1],
            block,
            self.tile.shared_bytes(),
            &params,
        );
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;
    use std::collections::HashMap;

    use super::*;
    use crate::compile::PlanOptions;
    use crate::compile::Precision;
    use crate::device::Executable;
    use crate::device::cuda::CudaOptions;
    use crate::device::reference::{Array, Evaluation};
    use crate::graph::Graph;
    use crate::ops::cast::rounded as round;
    use crate::ops::conv2d::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad};
    use crate::ops::testing::{emulated_gpu, hashed, relative_error};
    use crate::tensor::{Tensor, TensorMap};

    thread_local! {
        /// Replaces the choice of tile and splits.
        pub(in crate::ops::conv2d::cuda) static FORCED: Cell<Option<(Tile, usize)>> = const { Cell::new(None) };
    }

    #[derive(Clone, Copy, Debug)]
    struct Case {
        x: [usize; 4],
        outputs: usize,
        kernel: [usize; 2],
        stride: usize,
        padding: [usize; 2],
        upsample: bool,
    }

    const fn case(
        x: [usize; 4],
        outputs: usize,
        kernel: [usize; 2],
        stride: usize,
        padding: [usize; 2],
    ) -> Case {
        Case {
            x,
            outputs,
            kernel,
            stride,
            padding,
            upsample: false,
        }
    }

    fn target(deterministic: bool) -> Target {
        Target {
            multiprocessors: 82,
            capability: (8, 6),
            shared_bytes_per_block: 99 << 10,
            fast_accumulate: false,
            deterministic,
        }
    }

    fn layer(batch: usize, side: usize, channels: [usize; 2], deterministic: bool) -> Gemm {
        let geometry = ConvGeometry {
            batch,
            height: side,
            width: side,
            in_channels: channels[0],
            out_channels: channels[1],
            kernel: [3, 3],
            stride: 1,
            padding: [1, 1],
            upsample: false,
        };
        let problem = Problem {
            geometry,
            dtype: DType::F16,
            bias: true,
            residual: false,
            joined: 0,
            stats: None,
            target: target(deterministic),
        };
        Gemm::forward(&problem).unwrap()
    }

    const PAPER_LAYERS: [(usize, [usize; 2]); 7] = [
        (32, [256, 256]),
        (32, [512, 256]),
        (16, [512, 512]),
        (16, [1024, 512]),
        (8, [512, 1024]),
        (8, [1024, 1024]),
        (8, [2048, 1024]),
    ];

    #[test]
    fn splits_do_not_depend_on_the_batch_if_bits_may_not() {
        for (side, channels) in PAPER_LAYERS {
            let splits = |batch| layer(batch, side, channels, true).splits;
            assert_eq!(splits(1), splits(3), "{side} {channels:?}");
            assert_eq!(splits(1), splits(8), "{side} {channels:?}");
        }
    }

    #[test]
    fn moments_do_not_depend_on_the_batch_if_bits_may_not() {
        for (side, channels, groups) in [(64, 256, 8), (128, 128, 8), (256, 64, 8), (32, 512, 32)] {
            let tile = |batch| {
                let alone = layer(batch, side, [channels, channels], true);
                let stats = GroupNormStats { groups, eps: 1e-5 };
                let gemm = Gemm::forward(&Problem {
                    stats: Some(stats),
                    ..alone.problem
                })
                .unwrap();
                (gemm.tile, gemm.splits, gemm.stats.is_some())
            };
            assert_eq!(tile(1), tile(3), "{side} {channels}");
            assert_eq!(tile(1), tile(8), "{side} {channels}");
        }
    }

    /// The products of the paper's layers alone take at least half the clocks that a choice is expected to take.
    #[test]
    fn the_papers_layers_fill_the_gpu() {
        let target = target(false);
        for (side, channels) in PAPER_LAYERS {
            for (batch, least) in [(1, 0.5), (8, 0.7)] {
                let gemm = layer(batch, side, channels, false);
                let product = Extents {
                    m: batch * side * side,
                    n: channels[1],
                    k: 9 * channels[0],
                };
                let products = product.m * product.n * product.k;
                let least_clocks = products / 256 / target.multiprocessors as usize;
                let share = least_clocks as f64
                    / clocks(&gemm.tile, gemm.splits, &[product], &target) as f64;
                assert!(
                    share >= least,
                    "batch {batch}, {side}x{side}, {channels:?}: {share:.2} by {:?} and {} splits",
                    gemm.tile,
                    gemm.splits
                );
            }
        }
    }

    /// Runs the convolution and both gradients, in memory of their own, and compares them with the `f64` oracle: within
    /// twice what the oracle loses by rounding activations and filter, and for sums in f16 two of the roundings to 2^-11
    /// that each of a chunk's four products may add.
    fn check(case: &Case, precision: Precision) {
        let Some(gpu) = emulated_gpu() else { return };
        let device = gpu.with(CudaOptions {
            precision,
            capture: false,
            isolate: true,
            ..CudaOptions::default()
        });
        let Case {
            x,
            outputs,
            kernel,
            stride,
            padding,
            upsample,
        } = *case;
        let mut graph = Graph::new();
        let op = Conv2d {
            stride,
            padding,
            upsample,
            bias: true,
            residual: true,
            joined: false,
            stats: None,
        };
        let y = op.windows().output([x[1], x[2]], kernel).unwrap();
        let y = [x[0], y[0], y[1], outputs];
        let w_shape = [outputs, x[3], kernel[0], kernel[1]];
        let leaf = |graph: &mut Graph, name: &str, shape: &[usize]| {
            graph.parameter(name, shape.to_vec()).unwrap()
        };
        let input = leaf(&mut graph, "x", &x);
        let w = leaf(&mut graph, "w", &w_shape);
        let bias = leaf(&mut graph, "bias", &[outputs]);
        let dy = leaf(&mut graph, "dy", &y);
        let result = graph.apply(op, &[input, w, bias, dy]).unwrap();
        graph.output("y", result);
        let input_grad = Conv2dInputGrad {
            stride,
            padding,
            upsample,
            height: x[1],
            width: x[2],
            residual: true,
        };
        let dx = graph.apply(input_grad, &[dy, w, input]).unwrap();
        graph.output("dx", dx);
        let weight_grad = Conv2dWeightGrad {
            stride,
            padding,
            upsample,
            kernel,
        };
        let dw = graph.apply(weight_grad, &[input, dy]).unwrap();
        graph.output("dw", dw);

        let mut arrays = HashMap::new();
        let mut tensors = TensorMap::new();
        for (name, value) in graph.parameters() {
            let (shape, values) = (
                graph.shape(value).to_vec(),
                hashed(name, graph.ty(value).len()),
            );
            let narrow: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            tensors.insert(name.to_owned(), Tensor::from_f32(shape.clone(), &narrow));
            arrays.insert(name.to_owned(), Array::new(shape, values));
        }
        let oracle = Evaluation::run(&graph, &arrays);
        let lowered = device.lower(&graph);
        let mut packed = arrays.clone();
        let filter = packed.get_mut("w").expect("the filter");
        for value in &mut filter.data {
            *value = round(*value, precision.storage());
        }
        let rounded = Evaluation::run(&lowered, &packed);
        let plan = device.plan(
            &lowered,
            PlanOptions {
                reuse: false,
                in_place: false,
            },
        );
        let mut executable = device.load(plan, &tensors).unwrap();
        // Twice, because counters of splits have to be ready again.
        for _ in 0..2 {
            executable
                .run()
                .unwrap_or_else(|error| panic!("{case:?} {precision}: {error}"));
            for ((name, value), (_, lowered)) in graph.outputs().iter().zip(lowered.outputs()) {
                let got = executable.output(name).unwrap();
                let got: Vec<f64> = got.iter().map(|&v| f64::from(v)).collect();
                let want = &oracle.get(*value).data;
                let error = relative_error(&got, want);
                let fast = match precision {
                    Precision::F16Fast => 2.0 * 2f64.powi(-11),
                    _ => 0.0,
                };
                let bound = 1e-5 + fast + 2.0 * relative_error(&rounded.get(*lowered).data, want);
                assert!(
                    error <= bound,
                    "{name} of {case:?} in {precision} by {:?} differs from f64 by {error:e}, allowed {bound:e}",
                    FORCED.get()
                );
            }
            executable.poison().unwrap();
        }
    }

    fn check_all(cases: &[Case], precisions: &[Precision], forced: Option<(Tile, usize)>) {
        FORCED.set(forced);
        for case in cases {
            for &precision in precisions {
                check(case, precision);
            }
        }
        FORCED.set(None);
    }

    #[test]
    fn awkward_shapes() {
        let up = |case: Case| Case {
            upsample: true,
            ..case
        };
        let cases = [
            case([1, 1, 1, 8], 8, [1, 1], 1, [0, 0]),
            case([1, 1, 1, 8], 16, [3, 3], 1, [1, 1]),
            case([3, 5, 7, 16], 24, [3, 3], 1, [1, 1]),
            case([1, 5, 6, 72], 40, [3, 3], 1, [1, 1]),
            case([2, 4, 5, 40], 8, [1, 1], 1, [0, 0]),
            case([2, 7, 6, 16], 8, [3, 3], 2, [1, 1]),
            case([1, 8, 9, 8], 16, [3, 3], 2, [0, 0]),
            case([1, 6, 5, 8], 8, [1, 1], 2, [0, 0]),
            case([1, 8, 6, 8], 8, [4, 4], 2, [1, 1]),
            case([1, 6, 9, 8], 16, [1, 7], 1, [0, 3]),
            case([1, 9, 5, 16], 8, [7, 1], 1, [3, 0]),
            case([1, 5, 5, 8], 8, [5, 5], 1, [2, 2]),
            up(case([2, 3, 4, 16], 24, [3, 3], 1, [1, 1])),
            up(case([1, 1, 1, 8], 8, [3, 3], 1, [1, 1])),
        ];
        check_all(
            &cases,
            &[Precision::F16, Precision::BF16, Precision::F16Fast],
            None,
        );
    }

    #[test]
    fn every_tile_with_and_without_splits() {
        let cases = [
            case([3, 7, 9, 24], 136, [3, 3], 1, [1, 1]),
            case([1, 5, 7, 72], 24, [1, 1], 1, [0, 0]),
            case([2, 9, 7, 16], 40, [3, 3], 2, [1, 1]),
        ];
        for tile in TILES {
            for splits in [1, 3] {
                let precisions = [Precision::F16, Precision::F16Fast];
                check_all(&cases, &precisions, Some((tile, splits)));
            }
        }
    }
}
