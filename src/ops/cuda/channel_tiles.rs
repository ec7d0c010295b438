//! How blocks share out the channels and positions of `x` `[N,…,C]`; the device's side of it is
//! `kernels/common/channel_tile.cuh`.

use crate::graph::TensorType;

/// Most threads of a block.
const THREADS: usize = 256;
/// The widest access of a thread, in bytes.
const ACCESS_BYTES: usize = 16;
/// Bytes of a sector, the unit of memory accesses.
pub(in crate::ops) const SECTOR_BYTES: usize = 32;
/// Most positions of a thread of a reduction; with more, the positions are cut into slabs, one block each. A 32×32 map is
/// not cut, so that one launch suffices.
const MOST_POSITIONS: usize = 16;
/// Positions per thread of a slab.
const SLAB_POSITIONS: usize = 8;

/// Tiles of `columns` columns, a column being `vector` neighbouring channels, on slabs of positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ops) struct ChannelTiles {
    /// Number of samples.
    pub samples: usize,
    /// Positions of a sample.
    pub positions: usize,
    pub channels: usize,
    /// Channels per access.
    pub vector: usize,
    /// Columns of a tile.
    pub columns: usize,
    /// Positions that a block visits at once.
    pub lanes: usize,
    /// Columns from the start of a tile, or of a granule of several tiles, to the next.
    pub span: usize,
    /// Tiles of a granule that is wider than a block, else 1.
    pub parts: usize,
    /// Tiles over all channels.
    pub tiles: usize,
    /// Positions of a slab.
    pub slab: usize,
    /// Slabs over all positions.
    pub slabs: usize,
}

impl ChannelTiles {
    /// Tiles of about `segment_bytes` of neighbouring channels that hold whole granules of `granule` channels, or parts
    /// of one where a block is narrower; one slab.
    pub fn of_granules(x: &TensorType, granule: usize, segment_bytes: usize) -> Self {
        let vector = vector(x, granule);
        let (granule, all) = (granule / vector, x.channels() / vector);
        if granule > THREADS {
            return Self::new(x, vector, THREADS, granule, granule.div_ceil(THREADS));
        }
        let wanted = segment_bytes / (vector * x.dtype.size_bytes());
        let columns = (wanted / granule).max(1) * granule;
        let columns = columns.min(THREADS / granule * granule).min(all);
        Self::new(x, vector, columns, columns, 1)
    }

    /// Tiles of all channels, or of what a block takes; one slab.
    pub fn of_rows(x: &TensorType) -> Self {
        let vector = vector(x, x.channels());
        let columns = (x.channels() / vector).min(THREADS);
        Self::new(x, vector, columns, columns, 1)
    }

    /// Tiles of one sector of memory; their columns are a power of two of at most 16, even if x has fewer. One slab.
    pub fn of_sectors(x: &TensorType) -> Self {
        let vector = vector(x, x.channels());
        let columns = SECTOR_BYTES / (vector * x.dtype.size_bytes());
        Self::new(x, vector, columns, columns, 1)
    }

    fn new(x: &TensorType, vector: usize, columns: usize, span: usize, parts: usize) -> Self {
        let (samples, channels) = (x.shape[0], x.channels());
        let positions = x.len() / (samples * channels);
        Self {
            samples,
            positions,
            channels,
            vector,
            columns,
            lanes: (THREADS / columns).min(positions),
            span,
            parts,
            tiles: (channels / vector).div_ceil(span) * parts,
            slab: positions,
            slabs: 1,
        }
    }

    /// Slabs for a reduction. Their number does not depend on the number of samples, so that no sum does.
    pub fn for_reduction(self) -> Self {
        if self.positions <= MOST_POSITIONS * self.lanes {
            return self;
        }
        self.with_slab(SLAB_POSITIONS * self.lanes)
    }

    /// Slabs for an elementwise pass: short enough to keep `multiprocessors` busy, long enough that reads once per thread
    /// cost little.
    pub fn for_each_element(self, multiprocessors: u32) -> Self {
        const BLOCKS_PER_MULTIPROCESSOR: usize = 4;
        let steps = self.samples * self.tiles * self.positions.div_ceil(self.lanes);
        let blocks = BLOCKS_PER_MULTIPROCESSOR * multiprocessors as usize;
        self.with_slab(steps.div_ceil(blocks).clamp(1, MOST_POSITIONS) * self.lanes)
    }

    fn with_slab(self, slab: usize) -> Self {
        Self {
            slab,
            slabs: self.positions.div_ceil(slab),
            ..self
        }
    }

    /// The grid of the launch.
    pub fn grid(&self) -> [usize; 3] {
        [self.tiles, self.slabs, self.samples]
    }

    /// The block of the launch.
    pub fn block(&self) -> [usize; 3] {
        [(self.columns * self.lanes).next_multiple_of(32), 1, 1]
    }
}

/// Channels per access: the largest power of two that divides `granule` and is at most 16 bytes.
pub(in crate::ops) fn vector(x: &TensorType, granule: usize) -> usize {
    let widest = ACCESS_BYTES / x.dtype.size_bytes();
    widest.min(1 << granule.trailing_zeros())
}
