//! Instructions of the pickle machine: marks, duplicates and drops.

use super::machine::Machine;
use super::reader::Result;

impl Machine<'_> {
    /// Executes `opcode` if it is of this class; false if not.
    pub(super) fn stack(&mut self, opcode: u8) -> Result<bool> {
        match opcode {
            b'(' => self.marks.push(self.values.len()),
            b'0' => {
                // POP removes a mark if that is what lies on top.
                if self.marks.last() == Some(&self.values.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            b'1' => {
                self.pop_to_mark()?;
            }
            b'2' => {
                let top = self.top()?;
                self.push_id(top)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}
