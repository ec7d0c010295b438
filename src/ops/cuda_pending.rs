//! Ops without a CUDA kernel yet; a line goes when the op's `cuda.rs` comes.

use super::*;
use crate::device::DeviceError;
use crate::device::cuda::{CudaCall, CudaOperator};

macro_rules! pending {
    ($($op:ident),+ $(,)?) => {
        $(impl CudaOperator for $op {
            fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), DeviceError> {
                Err(call.unsupported("there is no kernel for it yet"))
            }
        })+
    };
}

// Family: norms and attention.
//
// Each op leaves this list when it has a kernel.
//
pending! {
    Attention,
    AttentionGrad,
    GroupNorm,
    GroupNormGradSums,
    GroupNormInputGrad,
    GroupNormStats,
    LayerNorm,
    LayerNormInputGrad,
    LayerNormParamGrad,
    Softmax,
    SoftmaxGrad,
    Embedding,
    EmbeddingGrad,
}
//
//

// Family: losses and updates.
//
// Each op leaves this list when it has a kernel.
//
pending! {
    Accumulate,
    Adam,
    Ema,
    GlobalNorm,
    AddNoise,
    VarianceLoss,
    VarianceLossGrad,
    GaussianKl,
    GaussianKlGrad,
    Reparameterize,
    ReparameterizeGrad,
    PixelLoss,
    PixelLossGrad,
    Ssim,
    SsimGrad,
    FeatureDistance,
    FeatureDistanceGrad,
    CrossEntropy,
    CrossEntropyGrad,
}
//
//
