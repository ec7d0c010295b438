//! Buffers outside the arena, and from when on they hold what a step reads.

use std::sync::Arc;

use crate::tensor::TensorType;

/// From when on an operand holds what a step reads of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Available {
    /// Since the plan was loaded: a parameter that no step updates.
    AtLoad,
    /// Since the run began: a leaf that no earlier step updates.
    AtStart,
    /// Since some step of the run.
    DuringRun,
}

/// How a binding is filled.
#[derive(Clone, Debug)]
pub enum BindingKind {
    /// By the host before a run.
    Input,
    /// With a weight, once.
    Parameter,
    /// Survives from run to run.
    State,
    /// With values known to the plan.
    Constant(Arc<[f32]>),
}

/// A buffer outside the arena.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Name of the leaf.
    pub name: String,
    /// Its shape and element type.
    pub ty: TensorType,
    /// Who fills it, and when.
    pub kind: BindingKind,
    /// True if some step writes it.
    pub updated: bool,
}
