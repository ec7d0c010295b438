//! Launches `kernels/accumulate.cu`: one launch for all sums of a pass.

use super::Accumulate;
use crate::kernel::Unsupported;
use crate::kernel::cuda::{CudaCall, CudaOperand, CudaOperator, Kernel, params::AccumulateParams};
use crate::ops::optimizer::cuda::{table, updates};

const THREADS: usize = 256;
/// Arrays of a step: sum and addend.
const ARRAYS: usize = 2;

impl CudaOperator for Accumulate {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let step = call.inputs().to_vec();
        self.launch_multi_tensor(call, &[step])
    }

    fn shared_inputs(&self) -> Option<Vec<usize>> {
        Some(vec![ARRAYS])
    }

    fn launch_multi_tensor(
        &self,
        call: &mut CudaCall<'_>,
        steps: &[Vec<CudaOperand>],
    ) -> Result<(), Unsupported> {
        let (chunks, rows) = table(call, steps, ARRAYS);
        let params = AccumulateParams {
            chunks,
            keep: call.input(ARRAYS),
            factor: self.factor,
        };
        let kernel = Kernel::new("accumulate.cu", "accumulate");
        call.launch(kernel, [rows, 1, 1], [THREADS, 1, 1], 0, &params)
            .doing(|| updates(steps, rows, ARRAYS, 1));
        Ok(())
    }
}
