//! The intrinsics of cuda_fp16.h and cuda_bf16.h, compiled by NVRTC, against exact arithmetic in double precision.

use crate::support::{Program, Random};
use half::{bf16, f16};

/// What both formats have in common.
#[derive(Clone, Copy)]
struct Format {
    name: &'static str,
    widen: fn(u16) -> f64,
    /// To nearest even, from a double that is exact or rounded to odd.
    narrow: fn(f64) -> u16,
    one: u16,
    infinity: u16,
}

/// A double rounded to odd in f32: what is narrower still then rounds as the double would.
fn to_odd(x: f64) -> f32 {
    let near = x as f32;
    let back = f64::from(near);
    if back == x || !near.is_finite() || near.to_bits() & 1 == 1 {
        near
    } else if back < x {
        near.next_up()
    } else {
        near.next_down()
    }
}

const F16: Format = Format {
    name: "f16",
    widen: |bits| f16::from_bits(bits).to_f64(),
    narrow: |x| f16::from_f32(to_odd(x)).to_bits(),
    one: 0x3c00,
    infinity: 0x7c00,
};
const BF16: Format = Format {
    name: "bf16",
    widen: |bits| bf16::from_bits(bits).to_f64(),
    narrow: |x| bf16::from_f32(to_odd(x)).to_bits(),
    one: 0x3f80,
    infinity: 0x7f80,
};

impl Format {
    fn is_nan(&self, bits: u16) -> bool {
        bits & 0x7fff > self.infinity
    }

    fn same(&self, got: u16, want: u16) -> bool {
        got == want || self.is_nan(got) && self.is_nan(want)
    }

    /// Steps between two patterns, across zero too.
    fn ulps(&self, got: u16, want: u16) -> u32 {
        if self.is_nan(got) || self.is_nan(want) {
            return if self.is_nan(got) && self.is_nan(want) {
                0
            } else {
                u32::MAX
            };
        }
        let ordered = |bits: u16| {
            let magnitude = i32::from(bits & 0x7fff);
            if bits & 0x8000 != 0 {
                -magnitude
            } else {
                magnitude
            }
        };
        ordered(got).abs_diff(ordered(want))
    }
}

/// The exact sum a + b as a double rounded to odd: it then rounds to any narrower format as the exact sum does.
fn sum_to_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    if !sum.is_finite() {
        return sum;
    }
    let part = sum - a;
    let error = (a - (sum - part)) + (b - part);
    if error == 0.0 || sum.to_bits() & 1 == 1 {
        sum
    } else if error > 0.0 {
        sum.next_up()
    } else {
        sum.next_down()
    }
}

fn program(format: &Format) -> Option<Program> {
    match format.name {
        "f16" => Program::cuda("half.cu", include_str!("nvrtc_sources/half.cu"), &[]),
        _ => Program::cuda(
            "bfloat16.cu",
            include_str!("nvrtc_sources/bfloat16.cu"),
            &[],
        ),
    }
}

const COUNT: usize = 1 << 16;

/// Every pattern.
fn all() -> Vec<u16> {
    (0..=u16::MAX).collect()
}

/// Random patterns; half of them with few significant bits and moderate exponents, so that ties and specials happen.
fn patterns(random: &mut Random, format: &Format) -> Vec<u16> {
    let special = [
        0,
        0x8000,
        1,
        0x8001,
        format.one,
        format.one | 0x8000,
        format.infinity,
        format.infinity | 0x8000,
        format.infinity | 0x55,
    ];
    (0..COUNT)
        .map(|i| {
            let bits = random.next() as u16;
            match (bits % 16, i % 2) {
                (0, _) => special[random.next() as usize % special.len()],
                (_, 0) => bits,
                _ => (format.narrow)((random.normal() * 4.0).round() / 4.0),
            }
        })
        .collect()
}

fn check(
    format: &Format,
    what: &str,
    got: &[u16],
    inputs: &[&[u16]],
    want: impl Fn(&[u16]) -> u16,
) {
    for i in 0..got.len() {
        let operands: Vec<u16> = inputs.iter().map(|input| input[i]).collect();
        let want = want(&operands);
        assert!(
            format.same(got[i], want),
            "{} {what} of {operands:04x?}: {:#06x}, not {want:#06x}",
            format.name,
            got[i]
        );
    }
}

/// −0 below +0, the other operand for NaN; `nan` makes NaN win.
fn minimum(format: &Format, a: u16, b: u16, nan: bool, larger: bool) -> u16 {
    match (format.is_nan(a), format.is_nan(b)) {
        (true, true) => 0x7fff,
        (true, false) => {
            if nan {
                0x7fff
            } else {
                b
            }
        }
        (false, true) => {
            if nan {
                0x7fff
            } else {
                a
            }
        }
        _ => {
            let (x, y) = ((format.widen)(a), (format.widen)(b));
            let a_less = x < y || (x == y && a & 0x8000 != 0);
            if a_less != larger { a } else { b }
        }
    }
}

fn arithmetic(format: Format) {
    let Some(program) = program(&format) else {
        return;
    };
    let mut random = Random(1);
    let (a, b, c) = (
        patterns(&mut random, &format),
        patterns(&mut random, &format),
        patterns(&mut random, &format),
    );
    let [pa, pb, pc] = [&a, &b, &c].map(|x| program.upload(x));
    let (widen, narrow) = (format.widen, format.narrow);
    let two = |kernel: &str| -> Vec<u16> { program.map(kernel, &[pa, pb], COUNT) };
    let three = |kernel: &str| -> Vec<u16> { program.map(kernel, &[pa, pb, pc], COUNT) };
    // Packed kernels take half as many threads, each two elements.
    let two_packed = |kernel: &str| -> Vec<u16> {
        program
            .map::<[u16; 2]>(kernel, &[pa, pb], COUNT / 2)
            .into_flattened()
    };
    let three_packed = |kernel: &str| -> Vec<u16> {
        program
            .map::<[u16; 2]>(kernel, &[pa, pb, pc], COUNT / 2)
            .into_flattened()
    };

    let add = |v: &[u16]| narrow(sum_to_odd(widen(v[0]), widen(v[1])));
    let sub = |v: &[u16]| narrow(sum_to_odd(widen(v[0]), -widen(v[1])));
    let mul = |v: &[u16]| narrow(widen(v[0]) * widen(v[1]));
    let fma = |v: &[u16]| narrow(sum_to_odd(widen(v[0]) * widen(v[1]), widen(v[2])));
    let relu = |bits: u16| {
        if bits & 0x8000 != 0 && !format.is_nan(bits) {
            0
        } else {
            bits
        }
    };
    let ab: [&[u16]; 2] = [&a, &b];
    let abc: [&[u16]; 3] = [&a, &b, &c];
    check(&format, "add", &two("k___hadd"), &ab, add);
    check(&format, "sub", &two("k___hsub"), &ab, sub);
    check(&format, "mul", &two("k___hmul"), &ab, mul);
    check(&format, "fma", &three("k___hfma"), &abc, fma);
    check(&format, "fma relu", &three("k___hfma_relu"), &abc, |v| {
        relu(fma(v))
    });
    check(&format, "packed add", &two_packed("k___hadd2"), &ab, add);
    check(&format, "packed sub", &two_packed("k___hsub2"), &ab, sub);
    check(&format, "packed mul", &two_packed("k___hmul2"), &ab, mul);
    check(&format, "packed fma", &three_packed("k___hfma2"), &abc, fma);
    check(
        &format,
        "packed fma relu",
        &three_packed("k___hfma2_relu"),
        &abc,
        |v| relu(fma(v)),
    );
    for (kernel, nan, larger) in [
        ("k___hmin", false, false),
        ("k___hmax", false, true),
        ("k___hmin_nan", true, false),
        ("k___hmax_nan", true, true),
    ] {
        check(&format, kernel, &two(kernel), &ab, |v| {
            minimum(&format, v[0], v[1], nan, larger)
        });
    }
    check(&format, "packed min", &two_packed("k___hmin2"), &ab, |v| {
        minimum(&format, v[0], v[1], false, false)
    });
    check(
        &format,
        "packed max",
        &two_packed("k___hmax2_nan"),
        &ab,
        |v| minimum(&format, v[0], v[1], true, true),
    );

    let truth = |holds: bool| u16::from(holds);
    type Compare = fn(f64, f64) -> bool;
    let comparisons: [(&str, Compare); 6] = [
        ("k___heq", |x, y| x == y),
        ("k___hne", |x, y| x != y && !x.is_nan() && !y.is_nan()),
        ("k___hlt", |x, y| x < y),
        ("k___hge", |x, y| x >= y),
        ("k___hequ", |x, y| x == y || x.is_nan() || y.is_nan()),
        ("k___hltu", |x, y| x < y || x.is_nan() || y.is_nan()),
    ];
    for (kernel, holds) in comparisons {
        check(&format, kernel, &two(kernel), &ab, |v| {
            truth(holds(widen(v[0]), widen(v[1])))
        });
    }
    if format.name == "f16" {
        let saturate = |bits: u16| {
            if format.is_nan(bits) || bits & 0x8000 != 0 {
                0
            } else {
                bits.min(format.one)
            }
        };
        check(&format, "saturating add", &two("k___hadd_sat"), &ab, |v| {
            saturate(add(v))
        });
        check(&format, "saturating sub", &two("k___hsub_sat"), &ab, |v| {
            saturate(sub(v))
        });
        check(&format, "saturating mul", &two("k___hmul_sat"), &ab, |v| {
            saturate(mul(v))
        });
        check(
            &format,
            "saturating fma",
            &three("k___hfma_sat"),
            &abc,
            |v| saturate(fma(v)),
        );
        check(
            &format,
            "packed saturating add",
            &two_packed("k___hadd2_sat"),
            &ab,
            |v| saturate(add(v)),
        );
        let one_if = |holds: bool| if holds { format.one } else { 0 };
        check(&format, "packed eq", &two_packed("k___heq2"), &ab, |v| {
            one_if(widen(v[0]) == widen(v[1]))
        });
        check(&format, "packed ltu", &two_packed("k___hltu2"), &ab, |v| {
            let (x, y) = (widen(v[0]), widen(v[1]));
            one_if(x < y || x.is_nan() || y.is_nan())
        });
        let divided = two_packed("k___h2div");
        check_division(&format, &divided, &a, &b);
    }
    check_division(&format, &two("k___hdiv"), &a, &b);
}

/// Division is built from approximations: within one unit of the last place (and exact for the special values).
fn check_division(format: &Format, got: &[u16], a: &[u16], b: &[u16]) {
    for i in 0..got.len() {
        let want = (format.narrow)((format.widen)(a[i]) / (format.widen)(b[i]));
        // bf16's quotient goes through div.approx, which gives 0 for divisors beyond 2^126.
        if format.name == "bf16" && (format.widen)(b[i]).abs() > 2f64.powi(126) {
            continue;
        }
        assert!(
            format.ulps(got[i], want) <= 1,
            "{} {:#06x} / {:#06x}: {:#06x}, not {want:#06x}",
            format.name,
            a[i],
            b[i],
            got[i]
        );
    }
}

#[test]
fn f16_arithmetic_is_exactly_rounded() {
    arithmetic(F16);
}

#[test]
fn bf16_arithmetic_is_exactly_rounded() {
    arithmetic(BF16);
}

fn functions(format: Format) {
    let Some(program) = program(&format) else {
        return;
    };
    let x = all();
    let buffer = program.upload(&x);
    let run = |kernel: &str| -> Vec<u16> { program.map(kernel, &[buffer], COUNT) };
    let (widen, narrow) = (format.widen, format.narrow);
    check(&format, "neg", &run("k___hneg"), &[&x], |v| {
        if format.is_nan(v[0]) {
            v[0]
        } else {
            v[0] ^ 0x8000
        }
    });
    check(&format, "abs", &run("k___habs"), &[&x], |v| v[0] & 0x7fff);
    type Exact = fn(f64) -> f64;
    let mut rounding: Vec<(&str, u32, Exact)> = vec![
        ("k_hrint", 0, f64::round_ties_even),
        ("k_hfloor", 0, f64::floor),
        ("k_hceil", 0, f64::ceil),
        ("k_htrunc", 0, f64::trunc),
        // The header's documentation: within one unit of the last place of the rounded result.
        ("k_hsqrt", 1, f64::sqrt),
        ("k_hrsqrt", 1, |x| 1.0 / x.sqrt()),
        ("k_hrcp", 1, |x| 1.0 / x),
        ("k_hexp", 1, f64::exp),
        ("k_hexp2", 1, f64::exp2),
        ("k_hlog", 1, f64::ln),
        ("k_hlog2", 1, f64::log2),
    ];
    if format.name == "f16" {
        rounding.extend([
            ("k_hexp10", 1, libm::exp10 as Exact),
            ("k_hlog10", 1, f64::log10),
            ("k_hsin", 1, f64::sin),
            ("k_hcos", 1, f64::cos),
        ]);
    }
    for (kernel, bound, exact) in rounding {
        for (&x, &got) in x.iter().zip(&run(kernel)) {
            // bf16's functions take and give subnormals of f32's range, which the approximations they call may flush.
            let (value, exact) = (widen(x), exact(widen(x)));
            let tiny = |x: f64| x != 0.0 && x.abs() < 2f64.powi(-126);
            if format.name == "bf16" && (tiny(value) || tiny(exact)) {
                continue;
            }
            let want = narrow(exact);
            assert!(
                format.ulps(got, want) <= bound,
                "{} {kernel}({value:e}): {:e}, not {:e}",
                format.name,
                widen(got),
                widen(want)
            );
        }
    }
}

#[test]
fn f16_functions_stay_within_one_unit_for_every_argument() {
    functions(F16);
}

#[test]
fn bf16_functions_stay_within_one_unit_for_every_argument() {
    functions(BF16);
}

/// Whether a 16-bit result is the right neighbour of `x` in a direction.
fn is_rounded(format: &Format, x: f64, got: u16, direction: &str) -> bool {
    if x.is_nan() {
        return format.is_nan(got);
    }
    if format.is_nan(got) {
        return false;
    }
    let value = (format.widen)(got);
    if value == x {
        return got >> 15 == (x.to_bits() >> 63) as u16;
    }
    let step = |up: bool| -> f64 {
        // The next value of the format above or below `value`.
        let towards_zero = (value > 0.0) != up;
        if value == 0.0 {
            let least = (format.widen)(1);
            return if up { least } else { -least };
        }
        (format.widen)(if towards_zero { got - 1 } else { got + 1 })
    };
    match direction {
        "rn" => format.same(got, (format.narrow)(x)),
        "rd" => value < x && (value.is_infinite() || step(true) > x),
        "ru" => value > x && (value.is_infinite() || step(false) < x),
        _ => {
            value.abs() < x.abs()
                && (if x > 0.0 {
                    step(true) > x
                } else {
                    step(false) < x
                })
        }
    }
}

fn conversions(format: Format) {
    let Some(program) = program(&format) else {
        return;
    };
    let mut random = Random(2);
    let (to_float, from_float, pairs) = match format.name {
        "f16" => ("half_to_float", "float_to_half", "floats_to_half2"),
        _ => (
            "bfloat16_to_float",
            "float_to_bfloat16",
            "floats_to_bfloat162",
        ),
    };
    let x = all();
    let every = program.upload(&x);
    let wide: Vec<f32> = program.map(to_float, &[every], COUNT);
    for (&bits, &wide) in x.iter().zip(&wide) {
        let want = (format.widen)(bits) as f32;
        assert!(
            wide.to_bits() == want.to_bits() || wide.is_nan() && want.is_nan(),
            "{bits:#06x}: {wide}"
        );
    }
    // Every value of the format, its midpoints' neighbourhood, and random floats.
    let mut floats: Vec<f32> = Vec::new();
    for bits in 0..=u16::MAX {
        let value = (format.widen)(bits) as f32;
        let next = (format.widen)(bits.wrapping_add(1)) as f32;
        let middle = if (value + next).is_finite() {
            value / 2.0 + next / 2.0
        } else {
            value
        };
        floats.extend([value, middle, middle.next_up(), middle.next_down()]);
    }
    floats.extend((0..COUNT).map(|_| f32::from_bits(random.next() as u32)));
    let buffer = program.upload(&floats);
    for direction in ["rn", "rz", "ru", "rd"] {
        let got: Vec<u16> = program.map(
            &format!("{from_float}_{direction}"),
            &[buffer],
            floats.len(),
        );
        for (&x, &got) in floats.iter().zip(&got) {
            assert!(
                is_rounded(&format, f64::from(x), got, direction),
                "{} of {x:e} {direction}: {got:#06x}",
                format.name
            );
        }
    }
    // A float2 becomes a pair with .x in the low half.
    let packed: Vec<u32> = program.map(pairs, &[buffer], floats.len() / 2);
    for (pair, &word) in floats.chunks_exact(2).zip(&packed) {
        for (half, &x) in pair.iter().enumerate() {
            let got = (word >> (16 * half)) as u16;
            assert!(
                is_rounded(&format, f64::from(x), got, "rn"),
                "{x:e} in half {half} of {word:#010x}"
            );
        }
    }
    // To integers: rounded, clamped; NaN gives 0 for up to 32 bits.
    let round = |x: f64, direction: &str| match direction {
        "rn" => x.round_ties_even(),
        "rz" => x.trunc(),
        "rd" => x.floor(),
        _ => x.ceil(),
    };
    for direction in ["rn", "rz", "rd"] {
        let got: Vec<i32> = program.map(&format!("to_int_{direction}"), &[every], COUNT);
        for (&bits, &got) in x.iter().zip(&got) {
            assert_eq!(
                got,
                round((format.widen)(bits), direction) as i32,
                "{bits:#06x} {direction}"
            );
        }
    }
    let unsigned = if format.name == "f16" { "rn" } else { "ru" };
    let got: Vec<u32> = program.map(&format!("to_uint_{unsigned}"), &[every], COUNT);
    for (&bits, &got) in x.iter().zip(&got) {
        assert_eq!(
            got,
            round((format.widen)(bits), unsigned) as u32,
            "{bits:#06x} {unsigned}"
        );
    }
    // From integers.
    let integers: Vec<i32> = (0..COUNT)
        .map(|i| (random.next() as i32) >> (i % 31))
        .collect();
    let buffer = program.upload(&integers);
    for direction in ["rn", "rz", "rd", "ru"] {
        let got: Vec<u16> = program.map(&format!("from_int_{direction}"), &[buffer], COUNT);
        for (&x, &got) in integers.iter().zip(&got) {
            assert!(
                is_rounded(&format, f64::from(x), got, direction),
                "{x} {direction}: {got:#06x}"
            );
        }
    }
    if format.name == "f16" {
        let got: Vec<i16> = program.map("to_short_rz", &[every], COUNT);
        let ceilings: Vec<u16> = program.map("to_ushort_ru", &[every], COUNT);
        let long: Vec<i64> = program.map("to_ll_rd", &[every], COUNT);
        let doubles: Vec<f64> = (0..COUNT)
            .map(|_| random.normal() * 2f64.powf(random.uniform(-30.0, 17.0)))
            .collect();
        for i in 0..COUNT {
            let value = (format.widen)(x[i]);
            assert_eq!(got[i], value.trunc() as i16, "{value}");
            assert_eq!(ceilings[i], value.ceil() as u16, "{value}");
            assert_eq!(
                long[i],
                if value.is_nan() {
                    i64::MIN
                } else {
                    value.floor() as i64
                },
                "{value}"
            );
        }
        let buffer = program.upload(&doubles);
        let got: Vec<u16> = program.map("from_double", &[buffer], COUNT);
        for (&x, &got) in doubles.iter().zip(&got) {
            assert!(is_rounded(&format, x, got, "rn"), "{x:e}: {got:#06x}");
        }
    }
}

#[test]
fn f16_converts_in_every_direction() {
    conversions(F16);
}

#[test]
fn bf16_converts_in_every_direction() {
    conversions(BF16);
}

/// Small integers, whose sums are exact in both formats in any order.
fn reduction(format: Format, kernel: &str) {
    let Some(program) = program(&format) else {
        return;
    };
    let values: Vec<u16> = (0..2 * 256)
        .map(|i| (format.narrow)(f64::from(i % 3) * if i % 2 == 0 { 1.0 } else { -1.0 }))
        .collect();
    let input = program.upload(&values);
    let total = program.upload(&[0u16, 0]);
    program.launch(
        kernel,
        [2, 1, 1],
        [128, 1, 1],
        &[(&input).into(), (&total).into()],
    );
    let got: Vec<u16> = program.download(&total);
    for (half, got) in got.iter().enumerate().take(2) {
        let want: f64 = values
            .iter()
            .skip(half)
            .step_by(2)
            .map(|&bits| (format.widen)(bits))
            .sum();
        assert_eq!((format.widen)(*got), want, "{} half {half}", format.name);
    }
}

#[test]
fn packed_pairs_are_shuffled_and_added_atomically() {
    reduction(F16, "half2_reduce");
    reduction(BF16, "bfloat162_reduce");
}

#[test]
fn packed_pairs_are_rearranged() {
    let Some(program) = program(&F16) else { return };
    let words: Vec<u32> = (0..256).map(|i| i << 16 | (i + 1000)).collect();
    let input = program.upload(&words);
    let output = program.uninit::<u32>(4 * 256);
    program.launch(
        "half2_rearrange",
        [1, 1, 1],
        [256, 1, 1],
        &[(&input).into(), (&output).into()],
    );
    let got: Vec<u32> = program.download(&output);
    for (word, got) in words.iter().zip(got.chunks_exact(4)) {
        let (low, high) = (word & 0xffff, word >> 16);
        assert_eq!(
            got,
            [
                low << 16 | high,
                low << 16 | low,
                high << 16 | high,
                low << 16 | high
            ]
        );
    }
}
