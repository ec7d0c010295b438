//! What the compiler says of its work: one report per pass, and the memory of the result.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use super::plan::Plan;
use crate::bytes::mib;
use crate::graph::{Graph, live_nodes};

/// What one pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassReport {
    /// Name of the pass.
    pub pass: &'static str,
    /// How often each rewrite applied.
    pub rewrites: BTreeMap<&'static str, usize>,
    /// What it changed, before and after.
    pub changes: Vec<Change>,
}

/// A quantity before and after a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What is counted.
    pub what: &'static str,
    /// Its value before the pass.
    pub before: u64,
    /// Its value after the pass.
    pub after: u64,
    /// How the values read.
    pub unit: Unit,
}

/// Unit of a [`Change`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Bytes.
    Bytes,
    /// Floating-point operations.
    Flops,
}

impl PassReport {
    /// A report of `pass` that says nothing yet.
    pub fn new(pass: &'static str) -> Self {
        Self {
            pass,
            ..Self::default()
        }
    }

    /// Adds `times` applications of `rewrite`; none adds nothing.
    pub fn count(&mut self, rewrite: &'static str, times: usize) {
        if times > 0 {
            *self.rewrites.entry(rewrite).or_default() += times;
        }
    }

    /// Adds a quantity.
    pub fn change(&mut self, what: &'static str, before: u64, after: u64, unit: Unit) {
        self.changes.push(Change {
            what,
            before,
            after,
            unit,
        });
    }

    /// Adds nodes, work and least traffic of the live nodes of two graphs.
    pub fn compare(&mut self, before: &Graph, after: &Graph) {
        let [before, after] = [before, after].map(totals);
        self.change("nodes", before.nodes, after.nodes, Unit::Count);
        self.change("work", before.flops, after.flops, Unit::Flops);
        self.change("moved", before.bytes, after.bytes, Unit::Bytes);
    }
}

struct Totals {
    nodes: u64,
    flops: u64,
    bytes: u64,
}

fn totals(graph: &Graph) -> Totals {
    let mut totals = Totals {
        nodes: 0,
        flops: 0,
        bytes: 0,
    };
    for (node, live) in graph.nodes().iter().zip(live_nodes(graph)) {
        let operator = node.op.operator();
        if !live || operator.is_view() {
            continue;
        }
        let (inputs, outputs) = (graph.input_types(node), graph.output_types(node));
        totals.nodes += 1;
        totals.flops += operator.flops(&inputs, &outputs);
        totals.bytes += operator.bytes(&inputs, &outputs);
    }
    totals
}

impl fmt::Display for PassReport {
    /// One line: the pass, its rewrites, what changed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<16}", self.pass)?;
        let rewrites = self.rewrites.iter();
        let mut parts: Vec<String> = rewrites.map(|(name, n)| format!("{n} {name}")).collect();
        let changed = self.changes.iter().filter(|c| c.before != c.after);
        parts.extend(changed.map(ToString::to_string));
        match parts.is_empty() {
            true => f.write_str("nothing to do"),
            false => f.write_str(&parts.join(", ")),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = (self.before as f64, self.after as f64);
        let what = self.what;
        match self.unit {
            Unit::Count => write!(f, "{what} {} -> {}", self.before, self.after),
            Unit::Bytes => {
                let (before, after) = (mib(self.before as usize), mib(self.after as usize));
                write!(f, "{what} {before:.1} -> {after:.1} MiB")
            }
            Unit::Flops => write!(f, "{what} {:.3} -> {:.3} GFLOP", before / 1e9, after / 1e9),
        }
    }
}

/// A compiled graph: the plan, what each pass did, and the memory that the plan will take.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// What a device runs.
    pub plan: Plan,
    /// One report per pass, in order.
    pub passes: Vec<PassReport>,
    /// Memory, known before anything is allocated.
    pub memory: MemoryReport,
}

impl fmt::Display for Compiled {
    /// The explanation of the plan as a table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.plan)?;
        for report in &self.passes {
            writeln!(f, "{report}")?;
        }
        writeln!(f, "memory {}", self.memory)
    }
}

/// Memory that a plan takes on this device, known before anything is allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryReport {
    /// Activations and workspaces.
    pub arena_bytes: usize,
    /// Weights, in packed and plain form as kernels read them.
    pub parameter_bytes: usize,
    /// Inputs, state and constants.
    pub buffer_bytes: usize,
}

impl MemoryReport {
    /// All of it.
    pub fn total_bytes(&self) -> usize {
        self.arena_bytes + self.parameter_bytes + self.buffer_bytes
    }
}

impl std::ops::Add for MemoryReport {
    type Output = Self;

    /// The memory of two plans that are loaded at the same time.
    fn add(self, other: Self) -> Self {
        Self {
            arena_bytes: self.arena_bytes + other.arena_bytes,
            parameter_bytes: self.parameter_bytes + other.parameter_bytes,
            buffer_bytes: self.buffer_bytes + other.buffer_bytes,
        }
    }
}

impl fmt::Display for MemoryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} MiB (weights {:.1}, activations {:.1}, inputs and state {:.1})",
            mib(self.total_bytes()),
            mib(self.parameter_bytes),
            mib(self.arena_bytes),
            mib(self.buffer_bytes)
        )
    }
}

/// A step that does not fit its memory budget, however much is computed twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the step needs {needed:.1} MiB even where activations are computed twice, {over:.1} MiB more than the budget of \
     {budget:.1} MiB",
    needed = mib(*needed_bytes),
    over = mib(needed_bytes - budget_bytes),
    budget = mib(*budget_bytes)
)]
pub struct OverBudget {
    /// The smallest plan found.
    pub needed_bytes: usize,
    /// What was allowed.
    pub budget_bytes: usize,
}
