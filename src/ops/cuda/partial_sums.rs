//! Launches `kernels/partial_sums.cu`, which adds the partial sums of many blocks.

use crate::kernel::cuda::params::PartialSumsParams;
use crate::kernel::cuda::{CudaCall, DevicePtr, Kernel, LaunchWork};

const THREADS: usize = 256;

/// Adds `slabs` partial results of `count` numbers each for each of `results`, at most two, from the workspace.
pub(in crate::ops) fn partial_sums(
    call: &mut CudaCall<'_>,
    results: &[DevicePtr],
    count: usize,
    slabs: usize,
) {
    let params = PartialSumsParams {
        partials: call.workspace(),
        first: results[0],
        second: results.get(1).copied().unwrap_or(DevicePtr::NULL),
        count: count as i32,
        results: results.len() as i32,
        slabs: slabs as i32,
    };
    let kernel = Kernel::new("partial_sums.cu", "partial_sums");
    let blocks = (results.len() * count).div_ceil(THREADS);
    let sums = results.len() * count * size_of::<f32>();
    call.launch(kernel, [blocks, 1, 1], [THREADS, 1, 1], 0, &params)
        .doing(|| LaunchWork::of_bytes(blocks as u64, slabs * sums, sums));
}
