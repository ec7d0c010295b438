//! Instructions of the pickle machine: texts and bytes.

use super::literals::{unescape_unicode, unquote};
use super::machine::Machine;
use super::reader::Result;
use crate::checkpoint::pickle::PickleNode;

impl Machine<'_> {
    /// Executes `opcode` if it is of this class; false if not.
    pub(super) fn texts(&mut self, opcode: u8) -> Result<bool> {
        match opcode {
            b'S' => {
                let line = self.reader.line()?;
                let text =
                    unquote(line).ok_or_else(|| self.malformed("expected a quoted string"))?;
                self.push(PickleNode::Str(text.into()))?;
            }
            b'V' => {
                // Raw-unicode-escape: bytes are Latin-1, what lies beyond is escaped.
                let line: String = self
                    .reader
                    .line_bytes()?
                    .iter()
                    .copied()
                    .map(char::from)
                    .collect();
                let text = unescape_unicode(&line)
                    .ok_or_else(|| self.malformed("invalid \\u escape in a text"))?;
                self.push(PickleNode::Str(text.into()))?;
            }
            // Python 2 strings: text in every checkpoint that has them.
            b'T' => {
                let length = self.reader.length4()?;
                self.latin1(length)?;
            }
            b'U' => {
                let length = usize::from(self.reader.u8()?);
                self.latin1(length)?;
            }
            b'X' => {
                let length = self.reader.length4()?;
                self.text(length)?;
            }
            0x8c => {
                let length = usize::from(self.reader.u8()?);
                self.text(length)?;
            }
            0x8d => {
                let length = self.reader.length8()?;
                self.text(length)?;
            }
            b'B' => {
                let length = self.reader.length4()?;
                self.bytes(length)?;
            }
            b'C' => {
                let length = usize::from(self.reader.u8()?);
                self.bytes(length)?;
            }
            0x8e | 0x96 => {
                let length = self.reader.length8()?;
                self.bytes(length)?;
            }
            0x97 | 0x98 => {
                return Err(self.malformed("out-of-band buffers are not part of a file"));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn text(&mut self, length: usize) -> Result<()> {
        let bytes = self.reader.take(length)?;
        // Python's `surrogatepass` texts are not UTF-8; a name or a path with a lone surrogate is only shown.
        self.push(PickleNode::Str(String::from_utf8_lossy(bytes).into()))
    }

    fn latin1(&mut self, length: usize) -> Result<()> {
        let bytes = self.reader.take(length)?;
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().map(|&b| char::from(b)).collect(),
        };
        self.push(PickleNode::Str(text.into()))
    }

    fn bytes(&mut self, length: usize) -> Result<()> {
        let bytes = self.reader.take(length)?;
        self.push(PickleNode::Bytes(bytes.into()))
    }
}
