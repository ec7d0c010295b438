//! What the graph asks of an op, and the handle under which a node holds one.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::Graph;
use super::error::{GraphError, Mismatch};
use super::value::Value;
use crate::kernel::cpu::CpuOperator;
use crate::kernel::cuda::CudaOperator;
use crate::kernel::reference::ReferenceOperator;
use crate::tensor::TensorType;

/// What the graph and the compiler ask of an op. An op has a kernel on every device, or it does not compile.
pub trait Operator:
    ReferenceOperator + CpuOperator + CudaOperator + Comparable + fmt::Debug + Send + Sync
{
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
    /// the input is repeated along. The sums over leaves' gradients come last, so that devices can do them in one
    /// launch; until then the summands take memory. `None` for the whole if the op has no gradient.
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
    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::Full
    }

    /// Whether devices can store `f32` results in reduced precision if all readers accept that.
    fn rounds(&self) -> bool {
        false
    }

    /// True if result 0 is operand 0's memory under another shape; such ops never run.
    fn is_view(&self) -> bool {
        false
    }
}

/// Equality behind `dyn Operator`: same type, equal fields.
pub trait Comparable: Any {
    /// Whether `other` is of this type and equal.
    fn is_equal(&self, other: &dyn Any) -> bool;
}

impl<T: Any + PartialEq> Comparable for T {
    fn is_equal(&self, other: &dyn Any) -> bool {
        other.downcast_ref::<T>() == Some(self)
    }
}

/// Any op. Cloning it shares the op, which never changes.
#[derive(Clone)]
pub struct Op(Arc<dyn Operator>);

impl Op {
    /// Shape rule, cost and gradient.
    pub fn operator(&self) -> &dyn Operator {
        &*self.0
    }

    /// The op as a `T`, if it is one.
    pub fn get<T: Operator>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.0;
        any.downcast_ref()
    }

    /// Whether the op is a `T`.
    pub fn is<T: Operator>(&self) -> bool {
        self.get::<T>().is_some()
    }

    /// The CPU kernel.
    pub(crate) fn cpu(&self) -> &dyn CpuOperator {
        &*self.0
    }

    /// The CUDA kernels.
    pub(crate) fn cuda(&self) -> &dyn CudaOperator {
        &*self.0
    }

    /// The naive definition in `f64`.
    pub(crate) fn reference(&self) -> &dyn ReferenceOperator {
        &*self.0
    }
}

impl<T: Operator> From<T> for Op {
    fn from(op: T) -> Self {
        Self(Arc::new(op))
    }
}

impl PartialEq for Op {
    fn eq(&self, other: &Self) -> bool {
        let other: &dyn Any = &*other.0;
        self.0.is_equal(other)
    }
}

impl<T: Operator> PartialEq<T> for Op {
    fn eq(&self, other: &T) -> bool {
        let other: &dyn Any = other;
        self.0.is_equal(other)
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.operator().describe())
    }
}

/// What an op sees when it adds its backward ops.
pub struct Gradient<'a> {
    /// The graph that takes the new nodes.
    pub graph: &'a mut Graph,
    /// The op's inputs.
    pub inputs: &'a [Value],
    /// The op's results.
    pub outputs: &'a [Value],
    /// Gradient of the loss with respect to each result; `None` if the loss does not depend on it.
    pub output_grads: &'a [Option<Value>],
    /// Whether the gradient of each input is wanted.
    pub wanted: &'a [bool],
}

impl Gradient<'_> {
    /// The gradient of the only differentiable result.
    ///
    /// # Panics
    /// If the loss does not depend on result 0: ops are only asked when some gradient arrives,
    /// and ops with several differentiable results read `output_grads`.
    pub fn dy(&self) -> Value {
        self.output_grads[0].expect("an op is differentiated only where the loss depends on it")
    }
}

/// Which operands of an op may be stored in reduced precision; bit `i` is operand `i`. Operands outside are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrecisionRule {
    /// None.
    #[default]
    Full,
    /// These inputs and results are.
    Reduced {
        /// Bit mask of inputs.
        inputs: u64,
        /// Bit mask of results.
        results: u64,
    },
    /// These inputs and results are if any of the inputs already is: ops that move or combine values.
    Follows {
        /// Bit mask of inputs.
        inputs: u64,
        /// Bit mask of results.
        results: u64,
    },
}

impl PrecisionRule {
    /// All operands follow.
    pub const FOLLOWS: Self = Self::Follows {
        inputs: u64::MAX,
        results: u64::MAX,
    };
}
