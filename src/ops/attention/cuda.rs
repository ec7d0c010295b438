//! Launches `kernels/attention.cu`, or, for f16 and bf16 where heads suit them, `kernels/attention_tensor.cu`.

use super::{Attention, AttentionGrad};
use crate::device::DeviceError;
use crate::device::cuda::params::{AttentionGradParams, AttentionParams, AttentionTensorParams};
use crate::device::cuda::{CudaCall, CudaOperator, Kernel, Target, element};
use crate::graph::TensorType;
use crate::ops::channel_tiles::vector;
use crate::tensor::DType;

const THREADS: usize = 256;
const TENSOR_THREADS: usize = 128;
/// Queries of a block on tensor cores, and keys of a block of keys.
const TENSOR_ROWS: usize = 64;
/// Widest head that keeps a warp's results in registers.
const TENSOR_WIDEST_HEAD: usize = 128;
/// Widest head whose tiles fit shared memory.
const WIDEST_HEAD: usize = 256;

/// Extents of a call, and the tiles that the kernels take for them.
struct Extents {
    samples: usize,
    queries: usize,
    keys: usize,
    heads: usize,
    /// Channels of a head.
    d: usize,
    /// `d` padded as the tiles are.
    padded: usize,
}

impl Extents {
    fn of(q: &TensorType, k: &TensorType, heads: usize) -> Self {
        let d = q.channels() / heads;
        Self {
            samples: q.shape[0],
            queries: q.shape[1],
            keys: k.shape[1],
            heads,
            d,
            padded: d.next_multiple_of(16),
        }
    }

    fn call(call: &CudaCall<'_>, heads: usize) -> Result<Self, DeviceError> {
        let extents = Self::of(call.in_type(0), call.in_type(1), heads);
        if extents.d > WIDEST_HEAD {
            let d = extents.d;
            let why = format!("heads of {d} channels are wider than {WIDEST_HEAD}");
            return Err(call.unsupported(why));
        }
        Ok(extents)
    }

    fn kernel(&self, entry: &'static str, q: &TensorType) -> Kernel {
        Kernel::new("attention.cu", entry)
            .with("T", element(q.dtype))
            .with("V", vector(q, self.d))
            .with("D", self.padded)
    }

    /// Whether rows of a head are whole 16-byte pieces of a type that tensor cores multiply.
    fn for_tensor_cores(&self, q: &TensorType) -> bool {
        q.dtype != DType::F32 && self.d.is_multiple_of(8) && self.d <= TENSOR_WIDEST_HEAD
    }

    /// Rows of a tile of the forward kernel.
    fn side(&self) -> usize {
        match self.padded {
            ..=64 => 64,
            65..=128 => 32,
            _ => 16,
        }
    }

    /// Rows of a tile of the backward kernels.
    fn grad_side(&self) -> usize {
        self.side().min(32)
    }

    /// Bytes of `tiles` tiles of rows and `squares` of scores, all of `side` rows.
    fn shared_bytes(&self, side: usize, tiles: usize, squares: usize) -> usize {
        size_of::<f32>() * side * (tiles * (self.padded + 4) + squares * (side + 4))
    }

    fn grid(&self, rows: usize, side: usize) -> [usize; 3] {
        [rows.div_ceil(side), self.heads, self.samples]
    }
}

impl Attention {
    fn launch_tensor(&self, call: &mut CudaCall<'_>, e: &Extents) {
        let params = AttentionTensorParams {
            q: call.input(0),
            k: call.input(1),
            v: call.input(2),
            y: call.output(0),
            lse: call.output(1),
            queries: e.queries as i32,
            keys: e.keys as i32,
            heads: e.heads as i32,
            d: e.d as i32,
            scale: self.scale,
        };
        let kernel = Kernel::new("attention_tensor.cu", "attention_tensor")
            .with("T", element(call.in_type(0).dtype))
            .with("D", e.padded);
        // A block of keys and one of values; see the kernel for the distance between rows.
        let shared = 2 * TENSOR_ROWS * (e.padded + 8) * call.in_type(0).dtype.size_bytes();
        let grid = e.grid(e.queries, TENSOR_ROWS);
        call.launch(kernel, grid, [TENSOR_THREADS, 1, 1], shared, &params);
    }
}

impl CudaOperator for Attention {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), DeviceError> {
        let e = Extents::call(call, self.heads)?;
        if e.for_tensor_cores(call.in_type(0)) {
            self.launch_tensor(call, &e);
            return Ok(());
        }
        let params = AttentionParams {
            q: call.input(0),
            k: call.input(1),
            v: call.input(2),
            y: call.output(0),
            lse: call.output(1),
            queries: e.queries as i32,
            keys: e.keys as i32,
            heads: e.heads as i32,
            d: e.d as i32,
            scale: self.scale,
        };
        let side = e.side();
        let kernel = e.kernel("attention", call.in_type(0));
        let shared = e.shared_bytes(side, 2, 1);
        call.launch(kernel, e.grid(e.queries, side), [THREADS, 1, 1], shared, &params);
        Ok(())
    }
}

impl CudaOperator for AttentionGrad {
    /// A mean for each query and head.
    fn workspace_bytes(&self, inputs: &[TensorType], _: &[TensorType], _: &Target) -> usize {
        inputs[4].bytes()
    }

    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), DeviceError> {
        let e = Extents::call(call, self.heads)?;
        let params = AttentionGradParams {
            q: call.input(0),
            k: call.input(1),
            v: call.input(2),
            y: call.input(3),
            lse: call.input(4),
            dy: call.input(5),
            means: call.workspace(),
            dq: call.output(0),
            dk: call.output(1),
            dv: call.output(2),
            queries: e.queries as i32,
            keys: e.keys as i32,
            heads: e.heads as i32,
            d: e.d as i32,
            scale: self.scale,
        };
        let side = e.grad_side();
        for (entry, rows, squares) in [
            ("attention_grad_queries", e.queries, 1),
            ("attention_grad_keys", e.keys, 2),
        ] {
            let kernel = e.kernel(entry, call.in_type(0));
            let shared = e.shared_bytes(side, 4, squares);
            call.launch(kernel, e.grid(rows, side), [THREADS, 1, 1], shared, &params);
        }
        Ok(())
    }
}
