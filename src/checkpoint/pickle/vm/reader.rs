//! Bytes of a pickle, read in order and never beyond their end.

use crate::checkpoint::pickle::error::PickleError;

pub(super) type Result<T> = std::result::Result<T, PickleError>;

pub(super) struct Reader<'a> {
    pub bytes: &'a [u8],
    /// Offset of the next byte.
    pub at: usize,
}

impl<'a> Reader<'a> {
    pub fn malformed(&self, what: impl Into<String>) -> PickleError {
        PickleError::Malformed {
            at: self.at,
            what: what.into(),
        }
    }

    pub fn check_available(&self, length: usize) -> Result<()> {
        if length > self.bytes.len() - self.at {
            return Err(PickleError::Truncated { at: self.at });
        }
        Ok(())
    }

    pub fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        self.check_available(length)?;
        let taken = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(taken)
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub fn length4(&mut self) -> Result<usize> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        self.check_available(length)?;
        Ok(length)
    }

    pub fn length8(&mut self) -> Result<usize> {
        let length = u64::from_le_bytes(self.array()?);
        let length = usize::try_from(length).map_err(|_| PickleError::Truncated { at: self.at })?;
        self.check_available(length)?;
        Ok(length)
    }

    /// Text up to a newline, which is consumed.
    pub fn line(&mut self) -> Result<&'a str> {
        let line = self.line_bytes()?;
        std::str::from_utf8(line).map_err(|_| self.malformed("a line that is not text"))
    }

    pub fn line_bytes(&mut self) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let length = rest
            .iter()
            .position(|&b| b == b'\n')
            .ok_or(PickleError::Truncated { at: self.at })?;
        self.at += length + 1;
        Ok(&rest[..length])
    }
}
