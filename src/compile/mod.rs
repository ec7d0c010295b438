//! From a graph to a plan, for a device that need not be there.
//!
//! [`compile()`] is the one list of passes, from the model's graph to the plan that a device runs:
//!
//! | pass | does |
//! |---|---|
//! | `fuse` | chains of ops become one op, on every device alike |
//! | `recompute` | only within a budget: activations are computed a second time instead of being stored |
//! | `precision` | activations become f16 or bf16 where ops accept that |
//! | `fuse_for_device` | producer fusion: an op does the work of the op that makes its operand, where the device [prefers](Backend::prefers) it |
//! | `schedule` | what no output needs is dropped; operands are bound |
//! | `memory` | every value gets its place in one arena |
//! | `packing` | weights that kernels read in another layout are prepacked |
//! | `multi_tensor` | horizontal fusion: independent steps share a launch |
//!
//! Each pass says what it did in a [`PassReport`]; [`Compiled`] prints all of them.

pub mod backend;
pub mod cpu;
pub mod cuda;
pub mod passes;
pub mod plan;
pub mod report;

pub use backend::{Backend, Packed, Sharing};
pub use cpu::CpuBackend;
pub use cuda::CudaBackend;
pub use passes::fuse::fuse;
pub use passes::fuse_for_device::fuse_for_device;
pub use passes::precision::{
    DeviceKind, Precision, PrecisionChoice, Purpose, UnknownPrecision, reduce,
};
pub use plan::{
    Available, Binding, BindingKind, Location, Plan, PlanOptions, Step, verify_disjoint,
};
pub use report::{Compiled, MemoryReport, OverBudget, PassReport};

use crate::graph::Graph;
use crate::tensor::DType;
use passes::recompute;

/// Fuses `graph` and lays it out for `backend`. Nothing is allocated.
pub fn compile<B: Backend>(graph: &Graph, backend: &B) -> Compiled {
    let (graph, fused) = fuse(graph);
    finish(&graph, backend, vec![fused])
}

/// As [`compile()`], within `budget_bytes` of memory. The backward pass computes activations of the first
/// `forward_nodes` nodes again where storing them does not fit.
///
/// # Errors
/// If the budget is too small for any plan that was found; the error says by how much.
pub fn compile_within<B: Backend>(
    graph: &Graph,
    backend: &B,
    forward_nodes: usize,
    budget_bytes: usize,
) -> Result<Compiled, OverBudget> {
    let (graph, fused) = fuse(graph);
    // How much memory a choice saves is known once the passes that follow have run on it.
    let measure = |graph: &Graph| finish(graph, backend, Vec::new()).memory.total_bytes();
    let (graph, recomputed) = recompute::fit(&graph, forward_nodes, budget_bytes, measure)
        .map_err(|needed_bytes| OverBudget {
            needed_bytes,
            budget_bytes,
        })?;
    Ok(finish(&graph, backend, vec![fused, recomputed]))
}

/// The passes that ask the backend, up to and including [`fuse_for_device`]: what [`Plan::new`] takes.
pub fn rewrite_for<B: Backend>(graph: &Graph, backend: &B) -> (Graph, Vec<PassReport>) {
    let mut reports = Vec::new();
    let mut graph = graph.clone();
    if backend.storage() != DType::F32 {
        let (reduced, report) = reduce(&graph, backend.storage());
        reports.push(report);
        graph = reduced;
    }
    let (fused, report) = fuse_for_device(&graph, backend);
    reports.push(report);
    (fused, reports)
}

/// All passes that ask the backend.
fn finish<B: Backend>(graph: &Graph, backend: &B, mut passes: Vec<PassReport>) -> Compiled {
    let (graph, reports) = rewrite_for(graph, backend);
    passes.extend(reports);
    let (plan, reports) = Plan::with_reports(&graph, backend, PlanOptions::default());
    passes.extend(reports);
    let memory = plan.memory(backend);
    Compiled {
        plan,
        passes,
        memory,
    }
}
