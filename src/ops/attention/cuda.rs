//! Launches `kernels/attention.cu`, or `attention_tensor.cu` and `attention_tensor_grad.cu` for f16 and bf16 where the
//! heads' extents suit them.

use super::{Attention, AttentionGrad};
use crate::graph::TensorType;
use crate::kernel::Unsupported;
use crate::kernel::cuda::params::{AttentionGradParams, AttentionParams};
use crate::kernel::cuda::work::{sectors, wavefronts};
use crate::kernel::cuda::{CudaCall, CudaOperator, Kernel, LaunchWork, Target, element};
use crate::ops::cuda::channel_tiles::vector;
use crate::tensor::DType;

const THREADS: usize = 256;
const TENSOR_THREADS: usize = 128;
/// Rows that a block on tensor cores owns.
const TENSOR_ROWS: usize = 64;
/// Queries of a step of `attention_tensor_grad_keys`.
const TENSOR_STEP: usize = 32;
const TENSOR_ELEMENT_BYTES: usize = 2;
/// Widest head that keeps a warp's results in registers.
const TENSOR_WIDEST_HEAD: usize = 128;
/// Widest head whose tiles fit shared memory.
const WIDEST_HEAD: usize = 256;

/// Extents of a call, and the tiles that the kernels take for them.
struct TiledExtents {
    samples: usize,
    queries: usize,
    keys: usize,
    heads: usize,
    /// Channels of a head.
    d: usize,
    /// `d` padded as the tiles are.
    padded: usize,
}

impl TiledExtents {
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

    fn call(call: &CudaCall<'_>, heads: usize) -> Result<Self, Unsupported> {
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

    /// Whether tensor cores multiply the type, and a head's rows are whole chunks of 16 bytes.
    fn for_tensor_cores(&self, q: &TensorType) -> bool {
        q.dtype != DType::F32 && self.d.is_multiple_of(8) && self.d <= TENSOR_WIDEST_HEAD
    }

    fn tensor_kernel(&self, file: &'static str, entry: &'static str, q: &TensorType) -> Kernel {
        Kernel::new(file, entry)
            .with("T", element(q.dtype))
            .with("D", self.padded)
    }

    /// Bytes of `rows` rows in the shared memory of a kernel on tensor cores, which pads each by 16 bytes.
    fn tensor_bytes(&self, rows: usize) -> usize {
        rows * (self.padded * TENSOR_ELEMENT_BYTES + 16)
    }

    /// What the launch of `attention_tensor` does.
    fn tensor_work(&self) -> LaunchWork {
        const WARPS: u64 = (TENSOR_THREADS / 32) as u64;
        const LDMATRIX_WAVEFRONTS: u64 = 4;
        let tile = TENSOR_ROWS * self.padded * TENSOR_ELEMENT_BYTES;
        let operand =
            |rows: usize| self.samples * rows * self.heads * self.d * TENSOR_ELEMENT_BYTES;
        let blocks_of_queries = self.queries.div_ceil(TENSOR_ROWS);
        let steps = self.keys.div_ceil(TENSOR_ROWS) as u64;
        let blocks = (blocks_of_queries * self.heads * self.samples) as u64;
        // Fragments of 16 × 16 of a tile; each is one ldmatrix and two products, once of keys and once of values.
        let fragments = (TENSOR_ROWS / 16 * (self.padded / 16)) as u64;
        let ldmatrix = blocks * WARPS * ((self.padded / 16) as u64 + 2 * steps * fragments);
        let copies = blocks * (1 + 2 * steps);
        let mma = blocks * WARPS * steps * 4 * fragments;
        // Of each score a maximum, a scale, an exponential, a sum and half a conversion; of each sum a product.
        let scores =
            blocks * WARPS * steps * (TENSOR_ROWS as u64 / 8 * 4 * 5 + self.padded as u64 / 8 * 4);
        let lse = self.samples * self.heads * self.queries * size_of::<f32>();
        let (queries, keys) = (operand(self.queries), operand(self.keys));
        LaunchWork {
            stated: true,
            blocks,
            mma,
            mma_half: 0,
            instructions: mma + ldmatrix + copies * (tile / 512) as u64 + scores,
            shared_wavefronts: ldmatrix * LDMATRIX_WAVEFRONTS + copies * wavefronts(tile),
            load_sectors: sectors(queries) + 2 * blocks_of_queries as u64 * sectors(keys),
            store_sectors: sectors(queries) + sectors(lse),
            dram_bytes: (2 * queries + 2 * keys + lse) as u64,
            barriers: blocks * WARPS * (1 + 2 * steps),
            steps,
        }
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

    /// Bytes of `tiles` tiles of rows and `squares` tiles of scores, all of `side` rows.
    fn shared_bytes(&self, side: usize, tiles: usize, squares: usize) -> usize {
        size_of::<f32>() * side * (tiles * (self.padded + 4) + squares * (side + 4))
    }

    fn grid(&self, rows: usize, side: usize) -> [usize; 3] {
        [rows.div_ceil(side), self.heads, self.samples]
    }
}

impl CudaOperator for Attention {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let e = TiledExtents::call(call, self.heads)?;
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
        let q = call.in_type(0);
        if e.for_tensor_cores(q) {
            let kernel = e.tensor_kernel("attention_tensor.cu", "attention_tensor", q);
            let (grid, block) = (e.grid(e.queries, TENSOR_ROWS), [TENSOR_THREADS, 1, 1]);
            // A block of keys and one of values.
            let shared = e.tensor_bytes(2 * TENSOR_ROWS);
            call.launch(kernel, grid, block, shared, &params)
                .doing(|| e.tensor_work());
            return Ok(());
        }
        let side = e.side();
        let (kernel, shared) = (e.kernel("attention", q), e.shared_bytes(side, 2, 1));
        call.launch(
            kernel,
            e.grid(e.queries, side),
            [THREADS, 1, 1],
            shared,
            &params,
        );
        Ok(())
    }
}

impl CudaOperator for AttentionGrad {
    /// A mean for each query and head.
    fn workspace_bytes(&self, inputs: &[TensorType], _: &[TensorType], _: &Target) -> usize {
        inputs[4].bytes()
    }

    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let e = TiledExtents::call(call, self.heads)?;
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
        if e.for_tensor_cores(call.in_type(0)) {
            // Keys and values; in the second kernel the queries and dy of a step too.
            for (entry, rows, tile_rows) in [
                ("attention_tensor_grad_queries", e.queries, 2 * TENSOR_ROWS),
                (
                    "attention_tensor_grad_keys",
                    e.keys,
                    2 * TENSOR_ROWS + 2 * TENSOR_STEP,
                ),
            ] {
                let kernel = e.tensor_kernel("attention_tensor_grad.cu", entry, call.in_type(0));
                let (grid, block) = (e.grid(rows, TENSOR_ROWS), [TENSOR_THREADS, 1, 1]);
                call.launch(kernel, grid, block, e.tensor_bytes(tile_rows), &params);
            }
            return Ok(());
        }
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
