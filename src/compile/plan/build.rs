//! From a graph to a plan: the passes that lay it out, in order.

use super::binding::BindingKind;
use super::packed::PackingPlan;
use super::{Plan, PlanOptions, multi_tensor, schedule};
use crate::compile::backend::Backend;
use crate::compile::report::{MemoryReport, PassReport, Unit};
use crate::graph::Graph;

impl Plan {
    /// Orders the graph, drops what no output and no update needs and lays out the arena.
    pub fn new<B: Backend>(graph: &Graph, backend: &B, options: PlanOptions) -> Self {
        Self::with_reports(graph, backend, options).0
    }

    /// As [`Plan::new`], with what each pass did.
    pub fn with_reports<B: Backend>(
        graph: &Graph,
        backend: &B,
        options: PlanOptions,
    ) -> (Self, Vec<PassReport>) {
        let (mut plan, scheduled) = schedule::schedule(graph, backend);
        let laid_out = plan.lay_out(options);
        plan.packing = PackingPlan::new(&plan, backend);
        let mut packed = PassReport::new("packing");
        packed.count("weights prepacked", plan.packing.prepacked.len());
        let plain = |plan: &Self| plan.binding_bytes() as u64;
        let kept = plan.packing.plain.iter().zip(&plan.bindings);
        let kept: usize = kept
            .filter(|(plain, _)| **plain)
            .map(|(_, b)| b.ty.bytes())
            .sum();
        let prepacked: usize = plan.packing.prepacked.iter().map(|p| p.bytes).sum();
        packed.change(
            "bindings",
            plain(&plan),
            (kept + prepacked) as u64,
            Unit::Bytes,
        );
        plan.groups = multi_tensor::groups(&plan, backend);
        let mut grouped = PassReport::new("multi_tensor");
        let (steps, groups) = (plan.steps.len() as u64, plan.groups.len() as u64);
        grouped.change("steps by launch", steps, groups, Unit::Count);
        (plan, vec![scheduled, laid_out, packed, grouped])
    }

    /// Memory that the plan will take, known before anything is allocated.
    pub fn memory<B: Backend>(&self, backend: &B) -> MemoryReport {
        let prepacked = self.packing.prepacked.iter().map(|p| p.bytes).sum();
        let (mut parameter_bytes, mut buffer_bytes) = (prepacked, 0);
        for (binding, &plain) in self.bindings.iter().zip(&self.packing.plain) {
            if plain {
                match binding.kind {
                    BindingKind::Parameter => parameter_bytes += backend.binding_bytes(binding),
                    _ => buffer_bytes += backend.binding_bytes(binding),
                }
            }
        }
        MemoryReport {
            arena_bytes: self.arena_bytes,
            parameter_bytes,
            buffer_bytes,
        }
    }
}
