//! Floating point against definitions that share no code with it: tables of all representable values, error-free
//! transformations of the host's arithmetic, and the rules written out for special values.

use super::*;

const ROUNDS: [Round; 4] = [Round::Nearest, Round::Zero, Round::NegInf, Round::PosInf];

/// A small generator with good bits (SplitMix64), so that tests repeat.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// f32 bits: any pattern, or exponents near each other so that sums cancel and round.
    fn f32_bits(&mut self) -> u32 {
        let bits = self.next() as u32;
        match self.next() % 4 {
            0 => bits,
            1 => bits & 0x807f_ffff | (120 + (self.next() % 16) as u32) << 23,
            2 => bits & 0x80ff_ffff,
            _ => bits & 0xfff0_0fff,
        }
    }
}

/// The value of a 16-bit pattern, from the definition of the format.
fn half_value(bits: u16, fraction_bits: i32, exponent_bits: i32) -> f64 {
    let bits = i32::from(bits);
    let fraction = f64::from(bits & ((1 << fraction_bits) - 1)) / f64::from(1 << fraction_bits);
    let exponent = (bits >> fraction_bits) & ((1 << exponent_bits) - 1);
    let bias = (1 << (exponent_bits - 1)) - 1;
    let magnitude = if exponent == (1 << exponent_bits) - 1 {
        if fraction == 0.0 {
            f64::INFINITY
        } else {
            f64::NAN
        }
    } else if exponent == 0 {
        fraction * 2f64.powi(1 - bias)
    } else {
        (1.0 + fraction) * 2f64.powi(exponent - bias)
    };
    if bits >> 15 != 0 {
        -magnitude
    } else {
        magnitude
    }
}

/// Rounds a number between two neighbours of a format. `middle` compares the exact number with the mean.
fn choose(
    round: Round,
    negative: bool,
    low: u64,
    high: u64,
    exact: bool,
    middle: std::cmp::Ordering,
) -> u64 {
    // `low` and `high` are magnitudes' patterns, so the even one has an even pattern.
    use std::cmp::Ordering::*;
    if exact {
        return low;
    }
    match round {
        Round::Nearest => match middle {
            Less => low,
            Greater => high,
            Equal => {
                if low.is_multiple_of(2) {
                    low
                } else {
                    high
                }
            }
        },
        Round::NearestAway => {
            if middle == Less {
                low
            } else {
                high
            }
        }
        Round::Zero => low,
        Round::NegInf => {
            if negative {
                high
            } else {
                low
            }
        }
        Round::PosInf => {
            if negative {
                low
            } else {
                high
            }
        }
    }
}

/// Rounds the exact number `near + error`, where the error is less than half a unit of `near`'s last place, to a 16-bit
/// format by looking it up among all the format's values.
fn reference_half((near, error): (f64, f64), round: Round, values: &[f64], infinity: u16) -> u16 {
    use std::cmp::Ordering::{Equal, Greater, Less};
    if near.is_nan() {
        return 0x7fff;
    }
    let negative = near.is_sign_negative();
    let magnitude = near.abs();
    let error = if negative { -error } else { error };
    let sign = if negative { 0x8000 } else { 0 };
    if magnitude.is_infinite() {
        return infinity | sign;
    }
    let compare = |with: f64| match magnitude.partial_cmp(&with).unwrap() {
        Equal if error > 0.0 => Greater,
        Equal if error < 0.0 => Less,
        order => order,
    };
    // values[i] is the value of pattern i, up to the largest finite; the next would be one more step.
    let step = values[values.len() - 1] - values[values.len() - 2];
    let at = |i: usize| {
        values
            .get(i)
            .copied()
            .unwrap_or(values[values.len() - 1] + step)
    };
    let low = values.partition_point(|&v| compare(v) != Less) - 1;
    if low + 1 == values.len() && compare(at(low + 1)) != Less {
        // Beyond even the step past the end: only the direction decides.
        let up = choose(round, negative, 0, 1, false, Greater) == 1;
        return if up {
            infinity | sign
        } else {
            (infinity - 1) | sign
        };
    }
    let middle = compare((at(low) + at(low + 1)) / 2.0);
    let exact = compare(at(low)) == Equal;
    choose(round, negative, low as u64, low as u64 + 1, exact, middle) as u16 | sign
}

fn positive_values(infinity: u16, fraction_bits: i32, exponent_bits: i32) -> Vec<f64> {
    (0..infinity)
        .map(|bits| half_value(bits, fraction_bits, exponent_bits))
        .collect()
}

#[test]
fn f16_and_bf16_widen_to_the_value_their_format_defines() {
    for bits in 0..=u16::MAX {
        for (wide, value) in [
            (f16_to_f32(bits), half_value(bits, 10, 5)),
            (bf16_to_f32(bits), half_value(bits, 7, 8)),
        ] {
            if value.is_nan() {
                assert_eq!(wide, NAN_F32, "{bits:#06x}");
            } else {
                assert_eq!(
                    f64::from(f32::from_bits(wide)).to_bits(),
                    value.to_bits(),
                    "{bits:#06x}"
                );
            }
        }
        let through_f64 = cvt_float_to_float(
            FloatType::F16,
            FloatType::F64,
            u64::from(bits),
            Convert::default(),
        );
        if half_value(bits, 10, 5).is_nan() {
            assert!(is_nan_f64(through_f64));
        } else {
            assert_eq!(f64::from_bits(through_f64), half_value(bits, 10, 5));
        }
    }
}

/// All 65,536 values of a format, their midpoints, and the f32 values just around both, in every direction.
fn narrowing_is_exact(to: FloatType, infinity: u16, fraction_bits: i32, exponent_bits: i32) {
    let values = positive_values(infinity, fraction_bits, exponent_bits);
    let mut inputs = vec![
        0.0f32,
        f32::from_bits(1),
        f32::MIN_POSITIVE,
        f32::MAX,
        f32::INFINITY,
        f32::NAN,
    ];
    for pair in values.windows(2) {
        inputs.push(pair[0] as f32);
        inputs.push(((pair[0] + pair[1]) / 2.0) as f32);
    }
    let largest = values[values.len() - 1];
    inputs.push(largest as f32);
    inputs.push((largest + (largest - values[values.len() - 2]) / 2.0) as f32);
    for input in inputs {
        for near in [input.next_down(), input, input.next_up()] {
            for signed in [near, -near] {
                for round in ROUNDS {
                    let got = match to {
                        FloatType::F16 => f32_to_f16(signed.to_bits(), round),
                        _ => f32_to_bf16(signed.to_bits(), round),
                    };
                    let want = reference_half((f64::from(signed), 0.0), round, &values, infinity);
                    assert_eq!(
                        got, want,
                        "{signed:e} {round:?}: {got:#06x}, not {want:#06x}"
                    );
                    let wide = f64::from(signed).to_bits();
                    let through_f64 = cvt_float_to_float(
                        FloatType::F64,
                        to,
                        wide,
                        Convert {
                            round,
                            ..Convert::default()
                        },
                    );
                    assert_eq!(through_f64, u64::from(want), "f64 {signed:e} {round:?}");
                }
            }
        }
    }
}

#[test]
fn f32_and_f64_narrow_to_f16_exactly_in_every_direction() {
    narrowing_is_exact(FloatType::F16, 0x7c00, 10, 5);
}

#[test]
fn f32_and_f64_narrow_to_bf16_exactly_in_every_direction() {
    narrowing_is_exact(FloatType::Bf16, 0x7f80, 7, 8);
}

#[test]
fn conversions_agree_with_the_half_crate_on_every_f32_upper_half() {
    for upper in 0..=u16::MAX {
        for lower in [
            0u32, 1, 0x0fff, 0x1000, 0x1001, 0x7fff, 0x8000, 0x8001, 0xffff,
        ] {
            let x = f32::from_bits(u32::from(upper) << 16 | lower);
            if x.is_nan() {
                assert_eq!(f32_to_f16_nearest(x.to_bits()), NAN_HALF);
                continue;
            }
            assert_eq!(
                f32_to_f16_nearest(x.to_bits()),
                ::half::f16::from_f32(x).to_bits(),
                "{x:e}"
            );
            assert_eq!(
                f32_to_bf16_nearest(x.to_bits()),
                ::half::bf16::from_f32(x).to_bits(),
                "{x:e}"
            );
        }
    }
}

#[test]
fn f16_rounds_to_integers_of_every_type_for_every_value() {
    let types = [
        IntType::U8,
        IntType::S8,
        IntType::U16,
        IntType::S16,
        IntType::U32,
        IntType::S32,
        IntType::U64,
        IntType::S64,
    ];
    for bits in 0..=u16::MAX {
        let value = half_value(bits, 10, 5);
        for round in ROUNDS {
            let whole = match round {
                Round::Nearest => value.round_ties_even(),
                Round::Zero => value.trunc(),
                Round::NegInf => value.floor(),
                _ => value.ceil(),
            };
            let back = cvt_round_to_integral(
                FloatType::F16,
                u64::from(bits),
                Convert {
                    round,
                    ..Convert::default()
                },
            );
            if value.is_nan() {
                assert_eq!(back, u64::from(NAN_HALF));
            } else {
                let back = half_value(back as u16, 10, 5);
                assert_eq!(back.to_bits(), whole.to_bits(), "{value} {round:?}");
            }
            for ty in types {
                let got = cvt_float_to_int(FloatType::F16, ty, u64::from(bits), round, false);
                let (least, largest) = ty.range();
                let want = if value.is_nan() {
                    if ty.bits == 64 { 1u64 << 63 } else { 0 }
                } else {
                    // Far inside i128; the cast saturates infinities.
                    (whole as i128).clamp(least, largest) as u64
                };
                assert_eq!(got, want, "{value} {round:?} {ty:?}");
            }
        }
    }
}

/// Rounds the exact number `near + error` to f32, where |error| is far below an f32 ulp of `near` and only its sign matters.
fn reference_f32(near: f64, error: f64, round: Round) -> f32 {
    if near.is_nan() || near.is_infinite() || (near == 0.0 && error == 0.0) {
        return near as f32;
    }
    // The largest f32 that is not above the exact number, and the one after it.
    let mut low = near as f32;
    if f64::from(low) > near || (f64::from(low) == near && error < 0.0) {
        low = low.next_down();
    }
    if f64::from(low) == near && error == 0.0 {
        return low;
    }
    let high = low.next_up();
    match round {
        Round::Zero => {
            if near < 0.0 {
                high
            } else {
                low
            }
        }
        Round::NegInf => low,
        Round::PosInf => high,
        _ => {
            // Finite neighbours of the overflow threshold have an exact midpoint in f64 as well.
            let wide = |x: f32, other: f32| {
                if x.is_infinite() {
                    f64::from(other) * 2.0 - f64::from(other.abs().next_down().copysign(other))
                } else {
                    f64::from(x)
                }
            };
            let middle = (wide(low, high) + wide(high, low)) / 2.0;
            let above = near > middle || (near == middle && error > 0.0);
            let below = near < middle || (near == middle && error < 0.0);
            if above || (!below && low.to_bits() % 2 == 1) {
                high
            } else {
                low
            }
        }
    }
}

/// The exact sum of two f64 as a rounded sum and its error (Knuth).
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let part = sum - a;
    (sum, (a - (sum - part)) + (b - part))
}

fn same(got: u32, want: f32, what: &str) {
    let want = if want.is_nan() {
        NAN_F32
    } else {
        want.to_bits()
    };
    assert_eq!(
        got,
        want,
        "{what}: got {:e}, not {:e}",
        f32::from_bits(got),
        f32::from_bits(want)
    );
}

#[test]
fn f32_arithmetic_is_exactly_rounded_in_every_direction() {
    let mut random = Random(1);
    let edges = [
        0u32,
        1,
        0x7f_ffff,
        0x80_0000,
        0x3f80_0000,
        0x3f80_0001,
        0x7f7f_ffff,
        0x7f80_0000,
        0x7fc0_0000,
    ];
    let mut operands: Vec<u32> = edges.iter().flat_map(|&x| [x, x | 1 << 31]).collect();
    operands.extend((0..60).map(|_| random.f32_bits()));
    let check = |a: u32, b: u32, c: u32| {
        let (x, y, z) = (
            f64::from(f32::from_bits(a)),
            f64::from(f32::from_bits(b)),
            f64::from(f32::from_bits(c)),
        );
        for round in ROUNDS {
            let mode = Mode::rounding(round);
            let name = |op: &str| format!("{op} {a:#x} {b:#x} {c:#x} {round:?}");
            let signed_zero = |sum: f64, x: f64, y: f64| {
                // x + y = 0 exactly with different signs: −0 only towards −∞.
                if sum == 0.0 && x.is_sign_negative() != y.is_sign_negative() {
                    if round == Round::NegInf { -0.0 } else { 0.0 }
                } else {
                    sum
                }
            };
            let (sum, error) = two_sum(x, y);
            same(
                add_f32(a, b, mode),
                reference_f32(signed_zero(sum, x, y), error, round),
                &name("add"),
            );
            let (difference, error) = two_sum(x, -y);
            same(
                sub_f32(a, b, mode),
                reference_f32(signed_zero(difference, x, -y), error, round),
                &name("sub"),
            );
            same(
                mul_f32(a, b, mode),
                reference_f32(x * y, 0.0, round),
                &name("mul"),
            );
            let (sum, error) = two_sum(x * y, z);
            same(
                fma_f32(a, b, c, mode),
                reference_f32(signed_zero(sum, x * y, z), error, round),
                &name("fma"),
            );
            let quotient = x / y;
            let rest = (-quotient).mul_add(y, x) * y.signum();
            let rest = if rest.is_nan() { 0.0 } else { rest };
            same(
                div_f32(a, b, mode),
                reference_f32(quotient, rest, round),
                &name("div"),
            );
            let root = x.sqrt();
            let rest = (-root).mul_add(root, x);
            let rest = if rest.is_nan() { 0.0 } else { rest };
            same(
                sqrt_f32(a, mode),
                reference_f32(root, rest, round),
                &name("sqrt"),
            );
            let reciprocal = 1.0 / x;
            let rest = (-reciprocal).mul_add(x, 1.0) * x.signum();
            let rest = if rest.is_nan() { 0.0 } else { rest };
            same(
                rcp_f32(a, mode),
                reference_f32(reciprocal, rest, round),
                &name("rcp"),
            );
        }
    };
    for &a in &operands {
        for &b in &operands {
            check(a, b, operands[(a ^ b) as usize % operands.len()]);
        }
    }
    for _ in 0..50_000 {
        let (a, b, c) = (random.f32_bits(), random.f32_bits(), random.f32_bits());
        check(a, b, c);
        // A sum that cancels all but the product's tail.
        check(a, b, mul_f32(a, b, Mode::RN) ^ 1 << 31);
    }
}

/// The f64 that is `nearest` or its neighbour, given on which side of `nearest` the exact number is.
fn reference_f64(nearest: f64, error: f64, round: Round) -> f64 {
    match round {
        Round::NegInf if error < 0.0 => nearest.next_down(),
        Round::PosInf if error > 0.0 => nearest.next_up(),
        Round::Zero if nearest > 0.0 && error < 0.0 => nearest.next_down(),
        Round::Zero if nearest < 0.0 && error > 0.0 => nearest.next_up(),
        _ => nearest,
    }
}

#[test]
fn f64_arithmetic_is_exactly_rounded_in_every_direction() {
    let mut random = Random(2);
    // Exponents where no product or error term leaves the normal range, so that the error terms are exact.
    let mut number = || {
        let bits = random.next();
        f64::from_bits(bits & 0x800f_ffff_ffff_ffff | (1023 - 40 + (random.next() % 80)) << 52)
    };
    for _ in 0..100_000 {
        let (a, b, c) = (number(), number(), number());
        for round in ROUNDS {
            let bits = |x: f64| x.to_bits();
            let (sum, error) = two_sum(a, b);
            assert_eq!(
                add_f64(bits(a), bits(b), round),
                bits(reference_f64(sum, error, round))
            );
            assert_eq!(
                sub_f64(bits(a), bits(-b), round),
                bits(reference_f64(sum, error, round))
            );
            let (product, low) = (a * b, a.mul_add(b, -(a * b)));
            assert_eq!(
                mul_f64(bits(a), bits(b), round),
                bits(reference_f64(product, low, round))
            );
            // Boldo and Muller's exact error of a fused multiply-add, of which only the sign is needed.
            let fused = a.mul_add(b, c);
            let (sum, high_error) = two_sum(product, c);
            let (tail, tail_error) = two_sum(high_error, low);
            let (head, head_error) = two_sum(sum - fused, tail);
            let error = head + (head_error + tail_error);
            assert_eq!(
                fma_f64(bits(a), bits(b), bits(c), round),
                bits(reference_f64(fused, error, round)),
                "{a:e} {b:e} {c:e} {round:?}"
            );
            let quotient = a / b;
            let rest = (-quotient).mul_add(b, a) * b.signum();
            assert_eq!(
                div_f64(bits(a), bits(b), round),
                bits(reference_f64(quotient, rest, round))
            );
            let root = a.abs().sqrt();
            let rest = (-root).mul_add(root, a.abs());
            assert_eq!(
                sqrt_f64(bits(a.abs()), round),
                bits(reference_f64(root, rest, round))
            );
        }
    }
}

#[test]
fn f64_overflow_underflow_and_nan_follow_the_direction_and_the_operand() {
    let (max, tiny) = (f64::MAX.to_bits(), 1u64);
    let infinity = f64::INFINITY.to_bits();
    assert_eq!(add_f64(max, max, Round::Zero), max);
    assert_eq!(add_f64(max, max, Round::NegInf), max);
    assert_eq!(add_f64(max, max, Round::PosInf), infinity);
    assert_eq!(mul_f64(tiny, tiny, Round::PosInf), tiny);
    assert_eq!(mul_f64(tiny, tiny, Round::Zero), 0);
    assert_eq!(mul_f64(tiny, tiny | 1 << 63, Round::NegInf), tiny | 1 << 63);
    assert_eq!(add_f64(1, 1 << 63 | 1, Round::NegInf), 1 << 63);
    assert_eq!(
        add_f64(infinity, infinity | 1 << 63, Round::Nearest),
        NAN_F64
    );
    assert_eq!(
        add_f64(0x7ff0_0000_0000_0123, max, Round::Nearest),
        0x7ff8_0000_0000_0123
    );
    let (odd, wide) = (0x3ff0_0000_0000_0001u64, 0x3690_0000_0000_0000u64);
    // 1 + ε plus something far below its last place moves only in the direction of the operand.
    assert_eq!(add_f64(odd, wide, Round::PosInf), odd + 1);
    assert_eq!(add_f64(odd, wide, Round::Zero), odd);
    assert_eq!(sub_f64(odd, wide, Round::Zero), odd - 1);
    assert_eq!(sub_f64(odd, wide, Round::PosInf), odd);
}

#[test]
fn ftz_flushes_operands_and_results_and_keeps_their_sign() {
    let ftz = Mode::RN_FTZ;
    let (subnormal, normal) = (0x0040_0000u32, 0x0080_0000u32);
    assert_eq!(add_f32(subnormal, subnormal, ftz), 0);
    assert_eq!(add_f32(subnormal | 1 << 31, 1 << 31, ftz), 1 << 31);
    assert_eq!(mul_f32(normal, 0x3f00_0000, ftz), 0);
    assert_eq!(mul_f32(normal | 1 << 31, 0x3f00_0000, ftz), 1 << 31);
    assert_eq!(mul_f32(normal, 0x3f00_0000, Mode::RN), subnormal);
    assert_eq!(div_f32(0x3f80_0000, subnormal, ftz), 0x7f80_0000);
    assert_eq!(sqrt_f32(subnormal | 1 << 31, ftz), 1 << 31);
    assert_eq!(abs_f32(subnormal | 1 << 31, true), 0);
    assert_eq!(neg_f32(subnormal, true), 1 << 31);
    assert!(compare_f32(FloatCmp::Eq, subnormal, 1 << 31, true));
    assert!(!compare_f32(FloatCmp::Eq, subnormal, 1 << 31, false));
    let small = 0x0200u16;
    assert_eq!(
        add_f16(
            small,
            small,
            HalfMode {
                ftz: true,
                ..HalfMode::PLAIN
            }
        ),
        0
    );
    assert_eq!(add_f16(small, small, HalfMode::PLAIN), 0x0400);
}

#[test]
fn sat_clamps_to_the_unit_interval_and_turns_nan_and_minus_zero_into_zero() {
    let sat = Mode {
        sat: true,
        ..Mode::RN
    };
    let bits = |x: f32| x.to_bits();
    for (a, b, want) in [
        (0.25, 0.5, 0.75),
        (2.0, 3.0, 1.0),
        (-1.0, 0.5, 0.0),
        (f32::INFINITY, 1.0, 1.0),
        (-0.0, -0.0, 0.0),
    ] {
        assert_eq!(add_f32(bits(a), bits(b), sat), bits(want));
    }
    assert_eq!(add_f32(NAN_F32, 0, sat), 0);
    let half = HalfMode {
        sat: true,
        ..HalfMode::PLAIN
    };
    assert_eq!(add_f16(0x4000, 0x4000, half), 0x3c00);
    assert_eq!(add_f16(0xc000, 0x3c00, half), 0);
    assert_eq!(add_f16(0x7e00, 0x3c00, half), 0);
    let relu = HalfMode {
        relu: true,
        ..HalfMode::PLAIN
    };
    assert_eq!(fma_f16(0xc000, 0x3c00, 0x3c00, relu), 0);
    assert_eq!(fma_f16(0x7e00, 0x3c00, 0x3c00, relu), NAN_HALF);
}

#[test]
fn f16_and_bf16_arithmetic_rounds_once() {
    let f16 = positive_values(0x7c00, 10, 5);
    let bf16 = positive_values(0x7f80, 7, 8);
    let mut random = Random(3);
    let pick = |random: &mut Random| {
        let bits = random.next() as u16;
        // Half of the numbers have few significant bits, so that ties happen.
        if random.next().is_multiple_of(2) {
            bits
        } else {
            bits & 0xffc0
        }
    };
    for _ in 0..400_000 {
        let (a, b, c) = (pick(&mut random), pick(&mut random), pick(&mut random));
        for (fraction, exponent, values, infinity) in
            [(10, 5, &f16, 0x7c00u16), (7, 8, &bf16, 0x7f80)]
        {
            let [x, y, z] = [a, b, c].map(|bits| half_value(bits, fraction, exponent));
            let plain = HalfMode::PLAIN;
            let (add, mul, fma) = match fraction {
                10 => (
                    add_f16(a, b, plain),
                    mul_f16(a, b, plain),
                    fma_f16(a, b, c, plain),
                ),
                _ => (
                    add_bf16(a, b, plain),
                    mul_bf16(a, b, plain),
                    fma_bf16(a, b, c, plain),
                ),
            };
            let reference = |x| reference_half(x, Round::Nearest, values, infinity);
            assert_eq!(add, reference(two_sum(x, y)), "add {x:e} {y:e}");
            assert_eq!(mul, reference((x * y, 0.0)), "mul {x:e} {y:e}");
            assert_eq!(fma, reference(two_sum(x * y, z)), "fma {x:e} {y:e} {z:e}");
        }
    }
}

#[test]
fn packed_arithmetic_is_the_scalar_arithmetic_of_each_half() {
    let mut random = Random(4);
    for _ in 0..10_000 {
        let (a, b, c) = (
            random.next() as u32,
            random.next() as u32,
            random.next() as u32,
        );
        let got = fma_f16x2(a, b, c, HalfMode::PLAIN);
        let low = fma_f16(a as u16, b as u16, c as u16, HalfMode::PLAIN);
        let high = fma_f16(
            (a >> 16) as u16,
            (b >> 16) as u16,
            (c >> 16) as u16,
            HalfMode::PLAIN,
        );
        assert_eq!(got, u32::from(high) << 16 | u32::from(low));
    }
    // High half first in the operand list.
    let packed = cvt_pack_halves(
        FloatType::F16,
        1f32.to_bits(),
        2f32.to_bits(),
        Convert::default(),
    );
    assert_eq!(packed, 0x3c00_4000);
}

#[test]
fn minimum_and_maximum_order_zeros_and_treat_nan_as_told() {
    let plain = MinMax::default();
    let nan = MinMax { nan: true, ..plain };
    let bits = |x: f32| x.to_bits();
    assert_eq!(min_f32(bits(0.0), bits(-0.0), plain), bits(-0.0));
    assert_eq!(min_f32(bits(-0.0), bits(0.0), plain), bits(-0.0));
    assert_eq!(max_f32(bits(-0.0), bits(0.0), plain), bits(0.0));
    assert_eq!(max_f32(0x7f80_0001, bits(-2.0), plain), bits(-2.0));
    assert_eq!(max_f32(bits(-2.0), 0xffc0_0000, plain), bits(-2.0));
    assert_eq!(max_f32(bits(-2.0), 0xffc0_0000, nan), NAN_F32);
    assert_eq!(min_f32(0xffc0_0000, 0x7f80_0001, plain), NAN_F32);
    let xorsign = MinMax {
        xorsign_abs: true,
        ..plain
    };
    assert_eq!(min_f32(bits(-3.0), bits(2.0), xorsign), bits(-2.0));
    assert_eq!(max_f32(bits(-3.0), bits(-2.0), xorsign), bits(3.0));
    assert_eq!(min_f16(0x8000, 0x0000, plain), 0x8000);
    assert_eq!(max_f16(0x7e00, 0xc000, plain), 0xc000);
    assert_eq!(max_bf16(0x7fc0, 0xc000, nan), NAN_HALF);
    assert_eq!(min_f64(NAN_F64, 2f64.to_bits()), 2f64.to_bits());
    assert_eq!(min_f64(0, 1 << 63), 1 << 63);
    let mut random = Random(5);
    for _ in 0..100_000 {
        let (a, b) = (random.f32_bits(), random.f32_bits());
        let (x, y) = (f32::from_bits(a), f32::from_bits(b));
        if x.is_nan() || y.is_nan() || x == y {
            continue;
        }
        assert_eq!(min_f32(a, b, plain), bits(x.min(y)));
        assert_eq!(max_f32(a, b, plain), bits(x.max(y)));
    }
}

#[test]
fn floats_convert_to_integers_by_rounding_then_clamping() {
    let to = |x: f64, ty: IntType, round: Round| {
        cvt_float_to_int(FloatType::F64, ty, x.to_bits(), round, false)
    };
    let from_f32 = |x: f32, ty: IntType, round: Round| {
        cvt_float_to_int(FloatType::F32, ty, u64::from(x.to_bits()), round, false)
    };
    assert_eq!(to(2.5, IntType::S32, Round::Nearest), 2);
    assert_eq!(to(3.5, IntType::S32, Round::Nearest), 4);
    assert_eq!(to(-2.5, IntType::S32, Round::PosInf) as i64, -2);
    assert_eq!(to(-2.5, IntType::S32, Round::NegInf) as i64, -3);
    assert_eq!(to(-0.5, IntType::U32, Round::NegInf), 0);
    assert_eq!(to(1e300, IntType::U64, Round::Zero), u64::MAX);
    assert_eq!(to(-1e300, IntType::S64, Round::Zero), 1 << 63);
    assert_eq!(to(f64::NAN, IntType::S32, Round::Zero) as u32, 0x8000_0000);
    assert_eq!(to(f64::NAN, IntType::U32, Round::Zero) as u32, 0x8000_0000);
    assert_eq!(from_f32(f32::NAN, IntType::S32, Round::Zero), 0);
    assert_eq!(from_f32(f32::NAN, IntType::U32, Round::Nearest), 0);
    assert_eq!(from_f32(f32::NAN, IntType::S64, Round::Zero), 1 << 63);
    assert_eq!(from_f32(f32::NAN, IntType::U64, Round::Zero), 1 << 63);
    assert_eq!(from_f32(300.0, IntType::U8, Round::Zero), 255);
    assert_eq!(from_f32(-300.0, IntType::S8, Round::Zero) as i64, -128);
    assert_eq!(from_f32(3e9, IntType::S32, Round::Zero), i32::MAX as u64);
    assert_eq!(from_f32(f32::from_bits(1), IntType::S32, Round::PosInf), 1);
    assert_eq!(
        cvt_float_to_int(FloatType::F32, IntType::S32, 1, Round::PosInf, true),
        0
    );
    let mut random = Random(6);
    for _ in 0..100_000 {
        let bits = random.f32_bits();
        let x = f32::from_bits(bits);
        assert_eq!(
            from_f32(x, IntType::S32, Round::Zero) as u32,
            x as i32 as u32
        );
        assert_eq!(from_f32(x, IntType::U32, Round::Zero) as u32, x as u32);
        if !x.is_nan() {
            assert_eq!(
                from_f32(x, IntType::U64, Round::Nearest),
                x.round_ties_even() as u64
            );
            assert_eq!(
                from_f32(x, IntType::S64, Round::NegInf),
                x.floor() as i64 as u64
            );
            assert_eq!(
                from_f32(x, IntType::S16, Round::PosInf),
                x.ceil() as i16 as u64
            );
        }
    }
}

#[test]
fn integers_convert_to_floats_in_every_direction() {
    let mut random = Random(7);
    for _ in 0..100_000 {
        let x = random.next() >> (random.next() % 64);
        for round in ROUNDS {
            let mode = Mode::rounding(round);
            // x as its upper and lower 32 bits, both exact in f64: an exact sum with an error term.
            let (near, error) =
                two_sum((x >> 32) as f64 * 4_294_967_296.0, (x & 0xffff_ffff) as f64);
            let unsigned = cvt_int_to_float(IntType::U64, FloatType::F32, x, mode) as u32;
            same(
                unsigned,
                reference_f32(near, error, round),
                &format!("{x} {round:?}"),
            );
            let wide = cvt_int_to_float(IntType::U64, FloatType::F64, x, mode);
            assert_eq!(
                f64::from_bits(wide),
                reference_f64(near, error, round),
                "{x} {round:?}"
            );
            let narrow = cvt_int_to_float(IntType::S32, FloatType::F32, x, mode) as u32;
            same(
                narrow,
                reference_f32(f64::from(x as i32), 0.0, round),
                &format!("{} {round:?}", x as i32),
            );
            let byte = cvt_int_to_float(IntType::S8, FloatType::F16, x, mode) as u16;
            assert_eq!(half_value(byte, 10, 5), f64::from(x as i8));
        }
        let nearest = cvt_int_to_float(IntType::S64, FloatType::F32, x, Mode::RN) as u32;
        assert_eq!(nearest, (x as i64 as f32).to_bits());
    }
    assert_eq!(
        cvt_int_to_float(IntType::U32, FloatType::F16, 70_000, Mode::RN),
        0x7c00
    );
    assert_eq!(
        cvt_int_to_float(
            IntType::U32,
            FloatType::F16,
            70_000,
            Mode::rounding(Round::Zero)
        ),
        0x7bff
    );
}

#[test]
fn integers_convert_to_integers_by_truncating_extending_or_clamping() {
    let types = [
        IntType::U8,
        IntType::S8,
        IntType::U16,
        IntType::S16,
        IntType::U32,
        IntType::S32,
        IntType::U64,
        IntType::S64,
    ];
    for from in types {
        for to in types {
            for value in [
                0u64,
                1,
                0x7f,
                0x80,
                0xff,
                0x7fff,
                0x8000,
                0xffff,
                0x7fff_ffff,
                0x8000_0000,
                0xffff_ffff,
                1 << 63,
                u64::MAX,
            ] {
                let exact = from.value(value);
                let (least, largest) = to.range();
                assert_eq!(
                    to.value(cvt_int_to_int(from, to, value, true)),
                    exact.clamp(least, largest)
                );
                let wrapped = cvt_int_to_int(from, to, value, false);
                assert_eq!((to.value(wrapped) - exact).rem_euclid(1 << to.bits), 0);
            }
        }
    }
    assert_eq!(
        cvt_pack(16, true, 40_000, -40_000i32 as u32, 0),
        0x7fff_8000
    );
    assert_eq!(
        cvt_pack(8, false, 300, -5i32 as u32, 0x1122_3344),
        0x3344_ff00
    );
    assert_eq!(cvt_pack(4, true, 9, -9i32 as u32, 0xabcd_ef01), 0xcdef_0178);
    assert_eq!(cvt_pack(2, false, 5, 1, 0x0000_00ff), 0x0000_0ffd);
}

#[test]
fn tf32_rounds_ties_away_and_keeps_ten_fraction_bits() {
    let rna = Convert {
        round: Round::NearestAway,
        ..Convert::default()
    };
    for exponent in [0u32, 1, 64, 127, 200, 253] {
        for fraction in (0..1u32 << 23)
            .step_by(0x0377)
            .chain([0x1000, 0x0fff, 0x1001, 0x3000, 0x7f_ffff])
        {
            let bits = exponent << 23 | fraction;
            // Half of a unit added, the rest cut off: carries run into the exponent as they should.
            let want = (bits + 0x1000) & 0xffff_e000;
            assert_eq!(f32_to_tf32(bits, rna), want);
            assert_eq!(f32_to_tf32(bits | 1 << 31, rna), want | 1 << 31);
        }
    }
    assert_eq!(f32_to_tf32(0xffc0_0000, rna), NAN_F32);
    assert_eq!(f32_to_tf32(f32::MAX.to_bits(), rna), 0x7f80_0000);
    assert_eq!(
        f32_to_tf32(
            f32::MAX.to_bits(),
            Convert {
                satfinite: true,
                ..rna
            }
        ),
        0x7f7f_e000
    );
    assert_eq!(
        f32_to_tf32((-1f32).to_bits(), Convert { relu: true, ..rna }),
        0
    );
}

#[test]
fn modifiers_of_float_conversions_do_what_they_say() {
    let convert =
        |to, x: f32, how| cvt_float_to_float(FloatType::F32, to, u64::from(x.to_bits()), how);
    let plain = Convert::default();
    let relu = Convert {
        relu: true,
        ..plain
    };
    assert_eq!(convert(FloatType::F16, -1.0, relu), 0);
    assert_eq!(convert(FloatType::Bf16, f32::NAN, relu), 0x7fff);
    let satfinite = Convert {
        satfinite: true,
        ..plain
    };
    assert_eq!(convert(FloatType::F16, 1e6, satfinite), 0x7bff);
    assert_eq!(
        convert(FloatType::F16, f32::NEG_INFINITY, satfinite),
        0xfbff
    );
    assert_eq!(convert(FloatType::Bf16, f32::MAX, satfinite), 0x7f7f);
    let sat = Convert { sat: true, ..plain };
    assert_eq!(convert(FloatType::F32, 1.5, sat), u64::from(1f32.to_bits()));
    assert_eq!(convert(FloatType::F32, f32::NAN, sat), 0);
    let ftz = Convert { ftz: true, ..plain };
    assert_eq!(convert(FloatType::F32, -1e-40, ftz), 1 << 31);
    assert_eq!(
        convert(FloatType::F32, -1e-40, plain),
        u64::from((-1e-40f32).to_bits())
    );
    assert_eq!(
        cvt_float_to_float(FloatType::F64, FloatType::F32, 1e-40f64.to_bits(), ftz),
        0
    );
    let ceil = Convert {
        round: Round::PosInf,
        ..plain
    };
    assert_eq!(
        cvt_round_to_integral(FloatType::F32, u64::from((-0.5f32).to_bits()), ceil),
        1 << 31
    );
    assert_eq!(
        cvt_round_to_integral(FloatType::F64, 2.5f64.to_bits(), plain),
        2f64.to_bits()
    );
}

#[test]
fn comparisons_are_ordered_or_not_as_named() {
    use FloatCmp::*;
    let nan = NAN_F32;
    let one = 1f32.to_bits();
    let two = 2f32.to_bits();
    for (op, less, equal, greater, unordered) in [
        (Eq, false, true, false, false),
        (Ne, true, false, true, false),
        (Lt, true, false, false, false),
        (Le, true, true, false, false),
        (Gt, false, false, true, false),
        (Ge, false, true, true, false),
        (Equ, false, true, false, true),
        (Neu, true, false, true, true),
        (Ltu, true, false, false, true),
        (Leu, true, true, false, true),
        (Gtu, false, false, true, true),
        (Geu, false, true, true, true),
        (Num, true, true, true, false),
        (Nan, false, false, false, true),
    ] {
        assert_eq!(compare_f32(op, one, two, false), less, "{op:?}");
        assert_eq!(compare_f32(op, one, one, false), equal, "{op:?}");
        assert_eq!(compare_f32(op, two, one, false), greater, "{op:?}");
        assert_eq!(compare_f32(op, nan, one, false), unordered, "{op:?}");
        assert_eq!(compare_f64(op, NAN_F64, NAN_F64), unordered, "{op:?}");
        assert_eq!(compare_f16(op, 0x3c00, 0x4000, false), less, "{op:?}");
        assert_eq!(compare_bf16(op, 0x7fc0, 0x4000), unordered, "{op:?}");
    }
    assert!(testp_f32(FloatClass::Subnormal, 1) && !testp_f32(FloatClass::Normal, 1));
    assert!(testp_f32(FloatClass::Normal, 0) && testp_f64(FloatClass::NotANumber, NAN_F64));
    assert!(
        testp_f64(FloatClass::Infinite, f64::INFINITY.to_bits())
            && !testp_f32(FloatClass::Finite, nan)
    );
}
