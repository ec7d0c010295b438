//! Launches `kernels/loss_scale.cu`.

use super::LossScale;
use crate::kernel::Unsupported;
use crate::kernel::cuda::{CudaCall, CudaOperator, DevicePtr, Kernel, params::LossScaleParams};

impl CudaOperator for LossScale {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let params = LossScaleParams {
            scale: call.input(0),
            good: call.input(1),
            finite: call.input(2),
            gate: match self.gated {
                true => call.input(3),
                false => DevicePtr::NULL,
            },
            overflow: call.output(0),
            interval: self.interval,
            largest: Self::LARGEST,
        };
        let kernel = Kernel::new("loss_scale.cu", "loss_scale");
        call.launch(kernel, [1, 1, 1], [1, 1, 1], 0, &params);
        Ok(())
    }
}
