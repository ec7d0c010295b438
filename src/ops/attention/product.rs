//! The small products of the blocks of attention, kept in registers.

use crate::kernel::cpu::gemm::Isa;
use crate::kernel::cpu::gemm::simd::{Simd, SimdJob};

/// Columns of a product are a multiple of this, the widest vector.
pub(super) const VECTOR: usize = 16;

/// `c[i][j] (+)= sum_k a[i a_row + k a_step] b[k b_row + j]` for `i < m`, `j < n`, `k < depth`; `n` is a
/// multiple of [`VECTOR`]. Every sum runs over `k` in order.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub m: usize,
    pub n: usize,
    pub depth: usize,
    pub a_row: usize,
    pub a_step: usize,
    pub b_row: usize,
    pub c_row: usize,
    pub accumulate: bool,
}

impl Product {
    /// Computes `c`.
    pub fn run(&self, a: &[f32], b: &[f32], c: &mut [f32]) {
        let last = |count: usize, distance: usize| count.saturating_sub(1) * distance;
        assert!(
            self.n.is_multiple_of(VECTOR)
                && a.len() > last(self.m, self.a_row) + last(self.depth, self.a_step)
                && b.len() >= last(self.depth, self.b_row) + self.n
                && c.len() >= last(self.m, self.c_row) + self.n
        );
        let job = Tiles {
            product: *self,
            a: a.as_ptr(),
            b: b.as_ptr(),
            c: c.as_mut_ptr(),
        };
        // SAFETY: the instruction set was detected, and the operands cover every index of the product.
        unsafe { Isa::detect().run(job) }
    }
}

struct Tiles {
    product: Product,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
}

impl SimdJob for Tiles {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: as promised by `Product::run`.
        unsafe {
            match S::LANES {
                // 16 sums, 2 of b: of 32 registers.
                16 => self.all::<S, 8, 2>(),
                // 8 sums, 2 of b, a broadcast: of 16 registers.
                _ => self.all::<S, 4, 2>(),
            }
        }
    }
}

impl Tiles {
    #[inline(always)]
    unsafe fn all<S: Simd, const ROWS: usize, const VECTORS: usize>(&self) {
        let mut i = 0;
        // SAFETY: rows stay below m.
        unsafe {
            while self.product.m - i >= ROWS {
                self.strip::<S, ROWS, VECTORS>(i);
                i += ROWS;
            }
            while i < self.product.m {
                self.strip::<S, 1, VECTORS>(i);
                i += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn strip<S: Simd, const ROWS: usize, const VECTORS: usize>(&self, i: usize) {
        let mut j = 0;
        // SAFETY: columns stay below n, which whole vectors divide.
        unsafe {
            while self.product.n - j >= VECTORS * S::LANES {
                self.tile::<S, ROWS, VECTORS>(i, j);
                j += VECTORS * S::LANES;
            }
            while j < self.product.n {
                self.tile::<S, ROWS, 1>(i, j);
                j += S::LANES;
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(&self, i: usize, j: usize) {
        let p = &self.product;
        // SAFETY: rows and columns of the tile lie inside the operands.
        unsafe {
            let c: [*mut f32; ROWS] = std::array::from_fn(|r| self.c.add((i + r) * p.c_row + j));
            let mut sums = [[S::zero(); VECTORS]; ROWS];
            if p.accumulate {
                sums = c.map(|c| std::array::from_fn(|v| S::load(c.add(v * S::LANES))));
            }
            let mut a: [*const f32; ROWS] = std::array::from_fn(|r| self.a.add((i + r) * p.a_row));
            let mut b = self.b.add(j);
            for _ in 0..p.depth {
                let row: [S::V; VECTORS] = std::array::from_fn(|v| S::load(b.add(v * S::LANES)));
                for (sums, a) in sums.iter_mut().zip(&mut a) {
                    let factor = S::splat(**a);
                    for (sum, &b) in sums.iter_mut().zip(&row) {
                        *sum = S::fma(factor, b, *sum);
                    }
                    *a = a.wrapping_add(p.a_step);
                }
                b = b.wrapping_add(p.b_row);
            }
            for (c, sums) in c.into_iter().zip(sums) {
                for (v, sum) in sums.into_iter().enumerate() {
                    S::store(c.add(v * S::LANES), sum);
                }
            }
        }
    }
}
