//! The state of the machine: values, stack, marks, memory.

use std::collections::HashMap;

use super::reader::{Reader, Result};
use crate::checkpoint::pickle::error::PickleError;
use crate::checkpoint::pickle::value::{Id, PickleNode};

/// Values a pickle may build. A checkpoint of a thousand tensors builds about 40 000.
pub(super) const MAX_NODES: usize = 8_000_000;

pub(super) struct Machine<'a> {
    pub reader: Reader<'a>,
    pub nodes: Vec<PickleNode>,
    pub values: Vec<Id>,
    pub marks: Vec<usize>,
    pub memory: HashMap<u64, Id>,
}

impl Machine<'_> {
    pub fn malformed(&self, what: impl Into<String>) -> PickleError {
        self.reader.malformed(what)
    }

    pub fn node(&self, id: Id) -> &PickleNode {
        &self.nodes[id.0 as usize]
    }

    pub fn node_mut(&mut self, id: Id) -> &mut PickleNode {
        &mut self.nodes[id.0 as usize]
    }

    pub fn push(&mut self, node: PickleNode) -> Result<()> {
        if self.nodes.len() == MAX_NODES {
            return Err(PickleError::TooLarge {
                what: "values",
                limit: MAX_NODES,
            });
        }
        let id = Id(self.nodes.len() as u32);
        self.nodes.push(node);
        self.push_id(id)
    }

    pub fn push_id(&mut self, id: Id) -> Result<()> {
        if self.values.len() == MAX_NODES {
            return Err(PickleError::TooLarge {
                what: "values on its stack",
                limit: MAX_NODES,
            });
        }
        self.values.push(id);
        Ok(())
    }

    /// What lies above the innermost mark cannot be taken by an instruction that does not ask for the mark.
    pub fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    pub fn top(&self) -> Result<Id> {
        match self.values.last() {
            Some(&id) if self.values.len() > self.floor() => Ok(id),
            _ => Err(self.malformed("the stack is empty")),
        }
    }

    pub fn pop(&mut self) -> Result<Id> {
        let top = self.top()?;
        self.values.pop();
        Ok(top)
    }

    pub fn pop_array<const N: usize>(&mut self) -> Result<[Id; N]> {
        let mut values = [Id(0); N];
        for value in values.iter_mut().rev() {
            *value = self.pop()?;
        }
        Ok(values)
    }

    pub fn pop_many(&mut self, count: usize) -> Result<Vec<Id>> {
        if self.values.len() - self.floor() < count {
            return Err(self.malformed("the stack is empty"));
        }
        Ok(self.values.split_off(self.values.len() - count))
    }

    pub fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self
            .marks
            .pop()
            .ok_or_else(|| self.malformed("no mark on the stack"))?;
        Ok(self.values.split_off(mark))
    }
}
