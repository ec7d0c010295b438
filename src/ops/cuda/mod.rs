//! What the CUDA sides of several ops share.

pub(super) mod channel_tiles;
pub(super) mod partial_sums;
pub(super) mod sums;

use crate::kernel::Unsupported;
use crate::kernel::cuda::CudaCall;

/// Fails where an array of `len` elements is too large for 32-bit indices.
///
/// # Errors
/// From 2^32 elements on.
pub(crate) fn check_len(call: &CudaCall<'_>, len: usize) -> Result<(), Unsupported> {
    match u32::try_from(len) {
        Ok(_) => Ok(()),
        Err(_) => Err(call.unsupported("it takes arrays of less than 2^32 elements")),
    }
}
