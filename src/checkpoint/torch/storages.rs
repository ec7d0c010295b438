//! Where the raw elements of a checkpoint lie in its bytes.

use crate::checkpoint::Problem;
use crate::checkpoint::map::SharedBytes;

/// Where the raw elements of tensors are.
pub(super) trait Storages: Send + Sync {
    /// The bytes of storage `key`, verified where the format has a checksum.
    fn storage(&self, key: &str) -> Result<Window, Problem>;

    /// Members that carry no checksum though the format has one, and how many members there are.
    fn without_checksum(&self) -> Option<(usize, usize)> {
        None
    }
}

/// A range of shared bytes.
#[derive(Clone)]
pub(super) struct Window {
    pub bytes: SharedBytes,
    pub start: usize,
    pub len: usize,
}
