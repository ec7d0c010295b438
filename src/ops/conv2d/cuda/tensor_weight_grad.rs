//! The gradient of a convolution's filter on tensor cores: the launches of `kernels/conv2d_tensor_wgrad.cu`.
//!
//! f16 and bf16 whose channels of input and output are multiples of 8 (16-byte copies).

use super::problem::{Algorithm, Problem};
use super::tile::{
    GRADIENT_TILES, GRADIENT_TILES_3X3, GemmExtents, LINE_BYTES, Tile, choose, takes,
};
use crate::kernel::cuda::params::Conv2dTensorWgradParams;
use crate::kernel::cuda::{CudaCall, DevicePtr, Target};

/// The gradient of the filter.
#[derive(Clone, Debug)]
pub(super) struct TensorWeightGrad {
    pub(super) problem: Problem,
    pub(super) tile: Tile,
    /// Blocks that share a tile's sum.
    pub(super) split_k: usize,
}

impl TensorWeightGrad {
    /// The tile and split-K for `problem`, where tensor cores take it.
    pub fn new(problem: &Problem) -> Option<Self> {
        let g = &problem.geometry;
        if !takes(problem) || !g.in_channels.is_multiple_of(8) || !g.out_channels.is_multiple_of(8)
        {
            return None;
        }
        let taps = g.kernel[0] * g.kernel[1];
        let product = GemmExtents {
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
        let (tile, split_k) = choose(tiles, &[product], &[], &target);
        Some(Self {
            problem: *problem,
            tile,
            split_k,
        })
    }

    fn tiles(&self) -> usize {
        let g = &self.problem.geometry;
        let columns = g.kernel[0] * g.kernel[1] * g.in_channels.next_multiple_of(16);
        g.out_channels.div_ceil(self.tile.m) * columns.div_ceil(self.tile.n)
    }
}

impl Algorithm for TensorWeightGrad {
    fn workspace_bytes(&self) -> usize {
        match self.split_k {
            1 => 0,
            split_k => self.tiles() * split_k * self.tile.m * self.tile.n * 4 + LINE_BYTES,
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
        let (partial, arrived) = match self.split_k {
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
            [tiles, self.split_k, 1],
            block,
            self.tile.shared_bytes(),
            &params,
        )
        .doing(|| self.work());
    }
}
