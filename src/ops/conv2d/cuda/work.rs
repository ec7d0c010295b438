//! What the launches of convolutions on tensor cores do, counted: the formulas behind `kernels/COUNTERS.md`.
//!
//! They follow the kernels line by line. Sectors are exact where the channels are multiples of 16; the last sector of a
//! row is otherwise touched from both sides.

use super::tensor::Gemm;
use super::tensor_weight_grad::TensorWeightGrad;
use super::tile::{SPLIT_UNIT, Tile};
use crate::kernel::cuda::LaunchWork;
use crate::kernel::cuda::work::{sectors, wavefronts};
use crate::ops::conv2d::geometry::ConvPhase;

/// Bytes of an operand's element; sums have twice as many.
const ELEMENT_BYTES: usize = 2;
const SUM_BYTES: usize = 4;
/// Sectors that the `Moments` of a group take: 16 bytes each.
const MOMENTS_BYTES: usize = 16;
/// Wavefronts of an `ldmatrix.x4`: 512 bytes.
const LDMATRIX_WAVEFRONTS: u64 = 4;
/// Instructions of a step of the main loop beside products, `ldmatrix`, copies and the barrier, as nvdisasm shows them:
/// addresses, predicates and branches.
const STEP_OVERHEAD: u64 = 52;
/// The same for the filter's gradient, whose pixels' places are computed anew for each copy.
const GRADIENT_STEP_OVERHEAD: u64 = 158;

/// What all blocks of one tile do in a step of the main loop.
struct TileStep {
    mma: u64,
    wavefronts: u64,
    instructions: u64,
}

impl TileStep {
    fn of(tile: &Tile, overhead: u64) -> Self {
        let warps = tile.threads() as u64 / 32;
        let [m, n] = tile.fragments().map(|count| count as u64);
        let ks = tile.k as u64 / 16;
        let ldmatrix = warps * ks * (m + n / 2);
        let copied = (tile.m + tile.n) * tile.k * ELEMENT_BYTES;
        let copies = (copied / 16).div_ceil(32) as u64;
        let mma = warps * ks * m * n;
        Self {
            mma,
            wavefronts: ldmatrix * LDMATRIX_WAVEFRONTS + wavefronts(copied),
            instructions: mma + ldmatrix + copies + warps * (1 + overhead),
        }
    }
}

/// What split-K adds to the work of `tiles` tiles of `splits` blocks each: partial sums stored by all and read by the last.
fn add_splits(work: &mut LaunchWork, tile: &Tile, tiles: u64, splits: u64) {
    if splits == 1 {
        return;
    }
    let (blocks, warps) = (tiles * splits, tile.threads() as u64 / 32);
    let sums = sectors(tile.m * tile.n * SUM_BYTES);
    // The counter is an atomic.
    work.store_sectors += blocks * (sums + 1);
    work.load_sectors += blocks * sums;
    // Whether the block is the last is written once and read by each warp.
    work.shared_wavefronts += blocks * (1 + warps);
    // Two before it is known, one behind it, and one before the sums are discarded.
    work.barriers += warps * (2 * blocks + 2 * tiles);
}

impl Gemm {
    /// What the launch does.
    pub(super) fn work(&self) -> LaunchWork {
        let (tile, batch) = (&self.tile, self.problem.geometry.batch);
        let warps = tile.threads() as u64 / 32;
        let step = TileStep::of(tile, STEP_OVERHEAD);
        let [_, _, channels] = self.source;
        let [height, width, outputs] = self.result;
        let mut work = LaunchWork {
            stated: true,
            ..LaunchWork::default()
        };
        let tiles_n = outputs.div_ceil(tile.n);
        let mut all_tiles = 0;
        for axes in self.phases.iter() {
            let [pixels_y, pixels_x] = axes.map(|axis| axis.count);
            let pixels = batch * pixels_y * pixels_x;
            let tiles_m = pixels.div_ceil(tile.m);
            let tiles = (tiles_m * tiles_n) as u64;
            let depth = self.sum_length(axes);
            let (steps, longest) = self.steps(depth);
            all_tiles += tiles;
            work.blocks += tiles * self.split_k as u64;
            work.steps = work.steps.max(longest);
            let total = tiles * steps;
            work.mma += total * step.mma;
            work.shared_wavefronts += total * step.wavefronts;
            work.instructions += total * step.instructions;
            work.barriers += warps * (total + tiles * self.split_k as u64);
            // Windows are read once per column of tiles, filters once per row of tiles.
            let inside = batch * self.inside(axes);
            work.load_sectors += tiles_n as u64 * sectors(inside * channels * ELEMENT_BYTES);
            let filter = outputs * steps as usize * tile.k * ELEMENT_BYTES;
            work.load_sectors += tiles_m as u64 * sectors(filter);
            self.add_store(&mut work, pixels, tiles_m);
        }
        if self.problem.target.fast_accumulate {
            work.mma_half = std::mem::take(&mut work.mma);
        }
        add_splits(&mut work, tile, all_tiles, self.split_k as u64);
        self.add_moments(&mut work, all_tiles);
        let read = batch * self.source.iter().product::<usize>() * ELEMENT_BYTES;
        let result = batch * height * width * outputs * ELEMENT_BYTES;
        let residual = if self.problem.residual { result } else { 0 };
        let bias = if self.problem.bias { 4 * outputs } else { 0 };
        work.dram_bytes = (read + self.filter_bytes() + bias + residual + result) as u64;
        work
    }

    /// Steps of all splits of a sum of `depth` products, and of the longest split.
    fn steps(&self, depth: usize) -> (u64, u64) {
        let (units, splits) = (depth.div_ceil(SPLIT_UNIT), self.split_k);
        let per_unit = SPLIT_UNIT / self.tile.k;
        let of_split = |split: usize| {
            let first = units * split / splits * per_unit;
            let last = (units * (split + 1) / splits * per_unit).min(depth.div_ceil(self.tile.k));
            last.saturating_sub(first) as u64
        };
        let steps = (0..splits).map(of_split);
        (steps.clone().sum(), steps.max().unwrap_or(0))
    }

    /// Pairs of a result of one sample and a tap that lies inside the source.
    fn inside(&self, axes: [&ConvPhase; 2]) -> usize {
        let along = |axis: &ConvPhase, len: usize| -> usize {
            axis.taps()
                .iter()
                .map(|&tap| axis.inside(tap, len).len())
                .sum()
        };
        along(axes[0], self.source[0]) * along(axes[1], self.source[1])
    }

    /// The epilogue over `pixels` results in `tiles_m` rows of tiles: sums pass through shared memory, bias and residual
    /// are read, and results stored.
    fn add_store(&self, work: &mut LaunchWork, pixels: usize, tiles_m: usize) {
        let (tile, outputs) = (&self.tile, self.result[2]);
        let tiles_n = outputs.div_ceil(tile.n);
        // All sums are staged, and those of the result read again.
        let staged = tiles_m * tile.m * tiles_n * tile.n * SUM_BYTES;
        let read = pixels * outputs.next_multiple_of(8) * SUM_BYTES;
        work.shared_wavefronts += wavefronts(staged) + wavefronts(read);
        work.instructions += 4 * (wavefronts(staged) + wavefronts(read));
        if self.problem.bias {
            let rows_of_warps = tiles_m * tile.warps[0];
            work.load_sectors += rows_of_warps as u64 * sectors(4 * outputs);
        }
        let result = match outputs.is_multiple_of(8) {
            true => sectors(pixels * outputs * ELEMENT_BYTES),
            // One number at a time: each access of a few neighbouring pixels touches all sectors of their results.
            false => outputs as u64 * sectors(pixels * outputs * ELEMENT_BYTES),
        };
        work.store_sectors += result;
        if self.problem.residual {
            work.load_sectors += result;
        }
    }

    /// The moments that blocks leave of each group of the result's channels.
    fn add_moments(&self, work: &mut LaunchWork, tiles: u64) {
        let Some(stats) = self.stats else { return };
        let (tile, channels) = (&self.tile, self.result[2] / stats.groups);
        let warps = tile.threads() as u64 / 32;
        // Each thread leaves those of eight channels; a warp merges the ones of a group in two passes about the first.
        let lanes_per_row = tile.n / tile.warps[1] / 8;
        let rows = tile.warps[0] * 32 / lanes_per_row;
        let width = channels.min(tile.n);
        let groups = (tile.n / width) as u64;
        let of_group = width / 8 * rows * MOMENTS_BYTES;
        work.shared_wavefronts += tiles
            * (wavefronts(32 * MOMENTS_BYTES) * warps + groups * (1 + 2 * wavefronts(of_group)));
        work.store_sectors += tiles * groups;
        work.barriers += tiles * warps;
    }
}

impl TensorWeightGrad {
    /// What the launch does.
    pub(super) fn work(&self) -> LaunchWork {
        let (tile, g) = (&self.tile, &self.problem.geometry);
        let warps = tile.threads() as u64 / 32;
        let step = TileStep::of(tile, GRADIENT_STEP_OVERHEAD);
        let pixels = g.batch * g.output_height() * g.output_width();
        let taps = g.kernel[0] * g.kernel[1];
        let columns = taps * g.in_channels.next_multiple_of(16);
        let [tiles_m, tiles_n] = [g.out_channels.div_ceil(tile.m), columns.div_ceil(tile.n)];
        let tiles = (tiles_m * tiles_n) as u64;
        let (steps, splits) = (pixels.div_ceil(tile.k), self.split_k as u64);
        let total = tiles * steps as u64;
        let result = g.out_channels * g.in_channels * taps * SUM_BYTES;
        let operands = (g.input_len() + g.output_len()) * ELEMENT_BYTES;
        let mut work = LaunchWork {
            stated: true,
            blocks: tiles * splits,
            mma: total * step.mma,
            mma_half: 0,
            instructions: total * step.instructions,
            // All sums are staged in shared memory, and those of the result read again.
            shared_wavefronts: total * step.wavefronts
                + tiles * wavefronts(tile.m * tile.n * SUM_BYTES)
                + wavefronts(result),
            load_sectors: tiles_n as u64 * sectors(pixels * g.out_channels * ELEMENT_BYTES)
                + tiles_m as u64 * self.window_sectors(),
            store_sectors: sectors(result),
            dram_bytes: (operands + result) as u64,
            barriers: warps * (total + tiles * self.store_barriers()),
            steps: (steps as u64).div_ceil(splits),
        };
        if splits > 1 {
            work.barriers += warps * tiles * splits;
        }
        add_splits(&mut work, tile, tiles, splits);
        work
    }

    /// Barriers of the epilogue: two for each part of the sums that fits into shared memory.
    fn store_barriers(&self) -> u64 {
        let tile = &self.tile;
        let pitch = (tile.n + 16).next_multiple_of(32);
        let room = tile.shared_bytes() / (16 * pitch * SUM_BYTES);
        let staged = match room {
            room if room >= tile.warps[0] => tile.warps[0],
            4.. => 4,
            2.. => 2,
            _ => 1,
        };
        let [fragments, _] = tile.fragments();
        (2 * fragments * (tile.warps[0] / staged)) as u64
    }

    /// Sectors of the input that one row of tiles reads: of each group of 16 channels, the pixels of each window, which
    /// neighbours in a warp that read the same one share.
    fn window_sectors(&self) -> u64 {
        let (tile, g) = (&self.tile, &self.problem.geometry);
        let groups = g.in_channels.div_ceil(16) as u64;
        let taps = g.kernel[0] * g.kernel[1];
        let pixels = g.output_height() * g.output_width();
        if taps == 1 {
            return g.batch as u64 * sectors(pixels * g.in_channels * ELEMENT_BYTES);
        }
        // Chunks of 16 bytes of one group and one sample, in the order in which a block's threads copy them.
        let (chunks, threads) = (tile.n / 8, tile.threads());
        let groups_of_tile = (tile.n / (16 * taps)).max(1) as u64;
        let mut count = 0;
        let mut seen: Vec<[usize; 2]> = Vec::new();
        for first in (0..pixels).step_by(tile.k) {
            for e in 0..tile.k * chunks {
                if e % threads % 32 == 0 {
                    count += seen.len() as u64;
                    seen.clear();
                }
                let (m, chunk) = (first + e / chunks, e % chunks);
                let (group, tap) = (chunk * 8 / (16 * taps), chunk * 8 % (16 * taps) / 16);
                if m >= pixels {
                    continue;
                }
                let at = [m / g.output_width(), m % g.output_width()];
                let source = [
                    g.source(0, at[0], tap / g.kernel[1]),
                    g.source(1, at[1], tap % g.kernel[1]),
                ];
                if let [Some(y), Some(x)] = source {
                    let sector = [group, y * g.width + x];
                    if !seen.contains(&sector) {
                        seen.push(sector);
                    }
                }
            }
            count += seen.len() as u64;
            seen.clear();
        }
        g.batch as u64 * count * groups / groups_of_tile
    }
}
