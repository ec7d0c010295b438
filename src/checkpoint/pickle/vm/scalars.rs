//! Instructions of the pickle machine: none, truth values and numbers.

use super::literals::integer;
use super::machine::Machine;
use super::reader::Result;
use crate::checkpoint::pickle::PickleNode;

impl Machine<'_> {
    /// Executes `opcode` if it is of this class; false if not.
    pub(super) fn scalars(&mut self, opcode: u8) -> Result<bool> {
        match opcode {
            b'N' => self.push(PickleNode::None)?,
            0x88 => self.push(PickleNode::Bool(true))?,
            0x89 => self.push(PickleNode::Bool(false))?,
            b'I' => self.int_line()?,
            b'L' => self.long_line()?,
            b'J' => {
                let value = i32::from_le_bytes(self.reader.array()?);
                self.push(PickleNode::Int(value.into()))?;
            }
            b'K' => {
                let value = self.reader.u8()?;
                self.push(PickleNode::Int(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.reader.array()?);
                self.push(PickleNode::Int(value.into()))?;
            }
            0x8a => {
                let length = usize::from(self.reader.u8()?);
                self.long_bytes(length)?;
            }
            0x8b => {
                let length = i32::from_le_bytes(self.reader.array()?);
                let length = usize::try_from(length)
                    .map_err(|_| self.malformed("an integer of negative length"))?;
                self.long_bytes(length)?;
            }
            b'F' => {
                let line = self.reader.line()?;
                let value = line
                    .trim()
                    .parse()
                    .map_err(|_| self.malformed(format!("expected a float, found {line:?}")))?;
                self.push(PickleNode::Float(value))?;
            }
            b'G' => {
                let value = f64::from_be_bytes(self.reader.array()?);
                self.push(PickleNode::Float(value))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn int_line(&mut self) -> Result<()> {
        let line = self.reader.line()?.trim();
        let node = match line {
            "00" => PickleNode::Bool(false),
            "01" => PickleNode::Bool(true),
            _ => PickleNode::Int(line.parse().map_err(|_| {
                self.malformed(format!("expected a 64-bit integer, found {line:?}"))
            })?),
        };
        self.push(node)
    }

    fn long_line(&mut self) -> Result<()> {
        let line = self.reader.line()?.trim();
        let digits = line.strip_suffix('L').unwrap_or(line);
        let value: i128 = digits
            .parse()
            .map_err(|_| self.malformed(format!("expected an integer, found {line:?}")))?;
        self.push(integer(&value.to_le_bytes()))
    }

    fn long_bytes(&mut self, length: usize) -> Result<()> {
        let bytes = self.reader.take(length)?;
        self.push(integer(bytes))
    }
}
