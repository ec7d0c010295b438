//! The product micro-kernel: an 8×48 tile of `C = Σ A·B` kept in registers over a list of segments.
//!
//! `A` is read in place through one pointer per row, so an implicit im2col (a pixel's channels under one tap), a
//! plain row-major matrix and a transposed panel are all the same kernel: only the pointers and the distance from
//! `k` to `k + 1` differ. `B` is packed in panels of [`PANEL`] columns. Each output is summed over `k` in order, one
//! multiply-add after the other, whatever the tile: results do not depend on how rows and columns are split.
//!
//! Why 8×48 (AVX-512): 24 accumulators, 3 of `B` and one broadcast are 28 of 32 registers, eight row pointers
//! fit the integer registers, and 11 loads per 24 multiply-adds stay under the two loads a cycle. Measured in
//! cache with K = 256, one thread of a Xeon at 2.8 GHz: 8×48 177 GFLOP/s, 14×32 175, 12×32 170, 6×64 161; powers of
//! two, which tile and row counts of the models are, divide by 8.

use super::simd::{Isa, Portable, Simd};

/// Columns of a packed panel of `B`; the last panel of a matrix is narrower (a multiple of [`LANE_MULTIPLE`]).
pub const PANEL: usize = 48;

/// Rows that one call of [`block`] takes at most.
pub const ROWS: usize = 8;

/// Packed panels are padded with zeros to a multiple of this many columns: the widest vector.
pub const LANE_MULTIPLE: usize = 16;

/// A run of `k` along which `A`'s row pointers are fixed.
#[derive(Clone, Copy)]
pub struct Segment {
    /// The first row of the panel of `B`.
    pub b_row: usize,
    /// Length of the run.
    pub k: usize,
}

/// What [`block`] multiplies. All distances are in floats.
#[derive(Clone, Copy)]
pub struct Block {
    /// The runs of `k`, added in order.
    pub segments: *const Segment,
    /// Number of runs.
    pub segment_count: usize,
    /// Row pointers: `[segment][ROWS]`, row `i` of run `s` at `a[s * a_segment + i]`.
    pub a: *const *const f32,
    /// Pointers from one run to the next in `a`.
    pub a_segment: usize,
    /// Added to every row pointer.
    pub a_offset: usize,
    /// From `k` to `k + 1` in `A`.
    pub a_step: usize,
    /// The panel of `B`.
    pub b: *const f32,
    /// From row to row of the panel: its width.
    pub b_width: usize,
    /// Rows of the panel from `k` to `k + 1`.
    pub b_step: usize,
    /// Start of `C`.
    pub c: *mut f32,
    /// Offsets of the rows of `C` from `c`, and of the residual's from `residual`: `[ROWS]`.
    pub c_rows: *const usize,
    /// Added to each offset: the first column.
    pub column: usize,
    /// Add to what `C` holds.
    pub accumulate: bool,
    /// One float per column, indexed from `column`; null for none.
    pub bias: *const f32,
    /// Same layout as `c`; null for none.
    pub residual: *const f32,
    /// Rows, 1 to [`ROWS`].
    pub rows: usize,
    /// Columns of `C`, 1 to [`PANEL`].
    pub columns: usize,
}

/// One register tile: rows `0..MR` of `t`, columns `n0 .. n0 + NV * LANES` of its panel.
#[inline(always)]
unsafe fn tile<S: Simd, const MR: usize, const NV: usize>(t: &Block, row: usize, n0: usize) {
    // SAFETY: `block`'s contract covers all rows and columns that the tile touches: loads of B stay inside the
    // padded panel, loads and stores of C, bias and residual inside `columns`.
    unsafe {
        let mut acc = [[S::zero(); NV]; MR];
        for s in 0..t.segment_count {
            let segment = *t.segments.add(s);
            let rows: [*const f32; MR] =
                std::array::from_fn(|i| (*t.a.add(s * t.a_segment + row + i)).add(t.a_offset));
            let b = t.b.add(segment.b_row * t.b_width + n0);
            let b_step = t.b_step * t.b_width;
            if t.a_step == 1 {
                multiply::<S, MR, NV>(&mut acc, rows, 1, b, b_step, segment.k);
            } else {
                multiply::<S, MR, NV>(&mut acc, rows, t.a_step, b, b_step, segment.k);
            }
        }
        let column = t.column + n0;
        let columns = t.columns - n0;
        for (i, acc) in acc.iter().enumerate() {
            let at = *t.c_rows.add(row + i) + column;
            for (j, &sum) in acc.iter().enumerate() {
                let first = j * S::LANES;
                if first >= columns {
                    break;
                }
                let count = columns - first;
                let c = t.c.add(at + first);
                let mut v = sum;
                if count >= S::LANES {
                    if t.accumulate {
                        v = S::add(v, S::load(c));
                    }
                    if !t.bias.is_null() {
                        v = S::add(v, S::load(t.bias.add(column + first)));
                    }
                    if !t.residual.is_null() {
                        v = S::add(v, S::load(t.residual.add(at + first)));
                    }
                    S::store(c, v);
                } else {
                    if t.accumulate {
                        v = S::add(v, S::load_head(c, count));
                    }
                    if !t.bias.is_null() {
                        v = S::add(v, S::load_head(t.bias.add(column + first), count));
                    }
                    if !t.residual.is_null() {
                        v = S::add(v, S::load_head(t.residual.add(at + first), count));
                    }
                    S::store_head(c, v, count);
                }
            }
        }
    }
}

/// `acc[i][j] += rows[i][k * step] * b[k][j]` over `k` in order.
#[inline(always)]
unsafe fn multiply<S: Simd, const MR: usize, const NV: usize>(
    acc: &mut [[S::V; NV]; MR],
    rows: [*const f32; MR],
    step: usize,
    mut b: *const f32,
    b_step: usize,
    count: usize,
) {
    let mut at = 0;
    for _ in 0..count {
        // SAFETY: `block`'s contract: `count` steps of every row and of the panel are readable. The last
        // advance of `b` may leave the panel, so it wraps.
        unsafe {
            let mut bv = [S::zero(); NV];
            for (j, bv) in bv.iter_mut().enumerate() {
                *bv = S::load(b.add(j * S::LANES));
            }
            for i in 0..MR {
                let a = S::splat(*rows[i].add(at));
                for j in 0..NV {
                    acc[i][j] = S::fma(a, bv[j], acc[i][j]);
                }
            }
        }
        b = b.wrapping_add(b_step);
        at += step;
    }
}

type RegisterTile = unsafe fn(&Block, usize, usize);

macro_rules! tiles {
    ($name:ident, $simd:ty, $($feature:literal)?) => {
        $(#[target_feature(enable = $feature)])?
        unsafe fn $name<const MR: usize, const NV: usize>(t: &Block, row: usize, n0: usize) {
            // SAFETY: the caller's contract.
            unsafe { tile::<$simd, MR, NV>(t, row, n0) }
        }
    };
}

macro_rules! table {
    ($name:ident, $($mr:literal)*) => {
        [$([$name::<$mr, 1>, $name::<$mr, 2>, $name::<$mr, 3>]),*]
    };
}

#[cfg(target_arch = "x86_64")]
tiles!(avx512, super::simd::x86::Avx512, "avx512f,avx2,fma");
#[cfg(target_arch = "x86_64")]
tiles!(avx2, super::simd::x86::Avx2, "avx2,fma");
tiles!(portable, Portable,);

#[cfg(target_arch = "x86_64")]
static AVX512: [[RegisterTile; 3]; 8] = table!(avx512, 1 2 3 4 5 6 7 8);
#[cfg(target_arch = "x86_64")]
static AVX2: [[RegisterTile; 3]; 4] = table!(avx2, 1 2 3 4);
static PORTABLE: [[RegisterTile; 2]; 4] = [
    [portable::<1, 1>, portable::<1, 2>],
    [portable::<2, 1>, portable::<2, 2>],
    [portable::<3, 1>, portable::<3, 2>],
    [portable::<4, 1>, portable::<4, 2>],
];

/// Computes up to 8×48 outputs.
///
/// # Safety
/// The processor has `isa`. For each of `rows` rows and every run of `k`, the row pointers are readable at the
/// `k` steps, the panel is readable in rows `b_row + i * b_step` over its whole `b_width` (at least `columns`
/// rounded up to [`LANE_MULTIPLE`]), and `c`, `bias` and `residual` are valid over `columns` columns from `column`;
/// nothing else uses those outputs at the same time.
pub unsafe fn block(isa: Isa, t: &Block) {
    debug_assert!((1..=ROWS).contains(&t.rows) && (1..=PANEL).contains(&t.columns));
    // SAFETY: the caller's contract.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                AVX512
                    .get_unchecked(t.rows - 1)
                    .get_unchecked((t.columns - 1) / 16)(t, 0, 0);
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => subdivide(t, &AVX2, 8),
            _ => subdivide(t, &PORTABLE, 4),
        }
    }
}

/// Covers the block with the tiles of an instruction set whose registers hold less than the whole of it.
///
/// # Safety
/// As for [`block`].
unsafe fn subdivide<const MR: usize, const NV: usize>(
    t: &Block,
    tiles: &[[RegisterTile; NV]; MR],
    lanes: usize,
) {
    for n0 in (0..t.columns).step_by(NV * lanes) {
        let vectors = (t.columns - n0).div_ceil(lanes).min(NV);
        for row in (0..t.rows).step_by(MR) {
            let rows = (t.rows - row).min(MR);
            // SAFETY: the tile lies inside the block.
            unsafe { tiles[rows - 1][vectors - 1](t, row, n0) };
        }
    }
}
