//! Running plain loops with the widest vectors of the machine, and branch-free elementary
//! functions that such loops vectorise.

use super::gemm::Isa;

/// Calls `f` compiled for the widest instruction set found at run time.
///
/// `f` is inlined into a function with those target features, so that the loops in it are
/// vectorised accordingly; keep to loops over slices and the functions of this module. Give it
/// `#[inline(always)]` and write `for` loops: the body of a `for_each` may stay a function of its
/// own, compiled for the least common processor.
#[inline]
pub fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    match Isa::detect() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the features were detected.
        Isa::Avx512 => unsafe { with_avx512(f) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the features were detected.
        Isa::Avx2 => unsafe { with_avx2(f) },
        _ => f(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
fn with_avx512<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// `e^x` within 2 ulp over the range of `f32`; 0 below it, infinity above it.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, the Taylor polynomial of degree 7 (truncation 5e-9) for `e^r` and the exponent
/// field for `2^n`. NaN stays NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 split so that n * LN2_HI is exact.
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to an integer in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;

    // Beyond these the result is 0 or infinity.
    let clamped = x.clamp(-104.0, 89.0);
    let shifted = clamped * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LN2_HI - n * LN2_LO;
    let p = 1.984_127e-4;
    let p = p * r + 1.388_888_9e-3;
    let p = p * r + 8.333_334e-3;
    let p = p * r + 4.166_666_8e-2;
    let p = p * r + 1.666_666_7e-1;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    // 2^n as two factors, so that subnormal results round once. The integer stands in the low bits
    // of `shifted`; a conversion would saturate, which does not vectorise.
    let n = shifted.to_bits() as i32 - ROUND.to_bits() as i32;
    let half = n >> 1;
    let scale = |k: i32| f32::from_bits(((k + 127) as u32) << 23);
    p * scale(half) * scale(n - half)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x * normal_cdf(x)`.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    x * normal_cdf(x)
}

/// Derivative of [`gelu`]: `normal_cdf(x) + x exp(-x^2 / 2) / sqrt(2 pi)`.
#[inline(always)]
pub fn gelu_derivative(x: f32) -> f32 {
    let density = exp(-0.5 * x * x) * 0.398_942_3;
    normal_cdf(x) + x * density
}

/// `x * sigmoid(x)`.
#[inline(always)]
pub fn swish(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// Derivative of [`swish`]: `s (1 + x (1 - s))` with `s = sigmoid(x)`.
#[inline(always)]
pub fn swish_derivative(x: f32) -> f32 {
    let s = sigmoid(x);
    s * (1.0 + x * (1.0 - s))
}

/// Distribution function of the normal distribution, `erfc(-x / sqrt 2) / 2`, with a relative error
/// of 4.2e-7 and, in the lower tail, where the exponent's rounding shows, 2e-7 x^2 more.
///
/// `erfc(z) = t exp(-z^2 + P(t))` with `t = 1 / (1 + z / 2)`: Chebyshev fit of degree 9 for `z >= 0`,
/// relative error 1.2e-7 (Numerical Recipes, `erfcc`).
#[inline(always)]
pub fn normal_cdf(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * z);
    let p = 0.170_872_77;
    let p = p * t - 0.822_152_23;
    let p = p * t + 1.488_515_9;
    let p = p * t - 1.135_204;
    let p = p * t + 0.278_868_07;
    let p = p * t - 0.186_288_06;
    let p = p * t + 0.096_784_18;
    let p = p * t + 0.374_091_96;
    let p = p * t + 1.000_023_7;
    let p = p * t - 1.265_512_2;
    let tail = 0.5 * t * exp(p - z * z);
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// Lanes of the reductions below.
const LANES: usize = 16;

/// Folds lanes pairwise, halves onto halves.
#[inline(always)]
fn fold_lanes(mut lanes: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = f(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// `sum f(i)` for `i` in `0..len`, in a fixed order that vectorises: 16 lanes, then the lanes.
#[inline(always)]
pub fn sum_of(len: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let whole = len / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (i, lane) in lanes.iter_mut().enumerate() {
            *lane += f(start + i);
        }
    }
    let mut sum = fold_lanes(
        lanes,
        #[inline(always)]
        |a, b| a + b,
    );
    for i in whole..len {
        sum += f(i);
    }
    sum
}

/// `b` if it is larger, else `a`, also where `b` is NaN.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// The largest element, minus infinity of none. NaN is passed over.
#[inline(always)]
pub fn largest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, value);
        }
    }
    let mut most = fold_lanes(lanes, larger);
    for &value in rest {
        most = larger(most, value);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_ulp() {
        let mut worst = 0.0f64;
        for i in -1_040_000..890_000 {
            let x = i as f32 * 1e-4;
            let want = f64::from(x).exp();
            let got = f64::from(exp(x));
            if want > f64::from(f32::MAX) {
                continue;
            }
            let ulp = f64::from(f32::EPSILON) * want.max(f64::from(f32::MIN_POSITIVE));
            worst = worst.max((got - want).abs() / ulp);
        }
        assert!(worst <= 2.0, "{worst} ulp");
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn normal_cdf_is_accurate_in_both_tails() {
        for i in -60_000..60_000 {
            let x = i as f32 * 1e-4;
            let want = 0.5 * libm::erfc(-f64::from(x) * std::f64::consts::FRAC_1_SQRT_2);
            let error = (f64::from(normal_cdf(x)) - want).abs() / want;
            // The fit (1.2e-7), exp (2 ulp, 2.4e-7), the last product (6e-8); the rounding of
            // z^2 + P, up to 18, shows as a relative error in the lower tail.
            let bound = 4.2e-7
                + if x < 0.0 {
                    2e-7 * f64::from(x * x)
                } else {
                    0.0
                };
            assert!(error < bound, "{x}: {error:e}");
        }
        assert_eq!(normal_cdf(f32::NEG_INFINITY), 0.0);
        assert_eq!(normal_cdf(f32::INFINITY), 1.0);
        assert!(normal_cdf(f32::NAN).is_nan());
    }

    #[test]
    fn reductions_cover_every_element() {
        for len in [0, 1, 15, 16, 17, 40, 64] {
            let values: Vec<f32> = (0..len).map(|i| ((i * 7) % 64) as f32 - 70.0).collect();
            let sum: f32 = values.iter().sum();
            assert_eq!(sum_of(len, |i| values[i]), sum);
            let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(largest(&values), most);
        }
        assert_eq!(largest(&[1.0, f32::NAN, 3.0]), 3.0);
        assert!(sum_of(20, |i| if i == 18 { f32::NAN } else { 0.0 }).is_nan());
    }

    #[test]
    fn swish_has_its_limits() {
        assert_eq!(swish(0.0), 0.0);
        assert_eq!(swish(200.0), 200.0);
        assert!(swish(-200.0).abs() < 1e-30);
    }
}
