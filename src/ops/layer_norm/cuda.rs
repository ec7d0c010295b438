//! Launches `kernels/layer_norm.cu`.

use super::{LayerNorm, LayerNormInputGrad, LayerNormParamGrad};
use crate::graph::TensorType;
use crate::kernel::Unsupported;
use crate::kernel::cuda::params::{
    LayerNormInputGradParams, LayerNormMomentsParams, LayerNormParamGradParams, LayerNormParams,
};
use crate::kernel::cuda::{CudaCall, CudaOperator, Kernel, Target, element};
use crate::ops::cuda::channel_tiles::{ChannelTiles, vector};
use crate::ops::cuda::partial_sums::partial_sums;

/// Rows per block: a warp for each.
const ROWS: usize = 8;
const THREADS: usize = 32 * ROWS;

fn kernel(entry: &'static str, x: &TensorType) -> Kernel {
    Kernel::new("layer_norm.cu", entry)
        .with("T", element(x.dtype))
        .with("V", vector(x, x.channels()))
}

fn grid(x: &TensorType) -> [usize; 3] {
    [x.rows().div_ceil(ROWS), 1, 1]
}

impl CudaOperator for LayerNorm {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let x = call.in_type(0).clone();
        let params = LayerNormParams {
            x: call.input(0),
            gamma: call.input(1),
            beta: call.input(2),
            y: call.output(0),
            rows: x.rows() as i32,
            channels: x.channels() as i32,
            eps: self.eps,
        };
        call.launch(
            kernel("layer_norm", &x),
            grid(&x),
            [THREADS, 1, 1],
            0,
            &params,
        );
        Ok(())
    }
}

impl CudaOperator for LayerNormInputGrad {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let x = call.in_type(0).clone();
        let params = LayerNormInputGradParams {
            x: call.input(0),
            gamma: call.input(1),
            dy: call.input(2),
            dx: call.output(0),
            rows: x.rows() as i32,
            channels: x.channels() as i32,
            eps: self.eps,
        };
        let kernel = kernel("layer_norm_input_grad", &x);
        call.launch(kernel, grid(&x), [THREADS, 1, 1], 0, &params);
        Ok(())
    }
}

/// The rows as the positions of one sample.
fn tiles(x: &TensorType) -> ChannelTiles {
    let rows = TensorType::new([1, x.rows(), x.channels()], x.dtype);
    ChannelTiles::of_sectors(&rows).for_reduction()
}

impl CudaOperator for LayerNormParamGrad {
    /// Sums of slabs, then the moments of the rows.
    fn workspace_bytes(&self, inputs: &[TensorType], _: &[TensorType], _: &Target) -> usize {
        let tiles = tiles(&inputs[0]);
        (tiles.slabs * tiles.channels).next_multiple_of(2) * size_of::<f32>()
            + inputs[0].rows() * 2 * size_of::<f32>()
    }

    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let x = call.in_type(0).clone();
        let tiles = tiles(&x);
        let partials = call.workspace();
        // Pairs of floats are aligned to 8 bytes.
        let sums = (tiles.slabs * tiles.channels).next_multiple_of(2);
        let moments = partials.add(sums * size_of::<f32>());
        let params = LayerNormMomentsParams {
            x: call.input(0),
            moments,
            rows: x.rows() as i32,
            channels: x.channels() as i32,
            eps: self.eps,
        };
        let kernel_of = |entry| kernel(entry, &x);
        let block = [THREADS, 1, 1];
        call.launch(kernel_of("layer_norm_moments"), grid(&x), block, 0, &params);

        let params = LayerNormParamGradParams {
            x: call.input(0),
            dy: call.input(1),
            moments,
            sums: if tiles.slabs == 1 {
                call.output(0)
            } else {
                partials
            },
            rows: x.rows() as i32,
            channels: x.channels() as i32,
            columns: tiles.columns as i32,
            lanes: tiles.lanes as i32,
            slab: tiles.slab as i32,
        };
        let kernel = kernel_of("layer_norm_param_grad");
        call.launch(kernel, tiles.grid(), tiles.block(), 0, &params);
        if tiles.slabs > 1 {
            let result = call.output(0);
            partial_sums(call, &[result], tiles.channels, tiles.slabs);
        }
        Ok(())
    }
}
