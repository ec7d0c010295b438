//! Device memory that lives as long as a plan.

use super::launch::DevicePtr;

/// Data that launches point at and leave as they found it: tables of addresses, counters.
#[derive(Debug, Default)]
pub struct ConstantPool {
    /// Where the pool will lie; null while sizes are counted.
    pub base: DevicePtr,
    pub bytes: Vec<u8>,
}

impl ConstantPool {
    /// Adds `bytes` and gives their address, a multiple of 16 for vector loads.
    pub fn add(&mut self, bytes: &[u8]) -> DevicePtr {
        let at = self.base.add(self.bytes.len());
        self.bytes.extend(bytes);
        let padded = self.bytes.len().next_multiple_of(16);
        self.bytes.resize(padded, 0);
        at
    }
}
