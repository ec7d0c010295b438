//! Convolutions on ordinary lanes, for every geometry and type: `kernels/conv2d*.cu`.

use super::problem::{Algorithm, Problem};
use crate::kernel::cuda::{
    CudaCall, DevicePtr, Kernel, element,
    params::{Conv2dGatherParams, Conv2dPackParams, Conv2dWeightGradParams},
};
use crate::ops::conv2d::geometry::{ConvAxis, ConvPhases, Direction};

/// Threads of a block of the products, `THREADS` in `common/gemm.cuh`.
const THREADS: usize = 64;
/// Products between two barriers, `DEPTH` in `common/gemm.cuh`.
const DEPTH: usize = 16;
/// Side of the tiles that the packing kernel turns.
const PACK_SIDE: usize = 16;
/// Threads of the kernel that adds up a filter's gradient.
const FINISH_THREADS: usize = 128;
/// Blocks per multiprocessor below which a product gets split-K.
const WANTED_BLOCKS: usize = 2;
/// Fewest chunks of [`DEPTH`] of one split, so that its partial sums cost little beside its products.
const LEAST_CHUNKS: usize = 8;
/// Most split-K: bounds the memory for partial sums.
const MAX_SPLIT_K: usize = 32;

/// Rows and columns of the results that a block computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SimtTile {
    rows: usize,
    columns: usize,
}

/// Split-K of a product of `tiles` blocks, whose results sum `depth` products each.
fn split_k(tiles: usize, depth: usize, multiprocessors: u32) -> usize {
    let wanted = (WANTED_BLOCKS * multiprocessors as usize).div_ceil(tiles);
    wanted.clamp(1, (depth / (LEAST_CHUNKS * DEPTH)).clamp(1, MAX_SPLIT_K))
}

fn int(n: usize) -> i32 {
    i32::try_from(n).expect("extents are below 2^31")
}

/// The phases of one axis as the kernels' parameters have them.
struct PhaseArrays {
    offset: [i32; 4],
    taps: [i32; 4],
    /// Kernel indices of tap `t` of phase `a` as the bits of element `8 a + t`.
    members: [u32; 32],
}

impl PhaseArrays {
    fn new(axis: &ConvAxis) -> Self {
        let mut arrays = Self {
            offset: [0; 4],
            taps: [0; 4],
            members: [0; 32],
        };
        for (a, phase) in axis.phases().iter().enumerate() {
            arrays.offset[a] = phase.first_offset() as i32;
            arrays.taps[a] = int(phase.taps().len());
            for (t, tap) in phase.ascending_taps().enumerate() {
                arrays.members[8 * a + t] = u32::from(tap.members);
            }
        }
        arrays
    }

    /// Of rows and of columns.
    fn of(phases: &ConvPhases) -> [Self; 2] {
        [Self::new(&phases.rows), Self::new(&phases.columns)]
    }

    /// The tap that holds kernel index `k` in phase `a`, as element `8 a + k`.
    fn tap_of(&self) -> [i32; 16] {
        std::array::from_fn(|i| {
            let (a, k) = (i / 8, i % 8);
            (0..8)
                .find(|t| self.members[8 * a + t] >> k & 1 == 1)
                .unwrap_or(0) as i32
        })
    }

    fn most_taps(&self) -> usize {
        self.taps.into_iter().max().unwrap_or(0) as usize
    }
}

/// The convolution or its input gradient: every result gathers its products.
pub(super) struct Gather {
    problem: Problem,
    direction: Direction,
    phase_arrays: [PhaseArrays; 2],
    /// Phases along an axis.
    phases: usize,
    /// Source pixels from one result of a phase to the next.
    source_step: usize,
    /// Extents `[height, width, channels]`.
    source: [usize; 3],
    result: [usize; 3],
    tile: SimtTile,
    /// Blocks that share a result's sum.
    split_k: usize,
}

impl Gather {
    /// The tile and split-K for `problem`.
    pub fn new(problem: &Problem, direction: Direction) -> Self {
        let phases = problem.geometry.phases(direction);
        let source = problem.geometry.source_extents(direction);
        let result = problem.geometry.result_extents(direction);
        let (phase_arrays, source_step) = (PhaseArrays::of(&phases), phases.source_step());
        let phases = phases.per_axis();
        let [height, width, columns] = result;
        let pixels = |batch| batch * height.div_ceil(phases) * width.div_ceil(phases);
        let rows = pixels(problem.geometry.batch);
        let tile = match (rows, columns) {
            (_, ..=8) => SimtTile {
                rows: 64,
                columns: 8,
            },
            (_, ..=32) => SimtTile {
                rows: 64,
                columns: 32,
            },
            (..=16, _) => SimtTile {
                rows: 16,
                columns: 64,
            },
            (..=32, _) => SimtTile {
                rows: 32,
                columns: 64,
            },
            _ => SimtTile {
                rows: 64,
                columns: 64,
            },
        };
        // How a result is split may depend on the image alone if its bits may.
        let rows = match problem.target.deterministic {
            true => pixels(1),
            false => rows,
        };
        let tiles = rows.div_ceil(64) * columns.div_ceil(tile.columns) * phases * phases;
        let depth = phase_arrays[0].most_taps() * phase_arrays[1].most_taps() * source[2];
        let split_k = split_k(tiles, depth, problem.target.multiprocessors);
        Self {
            problem: *problem,
            direction,
            phase_arrays,
            phases,
            source_step,
            source,
            result,
            tile,
            split_k,
        }
    }

    fn columns_padded(&self) -> usize {
        self.result[2].next_multiple_of(self.tile.columns.max(PACK_SIDE))
    }

    fn packed_rows(&self) -> usize {
        let [y, x] = &self.phase_arrays;
        let taps = |arrays: &PhaseArrays, phase: usize| arrays.taps[phase] as usize;
        let depths = (0..self.phases * self.phases).map(|phase| {
            taps(y, phase / self.phases) * taps(x, phase % self.phases) * self.source[2]
        });
        depths.map(|depth| depth.next_multiple_of(DEPTH)).sum()
    }

    fn pixels(&self) -> usize {
        self.problem.geometry.batch * self.result[0] * self.result[1]
    }
}

impl Algorithm for Gather {
    fn workspace_bytes(&self) -> usize {
        match self.split_k {
            1 => 0,
            split_k => 4 * split_k * self.pixels() * self.result[2],
        }
    }

    fn packed_bytes(&self) -> usize {
        4 * self.packed_rows() * self.columns_padded()
    }

    fn pack(&self, call: &mut CudaCall<'_>) {
        let [kernel_height, kernel_width] = self.problem.geometry.kernel;
        let [y, x] = &self.phase_arrays;
        let params = Conv2dPackParams {
            filter: call.input(1),
            packed: call.packed(),
            kernel_height: int(kernel_height),
            kernel_width: int(kernel_width),
            channels: int(self.source[2]),
            columns: int(self.result[2]),
            columns_padded: int(self.columns_padded()),
            input_grad: i32::from(self.direction == Direction::InputGrad),
            phases: int(self.phases),
            taps_y: y.taps,
            taps_x: x.taps,
            members_y: y.members,
            members_x: x.members,
        };
        let kernel = Kernel::new("conv2d_pack.cu", "conv2d_pack");
        let grid = [
            self.columns_padded() / PACK_SIDE,
            self.source[2].div_ceil(PACK_SIDE),
            1,
        ];
        let shared_bytes = 4 * PACK_SIDE * (PACK_SIDE * kernel_height * kernel_width + 1);
        call.launch(
            kernel,
            grid,
            [PACK_SIDE * PACK_SIDE, 1, 1],
            shared_bytes,
            &params,
        );
    }

    fn launch(&self, call: &mut CudaCall<'_>) {
        let Problem {
            geometry,
            dtype,
            bias,
            residual,
            ..
        } = self.problem;
        let optional = |wanted: bool, index: usize| match wanted {
            true => call.input(index),
            false => DevicePtr::NULL,
        };
        let [source_height, source_width, channels] = self.source;
        let [height, width, columns] = self.result;
        let [y, x] = &self.phase_arrays;
        let params = Conv2dGatherParams {
            source: call.input(0),
            filter: call.packed(),
            bias: optional(bias, 2),
            residual: optional(residual, 2 + usize::from(bias)),
            result: call.output(0),
            partial: call.workspace(),
            images: int(geometry.batch),
            source_height: int(source_height),
            source_width: int(source_width),
            channels: int(channels),
            height: int(height),
            width: int(width),
            columns: int(columns),
            columns_padded: int(self.columns_padded()),
            phases: int(self.phases),
            source_step: int(self.source_step),
            split_k: int(self.split_k),
            offset_y: y.offset,
            offset_x: x.offset,
            taps_y: y.taps,
            taps_x: x.taps,
        };
        let kernel = |entry| {
            Kernel::new("conv2d.cu", entry)
                .with("T", element(dtype))
                .with("VEC", if channels.is_multiple_of(4) { 4 } else { 1 })
                .with("ROWS", self.tile.rows)
                .with("COLUMNS", self.tile.columns)
        };
        let rows = geometry.batch * height.div_ceil(self.phases) * width.div_ceil(self.phases);
        let grid = [
            rows.div_ceil(self.tile.rows),
            columns.div_ceil(self.tile.columns),
            self.phases * self.phases * self.split_k,
        ];
        call.launch(kernel("conv2d_gather"), grid, [THREADS, 1, 1], 0, &params);
        if self.split_k > 1 {
            let grid = [self.pixels().div_ceil(4), columns.div_ceil(128), 1];
            call.launch(kernel("conv2d_gather_finish"), grid, [32, 4, 1], 0, &params);
        }
    }
}

/// Multiplier and shift that divide by `divisor`, as `common/divide.cuh` derives them.
fn divider(divisor: usize) -> (u32, u32) {
    let shift = 31 + divisor.next_power_of_two().ilog2();
    let multiplier = (1u64 << shift).div_ceil(divisor as u64);
    (
        u32::try_from(multiplier)
            .expect("below 2^32, because the power of two is below twice the divisor"),
        shift,
    )
}

/// The gradient of the filter.
pub(super) struct SimtWeightGrad {
    problem: Problem,
    phase_arrays: [PhaseArrays; 2],
    /// Phases along an axis.
    phases: usize,
    /// Source pixels from one result of a phase to the next.
    source_step: usize,
    /// Extents of a phase of results, as if all had the largest.
    grid: [usize; 2],
    tile: SimtTile,
    /// Blocks that share a result's sum.
    split_k: usize,
}

impl SimtWeightGrad {
    /// The tile and split-K for `problem`.
    pub fn new(problem: &Problem) -> Self {
        let g = problem.geometry;
        let phases = g.phases(Direction::Forward);
        let (phase_arrays, source_step) = (PhaseArrays::of(&phases), phases.source_step());
        let phases = phases.per_axis();
        let grid = g.output().map(|len| len.div_ceil(phases));
        let columns = phase_arrays[0].most_taps() * phase_arrays[1].most_taps() * g.in_channels;
        let tile = match (g.out_channels, columns) {
            (..=8, _) => SimtTile {
                rows: 8,
                columns: 64,
            },
            (_, ..=8) => SimtTile {
                rows: 64,
                columns: 8,
            },
            (..=32, _) => SimtTile {
                rows: 32,
                columns: 64,
            },
            (_, ..=32) => SimtTile {
                rows: 64,
                columns: 32,
            },
            _ => SimtTile {
                rows: 64,
                columns: 64,
            },
        };
        let tiles = g.out_channels.div_ceil(tile.rows) * columns.div_ceil(tile.columns);
        let pixels = g.batch * grid[0] * grid[1];
        let split_k = split_k(
            tiles * phases * phases,
            pixels,
            problem.target.multiprocessors,
        );
        Self {
            problem: *problem,
            phase_arrays,
            phases,
            source_step,
            grid,
            tile,
            split_k,
        }
    }

    /// Columns of a row of partial sums.
    fn pitch(&self) -> usize {
        let [y, x] = &self.phase_arrays;
        y.most_taps() * x.most_taps() * self.problem.geometry.in_channels
    }

    /// Whether the partial sums are the gradient itself.
    fn is_direct(&self) -> bool {
        self.split_k == 1 && self.phases == 1 && self.problem.geometry.kernel == [1, 1]
    }
}

impl Algorithm for SimtWeightGrad {
    fn workspace_bytes(&self) -> usize {
        if self.is_direct() {
            return 0;
        }
        let phases = self.phases * self.phases;
        4 * self.split_k * phases * self.problem.geometry.out_channels * self.pitch()
    }

    fn packed_bytes(&self) -> usize {
        0
    }

    fn pack(&self, _: &mut CudaCall<'_>) {}

    fn launch(&self, call: &mut CudaCall<'_>) {
        let g = self.problem.geometry;
        let [grid_height, grid_width] = self.grid;
        let (grid_height_multiplier, grid_height_shift) = divider(grid_height);
        let (grid_width_multiplier, grid_width_shift) = divider(grid_width);
        let [y, x] = &self.phase_arrays;
        let params = Conv2dWeightGradParams {
            x: call.input(0),
            dy: call.input(1),
            partial: match self.is_direct() {
                true => call.output(0),
                false => call.workspace(),
            },
            dw: call.output(0),
            height: int(g.height),
            width: int(g.width),
            channels: int(g.in_channels),
            out_height: int(g.output_height()),
            out_width: int(g.output_width()),
            outputs: int(g.out_channels),
            phases: int(self.phases),
            source_step: int(self.source_step),
            split_k: int(self.split_k),
            pixels: int(g.batch * grid_height * grid_width),
            grid_height: int(grid_height),
            grid_width: int(grid_width),
            grid_height_multiplier,
            grid_height_shift,
            grid_width_multiplier,
            grid_width_shift,
            pitch: int(self.pitch()),
            kernel_height: int(g.kernel[0]),
            kernel_width: int(g.kernel[1]),
            offset_y: y.offset,
            offset_x: x.offset,
            taps_y: y.taps,
            taps_x: x.taps,
            tap_of_y: y.tap_of(),
            tap_of_x: x.tap_of(),
        };
        let in_fours = g.in_channels.is_multiple_of(4) && g.out_channels.is_multiple_of(4);
        let kernel = |entry| {
            Kernel::new("conv2d_weight_grad.cu", entry)
                .with("T", element(self.problem.dtype))
                .with("VEC", if in_fours { 4 } else { 1 })
                .with("ROWS", self.tile.rows)
                .with("COLUMNS", self.tile.columns)
        };
        let grid = [
            self.pitch().div_ceil(self.tile.columns),
            g.out_channels.div_ceil(self.tile.rows),
            self.phases * self.phases * self.split_k,
        ];
        call.launch(
            kernel("conv2d_weight_grad"),
            grid,
            [THREADS, 1, 1],
            0,
            &params,
        );
        if !self.is_direct() {
            let grid = [
                (g.out_channels * g.in_channels).div_ceil(FINISH_THREADS),
                1,
                1,
            ];
            let shared_bytes = 4 * FINISH_THREADS * g.kernel[0] * g.kernel[1];
            let kernel = kernel("conv2d_weight_grad_finish");
            call.launch(kernel, grid, [FINISH_THREADS, 1, 1], shared_bytes, &params);
        }
    }
}
