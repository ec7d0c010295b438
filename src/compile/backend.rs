//! What the compiler asks of the kernels that a plan will run on.

use crate::compile::plan::binding::{Available, Binding};
use crate::graph::Op;
use crate::tensor::{DType, TensorType};

/// A kind of device as the compiler sees it. All answers follow from types and from what the plan is compiled for: no
/// device is open and nothing executes.
pub trait Backend {
    /// Describes a packed form: two steps can read one prepacked weight if their forms are equal.
    type Form: PartialEq;

    /// Type that activations are stored in.
    fn storage(&self) -> DType;

    /// Bytes of scratch memory for one execution of `op`, uninitialised and private to the step, the operand that is
    /// packed before each execution included. `available[i]` says from when on input `i` holds what the step reads.
    fn workspace_bytes(
        &self,
        op: &Op,
        inputs: &[TensorType],
        outputs: &[TensorType],
        available: &[Available],
    ) -> usize;

    /// The operand, if any, that `op` reads packed.
    fn packed(
        &self,
        op: &Op,
        inputs: &[TensorType],
        outputs: &[TensorType],
        available: &[Available],
    ) -> Option<Packed<Self::Form>>;

    /// Producer fusion: whether one `fused` op is faster here than the two ops that it stands for.
    fn prefers(&self, fused: &Op, inputs: &[TensorType]) -> bool {
        let _ = (fused, inputs);
        false
    }

    /// Horizontal fusion: which other steps may share a launch with a step of `op`.
    fn sharing(&self, op: &Op, inputs: &[TensorType]) -> Sharing {
        let _ = (op, inputs);
        Sharing::Alone
    }

    /// Bytes that a binding takes in plain form.
    fn binding_bytes(&self, binding: &Binding) -> usize {
        binding.ty.bytes()
    }
}

/// An operand that a device reads in a layout of its own.
#[derive(Debug)]
pub struct Packed<F> {
    /// Position among the inputs.
    pub index: usize,
    /// Bytes of the packed form.
    pub bytes: usize,
    /// Steps that read one weight in equal forms share the packed weight.
    pub form: F,
    /// Whether the device keeps it, which it only may for a leaf; otherwise it is packed into the workspace of each
    /// step that reads it.
    pub prepacked: bool,
}

/// Horizontal fusion: which other steps may share a launch with a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// With none.
    Alone,
    /// As a job in one launch with jobs of any op.
    Job,
    /// Multi-tensor apply: with steps of the same op that have these inputs in common.
    SharedInputs(Vec<usize>),
}

/// No device: plain steps without scratch memory, for tools that only look at a plan.
impl Backend for () {
    type Form = ();

    fn storage(&self) -> DType {
        DType::F32
    }

    fn workspace_bytes(
        &self,
        _: &Op,
        _: &[TensorType],
        _: &[TensorType],
        _: &[Available],
    ) -> usize {
        0
    }

    fn packed(
        &self,
        _: &Op,
        _: &[TensorType],
        _: &[TensorType],
        _: &[Available],
    ) -> Option<Packed<()>> {
        None
    }
}
