//! Instructions of the pickle machine: what was remembered.

use super::machine::Machine;
use super::reader::Result;

impl Machine<'_> {
    /// Executes `opcode` if it is of this class; false if not.
    pub(super) fn memo(&mut self, opcode: u8) -> Result<bool> {
        match opcode {
            b'g' => {
                let index = self.index_line()?;
                self.recall(index)?;
            }
            b'h' => {
                let index = self.reader.u8()?;
                self.recall(index.into())?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.reader.array()?);
                self.recall(index.into())?;
            }
            b'p' => {
                let index = self.index_line()?;
                self.memoize(index)?;
            }
            b'q' => {
                let index = self.reader.u8()?;
                self.memoize(index.into())?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.reader.array()?);
                self.memoize(index.into())?;
            }
            0x94 => self.memoize(self.memory.len() as u64)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn recall(&mut self, index: u64) -> Result<()> {
        let id = *self
            .memory
            .get(&index)
            .ok_or_else(|| self.malformed(format!("nothing is remembered under {index}")))?;
        self.push_id(id)
    }

    fn memoize(&mut self, index: u64) -> Result<()> {
        let top = self.top()?;
        self.memory.insert(index, top);
        Ok(())
    }

    fn index_line(&mut self) -> Result<u64> {
        let line = self.reader.line()?;
        line.trim()
            .parse()
            .map_err(|_| self.malformed(format!("expected a memo index, found {line:?}")))
    }
}
