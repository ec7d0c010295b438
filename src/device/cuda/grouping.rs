//! Which steps of a plan are launched together: updates of one kind, of which a training step has hundreds.

use std::ops::Range;

use crate::device::packing::types;
use crate::graph::{Location, Plan, Step, Value};

/// Memory that a step reads or writes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Binding(usize),
    Arena(Range<usize>),
}

impl Place {
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
    reads: Vec<Place>,
    writes: Vec<Place>,
}

impl Access {
    fn of(plan: &Plan, step: &Step) -> Self {
        let place = |value: Value| match plan.value(value).location {
            Location::Binding(index) => Some(Place::Binding(index)),
            Location::Arena(at) => Some(Place::Arena(at..at + plan.value(value).ty.bytes())),
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
            access.writes.push(Place::Arena(step.workspace.clone()));
        }
        access
    }

    /// Whether the two steps may change places, or run at the same time.
    fn commutes(&self, other: &Self) -> bool {
        let clash = |writes: &[Place], places: &[Place]| {
            let mut places = places.iter();
            places.any(|place| writes.iter().any(|write| write.overlaps(place)))
        };
        !clash(&self.writes, &other.writes)
            && !clash(&self.writes, &other.reads)
            && !clash(&other.writes, &self.reads)
    }
}

/// The steps of `plan` by launch, in order of launching. A step joins an earlier one if both are
/// [jobs](super::CudaOperator::is_job), or of the same op and with the same
/// [common inputs](super::CudaOperator::common_inputs), and if it commutes with it and with everything launched since.
pub(super) fn groups(plan: &Plan, enabled: bool) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::with_capacity(plan.steps.len());
    if !enabled {
        return (0..plan.steps.len()).map(|index| vec![index]).collect();
    }
    let jobs: Vec<bool> = plan.steps.iter().map(|s| is_job(plan, s)).collect();
    let accesses: Vec<Access> = plan.steps.iter().map(|s| Access::of(plan, s)).collect();
    for (index, step) in plan.steps.iter().enumerate() {
        let alike = |other: usize, common: &[usize]| {
            let other = &plan.steps[other];
            other.op == step.op && common.iter().all(|&i| other.inputs[i] == step.inputs[i])
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
        let joined = match step.op.cuda().common_inputs() {
            Some(common) => join(&|other| alike(other, &common)),
            None if jobs[index] => join(&|other| jobs[other]),
            None => None,
        };
        match joined {
            Some(at) => groups[at].push(index),
            None => groups.push(vec![index]),
        }
    }
    groups
}

/// Whether the launches of `step` are a job.
fn is_job(plan: &Plan, step: &Step) -> bool {
    step.op.cuda().is_job(&types(plan, &step.inputs))
}

#[cfg(test)]
mod tests;
