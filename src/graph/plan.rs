//! A finished plan: ordered steps, one arena, named bindings. Any device runs it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::memory::{Layout, plan_memory};
use super::{Graph, Source, TensorType, Value};
use crate::ops::Op;

/// Scratch memory that a device needs for a step; asked while the arena is laid out.
pub trait WorkspaceModel {
    /// Bytes of scratch memory for one execution of `op`, uninitialised and private to the step.
    /// `known[i]` says from when on input `i` holds what the step reads.
    fn workspace_bytes(
        &self,
        op: &Op,
        inputs: &[TensorType],
        outputs: &[TensorType],
        known: &[Known],
    ) -> usize;
}

/// From when on an operand holds what a step reads of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Since the plan was loaded: a parameter that no step updates.
    SinceLoad,
    /// Since the run began: a leaf that no earlier step updates.
    SinceStart,
    /// Since some step of the run.
    SinceStep,
}

/// A model without scratch memory, for tools that only look at the plan.
impl WorkspaceModel for () {
    fn workspace_bytes(&self, _: &Op, _: &[TensorType], _: &[TensorType], _: &[Known]) -> usize {
        0
    }
}

/// What the planner may do. Both are on by default; tests turn them off to compare.
#[derive(Clone, Copy, Debug)]
pub struct PlanOptions {
    /// Values that are not alive at the same time share memory.
    pub reuse: bool,
    /// Results take over the memory of an input that dies.
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
    pub name: String,
    pub ty: TensorType,
    pub kind: BindingKind,
    /// True if some step writes it.
    pub updated: bool,
}

/// A value of the plan, at the index of its [`Value`].
#[derive(Clone, Debug)]
pub struct PlannedValue {
    pub ty: TensorType,
    pub location: Location,
    /// The value whose memory this one renames, for views.
    pub view_of: Option<Value>,
}

/// One operation with its operands.
#[derive(Clone, Debug)]
pub struct Step {
    pub op: Op,
    pub inputs: Vec<Value>,
    pub outputs: Vec<Value>,
    /// One per input: from when on it holds what this step reads.
    pub known: Vec<Known>,
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
    pub values: Vec<PlannedValue>,
    pub steps: Vec<Step>,
    pub bindings: Vec<Binding>,
    pub outputs: Vec<(String, Value)>,
    /// Size of the arena, workspaces included.
    pub arena_bytes: usize,
}

impl Plan {
    /// Orders the graph, drops what no output and no update needs and lays out the arena.
    pub fn new(graph: &Graph, workspace: &dyn WorkspaceModel, options: PlanOptions) -> Self {
        let live = live_nodes(graph);
        let live_nodes = || {
            let pairs = graph.nodes().iter().zip(&live);
            pairs.filter_map(|(node, &live)| live.then_some(node))
        };
        let updated: HashSet<Value> = live_nodes()
            .flat_map(|node| node.op.operator().updates().iter().map(|&i| node.inputs[i]))
            .collect();
        let mut bindings = Vec::new();
        let mut binding_of: HashMap<Value, usize> = HashMap::new();
        let mut values: Vec<PlannedValue> = graph
            .values()
            .map(|v| PlannedValue {
                ty: graph.ty(v).clone(),
                location: Location::Unused,
                view_of: None,
            })
            .collect();

        let mut steps = Vec::new();
        // Updated by a step so far.
        let mut changed: HashSet<Value> = HashSet::new();
        let mut bind = |value: Value| {
            let info = graph.info(value);
            let kind = match &info.source {
                Source::Input => BindingKind::Input,
                Source::Parameter => BindingKind::Parameter,
                Source::State => BindingKind::State,
                Source::Constant(values) => BindingKind::Constant(values.clone()),
                Source::Node { .. } => return,
            };
            binding_of.entry(value).or_insert_with(|| {
                bindings.push(Binding {
                    name: info.name.clone(),
                    ty: info.ty.clone(),
                    kind,
                    updated: updated.contains(&value),
                });
                bindings.len() - 1
            });
        };
        for node in live_nodes() {
            let operator = node.op.operator();
            node.inputs.iter().for_each(|&input| bind(input));
            if operator.is_view() {
                values[node.outputs[0].index()].view_of = Some(node.inputs[0]);
                continue;
            }
            let types = |list: &[Value]| -> Vec<TensorType> {
                list.iter().map(|&v| graph.ty(v).clone()).collect()
            };
            let (inputs, outputs) = (types(&node.inputs), types(&node.outputs));
            let known = |&input: &Value| {
                let leaf = root(&values, input);
                match graph.info(leaf).source {
                    Source::Node { .. } => Known::SinceStep,
                    Source::Parameter if !updated.contains(&leaf) => Known::SinceLoad,
                    _ if changed.contains(&leaf) => Known::SinceStep,
                    _ => Known::SinceStart,
                }
            };
            let known: Vec<Known> = node.inputs.iter().map(known).collect();
            let scratch = workspace.workspace_bytes(&node.op, &inputs, &outputs, &known);
            changed.extend(operator.updates().iter().map(|&i| node.inputs[i]));
            steps.push(Step {
                op: node.op.clone(),
                inputs: node.inputs.clone(),
                outputs: node.outputs.clone(),
                known,
                workspace: 0..scratch,
                path: node.path.clone(),
                flops: operator.flops(&inputs, &outputs),
                bytes: operator.bytes(&inputs, &outputs),
            });
        }
        for &(_, value) in graph.outputs() {
            bind(value);
        }
        for (&value, &index) in &binding_of {
            values[value.index()].location = Location::Binding(index);
        }

        let Layout {
            offsets,
            workspaces,
            arena_bytes,
        } = plan_memory(&steps, &values, graph.outputs(), options);
        for (value, offset) in offsets {
            values[value.index()].location = Location::Arena(offset);
        }
        for (step, workspace) in steps.iter_mut().zip(workspaces) {
            step.workspace = workspace;
        }
        // A view lives where its root lives.
        for index in 0..values.len() {
            let root = root(&values, Value::new(index));
            values[index].location = values[root.index()].location.clone();
        }
        Self {
            values,
            steps,
            bindings,
            outputs: graph.outputs().to_vec(),
            arena_bytes,
        }
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

/// Which nodes an output or an update needs.
pub(super) fn live_nodes(graph: &Graph) -> Vec<bool> {
    let mut needed = vec![false; graph.value_count()];
    for &(_, value) in graph.outputs() {
        needed[value.index()] = true;
    }
    let mut live = vec![false; graph.nodes().len()];
    for (index, node) in graph.nodes().iter().enumerate().rev() {
        let updates = !node.op.operator().updates().is_empty();
        if updates || node.outputs.iter().any(|v| needed[v.index()]) {
            live[index] = true;
            for input in &node.inputs {
                needed[input.index()] = true;
            }
        }
    }
    live
}

impl fmt::Display for Plan {
    /// The table behind `--explain`: steps with shapes, offsets, work, and the peak.
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
        let mib = |bytes: usize| bytes as f64 / (1 << 20) as f64;
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
