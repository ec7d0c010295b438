//! Launches `kernels/global_norm.cu`: one pass over all arrays, and one block that adds the partial sums.

use super::GlobalNorm;
use crate::graph::TensorType;
use crate::kernel::Unsupported;
use crate::kernel::cuda::{
    Chunks, CudaCall, CudaOperator, DevicePtr, Kernel, LaunchWork, Target,
    params::{FinishNormParams, SumSquaresParams},
};

const THREADS: usize = 256;
const FINISH_THREADS: usize = 1024;

impl GlobalNorm {
    /// Arrays among `inputs` inputs.
    fn arrays(&self, inputs: usize) -> usize {
        inputs - usize::from(self.scaled)
    }
}

impl CudaOperator for GlobalNorm {
    fn workspace_bytes(&self, inputs: &[TensorType], _: &[TensorType], target: &Target) -> usize {
        let arrays = &inputs[..self.arrays(inputs.len())];
        size_of::<f64>() * Chunks::count(arrays.iter().map(TensorType::len), target)
    }

    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let arrays = self.arrays(call.input_count());
        let entries: Vec<_> = call.inputs()[..arrays]
            .iter()
            .map(|operand| (vec![operand.at], operand.ty.len()))
            .collect();
        let chunks = Chunks::new(&entries, call.target());
        let squares = SumSquaresParams {
            chunks: call.table(&chunks.words),
            partials: call.workspace(),
        };
        let kernel = Kernel::new("global_norm.cu", "sum_squares");
        call.launch(kernel, [chunks.rows(), 1, 1], [THREADS, 1, 1], 0, &squares);
        let finish = FinishNormParams {
            partials: call.workspace(),
            first: call.table(&chunks.first),
            norm: call.output(0),
            clip: call.output(1),
            finite: call.output(2),
            each: call.output(3),
            scale: match self.scaled {
                true => call.input(arrays),
                false => DevicePtr::NULL,
            },
            arrays: arrays as i32,
            max_norm: self.max_norm,
        };
        let kernel = Kernel::new("global_norm.cu", "finish_norm");
        let partials = chunks.rows() * size_of::<f64>();
        call.launch(kernel, [1, 1, 1], [FINISH_THREADS, 1, 1], 0, &finish)
            .doing(|| LaunchWork::of_bytes(1, partials, arrays * size_of::<f32>()));
        Ok(())
    }
}
