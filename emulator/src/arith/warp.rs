//! The hot instructions on all lanes at once, compiled for the processor's vector units.
//!
//! Each function gives exactly what its scalar twin in [`super::float`] gives for every lane; the scalar code is written
//! without branches so that the compiler turns 32 lanes into a few vector instructions.

use super::Lanes;
use super::float::{self, HalfMode, MinMax, Mode};

macro_rules! warp_instructions {
    ($($(#[$doc:meta])* $name:ident($($operand:ident),+; $mode:ident: $type:ty) = $scalar:expr;)*) => {$(
        $(#[$doc])*
        #[inline]
        pub fn $name(d: &mut Lanes, $($operand: &Lanes,)+ $mode: $type) {
            #[inline(always)]
            fn portable(d: &mut Lanes, $($operand: &Lanes,)+ $mode: $type) {
                for lane in 0..super::WARP {
                    d[lane] = $scalar($($operand[lane],)+ $mode);
                }
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn vectorised(d: &mut Lanes, $($operand: &Lanes,)+ $mode: $type) {
                portable(d, $($operand,)+ $mode);
            }

            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the processor has just been found to have the features.
                return unsafe { vectorised(d, $($operand,)+ $mode) };
            }
            portable(d, $($operand,)+ $mode);
        }
    )*};
}

warp_instructions! {
    /// `add.f32`
    add_f32(a, b; mode: Mode) = float::add_f32;
    /// `sub.f32`
    sub_f32(a, b; mode: Mode) = float::sub_f32;
    /// `mul.f32`
    mul_f32(a, b; mode: Mode) = float::mul_f32;
    /// `fma.f32`
    fma_f32(a, b, c; mode: Mode) = float::fma_f32;
    /// `div.f32`
    div_f32(a, b; mode: Mode) = float::div_f32;
    /// `sqrt.f32`
    sqrt_f32(a; mode: Mode) = float::sqrt_f32;
    /// `min.f32`
    min_f32(a, b; how: MinMax) = float::min_f32;
    /// `max.f32`
    max_f32(a, b; how: MinMax) = float::max_f32;
    /// `add.f16x2`
    add_f16x2(a, b; mode: HalfMode) = float::add_f16x2;
    /// `sub.f16x2`
    sub_f16x2(a, b; mode: HalfMode) = float::sub_f16x2;
    /// `mul.f16x2`
    mul_f16x2(a, b; mode: HalfMode) = float::mul_f16x2;
    /// `fma.rn.f16x2`
    fma_f16x2(a, b, c; mode: HalfMode) = float::fma_f16x2;
    /// `fma.rn.bf16x2`
    fma_bf16x2(a, b, c; mode: HalfMode) = float::fma_bf16x2;
    /// `cvt.f32.f16` of the low half of each lane.
    cvt_f32_f16(a; _mode: ()) = |x: u32, ()| float::f16_to_f32(x as u16);
    /// `cvt.rn.f16.f32` into the low half of each lane; the high half is zero.
    cvt_f16_f32(a; _mode: ()) = |x: u32, ()| u32::from(float::f32_to_f16_nearest(x));
    /// `cvt.rn.f16x2.f32`: `a` into the high halves, `b` into the low halves.
    cvt_f16x2_f32(a, b; _mode: ()) =
        |a: u32, b: u32, ()| u32::from(float::f32_to_f16_nearest(a)) << 16 | u32::from(float::f32_to_f16_nearest(b));
    /// `cvt.rn.bf16x2.f32`: `a` into the high halves, `b` into the low halves.
    cvt_bf16x2_f32(a, b; _mode: ()) =
        |a: u32, b: u32, ()| u32::from(float::f32_to_bf16_nearest(a)) << 16 | u32::from(float::f32_to_bf16_nearest(b));
}
