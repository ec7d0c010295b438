//! The vocabulary of the engine: one folder per op with its shape rule, cost and gradient
//! (`mod.rs`), its naive `f64` definition (`reference.rs`), its CPU kernel (`cpu.rs`) and tests.

#[cfg(test)]
mod awkward;
mod channel_tiles;
mod partial_sums;
mod strides;
mod sums;
#[cfg(test)]
pub(crate) mod testing;

use std::fmt;

use crate::kernel::cpu::CpuOperator;
use crate::kernel::cuda::CudaOperator;
use crate::kernel::reference::ReferenceOperator;
pub(crate) use crate::graph::Storage;
use crate::graph::{Gradient, GraphError, Mismatch, TensorType, Value};

/// What the graph and the planner ask of an op.
pub trait Operator: fmt::Debug {
    /// The op's name as it appears in plans and errors, such as `conv2d`.
    fn name(&self) -> &'static str;

    /// Name and parameters on one line, for plans.
    fn describe(&self) -> String {
        self.name().to_owned()
    }

    /// Types of the results.
    ///
    /// # Errors
    /// What the op expects and what it was given.
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch>;

    /// Floating-point operations; a multiply-add counts as two, transcendental functions as one.
    fn flops(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64;

    /// Bytes that have to move at least: every operand once.
    fn bytes(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        let total: usize = inputs.iter().chain(outputs).map(TensorType::bytes).sum();
        total as u64
    }

    /// Adds the backward ops; one gradient per input, of the input's type or still to be summed to it over axes that
    /// the input is repeated along. The sums over leaves' gradients come last, so that devices can do them together;
    /// until then they take memory. `None` for the whole if the op has no gradient.
    ///
    /// # Errors
    /// If a backward op refuses its inputs.
    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError>;

    /// Pairs (result, operand) of the same size that may share memory when the operand dies.
    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }

    /// Operands that the op writes: state, parameters under an optimizer. Their previous values
    /// are gone for steps that follow, so update ops are added last.
    fn updates(&self) -> &'static [usize] {
        &[]
    }

    /// Which operands devices may store in reduced precision.
    fn storage(&self) -> Storage {
        Storage::Full
    }

    /// Whether devices can store `f32` results in reduced precision where whoever reads them takes them so.
    fn rounds(&self) -> bool {
        false
    }

    /// True if result 0 is operand 0's memory under another shape; such ops never run.
    fn is_view(&self) -> bool {
        false
    }
}

/// Declares the ops: modules, the [`Op`] enum, and its dispatch to the three traits of an op.
macro_rules! ops {
    ($($module:ident :: { $($op:ident),+ $(,)? }),+ $(,)?) => {
        $(pub mod $module; pub use $module::{$($op),+};)+

        /// Any op. A closed set, so that fusion can match on it and every device must know it.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Op { $($($op($op)),+),+ }

        impl Op {
            /// Shape rule, cost and gradient.
            pub fn operator(&self) -> &dyn Operator {
                match self { $($(Op::$op(op) => op),+),+ }
            }
            /// The CPU kernel.
            pub(crate) fn cpu(&self) -> &dyn CpuOperator {
                match self { $($(Op::$op(op) => op),+),+ }
            }
            /// The CUDA kernels.
            pub(crate) fn cuda(&self) -> &dyn CudaOperator {
                match self { $($(Op::$op(op) => op),+),+ }
            }
            /// The naive definition in `f64`.
            pub(crate) fn reference(&self) -> &dyn ReferenceOperator {
                match self { $($(Op::$op(op) => op),+),+ }
            }
        }

        $($(impl From<$op> for Op { fn from(op: $op) -> Self { Op::$op(op) } })+)+
    };
}

ops! {
    accumulate::{Accumulate},
    attention::{Attention, AttentionGrad},
    binary::{Binary},
    cast::{Cast},
    concat::{Concat},
    conv2d::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad},
    counter::{Increment},
    cross_entropy::{CrossEntropy, CrossEntropyGrad},
    embedding::{Embedding, EmbeddingGrad},
    feature_distance::{FeatureDistance, FeatureDistanceGrad},
    forward_process::{AddNoise, VarianceLoss, VarianceLossGrad},
    gaussian::{GaussianKl, GaussianKlGrad, Reparameterize, ReparameterizeGrad},
    geglu::{Geglu, GegluGrad},
    global_norm::{GlobalNorm},
    group_norm::{GroupNorm, GroupNormGradSums, GroupNormInputGrad, GroupNormStats},
    layer_norm::{LayerNorm, LayerNormInputGrad, LayerNormParamGrad},
    linear::{Linear, LinearInputGrad, LinearWeightGrad},
    loss_scale::{LossScale},
    optimizer::{Adam, Ema},
    philox_normal::{PhiloxNormal},
    pixel_loss::{PixelLoss, PixelLossGrad},
    pool::{AdaptiveAvgPool, AdaptiveAvgPoolGrad, AvgPool, AvgPoolGrad, MaxPool, MaxPoolGrad},
    reshape::{Reshape},
    resize::{ResizeNearest, ResizeNearestGrad, Upsample, UpsampleGrad},
    sampler::{SamplerStep},
    sinusoid::{Sinusoid},
    slice::{Pad, Slice},
    softmax::{Softmax, SoftmaxGrad},
    ssim::{Ssim, SsimGrad},
    sum_to::{SumTo},
    table_gather::{TableGather},
    table_row::{TableRow},
    unary::{Unary, UnaryGrad},
}

/// Extents of a float array of rank 4 without an empty axis: `[N,H,W,C]`, or a filter's.
pub(crate) fn nhwc(ty: &TensorType) -> Option<[usize; 4]> {
    let shape = <[usize; 4]>::try_from(ty.shape.as_slice()).ok()?;
    (ty.dtype.is_float() && !ty.is_empty()).then_some(shape)
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.operator().describe())
    }
}
