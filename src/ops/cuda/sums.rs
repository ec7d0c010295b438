//! Launches of `kernels/common/sums.cuh`: losses are summed in two passes of fixed order.

use crate::kernel::cuda::{CudaCall, DevicePtr, Kernel, params::SumPartialsParams};

/// Threads of a block of the first pass.
pub(in crate::ops) const THREADS: usize = 256;
/// Terms of a block of the first pass.
const CHUNK: usize = 4096;

/// Partial sums of `count` terms.
pub(in crate::ops) fn partials(count: usize) -> usize {
    count.div_ceil(CHUNK)
}

/// Workspace of `count` partial sums.
pub(in crate::ops) fn partial_bytes(count: usize) -> usize {
    count * size_of::<f64>()
}

/// Result `rows` of the step: `factor` times the sum of each row's partial sums in the workspace, by the kernel that
/// `file` includes.
pub(in crate::ops) fn finish(
    call: &mut CudaCall<'_>,
    file: &'static str,
    rows: usize,
    count: usize,
    factor: f64,
) {
    let params = SumPartialsParams {
        partials: call.workspace(),
        y: call.output(0),
        factor,
        count: count as u32,
    };
    call.launch(
        Kernel::new(file, "sum_partials"),
        [rows, 1, 1],
        [THREADS, 1, 1],
        0,
        &params,
    );
}

/// Blocks of `per_block` elements that cover `count`, as a grid of one axis.
pub(in crate::ops) fn grid(count: usize, per_block: usize) -> [usize; 3] {
    [count.div_ceil(per_block), 1, 1]
}

/// A block of one axis.
pub(in crate::ops) const BLOCK: [usize; 3] = [THREADS, 1, 1];

/// No operand.
pub(in crate::ops) const NONE: DevicePtr = DevicePtr::NULL;
