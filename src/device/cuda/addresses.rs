//! Where the values of a plan lie in a GPU's memory.

use std::collections::HashMap;

use super::context::Memory;
use crate::compile::{Location, Plan};
use crate::graph::Value;
use crate::kernel::cuda::{CudaOperand, DevicePtr};

/// Where the values and workspaces of a plan lie.
pub(super) struct Addresses {
    pub bindings: Vec<Option<Memory>>,
    pub arena: Arena,
    /// Prepacked weights.
    pub prepacked: Vec<Option<Memory>>,
}

pub(super) enum Arena {
    Whole(Memory),
    /// One allocation for each offset that a value or workspace starts at.
    Isolated(HashMap<usize, Memory>),
}

impl Arena {
    pub fn at(&self, offset: usize) -> DevicePtr {
        match self {
            Self::Whole(memory) => memory.at.add(offset),
            Self::Isolated(parts) => parts
                .get(&offset)
                .map_or(DevicePtr::NULL, |memory| memory.at),
        }
    }

    pub fn parts(&self) -> impl Iterator<Item = &Memory> {
        let parts: Box<dyn Iterator<Item = &Memory>> = match self {
            Self::Whole(memory) => Box::new(std::iter::once(memory)),
            Self::Isolated(parts) => Box::new(parts.values()),
        };
        parts
    }
}

impl Addresses {
    pub fn of(&self, plan: &Plan, value: Value) -> DevicePtr {
        match plan.value(value).location {
            Location::Arena(offset) => self.arena.at(offset),
            Location::Binding(index) => self.bindings[index]
                .as_ref()
                .map_or(DevicePtr::NULL, |memory| memory.at),
            Location::Unused => unreachable!("steps only name planned values"),
        }
    }

    pub fn operands(&self, plan: &Plan, values: &[Value]) -> Vec<CudaOperand> {
        let operand = |&value: &Value| CudaOperand {
            at: self.of(plan, value),
            ty: plan.value(value).ty.clone(),
        };
        values.iter().map(operand).collect()
    }
}

/// Sizes of everything that starts at an offset of the arena.
pub(super) fn arena_parts(plan: &Plan) -> HashMap<usize, usize> {
    let mut parts: HashMap<usize, usize> = HashMap::new();
    let mut part = |offset: usize, bytes: usize| {
        let size = parts.entry(offset).or_default();
        *size = (*size).max(bytes);
    };
    for value in &plan.values {
        if let Location::Arena(offset) = value.location {
            part(offset, value.ty.bytes());
        }
    }
    for step in &plan.steps {
        if !step.workspace.is_empty() {
            part(step.workspace.start, step.workspace.len());
        }
    }
    parts
}
