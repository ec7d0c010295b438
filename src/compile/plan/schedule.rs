//! Which nodes become steps, and where what they read comes from.

use std::collections::{HashMap, HashSet};

use super::memory::ArenaLayout;
use super::packed::PackingPlan;
use super::{
    Available, Binding, BindingKind, Location, Plan, PlanOptions, PlannedValue, Step, root,
};
use crate::compile::backend::Backend;
use crate::compile::report::{PassReport, Unit};
use crate::graph::{Graph, Source, Value, live_nodes, op_types};

/// The steps of `graph` in order, without what no output and no update needs; leaves are bound, the arena is empty.
pub(super) fn schedule<B: Backend>(graph: &Graph, backend: &B) -> (Plan, PassReport) {
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
        let inputs = op_types(graph, &node.inputs);
        let outputs = op_types(graph, &node.outputs);
        let available = |&input: &Value| {
            let leaf = root(&values, input);
            match graph.info(leaf).source {
                Source::Node { .. } => Available::DuringRun,
                Source::Parameter if !updated.contains(&leaf) => Available::AtLoad,
                _ if changed.contains(&leaf) => Available::DuringRun,
                _ => Available::AtStart,
            }
        };
        let available: Vec<Available> = node.inputs.iter().map(available).collect();
        let scratch = backend.workspace_bytes(&node.op, &inputs, &outputs, &available);
        changed.extend(operator.updates().iter().map(|&i| node.inputs[i]));
        steps.push(Step {
            op: node.op.clone(),
            inputs: node.inputs.clone(),
            outputs: node.outputs.clone(),
            available,
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

    let mut report = PassReport::new("schedule");
    let nodes = graph.nodes().len() as u64;
    report.change("nodes to steps", nodes, steps.len() as u64, Unit::Count);
    let plan = Plan {
        values,
        steps,
        bindings,
        outputs: graph.outputs().to_vec(),
        arena_bytes: 0,
        packing: PackingPlan::default(),
        groups: Vec::new(),
    };
    (plan, report)
}

impl Plan {
    /// Gives every value and workspace its place in the arena.
    pub(super) fn lay_out(&mut self, options: PlanOptions) -> PassReport {
        let ArenaLayout {
            offsets,
            workspaces,
            arena_bytes,
        } = super::memory::plan_memory(&self.steps, &self.values, &self.outputs, options);
        let mut report = PassReport::new("memory");
        let values = offsets.keys().map(|&v| self.value(v).ty.bytes());
        let scratch = self.steps.iter().map(|s| s.workspace.len());
        let total: usize = values.chain(scratch).sum();
        report.change("arena", total as u64, arena_bytes as u64, Unit::Bytes);
        for (value, offset) in offsets {
            self.values[value.index()].location = Location::Arena(offset);
        }
        for (step, workspace) in self.steps.iter_mut().zip(workspaces) {
            step.workspace = workspace;
        }
        // A view lives where its root lives.
        for index in 0..self.values.len() {
            let root = root(&self.values, Value::new(index));
            self.values[index].location = self.values[root.index()].location.clone();
        }
        self.arena_bytes = arena_bytes;
        report
    }
}
