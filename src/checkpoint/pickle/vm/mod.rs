//! The stack machine: one pass over the instructions, no recursion, every size bounded by the input's length.
//! Instructions are grouped by what they work on, a file each.

mod containers;
mod literals;
mod machine;
mod memo;
mod objects;
mod reader;
mod scalars;
mod stack;
#[cfg(test)]
mod tests;
mod texts;

use std::collections::HashMap;

use super::value::{Id, Pickle};
use machine::Machine;
use reader::{Reader, Result};

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
}
