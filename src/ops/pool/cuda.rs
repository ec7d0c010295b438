//! Launches `kernels/pool.cu`.

use super::{
    AdaptiveAvgPool, AdaptiveAvgPoolGrad, AvgPool, AvgPoolGrad, MaxPool, MaxPoolGrad, PoolWindows,
};
use crate::graph::TensorType;
use crate::kernel::Unsupported;
use crate::kernel::cuda::{CudaCall, CudaOperator, DevicePtr, Kernel, element, params::PoolParams};
use crate::ops::cuda::check_len;
use crate::ops::strides::narrow;

const THREADS: usize = 256;

/// Entries for channels in vectors of 16 bytes, and for any channels.
type Entries = [&'static str; 2];

/// One thread for some elements of `written`, the image or the result of pooling it.
struct Pooling<'a> {
    entries: Entries,
    windows: PoolWindows,
    count_padding: bool,
    image: &'a TensorType,
    pooled: &'a TensorType,
    written: &'a TensorType,
    x: DevicePtr,
    dy: DevicePtr,
}

impl Pooling<'_> {
    fn launch(self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let (image, pooled) = (&self.image.shape, &self.pooled.shape);
        for axis in [1, 2] {
            check_len(call, (image[axis] + 1) * (pooled[axis] + 1))?;
        }
        check_len(call, self.image.len())?;
        check_len(call, self.pooled.len())?;
        let channels = image[3];
        let vector = 16 / self.image.dtype.size_bytes();
        let (entry, vector) = match channels.is_multiple_of(vector) {
            true => (self.entries[0], vector),
            false => (self.entries[1], 1),
        };
        let (kernel, stride, padding) = match self.windows {
            PoolWindows::Fixed {
                kernel,
                stride,
                padding,
            } => (kernel, stride, padding),
            PoolWindows::Regions { .. } => (0, 0, 0),
        };
        let params = PoolParams {
            x: self.x,
            dy: self.dy,
            y: call.output(0),
            batch: narrow(image[0]),
            height: narrow(image[1]),
            width: narrow(image[2]),
            out_height: narrow(pooled[1]),
            out_width: narrow(pooled[2]),
            channels: narrow(channels / vector),
            kernel: narrow(kernel),
            stride: narrow(stride),
            padding: narrow(padding),
            count_padding: i32::from(self.count_padding),
        };
        let blocks = (self.written.len() / vector).div_ceil(THREADS);
        let kernel = Kernel::new("pool.cu", entry).with("T", element(self.image.dtype));
        call.launch(kernel, [blocks, 1, 1], [THREADS, 1, 1], 0, &params);
        Ok(())
    }
}

/// Launches `entries` from an image, input 0, to its pooled form.
fn forward(
    call: &mut CudaCall<'_>,
    entries: Entries,
    windows: PoolWindows,
    count_padding: bool,
) -> Result<(), Unsupported> {
    let (x, y) = (call.in_type(0).clone(), call.out_type(0).clone());
    Pooling {
        entries,
        windows,
        count_padding,
        image: &x,
        pooled: &y,
        written: &y,
        x: call.input(0),
        dy: DevicePtr::NULL,
    }
    .launch(call)
}

/// Launches `entries` from `dy`, the last input, to an image; the input before it, if any, is the image that was pooled.
fn backward(
    call: &mut CudaCall<'_>,
    entries: Entries,
    windows: PoolWindows,
    count_padding: bool,
) -> Result<(), Unsupported> {
    let last = call.input_count() - 1;
    let (dy, dx) = (call.in_type(last).clone(), call.out_type(0).clone());
    Pooling {
        entries,
        windows,
        count_padding,
        image: &dx,
        pooled: &dy,
        written: &dx,
        x: match last {
            0 => DevicePtr::NULL,
            _ => call.input(0),
        },
        dy: call.input(last),
    }
    .launch(call)
}

const REGIONS: PoolWindows = PoolWindows::Regions {
    input: [0; 2],
    output: [0; 2],
};

impl CudaOperator for AvgPool {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let entries = ["avg_pool", "avg_pool_any"];
        forward(call, entries, self.windows(), self.count_padding)
    }
}

impl CudaOperator for AvgPoolGrad {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let entries = ["avg_pool_grad", "avg_pool_grad_any"];
        backward(call, entries, self.pool.windows(), self.pool.count_padding)
    }
}

impl CudaOperator for AdaptiveAvgPool {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        forward(call, ["avg_pool", "avg_pool_any"], REGIONS, false)
    }
}

impl CudaOperator for AdaptiveAvgPoolGrad {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let entries = ["avg_pool_grad", "avg_pool_grad_any"];
        backward(call, entries, REGIONS, false)
    }
}

impl CudaOperator for MaxPool {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        forward(call, ["max_pool", "max_pool_any"], self.windows(), false)
    }
}

impl CudaOperator for MaxPoolGrad {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let entries = ["max_pool_grad", "max_pool_grad_any"];
        backward(call, entries, self.pool.windows(), false)
    }
}
