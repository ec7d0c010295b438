//! The hot instructions on all lanes at once, compiled for the processor's vector units.
//!
//! Each function gives exactly what its scalar twin in [`super::float`] or [`super::approx`] gives for every lane: it is
//! the same code, written without branches and run over arrays with its modifiers as constants, so that the compiler
//! turns 32 lanes into a few vector instructions. Modifiers that kernels rarely use take a plain loop.

use super::float::{self, Bf16, F16, Half, HalfMode, MinMax, Mode};
use super::{Lanes, WARP, approx};

/// `$name` runs `$body`, compiled for AVX2 and FMA where the processor has them.
macro_rules! vectorised {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),*) $body:block)*) => {$(
        $(#[$doc])*
        #[inline]
        pub fn $name($($argument: $type),*) {
            #[inline(always)]
            fn portable($($argument: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn vectorised($($argument: $type),*) {
                portable($($argument),*)
            }

            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the processor has just been found to have the features.
                return unsafe { vectorised($($argument),*) };
            }
            portable($($argument),*)
        }
    )*};
}

#[inline(always)]
fn map1(d: &mut Lanes, a: &Lanes, f: impl Fn(u32) -> u32) {
    for lane in 0..WARP {
        d[lane] = f(a[lane]);
    }
}

#[inline(always)]
fn map2(d: &mut Lanes, a: &Lanes, b: &Lanes, f: impl Fn(u32, u32) -> u32) {
    for lane in 0..WARP {
        d[lane] = f(a[lane], b[lane]);
    }
}

#[inline(always)]
fn map3(d: &mut Lanes, a: &Lanes, b: &Lanes, c: &Lanes, f: impl Fn(u32, u32, u32) -> u32) {
    for lane in 0..WARP {
        d[lane] = f(a[lane], b[lane], c[lane]);
    }
}

/// Runs an expression with the mode as a constant for the modes of ordinary kernels.
macro_rules! with_mode {
    ($mode:ident, $run:expr) => {
        match $mode {
            Mode::RN => {
                let $mode = Mode::RN;
                $run
            }
            Mode::RN_FTZ => {
                let $mode = Mode::RN_FTZ;
                $run
            }
            _ => $run,
        }
    };
}

macro_rules! with_min_max {
    ($how:ident, $run:expr) => {
        match $how {
            MinMax {
                ftz: false,
                nan: false,
                xorsign_abs: false,
            } => {
                let $how = MinMax {
                    ftz: false,
                    nan: false,
                    xorsign_abs: false,
                };
                $run
            }
            MinMax {
                ftz: true,
                nan: false,
                xorsign_abs: false,
            } => {
                let $how = MinMax {
                    ftz: true,
                    nan: false,
                    xorsign_abs: false,
                };
                $run
            }
            _ => $run,
        }
    };
}

/// The numbers of a packed register, widened: the low halves of all lanes, then the high halves.
#[inline(always)]
fn widen<H: Half>(a: &Lanes) -> [f32; 2 * WARP] {
    let mut wide = [0.0; 2 * WARP];
    let (low, high) = wide.split_at_mut(WARP);
    for lane in 0..WARP {
        low[lane] = H::widen(a[lane] as u16);
        high[lane] = H::widen((a[lane] >> 16) as u16);
    }
    wide
}

/// The reverse of [`widen`], rounding to nearest.
#[inline(always)]
fn narrow<H: Half>(d: &mut Lanes, wide: &[f32; 2 * WARP]) {
    let (low, high) = wide.split_at(WARP);
    for lane in 0..WARP {
        d[lane] = u32::from(H::narrow(high[lane])) << 16 | u32::from(H::narrow(low[lane]));
    }
}

/// A packed operation without modifiers on two operands.
#[inline(always)]
fn packed2<H: Half>(d: &mut Lanes, a: &Lanes, b: &Lanes, f: impl Fn(f32, f32) -> f32) {
    let (a, b) = (widen::<H>(a), widen::<H>(b));
    let mut wide = [0.0; 2 * WARP];
    for i in 0..2 * WARP {
        wide[i] = f(a[i], b[i]);
    }
    narrow::<H>(d, &wide);
}

/// A packed fused multiply-add without modifiers.
#[inline(always)]
fn packed_fma<H: Half>(d: &mut Lanes, a: &Lanes, b: &Lanes, c: &Lanes) {
    let (a, b, c) = (widen::<H>(a), widen::<H>(b), widen::<H>(c));
    let mut wide = [0.0; 2 * WARP];
    for i in 0..2 * WARP {
        wide[i] = H::fma_to_odd(a[i], b[i], c[i]);
    }
    narrow::<H>(d, &wide);
}

vectorised! {
    /// `add.f32`
    fn add_f32(d: &mut Lanes, a: &Lanes, b: &Lanes, mode: Mode) {
        with_mode!(mode, map2(d, a, b, |a, b| float::add_f32(a, b, mode)))
    }

    /// `sub.f32`
    fn sub_f32(d: &mut Lanes, a: &Lanes, b: &Lanes, mode: Mode) {
        with_mode!(mode, map2(d, a, b, |a, b| float::sub_f32(a, b, mode)))
    }

    /// `mul.f32`
    fn mul_f32(d: &mut Lanes, a: &Lanes, b: &Lanes, mode: Mode) {
        with_mode!(mode, map2(d, a, b, |a, b| float::mul_f32(a, b, mode)))
    }

    /// `fma.f32`
    fn fma_f32(d: &mut Lanes, a: &Lanes, b: &Lanes, c: &Lanes, mode: Mode) {
        with_mode!(mode, map3(d, a, b, c, |a, b, c| float::fma_f32(a, b, c, mode)))
    }

    /// `div.f32`
    fn div_f32(d: &mut Lanes, a: &Lanes, b: &Lanes, mode: Mode) {
        with_mode!(mode, map2(d, a, b, |a, b| float::div_f32(a, b, mode)))
    }

    /// `rcp.f32`
    fn rcp_f32(d: &mut Lanes, a: &Lanes, mode: Mode) {
        with_mode!(mode, map1(d, a, |a| float::rcp_f32(a, mode)))
    }

    /// `sqrt.f32`
    fn sqrt_f32(d: &mut Lanes, a: &Lanes, mode: Mode) {
        with_mode!(mode, map1(d, a, |a| float::sqrt_f32(a, mode)))
    }

    /// `min.f32`
    fn min_f32(d: &mut Lanes, a: &Lanes, b: &Lanes, how: MinMax) {
        with_min_max!(how, map2(d, a, b, |a, b| float::min_f32(a, b, how)))
    }

    /// `max.f32`
    fn max_f32(d: &mut Lanes, a: &Lanes, b: &Lanes, how: MinMax) {
        with_min_max!(how, map2(d, a, b, |a, b| float::max_f32(a, b, how)))
    }

    /// `add.f16x2`
    fn add_f16x2(d: &mut Lanes, a: &Lanes, b: &Lanes, mode: HalfMode) {
        match mode {
            HalfMode::PLAIN => packed2::<F16>(d, a, b, |a, b| a + b),
            _ => map2(d, a, b, |a, b| float::add_f16x2(a, b, mode)),
        }
    }

    /// `sub.f16x2`
    fn sub_f16x2(d: &mut Lanes, a: &Lanes, b: &Lanes, mode: HalfMode) {
        match mode {
            HalfMode::PLAIN => packed2::<F16>(d, a, b, |a, b| a - b),
            _ => map2(d, a, b, |a, b| float::sub_f16x2(a, b, mode)),
        }
    }

    /// `mul.f16x2`
    fn mul_f16x2(d: &mut Lanes, a: &Lanes, b: &Lanes, mode: HalfMode) {
        match mode {
            HalfMode::PLAIN => packed2::<F16>(d, a, b, |a, b| a * b),
            _ => map2(d, a, b, |a, b| float::mul_f16x2(a, b, mode)),
        }
    }

    /// `fma.rn.f16x2`
    fn fma_f16x2(d: &mut Lanes, a: &Lanes, b: &Lanes, c: &Lanes, mode: HalfMode) {
        match mode {
            HalfMode::PLAIN => packed_fma::<F16>(d, a, b, c),
            _ => map3(d, a, b, c, |a, b, c| float::fma_f16x2(a, b, c, mode)),
        }
    }

    /// `fma.rn.bf16x2`
    fn fma_bf16x2(d: &mut Lanes, a: &Lanes, b: &Lanes, c: &Lanes, mode: HalfMode) {
        match mode {
            HalfMode::PLAIN => packed_fma::<Bf16>(d, a, b, c),
            _ => map3(d, a, b, c, |a, b, c| float::fma_bf16x2(a, b, c, mode)),
        }
    }

    /// `min.f16x2`
    fn min_f16x2(d: &mut Lanes, a: &Lanes, b: &Lanes, how: MinMax) {
        with_min_max!(how, map2(d, a, b, |a, b| float::min_f16x2(a, b, how)))
    }

    /// `max.f16x2`
    fn max_f16x2(d: &mut Lanes, a: &Lanes, b: &Lanes, how: MinMax) {
        with_min_max!(how, map2(d, a, b, |a, b| float::max_f16x2(a, b, how)))
    }

    /// `cvt.f32.f16` of the low half of each lane.
    fn cvt_f32_f16(d: &mut Lanes, a: &Lanes) {
        map1(d, a, |a| float::f16_to_f32(a as u16))
    }

    /// `cvt.rn.f16.f32` into the low half of each lane; the high half is zero.
    fn cvt_f16_f32(d: &mut Lanes, a: &Lanes) {
        map1(d, a, |a| u32::from(float::f32_to_f16_nearest(a)))
    }

    /// `cvt.rn.bf16.f32` into the low half of each lane; the high half is zero.
    fn cvt_bf16_f32(d: &mut Lanes, a: &Lanes) {
        map1(d, a, |a| u32::from(float::f32_to_bf16_nearest(a)))
    }

    /// `cvt.rn.f16x2.f32`: `a` into the high halves, `b` into the low halves.
    fn cvt_f16x2_f32(d: &mut Lanes, a: &Lanes, b: &Lanes) {
        map2(d, a, b, |a, b| {
            u32::from(float::f32_to_f16_nearest(a)) << 16 | u32::from(float::f32_to_f16_nearest(b))
        })
    }

    /// `cvt.rn.bf16x2.f32`: `a` into the high halves, `b` into the low halves.
    fn cvt_bf16x2_f32(d: &mut Lanes, a: &Lanes, b: &Lanes) {
        map2(d, a, b, |a, b| {
            u32::from(float::f32_to_bf16_nearest(a)) << 16 | u32::from(float::f32_to_bf16_nearest(b))
        })
    }

    /// `ex2.approx.f32`
    fn ex2_f32(d: &mut Lanes, a: &Lanes, ftz: bool) {
        map1(d, a, |a| approx::ex2_f32(a, ftz))
    }

    /// `lg2.approx.f32`
    fn lg2_f32(d: &mut Lanes, a: &Lanes, ftz: bool) {
        map1(d, a, |a| approx::lg2_f32(a, ftz))
    }

    /// `rsqrt.approx.f32`
    fn rsqrt_f32(d: &mut Lanes, a: &Lanes, ftz: bool) {
        map1(d, a, |a| approx::rsqrt_f32(a, ftz))
    }
}
