//! The stack machine: one pass over the instructions, no recursion, every size bounded by the input's length.
//! Instructions are grouped by what they work on, a file each.

mod containers;
mod literals;
mod memo;
mod objects;
mod reader;
mod scalars;
mod stack;
#[cfg(test)]
mod tests;
mod texts;

use std::collections::HashMap;

use super::{Id, Node, Pickle, PickleError};
use reader::Reader;

/// Values a pickle may build. A checkpoint of a thousand tensors builds about 40 000.
const MAX_NODES: usize = 8_000_000;

/// Reads one pickle at the start of `bytes`; returns it and its length.
pub(super) fn run(bytes: &[u8]) -> Result<(Pickle, usize)> {
    let mut machine = Machine {
        reader: Reader { bytes, at: 0 },
        nodes: Vec::new(),
        values: Vec::new(),
        marks: Vec::new(),
        memory: HashMap::new(),
    };
    let root = machine.run()?;
    let length = machine.reader.at;
    Ok((
        Pickle {
            nodes: machine.nodes,
            root,
        },
        length,
    ))
}

type Result<T> = std::result::Result<T, PickleError>;

struct Machine<'a> {
    reader: Reader<'a>,
    nodes: Vec<Node>,
    values: Vec<Id>,
    marks: Vec<usize>,
    memory: HashMap<u64, Id>,
}

impl Machine<'_> {
    /// Executes instructions until STOP and returns the top of the stack.
    fn run(&mut self) -> Result<Id> {
        loop {
            let opcode = self.reader.u8()?;
            if opcode == b'.' {
                return self.pop();
            }
            let known = self.frame(opcode)?
                || self.stack(opcode)?
                || self.scalars(opcode)?
                || self.texts(opcode)?
                || self.containers(opcode)?
                || self.memo(opcode)?
                || self.objects(opcode)?;
            if !known {
                return Err(self.malformed(format!("unknown instruction 0x{opcode:02x}")));
            }
        }
    }

    /// Executes `opcode` if it says how the stream is written; false if not.
    fn frame(&mut self, opcode: u8) -> Result<bool> {
        match opcode {
            0x80 => {
                let version = self.reader.u8()?;
                if version > 5 {
                    return Err(self.malformed(format!(
                        "expected protocol 0 to 5, found protocol {version}"
                    )));
                }
            }
            0x95 => {
                let length = self.reader.length8()?;
                self.reader.check_available(length)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn malformed(&self, what: impl Into<String>) -> PickleError {
        self.reader.malformed(what)
    }

    fn node(&self, id: Id) -> &Node {
        &self.nodes[id.0 as usize]
    }

    fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    fn push(&mut self, node: Node) -> Result<()> {
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

    fn push_id(&mut self, id: Id) -> Result<()> {
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
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id> {
        match self.values.last() {
            Some(&id) if self.values.len() > self.floor() => Ok(id),
            _ => Err(self.malformed("the stack is empty")),
        }
    }

    fn pop(&mut self) -> Result<Id> {
        let top = self.top()?;
        self.values.pop();
        Ok(top)
    }

    fn pop_array<const N: usize>(&mut self) -> Result<[Id; N]> {
        let mut values = [Id(0); N];
        for value in values.iter_mut().rev() {
            *value = self.pop()?;
        }
        Ok(values)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>> {
        if self.values.len() - self.floor() < count {
            return Err(self.malformed("the stack is empty"));
        }
        Ok(self.values.split_off(self.values.len() - count))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self
            .marks
            .pop()
            .ok_or_else(|| self.malformed("no mark on the stack"))?;
        Ok(self.values.split_off(mark))
    }
}
