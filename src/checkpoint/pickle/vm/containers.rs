//! Instructions of the pickle machine: tuples, lists, dicts and sets.

use super::machine::Machine;
use super::reader::Result;
use crate::checkpoint::pickle::{Id, PickleNode};

impl Machine<'_> {
    /// Executes `opcode` if it is of this class; false if not.
    pub(super) fn containers(&mut self, opcode: u8) -> Result<bool> {
        match opcode {
            b')' => self.push(PickleNode::Tuple(Box::default()))?,
            b't' => {
                let elements = self.pop_to_mark()?;
                self.push(PickleNode::Tuple(elements.into()))?;
            }
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let elements = self.pop_many(count)?;
                self.push(PickleNode::Tuple(elements.into()))?;
            }
            b']' => self.push(PickleNode::List(Vec::new()))?,
            b'l' => {
                let elements = self.pop_to_mark()?;
                self.push(PickleNode::List(elements))?;
            }
            b'a' => {
                let element = self.pop()?;
                self.extend(&[element])?;
            }
            b'e' => {
                let elements = self.pop_to_mark()?;
                self.extend(&elements)?;
            }
            b'}' => self.push(PickleNode::Dict(Vec::new()))?,
            b'd' => {
                let flat = self.pop_to_mark()?;
                self.push(PickleNode::Dict(Vec::new()))?;
                self.set_items(&flat)?;
            }
            b's' => {
                let pair = self.pop_many(2)?;
                self.set_items(&pair)?;
            }
            b'u' => {
                let flat = self.pop_to_mark()?;
                self.set_items(&flat)?;
            }
            0x8f => self.push(PickleNode::Set(Vec::new()))?,
            0x90 => {
                let elements = self.pop_to_mark()?;
                self.extend(&elements)?;
            }
            0x91 => {
                let elements = self.pop_to_mark()?;
                self.push(PickleNode::Set(elements))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn extend(&mut self, elements: &[Id]) -> Result<()> {
        let target = self.top()?;
        match self.node_mut(target) {
            PickleNode::List(list) | PickleNode::Set(list) => list.extend_from_slice(elements),
            PickleNode::Call(call) => call.elements.extend_from_slice(elements),
            _ => return Err(self.malformed("appends to something that is no list")),
        }
        Ok(())
    }

    fn set_items(&mut self, flat: &[Id]) -> Result<()> {
        let (pairs, rest) = flat.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.malformed("a key without a value"));
        }
        let pairs = pairs.iter().map(|&[key, value]| (key, value));
        let target = self.top()?;
        match self.node_mut(target) {
            PickleNode::Dict(items) => items.extend(pairs),
            PickleNode::Call(call) => call.items.extend(pairs),
            _ => return Err(self.malformed("sets a key of something that is no dict")),
        }
        Ok(())
    }
}
