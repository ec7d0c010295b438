//! Horizontal fusion: which steps share a launch. A training step has hundreds of small updates of one kind.

use std::ops::Range;

use super::{Location, Plan, Step};
use crate::compile::backend::{Backend, Sharing};
use crate::graph::Value;

/// Memory that a step reads or writes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum TouchedMemory {
    Binding(usize),
    Arena(Range<usize>),
}

impl TouchedMemory {
    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Binding(a), Self::Binding(b)) => a == b,
            (Self::Arena(a), Self::Arena(b)) => a.start < b.end && b.start < a.end,
            _ => false,
        }
    }
}

/// What a step reads and what it writes.
#[derive(Debug, Default)]
struct Access {
    reads: Vec<TouchedMemory>,
    writes: Vec<TouchedMemory>,
}

impl Access {
    fn of(plan: &Plan, step: &Step) -> Self {
        let place = |value: Value| match plan.value(value).location {
            Location::Binding(index) => Some(TouchedMemory::Binding(index)),
            Location::Arena(at) => {
                Some(TouchedMemory::Arena(at..at + plan.value(value).ty.bytes()))
            }
            Location::Unused => None,
        };
        let places = |values: &[Value]| values.iter().filter_map(|&v| place(v)).collect();
        let mut access = Self {
            reads: places(&step.inputs),
            writes: places(&step.outputs),
        };
        let updated = step.op.operator().updates().iter();
        let updated = updated.filter_map(|&index| place(step.inputs[index]));
        access.writes.extend(updated);
        // Read and written, and of no meaning to other steps.
        if !step.workspace.is_empty() {
            access
                .writes
                .push(TouchedMemory::Arena(step.workspace.clone()));
        }
        access
    }

    /// Whether the two steps may change places, or run at the same time.
    fn commutes(&self, other: &Self) -> bool {
        let clash = |writes: &[TouchedMemory], places: &[TouchedMemory]| {
            let mut places = places.iter();
            places.any(|place| writes.iter().any(|write| write.overlaps(place)))
        };
        !clash(&self.writes, &other.writes)
            && !clash(&self.writes, &other.reads)
            && !clash(&other.writes, &self.reads)
    }
}

/// The steps of `plan` by launch, in order of launching. A step joins an earlier one if their [`Sharing`] allows it: both
/// are jobs, or both are of the same op and have the shared inputs in common. It must commute with that group and with
/// everything launched since.
pub(super) fn groups<B: Backend>(plan: &Plan, backend: &B) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::with_capacity(plan.steps.len());
    let sharing = |step: &Step| backend.sharing(&step.op, &plan.types(&step.inputs));
    let sharing: Vec<Sharing> = plan.steps.iter().map(sharing).collect();
    let accesses: Vec<Access> = plan.steps.iter().map(|s| Access::of(plan, s)).collect();
    for (index, step) in plan.steps.iter().enumerate() {
        let alike = |other: usize, shared: &[usize]| {
            let other = &plan.steps[other];
            other.op == step.op && shared.iter().all(|&i| other.inputs[i] == step.inputs[i])
        };
        let free = |group: &[usize]| {
            let mut steps = group.iter();
            steps.all(|&other| accesses[index].commutes(&accesses[other]))
        };
        let join = |like: &dyn Fn(usize) -> bool| {
            let earlier = groups.iter().enumerate().rev();
            earlier
                .take_while(|(_, group)| free(group))
                .find_map(|(at, group)| like(group[0]).then_some(at))
        };
        let group = match &sharing[index] {
            Sharing::SharedInputs(shared) => join(&|other| alike(other, shared)),
            Sharing::Job => join(&|other| sharing[other] == Sharing::Job),
            Sharing::Alone => None,
        };
        match group {
            Some(at) => groups[at].push(index),
            None => groups.push(vec![index]),
        }
    }
    groups
}

#[cfg(test)]
mod tests;
