//! Launches `kernels/group_norm_stats.cu`, `group_norm.cu` and `group_norm_grad.cu`.

use super::{GroupNorm, GroupNormGradSums, GroupNormInputGrad, GroupNormStats};
use crate::graph::TensorType;
use crate::kernel::Unsupported;
use crate::kernel::cuda::params::{
    GroupNormGradSumsParams, GroupNormInputGradParams, GroupNormParams, GroupNormStatsMergeParams,
    GroupNormStatsParams,
};
use crate::kernel::cuda::work::{sectors, wavefronts};
use crate::kernel::cuda::{CudaCall, CudaOperator, DevicePtr, Kernel, LaunchWork, Target, element};
use crate::ops::cuda::channel_tiles::{ChannelTiles, SECTOR_BYTES};
use crate::ops::cuda::partial_sums::partial_sums;

/// Bytes of the kernels' `Moments`.
const MOMENTS_BYTES: usize = 16;
/// Groups that a block of [`GroupNormStats`]'s merge takes: a warp for each.
const MERGED_PER_BLOCK: usize = 8;

fn kernel(file: &'static str, entry: &'static str, x: &TensorType, tiles: &ChannelTiles) -> Kernel {
    Kernel::new(file, entry)
        .with("T", element(x.dtype))
        .with("V", tiles.vector)
}

/// Tiles of whole groups, or of parts of one group, for sums over groups.
fn group_tiles(x: &TensorType, groups: usize) -> ChannelTiles {
    ChannelTiles::of_granules(x, x.channels() / groups, SECTOR_BYTES).for_reduction()
}

impl GroupNormStats {
    /// Whether the statistics need a pass of their own over `x`, because no block of [`GroupNorm`] has a whole group.
    pub(in crate::ops) fn is_a_pass(&self, x: &TensorType) -> bool {
        let tiles = group_tiles(x, self.groups);
        tiles.slabs * tiles.parts > 1
    }

    /// Bytes of `parts` moments of each group of `x`.
    pub(in crate::ops) fn moments_bytes(&self, x: &TensorType, parts: usize) -> usize {
        x.shape[0] * self.groups * parts * MOMENTS_BYTES
    }

    /// Launches the merge of `parts` moments of each group of `x`, which are at `moments`.
    pub(in crate::ops) fn merge(
        &self,
        call: &mut CudaCall<'_>,
        x: &TensorType,
        moments: DevicePtr,
        parts: usize,
        stats: DevicePtr,
    ) {
        let tiles = group_tiles(x, self.groups);
        let groups = tiles.samples * self.groups;
        let params = GroupNormStatsMergeParams {
            partials: moments,
            stats,
            groups: groups as i32,
            parts: parts as i32,
            eps: self.eps,
        };
        let kernel = kernel("group_norm_stats.cu", "group_norm_stats_merge", x, &tiles);
        let grid = [groups.div_ceil(MERGED_PER_BLOCK), 1, 1];
        // Two passes over a group's moments, about the first of them.
        let of_group = parts * MOMENTS_BYTES;
        let result = groups * 2 * size_of::<f32>();
        call.launch(kernel, grid, [32 * MERGED_PER_BLOCK, 1, 1], 0, &params)
            .doing(|| LaunchWork {
                stated: true,
                blocks: grid[0] as u64,
                load_sectors: groups as u64 * (1 + 2 * sectors(of_group)),
                store_sectors: groups as u64,
                dram_bytes: (groups * of_group + result) as u64,
                ..LaunchWork::default()
            });
    }
}

impl CudaOperator for GroupNormStats {
    fn workspace_bytes(&self, inputs: &[TensorType], _: &[TensorType], _: &Target) -> usize {
        let tiles = group_tiles(&inputs[0], self.groups);
        match tiles.slabs * tiles.parts {
            1 => 0,
            parts => self.moments_bytes(&inputs[0], parts),
        }
    }

    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let tiles = group_tiles(call.in_type(0), self.groups);
        let parts = tiles.slabs * tiles.parts;
        let params = GroupNormStatsParams {
            x: call.input(0),
            stats: call.output(0),
            partials: call.workspace(),
            positions: tiles.positions as i32,
            channels: tiles.channels as i32,
            groups: self.groups as i32,
            columns: tiles.columns as i32,
            lanes: tiles.lanes as i32,
            span: tiles.span as i32,
            parts: tiles.parts as i32,
            slab: tiles.slab as i32,
            eps: self.eps,
        };
        let x = call.in_type(0).clone();
        let kernel = kernel("group_norm_stats.cu", "group_norm_stats", &x, &tiles);
        call.launch(kernel, tiles.grid(), tiles.block(), 0, &params);
        if parts > 1 {
            self.merge(call, &x, call.workspace(), parts, call.output(0));
        }
        Ok(())
    }
}

impl CudaOperator for GroupNorm {
    /// A block that has whole groups computes their statistics without another pass.
    fn prefers_fused(&self, inputs: &[TensorType], _: &Target) -> bool {
        self.stats.is_some_and(|stats| !stats.is_a_pass(&inputs[0]))
    }

    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let x = call.in_type(0);
        let multiprocessors = call.target().multiprocessors;
        let (entry, tiles, eps) = match self.stats {
            Some(stats) => ("group_norm_whole", group_tiles(x, self.groups), stats.eps),
            None => {
                let tiles = ChannelTiles::of_rows(x).for_each_element(multiprocessors);
                ("group_norm", tiles, 0.0)
            }
        };
        if self.stats.is_some_and(|stats| stats.is_a_pass(x)) {
            let why = format!("no block sees all of a group of {x}; take the statistics before");
            return Err(call.unsupported(why));
        }
        let stats = match self.stats {
            Some(_) => call.output(1),
            None => call.input(1),
        };
        let gamma = self.gamma_input();
        let kernel = kernel("group_norm.cu", entry, x, &tiles);
        let optional =
            |index: Option<usize>| index.map_or(DevicePtr::NULL, |index| call.input(index));
        let params = GroupNormParams {
            x: call.input(0),
            stats,
            gamma: call.input(gamma),
            beta: call.input(gamma + 1),
            residual: optional(self.residual_input()),
            embed: optional(self.embed_input()),
            y: call.output(0),
            positions: tiles.positions as i32,
            channels: tiles.channels as i32,
            groups: self.groups as i32,
            columns: tiles.columns as i32,
            lanes: tiles.lanes as i32,
            span: tiles.span as i32,
            parts: tiles.parts as i32,
            slab: tiles.slab as i32,
            swish: i32::from(self.swish),
            eps,
        };
        let whole = self.stats.map(|_| self.whole_work(call, &tiles));
        let launched = call.launch(kernel, tiles.grid(), tiles.block(), 0, &params);
        if let Some(work) = whole {
            launched.doing(|| work);
        }
        Ok(())
    }
}

impl GroupNorm {
    /// What the launch of `group_norm_whole` does.
    fn whole_work(&self, call: &CudaCall<'_>, tiles: &ChannelTiles) -> LaunchWork {
        let x = call.in_type(0);
        let element = x.dtype.size_bytes();
        let blocks = (tiles.tiles * tiles.samples) as u64;
        let warps = (tiles.block()[0] / 32) as u64;
        let map = sectors(x.bytes());
        // Each thread reads its first position twice.
        let first = tiles.lanes * tiles.columns * tiles.vector * element;
        let columns = tiles.columns.min(32) * tiles.vector;
        // Scale and shift of the columns that a warp has.
        let affine = 2 * warps * sectors(columns * size_of::<f32>());
        let embed = match self.embed {
            true => warps * sectors(columns * element),
            false => 0,
        };
        let residual = if self.residual { map } else { 0 };
        // Scale, shift, embedding and statistics.
        let per_channel = 2 * tiles.channels * size_of::<f32>()
            + tiles.samples * self.groups * 2 * size_of::<f32>()
            + match self.embed {
                true => tiles.samples * tiles.channels * element,
                false => 0,
            };
        let groups_of_tile = (tiles.columns * tiles.vector * self.groups / tiles.channels).max(1);
        let threads = tiles.lanes * tiles.columns;
        let merged = threads / groups_of_tile * MOMENTS_BYTES;
        // Threads leave their moments; a warp merges those of a group in two passes about the first; all read the
        // mean and then the deviation.
        let shared = wavefronts(threads * MOMENTS_BYTES)
            + groups_of_tile as u64 * (1 + 2 * wavefronts(merged) + 1)
            + 2 * warps;
        // Per access of a thread: eight numbers' sums in the first pass, and normalisation and Swish in the second.
        const INSTRUCTIONS_PER_ACCESS: u64 = 140;
        let accesses = (x.len() / tiles.vector).div_ceil(32) as u64;
        LaunchWork {
            stated: true,
            blocks,
            instructions: INSTRUCTIONS_PER_ACCESS * accesses,
            shared_wavefronts: blocks * shared,
            load_sectors: 2 * map + residual + blocks * (sectors(first) + affine + embed),
            store_sectors: map + (tiles.samples * self.groups) as u64,
            dram_bytes: SECTOR_BYTES as u64 * (2 * map + residual) + per_channel as u64,
            barriers: 2 * blocks * warps,
            steps: tiles.positions.div_ceil(tiles.lanes) as u64,
            ..LaunchWork::default()
        }
    }
}

impl CudaOperator for GroupNormGradSums {
    fn workspace_bytes(&self, inputs: &[TensorType], _: &[TensorType], _: &Target) -> usize {
        let tiles = ChannelTiles::of_sectors(&inputs[0]).for_reduction();
        match tiles.slabs {
            1 => 0,
            slabs => slabs * 2 * tiles.samples * tiles.channels * size_of::<f32>(),
        }
    }

    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let tiles = ChannelTiles::of_sectors(call.in_type(0)).for_reduction();
        let count = tiles.samples * tiles.channels;
        let results = [call.output(0), call.output(1)];
        let partials = call.workspace();
        let [plain, scaled] = match tiles.slabs {
            1 => results,
            _ => [partials, partials.add(count * size_of::<f32>())],
        };
        let params = GroupNormGradSumsParams {
            x: call.input(0),
            stats: call.input(1),
            gamma: call.input(2),
            beta: call.input(3),
            dy: call.input(4),
            plain,
            scaled,
            stride: 2 * count as i64,
            positions: tiles.positions as i32,
            channels: tiles.channels as i32,
            groups: self.groups as i32,
            columns: tiles.columns as i32,
            lanes: tiles.lanes as i32,
            slab: tiles.slab as i32,
            swish: i32::from(self.swish),
        };
        let x = call.in_type(0);
        let kernel = kernel("group_norm_grad.cu", "group_norm_grad_sums", x, &tiles);
        call.launch(kernel, tiles.grid(), tiles.block(), 0, &params);
        if tiles.slabs > 1 {
            partial_sums(call, &results, count, tiles.slabs);
        }
        Ok(())
    }
}

impl CudaOperator for GroupNormInputGrad {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let x = call.in_type(0);
        // Narrow tiles, so that a block reads few channels' sums.
        let tiles = ChannelTiles::of_granules(x, x.channels() / self.groups, 2 * SECTOR_BYTES)
            .for_each_element(call.target().multiprocessors);
        let kernel = kernel("group_norm_grad.cu", "group_norm_input_grad", x, &tiles);
        let params = GroupNormInputGradParams {
            x: call.input(0),
            stats: call.input(1),
            gamma: call.input(2),
            beta: call.input(3),
            dy: call.input(4),
            plain: call.input(5),
            scaled: call.input(6),
            dx: call.output(0),
            positions: tiles.positions as i32,
            channels: tiles.channels as i32,
            groups: self.groups as i32,
            columns: tiles.columns as i32,
            lanes: tiles.lanes as i32,
            span: tiles.span as i32,
            parts: tiles.parts as i32,
            slab: tiles.slab as i32,
            swish: i32::from(self.swish),
        };
        call.launch(kernel, tiles.grid(), tiles.block(), 0, &params);
        Ok(())
    }
}
