//! What a launch does, in counts that a model of a GPU turns into a time.
//!
//! The op that makes a launch states them, as formulas of its shapes and its tile; `tests/kernel_counters.rs` holds them
//! against what the emulator counts.

use crate::tensor::TensorType;

/// Bytes of a sector, the unit of traffic between a multiprocessor and L2.
const SECTOR_BYTES: u64 = 32;
/// Bytes that shared memory moves at once.
const WAVEFRONT_BYTES: u64 = 128;

/// Sectors that `bytes` contiguous bytes take.
pub fn sectors(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(SECTOR_BYTES)
}

/// Passes of shared memory that `bytes` bytes take without a conflict of banks.
pub fn wavefronts(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(WAVEFRONT_BYTES)
}

/// What one launch does: totals over its grid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaunchWork {
    /// Whether the op states the counts. Otherwise they follow from the sizes of its operands alone: each is read or
    /// written once.
    pub stated: bool,
    /// Blocks that compute; the others of the grid return at once.
    pub blocks: u64,
    /// Warp instructions `mma.m16n8k16` with f32 sums.
    pub mma: u64,
    /// Warp instructions `mma.m16n8k16` with f16 sums.
    pub mma_half: u64,
    /// Warp instructions of all kinds, about: those of main loops as the disassembler shows them. 0 if not stated.
    pub instructions: u64,
    /// Passes of shared memory, 128 bytes each.
    pub shared_wavefronts: u64,
    /// Sectors of 32 bytes that loads touch.
    pub load_sectors: u64,
    /// Sectors of 32 bytes that stores and atomics touch.
    pub store_sectors: u64,
    /// Bytes that have to come from DRAM or go there: each operand once.
    pub dram_bytes: u64,
    /// Arrivals of warps at barriers of their block.
    pub barriers: u64,
    /// Steps of the longest block's main loop, which follow one another.
    pub steps: u64,
}

impl LaunchWork {
    /// Of a launch that reads and writes these operands once.
    pub fn of_operands<'a>(
        blocks: u64,
        inputs: impl Iterator<Item = &'a TensorType>,
        outputs: impl Iterator<Item = &'a TensorType>,
    ) -> Self {
        let load_sectors = inputs.map(|ty| sectors(ty.bytes())).sum();
        let store_sectors = outputs.map(|ty| sectors(ty.bytes())).sum();
        Self {
            blocks,
            load_sectors,
            store_sectors,
            dram_bytes: SECTOR_BYTES * (load_sectors + store_sectors),
            ..Self::default()
        }
    }

    /// Of a launch that reads and writes so many contiguous bytes once.
    pub fn of_bytes(blocks: u64, read: usize, written: usize) -> Self {
        let (load_sectors, store_sectors) = (sectors(read), sectors(written));
        Self {
            blocks,
            load_sectors,
            store_sectors,
            dram_bytes: SECTOR_BYTES * (load_sectors + store_sectors),
            ..Self::default()
        }
    }

    /// Of this work and another side by side in one grid.
    pub fn beside(self, other: Self) -> Self {
        Self {
            stated: self.stated && other.stated,
            blocks: self.blocks + other.blocks,
            mma: self.mma + other.mma,
            mma_half: self.mma_half + other.mma_half,
            instructions: self.instructions + other.instructions,
            shared_wavefronts: self.shared_wavefronts + other.shared_wavefronts,
            load_sectors: self.load_sectors + other.load_sectors,
            store_sectors: self.store_sectors + other.store_sectors,
            dram_bytes: self.dram_bytes + other.dram_bytes,
            barriers: self.barriers + other.barriers,
            steps: self.steps.max(other.steps),
        }
    }
}

/// The launch that was just added, if its grid has blocks.
#[derive(Debug)]
pub struct Launched<'a>(pub(super) Option<&'a mut LaunchWork>);

impl Launched<'_> {
    /// States what the launch does.
    pub fn doing(self, work: impl FnOnce() -> LaunchWork) {
        if let Some(of_launch) = self.0 {
            *of_launch = work();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    #[test]
    fn operands_are_read_and_written_once() {
        let types = [
            TensorType::new([3, 5], DType::F32),
            TensorType::new([64], DType::F16),
        ];
        let work = LaunchWork::of_operands(7, types.iter(), types[1..].iter());
        // 60 bytes are two sectors, 128 bytes four.
        assert_eq!((work.load_sectors, work.store_sectors), (6, 4));
        assert_eq!((work.blocks, work.dram_bytes), (7, 320));
        assert!(!work.stated);
        let both = work.beside(LaunchWork {
            stated: true,
            steps: 9,
            ..work
        });
        assert_eq!((both.load_sectors, both.steps), (12, 9));
        assert!(!both.stated);
    }
}
