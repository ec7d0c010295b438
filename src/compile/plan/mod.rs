//! A finished plan: ordered steps, one arena, named bindings. Any device runs it.

pub mod binding;
mod build;
pub mod memory;
mod multi_tensor;
pub mod packed;
mod packing;
mod schedule;

use std::fmt;
use std::ops::Range;

pub use binding::{Available, Binding, BindingKind};
pub use memory::verify_disjoint;

use crate::bytes::mib;
use crate::graph::{Op, Value};
use crate::tensor::TensorType;
use packed::PackingPlan;

/// What the planner may do. Both are on by default; tests turn them off to compare.
#[derive(Clone, Copy, Debug)]
pub struct PlanOptions {
    /// Values that are not alive at the same time share memory.
    pub reuse: bool,
    /// A result may be written in the memory of an input that no later step reads.
    pub in_place: bool,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            reuse: true,
            in_place: true,
        }
    }
}

/// Where a value lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In the binding of this index.
    Binding(usize),
    /// At this byte offset of the arena.
    Arena(usize),
    /// Nowhere: no step reads or writes it.
    Unused,
}

/// A value of the plan, at the index of its [`Value`].
#[derive(Clone, Debug)]
pub struct PlannedValue {
    /// Shape and element type, after all passes.
    pub ty: TensorType,
    /// Where the value lies.
    pub location: Location,
    /// The value whose memory this one renames, for views.
    pub view_of: Option<Value>,
}

/// One operation with its operands.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is computed.
    pub op: Op,
    /// What it reads, and what it updates.
    pub inputs: Vec<Value>,
    /// Its results.
    pub outputs: Vec<Value>,
    /// One per input: from when on it holds what this step reads.
    pub available: Vec<Available>,
    /// Bytes of the arena that are scratch memory of this step.
    pub workspace: Range<usize>,
    /// Module path.
    pub path: String,
    /// Floating-point operations; a multiply-add counts as two.
    pub flops: u64,
    /// Bytes that have to be read and written at least.
    pub bytes: u64,
}

/// Steps in order, with every address decided.
#[derive(Clone, Debug)]
pub struct Plan {
    /// All values, by [`Value::index`].
    pub values: Vec<PlannedValue>,
    /// Steps in order of execution.
    pub steps: Vec<Step>,
    /// Buffers outside the arena.
    pub bindings: Vec<Binding>,
    /// Values that the host can read after a run, by name.
    pub outputs: Vec<(String, Value)>,
    /// Size of the arena, workspaces included.
    pub arena_bytes: usize,
    /// Which operands are read packed, and where the packed forms lie.
    pub packing: PackingPlan,
    /// Horizontal fusion: steps by launch, in order of launching. A device may run the steps of a group in one launch.
    pub groups: Vec<Vec<usize>>,
}

impl Plan {
    /// Types of values.
    pub(crate) fn types(&self, values: &[Value]) -> Vec<TensorType> {
        values.iter().map(|&v| self.value(v).ty.clone()).collect()
    }

    /// The planned value of `value`.
    pub fn value(&self, value: Value) -> &PlannedValue {
        &self.values[value.index()]
    }

    /// The value whose memory `value` renames; itself if it is no view.
    pub fn root(&self, value: Value) -> Value {
        root(&self.values, value)
    }

    /// Floating-point operations of one run.
    pub fn flops(&self) -> u64 {
        self.steps.iter().map(|s| s.flops).sum()
    }

    /// Bytes of all bindings: inputs, weights as the graph sees them, state and constants.
    pub fn binding_bytes(&self) -> usize {
        self.bindings.iter().map(|b| b.ty.bytes()).sum()
    }
}

/// Follows views to the value that owns the memory.
pub(super) fn root(values: &[PlannedValue], mut value: Value) -> Value {
    while let Some(of) = values[value.index()].view_of {
        value = of;
    }
    value
}

impl fmt::Display for Plan {
    /// The explanation of the plan as a table: steps with shapes, offsets, work, and the peak.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>4}  {:<44} {:<52} {:<24} {:>16} {:>9} {:>9}",
            "step", "op", "module", "result", "arena", "MFLOP", "KiB"
        )?;
        for (index, step) in self.steps.iter().enumerate() {
            let result: Vec<String> = step
                .outputs
                .iter()
                .map(|&v| format!("{:?}", self.value(v).ty.shape))
                .collect();
            let at: Vec<String> = step
                .outputs
                .iter()
                .map(|&v| match self.value(v).location {
                    Location::Arena(offset) => format!("{offset:#x}"),
                    Location::Binding(index) => self.bindings[index].name.clone(),
                    Location::Unused => "-".to_owned(),
                })
                .collect();
            writeln!(
                f,
                "{index:>4}  {:<44} {:<52} {:<24} {:>16} {:>9.2} {:>9.1}",
                step.op.to_string(),
                step.path,
                result.join(" "),
                at.join(" "),
                step.flops as f64 / 1e6,
                step.bytes as f64 / 1024.0,
            )?;
        }
        writeln!(
            f,
            "{} steps, {:.3} GFLOP, arena {:.1} MiB (peak, workspaces included), bindings {:.1} MiB",
            self.steps.len(),
            self.flops() as f64 / 1e9,
            mib(self.arena_bytes),
            mib(self.binding_bytes()),
        )
    }
}
