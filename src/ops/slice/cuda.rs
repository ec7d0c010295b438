//! Launches `kernels/copy.cu`.

use super::{Pad, Slice};
use crate::kernel::Unsupported;
use crate::kernel::cuda::{CudaCall, CudaOperator, DevicePtr, Kernel, params::CopyParams};
use crate::ops::cuda::check_len;
use crate::ops::strides::{common_unit, narrow};

const THREADS: usize = 256;

/// A part of every row of a result; all in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    /// Where it comes from; null for zeros.
    pub x: DevicePtr,
    /// Its length in a row.
    pub bytes: usize,
    /// Length of a row of the source, and where in it the part starts.
    pub x_stride: usize,
    pub x_offset: usize,
}

/// Writes up to four parts, one behind the other, to each of `rows` rows of `stride` bytes of the result, from `offset` on.
pub(crate) fn copy_parts(
    call: &mut CudaCall<'_>,
    rows: usize,
    stride: usize,
    offset: usize,
    parts: &[Part],
) -> Result<(), Unsupported> {
    let width: usize = parts.iter().map(|part| part.bytes).sum();
    let extents = parts
        .iter()
        .flat_map(|part| [part.bytes, part.x_stride, part.x_offset]);
    let unit = common_unit(extents.chain([stride, offset]));
    let units = |bytes: usize| narrow(bytes / unit);
    check_len(call, rows * width / unit)?;
    let mut params = CopyParams {
        x: [DevicePtr::NULL; 4],
        y: call.output(0),
        outer: narrow(rows),
        width: units(width),
        y_stride: units(stride),
        y_offset: units(offset),
        // Parts that do not exist begin beyond the row.
        ends: [units(width); 4],
        x_strides: [0; 4],
        x_offsets: [0; 4],
    };
    let mut end = 0;
    for (k, part) in parts.iter().enumerate() {
        end += part.bytes;
        params.x[k] = part.x;
        params.ends[k] = units(end);
        params.x_strides[k] = units(part.x_stride);
        params.x_offsets[k] = units(part.x_offset);
    }
    let entry = match unit {
        16 => "copy_16",
        8 => "copy_8",
        4 => "copy_4",
        _ => "copy_2",
    };
    let blocks = (rows * width / unit).div_ceil(THREADS);
    let kernel = Kernel::new("copy.cu", entry);
    call.launch(kernel, [blocks, 1, 1], [THREADS, 1, 1], 0, &params);
    Ok(())
}

impl CudaOperator for Slice {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let (x, y) = (call.in_type(0), call.out_type(0));
        let rows: usize = x.shape[..self.axis].iter().product();
        let step = x.bytes() / (rows * x.shape[self.axis]).max(1);
        let part = Part {
            x: call.input(0),
            bytes: y.bytes() / rows.max(1),
            x_stride: x.bytes() / rows.max(1),
            x_offset: self.start * step,
        };
        copy_parts(call, rows, part.bytes, 0, &[part])
    }
}

impl CudaOperator for Pad {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let (x, y) = (call.in_type(0), call.out_type(0));
        let rows: usize = y.shape[..self.axis].iter().product();
        let step = y.bytes() / (rows * y.shape[self.axis]).max(1);
        let zeros = |count: usize| Part {
            x: DevicePtr::NULL,
            bytes: count * step,
            x_stride: 0,
            x_offset: 0,
        };
        let bytes = x.bytes() / rows.max(1);
        let middle = Part {
            x: call.input(0),
            bytes,
            x_stride: bytes,
            x_offset: 0,
        };
        let stride = y.bytes() / rows.max(1);
        let parts = [zeros(self.before), middle, zeros(self.after)];
        copy_parts(call, rows, stride, 0, &parts)
    }
}
