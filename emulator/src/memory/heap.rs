//! The heap that kernels reach with `malloc` and `free`: a region of device memory, handed out in pieces.
//!
//! Pieces lie apart and freed ones are handed out again only when nothing fresh is left, so that an access past the end
//! of a piece or after its `free` is found.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Alignment of a piece, as CUDA promises it.
const ALIGNMENT: u64 = 16;
/// Bytes between two pieces that belong to neither.
const GAP: u64 = 16;

/// What a range of the heap belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// All of the bytes belong to one live piece.
    Live,
    /// Some belong to a piece that was freed: its address and size.
    Freed(u64, u64),
    /// They are not inside one piece.
    Outside,
}

/// Why a `free` is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadFree {
    /// The piece was freed before.
    Twice,
    /// No piece starts there.
    NoPiece,
}

#[derive(Default)]
struct Table {
    used: u64,
    live: BTreeMap<u64, u64>,
    freed: BTreeMap<u64, u64>,
}

/// The heap of one device.
pub(crate) struct Heap {
    /// First address.
    pub base: u64,
    /// Bytes.
    pub size: u64,
    table: Mutex<Table>,
}

impl Heap {
    /// A heap in a range of device memory.
    pub fn new(base: u64, size: u64) -> Heap {
        Heap {
            base,
            size,
            table: Mutex::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands out a piece; `None` when there is no room.
    pub fn allocate(&self, size: u64) -> Option<u64> {
        let size = size.max(1);
        let room = size.checked_next_multiple_of(ALIGNMENT)?.checked_add(GAP)?;
        let mut table = self.table();
        let address = if room <= self.size - table.used {
            let address = self.base + table.used;
            table.used += room;
            address
        } else {
            let fits = |old: &u64| old.next_multiple_of(ALIGNMENT) + GAP >= room;
            let address = *table.freed.iter().find(|(_, old)| fits(old))?.0;
            table.freed.remove(&address);
            address
        };
        table.live.insert(address, size);
        Some(address)
    }

    /// Takes a piece back; gives its size.
    ///
    /// # Errors
    /// When no live piece starts there.
    pub fn release(&self, address: u64) -> Result<u64, BadFree> {
        let mut table = self.table();
        match table.live.remove(&address) {
            Some(size) => {
                table.freed.insert(address, size);
                Ok(size)
            }
            None if table.freed.contains_key(&address) => Err(BadFree::Twice),
            None => Err(BadFree::NoPiece),
        }
    }

    /// What `bytes` bytes at `address` belong to.
    pub fn find(&self, address: u64, bytes: u64) -> Piece {
        let table = self.table();
        let inside = |pieces: &BTreeMap<u64, u64>| {
            let (base, size) = pieces.range(..=address).next_back()?;
            (address - base < *size && bytes <= size - (address - base)).then_some((*base, *size))
        };
        if inside(&table.live).is_some() {
            return Piece::Live;
        }
        match inside(&table.freed) {
            Some((base, size)) => Piece::Freed(base, size),
            None => Piece::Outside,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_apart_and_remembered() {
        let heap = Heap::new(4096, 256);
        let a = heap.allocate(20).unwrap();
        let b = heap.allocate(1).unwrap();
        assert_eq!((a, b), (4096, 4096 + 32 + 16));
        assert_eq!(heap.find(a + 16, 4), Piece::Live);
        assert_eq!(heap.find(a + 18, 4), Piece::Outside);
        assert_eq!(heap.release(a), Ok(20));
        assert_eq!(heap.find(a + 16, 4), Piece::Freed(a, 20));
        assert_eq!(heap.release(a), Err(BadFree::Twice));
        assert_eq!(heap.release(b + 1), Err(BadFree::NoPiece));
        assert_eq!(heap.allocate(1 << 40), None);
        assert_eq!(heap.allocate(u64::MAX), None);
        // Memory that was never used is handed out before freed memory.
        assert_eq!(heap.allocate(160).unwrap(), b + 32);
        assert_eq!(heap.allocate(8), Some(a));
    }
}
