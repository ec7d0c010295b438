//! Tiles of the convolutions on tensor cores, and which tile and how much split-K a convolution gets.
//!
//! The choice is the least of an estimate in clocks ([`clocks`]), made from the extents of the matrix products alone.

use std::sync::LazyLock;

use super::problem::Problem;
use crate::kernel::cuda::{Kernel, Target, element};
use crate::tensor::DType;

#[cfg(test)]
thread_local! {
    /// Replaces the choice of tile and split-K.
    pub(super) static FORCED: std::cell::Cell<Option<(Tile, usize)>> = const { std::cell::Cell::new(None) };
}

/// Bytes of a line of the L2 cache.
pub(super) const LINE_BYTES: usize = 128;

/// The tile of a result that one block computes, `m` rows and `n` columns with `k` products per step, and its warps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// Warps along rows and columns.
    pub warps: [usize; 2],
    /// Buffers of the `cp.async` pipeline.
    stages: usize,
    /// Blocks that share a multiprocessor; `__launch_bounds__` limits registers accordingly.
    pub resident: usize,
}

/// 16 instructions of 32 clocks per warp and 16 of k against 6 `ldmatrix`; 48 KiB of stages and 128 registers let two
/// blocks share a multiprocessor, so that one's barriers and prologue hide behind the other's products.
pub(super) const LARGE: Tile = Tile {
    m: 128,
    n: 128,
    k: 32,
    warps: [2, 4],
    stages: 3,
    resident: 2,
};
/// 140 registers. For filters of 64 outputs, and where `LARGE` leaves the last wave of blocks half empty.
const TALL: Tile = Tile {
    m: 128,
    n: 64,
    k: 32,
    warps: [2, 2],
    stages: 4,
    resident: 2,
};
/// 95 registers. For maps of 8² at batch 1, which have 64 pixels. 64 of k per barrier, because four warps hide little else.
const SMALL: Tile = Tile {
    m: 64,
    n: 64,
    k: 64,
    warps: [2, 2],
    stages: 3,
    resident: 2,
};
/// 54 registers. For the layers back to 3 or 8 channels.
const NARROW: Tile = Tile {
    m: 64,
    n: 16,
    k: 64,
    warps: [4, 1],
    stages: 4,
    resident: 2,
};
pub(super) const TILES: [Tile; 4] = [LARGE, TALL, SMALL, NARROW];
/// Tiles of the filter's gradient for kernels other than 3×3; `ldmatrix` transposes rows of channels.
pub(super) const GRADIENT_TILES: [Tile; 2] = [LARGE, SMALL];
/// Tiles of the filter's gradient for 3×3 kernels: a tile's columns are all taps of 16 channels, which lie together in the result.
/// Eight warps side by side read a filter's row each and all windows: 10 `ldmatrix` for 18 products keep shared memory
/// busy for a third of the products' time, and 72 sums in 126 registers leave room for a second block.
pub(super) const GRADIENT_TILES_3X3: [Tile; 2] = [
    Tile {
        m: 128,
        n: 144,
        k: 16,
        warps: [8, 1],
        stages: 5,
        resident: 2,
    },
    Tile {
        m: 64,
        n: 144,
        k: 32,
        warps: [4, 1],
        stages: 3,
        resident: 2,
    },
];

/// Splits of k begin at multiples of it: the widest tile's step, so that no tile moves a boundary.
pub(super) const SPLIT_UNIT: usize = 64;
/// Most taps of a window: a thread of the kernel has one bit for each.
pub(super) const MAX_WINDOW_TAPS: usize = 32;
/// Most entries of a kernel: what a block of the packing kernel has shared memory for.
const MAX_KERNEL_ENTRIES: usize = 25;
/// Bytes per clock that a multiprocessor gets from L2 while all of them read: about 2.5 TB/s in all.
const L2_BYTES_PER_CLOCK: usize = 18;
/// Bytes per clock that a multiprocessor gets from L2 alone, as the last block of a split tile does.
const LONE_BYTES_PER_CLOCK: usize = 64;
/// Bytes per clock of DRAM, 936 GB/s. Partial sums are charged at this rate, though they are discarded before they get there:
/// they displace other data in L2.
const DRAM_BYTES_PER_CLOCK: usize = 552;
/// Clocks before a block's first product and after its last one, about: two latencies of DRAM and the epilogue.
const BLOCK_CLOCKS: usize = 2500;
/// Clocks of a sum over splits beside its bytes: a round trip to L2 for the counter, and one for the first partial sum.
const SPLIT_CLOCKS: usize = 1500;
/// Most split-K: bounds the memory for partial sums.
const MAX_SPLIT_K: usize = 32;

/// What `MEDFUSION_TILE` asks for, to see what a worse choice costs: the extents of a tile, such as `64x16`, and the
/// split-K behind a slash, such as `64x16/3`. Convolutions that have no such tile keep theirs.
static ASKED: LazyLock<Option<([usize; 2], usize)>> = LazyLock::new(|| {
    let text = std::env::var("MEDFUSION_TILE")
        .ok()
        .filter(|text| !text.is_empty())?;
    let asked = parse_tile(&text);
    if asked.is_none() {
        tracing::warn!(
            "MEDFUSION_TILE is ignored: expected a tile such as 64x16, or 64x16/3 with a split-K of 1 to {MAX_SPLIT_K}, \
             found `{text}`"
        );
    }
    asked
});

fn parse_tile(text: &str) -> Option<([usize; 2], usize)> {
    let (extents, splits) = text.split_once('/').unwrap_or((text, "1"));
    let (m, n) = extents.split_once('x')?;
    let extents = [m.parse().ok()?, n.parse().ok()?];
    let splits = splits
        .parse()
        .ok()
        .filter(|splits| (1..=MAX_SPLIT_K).contains(splits))?;
    Some((extents, splits))
}

impl Tile {
    /// Threads of a block.
    pub fn threads(&self) -> usize {
        32 * self.warps[0] * self.warps[1]
    }

    /// Products of 16 × 8 results that a warp computes, along rows and columns.
    pub fn fragments(&self) -> [usize; 2] {
        [self.m / self.warps[0] / 16, self.n / self.warps[1] / 8]
    }

    /// Dynamic shared memory of a block: the pipeline's buffers.
    pub fn shared_bytes(&self) -> usize {
        self.stages * (self.m + self.n) * self.k * 2
    }

    /// The entry of `file`, compiled for this tile.
    pub fn kernel(&self, file: &'static str, entry: &'static str, dtype: DType) -> Kernel {
        Kernel::new(file, entry)
            .with("T", element(dtype))
            .with("TILE_M", self.m)
            .with("TILE_N", self.n)
            .with("TILE_K", self.k)
            .with("WARPS_M", self.warps[0])
            .with("WARPS_N", self.warps[1])
            .with("STAGES", self.stages)
            .with("MIN_BLOCKS", self.resident)
    }

    /// Clocks of one step over k: those of the tensor cores or of L2, whichever is slower, and an eighth of L2's, which the
    /// products do not hide.
    fn step_clocks(&self, target: &Target) -> usize {
        let products_per_clock = if target.fast_accumulate { 512 } else { 256 };
        let products = self.m * self.n * self.k / products_per_clock;
        let copies = (self.m + self.n) * self.k * 2 / L2_BYTES_PER_CLOCK;
        products.max(copies) + copies / 8
    }
}

/// Rows and columns of a product, and the length of its sum.
#[derive(Clone, Copy, Debug)]
pub(super) struct GemmExtents {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// Clocks of a grid of products: as many waves of blocks as the fullest multiprocessor has, and the sum over splits.
pub(super) fn clocks(
    tile: &Tile,
    split_k: usize,
    products: &[GemmExtents],
    target: &Target,
) -> usize {
    let blocks: usize = products
        .iter()
        .map(|e| e.m.div_ceil(tile.m) * e.n.div_ceil(tile.n) * split_k)
        .sum();
    let longest = products.iter().map(|e| e.k).max().unwrap_or(0);
    let steps = longest.div_ceil(SPLIT_UNIT).div_ceil(split_k) * SPLIT_UNIT / tile.k;
    let waves = blocks.div_ceil(target.multiprocessors as usize);
    let block = steps * tile.step_clocks(target) + BLOCK_CLOCKS;
    let sums = match split_k {
        1 => 0,
        _ => {
            let tile_bytes = tile.m * tile.n * 4;
            SPLIT_CLOCKS
                + (split_k + 1) * tile_bytes / LONE_BYTES_PER_CLOCK
                + 2 * blocks * tile_bytes / DRAM_BYTES_PER_CLOCK
        }
    };
    waves * block + sums
}

/// The tile and the split-K that take the fewest clocks. `alone` are the products of a batch of one, which decide on
/// split-K where a sample's bits may not depend on the batch.
pub(super) fn choose(
    tiles: &[Tile],
    products: &[GemmExtents],
    alone: &[GemmExtents],
    target: &Target,
) -> (Tile, usize) {
    #[cfg(test)]
    if let Some((tile, split_k)) = FORCED.get() {
        return (
            *tiles.iter().find(|t| **t == tile).unwrap_or(&tiles[0]),
            split_k,
        );
    }
    if let Some((extents, split_k)) = *ASKED
        && let Some(tile) = tiles.iter().find(|tile| [tile.m, tile.n] == extents)
    {
        return (*tile, split_k);
    }
    let longest = products.iter().map(|e| e.k).max().unwrap_or(0);
    let most = longest.div_ceil(SPLIT_UNIT).clamp(1, MAX_SPLIT_K);
    let best = |split_k: std::ops::RangeInclusive<usize>, products: &[GemmExtents]| {
        let all = tiles
            .iter()
            .flat_map(|&tile| split_k.clone().map(move |split_k| (tile, split_k)));
        all.min_by_key(|(tile, split_k)| clocks(tile, *split_k, products, target))
            .expect("there are tiles")
    };
    if target.deterministic {
        let (_, split_k) = best(1..=most, alone);
        best(split_k..=split_k, products)
    } else {
        best(1..=most, products)
    }
}

/// Whether tensor cores take a problem of any direction: its type, a kernel that packing has room for, and arrays below
/// 2^31 elements, padding and packed filters included.
pub(super) fn takes(problem: &Problem) -> bool {
    let g = &problem.geometry;
    let entries = g.kernel[0] * g.kernel[1];
    let [height, width] = g.padded();
    let elements = (g.batch * height * width * g.in_channels.max(g.out_channels))
        .max(4 * MAX_WINDOW_TAPS * g.in_channels * g.out_channels);
    matches!(problem.dtype, DType::F16 | DType::BF16)
        && problem.target.capability >= (8, 0)
        && entries <= MAX_KERNEL_ENTRIES
        && elements < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_is_asked_for_by_its_extents() {
        assert_eq!(parse_tile("64x16"), Some(([64, 16], 1)));
        assert_eq!(parse_tile("128x144/3"), Some(([128, 144], 3)));
        for text in [
            "64", "64x", "64x16/0", "64x16/33", "x16", "64x16/", "64 x 16",
        ] {
            assert_eq!(parse_tile(text), None, "{text}");
        }
    }
}
