//! The vocabulary of the engine: one folder per op with its shape rule, cost and gradient
//! (`mod.rs`), its naive `f64` definition (`reference.rs`), its CPU kernel (`cpu.rs`) and tests.

mod cuda;
mod strides;

pub mod accumulate;
pub mod attention;
pub mod binary;
pub mod cast;
pub mod concat;
pub mod conv2d;
pub mod counter;
pub mod cross_entropy;
pub mod embedding;
pub mod feature_distance;
pub mod forward_process;
pub mod gaussian;
pub mod geglu;
pub mod global_norm;
pub mod group_norm;
pub mod layer_norm;
pub mod linear;
pub mod loss_scale;
pub mod optimizer;
pub mod philox_normal;
pub mod pixel_loss;
pub mod pool;
pub mod reshape;
pub mod resize;
pub mod sampler;
pub mod sinusoid;
pub mod slice;
pub mod softmax;
pub mod ssim;
pub mod sum_to;
pub mod table_gather;
pub mod table_row;
pub mod unary;

pub use accumulate::Accumulate;
pub use attention::{Attention, AttentionGrad};
pub use binary::Binary;
pub use cast::Cast;
pub use concat::Concat;
pub use conv2d::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad};
pub use counter::Increment;
pub use cross_entropy::{CrossEntropy, CrossEntropyGrad};
pub use embedding::{Embedding, EmbeddingGrad};
pub use feature_distance::{FeatureDistance, FeatureDistanceGrad};
pub use forward_process::{AddNoise, VarianceLoss, VarianceLossGrad};
pub use gaussian::{GaussianKl, GaussianKlGrad, Reparameterize, ReparameterizeGrad};
pub use geglu::{Geglu, GegluGrad};
pub use global_norm::GlobalNorm;
pub use group_norm::{GroupNorm, GroupNormGradSums, GroupNormInputGrad, GroupNormStats};
pub use layer_norm::{LayerNorm, LayerNormInputGrad, LayerNormParamGrad};
pub use linear::{Linear, LinearInputGrad, LinearWeightGrad};
pub use loss_scale::LossScale;
pub use optimizer::{Adam, Ema};
pub use philox_normal::PhiloxNormal;
pub use pixel_loss::{PixelLoss, PixelLossGrad};
pub use pool::{AdaptiveAvgPool, AdaptiveAvgPoolGrad, AvgPool, AvgPoolGrad, MaxPool, MaxPoolGrad};
pub use reshape::Reshape;
pub use resize::{ResizeNearest, ResizeNearestGrad, Upsample, UpsampleGrad};
pub use sampler::SamplerStep;
pub use sinusoid::Sinusoid;
pub use slice::{Pad, Slice};
pub use softmax::{Softmax, SoftmaxGrad};
pub use ssim::{Ssim, SsimGrad};
pub use sum_to::SumTo;
pub use table_gather::TableGather;
pub use table_row::TableRow;
pub use unary::{Unary, UnaryGrad};

pub(crate) use crate::graph::{Operator, PrecisionRule};
use crate::tensor::TensorType;

/// Extents of a float array of rank 4 without an empty axis: `[N,H,W,C]`, or a filter's.
pub(crate) fn nhwc(ty: &TensorType) -> Option<[usize; 4]> {
    let shape = <[usize; 4]>::try_from(ty.shape.as_slice()).ok()?;
    (ty.dtype.is_float() && !ty.is_empty()).then_some(shape)
}
