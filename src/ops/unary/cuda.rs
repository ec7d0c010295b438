//! Launches `kernels/unary.cu`.

use super::{Unary, UnaryGrad};
use crate::kernel::Unsupported;
use crate::kernel::cuda::{
    CudaCall, CudaOperator, DevicePtr, Kernel, element, params::UnaryParams,
};

const THREADS: usize = 256;

impl Unary {
    /// The kernels' name of the function, and its constants.
    fn function(self) -> (&'static str, [f32; 2]) {
        match self {
            Unary::Swish => ("Swish", [0.0; 2]),
            Unary::Gelu => ("Gelu", [0.0; 2]),
            Unary::Relu => ("Relu", [0.0; 2]),
            Unary::Exp => ("Exp", [0.0; 2]),
            Unary::Abs => ("Abs", [0.0; 2]),
            Unary::Square => ("Square", [0.0; 2]),
            Unary::Affine { scale, shift } => ("Affine", [scale, shift]),
            Unary::Clamp { low, high } => ("Clamp", [low, high]),
        }
    }

    fn launch_entry(self, call: &mut CudaCall<'_>, entry: &'static str, dy: DevicePtr) {
        let x = call.in_type(0);
        let (function, constants) = self.function();
        let kernel = Kernel::new("unary.cu", entry)
            .with("T", element(x.dtype))
            .with("FUNCTION", function);
        let per_block = THREADS * 16 / x.dtype.size_bytes();
        let params = UnaryParams {
            x: call.input(0),
            dy,
            y: call.output(0),
            count: x.len() as u64,
            constants,
        };
        let grid = x.len().div_ceil(per_block);
        call.launch(kernel, [grid, 1, 1], [THREADS, 1, 1], 0, &params);
    }
}

impl CudaOperator for Unary {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        self.launch_entry(call, "unary", DevicePtr::NULL);
        Ok(())
    }
}

impl CudaOperator for UnaryGrad {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        self.of.launch_entry(call, "unary_grad", call.input(1));
        Ok(())
    }
}
