//! Launches `kernels/cast.cu`.

use super::Cast;
use crate::kernel::Unsupported;
use crate::kernel::cuda::{CudaCall, CudaOperator, Kernel, element, params::CastParams};

const THREADS: usize = 256;
/// Elements per thread: one 16-byte access on the wider side.
const PER_THREAD: usize = 4;

impl CudaOperator for Cast {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let (from, to) = (call.in_type(0).dtype, call.out_type(0).dtype);
        let count = call.in_type(0).len();
        let params = CastParams {
            x: call.input(0),
            y: call.output(0),
            count: count as u64,
        };
        let kernel = Kernel::new("cast.cu", "cast")
            .with("FROM", element(from))
            .with("TO", element(to));
        call.launch(
            kernel,
            [count.div_ceil(THREADS * PER_THREAD), 1, 1],
            [THREADS, 1, 1],
            0,
            &params,
        );
        Ok(())
    }
}
