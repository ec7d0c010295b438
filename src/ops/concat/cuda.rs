//! Launches `kernels/copy.cu`, which takes four operands at a time.

use super::Concat;
use crate::kernel::Unsupported;
use crate::kernel::cuda::{CudaCall, CudaOperator};
use crate::ops::slice::{Part, copy_parts};

impl CudaOperator for Concat {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let y = call.out_type(0);
        let rows: usize = y.shape[..self.axis].iter().product();
        let row_bytes = y.bytes() / rows.max(1);
        let parts: Vec<Part> = (0..call.input_count())
            .map(|index| {
                let bytes = call.in_type(index).bytes() / rows.max(1);
                Part {
                    x: call.input(index),
                    bytes,
                    x_stride: bytes,
                    x_offset: 0,
                }
            })
            .collect();
        let mut offset = 0;
        for parts in parts.chunks(4) {
            copy_parts(call, rows, row_bytes, offset, parts)?;
            offset += parts.iter().map(|part| part.bytes).sum::<usize>();
        }
        Ok(())
    }
}
