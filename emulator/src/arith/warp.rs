//! Packed half-precision arithmetic on all lanes at once, compiled for the processor's vector units.
//!
//! Each function gives exactly what its scalar twin in [`super::float`] gives for every lane. Widening, computing and
//! rounding run as separate loops over arrays, each of which becomes a few vector instructions. Which half of which lane
//! an element is does not matter to any of them, so registers are read as 64 numbers in memory order.

use super::float::{self, Bf16, F16, Half, MinMax};
use super::{Lanes, WARP, simd};

/// Both halves of all lanes.
type Halves = [u16; 2 * WARP];
/// Both halves of all lanes, widened.
type Wide = [f32; 2 * WARP];

/// Makes a function that runs `$body`, compiled for AVX2, FMA and F16C where the processor has them. In the body,
/// `$widen` and `$narrow` convert f16 with the processor's instructions, or portably.
macro_rules! vectorised {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),*) |$widen:ident, $narrow:ident| $body:expr;)*) => {$(
        $(#[$doc])*
        #[inline]
        pub fn $name($($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn vectorised($($argument: $type),*) {
                let ($widen, $narrow) = (|a: &Lanes| x86::widen_f16(a), |wide: &Wide| x86::narrow_f16(wide));
                let _ = (&$widen, &$narrow);
                $body
            }

            #[cfg(target_arch = "x86_64")]
            if simd::available() {
                // SAFETY: the processor has the features.
                return unsafe { vectorised($($argument),*) };
            }
            let ($widen, $narrow) = (widen::<F16>, narrow::<F16>);
            let _ = (&$widen, &$narrow);
            $body
        }
    )*};
}

/// The numbers of a packed register.
#[inline(always)]
fn widen<H: Half>(a: &Lanes) -> Wide {
    let halves: &Halves = bytemuck::cast_ref(a);
    let mut wide = [0.0; 2 * WARP];
    for i in 0..2 * WARP {
        wide[i] = H::widen(halves[i]);
    }
    wide
}

/// The reverse of [`widen`], rounding to nearest.
#[inline(always)]
fn narrow<H: Half>(wide: &Wide) -> Lanes {
    let mut halves: Halves = [0; 2 * WARP];
    for i in 0..2 * WARP {
        halves[i] = H::narrow(wide[i]);
    }
    bytemuck::cast(halves)
}

/// F16C's conversions.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, __m256, _MM_FROUND_TO_NEAREST_INT, _mm256_cvtph_ps, _mm256_cvtps_ph,
    };

    use super::{Halves, Lanes, WARP, Wide};

    /// Keeps NaN payloads, which the portable code drops; results are canonical in both.
    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    pub fn widen_f16(a: &Lanes) -> Wide {
        let mut wide = [0.0; 2 * WARP];
        for (numbers, words) in wide
            .as_chunks_mut::<8>()
            .0
            .iter_mut()
            .zip(a.as_chunks::<4>().0)
        {
            *numbers = bytemuck::cast(_mm256_cvtph_ps(bytemuck::cast::<[u32; 4], __m128i>(*words)));
        }
        wide
    }

    /// To nearest even; NaN becomes canonical.
    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    pub fn narrow_f16(wide: &Wide) -> Lanes {
        let mut halves: Halves = [0; 2 * WARP];
        for (halves, numbers) in halves
            .as_chunks_mut::<8>()
            .0
            .iter_mut()
            .zip(wide.as_chunks::<8>().0)
        {
            let numbers = bytemuck::cast::<[f32; 8], __m256>(*numbers);
            *halves = bytemuck::cast(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(numbers));
        }
        for half in &mut halves {
            *half = if *half & 0x7fff > 0x7c00 {
                crate::arith::float::NAN_HALF
            } else {
                *half
            };
        }
        bytemuck::cast(halves)
    }
}

#[inline(always)]
fn map2(a: &Wide, b: &Wide, f: impl Fn(f32, f32) -> f32) -> Wide {
    let mut wide = [0.0; 2 * WARP];
    for i in 0..2 * WARP {
        wide[i] = f(a[i], b[i]);
    }
    wide
}

#[inline(always)]
fn fma_to_odd<H: Half>(a: &Wide, b: &Wide, c: &Wide) -> Wide {
    let mut wide = [0.0; 2 * WARP];
    for i in 0..2 * WARP {
        wide[i] = H::fma_to_odd(a[i], b[i], c[i]);
    }
    wide
}

/// Whether all products are far enough from f32's limits to form bf16's fused multiply-add in f32, as f16's is.
#[inline(always)]
fn products_are_moderate(a: &Wide, b: &Wide, c: &Wide) -> bool {
    let mut moderate = true;
    for i in 0..2 * WARP {
        let product = (a[i] * b[i]).abs();
        let zero = a[i] == 0.0 || b[i] == 0.0;
        // 2^-100 and 2^100; comparisons with NaN are false.
        let inside = (7.888_609e-31..=1.267_650_6e30).contains(&product) || zero;
        moderate &= inside
            & (a[i].abs() < f32::INFINITY)
            & (b[i].abs() < f32::INFINITY)
            & (c[i].abs() < 1.267_650_6e30);
    }
    moderate
}

/// Applies an operation on bit patterns to all lanes. Without modifiers, they are constants for the compiler.
#[inline(always)]
fn halves2(d: &mut Lanes, a: &Lanes, b: &Lanes, how: MinMax, f: impl Fn(u16, u16, MinMax) -> u16) {
    let (a, b): (&Halves, &Halves) = (bytemuck::cast_ref(a), bytemuck::cast_ref(b));
    let d: &mut Halves = bytemuck::cast_mut(d);
    const PLAIN: MinMax = MinMax {
        ftz: false,
        nan: false,
        xorsign_abs: false,
    };
    if how == PLAIN {
        for i in 0..2 * WARP {
            d[i] = f(a[i], b[i], PLAIN);
        }
    } else {
        for i in 0..2 * WARP {
            d[i] = f(a[i], b[i], how);
        }
    }
}

vectorised! {
    /// `add.f16x2` without modifiers.
    fn add_f16x2(d: &mut Lanes, a: &Lanes, b: &Lanes) |widen, narrow| {
        *d = narrow(&map2(&widen(a), &widen(b), |a, b| a + b));
    };

    /// `sub.f16x2` without modifiers.
    fn sub_f16x2(d: &mut Lanes, a: &Lanes, b: &Lanes) |widen, narrow| {
        *d = narrow(&map2(&widen(a), &widen(b), |a, b| a - b));
    };

    /// `mul.f16x2` without modifiers.
    fn mul_f16x2(d: &mut Lanes, a: &Lanes, b: &Lanes) |widen, narrow| {
        *d = narrow(&map2(&widen(a), &widen(b), |a, b| a * b));
    };

    /// `fma.rn.f16x2` without modifiers.
    fn fma_f16x2(d: &mut Lanes, a: &Lanes, b: &Lanes, c: &Lanes) |widen, narrow| {
        *d = narrow(&fma_to_odd::<F16>(&widen(a), &widen(b), &widen(c)));
    };

    /// `fma.rn.bf16x2` without modifiers.
    fn fma_bf16x2(d: &mut Lanes, a: &Lanes, b: &Lanes, c: &Lanes) |_widen, _narrow| {
        let (a, b, c) = (self::widen::<Bf16>(a), self::widen::<Bf16>(b), self::widen::<Bf16>(c));
        let odd = if products_are_moderate(&a, &b, &c) { fma_to_odd::<F16>(&a, &b, &c) } else { fma_to_odd::<Bf16>(&a, &b, &c) };
        *d = self::narrow::<Bf16>(&odd);
    };

    /// `min{.ftz}{.NaN}{.xorsign.abs}.f16x2`
    fn min_f16x2(d: &mut Lanes, a: &Lanes, b: &Lanes, how: MinMax) |_widen, _narrow| halves2(d, a, b, how, float::min_f16);

    /// `max{.ftz}{.NaN}{.xorsign.abs}.f16x2`
    fn max_f16x2(d: &mut Lanes, a: &Lanes, b: &Lanes, how: MinMax) |_widen, _narrow| halves2(d, a, b, how, float::max_f16);

    /// `min{.NaN}{.xorsign.abs}.bf16x2`
    fn min_bf16x2(d: &mut Lanes, a: &Lanes, b: &Lanes, how: MinMax) |_widen, _narrow| halves2(d, a, b, how, float::min_bf16);

    /// `max{.NaN}{.xorsign.abs}.bf16x2`
    fn max_bf16x2(d: &mut Lanes, a: &Lanes, b: &Lanes, how: MinMax) |_widen, _narrow| halves2(d, a, b, how, float::max_bf16);
}
