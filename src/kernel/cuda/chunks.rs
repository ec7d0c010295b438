//! Cuts many arrays into chunks, for kernels that update all of them in one launch (multi-tensor apply).

use super::launch::DevicePtr;
use super::target::Target;

/// Work for a kernel that takes any number of arrays: rows for `kernels/common/chunks.cuh`, one per block.
pub struct Chunks {
    /// Addresses of the piece and its number of elements, row after row.
    pub words: Vec<u64>,
    /// First row of every entry, and the number of rows.
    pub first: Vec<u64>,
}

impl Chunks {
    /// Elements of the largest piece: 128 for each of a block's threads.
    const LARGEST: usize = 32 * 1024;
    const SMALLEST: usize = 1024;
    /// Chunks per multiprocessor that suffice for an even load: six blocks at a time, four times over.
    const PER_MULTIPROCESSOR: usize = 24;

    /// Elements of a piece where there are `total` in all.
    fn size(total: usize, target: &Target) -> usize {
        let wanted = Self::PER_MULTIPROCESSOR * target.multiprocessors as usize;
        total
            .div_ceil(wanted.max(1))
            .next_multiple_of(Self::SMALLEST)
            .clamp(Self::SMALLEST, Self::LARGEST)
    }

    /// Rows for entries of `counts` elements.
    pub fn count(counts: impl Iterator<Item = usize> + Clone, target: &Target) -> usize {
        let size = Self::size(counts.clone().sum(), target);
        counts.map(|count| count.div_ceil(size)).sum()
    }

    /// Splits entries, each some `f32` arrays of one length.
    pub fn new(entries: &[(Vec<DevicePtr>, usize)], target: &Target) -> Self {
        let size = Self::size(entries.iter().map(|(_, count)| count).sum(), target);
        let (mut words, mut first, mut rows) = (Vec::new(), vec![0], 0);
        for (arrays, count) in entries {
            for start in (0..*count).step_by(size) {
                words.extend(arrays.iter().map(|array| array.add(4 * start).0));
                words.push(size.min(count - start) as u64);
                rows += 1;
            }
            first.push(rows);
        }
        Self { words, first }
    }

    /// Number of rows, which is the number of blocks.
    pub fn rows(&self) -> usize {
        self.first.last().map_or(0, |&rows| rows as usize)
    }
}
