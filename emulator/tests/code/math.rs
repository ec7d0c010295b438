//! CUDA's math library, compiled by NVRTC, against correctly rounded results within the ulp bounds of the CUDA C++
//! programming guide ("Mathematical Functions").

use std::collections::BTreeMap;
use std::f64::consts::{FRAC_1_SQRT_2, PI};

use crate::support::{Program, Random, scalar};

/// Elements per function: a multiple of a block.
const COUNT: usize = 16 * 1024;

/// Distance between two f32 in units of the last place, across zero too. Equal NaNs and infinities have none.
fn ulps(got: f32, want: f32) -> u64 {
    if got.is_nan() && want.is_nan() {
        return 0;
    }
    if got.is_nan() || want.is_nan() {
        return u64::MAX;
    }
    let ordered = |x: f32| {
        let bits = i64::from(x.to_bits() & 0x7fff_ffff);
        if x.is_sign_negative() { -bits } else { bits }
    };
    (ordered(got) - ordered(want)).unsigned_abs()
}

/// [`ulps`] for f64.
fn ulps_f64(got: f64, want: f64) -> u64 {
    if got.is_nan() && want.is_nan() {
        return 0;
    }
    if got.is_nan() || want.is_nan() {
        return u64::MAX;
    }
    let ordered = |x: f64| {
        let bits = i128::from(x.to_bits() & !(1 << 63));
        if x.is_sign_negative() { -bits } else { bits }
    };
    u64::try_from((ordered(got) - ordered(want)).unsigned_abs()).unwrap_or(u64::MAX)
}

/// Arguments: a third from the given interval, a third small around zero, a third any bit pattern, then special values.
fn arguments(random: &mut Random, low: f64, high: f64) -> Vec<f32> {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MAX,
        f32::MIN_POSITIVE,
        1e-45,
        -1e-45,
    ];
    (0..COUNT)
        .map(|i| match (i, i % 3) {
            (i, _) if i < special.len() => special[i],
            (_, 0) => random.uniform(low, high) as f32,
            (_, 1) => (random.normal() * 2f64.powf(random.uniform(-20.0, 2.0))) as f32,
            _ => f32::from_bits(random.next() as u32),
        })
        .collect()
}

fn sinpi(x: f64) -> f64 {
    // Exact reductions: x mod 2, then to [−½, ½].
    let r = x % 2.0;
    let r = if r > 1.0 {
        r - 2.0
    } else if r < -1.0 {
        r + 2.0
    } else {
        r
    };
    let r = if r > 0.5 {
        1.0 - r
    } else if r < -0.5 {
        -1.0 - r
    } else {
        r
    };
    if r == 0.0 {
        0.0f64.copysign(x)
    } else {
        (PI * r).sin()
    }
}

fn cospi(x: f64) -> f64 {
    let r = (x % 2.0).abs();
    let r = if r > 1.0 { 2.0 - r } else { r };
    if r == 0.5 {
        0.0
    } else {
        (PI * (0.5 - r)).sin()
    }
}

/// exp(x²)·erfc(x); beyond 10 the asymptotic series.
fn erfcx(x: f64) -> f64 {
    if x < 10.0 {
        return (x * x).exp() * libm::erfc(x);
    }
    let t = 0.5 / (x * x);
    (1.0 - t * (1.0 - 3.0 * t * (1.0 - 5.0 * t * (1.0 - 7.0 * t)))) / (x * PI.sqrt())
}

fn normcdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * FRAC_1_SQRT_2)
}

/// Newton's method on an increasing function from a start that is already close.
fn solve(target: f64, start: f64, f: impl Fn(f64) -> f64, slope: impl Fn(f64) -> f64) -> f64 {
    (0..4).fold(start, |y, _| {
        let next = y - (f(y) - target) / slope(y);
        if next.is_finite() { next } else { y }
    })
}

type Exact = fn(f64) -> f64;

/// Function, interval that matters, bound in ulp, and the function in double precision.
const UNARY: &[(&str, f64, f64, u64, Exact)] = &[
    ("expf", -104.0, 89.0, 2, f64::exp),
    ("exp2f", -150.0, 129.0, 2, f64::exp2),
    ("exp10f", -46.0, 39.0, 2, libm::exp10),
    ("expm1f", -20.0, 89.0, 1, f64::exp_m1),
    ("logf", 0.0, 10.0, 1, f64::ln),
    ("log2f", 0.0, 10.0, 1, f64::log2),
    ("log10f", 0.0, 10.0, 2, f64::log10),
    ("log1pf", -1.0, 10.0, 1, f64::ln_1p),
    ("sinf", -100.0, 100.0, 2, f64::sin),
    ("cosf", -100.0, 100.0, 2, f64::cos),
    ("sincosf_sine", -1e6, 1e6, 2, f64::sin),
    ("sincosf_cosine", -1e6, 1e6, 2, f64::cos),
    ("tanf", -100.0, 100.0, 4, f64::tan),
    ("sinpif", -100.0, 100.0, 1, sinpi),
    ("cospif", -100.0, 100.0, 1, cospi),
    ("asinf", -1.0, 1.0, 2, f64::asin),
    ("acosf", -1.0, 1.0, 2, f64::acos),
    ("atanf", -10.0, 10.0, 2, f64::atan),
    ("sinhf", -90.0, 90.0, 3, f64::sinh),
    ("coshf", -90.0, 90.0, 2, f64::cosh),
    ("tanhf", -10.0, 10.0, 2, f64::tanh),
    ("asinhf", -10.0, 10.0, 3, libm::asinh),
    ("acoshf", 1.0, 10.0, 4, |x| {
        if x < 1.0 { f64::NAN } else { libm::acosh(x) }
    }),
    ("atanhf", -1.0, 1.0, 3, libm::atanh),
    ("erff", -5.0, 5.0, 2, libm::erf),
    ("erfcf", -5.0, 11.0, 4, libm::erfc),
    ("erfcxf", -10.0, 30.0, 4, erfcx),
    ("normcdff", -15.0, 6.0, 5, normcdf),
    ("tgammaf", -36.0, 36.0, 5, libm::tgamma),
    ("sqrtf", 0.0, 1e10, 0, f64::sqrt),
    ("rsqrtf", 0.0, 1e10, 2, |x| 1.0 / x.sqrt()),
    ("cbrtf", -1e10, 1e10, 1, libm::cbrt),
    ("rcbrtf", -1e10, 1e10, 1, |x| 1.0 / libm::cbrt(x)),
    ("rintf", -1e7, 1e7, 0, f64::round_ties_even),
    ("roundf", -1e7, 1e7, 0, f64::round),
    ("truncf", -1e7, 1e7, 0, f64::trunc),
    ("floorf", -1e7, 1e7, 0, f64::floor),
    ("ceilf", -1e7, 1e7, 0, f64::ceil),
    ("__frcp_rn", -10.0, 10.0, 0, |x| 1.0 / x),
    ("__fsqrt_rn", 0.0, 10.0, 0, f64::sqrt),
];

fn compile_f32(options: &[&str]) -> Option<Program> {
    Program::cuda(
        "math_f32.cu",
        include_str!("nvrtc_sources/math_f32.cu"),
        options,
    )
}

fn run_unary(program: &Program, function: &str, x: &[f32]) -> Vec<f32> {
    let buffer = program.upload(x);
    program.map_with(&format!("k_{function}"), &[buffer], x.len(), &mut |args| {
        args.push(scalar(x.len() as i32))
    })
}

fn run_binary(program: &Program, function: &str, a: &[f32], b: &[f32]) -> Vec<f32> {
    let buffers = [program.upload(a), program.upload(b)];
    program.map_with(&format!("k_{function}"), &buffers, a.len(), &mut |args| {
        args.push(scalar(a.len() as i32))
    })
}

/// Fails with the worst element of a function.
fn report(function: &str, failures: Vec<(u64, String)>) {
    if let Some((_, worst)) = failures.iter().max_by_key(|failure| failure.0) {
        panic!(
            "{function}: {} of {COUNT} results are off, the worst {worst}",
            failures.len()
        );
    }
}

#[test]
fn single_precision_functions_of_one_argument_stay_within_their_ulps() {
    let Some(program) = compile_f32(&[]) else {
        return;
    };
    let mut random = Random(1);
    for &(function, low, high, bound, exact) in UNARY {
        let x = arguments(&mut random, low, high);
        let got = run_unary(&program, function, &x);
        let failures = x.iter().zip(&got).filter_map(|(&x, &got)| {
            let want = exact(f64::from(x)) as f32;
            let off = ulps(got, want);
            (off > bound).then(|| {
                (
                    off,
                    format!(
                        "{function}({x:e}) = {got:e}, not {want:e}: {off} ulp of at most {bound}"
                    ),
                )
            })
        });
        report(function, failures.collect());
    }
}

#[test]
fn single_precision_functions_with_other_bounds_keep_them() {
    let Some(program) = compile_f32(&[]) else {
        return;
    };
    let mut random = Random(2);
    let mut check = |function: &str,
                     low: f64,
                     high: f64,
                     exact: &dyn Fn(f64, f64) -> f64,
                     allowed: &dyn Fn(f64, f64) -> f64| {
        let x: Vec<f32> = (0..COUNT)
            .map(|_| random.uniform(low, high) as f32)
            .collect();
        let got = run_unary(&program, function, &x);
        let failures = x.iter().zip(&got).filter_map(|(&x, &got)| {
            let (x, got) = (f64::from(x), f64::from(got));
            let want = exact(x, got);
            let off = (got - f64::from(want as f32)).abs();
            (off > allowed(x, want) || off.is_nan()).then(|| {
                (
                    off.to_bits(),
                    format!("{function}({x:e}) = {got:e}, not {want:e}"),
                )
            })
        });
        report(function, failures.collect());
    };
    /// So many units of the last place of the correctly rounded result.
    fn units(count: f64) -> impl Fn(f64, f64) -> f64 {
        move |_, want| {
            let rounded = (want as f32).abs();
            count * f64::from(rounded.next_up() - rounded)
        }
    }
    check(
        "lgammaf",
        0.001,
        100.0,
        &|x, _| libm::lgamma(x),
        &units(6.0),
    );
    check(
        "lgammaf",
        -30.0,
        -10.001,
        &|x, _| libm::lgamma(x),
        &units(6.0),
    );
    check(
        "lgammaf",
        -2.264,
        -0.001,
        &|x, _| libm::lgamma(x),
        &units(6.0),
    );
    for (function, exact) in [
        ("j0f", libm::j0 as Exact),
        ("j1f", libm::j1),
        ("y0f", libm::y0),
        ("y1f", libm::y1),
    ] {
        let low = if function.starts_with('y') {
            0.001
        } else {
            -8.0
        };
        check(function, low, 8.0, &|x, _| exact(x), &units(9.0));
        check(function, 8.0, 1000.0, &|x, _| exact(x), &|_, _| 2.2e-6);
    }
    let slope = 2.0 / PI.sqrt();
    check(
        "erfinvf",
        -0.999,
        0.999,
        &|x, got| solve(x, got, libm::erf, |y| slope * (-y * y).exp()),
        &units(2.0),
    );
    check(
        "normcdfinvf",
        0.0001,
        0.9999,
        &|x, got| {
            solve(x, got, normcdf, |y| {
                (-0.5 * y * y).exp() / (2.0 * PI).sqrt()
            })
        },
        &units(5.0),
    );
    // The fast intrinsics: the guide's table of "Intrinsic Functions".
    check("__expf", -80.0, 80.0, &|x, _| x.exp(), &|x, want| {
        units(2.0 + (1.173 * x).abs().floor())(x, want)
    });
    check("__logf", 0.5, 2.0, &|x, _| x.ln(), &|_, _| {
        2f64.powf(-21.41)
    });
    check("__logf", 2.0, 1e30, &|x, _| x.ln(), &units(3.0));
    check("__sinf", -PI, PI, &|x, _| x.sin(), &|_, _| {
        2f64.powf(-21.41)
    });
    check("__cosf", -PI, PI, &|x, _| x.cos(), &|_, _| {
        2f64.powf(-21.19)
    });
}

#[test]
fn single_precision_functions_of_two_arguments_stay_within_their_ulps() {
    let Some(program) = compile_f32(&[]) else {
        return;
    };
    let mut random = Random(3);
    type Exact2 = fn(f64, f64) -> f64;
    let table: [(&str, u64, Exact2); 12] = [
        ("powf", 4, f64::powf),
        ("atan2f", 3, f64::atan2),
        ("hypotf", 3, libm::hypot),
        ("rhypotf", 2, |a, b| 1.0 / libm::hypot(a, b)),
        ("fmodf", 0, libm::fmod),
        ("remainderf", 0, libm::remainder),
        ("fdimf", 0, libm::fdim),
        ("copysignf", 0, f64::copysign),
        ("nextafterf", 0, |a, b| {
            f64::from(libm::nextafterf(a as f32, b as f32))
        }),
        ("__fadd_rn", 0, |a, b| a + b),
        ("__fmul_rn", 0, |a, b| a * b),
        ("__fdiv_rn", 0, |a, b| a / b),
    ];
    for (function, bound, exact) in table {
        let (a, b) = if function == "powf" {
            // Positive bases, and a share of the special values that the arguments start with.
            (
                arguments(&mut random, 0.0, 10.0),
                arguments(&mut random, -30.0, 30.0),
            )
        } else {
            (
                arguments(&mut random, -100.0, 100.0),
                arguments(&mut random, -100.0, 100.0),
            )
        };
        let got = run_binary(&program, function, &a, &b);
        let failures = a.iter().zip(&b).zip(&got).filter_map(|((&a, &b), &got)| {
            let want = exact(f64::from(a), f64::from(b)) as f32;
            let off = ulps(got, want);
            (off > bound).then(|| (off, format!("{function}({a:e}, {b:e}) = {got:e}, not {want:e}: {off} ulp of at most {bound}")))
        });
        report(function, failures.collect());
    }
    let (a, b) = (
        arguments(&mut random, -100.0, 100.0),
        arguments(&mut random, -100.0, 100.0),
    );
    for (function, exact) in [
        ("fminf", f32::min as fn(f32, f32) -> f32),
        ("fmaxf", f32::max),
    ] {
        let got = run_binary(&program, function, &a, &b);
        for ((&a, &b), &got) in a.iter().zip(&b).zip(&got) {
            let want = exact(a, b);
            assert!(
                got == want || got.is_nan() && want.is_nan(),
                "{function}({a:e}, {b:e}) = {got:e}"
            );
        }
    }
    // Documented for divisors between 2^-126 and 2^126.
    let got = run_binary(&program, "fdividef", &a, &b);
    for ((&a, &b), &got) in a.iter().zip(&b).zip(&got) {
        if b.is_finite() && (2f32.powi(-126)..=2f32.powi(126)).contains(&b.abs()) && !a.is_nan() {
            let want = (f64::from(a) / f64::from(b)) as f32;
            assert!(
                ulps(got, want) <= 2,
                "fdividef({a:e}, {b:e}) = {got:e}, not {want:e}"
            );
        }
    }
}

#[test]
fn directed_roundings_give_the_neighbour_on_their_side() {
    let Some(program) = compile_f32(&[]) else {
        return;
    };
    let mut random = Random(4);
    // Moderate exponents, so that products and error terms are exact in double precision.
    let mut numbers = || -> Vec<f32> {
        (0..COUNT)
            .map(|_| (random.normal() * 2f64.powf(random.uniform(-40.0, 40.0))) as f32)
            .collect()
    };
    let (a, b) = (numbers(), numbers());
    let positive: Vec<f32> = a.iter().map(|x| x.abs()).collect();
    // Whether the f32 `c` is below (−1), at (0) or above (1) the exact result; each comparison is of exact doubles.
    type Side = fn(f32, f32, f32) -> i32;
    let sum: Side = |a, b, c| {
        let (a, b, c) = (f64::from(a), f64::from(b), f64::from(c));
        let near = a + b;
        let part = near - a;
        let error = (a - (near - part)) + (b - part);
        // c − near is exact: both are close, or one is tiny.
        let difference = (c - near) - error;
        (difference > 0.0) as i32 - (difference < 0.0) as i32
    };
    let product: Side = |a, b, c| {
        f64::from(c)
            .partial_cmp(&(f64::from(a) * f64::from(b)))
            .unwrap() as i32
    };
    let quotient: Side = |a, b, c| {
        let order = (f64::from(c) * f64::from(b))
            .partial_cmp(&f64::from(a))
            .unwrap() as i32;
        if b < 0.0 { -order } else { order }
    };
    let root: Side = |a, _, c| {
        (f64::from(c) * f64::from(c))
            .partial_cmp(&f64::from(a))
            .unwrap() as i32
    };
    let inverse: Side = |a, _, c| {
        let order = (f64::from(c) * f64::from(a)).partial_cmp(&1.0).unwrap() as i32;
        if a < 0.0 { -order } else { order }
    };
    for (name, side) in [
        ("__fadd", sum),
        ("__fmul", product),
        ("__fdiv", quotient),
        ("__fsqrt", root),
        ("__frcp", inverse),
    ] {
        for suffix in ["rz", "ru", "rd"] {
            let function = format!("{name}_{suffix}");
            let got = match name {
                "__fsqrt" => run_unary(&program, &function, &positive),
                "__frcp" => run_unary(&program, &function, &a),
                _ => run_binary(&program, &function, &a, &b),
            };
            for i in 0..COUNT {
                let (x, y, c) = (
                    if name == "__fsqrt" { positive[i] } else { a[i] },
                    b[i],
                    got[i],
                );
                let upwards = match suffix {
                    "ru" => true,
                    "rd" => false,
                    _ => c.is_sign_negative(),
                };
                let (own, beyond) = (
                    side(x, y, c),
                    side(x, y, if upwards { c.next_down() } else { c.next_up() }),
                );
                let right = own == 0
                    || if upwards {
                        own > 0 && beyond < 0
                    } else {
                        own < 0 && beyond > 0
                    };
                assert!(right, "{function}({x:e}, {y:e}) = {c:e}");
            }
        }
    }
}

#[test]
fn fast_math_keeps_the_bounds_of_the_intrinsics_it_substitutes() {
    let Some(program) = compile_f32(&["--use_fast_math"]) else {
        return;
    };
    let mut random = Random(5);
    let x: Vec<f32> = (0..COUNT).map(|_| random.uniform(-PI, PI) as f32).collect();
    let positive: Vec<f32> = (0..COUNT)
        .map(|_| random.uniform(0.001, 100.0) as f32)
        .collect();
    for (i, &got) in run_unary(&program, "expf", &x).iter().enumerate() {
        let bound = 2 + (1.173 * x[i]).abs().floor() as u64;
        assert!(
            ulps(got, f64::from(x[i]).exp() as f32) <= bound,
            "expf({:e})",
            x[i]
        );
    }
    for (i, &got) in run_unary(&program, "sinf", &x).iter().enumerate() {
        assert!(
            (f64::from(got) - f64::from(x[i]).sin()).abs() <= 2f64.powf(-21.41) + 2f64.powi(-25),
            "sinf({:e})",
            x[i]
        );
    }
    for (i, &got) in run_unary(&program, "sqrtf", &positive).iter().enumerate() {
        assert!(
            ulps(got, f64::from(positive[i]).sqrt() as f32) <= 3,
            "sqrtf({:e})",
            positive[i]
        );
    }
    // Subnormals are flushed.
    let tiny = vec![1e-40f32; 256];
    assert!(
        run_binary(&program, "__fadd_rn", &tiny, &tiny)
            .iter()
            .all(|&sum| sum == 0.0)
    );
}

#[test]
fn double_precision_functions_stay_within_their_ulps() {
    let Some(program) = Program::cuda(
        "math_f64.cu",
        include_str!("nvrtc_sources/math_f64.cu"),
        &[],
    ) else {
        return;
    };
    let bounds: BTreeMap<&str, u64> = [
        ("exp", 1),
        ("exp2", 1),
        ("exp10", 1),
        ("expm1", 1),
        ("log", 1),
        ("log2", 1),
        ("log10", 1),
        ("log1p", 1),
        ("sin", 2),
        ("cos", 2),
        ("tan", 2),
        ("sinpi", 2),
        ("asin", 2),
        ("acos", 2),
        ("atan", 2),
        ("sinh", 2),
        ("cosh", 1),
        ("tanh", 1),
        ("asinh", 3),
        ("acosh", 3),
        ("atanh", 2),
        ("erf", 2),
        ("erfc", 5),
        ("lgamma", 4),
        ("tgamma", 10),
        ("sqrt", 0),
        ("rsqrt", 1),
        ("cbrt", 1),
        ("reciprocal", 0),
        ("pow", 2),
        ("atan2", 2),
        ("hypot", 2),
        ("fmod", 0),
        ("quotient", 0),
    ]
    .into();
    let mut cases: BTreeMap<&str, Vec<Vec<f64>>> = BTreeMap::new();
    for line in include_str!("fixtures/math_f64.txt").lines() {
        let mut words = line.split(' ');
        let function = words.next().expect("a name");
        let numbers = words
            .map(|word| f64::from_bits(u64::from_str_radix(word, 16).expect("hexadecimal")))
            .collect();
        cases.entry(function).or_default().push(numbers);
    }
    assert_eq!(
        cases.keys().collect::<Vec<_>>(),
        bounds.keys().collect::<Vec<_>>()
    );
    for (function, cases) in cases {
        let columns = cases[0].len();
        let padded = cases.len().next_multiple_of(256);
        let column =
            |c: usize| -> Vec<f64> { (0..padded).map(|i| cases[i % cases.len()][c]).collect() };
        let inputs: Vec<_> = (0..columns - 1)
            .map(|c| program.upload(&column(c)))
            .collect();
        let got: Vec<f64> =
            program.map_with(&format!("k_{function}"), &inputs, padded, &mut |args| {
                args.push(scalar(padded as i32))
            });
        for (case, got) in cases.iter().zip(got) {
            let want = case[columns - 1];
            let off = ulps_f64(got, want);
            assert!(
                off <= bounds[function],
                "{function}({:?}) = {got:e}, not {want:e}: {off} ulp",
                &case[..columns - 1]
            );
        }
    }
}
