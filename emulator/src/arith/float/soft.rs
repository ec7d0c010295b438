//! Exact binary floating point: any format unpacked to integers, combined exactly, rounded once in any direction.
//!
//! The slow and obviously right path. Everything that the host's own IEEE arithmetic does not give directly (directed
//! rounding, formats narrower than f32, rounding to tf32, 64-bit integers) goes through [`round`].

use super::modifiers::Round;

/// A binary interchange format: `precision` significant bits (hidden one included) and `exponent_bits` of exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    precision: u32,
    exponent_bits: u32,
}

impl Format {
    /// IEEE binary16.
    pub const F16: Format = Format {
        precision: 11,
        exponent_bits: 5,
    };
    /// The upper half of binary32.
    pub const BF16: Format = Format {
        precision: 8,
        exponent_bits: 8,
    };
    /// binary32 with 10 stored significand bits: 19 bits, kept in the upper part of a 32-bit register.
    pub const TF32: Format = Format {
        precision: 11,
        exponent_bits: 8,
    };
    /// IEEE binary32.
    pub const F32: Format = Format {
        precision: 24,
        exponent_bits: 8,
    };
    /// IEEE binary64.
    pub const F64: Format = Format {
        precision: 53,
        exponent_bits: 11,
    };

    /// Stored significand bits.
    const fn fraction_bits(self) -> u32 {
        self.precision - 1
    }

    /// Bits of the whole pattern.
    pub const fn width(self) -> u32 {
        self.precision + self.exponent_bits
    }

    /// Largest exponent of a finite value's leading bit, and the bias.
    const fn max_exponent(self) -> i32 {
        (1 << (self.exponent_bits - 1)) - 1
    }

    /// Exponent of the smallest normal value's leading bit.
    const fn min_exponent(self) -> i32 {
        1 - self.max_exponent()
    }

    const fn sign_mask(self) -> u64 {
        1 << (self.width() - 1)
    }

    /// The bit pattern of positive infinity.
    pub const fn infinity(self) -> u64 {
        ((1u64 << self.exponent_bits) - 1) << self.fraction_bits()
    }

    /// The largest finite value's bit pattern.
    pub const fn max_finite(self) -> u64 {
        self.infinity() - 1
    }

    /// The NaN that PTX documents as an operation's result: every bit set but the sign.
    pub const fn canonical_nan(self) -> u64 {
        self.sign_mask() - 1
    }
}

/// A floating-point value taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Not a number, whatever the payload.
    Nan,
    /// An infinity; `true` is negative.
    Infinite(bool),
    /// A zero; `true` is negative.
    Zero(bool),
    /// A finite, non-zero value.
    Finite(Exact),
}

/// The non-zero number (−1)^negative · (significand + ε) · 2^exponent, where 0 < ε < 1 if `sticky` and ε = 0 otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exact {
    /// Sign.
    pub negative: bool,
    /// Weight of the significand's lowest bit.
    pub exponent: i32,
    /// Magnitude; zero only together with `sticky`.
    pub significand: u128,
    /// Whether the true magnitude lies strictly between this significand and the next.
    pub sticky: bool,
}

/// Bit to which [`Exact::normalized`] moves the leading one: two bits of headroom for a sum.
const TOP: u32 = 125;

impl Exact {
    /// The same number with its leading one in bit [`TOP`]. Only for numbers that are exact and at most `TOP` + 1 bits.
    fn normalized(self) -> Exact {
        let shift = TOP as i32 - (127 - self.significand.leading_zeros() as i32);
        debug_assert!(shift >= 0 && !self.sticky);
        Exact {
            significand: self.significand << shift,
            exponent: self.exponent - shift,
            ..self
        }
    }
}

/// Takes a bit pattern apart.
pub fn unpack(format: Format, bits: u64) -> Value {
    let negative = bits & format.sign_mask() != 0;
    let magnitude = bits & (format.sign_mask() - 1);
    if magnitude > format.infinity() {
        return Value::Nan;
    }
    if magnitude == format.infinity() {
        return Value::Infinite(negative);
    }
    if magnitude == 0 {
        return Value::Zero(negative);
    }
    let fraction = magnitude & ((1 << format.fraction_bits()) - 1);
    let biased = (magnitude >> format.fraction_bits()) as i32;
    let hidden = u64::from(biased != 0) << format.fraction_bits();
    let exponent = biased.max(1) - format.max_exponent() - format.fraction_bits() as i32;
    Value::Finite(Exact {
        negative,
        exponent,
        significand: u128::from(fraction | hidden),
        sticky: false,
    })
}

/// Whether a magnitude cut off at an integer has to go up by one, given what was cut off.
fn rounds_up(round: Round, negative: bool, odd: bool, half: bool, rest: bool) -> bool {
    match round {
        Round::Nearest => half && (rest || odd),
        Round::NearestAway => half,
        Round::Zero => false,
        Round::NegInf => negative && (half || rest),
        Round::PosInf => !negative && (half || rest),
    }
}

/// Shifts right by `shift` bits and rounds what falls off. The shift may be negative (exact) or larger than the width.
fn shift_round(x: &Exact, shift: i32, round: Round) -> u128 {
    if shift <= 0 {
        // A number with a sticky tail always has more bits than any format, so it is never shifted left.
        debug_assert!(!x.sticky || shift == 0);
        let kept = x.significand << -shift;
        return kept + u128::from(rounds_up(round, x.negative, kept & 1 != 0, false, x.sticky));
    }
    let shift = shift as u32;
    if shift > 128 {
        return u128::from(rounds_up(round, x.negative, false, false, true));
    }
    let kept = if shift == 128 {
        0
    } else {
        x.significand >> shift
    };
    let half = (x.significand >> (shift - 1)) & 1 != 0;
    let rest = x.sticky || x.significand & ((1u128 << (shift - 1)) - 1) != 0;
    kept + u128::from(rounds_up(round, x.negative, kept & 1 != 0, half, rest))
}

/// The format's bit pattern of a value, rounded once; overflow gives infinity or the largest finite value as IEEE 754
/// says for the direction. NaN gives the canonical NaN.
pub fn round(format: Format, value: Value, round: Round) -> u64 {
    let signed =
        |negative: bool, magnitude: u64| magnitude | if negative { format.sign_mask() } else { 0 };
    let x = match value {
        Value::Nan => return format.canonical_nan(),
        Value::Infinite(negative) => return signed(negative, format.infinity()),
        Value::Zero(negative) => return signed(negative, 0),
        Value::Finite(x) => x,
    };
    let leading = 127 - x.significand.leading_zeros() as i32 + x.exponent;
    let lowest = leading.max(format.min_exponent()) - format.fraction_bits() as i32;
    let kept = shift_round(&x, lowest - x.exponent, round);
    // `kept` has the hidden bit for a normal number: adding it to the biased exponent less one also carries a
    // significand that rounded up to the next power of two, and a subnormal that became normal.
    let biased_less_one = (lowest + format.fraction_bits() as i32 - format.min_exponent()) as u64;
    let past_end = biased_less_one >= (1 << format.exponent_bits) - 2;
    let bits =
        (biased_less_one.min(1 << format.exponent_bits) << format.fraction_bits()) + kept as u64;
    if past_end || bits >= format.infinity() {
        let to_infinity = match round {
            Round::Nearest | Round::NearestAway => true,
            Round::Zero => false,
            Round::NegInf => x.negative,
            Round::PosInf => !x.negative,
        };
        return signed(
            x.negative,
            if to_infinity {
                format.infinity()
            } else {
                format.max_finite()
            },
        );
    }
    signed(x.negative, bits)
}

/// A value rounded to an integer, for conversion to integers of any width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integral {
    /// Not a number.
    Nan,
    /// The rounded integer; magnitudes beyond 2^100, infinities among them, are clamped to ±2^100.
    Integer(i128),
}

/// Rounds a value to an integer.
pub fn round_to_integer(value: Value, round: Round) -> Integral {
    const HUGE: i128 = 1 << 100;
    let signed = |negative: bool, magnitude: i128| {
        Integral::Integer(if negative { -magnitude } else { magnitude })
    };
    match value {
        Value::Nan => Integral::Nan,
        Value::Infinite(negative) => signed(negative, HUGE),
        Value::Zero(_) => Integral::Integer(0),
        Value::Finite(x) => {
            let leading = 127 - x.significand.leading_zeros() as i32 + x.exponent;
            if leading >= 100 {
                signed(x.negative, HUGE)
            } else {
                signed(x.negative, shift_round(&x, -x.exponent, round) as i128)
            }
        }
    }
}

/// The value of an integer.
pub fn from_integer(integer: i128) -> Value {
    if integer == 0 {
        return Value::Zero(false);
    }
    Value::Finite(Exact {
        negative: integer < 0,
        exponent: 0,
        significand: integer.unsigned_abs(),
        sticky: false,
    })
}

/// The value with its sign flipped.
pub fn negate(value: Value) -> Value {
    match value {
        Value::Nan => Value::Nan,
        Value::Infinite(negative) => Value::Infinite(!negative),
        Value::Zero(negative) => Value::Zero(!negative),
        Value::Finite(x) => Value::Finite(Exact {
            negative: !x.negative,
            ..x
        }),
    }
}

/// The sign of an exact zero sum of operands with different signs.
fn zero_sum_is_negative(round: Round) -> bool {
    round == Round::NegInf
}

/// The sum of two values, exact but for a sticky tail that no format can see.
pub fn add(a: Value, b: Value, round: Round) -> Value {
    let (a, b) = match (a, b) {
        (Value::Nan, _) | (_, Value::Nan) => return Value::Nan,
        (Value::Infinite(x), Value::Infinite(y)) => return if x == y { a } else { Value::Nan },
        (Value::Infinite(_), _) => return a,
        (_, Value::Infinite(_)) => return b,
        (Value::Zero(x), Value::Zero(y)) => {
            return Value::Zero(if x == y {
                x
            } else {
                zero_sum_is_negative(round)
            });
        }
        (Value::Zero(_), _) => return b,
        (_, Value::Zero(_)) => return a,
        (Value::Finite(x), Value::Finite(y)) => (x.normalized(), y.normalized()),
    };
    let (big, small) = if a.exponent >= b.exponent {
        (a, b)
    } else {
        (b, a)
    };
    let distance = (big.exponent - small.exponent) as u32;
    let (aligned, sticky) = if distance > TOP {
        (0, true)
    } else {
        (
            small.significand >> distance,
            small.significand & ((1u128 << distance) - 1) != 0,
        )
    };
    if big.negative == small.negative {
        let significand = big.significand + aligned;
        return Value::Finite(Exact {
            significand,
            sticky,
            ..big
        });
    }
    // A tail in the subtrahend makes the difference one less and leaves a tail again. Operands of at most 106 bits only
    // lose bits to the tail when they are more than 19 apart, so no cancellation can bring the tail into sight.
    let significand = big.significand as i128 - aligned as i128 - i128::from(sticky);
    if significand == 0 && !sticky {
        return Value::Zero(zero_sum_is_negative(round));
    }
    let negative = if significand < 0 {
        !big.negative
    } else {
        big.negative
    };
    Value::Finite(Exact {
        negative,
        significand: significand.unsigned_abs(),
        sticky,
        ..big
    })
}

/// The exact product of two values of at most 53 significant bits each.
pub fn mul(a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::Nan, _) | (_, Value::Nan) => Value::Nan,
        (Value::Infinite(_), Value::Zero(_)) | (Value::Zero(_), Value::Infinite(_)) => Value::Nan,
        (Value::Infinite(x), other) | (other, Value::Infinite(x)) => {
            Value::Infinite(x != is_negative(other))
        }
        (Value::Zero(x), other) | (other, Value::Zero(x)) => Value::Zero(x != is_negative(other)),
        (Value::Finite(x), Value::Finite(y)) => Value::Finite(Exact {
            negative: x.negative != y.negative,
            exponent: x.exponent + y.exponent,
            significand: x.significand * y.significand,
            sticky: false,
        }),
    }
}

/// The quotient of two values of at most 53 significant bits each, to at least 64 bits and a tail.
pub fn div(a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::Nan, _) | (_, Value::Nan) => Value::Nan,
        (Value::Infinite(_), Value::Infinite(_)) | (Value::Zero(_), Value::Zero(_)) => Value::Nan,
        (Value::Infinite(x), other) => Value::Infinite(x != is_negative(other)),
        (other, Value::Infinite(y)) => Value::Zero(is_negative(other) != y),
        (Value::Zero(x), Value::Finite(y)) => Value::Zero(x != y.negative),
        (Value::Finite(x), Value::Zero(y)) => Value::Infinite(x.negative != y),
        (Value::Finite(x), Value::Finite(y)) => {
            let x = x.normalized();
            Value::Finite(Exact {
                negative: x.negative != y.negative,
                exponent: x.exponent - y.exponent,
                significand: x.significand / y.significand,
                sticky: x.significand % y.significand != 0,
            })
        }
    }
}

/// The square root of a value of at most 53 significant bits, to 63 bits and a tail. Negative numbers give NaN, −0 gives −0.
pub fn sqrt(a: Value) -> Value {
    match a {
        Value::Nan => Value::Nan,
        Value::Zero(negative) => Value::Zero(negative),
        Value::Infinite(negative) => {
            if negative {
                Value::Nan
            } else {
                a
            }
        }
        Value::Finite(x) if x.negative => Value::Nan,
        Value::Finite(x) => {
            let x = x.normalized();
            let (significand, exponent) = if x.exponent % 2 == 0 {
                (x.significand, x.exponent)
            } else {
                (x.significand << 1, x.exponent - 1)
            };
            let root = significand.isqrt();
            Value::Finite(Exact {
                negative: false,
                exponent: exponent / 2,
                significand: root,
                sticky: root * root != significand,
            })
        }
    }
}

fn is_negative(value: Value) -> bool {
    match value {
        Value::Nan => false,
        Value::Infinite(negative) | Value::Zero(negative) => negative,
        Value::Finite(x) => x.negative,
    }
}
