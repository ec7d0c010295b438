//! Convolutions and their input gradients on tensor cores: the launches of `kernels/conv2d_tensor.cu`.
//!
//! f16 and bf16 whose summed channels are a multiple of 8 (16-byte copies); other counts, such as the 3 of an image, are
//! left to the plain kernels, as are windows of more than 32 taps and more than two phases along an axis, which gradients
//! of strides beyond 2 have. A block leaves statistics of groups of the result's channels behind where its tile is of one
//! sample and of whole groups, or of a part of one. A concatenated operand is read where its two arrays are if both counts
//! of channels are multiples of 8, for windows of at most 16 taps.

use super::problem::{Algorithm, Problem};
use super::tile::{
    GemmExtents, LARGE, LINE_BYTES, MAX_WINDOW_TAPS, SPLIT_UNIT, TILES, Tile, choose, takes,
};
use crate::graph::TensorType;
use crate::kernel::cuda::params::{Conv2dTensorPackParams, Conv2dTensorParams};
use crate::kernel::cuda::{CudaCall, DevicePtr, Kernel, LaunchWork, element};
use crate::ops::GroupNormStats;
use crate::ops::conv2d::geometry::{ConvAxis, ConvPhase, ConvPhases, Direction};
use crate::tensor::DType;

/// Most phases along an axis: the kernel's parameters have room for 2 × 2.
const MAX_PHASES_PER_AXIS: usize = 2;
/// Most taps of a window over a concatenated operand: each tap is walked once per array.
const MAX_CONCAT_TAPS: usize = MAX_WINDOW_TAPS / 2;

/// A convolution, or the gradient of its input, as one grid of matrix products, one per phase.
#[derive(Clone, Debug)]
pub(super) struct Gemm {
    pub(super) problem: Problem,
    direction: Direction,
    /// Extents of what is read and of the result: rows, columns, channels.
    pub(super) source: [usize; 3],
    pub(super) result: [usize; 3],
    pub(super) phases: ConvPhases,
    pub(super) tile: Tile,
    /// Blocks that share a tile's sum.
    pub(super) split_k: usize,
    /// The problem's statistics, if the blocks leave their moments behind.
    pub(super) stats: Option<GroupNormStats>,
}

impl Gemm {
    /// The tile and split-K for `problem`, where tensor cores take it.
    pub fn new(problem: &Problem, direction: Direction) -> Option<Self> {
        let geometry = &problem.geometry;
        let (source, result) = (
            geometry.source_extents(direction),
            geometry.result_extents(direction),
        );
        let mut gemm = Self {
            problem: *problem,
            direction,
            source,
            result,
            phases: geometry.phases(direction),
            tile: LARGE,
            split_k: 1,
            stats: None,
        };
        let windows_fit = gemm.phases.per_axis() <= MAX_PHASES_PER_AXIS
            && gemm.phases.most_taps() <= MAX_WINDOW_TAPS;
        if !takes(problem) || !source[2].is_multiple_of(8) || !windows_fit {
            return None;
        }
        if problem.concat_channels > 0 && !gemm.reads_concat() {
            return None;
        }
        let products = |batch: usize| -> Vec<GemmExtents> {
            let product = |[y, x]: [&ConvPhase; 2]| GemmExtents {
                m: batch * y.count * x.count,
                n: result[2],
                k: gemm.sum_length([y, x]),
            };
            gemm.phases.iter().map(product).collect()
        };
        let alone = products(1);
        // Moments are merged tile by tile: where the bits of statistics may not depend on the batch, the tile may not.
        let all = match problem.target.deterministic && problem.stats.is_some() {
            true => alone.clone(),
            false => products(problem.geometry.batch),
        };
        (gemm.tile, gemm.split_k) = choose(&TILES, &all, &alone, &problem.target);
        gemm.stats = problem.stats.filter(|stats| gemm.sees_groups(stats.groups));
        // f16 sums beside the f32 ones take the registers of the second block.
        if problem.target.fast_accumulate && gemm.tile == LARGE {
            gemm.tile.resident = 1;
        }
        Some(gemm)
    }

    /// Summed products of each result of a phase.
    pub(super) fn sum_length(&self, [y, x]: [&ConvPhase; 2]) -> usize {
        y.taps().len() * x.taps().len() * self.source[2]
    }

    /// Whether the windows can be those of two arrays, one after the other.
    fn reads_concat(&self) -> bool {
        self.problem.concat_channels.is_multiple_of(8)
            && self.phases.count() == 1
            && self.phases.most_taps() <= MAX_CONCAT_TAPS
    }

    /// Whether a tile is of one sample, and of whole groups of channels or a part of one.
    fn sees_groups(&self, groups: usize) -> bool {
        let [height, width, channels] = self.result;
        let (group, tile) = (channels / groups, &self.tile);
        self.split_k == 1
            && self.phases.count() == 1
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
        self.phases
            .iter()
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

    pub(super) fn filter_bytes(&self) -> usize {
        2 * self.filter_lengths().iter().sum::<usize>()
    }

    /// Tiles of the largest phase.
    fn tiles(&self) -> usize {
        let pixels = self.phases.iter().map(|[y, x]| y.count * x.count).max();
        let pixels = pixels.unwrap_or(0);
        (self.problem.geometry.batch * pixels).div_ceil(self.tile.m)
            * self.result[2].div_ceil(self.tile.n)
    }

    /// Tiles of all phases, if they are split: each has a counter and its partial sums.
    fn split_tiles(&self) -> usize {
        match self.split_k {
            1 => 0,
            _ => self.phases.count() * self.tiles(),
        }
    }

    fn of_phases(&self, value: impl Fn([&ConvPhase; 2]) -> usize) -> [i32; 4] {
        let mut values = [0; 4];
        for (to, axes) in values.iter_mut().zip(self.phases.iter()) {
            *to = value(axes) as i32;
        }
        values
    }
}

impl Algorithm for Gemm {
    fn workspace_bytes(&self) -> usize {
        let moments = |stats: &GroupNormStats| stats.moments_bytes(&self.y(), self.moments(stats));
        // Never both: moments are of tiles that are not split.
        let sums = self.split_tiles() * self.split_k * self.tile.m * self.tile.n * 4;
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
        let sources = |axis: &ConvAxis| {
            let mut sources = [0; 16];
            for (a, phase) in axis.phases().iter().enumerate() {
                for (t, tap) in phase.ascending_taps().enumerate() {
                    let members = tap.kernel_indices();
                    sources[8 * a + t] = (members.start + 16 * (members.end - 1)) as i32;
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
            first_columns: (columns - self.problem.concat_channels) as i32,
            kernel_taps: taps as i32,
            kernel_width: g.kernel[1] as i32,
            transposed: i32::from(self.direction == Direction::InputGrad),
            phases: self.phases.count() as i32,
            heights: self.of_phases(|[y, _]| y.taps().len()),
            widths: self.of_phases(|[_, x]| x.taps().len()),
            filter_at: self.filters_at(),
            source_rows: sources(&self.phases.rows),
            source_columns: sources(&self.phases.columns),
        };
        let kernel = Kernel::new("conv2d_tensor_pack.cu", "conv2d_tensor_pack")
            .with("T", element(self.problem.dtype));
        let blocks = columns.div_ceil(32) * rows.div_ceil(8);
        let floats = (8 * (32 * taps + 1)).max(32 * (8 * taps + 1));
        let filter = TensorType::new([rows * columns * taps], DType::F32);
        let packed = TensorType::new([self.filter_bytes() / 2], self.problem.dtype);
        call.job(kernel, blocks, 256, 4 * floats, &params)
            .doing(|| {
                LaunchWork::of_operands(blocks as u64, [&filter].into_iter(), [&packed].into_iter())
            });
    }

    fn launch(&self, call: &mut CudaCall<'_>) {
        let problem = &self.problem;
        let operand = |present: bool, index: usize, call: &CudaCall<'_>| match present {
            true => call.input(index),
            false => DevicePtr::NULL,
        };
        let concat = problem.concat_channels > 0;
        let mut pads = [[0; 4]; 2];
        for (phase, axes) in self.phases.iter().enumerate() {
            let [top, left] = axes.map(|axis| -axis.first_offset() as i32);
            (pads[0][phase], pads[1][phase]) = (top, left);
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
            concat: operand(concat, call.input_count() - 1, call),
            concat_channels: problem.concat_channels as i32,
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
            stride: self.phases.source_step() as i32,
            scatter: self.phases.per_axis() as i32,
            rows: self.of_phases(|[y, _]| y.count),
            columns: self.of_phases(|[_, x]| x.count),
            kernel_height: self.of_phases(|[y, _]| y.taps().len()),
            kernel_width: self.of_phases(|[_, x]| x.taps().len()),
            pad_top: pads[0],
            pad_left: pads[1],
            filter_at: self.filters_at(),
        };
        let kernel = self
            .tile
            .kernel("conv2d_tensor.cu", "conv2d_tensor", problem.dtype)
            .with("FAST", u8::from(problem.target.fast_accumulate))
            .with("MOMENTS", u8::from(self.stats.is_some()))
            .with("CONCAT", u8::from(concat));
        let grid = [self.tiles(), self.split_k, self.phases.count()];
        let block = [self.tile.threads(), 1, 1];
        call.launch(kernel, grid, block, self.tile.shared_bytes(), &params)
            .doing(|| self.work());
        if let Some(stats) = &self.stats {
            let (moments, result) = (call.workspace(), call.output(1));
            stats.merge(call, &self.y(), moments, self.moments(stats), result);
        }
    }
}

#[cfg(test)]
mod tests;
