//! Winograd's transform of a filter, when it is packed or right before it is multiplied.

use super::scheme::{F2, F4, MAX_POINTS, Scheme};
use super::tiles::WinogradTile;
use crate::kernel::cpu::gemm::simd::{Simd, SimdJob};

/// Transforms part of a filter to points: `G g Gᵀ`.
pub struct TransformFilter {
    /// Which scheme.
    pub tile: WinogradTile,
    /// Kernel entries.
    pub from: *const f32,
    /// From entry to entry.
    pub entry_stride: usize,
    /// From depth to depth of `from`.
    pub depth_stride: usize,
    /// Steps of depth.
    pub depth: usize,
    /// Width of the panel.
    pub width: usize,
    /// The upper or the lower half of the square of points, or all of it.
    pub half: Option<usize>,
    /// The points, from the first of the wanted ones on.
    pub to: *mut f32,
    /// From point to point.
    pub point_stride: usize,
    /// From depth to depth of `to`.
    pub to_stride: usize,
}

impl TransformFilter {
    /// Makes lines `FROM * POINTS / 2 .. TO * POINTS / 2` of the square.
    #[inline(always)]
    unsafe fn each<S: Simd, F: Scheme, const FROM: usize, const TO: usize>(self) {
        for d in 0..self.depth {
            for j in (0..self.width).step_by(S::LANES) {
                // SAFETY: both sides hold `depth` rows of `width`, which is a multiple of every vector.
                unsafe {
                    let from = self.from.add(d * self.depth_stride + j);
                    let mut half = [[S::zero(); 3]; MAX_POINTS];
                    for kx in 0..3 {
                        let mut g = [S::zero(); 3];
                        for (ky, g) in g.iter_mut().enumerate() {
                            *g = S::load(from.add((3 * ky + kx) * self.entry_stride));
                        }
                        let points = F::filter::<S>(&g);
                        for (half, point) in half.iter_mut().zip(points) {
                            half[kx] = point;
                        }
                    }
                    let mut to = self.to.add(d * self.to_stride + j);
                    for (i, half) in half.iter().enumerate().take(F::POINTS) {
                        if 2 * i < FROM * F::POINTS || 2 * i >= TO * F::POINTS {
                            continue;
                        }
                        let points = F::filter::<S>(half);
                        for &point in points.iter().take(F::POINTS) {
                            S::store(to, point);
                            to = to.wrapping_add(self.point_stride);
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn by_half<S: Simd, F: Scheme>(self) {
        // SAFETY: passed on.
        unsafe {
            match self.half {
                None => self.each::<S, F, 0, 2>(),
                Some(0) => self.each::<S, F, 0, 1>(),
                Some(_) => self.each::<S, F, 1, 2>(),
            }
        }
    }
}

impl SimdJob for TransformFilter {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: passed on.
        unsafe {
            match self.tile {
                WinogradTile::Two => self.by_half::<S, F2>(),
                WinogradTile::Four => self.by_half::<S, F4>(),
            }
        }
    }
}
