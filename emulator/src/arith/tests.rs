//! Integers, video instructions, approximations and warp-wide twins against definitions written out bit by bit.

use super::approx::*;
use super::float::{self, HalfMode, IntType, MinMax, NAN_F32, NAN_F64};
use super::int::*;
use super::video::*;
use super::{Lanes, warp};

const TYPES: [IntType; 6] = [
    IntType::U16,
    IntType::S16,
    IntType::U32,
    IntType::S32,
    IntType::U64,
    IntType::S64,
];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 29) ^ self.0 << 17
    }
}

/// Edge values of every width, then random ones.
fn operands(random: &mut Random) -> Vec<u64> {
    let mut values = vec![0, 1, 2, 7, u64::MAX, u64::MAX - 1];
    for bits in [8, 16, 24, 31, 32, 63] {
        values.extend([
            1u64 << bits,
            (1 << bits) - 1,
            (1u64 << bits) + 1,
            (1u64 << bits).wrapping_neg(),
        ]);
    }
    values.extend((0..20).map(|_| random.next()));
    values
}

#[test]
fn products_quotients_and_differences_are_those_of_exact_integers() {
    let mut random = Random(1);
    let values = operands(&mut random);
    for ty in TYPES {
        // The value modulo 2^bits, as the register would hold it, extended by type.
        let wrap = |x: i128| ty.extend(x as u64);
        for &a in &values {
            for &b in &values {
                let (x, y) = (ty.value(a), ty.value(b));
                let c = random.next();
                let product = (x).wrapping_mul(y);
                assert_eq!(mul_lo(ty, a, b), wrap(product));
                let high = if ty == IntType::U64 {
                    ((x as u128).wrapping_mul(y as u128) >> 64) as i128
                } else {
                    product >> ty.bits
                };
                assert_eq!(mul_hi(ty, a, b), wrap(high), "{ty:?} {a:#x} {b:#x}");
                assert_eq!(mad_hi(ty, a, b, c), wrap(high + ty.value(c)));
                if ty.bits <= 32 {
                    let wide = IntType {
                        bits: 2 * ty.bits,
                        ..ty
                    };
                    assert_eq!(wide.extend(mul_wide(ty, a, b)), wide.extend(product as u64));
                    assert_eq!(
                        wide.extend(mad_wide(ty, a, b, c)),
                        wide.extend((product as u64).wrapping_add(c))
                    );
                }
                let (quotient, remainder) = if y == 0 { (-1, -1) } else { (x / y, x % y) };
                assert_eq!(div(ty, a, b), wrap(quotient), "{ty:?} {a:#x} / {b:#x}");
                assert_eq!(rem(ty, a, b), wrap(remainder), "{ty:?} {a:#x} % {b:#x}");
                assert_eq!(
                    sad(ty, a, b, c),
                    wrap((x - y).abs().wrapping_add(ty.value(c)))
                );
                assert_eq!(min_max(ty, a, b, false), wrap(x.min(y)));
                assert_eq!(min_max(ty, a, b, true), wrap(x.max(y)));
                assert_eq!(compare(IntCmp::Lt, ty, a, b), x < y);
                assert_eq!(compare(IntCmp::Ge, ty, a, b), x >= y);
                assert_eq!(compare(IntCmp::Ne, ty, a, b), x != y);
            }
            if ty.signed {
                assert_eq!(abs(ty, a), wrap(ty.value(a).abs()));
            }
        }
    }
    assert_eq!(mul_hi_u32(u32::MAX, u32::MAX), u32::MAX - 1);
    assert_eq!(mul_hi_s32(i32::MIN as u32, i32::MIN as u32), 1 << 30);
    assert_eq!(div(IntType::S32, 1 << 31, u64::MAX) as u32, 1 << 31);
}

#[test]
fn saturating_sums_clamp() {
    let (least, largest) = (i32::MIN as u32, i32::MAX as u32);
    assert_eq!(add_sat_s32(largest, 1), largest);
    assert_eq!(sub_sat_s32(least, 1), least);
    assert_eq!(mad_hi_sat_s32(largest, largest, largest), largest);
    assert_eq!(mad24_hi_sat_s32(0x7f_ffff, 0x7f_ffff, largest), largest);
    assert_eq!(mul24_lo(false, 0xff00_0002, 3), 6);
    assert_eq!(mul24_lo(true, 0x00ff_ffff, 3), -3i32 as u32);
    assert_eq!(
        mul24_hi(false, 0xff_ffff, 0xff_ffff),
        ((0xff_ffffu64 * 0xff_ffff) >> 16) as u32
    );
    assert_eq!(
        mul24_hi(true, 0x80_0000, 0x7f_ffff),
        ((-0x80_0000i64 * 0x7f_ffff) >> 16) as u32
    );
}

#[test]
fn shifts_clamp_or_wrap_and_fields_follow_the_isas_loops() {
    let mut random = Random(2);
    for _ in 0..20_000 {
        let (a, b) = (random.next(), random.next());
        let (position, length) = ((random.next() % 300) as u32, (random.next() % 300) as u32);
        for ty in [IntType::U32, IntType::S32, IntType::U64, IntType::S64] {
            let msb = ty.bits as usize - 1;
            let bit = |x: u64, i: usize| x >> i & 1;
            let (pos, len) = ((position & 0xff) as usize, (length & 0xff) as usize);
            let sign = if !ty.signed || len == 0 {
                0
            } else {
                bit(a, (pos + len - 1).min(msb))
            };
            let mut extracted = 0u64;
            let mut inserted = b;
            for i in 0..=msb {
                extracted |= (if i < len && pos + i <= msb {
                    bit(a, pos + i)
                } else {
                    sign
                }) << i;
                if i < len && pos + i <= msb {
                    inserted = inserted & !(1 << (pos + i)) | bit(a, i) << (pos + i);
                }
            }
            assert_eq!(
                bfe(ty, a, position, length),
                ty.extend(extracted),
                "{ty:?} {a:#x} {position} {length}"
            );
            assert_eq!(
                bfi(ty.bits, a, b, position, length),
                inserted,
                "{ty:?} {position} {length}"
            );
            let shifted = if position >= ty.bits {
                0
            } else {
                ty.extend(a) << position
            };
            assert_eq!(ty.extend(shl(ty.bits, a, position)), ty.extend(shifted));
            assert_eq!(
                shr(ty, a, position),
                (ty.value(a) >> position.min(100)) as u64
            );
            let probe = a >> (random.next() % 64);
            let magnitude = if ty.signed && ty.value(probe) < 0 {
                !ty.value(probe)
            } else {
                ty.value(probe)
            };
            let top = (0..128).rev().find(|&i| magnitude >> i & 1 != 0);
            assert_eq!(bfind(ty, probe, false), top.map_or(u32::MAX, |i| i as u32));
            assert_eq!(
                bfind(ty, probe, true),
                top.map_or(u32::MAX, |i| msb as u32 - i as u32)
            );
        }
        let (low, high) = (a as u32, b as u32);
        let pair = u128::from(u64::from(high) << 32 | u64::from(low));
        for (wrap, n) in [(false, position.min(32)), (true, position % 32)] {
            assert_eq!(shf_l(low, high, position, wrap), ((pair << n) >> 32) as u32);
            assert_eq!(shf_r(low, high, position, wrap), (pair >> n) as u32);
        }
        // szext and bmsk bit by bit.
        for wrap in [false, true] {
            let (n, start) = (position % 70, length % 70);
            let kept = if wrap { n % 32 } else { n.min(32) };
            for signed in [false, true] {
                let mut want = 0u32;
                for i in 0..32 {
                    let source = if i < kept { i } else { kept.wrapping_sub(1) };
                    let copied = i < kept || (signed && kept > 0);
                    want |= if copied { (low >> source & 1) << i } else { 0 };
                }
                assert_eq!(
                    szext(signed, wrap, low, n),
                    want,
                    "{signed} {wrap} {low:#x} {n}"
                );
            }
            let first = if wrap { start % 32 } else { start };
            let want = (first..32.min(first + kept)).fold(0u32, |mask, i| mask | 1 << i);
            assert_eq!(bmsk(wrap, start, n), want, "{wrap} {start} {n}");
        }
    }
    assert_eq!(fns(0xaaaa_aaaa, 3, 1), 3);
    assert_eq!(fns(0xaaaa_aaaa, 3, -1), 3);
    assert_eq!(fns(0xaaaa_aaaa, 2, 1), 3);
    assert_eq!(fns(0xaaaa_aaaa, 2, -1), 1);
    assert_eq!(fns(0xaaaa_aaaa, 2, 0), u32::MAX);
    assert_eq!(fns(0xaaaa_aaaa, 3, 0), 3);
    assert_eq!(fns(0xaaaa_aaaa, 0, 17), u32::MAX);
    assert_eq!(fns(0xaaaa_aaaa, 31, -16), 1);
}

#[test]
fn lop3_and_prmt_follow_their_tables() {
    let mut random = Random(3);
    for table in 0..=255u8 {
        let (a, b, c) = (
            random.next() as u32,
            random.next() as u32,
            random.next() as u32,
        );
        let mut want = 0;
        for i in 0..32 {
            let row = (a >> i & 1) * 4 + (b >> i & 1) * 2 + (c >> i & 1);
            want |= u32::from(table >> row & 1) << i;
        }
        assert_eq!(lop3(a, b, c, table), want);
    }
    // The ISA's way to make a table: the function of 0xf0, 0xcc, 0xaa.
    assert_eq!(lop3(5, 6, 9, 0xf0 & 0xcc | 0xaa), 5 & 6 | 9);
    let (a, b) = (0x8322_8100, 0xf766_5544);
    assert_eq!(prmt(PermuteMode::Default, a, b, 0x7654), b);
    assert_eq!(prmt(PermuteMode::Default, a, b, 0x0123), 0x0081_2283);
    assert_eq!(prmt(PermuteMode::Default, a, b, 0xf9b8), 0xffff_ff00);
    // Rows of the ISA's table for the special modes: the bytes picked for the control values 0 to 3, highest place first.
    let tables = [
        (
            PermuteMode::ForwardExtract,
            [0x3210, 0x4321, 0x5432, 0x6543],
        ),
        (
            PermuteMode::BackwardExtract,
            [0x5670, 0x6701, 0x7012, 0x0123],
        ),
        (PermuteMode::Replicate8, [0x0000, 0x1111, 0x2222, 0x3333]),
        (PermuteMode::EdgeClampLeft, [0x3210, 0x3211, 0x3222, 0x3333]),
        (
            PermuteMode::EdgeClampRight,
            [0x0000, 0x1110, 0x2210, 0x3210],
        ),
        (PermuteMode::Replicate16, [0x1010, 0x3232, 0x1010, 0x3232]),
    ];
    let identity = (0x0302_0100, 0x0706_0504);
    for (mode, rows) in tables {
        for (control, picked) in (0..).zip(rows) {
            let want = (0..4).fold(0, |word, place| {
                word | (picked >> (4 * place) & 0xf) << (8 * place)
            });
            assert_eq!(
                prmt(mode, identity.0, identity.1, control),
                want,
                "{mode:?} {control}"
            );
        }
    }
}

#[test]
fn dot_products_and_carry_chains_equal_wide_arithmetic() {
    let mut random = Random(4);
    for _ in 0..5_000 {
        let (a, b, c) = (
            random.next() as u32,
            random.next() as u32,
            random.next() as u32,
        );
        for (a_signed, b_signed) in [(false, false), (false, true), (true, false), (true, true)] {
            let part = |x: u32, bits: u32, i: u32, signed: bool| {
                IntType { bits, signed }.value(u64::from(x >> (bits * i)))
            };
            let four: i128 = (0..4)
                .map(|i| part(a, 8, i, a_signed) * part(b, 8, i, b_signed))
                .sum();
            assert_eq!(
                dp4a(a_signed, b_signed, a, b, c),
                (i128::from(c) + four) as u32
            );
            for upper in [false, true] {
                let first = if upper { 2 } else { 0 };
                let two: i128 = (0..2)
                    .map(|i| part(a, 16, i, a_signed) * part(b, 8, first + i, b_signed))
                    .sum();
                assert_eq!(
                    dp2a(a_signed, b_signed, upper, a, b, c),
                    (i128::from(c) + two) as u32
                );
            }
        }
        // 128-bit sums, differences and a product from 32-bit limbs, as CUDA's __uint128 code does them.
        let (x, y) = (
            u128::from(random.next()) << 64 | u128::from(random.next()),
            u128::from(random.next()) << 60 | u128::from(random.next()),
        );
        let (mut sum, mut difference) = (0u128, 0u128);
        let (mut carry, mut no_borrow) = (false, true);
        for limb in 0..4 {
            let (p, q) = ((x >> (32 * limb)) as u32, (y >> (32 * limb)) as u32);
            let (word, out) = add_carry(32, p.into(), q.into(), carry);
            sum |= u128::from(word) << (32 * limb);
            carry = out;
            let (word, out) = sub_carry(32, p.into(), q.into(), no_borrow);
            difference |= u128::from(word) << (32 * limb);
            no_borrow = out;
        }
        assert_eq!((sum, carry), x.overflowing_add(y));
        assert_eq!((difference, !no_borrow), x.overflowing_sub(y));
        let (p, q) = (x as u64, y as u64);
        let (low, carry) = add_carry(64, p, q, true);
        assert_eq!(
            u128::from(low) + (u128::from(carry) << 64),
            u128::from(p) + u128::from(q) + 1
        );
        // [r3 r2 r1 r0] = p · q, the ISA's example for madc.
        let u32t = IntType::U32;
        let (r4, r5, r6, r7) = (p & 0xffff_ffff, p >> 32, q & 0xffff_ffff, q >> 32);
        let r0 = mul_lo(u32t, r4, r6);
        let r1 = mul_hi(u32t, r4, r6);
        let (r1, cc) = mad_carry(u32t, false, r5, r6, r1, false);
        let (r2, _) = mad_carry(u32t, true, r5, r6, 0, cc);
        let (r1, cc) = mad_carry(u32t, false, r4, r7, r1, false);
        let (r2, cc) = mad_carry(u32t, true, r4, r7, r2, cc);
        let (r3, _) = add_carry(32, 0, 0, cc);
        let (r2, cc) = mad_carry(u32t, false, r5, r7, r2, false);
        let (r3, _) = mad_carry(u32t, true, r5, r7, r3, cc);
        let product = [r3, r2, r1, r0]
            .iter()
            .fold(0u128, |word, &limb| word << 32 | u128::from(limb));
        assert_eq!(product, u128::from(p) * u128::from(q));
    }
}

#[test]
fn video_instructions_follow_the_isas_pseudocode() {
    let operand = |signed, part| VideoOperand { signed, part };
    let word = operand(true, VideoPart::Word);
    let plain = Video {
        op: VideoOp::Add,
        signed: true,
        a: word,
        b: word,
        sat: false,
        secondary: Secondary::None,
    };
    let top = i32::MAX as u32;
    assert_eq!(plain.apply(top, 1, 0), 1 << 31);
    assert_eq!(Video { sat: true, ..plain }.apply(top, 1, 0), top);
    let mixed = Video {
        op: VideoOp::Sub,
        a: operand(false, VideoPart::Byte(3)),
        b: operand(true, VideoPart::Half(1)),
        secondary: Secondary::Add,
        ..plain
    };
    assert_eq!(mixed.apply(0xff00_0000, 0xfffe_0000, 10), 255 + 2 + 10);
    let merged = Video {
        op: VideoOp::Max,
        sat: true,
        secondary: Secondary::Merge(VideoPart::Byte(1)),
        ..plain
    };
    assert_eq!(merged.apply(1000, 5, 0xaabb_ccdd), 0xaabb_7fdd);
    assert_eq!(
        Video {
            op: VideoOp::AbsDiff,
            signed: false,
            ..plain
        }
        .apply(1 << 31, top, 0),
        u32::MAX
    );
    assert_eq!(
        Video {
            secondary: Secondary::Min,
            ..plain
        }
        .apply(3, 4, -9i32 as u32),
        -9i32 as u32
    );
    assert_eq!(
        Video {
            secondary: Secondary::Max,
            signed: false,
            ..plain
        }
        .apply(3, 4, -9i32 as u32),
        -9i32 as u32
    );
    let shift = |op, b| {
        Video {
            op,
            b: operand(false, VideoPart::Word),
            ..plain
        }
        .apply(0x8000_0001, b, 0)
    };
    assert_eq!(shift(VideoOp::ShiftLeft { wrap: false }, 40), 0);
    assert_eq!(shift(VideoOp::ShiftLeft { wrap: true }, 33), 2);
    assert_eq!(shift(VideoOp::ShiftRight { wrap: false }, 40), u32::MAX);
    assert_eq!(
        Video {
            op: VideoOp::Set(IntCmp::Lt),
            signed: false,
            ..plain
        }
        .apply(-1i32 as u32, 0, 0),
        1
    );
    let mad = VideoMad {
        a: operand(false, VideoPart::Half(0)),
        b: operand(false, VideoPart::Half(1)),
        negate_product: false,
        negate_c: false,
        plus_one: true,
        scale: 15,
        sat: false,
    };
    assert_eq!(
        mad.apply(0xffff, 0xffff_0000, 7),
        ((0xffffu64 * 0xffff + 8) >> 15) as u32
    );
    let negated = VideoMad {
        negate_product: true,
        plus_one: false,
        scale: 0,
        sat: true,
        a: word,
        b: word,
        ..mad
    };
    assert_eq!(negated.apply(1 << 31, 1 << 31, 0), 1 << 31);

    let mut random = Random(5);
    for _ in 0..2_000 {
        let (a, b, c) = (
            random.next() as u32,
            random.next() as u32,
            random.next() as u32,
        );
        for elements in [2u32, 4] {
            let bits = 32 / elements;
            let (a_select, b_select) = if elements == 2 {
                ([0, 1, 0, 0], [2, 3, 0, 0])
            } else {
                ([0, 1, 2, 3], [4, 5, 6, 7])
            };
            for signed in [false, true] {
                let ty = IntType { bits, signed };
                let (least, largest) = ty.range();
                for op in [
                    SimdOp::Add,
                    SimdOp::Sub,
                    SimdOp::Average,
                    SimdOp::AbsDiff,
                    SimdOp::Min,
                    SimdOp::Max,
                    SimdOp::Set(IntCmp::Gt),
                ] {
                    for sat in [false, true] {
                        let mask = (random.next() % 16) as u8;
                        let simd = VideoSimd {
                            op,
                            elements,
                            signed,
                            a_signed: signed,
                            b_signed: signed,
                            a_select,
                            b_select,
                            mask,
                            sat,
                            accumulate: false,
                        };
                        let (mut merged, mut total) = (0u32, c);
                        for i in 0..elements {
                            let (x, y) = (
                                ty.value(u64::from(a >> (bits * i))),
                                ty.value(u64::from(b >> (bits * i))),
                            );
                            let exact = match op {
                                SimdOp::Add => x + y,
                                SimdOp::Sub => x - y,
                                // Halves away from zero.
                                SimdOp::Average => {
                                    if x + y >= 0 {
                                        (x + y + 1) / 2
                                    } else {
                                        (x + y - 1) / 2
                                    }
                                }
                                SimdOp::AbsDiff => (x - y).abs(),
                                SimdOp::Min => x.min(y),
                                SimdOp::Max => x.max(y),
                                SimdOp::Set(_) => i128::from(x > y),
                            };
                            let exact = if sat {
                                exact.clamp(least, largest)
                            } else {
                                exact
                            };
                            let field = ((1u64 << bits) - 1) as u32;
                            if mask >> i & 1 != 0 {
                                merged |= (exact as u32 & field) << (bits * i);
                                total = total.wrapping_add(exact as u32);
                            } else {
                                merged |= c & field << (bits * i);
                            }
                        }
                        assert_eq!(simd.apply(a, b, c), merged, "{simd:?}");
                        if !sat {
                            assert_eq!(
                                VideoSimd {
                                    accumulate: true,
                                    ..simd
                                }
                                .apply(a, b, c),
                                total,
                                "{simd:?}"
                            );
                        }
                    }
                }
            }
        }
    }
    // Elements may come from either source: vadd2 r1, r2.h33, r3.h01.
    let crossed = VideoSimd {
        op: SimdOp::Add,
        elements: 2,
        signed: false,
        a_signed: false,
        b_signed: false,
        a_select: [3, 3, 0, 0],
        b_select: [1, 0, 0, 0],
        mask: 3,
        sat: false,
        accumulate: false,
    };
    assert_eq!(crossed.apply(0x0002_0001, 0x0040_0030, 0), 0x0041_0042);
}

/// Every 4,099th f32, which visits all exponents and both signs.
fn f32_samples() -> impl Iterator<Item = u32> {
    (0..=u32::MAX).step_by(4_099)
}

/// Checks |f(x) − exact(x)| ≤ max(absolute, relative · |exact|) wherever the result is a normal number, and that
/// infinities, zeros and NaN agree.
fn within(
    name: &str,
    f: impl Fn(u32) -> u32,
    exact: impl Fn(f64) -> f64,
    domain: impl Fn(f64) -> bool,
    relative: f64,
    absolute: f64,
) {
    let mut checked = 0;
    for bits in f32_samples() {
        let x = f64::from(f32::from_bits(bits));
        if !domain(x) {
            continue;
        }
        let (got, want) = (f(bits), exact(x));
        if want.is_nan() {
            assert_eq!(got, NAN_F32, "{name}({x:e})");
        } else if (want as f32).is_infinite() {
            assert_eq!(got, (want as f32).to_bits(), "{name}({x:e})");
        } else {
            let error = (f64::from(f32::from_bits(got)) - want).abs();
            let bound = (relative * want.abs()).max(absolute).max(2f64.powi(-149));
            assert!(
                error <= bound,
                "{name}({x:e}) = {:e}, not {want:e}",
                f32::from_bits(got)
            );
        }
        checked += 1;
    }
    assert!(checked > 10_000, "{name}: only {checked} samples");
}

#[test]
fn approximations_stay_within_the_isas_bounds() {
    let all = |_: f64| true;
    let pow2 = |n: f64| 2f64.powf(n);
    within(
        "ex2",
        |x| ex2_f32(x, false),
        f64::exp2,
        all,
        pow2(-22.5),
        0.0,
    );
    within(
        "lg2",
        |x| lg2_f32(x, false),
        f64::log2,
        all,
        pow2(-22.6),
        pow2(-22.6),
    );
    within(
        "lg2 away from one",
        |x| lg2_f32(x, false),
        f64::log2,
        |x| !(0.5..=2.0).contains(&x),
        pow2(-22.6),
        0.0,
    );
    within(
        "rcp",
        |x| rcp_f32(x, false),
        |x| 1.0 / x,
        all,
        pow2(-23.0),
        0.0,
    );
    within(
        "rsqrt",
        |x| rsqrt_f32(x, false),
        |x| 1.0 / x.sqrt(),
        all,
        pow2(-22.9),
        0.0,
    );
    within(
        "sqrt",
        |x| sqrt_f32(x, false),
        f64::sqrt,
        all,
        pow2(-23.0),
        0.0,
    );
    let turn = |x: f64| x.abs() <= 2.0 * std::f64::consts::PI;
    within(
        "sin",
        |x| sin_f32(x, false),
        f64::sin,
        turn,
        0.0,
        pow2(-20.5),
    );
    within(
        "cos",
        |x| cos_f32(x, false),
        f64::cos,
        turn,
        0.0,
        pow2(-20.5),
    );
    within("tanh", tanh_f32, f64::tanh, all, pow2(-11.0), 0.0);
}

#[test]
fn approximations_have_the_isas_special_values() {
    let (infinity, negative) = (0x7f80_0000u32, 0x8000_0000u32);
    let one = 1f32.to_bits();
    for ftz in [false, true] {
        assert_eq!(
            [
                ex2_f32(negative | infinity, ftz),
                ex2_f32(negative, ftz),
                ex2_f32(infinity, ftz)
            ],
            [0, one, infinity]
        );
        assert_eq!(
            [lg2_f32(0, ftz), lg2_f32(negative, ftz), lg2_f32(one, ftz)],
            [negative | infinity, negative | infinity, 0]
        );
        assert_eq!(
            [lg2_f32(infinity, ftz), lg2_f32(negative | one, ftz)],
            [infinity, NAN_F32]
        );
        assert_eq!(
            [rcp_f32(negative, ftz), rcp_f32(negative | infinity, ftz)],
            [negative | infinity, negative]
        );
        assert_eq!(
            [
                rsqrt_f32(0, ftz),
                rsqrt_f32(negative, ftz),
                rsqrt_f32(infinity, ftz)
            ],
            [infinity, negative | infinity, 0]
        );
        assert_eq!(
            [
                rsqrt_f32(negative | one, ftz),
                sqrt_f32(negative | one, ftz)
            ],
            [NAN_F32, NAN_F32]
        );
        assert_eq!(
            [
                sqrt_f32(negative, ftz),
                sin_f32(negative, ftz),
                cos_f32(negative, ftz)
            ],
            [negative, negative, one]
        );
        assert_eq!(
            [sin_f32(infinity, ftz), cos_f32(infinity, ftz)],
            [NAN_F32, NAN_F32]
        );
        let big = 0x7e80_0001; // just above 2^126
        assert_eq!(div_approx_f32(one, big, ftz), 0);
        assert_eq!(div_approx_f32(negative | one, big, ftz), negative);
        assert_eq!(div_approx_f32(infinity, big, ftz), NAN_F32);
        assert_eq!(
            div_approx_f32(3f32.to_bits(), 2f32.to_bits(), ftz),
            1.5f32.to_bits()
        );
        assert_eq!(div_full_f32(big, big, ftz), one);
    }
    let subnormal = 0x0000_1000;
    assert_eq!(
        [ex2_f32(subnormal, true), lg2_f32(subnormal, true)],
        [one, negative | infinity]
    );
    assert_eq!(
        [rcp_f32(subnormal, true), rsqrt_f32(subnormal, true)],
        [infinity, infinity]
    );
    // 2^-140 survives only without .ftz.
    let low = (-140f32).to_bits();
    assert_eq!([ex2_f32(low, false), ex2_f32(low, true)], [1 << 9, 0]);
    assert_eq!(
        [
            tanh_f32(infinity),
            tanh_f32(negative | infinity),
            tanh_f32(negative)
        ],
        [one, negative | one, negative]
    );
    for whole in -149..128 {
        let want = if whole < -126 {
            1 << (whole + 149)
        } else {
            ((whole + 127) as u32) << 23
        };
        assert_eq!(ex2_f32((whole as f32).to_bits(), false), want, "2^{whole}");
        assert_eq!(
            lg2_f32(want, false),
            (whole as f32).to_bits(),
            "log2 of 2^{whole}"
        );
    }
}

#[test]
fn wide_approximations_read_and_write_upper_words_only() {
    let mut random = Random(6);
    for _ in 0..100_000 {
        let a = random.next() & 0x7fff_ffff_ffff_ffff;
        let x = f64::from_bits(a & 0xffff_ffff_0000_0000);
        if !x.is_normal() || !(1.0 / x).is_normal() {
            continue;
        }
        let got = rcp_ftz_f64(a);
        assert_eq!(got as u32, 0);
        assert!(
            (f64::from_bits(got) * x - 1.0).abs() <= 2f64.powi(-20),
            "{x:e}"
        );
        let got = rsqrt_ftz_f64(a);
        assert_eq!(got as u32, 0);
        assert!(
            (f64::from_bits(got) * x.sqrt() - 1.0).abs() <= 2f64.powi(-20),
            "{x:e}"
        );
        assert!((f64::from_bits(rsqrt_f64(x.to_bits())) * x.sqrt() - 1.0).abs() <= 2f64.powi(-50));
    }
    let infinity = f64::INFINITY.to_bits();
    let negative = 1u64 << 63;
    assert_eq!(
        [
            rcp_ftz_f64(0),
            rcp_ftz_f64(negative | 1),
            rcp_ftz_f64(infinity)
        ],
        [infinity, negative | infinity, 0]
    );
    assert_eq!(rcp_ftz_f64(f64::MAX.to_bits()), 0);
    assert_eq!(
        [rsqrt_ftz_f64(1 << 51), rsqrt_ftz_f64(infinity)],
        [infinity, 0]
    );
    assert!(float::is_nan_f64(rsqrt_ftz_f64(negative | 1f64.to_bits())));
    assert!(float::is_nan_f64(rcp_ftz_f64(0x7ff0_0000_0000_0001)));
    assert_eq!(rsqrt_f64(negative | 1f64.to_bits()), NAN_F64);
}

#[test]
fn half_approximations_stay_within_the_isas_bounds_for_every_value() {
    for bits in 0..=u16::MAX {
        let x = f64::from(f32::from_bits(float::f16_to_f32(bits)));
        let (power, hyperbolic) = (ex2_f16(bits, false), tanh_f16(bits));
        let value = |bits: u16| f64::from(f32::from_bits(float::f16_to_f32(bits)));
        if x.is_nan() {
            assert_eq!((power, hyperbolic), (0x7fff, 0x7fff));
            continue;
        }
        if x.exp2() < 65520.0 {
            // Relative in the normal range, half a unit of the last place below it.
            let bound = (x.exp2() * 2f64.powf(-9.9)).max(2f64.powi(-25));
            assert!((value(power) - x.exp2()).abs() <= bound, "2^{x}");
        } else {
            assert_eq!(power, 0x7c00);
        }
        assert!(
            (value(hyperbolic) - x.tanh()).abs() <= 2f64.powf(-10.987),
            "tanh {x}"
        );
        let wide = f64::from(f32::from_bits(float::bf16_to_f32(bits)));
        if wide.is_finite() && (-126.0..127.9).contains(&wide) {
            let got = f64::from(f32::from_bits(float::bf16_to_f32(ex2_bf16(bits))));
            assert!((got / wide.exp2() - 1.0).abs() <= 2f64.powi(-7), "2^{wide}");
            let got = f64::from(f32::from_bits(float::bf16_to_f32(tanh_bf16(bits))));
            assert!((got - wide.tanh()).abs() <= 2f64.powi(-8), "tanh {wide}");
        }
    }
    assert_eq!(ex2_f16(0x0200, true), 0x3c00);
    assert_eq!(ex2_f16(0xcf00, true), 0);
}

#[test]
fn warp_functions_give_the_scalar_functions_bits() {
    let mut random = Random(7);
    let specials = [
        0u32,
        0x8000_0000,
        1,
        0x7c00_fc00,
        0x7e01_0001,
        0x0001_83ff,
        0x7f80_ff80,
        0x7fc1_0001,
    ];
    for round in 0..1000 {
        let mut lanes = || -> Lanes {
            std::array::from_fn(|lane| {
                if (round + lane) % 5 == 0 {
                    specials[random.next() as usize % specials.len()]
                } else {
                    random.next() as u32
                }
            })
        };
        let (a, b, c) = (lanes(), lanes(), lanes());
        let mut d = [0; 32];
        let check = |name: &str, d: &Lanes, f: &dyn Fn(u32, u32, u32) -> u32| {
            for lane in 0..32 {
                assert_eq!(
                    d[lane],
                    f(a[lane], b[lane], c[lane]),
                    "{name} {:#x} {:#x} {:#x}",
                    a[lane],
                    b[lane],
                    c[lane]
                );
            }
        };
        const PLAIN: HalfMode = HalfMode::PLAIN;
        warp::add_f16x2(&mut d, &a, &b);
        check("add.f16x2", &d, &|a, b, _| float::add_f16x2(a, b, PLAIN));
        warp::sub_f16x2(&mut d, &a, &b);
        check("sub.f16x2", &d, &|a, b, _| float::sub_f16x2(a, b, PLAIN));
        warp::mul_f16x2(&mut d, &a, &b);
        check("mul.f16x2", &d, &|a, b, _| float::mul_f16x2(a, b, PLAIN));
        warp::fma_f16x2(&mut d, &a, &b, &c);
        check("fma.f16x2", &d, &|a, b, c| float::fma_f16x2(a, b, c, PLAIN));
        warp::fma_bf16x2(&mut d, &a, &b, &c);
        check("fma.bf16x2", &d, &|a, b, c| {
            float::fma_bf16x2(a, b, c, PLAIN)
        });
        for how in [
            MinMax::default(),
            MinMax {
                ftz: true,
                ..MinMax::default()
            },
            MinMax {
                nan: true,
                xorsign_abs: true,
                ftz: false,
            },
        ] {
            warp::min_f16x2(&mut d, &a, &b, how);
            check("min.f16x2", &d, &|a, b, _| float::min_f16x2(a, b, how));
            warp::max_f16x2(&mut d, &a, &b, how);
            check("max.f16x2", &d, &|a, b, _| float::max_f16x2(a, b, how));
            warp::min_bf16x2(&mut d, &a, &b, how);
            check("min.bf16x2", &d, &|a, b, _| float::min_bf16x2(a, b, how));
            warp::max_bf16x2(&mut d, &a, &b, how);
            check("max.bf16x2", &d, &|a, b, _| float::max_bf16x2(a, b, how));
        }
        // Moderate numbers, where bf16's fused multiply-add takes its short way.
        let moderate: [Lanes; 3] = [a, b, c].map(|x| x.map(|x| x & 0xbfff_bfff | 0x3000_3000));
        warp::fma_bf16x2(&mut d, &moderate[0], &moderate[1], &moderate[2]);
        for lane in 0..32 {
            let [a, b, c] = moderate.map(|x| x[lane]);
            assert_eq!(
                d[lane],
                float::fma_bf16x2(a, b, c, PLAIN),
                "fma.bf16x2 {a:#x} {b:#x} {c:#x}"
            );
        }
    }
}
