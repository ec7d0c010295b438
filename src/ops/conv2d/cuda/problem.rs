//! What an algorithm is asked to compute, and what it answers.

use crate::kernel::cuda::{CudaCall, Target};
use crate::ops::GroupNormStats;
use crate::ops::conv2d::geometry::ConvGeometry;
use crate::tensor::DType;

/// A convolution `y = w * x (+ bias) (+ residual)`, or the gradient of one. A linear map is the convolution of one row
/// of pixels with a kernel of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Problem {
    /// Extents and windows.
    pub geometry: ConvGeometry,
    /// Type of `x`, `y`, the residual and their gradients; filters, their gradients and the bias are f32.
    pub dtype: DType,
    /// Input 2 of the forward op is the bias.
    pub bias: bool,
    /// The last input of the forward op, or of the input's gradient, is the residual.
    pub residual: bool,
    /// Channels of the forward op's concatenated operand: the last ones of `x`, an input behind all others. 0 for none.
    pub concat_channels: usize,
    /// Statistics of the forward op's result, its second result.
    pub stats: Option<GroupNormStats>,
    /// The GPU that it is computed on.
    pub target: Target,
}

/// A chosen way to compute a problem, with tile and split-K decided.
///
/// Operands of the call: forward `x`, `w` (read packed), bias, residual → `y`; input gradient `dy`, `w` (read packed),
/// residual → `dx`; weight gradient `x`, `dy` → `dw`.
pub(crate) trait Algorithm {
    /// Scratch memory.
    fn workspace_bytes(&self) -> usize;

    /// Size of the packed filter; 0 for the weight gradient, which reads none.
    fn packed_bytes(&self) -> usize;

    /// Adds the job that packs the filter, input 1, into `call.packed()`.
    fn pack(&self, call: &mut CudaCall<'_>);

    /// Launches the kernels that compute the result.
    fn launch(&self, call: &mut CudaCall<'_>);

    /// Whether `launch` computes the statistics as well.
    fn leaves_statistics(&self) -> bool {
        false
    }
}
