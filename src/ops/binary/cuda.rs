//! Launches `kernels/binary.cu`.

use super::Binary;
use crate::kernel::Unsupported;
use crate::kernel::cuda::{CudaCall, CudaOperator, Kernel, element, params::BinaryParams};
use crate::ops::cuda::check_len;
use crate::ops::strides::{broadcast_strides, merged_axes, narrow};

const THREADS: usize = 256;
/// Axes that the kernels take.
const AXES: usize = 5;

impl CudaOperator for Binary {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let (a, b, y) = (call.in_type(0), call.in_type(1), call.out_type(0));
        let count = y.len();
        check_len(call, count)?;
        let axes = merged_axes(
            &y.shape,
            [
                &broadcast_strides(&a.shape, &y.shape),
                &broadcast_strides(&b.shape, &y.shape),
            ],
        );
        if axes.len() > AXES {
            return Err(call.unsupported(format!(
                "{:?} and {:?} repeat along too many different axes",
                a.shape, b.shape
            )));
        }
        let vector = 16 / y.dtype.size_bytes();
        let (entry, per_thread) = if a.len() == count && b.len() == count {
            ("binary_same", vector)
        } else if axes[0].extent.is_multiple_of(vector) {
            ("binary_broadcast", vector)
        } else {
            ("binary_broadcast_any", 1)
        };
        let mut params = BinaryParams {
            a: call.input(0),
            b: call.input(1),
            y: call.output(0),
            count: narrow(count),
            operation: match self {
                Binary::Add => 0,
                Binary::Sub => 1,
                Binary::Mul => 2,
                Binary::Div => 3,
            },
            axes: axes.len() as i32,
            extents: [1; AXES],
            a_strides: [0; AXES],
            b_strides: [0; AXES],
        };
        for (i, axis) in axes.iter().enumerate() {
            params.extents[i] = narrow(axis.extent);
            params.a_strides[i] = narrow(axis.strides[0]);
            params.b_strides[i] = narrow(axis.strides[1]);
        }
        let kernel = Kernel::new("binary.cu", entry).with("T", element(y.dtype));
        let grid = count.div_ceil(THREADS * per_thread);
        call.launch(kernel, [grid, 1, 1], [THREADS, 1, 1], 0, &params);
        Ok(())
    }
}
