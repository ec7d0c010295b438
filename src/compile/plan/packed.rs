//! Which operands of a plan are read packed, and where the packed form lies.

use super::binding::Available;

/// A weight that a device keeps in the layout its kernels read.
#[derive(Clone, Copy, Debug)]
pub struct Prepacked {
    /// The first step that reads it, whose op packs it.
    pub step: usize,
    /// Bytes of the packed form.
    pub bytes: usize,
    /// Whether it is packed when the plan is loaded or at the start of each run.
    pub available: Available,
}

/// Where the packed operand of a step lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackedPlace {
    /// In the prepacked weight of this index.
    Prepacked(usize),
    /// Behind the step's own workspace.
    Workspace,
}

/// An operand of a step that is read packed.
#[derive(Clone, Copy, Debug)]
pub struct PackedStep {
    /// Position among the inputs.
    pub index: usize,
    /// Bytes of the packed form.
    pub bytes: usize,
    /// Where the packed form lies.
    pub place: PackedPlace,
}

/// What is packed in a plan.
#[derive(Clone, Debug, Default)]
pub struct PackingPlan {
    /// One per step.
    pub steps: Vec<Option<PackedStep>>,
    /// Prepacked weights, in order of their first reader.
    pub prepacked: Vec<Prepacked>,
    /// One per binding: whether some step or the host reads its plain form.
    pub plain: Vec<bool>,
}
