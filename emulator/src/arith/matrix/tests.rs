//! Matrix instructions against f64, with the fragment layouts written down from the PTX ISA's tables.

use super::*;
use crate::arith::float::{
    Convert, FloatType, NAN_F32, Round, cvt_float_to_float, f16_to_f32, f32_to_bf16_nearest,
    f32_to_f16_nearest,
};
use crate::arith::{Lanes, Lanes64, WARP};

/// Row and column of element `i` of lane `lane`, as the ISA's section of the shape and type gives it.
type Layout = fn(lane: u32, i: u32) -> (u32, u32);

/// One row of the table of shapes: the elements per lane follow from the shape.
struct Shape {
    m: u32,
    n: u32,
    k: u32,
    types: &'static [Element],
    a: Layout,
    b: Layout,
}

fn g(lane: u32) -> u32 {
    lane >> 2
}

fn t(lane: u32) -> u32 {
    lane % 4
}

/// C and D of every m16n8 shape: c0, c1 in row g, c2, c3 in row g + 8.
fn c_m16n8(lane: u32, i: u32) -> (u32, u32) {
    (
        if i < 2 { g(lane) } else { g(lane) + 8 },
        t(lane) * 2 + (i & 1),
    )
}

/// C and D of every m8n8 shape.
fn c_m8n8(lane: u32, i: u32) -> (u32, u32) {
    (g(lane), t(lane) * 2 + i)
}

use Element::*;

const SHAPES: &[Shape] = &[
    Shape {
        m: 16,
        n: 8,
        k: 8,
        types: &[F16, Bf16],
        a: |l, i| (if i < 2 { g(l) } else { g(l) + 8 }, t(l) * 2 + (i & 1)),
        b: |l, i| (t(l) * 2 + i, g(l)),
    },
    Shape {
        m: 16,
        n: 8,
        k: 16,
        types: &[F16, Bf16],
        a: |l, i| {
            let row = if i < 2 || (4..6).contains(&i) {
                g(l)
            } else {
                g(l) + 8
            };
            (
                row,
                if i < 4 {
                    t(l) * 2 + (i & 1)
                } else {
                    t(l) * 2 + (i & 1) + 8
                },
            )
        },
        b: |l, i| {
            (
                if i < 2 {
                    t(l) * 2 + (i & 1)
                } else {
                    t(l) * 2 + (i & 1) + 8
                },
                g(l),
            )
        },
    },
    Shape {
        m: 16,
        n: 8,
        k: 4,
        types: &[Tf32],
        a: |l, i| (if i == 0 { g(l) } else { g(l) + 8 }, t(l)),
        b: |l, _| (t(l), g(l)),
    },
    Shape {
        m: 16,
        n: 8,
        k: 8,
        types: &[Tf32],
        a: |l, i| {
            (
                if i == 0 || i == 2 { g(l) } else { g(l) + 8 },
                if i < 2 { t(l) } else { t(l) + 4 },
            )
        },
        b: |l, i| (if i == 0 { t(l) } else { t(l) + 4 }, g(l)),
    },
    Shape {
        m: 8,
        n: 8,
        k: 16,
        types: &[S8, U8],
        a: |l, i| (g(l), t(l) * 4 + i),
        b: |l, i| (t(l) * 4 + i, g(l)),
    },
    Shape {
        m: 16,
        n: 8,
        k: 16,
        types: &[S8, U8],
        a: |l, i| (if i < 4 { g(l) } else { g(l) + 8 }, t(l) * 4 + (i & 3)),
        b: |l, i| (t(l) * 4 + i, g(l)),
    },
    Shape {
        m: 16,
        n: 8,
        k: 32,
        types: &[S8, U8],
        a: |l, i| {
            let row = if i < 4 || (8..12).contains(&i) {
                g(l)
            } else {
                g(l) + 8
            };
            (
                row,
                if i < 8 {
                    t(l) * 4 + (i & 3)
                } else {
                    t(l) * 4 + (i & 3) + 16
                },
            )
        },
        b: |l, i| {
            (
                if i < 4 {
                    t(l) * 4 + (i & 3)
                } else {
                    t(l) * 4 + (i & 3) + 16
                },
                g(l),
            )
        },
    },
    Shape {
        m: 8,
        n: 8,
        k: 32,
        types: &[S4, U4],
        a: |l, i| (g(l), t(l) * 8 + i),
        b: |l, i| (t(l) * 8 + i, g(l)),
    },
    Shape {
        m: 16,
        n: 8,
        k: 32,
        types: &[S4, U4],
        a: |l, i| (if i < 8 { g(l) } else { g(l) + 8 }, t(l) * 8 + (i & 7)),
        b: |l, i| (t(l) * 8 + i, g(l)),
    },
    Shape {
        m: 16,
        n: 8,
        k: 64,
        types: &[S4, U4],
        a: |l, i| {
            let row = if i < 8 || (16..24).contains(&i) {
                g(l)
            } else {
                g(l) + 8
            };
            (
                row,
                if i < 16 {
                    t(l) * 8 + (i & 7)
                } else {
                    t(l) * 8 + (i & 7) + 32
                },
            )
        },
        b: |l, i| {
            (
                if i < 8 {
                    t(l) * 8 + (i & 7)
                } else {
                    t(l) * 8 + (i & 7) + 32
                },
                g(l),
            )
        },
    },
    Shape {
        m: 8,
        n: 8,
        k: 128,
        types: &[B1],
        a: |l, i| (g(l), t(l) * 32 + i),
        b: |l, i| (t(l) * 32 + i, g(l)),
    },
    Shape {
        m: 16,
        n: 8,
        k: 128,
        types: &[B1],
        a: |l, i| (if i < 32 { g(l) } else { g(l) + 8 }, t(l) * 32 + (i & 31)),
        b: |l, i| (t(l) * 32 + i, g(l)),
    },
    Shape {
        m: 16,
        n: 8,
        k: 256,
        types: &[B1],
        a: |l, i| {
            let row = if i < 32 || (64..96).contains(&i) {
                g(l)
            } else {
                g(l) + 8
            };
            (
                row,
                if i < 64 {
                    t(l) * 32 + (i & 31)
                } else {
                    t(l) * 32 + (i & 31) + 128
                },
            )
        },
        b: |l, i| {
            (
                if i < 32 {
                    t(l) * 32 + (i & 31)
                } else {
                    t(l) * 32 + (i & 31) + 128
                },
                g(l),
            )
        },
    },
];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let word = (self.0 >> 33) as u32;
        word ^ word << 11
    }

    /// In [−2, 2), with 24 significant bits.
    fn number(&mut self) -> f32 {
        (self.next() >> 6) as f32 / (1u32 << 23) as f32 * 0.5 - 2.0
    }
}

fn encode(element: Element, x: f64) -> u32 {
    match element {
        F16 => u32::from(f32_to_f16_nearest((x as f32).to_bits())),
        Bf16 => u32::from(f32_to_bf16_nearest((x as f32).to_bits())),
        Tf32 | F32 => (x as f32).to_bits(),
        S32 => x as i32 as u32,
        _ => x as i32 as u32 & ((1 << element.bits()) - 1),
    }
}

fn decode(element: Element, bits: u32) -> f64 {
    let float = |ty| {
        f64::from_bits(cvt_float_to_float(
            ty,
            FloatType::F64,
            u64::from(bits),
            Convert::default(),
        ))
    };
    match element {
        F16 => float(FloatType::F16),
        Bf16 => float(FloatType::Bf16),
        Tf32 => f64::from(f32::from_bits(bits & !0x1fff)),
        F32 => float(FloatType::F32),
        S32 => f64::from(bits as i32),
        S8 => f64::from(bits as i8),
        S4 => f64::from((bits << 28) as i32 >> 28),
        _ => f64::from(bits),
    }
}

fn random_element(random: &mut Random, element: Element) -> u32 {
    match element {
        S8 | U8 | S4 | U4 | B1 => random.next() & ((1 << element.bits()) - 1),
        S32 => random.next() % 2_000_000,
        // The ignored low bits of tf32 are set, to show that they are ignored.
        Tf32 => random.number().to_bits() | 0x1fff,
        _ => encode(element, f64::from(random.number())),
    }
}

/// Spreads a matrix of element patterns over registers by a layout.
fn scatter(
    layout: impl Fn(u32, u32) -> (u32, u32),
    element: Element,
    count: u32,
    matrix: impl Fn(u32, u32) -> u32,
) -> Vec<Lanes> {
    let along = 32 / element.bits();
    let mut registers = vec![[0u32; WARP]; count.div_ceil(along) as usize];
    for lane in 0..32 {
        for i in 0..count {
            let (row, col) = layout(lane, i);
            registers[(i / along) as usize][lane as usize] |=
                matrix(row, col) << (i % along * element.bits());
        }
    }
    registers
}

/// Multiplies random matrices spread by the given layouts and compares each element of D with f64.
fn check(
    mma: Mma,
    a: impl Fn(u32, u32) -> (u32, u32),
    b: impl Fn(u32, u32) -> (u32, u32),
    c: impl Fn(u32, u32) -> (u32, u32),
    random: &mut Random,
) {
    let Mma { m, n, k, .. } = mma;
    let left: Vec<u32> = (0..m * k).map(|_| random_element(random, mma.a)).collect();
    let right: Vec<u32> = (0..k * n).map(|_| random_element(random, mma.b)).collect();
    let start: Vec<u32> = (0..m * n).map(|_| random_element(random, mma.c)).collect();
    let a_registers = scatter(a, mma.a, m * k / 32, |row, col| {
        left[(row * k + col) as usize]
    });
    let b_registers = scatter(b, mma.b, k * n / 32, |row, col| {
        right[(row * n + col) as usize]
    });
    let c_registers = scatter(&c, mma.c, m * n / 32, |row, col| {
        start[(row * n + col) as usize]
    });
    let mut d = vec![[0xdead_beef; WARP]; (m * n / 32).div_ceil(32 / mma.d.bits()) as usize];
    mma.apply(&a_registers, &b_registers, &c_registers, &mut d);
    let along = 32 / mma.d.bits();
    for lane in 0..32 {
        for i in 0..m * n / 32 {
            let (row, col) = c(lane, i);
            let word = d[(i / along) as usize][lane as usize];
            let bits = if along == 2 {
                (word >> (16 * (i % 2))) & 0xffff
            } else {
                word
            };
            let got = decode(mma.d, bits);
            let (mut want, mut size) = (decode(mma.c, start[(row * n + col) as usize]), 0.0);
            for step in 0..k {
                let x = decode(mma.a, left[(row * k + step) as usize]);
                let y = decode(mma.b, right[(step * n + col) as usize]);
                let product = if mma.a != B1 {
                    x * y
                } else if mma.bit_op == BitOp::And {
                    f64::from(x == 1.0 && y == 1.0)
                } else {
                    f64::from(x != y)
                };
                want += product;
                size += product.abs();
            }
            // k roundings of partial sums in f32, and one to f16 if D is f16.
            let bound = match mma.d {
                S32 => 0.0,
                F32 => f64::from(k) * 2f64.powi(-24) * (size + want.abs()),
                _ => {
                    f64::from(k) * 2f64.powi(-24) * (size + want.abs())
                        + 2f64.powi(-11) * want.abs()
                }
            };
            assert!(
                (got - want).abs() <= bound,
                "{mma:?} at ({row}, {col}): {got}, not {want} ± {bound:e}"
            );
        }
    }
}

fn instruction(m: u32, n: u32, k: u32, element: Element, c: Element, d: Element) -> Mma {
    Mma {
        m,
        n,
        k,
        a: element,
        b: element,
        c,
        d,
        satfinite: false,
        bit_op: BitOp::Xor,
    }
}

fn accumulators(element: Element) -> &'static [(Element, Element)] {
    match element {
        F16 => &[(F16, F16), (F32, F32), (F16, F32), (F32, F16)],
        Bf16 | Tf32 => &[(F32, F32)],
        _ => &[(S32, S32)],
    }
}

#[test]
fn mma_of_every_shape_multiplies_fragments_laid_out_as_the_isa_says() {
    let mut random = Random(11);
    for shape in SHAPES {
        let c = if shape.m == 16 { c_m16n8 } else { c_m8n8 };
        for &a in shape.types {
            for &b in shape.types {
                for &(c_type, d_type) in accumulators(a) {
                    let mut mma = instruction(shape.m, shape.n, shape.k, a, c_type, d_type);
                    mma.b = b;
                    if !mma.is_mma() {
                        // Integers mix signs; f16 and bf16 do not mix, nor do accumulators.
                        assert!(a.bits() == 16 && (a != b || c_type != d_type), "{mma:?}");
                        continue;
                    }
                    for bit_op in [BitOp::Xor, BitOp::And] {
                        check(Mma { bit_op, ..mma }, shape.a, shape.b, c, &mut random);
                    }
                    check(
                        Mma {
                            satfinite: true,
                            ..mma
                        },
                        shape.a,
                        shape.b,
                        c,
                        &mut random,
                    );
                }
            }
        }
    }
}

#[test]
fn fragments_of_mma_are_the_isas() {
    for shape in SHAPES {
        let element = shape.types[0];
        let mma = instruction(
            shape.m,
            shape.n,
            shape.k,
            element,
            accumulators(element)[0].0,
            accumulators(element)[0].1,
        );
        for (role, layout) in [(Role::A, shape.a), (Role::B, shape.b)] {
            let fragment = mma.fragment(role);
            let along = fragment.per_register();
            for lane in 0..32 {
                for i in 0..fragment.registers() * along {
                    assert_eq!(
                        fragment.position(i / along, i % along, lane),
                        layout(lane, i),
                        "{fragment:?} lane {lane} element {i}"
                    );
                }
            }
        }
    }
    let wide = Fragment {
        role: Role::C,
        rows: 16,
        cols: 8,
        element: F32,
    };
    let packed = Fragment {
        element: F16,
        ..wide
    };
    for lane in 0..32 {
        for i in 0..4 {
            assert_eq!(wide.position(i, 0, lane), c_m16n8(lane, i));
            assert_eq!(packed.position(i / 2, i % 2, lane), c_m16n8(lane, i));
        }
    }
}

#[test]
fn wmma_fragments_hold_every_element_and_multiply() {
    let mut random = Random(12);
    let shapes = [
        (16, 16, 16, F16),
        (8, 32, 16, F16),
        (32, 8, 16, F16),
        (16, 16, 16, Bf16),
        (8, 32, 16, Bf16),
        (32, 8, 16, Bf16),
        (16, 16, 8, Tf32),
        (16, 16, 16, S8),
        (8, 32, 16, U8),
        (32, 8, 16, S8),
        (8, 8, 32, S4),
        (8, 8, 32, U4),
        (8, 8, 128, B1),
    ];
    for (m, n, k, element) in shapes {
        for &(c, d) in accumulators(element) {
            let mma = instruction(m, n, k, element, c, d);
            assert!(mma.is_wmma(), "{mma:?}");
            let layout = |fragment: Fragment| {
                let along = fragment.per_register();
                move |lane: u32, i: u32| fragment.position(i / along, i % along, lane)
            };
            for role in [Role::A, Role::B, Role::C] {
                let fragment = mma.fragment(role);
                let mut held = vec![0; (fragment.rows * fragment.cols) as usize];
                for lane in 0..32 {
                    for register in 0..fragment.wmma_registers() {
                        for index in 0..fragment.per_register() {
                            let (row, col) = fragment.position(register, index, lane);
                            held[(row * fragment.cols + col) as usize] += 1;
                        }
                    }
                }
                let copies = fragment.wmma_registers() / fragment.registers();
                assert!(held.iter().all(|&count| count == copies), "{fragment:?}");
            }
            check(
                mma,
                layout(mma.fragment(Role::A)),
                layout(mma.fragment(Role::B)),
                layout(mma.fragment(Role::C)),
                &mut random,
            );
        }
    }
    // The register counts of PTX's wmma vector operands.
    let registers = |m, n, k, element, role| {
        instruction(m, n, k, element, F32, F32)
            .fragment(role)
            .wmma_registers()
    };
    assert_eq!(registers(16, 16, 16, F16, Role::A), 8);
    assert_eq!(registers(8, 32, 16, F16, Role::A), 8);
    assert_eq!(registers(8, 32, 16, Bf16, Role::A), 2);
    assert_eq!(registers(8, 32, 16, Bf16, Role::B), 8);
    assert_eq!(registers(16, 16, 16, Bf16, Role::B), 4);
    assert_eq!(registers(16, 16, 8, Tf32, Role::A), 4);
    assert_eq!(registers(32, 8, 16, S8, Role::A), 4);
    assert_eq!(registers(16, 16, 16, S8, Role::B), 2);
    assert_eq!(registers(16, 16, 16, F16, Role::C), 8);
}

#[test]
fn an_f32_accumulator_is_not_rounded_to_f16_between_steps() {
    // 2048 + 1 is no f16, and neither is any partial sum after it.
    let mma = instruction(16, 8, 16, F16, F32, F32);
    let one = 0x3c00_3c00;
    let mut d = [[0; WARP]; 4];
    mma.apply(
        &[[one; WARP]; 4],
        &[[one; WARP]; 2],
        &[[2048f32.to_bits(); WARP]; 4],
        &mut d,
    );
    assert_eq!(d, [[2064f32.to_bits(); WARP]; 4]);
    let odd = [[2049f32.to_bits(); WARP]; 4];
    mma.apply(&[[0; WARP]; 4], &[[one; WARP]; 2], &odd, &mut d);
    assert_eq!(d, odd);
}

#[test]
fn the_vectorised_product_gives_the_portable_ones_bits() {
    let mut random = Random(13);
    let mut register =
        |_: usize| -> Lanes { std::array::from_fn(|_| random.next() ^ random.next() << 16) };
    for element in [F16, Bf16] {
        for (m, n, k) in [
            (16, 8, 8),
            (16, 8, 16),
            (16, 16, 16),
            (8, 32, 16),
            (32, 8, 16),
        ] {
            for &(c, d) in accumulators(element) {
                let mma = instruction(m, n, k, element, c, d);
                if !mma.is_mma() && !mma.is_wmma() {
                    continue;
                }
                for _ in 0..20 {
                    // Random patterns, so NaN and infinities too.
                    let (a, b, c): ([Lanes; 8], [Lanes; 8], [Lanes; 8]) = (
                        std::array::from_fn(&mut register),
                        std::array::from_fn(&mut register),
                        std::array::from_fn(&mut register),
                    );
                    let (mut fast, mut plain) = ([[0; WARP]; 8], [[0; WARP]; 8]);
                    mma.apply(&a, &b, &c, &mut fast);
                    half_product::multiply_portable(&mma, &a, &b, &c, &mut plain);
                    assert_eq!(fast, plain, "{mma:?}");
                }
            }
        }
    }
}

#[test]
fn nan_results_are_canonical_and_integer_overflow_wraps_or_clamps() {
    let mma = instruction(16, 8, 8, F16, F32, F32);
    let mut d = [[0; WARP]; 4];
    mma.apply(
        &[[0x7c01_fe00; WARP]; 2],
        &[[0x3c00_3c00; WARP]],
        &[[0; WARP]; 4],
        &mut d,
    );
    assert_eq!(d, [[NAN_F32; WARP]; 4]);
    let mut integers = instruction(8, 8, 16, S8, S32, S32);
    let ones = [[0x0101_0101; WARP]];
    let top = [[i32::MAX as u32; WARP]; 2];
    let mut d = [[0; WARP]; 2];
    integers.apply(&ones, &ones, &top, &mut d);
    assert_eq!(d, [[(i32::MAX as u32).wrapping_add(16); WARP]; 2]);
    integers.satfinite = true;
    integers.apply(&ones, &ones, &top, &mut d);
    assert_eq!(d, top);
}

#[test]
fn quad_pair_mma_multiplies_four_matrices_in_every_layout() {
    let mut random = Random(14);
    for a_col in [false, true] {
        for b_col in [false, true] {
            for (c, d_type) in [(F16, F16), (F32, F32), (F16, F32), (F32, F16)] {
                let mma = QuadPairMma {
                    a_col,
                    b_col,
                    c,
                    d: d_type,
                };
                let mut half_registers = |count: usize| -> Vec<Lanes> {
                    (0..count)
                        .map(|_| {
                            std::array::from_fn(|_| {
                                random_element(&mut random, F16)
                                    | random_element(&mut random, F16) << 16
                            })
                        })
                        .collect()
                };
                let (a, b) = (half_registers(2), half_registers(2));
                let c_registers = if c == F16 {
                    half_registers(4)
                } else {
                    (0..8)
                        .map(|_| std::array::from_fn(|_| random.number().to_bits()))
                        .collect()
                };
                let mut d = vec![[0; WARP]; if d_type == F16 { 4 } else { 8 }];
                mma.apply(&a, &b, &c_registers, &mut d);
                let half = |registers: &[Lanes], lane: u32, i: u32| {
                    let word = registers[(i / 2) as usize][lane as usize];
                    f64::from(f32::from_bits(f16_to_f32((word >> (16 * (i % 2))) as u16)))
                };
                // The ISA's formulas for one matrix element; which lane holds it in quad pair `pair`.
                let lane_of = |pair: u32, within: u32| {
                    4 * pair + within % 4 + if within >= 4 { 16 } else { 0 }
                };
                let a_at = |pair, row: u32, k: u32| {
                    if a_col {
                        half(&a, lane_of(pair, k + row / 4 * 4), row % 4)
                    } else {
                        half(&a, lane_of(pair, row), k)
                    }
                };
                let b_at = |pair, k: u32, col: u32| {
                    if b_col {
                        half(&b, lane_of(pair, col), k)
                    } else {
                        half(&b, lane_of(pair, k + col / 4 * 4), col % 4)
                    }
                };
                // f32: row = (lane & 1) + (i & 2) + 4 for the upper lanes, column = (i & 4) + (lane & 2) + (i & 1).
                let wide_place = |pair, row: u32, col: u32| {
                    (
                        lane_of(pair, (row & 1) + (col & 2) + row / 4 * 4),
                        (row & 2) + (col & 4) + (col & 1),
                    )
                };
                for pair in 0..4 {
                    for row in 0..8 {
                        for col in 0..8 {
                            let read = |registers: &[Lanes], ty: Element| {
                                if ty == F16 {
                                    half(registers, lane_of(pair, row), col)
                                } else {
                                    let (lane, i) = wide_place(pair, row, col);
                                    f64::from(f32::from_bits(registers[i as usize][lane as usize]))
                                }
                            };
                            let want = (0..4).fold(read(&c_registers, c), |sum, k| {
                                sum + a_at(pair, row, k) * b_at(pair, k, col)
                            });
                            let got = read(&d, d_type);
                            let bound = if d_type == F16 {
                                16.0 * 2f64.powi(-11)
                            } else {
                                16.0 * 2f64.powi(-22)
                            };
                            assert!(
                                (got - want).abs() <= bound,
                                "{mma:?} {pair} ({row}, {col}): {got}, not {want}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn f64_mma_multiplies_fragments_laid_out_as_the_isa_says() {
    let mut random = Random(15);
    let mut number = || f64::from(random.number());
    let a: Lanes64 = std::array::from_fn(|_| number().to_bits());
    let b: Lanes64 = std::array::from_fn(|_| number().to_bits());
    let c: [Lanes64; 2] = std::array::from_fn(|_| std::array::from_fn(|_| number().to_bits()));
    let mut d = [[0; WARP]; 2];
    mma_f64(Round::Nearest, &a, &b, &c, &mut d);
    for lane in 0..32usize {
        for i in 0..2 {
            // A: row lane >> 2, column lane % 4. B: row lane % 4, column lane >> 2. C: row lane >> 2, column 2·(lane % 4) + i.
            let (row, col) = (lane >> 2, (lane % 4) * 2 + i);
            let mut want = f64::from_bits(c[i][lane]);
            for k in 0..4 {
                want =
                    f64::from_bits(a[row << 2 | k]).mul_add(f64::from_bits(b[col << 2 | k]), want);
            }
            assert_eq!(f64::from_bits(d[i][lane]), want);
        }
    }
}

#[test]
fn ldmatrix_gives_each_lane_its_pair_and_movmatrix_transposes() {
    let rows: [[u16; 8]; 8] =
        std::array::from_fn(|row| std::array::from_fn(|col| (10 * row + col) as u16));
    let plain = ldmatrix(&rows, false);
    let transposed = ldmatrix(&rows, true);
    for lane in 0..32 {
        let (row, col) = (lane / 4, 2 * (lane % 4));
        assert_eq!(
            plain[lane],
            (10 * row + col) as u32 | ((10 * row + col + 1) as u32) << 16
        );
        assert_eq!(
            transposed[lane],
            (10 * col + row) as u32 | ((10 * (col + 1) + row) as u32) << 16
        );
    }
    assert_eq!(movmatrix(&plain), transposed);
    assert_eq!(movmatrix(&transposed), plain);
    assert_eq!(ldmatrix_row_lane(3, 7), 31);
}
