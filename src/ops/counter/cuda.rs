//! Launches `kernels/counter.cu`.

use super::Increment;
use crate::kernel::Unsupported;
use crate::kernel::cuda::{CudaCall, CudaOperator, DevicePtr, Kernel, params::IncrementParams};

impl CudaOperator for Increment {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let params = IncrementParams {
            counter: call.input(0),
            gate: match self.gated {
                true => call.input(1),
                false => DevicePtr::NULL,
            },
        };
        let kernel = Kernel::new("counter.cu", "increment");
        call.launch(kernel, [1, 1, 1], [1, 1, 1], 0, &params);
        Ok(())
    }
}
