//! Launches `kernels/embedding.cu`.

use super::{Embedding, EmbeddingGrad};
use crate::kernel::Unsupported;
use crate::kernel::cuda::params::{EmbeddingGradParams, EmbeddingParams};
use crate::kernel::cuda::{CudaCall, CudaOperator, Kernel};

const THREADS: usize = 256;

impl CudaOperator for Embedding {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let (rows, channels) = (call.in_type(0).shape[0], call.in_type(0).channels());
        let count = call.in_type(1).len();
        let params = EmbeddingParams {
            table: call.input(0),
            index: call.input(1),
            y: call.output(0),
            rows: rows as i32,
            channels: channels as i32,
        };
        let kernel = Kernel::new("embedding.cu", "embedding");
        let grid = [channels.div_ceil(THREADS), count, 1];
        call.launch(kernel, grid, [THREADS, 1, 1], 0, &params);
        Ok(())
    }
}

impl CudaOperator for EmbeddingGrad {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let (count, channels) = (call.in_type(0).len(), call.in_type(1).channels());
        let params = EmbeddingGradParams {
            index: call.input(0),
            dy: call.input(1),
            table: call.output(0),
            count: count as i32,
            channels: channels as i32,
        };
        let kernel = Kernel::new("embedding.cu", "embedding_grad");
        let grid = [channels.div_ceil(THREADS), self.rows, 1];
        call.launch(kernel, grid, [THREADS, 1, 1], 0, &params);
        Ok(())
    }
}
