//! Every arithmetic instruction as PTX text, executed, against the tested functions of `arith`: this proves that the
//! text's operands, types and modifiers reach the right function in the right order.

use crate::support::{Program, Random};
use cuda_emulator::arith::float::*;
use cuda_emulator::arith::int::{self, IntCmp, IntType, PermuteMode};
use cuda_emulator::arith::video::*;
use cuda_emulator::arith::{approx, matrix};

type Expected = Box<dyn Fn(u64, u64, u64) -> u64>;

/// An instruction (or several) over the registers below, and what it leaves in its destination.
///
/// Sources are `ha hb hc` (16 bits), `ra rb rc` (32), `da db dc` (64), destinations `hd`, `rd`, `dd`; all hold the low
/// bits of the same three 64-bit inputs. `p` and `q` are predicates.
struct Case {
    text: String,
    /// Destination width in bits.
    width: u32,
    expected: Expected,
}

#[derive(Default)]
struct Table(Vec<Case>);

impl Table {
    fn add(
        &mut self,
        width: u32,
        text: impl Into<String>,
        expected: impl Fn(u64, u64, u64) -> u64 + 'static,
    ) {
        self.0.push(Case {
            text: text.into(),
            width,
            expected: Box::new(expected),
        });
    }
}

const INTEGERS: [(&str, IntType); 6] = [
    ("u16", IntType::U16),
    ("s16", IntType::S16),
    ("u32", IntType::U32),
    ("s32", IntType::S32),
    ("u64", IntType::U64),
    ("s64", IntType::S64),
];

/// The register letter of a width.
fn letter(bits: u32) -> char {
    match bits {
        16 => 'h',
        32 => 'r',
        _ => 'd',
    }
}

const ROUNDS: [(&str, Round); 4] = [
    ("rn", Round::Nearest),
    ("rz", Round::Zero),
    ("rm", Round::NegInf),
    ("rp", Round::PosInf),
];

fn integers(table: &mut Table) {
    for (name, ty) in INTEGERS {
        let r = letter(ty.bits);
        let bits = ty.bits;
        table.add(bits, format!("add.{name} {r}d, {r}a, {r}b;"), |a, b, _| {
            a.wrapping_add(b)
        });
        table.add(bits, format!("sub.{name} {r}d, {r}a, {r}b;"), |a, b, _| {
            a.wrapping_sub(b)
        });
        table.add(
            bits,
            format!("mul.lo.{name} {r}d, {r}a, {r}b;"),
            move |a, b, _| int::mul_lo(ty, a, b),
        );
        table.add(
            bits,
            format!("mul.hi.{name} {r}d, {r}a, {r}b;"),
            move |a, b, _| int::mul_hi(ty, a, b),
        );
        table.add(
            bits,
            format!("mad.lo.{name} {r}d, {r}a, {r}b, {r}c;"),
            |a, b, c| a.wrapping_mul(b).wrapping_add(c),
        );
        table.add(
            bits,
            format!("mad.hi.{name} {r}d, {r}a, {r}b, {r}c;"),
            move |a, b, c| int::mad_hi(ty, a, b, c),
        );
        table.add(
            bits,
            format!("div.{name} {r}d, {r}a, {r}b;"),
            move |a, b, _| int::div(ty, a, b),
        );
        table.add(
            bits,
            format!("rem.{name} {r}d, {r}a, {r}b;"),
            move |a, b, _| int::rem(ty, a, b),
        );
        table.add(
            bits,
            format!("sad.{name} {r}d, {r}a, {r}b, {r}c;"),
            move |a, b, c| int::sad(ty, a, b, c),
        );
        table.add(
            bits,
            format!("min.{name} {r}d, {r}a, {r}b;"),
            move |a, b, _| int::min_max(ty, a, b, false),
        );
        table.add(
            bits,
            format!("max.{name} {r}d, {r}a, {r}b;"),
            move |a, b, _| int::min_max(ty, a, b, true),
        );
        table.add(
            bits,
            format!("shr.{name} {r}d, {r}a, rb;"),
            move |a, b, _| int::shr(ty, a, b as u32),
        );
        if bits < 64 {
            let (wide, w) = (2 * bits, letter(2 * bits));
            table.add(
                wide,
                format!("mul.wide.{name} {w}d, {r}a, {r}b;"),
                move |a, b, _| int::mul_wide(ty, a, b),
            );
            table.add(
                wide,
                format!("mad.wide.{name} {w}d, {r}a, {r}b, {w}c;"),
                move |a, b, c| int::mad_wide(ty, a, b, c),
            );
        }
        if ty.signed {
            table.add(bits, format!("abs.{name} {r}d, {r}a;"), move |a, _, _| {
                int::abs(ty, a)
            });
            table.add(bits, format!("neg.{name} {r}d, {r}a;"), |a, _, _| {
                a.wrapping_neg()
            });
        }
        for (cmp, op) in [
            ("eq", IntCmp::Eq),
            ("ne", IntCmp::Ne),
            ("lt", IntCmp::Lt),
            ("le", IntCmp::Le),
            ("gt", IntCmp::Gt),
            ("ge", IntCmp::Ge),
        ] {
            table.add(
                32,
                format!("setp.{cmp}.{name} p, {r}a, {r}b;\n selp.u32 rd, 1, 0, p;"),
                move |a, b, _| int::compare(op, ty, a, b).into(),
            );
        }
        if bits >= 32 {
            table.add(32, format!("bfind.{name} rd, {r}a;"), move |a, _, _| {
                int::bfind(ty, a, false).into()
            });
            table.add(
                32,
                format!("bfind.shiftamt.{name} rd, {r}a;"),
                move |a, _, _| int::bfind(ty, a, true).into(),
            );
            table.add(
                bits,
                format!("bfe.{name} {r}d, {r}a, rb, rc;"),
                move |a, b, c| int::bfe(ty, a, b as u32, c as u32),
            );
            table.add(
                32,
                format!("set.lt.u32.{name} rd, {r}a, {r}b;"),
                move |a, b, _| {
                    if int::compare(IntCmp::Lt, ty, a, b) {
                        u64::MAX
                    } else {
                        0
                    }
                },
            );
        }
    }
    for bits in [16, 32, 64] {
        let r = letter(bits);
        table.add(bits, format!("and.b{bits} {r}d, {r}a, {r}b;"), |a, b, _| {
            a & b
        });
        table.add(bits, format!("or.b{bits} {r}d, {r}a, {r}b;"), |a, b, _| {
            a | b
        });
        table.add(bits, format!("xor.b{bits} {r}d, {r}a, {r}b;"), |a, b, _| {
            a ^ b
        });
        table.add(bits, format!("not.b{bits} {r}d, {r}a;"), |a, _, _| !a);
        table.add(bits, format!("cnot.b{bits} {r}d, {r}a;"), move |a, _, _| {
            (a << (64 - bits) == 0).into()
        });
        table.add(
            bits,
            format!("shl.b{bits} {r}d, {r}a, rb;"),
            move |a, b, _| int::shl(bits, a, b as u32),
        );
        table.add(
            bits,
            format!("selp.b{bits} {r}d, {r}a, {r}b, q;"),
            |a, b, c| if c & 1 == 1 { a } else { b },
        );
        table.add(
            bits,
            format!("slct.b{bits}.s32 {r}d, {r}a, {r}b, rc;"),
            |a, b, c| if c as i32 >= 0 { a } else { b },
        );
        if bits >= 32 {
            table.add(32, format!("popc.b{bits} rd, {r}a;"), move |a, _, _| {
                (a << (64 - bits)).count_ones().into()
            });
            table.add(32, format!("clz.b{bits} rd, {r}a;"), move |a, _, _| {
                (a << (64 - bits)).leading_zeros().min(bits).into()
            });
            table.add(bits, format!("brev.b{bits} {r}d, {r}a;"), move |a, _, _| {
                a.reverse_bits() >> (64 - bits)
            });
            table.add(
                bits,
                format!("bfi.b{bits} {r}d, {r}a, {r}b, rc, 7;"),
                move |a, b, c| int::bfi(bits, a, b, c as u32, 7),
            );
            table.add(
                bits,
                format!("bfi.b{bits} {r}d, {r}a, {r}b, 5, rc;"),
                move |a, b, c| int::bfi(bits, a, b, 5, c as u32),
            );
            for (name, suffix) in [("add", "u"), ("sub", "u"), ("add", "s"), ("sub", "s")] {
                let text = format!(
                    "{name}.cc.{suffix}{bits} {r}d, {r}a, {r}b;\n {name}c.cc.{suffix}{bits} {r}d, {r}c, {r}b;\n {name}c.{suffix}{bits} {r}d, {r}d, {r}a;"
                );
                type Step = fn(u32, u64, u64, bool) -> (u64, bool);
                let (step, first): (Step, bool) = if name == "add" {
                    (int::add_carry, false)
                } else {
                    (int::sub_carry, true)
                };
                table.add(bits, text, move |a, b, c| {
                    let (_, carry) = step(bits, a, b, first);
                    let (sum, carry) = step(bits, c, b, carry);
                    step(bits, sum, a, carry).0
                });
            }
            // The flag is the adder's carry: one if nothing was borrowed.
            let text = format!("sub.cc.u{bits} {r}d, {r}a, {r}b;\n addc.u{bits} {r}d, 0, 0;");
            table.add(bits, text, move |a, b, _| {
                (low(a, bits) >= low(b, bits)).into()
            });
            let unsigned = IntType {
                bits,
                signed: false,
            };
            let text = format!(
                "mad.lo.cc.u{bits} {r}d, {r}a, {r}b, {r}c;\n madc.hi.cc.u{bits} {r}d, {r}a, {r}b, {r}c;\n addc.u{bits} {r}d, {r}d, 0;"
            );
            table.add(bits, text, move |a, b, c| {
                let (_, carry) = int::mad_carry(unsigned, false, a, b, c, false);
                let (sum, carry) = int::mad_carry(unsigned, true, a, b, c, carry);
                int::add_carry(bits, sum, 0, carry).0
            });
        }
    }
    fn words(
        f: impl Fn(u32, u32, u32) -> u32 + 'static,
    ) -> impl Fn(u64, u64, u64) -> u64 + 'static {
        move |a, b, c| f(a as u32, b as u32, c as u32).into()
    }
    table.add(
        32,
        "add.sat.s32 rd, ra, rb;",
        words(|a, b, _| int::add_sat_s32(a, b)),
    );
    table.add(
        32,
        "sub.sat.s32 rd, ra, rb;",
        words(|a, b, _| int::sub_sat_s32(a, b)),
    );
    table.add(
        32,
        "mad.hi.sat.s32 rd, ra, rb, rc;",
        words(int::mad_hi_sat_s32),
    );
    table.add(
        32,
        "mul24.lo.u32 rd, ra, rb;",
        words(|a, b, _| int::mul24_lo(false, a, b)),
    );
    table.add(
        32,
        "mul24.hi.s32 rd, ra, rb;",
        words(|a, b, _| int::mul24_hi(true, a, b)),
    );
    table.add(
        32,
        "mad24.lo.s32 rd, ra, rb, rc;",
        words(|a, b, c| int::mul24_lo(true, a, b).wrapping_add(c)),
    );
    table.add(
        32,
        "mad24.hi.u32 rd, ra, rb, rc;",
        words(|a, b, c| int::mul24_hi(false, a, b).wrapping_add(c)),
    );
    table.add(
        32,
        "mad24.hi.sat.s32 rd, ra, rb, rc;",
        words(int::mad24_hi_sat_s32),
    );
    table.add(
        32,
        "and.b32 rd, rb, 31;\n fns.b32 rd, ra, rd, rc;",
        words(|a, b, c| int::fns(a, b & 31, c as i32)),
    );
    table.add(
        32,
        "fns.b32 rd, ra, 9, -3;",
        words(|a, _, _| int::fns(a, 9, -3)),
    );
    for immediate in [0x00u8, 0x96, 0xe8, 0xca, 0x1b, 0xff] {
        table.add(
            32,
            format!("lop3.b32 rd, ra, rb, rc, {immediate};"),
            words(move |a, b, c| int::lop3(a, b, c, immediate)),
        );
    }
    let modes = [
        ("", PermuteMode::Default),
        (".f4e", PermuteMode::ForwardExtract),
        (".b4e", PermuteMode::BackwardExtract),
        (".rc8", PermuteMode::Replicate8),
        (".ecl", PermuteMode::EdgeClampLeft),
        (".ecr", PermuteMode::EdgeClampRight),
        (".rc16", PermuteMode::Replicate16),
    ];
    for (suffix, mode) in modes {
        table.add(
            32,
            format!("prmt.b32{suffix} rd, ra, rb, rc;"),
            words(move |a, b, c| int::prmt(mode, a, b, c)),
        );
    }
    for (mode, wrap) in [("clamp", false), ("wrap", true)] {
        table.add(
            32,
            format!("shf.l.{mode}.b32 rd, ra, rb, rc;"),
            words(move |a, b, c| int::shf_l(a, b, c, wrap)),
        );
        table.add(
            32,
            format!("shf.r.{mode}.b32 rd, ra, rb, rc;"),
            words(move |a, b, c| int::shf_r(a, b, c, wrap)),
        );
        table.add(
            32,
            format!("szext.{mode}.s32 rd, ra, rb;"),
            words(move |a, b, _| int::szext(true, wrap, a, b)),
        );
        table.add(
            32,
            format!("szext.{mode}.u32 rd, ra, rb;"),
            words(move |a, b, _| int::szext(false, wrap, a, b)),
        );
        table.add(
            32,
            format!("bmsk.{mode}.b32 rd, ra, rb;"),
            words(move |a, b, _| int::bmsk(wrap, a, b)),
        );
    }
    for (a_name, a_signed) in [("u32", false), ("s32", true)] {
        for (b_name, b_signed) in [("u32", false), ("s32", true)] {
            table.add(
                32,
                format!("dp4a.{a_name}.{b_name} rd, ra, rb, rc;"),
                words(move |a, b, c| int::dp4a(a_signed, b_signed, a, b, c)),
            );
            table.add(
                32,
                format!("dp2a.lo.{a_name}.{b_name} rd, ra, rb, rc;"),
                words(move |a, b, c| int::dp2a(a_signed, b_signed, false, a, b, c)),
            );
            table.add(
                32,
                format!("dp2a.hi.{a_name}.{b_name} rd, ra, rb, rc;"),
                words(move |a, b, c| int::dp2a(a_signed, b_signed, true, a, b, c)),
            );
        }
    }
}

fn floats(table: &mut Table) {
    fn single(
        f: impl Fn(u32, u32, u32) -> u32 + 'static,
    ) -> impl Fn(u64, u64, u64) -> u64 + 'static {
        move |a, b, c| f(a as u32, b as u32, c as u32).into()
    }
    for (rnd, round) in ROUNDS {
        for (ftz_name, ftz) in [("", false), (".ftz", true)] {
            for (sat_name, sat) in [("", false), (".sat", true)] {
                let mode = Mode { round, ftz, sat };
                let suffix = format!("{rnd}{ftz_name}{sat_name}.f32");
                table.add(
                    32,
                    format!("add.{suffix} rd, ra, rb;"),
                    single(move |a, b, _| add_f32(a, b, mode)),
                );
                table.add(
                    32,
                    format!("sub.{suffix} rd, ra, rb;"),
                    single(move |a, b, _| sub_f32(a, b, mode)),
                );
                table.add(
                    32,
                    format!("mul.{suffix} rd, ra, rb;"),
                    single(move |a, b, _| mul_f32(a, b, mode)),
                );
                table.add(
                    32,
                    format!("fma.{suffix} rd, ra, rb, rc;"),
                    single(move |a, b, c| fma_f32(a, b, c, mode)),
                );
                table.add(
                    32,
                    format!("mad.{suffix} rd, ra, rb, rc;"),
                    single(move |a, b, c| fma_f32(a, b, c, mode)),
                );
            }
            let mode = Mode {
                round,
                ftz,
                sat: false,
            };
            table.add(
                32,
                format!("div.{rnd}{ftz_name}.f32 rd, ra, rb;"),
                single(move |a, b, _| div_f32(a, b, mode)),
            );
            table.add(
                32,
                format!("rcp.{rnd}{ftz_name}.f32 rd, ra;"),
                single(move |a, _, _| rcp_f32(a, mode)),
            );
            table.add(
                32,
                format!("sqrt.{rnd}{ftz_name}.f32 rd, ra;"),
                single(move |a, _, _| sqrt_f32(a, mode)),
            );
        }
        table.add(64, format!("add.{rnd}.f64 dd, da, db;"), move |a, b, _| {
            add_f64(a, b, round)
        });
        table.add(64, format!("sub.{rnd}.f64 dd, da, db;"), move |a, b, _| {
            sub_f64(a, b, round)
        });
        table.add(64, format!("mul.{rnd}.f64 dd, da, db;"), move |a, b, _| {
            mul_f64(a, b, round)
        });
        table.add(
            64,
            format!("fma.{rnd}.f64 dd, da, db, dc;"),
            move |a, b, c| fma_f64(a, b, c, round),
        );
        table.add(
            64,
            format!("mad.{rnd}.f64 dd, da, db, dc;"),
            move |a, b, c| fma_f64(a, b, c, round),
        );
        table.add(64, format!("div.{rnd}.f64 dd, da, db;"), move |a, b, _| {
            div_f64(a, b, round)
        });
        table.add(64, format!("rcp.{rnd}.f64 dd, da;"), move |a, _, _| {
            rcp_f64(a, round)
        });
        table.add(64, format!("sqrt.{rnd}.f64 dd, da;"), move |a, _, _| {
            sqrt_f64(a, round)
        });
    }
    table.add(
        32,
        "add.f32 rd, ra, rb;",
        single(|a, b, _| add_f32(a, b, Mode::RN)),
    );
    table.add(64, "mul.f64 dd, da, db;", |a, b, _| {
        mul_f64(a, b, Round::Nearest)
    });
    table.add(64, "min.f64 dd, da, db;", |a, b, _| min_f64(a, b));
    table.add(64, "max.f64 dd, da, db;", |a, b, _| max_f64(a, b));
    table.add(64, "neg.f64 dd, da;", |a, _, _| neg_f64(a));
    table.add(64, "abs.f64 dd, da;", |a, _, _| abs_f64(a));
    table.add(64, "copysign.f64 dd, da, db;", |a, b, _| copysign_f64(a, b));
    table.add(
        32,
        "copysign.f32 rd, ra, rb;",
        single(|a, b, _| copysign_f32(a, b)),
    );
    table.add(
        32,
        "slct.b32.f32 rd, ra, rb, rc;",
        single(|a, b, c| if f32::from_bits(c) >= 0.0 { a } else { b }),
    );
    for (ftz_name, ftz) in [("", false), (".ftz", true)] {
        table.add(
            32,
            format!("neg{ftz_name}.f32 rd, ra;"),
            single(move |a, _, _| neg_f32(a, ftz)),
        );
        table.add(
            32,
            format!("abs{ftz_name}.f32 rd, ra;"),
            single(move |a, _, _| abs_f32(a, ftz)),
        );
        for (nan_name, nan) in [("", false), (".NaN", true)] {
            for (xor_name, xorsign_abs) in [("", false), (".xorsign.abs", true)] {
                let how = MinMax {
                    ftz,
                    nan,
                    xorsign_abs,
                };
                let suffix = format!("{ftz_name}{nan_name}{xor_name}");
                table.add(
                    32,
                    format!("min{suffix}.f32 rd, ra, rb;"),
                    single(move |a, b, _| min_f32(a, b, how)),
                );
                table.add(
                    32,
                    format!("max{suffix}.f32 rd, ra, rb;"),
                    single(move |a, b, _| max_f32(a, b, how)),
                );
                table.add(
                    16,
                    format!("min{suffix}.f16 hd, ha, hb;"),
                    move |a, b, _| min_f16(a as u16, b as u16, how).into(),
                );
                table.add(
                    32,
                    format!("max{suffix}.f16x2 rd, ra, rb;"),
                    single(move |a, b, _| max_f16x2(a, b, how)),
                );
                if !ftz {
                    table.add(
                        16,
                        format!("max{suffix}.bf16 hd, ha, hb;"),
                        move |a, b, _| max_bf16(a as u16, b as u16, how).into(),
                    );
                    table.add(
                        32,
                        format!("min{suffix}.bf16x2 rd, ra, rb;"),
                        single(move |a, b, _| min_bf16x2(a, b, how)),
                    );
                }
            }
        }
        type Approx = fn(u32, bool) -> u32;
        let functions: [(&str, Approx); 7] = [
            ("ex2", approx::ex2_f32),
            ("lg2", approx::lg2_f32),
            ("rcp", approx::rcp_f32),
            ("rsqrt", approx::rsqrt_f32),
            ("sqrt", approx::sqrt_f32),
            ("sin", approx::sin_f32),
            ("cos", approx::cos_f32),
        ];
        for (name, function) in functions {
            table.add(
                32,
                format!("{name}.approx{ftz_name}.f32 rd, ra;"),
                single(move |a, _, _| function(a, ftz)),
            );
        }
        table.add(
            32,
            format!("div.approx{ftz_name}.f32 rd, ra, rb;"),
            single(move |a, b, _| approx::div_approx_f32(a, b, ftz)),
        );
        table.add(
            32,
            format!("div.full{ftz_name}.f32 rd, ra, rb;"),
            single(move |a, b, _| approx::div_full_f32(a, b, ftz)),
        );
        for (cmp, op) in comparisons() {
            table.add(
                32,
                format!("setp.{cmp}{ftz_name}.f32 p, ra, rb;\n selp.u32 rd, 1, 0, p;"),
                single(move |a, b, _| compare_f32(op, a, b, ftz).into()),
            );
            table.add(
                32,
                format!("setp.{cmp}{ftz_name}.f16 p, ha, hb;\n selp.u32 rd, 1, 0, p;"),
                single(move |a, b, _| compare_f16(op, a as u16, b as u16, ftz).into()),
            );
        }
        for (sat_name, sat) in [("", false), (".sat", true)] {
            let mode = HalfMode {
                ftz,
                sat,
                relu: false,
            };
            let suffix = format!("{ftz_name}{sat_name}");
            table.add(
                16,
                format!("add{suffix}.f16 hd, ha, hb;"),
                move |a, b, _| add_f16(a as u16, b as u16, mode).into(),
            );
            table.add(
                32,
                format!("sub{suffix}.f16x2 rd, ra, rb;"),
                single(move |a, b, _| sub_f16x2(a, b, mode)),
            );
            table.add(
                32,
                format!("mul{suffix}.f16x2 rd, ra, rb;"),
                single(move |a, b, _| mul_f16x2(a, b, mode)),
            );
            table.add(
                16,
                format!("fma.rn{suffix}.f16 hd, ha, hb, hc;"),
                move |a, b, c| fma_f16(a as u16, b as u16, c as u16, mode).into(),
            );
            table.add(
                32,
                format!("fma.rn{suffix}.f16x2 rd, ra, rb, rc;"),
                single(move |a, b, c| fma_f16x2(a, b, c, mode)),
            );
        }
        let relu = HalfMode {
            ftz,
            sat: false,
            relu: true,
        };
        table.add(
            32,
            format!("fma.rn{ftz_name}.relu.f16x2 rd, ra, rb, rc;"),
            single(move |a, b, c| fma_f16x2(a, b, c, relu)),
        );
        table.add(16, format!("neg{ftz_name}.f16 hd, ha;"), move |a, _, _| {
            neg_f16(a as u16, ftz).into()
        });
        table.add(
            32,
            format!("abs{ftz_name}.f16x2 rd, ra;"),
            single(move |a, _, _| abs_f16x2(a, ftz)),
        );
    }
    let relu = HalfMode {
        relu: true,
        ..HalfMode::PLAIN
    };
    table.add(16, "fma.rn.bf16 hd, ha, hb, hc;", |a, b, c| {
        fma_bf16(a as u16, b as u16, c as u16, HalfMode::PLAIN).into()
    });
    table.add(
        32,
        "fma.rn.bf16x2 rd, ra, rb, rc;",
        single(|a, b, c| fma_bf16x2(a, b, c, HalfMode::PLAIN)),
    );
    table.add(
        32,
        "fma.rn.relu.bf16x2 rd, ra, rb, rc;",
        single(move |a, b, c| fma_bf16x2(a, b, c, relu)),
    );
    table.add(16, "neg.bf16 hd, ha;", |a, _, _| {
        neg_bf16(a as u16, false).into()
    });
    table.add(
        32,
        "abs.bf16x2 rd, ra;",
        single(|a, _, _| abs_bf16x2(a, false)),
    );
    table.add(
        32,
        "tanh.approx.f32 rd, ra;",
        single(|a, _, _| approx::tanh_f32(a)),
    );
    table.add(16, "tanh.approx.f16 hd, ha;", |a, _, _| {
        approx::tanh_f16(a as u16).into()
    });
    table.add(
        32,
        "tanh.approx.f16x2 rd, ra;",
        single(|a, _, _| both_halves([a], |[x]| approx::tanh_f16(x))),
    );
    table.add(16, "ex2.approx.f16 hd, ha;", |a, _, _| {
        approx::ex2_f16(a as u16, false).into()
    });
    table.add(
        32,
        "ex2.approx.f16x2 rd, ra;",
        single(|a, _, _| both_halves([a], |[x]| approx::ex2_f16(x, false))),
    );
    table.add(64, "rcp.approx.ftz.f64 dd, da;", |a, _, _| {
        approx::rcp_ftz_f64(a)
    });
    table.add(64, "rsqrt.approx.ftz.f64 dd, da;", |a, _, _| {
        approx::rsqrt_ftz_f64(a)
    });
    table.add(64, "rsqrt.approx.f64 dd, da;", |a, _, _| {
        approx::rsqrt_f64(a)
    });
    for (cmp, op) in comparisons() {
        table.add(
            32,
            format!("setp.{cmp}.f64 p, da, db;\n selp.u32 rd, 1, 0, p;"),
            move |a, b, _| compare_f64(op, a, b).into(),
        );
        table.add(
            32,
            format!("set.{cmp}.u32.f32 rd, ra, rb;"),
            single(move |a, b, _| {
                if compare_f32(op, a, b, false) {
                    u32::MAX
                } else {
                    0
                }
            }),
        );
        table.add(
            32,
            format!("set.{cmp}.f32.f32 rd, ra, rb;"),
            single(move |a, b, _| {
                if compare_f32(op, a, b, false) {
                    0x3f80_0000
                } else {
                    0
                }
            }),
        );
        table.add(
            32,
            format!("set.{cmp}.f16x2.f16x2 rd, ra, rb;"),
            single(move |a, b, _| {
                both_halves([a, b], |[x, y]| {
                    if compare_f16(op, x, y, false) {
                        0x3c00
                    } else {
                        0
                    }
                })
            }),
        );
        table.add(
            32,
            format!(
                "setp.{cmp}.f16x2 p|q, ra, rb;\n selp.u32 rd, 1, 0, p;\n @q add.u32 rd, rd, 2;"
            ),
            single(move |a, b, _| {
                let low = compare_f16(op, a as u16, b as u16, false);
                let high = compare_f16(op, (a >> 16) as u16, (b >> 16) as u16, false);
                u32::from(low) + 2 * u32::from(high)
            }),
        );
    }
    let classes = [
        ("finite", FloatClass::Finite),
        ("infinite", FloatClass::Infinite),
        ("number", FloatClass::Number),
        ("notanumber", FloatClass::NotANumber),
        ("normal", FloatClass::Normal),
        ("subnormal", FloatClass::Subnormal),
    ];
    for (name, class) in classes {
        table.add(
            32,
            format!("testp.{name}.f32 p, ra;\n selp.u32 rd, 1, 0, p;"),
            single(move |a, _, _| testp_f32(class, a).into()),
        );
        table.add(
            32,
            format!("testp.{name}.f64 p, da;\n selp.u32 rd, 1, 0, p;"),
            move |a, _, _| testp_f64(class, a).into(),
        );
    }
}

fn comparisons() -> [(&'static str, FloatCmp); 14] {
    use FloatCmp::*;
    [
        ("eq", Eq),
        ("ne", Ne),
        ("lt", Lt),
        ("le", Le),
        ("gt", Gt),
        ("ge", Ge),
        ("equ", Equ),
        ("neu", Neu),
        ("ltu", Ltu),
        ("leu", Leu),
        ("gtu", Gtu),
        ("geu", Geu),
        ("num", Num),
        ("nan", Nan),
    ]
}

fn conversions(table: &mut Table) {
    let whole: [(&str, IntType); 8] = [
        ("u8", IntType::U8),
        ("s8", IntType::S8),
        ("u16", IntType::U16),
        ("s16", IntType::S16),
        ("u32", IntType::U32),
        ("s32", IntType::S32),
        ("u64", IntType::U64),
        ("s64", IntType::S64),
    ];
    let real = [
        ("f16", FloatType::F16, 16),
        ("f32", FloatType::F32, 32),
        ("f64", FloatType::F64, 64),
    ];
    // 8-bit values live in 16-bit registers, extended by their type.
    let register = |ty: IntType| ty.bits.max(16);
    for (from_name, from) in whole {
        for (to_name, to) in whole {
            let (s, d, width) = (letter(register(from)), letter(register(to)), register(to));
            table.add(
                width,
                format!("cvt.{to_name}.{from_name} {d}d, {s}a;"),
                move |a, _, _| cvt_int_to_int(from, to, a, false),
            );
            // `.sat` is only allowed where something can be clamped.
            let ((from_least, from_largest), (to_least, to_largest)) = (from.range(), to.range());
            if from_least < to_least || from_largest > to_largest {
                let sat = format!("cvt.sat.{to_name}.{from_name} {d}d, {s}a;");
                table.add(width, sat, move |a, _, _| cvt_int_to_int(from, to, a, true));
            }
        }
        for (to_name, to, width) in real {
            let (s, d) = (letter(register(from)), letter(width));
            for (rnd, round) in ROUNDS {
                let mode = Mode::rounding(round);
                table.add(
                    width,
                    format!("cvt.{rnd}.{to_name}.{from_name} {d}d, {s}a;"),
                    move |a, _, _| cvt_int_to_float(from, to, a, mode),
                );
            }
        }
    }
    for (from_name, from, from_width) in real {
        let s = letter(from_width);
        for (to_name, to) in whole {
            for (rnd, round) in ROUNDS {
                let d = letter(register(to));
                table.add(
                    register(to),
                    format!("cvt.{rnd}i.{to_name}.{from_name} {d}d, {s}a;"),
                    move |a, _, _| cvt_float_to_int(from, to, low(a, from_width), round, false),
                );
            }
        }
        for (to_name, to, to_width) in real {
            let d = letter(to_width);
            if to_width < from_width {
                for (rnd, round) in ROUNDS {
                    let how = Convert {
                        round,
                        ..Convert::default()
                    };
                    table.add(
                        to_width,
                        format!("cvt.{rnd}.{to_name}.{from_name} {d}d, {s}a;"),
                        move |a, _, _| cvt_float_to_float(from, to, low(a, from_width), how),
                    );
                }
            } else if to_width > from_width {
                table.add(
                    to_width,
                    format!("cvt.{to_name}.{from_name} {d}d, {s}a;"),
                    move |a, _, _| {
                        cvt_float_to_float(from, to, low(a, from_width), Convert::default())
                    },
                );
            } else {
                for (rnd, round) in ROUNDS {
                    let how = Convert {
                        round,
                        ..Convert::default()
                    };
                    table.add(
                        to_width,
                        format!("cvt.{rnd}i.{to_name}.{to_name} {d}d, {s}a;"),
                        move |a, _, _| cvt_round_to_integral(to, low(a, from_width), how),
                    );
                }
            }
        }
    }
    let plain = Convert::default();
    let from_f32 = |to: FloatType, how: Convert| {
        move |a: u64, _: u64, _: u64| cvt_float_to_float(FloatType::F32, to, low(a, 32), how)
    };
    table.add(
        32,
        "cvt.sat.f32.f32 rd, ra;",
        from_f32(FloatType::F32, Convert { sat: true, ..plain }),
    );
    table.add(
        32,
        "cvt.ftz.f32.f32 rd, ra;",
        from_f32(FloatType::F32, Convert { ftz: true, ..plain }),
    );
    table.add(
        16,
        "cvt.rn.sat.f16.f32 hd, ra;",
        from_f32(FloatType::F16, Convert { sat: true, ..plain }),
    );
    table.add(
        16,
        "cvt.rn.relu.f16.f32 hd, ra;",
        from_f32(
            FloatType::F16,
            Convert {
                relu: true,
                ..plain
            },
        ),
    );
    table.add(32, "cvt.rn.ftz.f32.f64 rd, da;", |a, _, _| {
        cvt_float_to_float(
            FloatType::F64,
            FloatType::F32,
            a,
            Convert {
                ftz: true,
                ..Convert::default()
            },
        )
    });
    table.add(32, "cvt.rpi.ftz.s32.f32 rd, ra;", |a, _, _| {
        cvt_float_to_int(
            FloatType::F32,
            IntType::S32,
            low(a, 32),
            Round::PosInf,
            true,
        )
    });
    for (rnd, round) in &ROUNDS[..2] {
        let how = Convert {
            round: *round,
            ..plain
        };
        table.add(
            16,
            format!("cvt.{rnd}.bf16.f32 hd, ra;"),
            from_f32(FloatType::Bf16, how),
        );
        table.add(
            16,
            format!("cvt.{rnd}.relu.bf16.f32 hd, ra;"),
            from_f32(FloatType::Bf16, Convert { relu: true, ..how }),
        );
        for (name, to) in [("f16x2", FloatType::F16), ("bf16x2", FloatType::Bf16)] {
            for (suffix, relu) in [("", false), (".relu", true)] {
                let how = Convert { relu, ..how };
                table.add(
                    32,
                    format!("cvt.{rnd}{suffix}.{name}.f32 rd, ra, rb;"),
                    move |a, b, _| cvt_pack_halves(to, a as u32, b as u32, how).into(),
                );
            }
        }
    }
    let rna = Convert {
        round: Round::NearestAway,
        ..plain
    };
    table.add(32, "cvt.rna.tf32.f32 rd, ra;", move |a, _, _| {
        f32_to_tf32(a as u32, rna).into()
    });
    for (name, signed) in [("u16", false), ("s16", true)] {
        table.add(
            32,
            format!("cvt.pack.sat.{name}.s32 rd, ra, rb;"),
            move |a, b, _| cvt_pack(16, signed, a as u32, b as u32, 0).into(),
        );
    }
    for (name, bits, signed) in [
        ("u8", 8, false),
        ("s8", 8, true),
        ("u4", 4, false),
        ("s4", 4, true),
        ("u2", 2, false),
        ("s2", 2, true),
    ] {
        table.add(
            32,
            format!("cvt.pack.sat.{name}.s32.b32 rd, ra, rb, rc;"),
            move |a, b, c| cvt_pack(bits, signed, a as u32, b as u32, c as u32).into(),
        );
    }
}

fn low(a: u64, bits: u32) -> u64 {
    a & (u64::MAX >> (64 - bits))
}

fn video(table: &mut Table) {
    let s32 = |part| VideoOperand { signed: true, part };
    let u32 = |part| VideoOperand {
        signed: false,
        part,
    };
    let base = Video {
        op: VideoOp::Add,
        signed: true,
        a: s32(VideoPart::Word),
        b: s32(VideoPart::Word),
        sat: false,
        secondary: Secondary::None,
    };
    let scalars = [
        ("vadd.s32.s32.s32 rd, ra, rb;", base),
        (
            "vadd.s32.s32.s32.sat rd, ra, rb;",
            Video { sat: true, ..base },
        ),
        (
            "vsub.s32.u32.s32.sat.add rd, ra.b1, rb.h1, rc;",
            Video {
                op: VideoOp::Sub,
                a: u32(VideoPart::Byte(1)),
                b: s32(VideoPart::Half(1)),
                sat: true,
                secondary: Secondary::Add,
                ..base
            },
        ),
        (
            "vabsdiff.u32.u32.u32.min rd, ra.h0, rb.b3, rc;",
            Video {
                op: VideoOp::AbsDiff,
                signed: false,
                a: u32(VideoPart::Half(0)),
                b: u32(VideoPart::Byte(3)),
                secondary: Secondary::Min,
                ..base
            },
        ),
        (
            "vmin.s32.s32.s32.sat rd.b2, ra, rb, rc;",
            Video {
                op: VideoOp::Min,
                sat: true,
                secondary: Secondary::Merge(VideoPart::Byte(2)),
                ..base
            },
        ),
        (
            "vmax.s32.s32.s32.max rd, ra, rb, rc;",
            Video {
                op: VideoOp::Max,
                secondary: Secondary::Max,
                ..base
            },
        ),
        (
            "vshl.u32.u32.u32.clamp rd, ra, rb.b0;",
            Video {
                op: VideoOp::ShiftLeft { wrap: false },
                signed: false,
                a: u32(VideoPart::Word),
                b: u32(VideoPart::Byte(0)),
                ..base
            },
        ),
        (
            "vshr.s32.s32.u32.wrap.add rd, ra, rb, rc;",
            Video {
                op: VideoOp::ShiftRight { wrap: true },
                b: u32(VideoPart::Word),
                secondary: Secondary::Add,
                ..base
            },
        ),
        (
            "vset.s32.u32.lt rd, ra, rb;",
            Video {
                op: VideoOp::Set(IntCmp::Lt),
                signed: false,
                b: u32(VideoPart::Word),
                ..base
            },
        ),
    ];
    for (text, instruction) in scalars {
        table.add(32, text, move |a, b, c| {
            instruction.apply(a as u32, b as u32, c as u32).into()
        });
    }
    let mad = VideoMad {
        a: u32(VideoPart::Half(0)),
        b: u32(VideoPart::Half(1)),
        negate_product: false,
        negate_c: false,
        plus_one: false,
        scale: 0,
        sat: false,
    };
    let mads = [
        ("vmad.u32.u32.u32 rd, ra.h0, rb.h1, rc;", mad),
        (
            "vmad.u32.u32.u32.po.shr15 rd, ra.h0, rb.h1, rc;",
            VideoMad {
                plus_one: true,
                scale: 15,
                ..mad
            },
        ),
        (
            "vmad.s32.s32.s32.sat.shr7 rd, ra, rb, -rc;",
            VideoMad {
                a: s32(VideoPart::Word),
                b: s32(VideoPart::Word),
                negate_c: true,
                scale: 7,
                sat: true,
                ..mad
            },
        ),
        (
            "vmad.s32.u32.u32 rd, -ra.h0, rb.h1, rc;",
            VideoMad {
                negate_product: true,
                ..mad
            },
        ),
    ];
    for (text, instruction) in mads {
        table.add(32, text, move |a, b, c| {
            instruction.apply(a as u32, b as u32, c as u32).into()
        });
    }
    let two = VideoSimd {
        op: SimdOp::Add,
        elements: 2,
        signed: true,
        a_signed: true,
        b_signed: true,
        a_select: [0, 1, 0, 0],
        b_select: [2, 3, 0, 0],
        mask: 3,
        sat: false,
        accumulate: false,
    };
    let four = VideoSimd {
        elements: 4,
        a_select: [0, 1, 2, 3],
        b_select: [4, 5, 6, 7],
        mask: 15,
        ..two
    };
    let simds = [
        ("vadd2.s32.s32.s32 rd, ra, rb, rc;", two),
        (
            "vsub2.s32.s32.s32.sat rd.h1, ra.h10, rb.h23, rc;",
            VideoSimd {
                op: SimdOp::Sub,
                sat: true,
                mask: 2,
                b_select: [3, 2, 0, 0],
                ..two
            },
        ),
        (
            "vavrg2.s32.s32.s32 rd, ra.h11, rb, rc;",
            VideoSimd {
                op: SimdOp::Average,
                a_select: [1, 1, 0, 0],
                ..two
            },
        ),
        (
            "vabsdiff2.u32.u32.u32.add rd, ra, rb, rc;",
            VideoSimd {
                op: SimdOp::AbsDiff,
                signed: false,
                a_signed: false,
                b_signed: false,
                accumulate: true,
                ..two
            },
        ),
        (
            "vmin4.u32.u32.s32 rd.b20, ra.b3210, rb.b4567, rc;",
            VideoSimd {
                op: SimdOp::Min,
                signed: false,
                a_signed: false,
                mask: 5,
                b_select: [7, 6, 5, 4],
                ..four
            },
        ),
        (
            "vmax4.s32.s32.s32 rd, ra, rb, rc;",
            VideoSimd {
                op: SimdOp::Max,
                ..four
            },
        ),
        (
            "vadd4.u32.u32.u32.sat rd, ra, rb, rc;",
            VideoSimd {
                signed: false,
                a_signed: false,
                b_signed: false,
                sat: true,
                ..four
            },
        ),
        (
            "vset4.u32.u32.ge.add rd, ra, rb, rc;",
            VideoSimd {
                op: SimdOp::Set(IntCmp::Ge),
                signed: false,
                a_signed: false,
                b_signed: false,
                accumulate: true,
                ..four
            },
        ),
    ];
    for (text, instruction) in simds {
        table.add(32, text, move |a, b, c| {
            instruction.apply(a as u32, b as u32, c as u32).into()
        });
    }
}

/// The module with one kernel per case.
fn module(cases: &[Case]) -> String {
    let mut text = String::from(".version 8.6\n.target sm_86\n.address_size 64\n");
    for (i, case) in cases.iter().enumerate() {
        let (r, width) = (letter(case.width), case.width);
        text +=
            &format!(
            ".visible .entry k{i}(.param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u64 pd)
{{
 .reg .pred p, q;
 .reg .b16 ha, hb, hc, hd;
 .reg .b32 ra, rb, rc, rd, i, n;
 .reg .b64 da, db, dc, dd, o, x;
 mov.u32 i, %ctaid.x;
 mov.u32 n, %ntid.x;
 mad.lo.u32 i, i, n, 0;
 mov.u32 n, %tid.x;
 add.u32 i, i, n;
 mul.wide.u32 o, i, 8;
 ld.param.u64 x, [pa];
 add.u64 x, x, o;
 ld.global.b64 da, [x];
 ld.param.u64 x, [pb];
 add.u64 x, x, o;
 ld.global.b64 db, [x];
 ld.param.u64 x, [pc];
 add.u64 x, x, o;
 ld.global.b64 dc, [x];
 cvt.u16.u64 ha, da;
 cvt.u16.u64 hb, db;
 cvt.u16.u64 hc, dc;
 cvt.u32.u64 ra, da;
 cvt.u32.u64 rb, db;
 cvt.u32.u64 rc, dc;
 and.b32 n, rc, 1;
 setp.eq.u32 q, n, 1;
 {case}
 ld.param.u64 x, [pd];
 add.u64 x, x, o;
 {widen}
 st.global.b64 [x], dd;
 ret;
}}
",
            case = case.text,
            widen = if width == 64 { String::new() } else { format!("cvt.u64.u{width} dd, {r}d;") },
        );
    }
    text
}

/// Inputs: edge values of all widths and formats paired with each other, then random ones.
fn inputs() -> [Vec<u64>; 3] {
    let mut random = Random(1);
    let mut edges: Vec<u64> = vec![
        0,
        1,
        2,
        31,
        32,
        33,
        63,
        64,
        u64::MAX,
        0x7fff,
        0x8000,
        0x7fff_ffff,
        0x8000_0000,
        1 << 63,
        i64::MAX as u64,
    ];
    for x in [
        0.5f32,
        1.0,
        -1.5,
        2.5,
        1e-40,
        -1e-40,
        3e38,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        -0.0,
        255.5,
        65504.0,
        1e10,
    ] {
        edges.push(u64::from(x.to_bits()));
        edges.push(f64::from(x).to_bits());
        edges.push(u64::from(f32_to_f16_nearest(x.to_bits())) * 0x0001_0001);
        edges.push(u64::from(f32_to_bf16_nearest(x.to_bits())) * 0x0001_0001);
    }
    let mut columns: [Vec<u64>; 3] = Default::default();
    for i in 0..2048 {
        for (k, column) in columns.iter_mut().enumerate() {
            let special = edges[(i * [1, 7, 13][k] + i / edges.len()) % edges.len()];
            let number = random.next() >> (random.next() % 64);
            // Numbers near one in the upper and the lower word, for sums that cancel and round.
            let near = f64::from(random.normal() as f32).to_bits() & !0xffff_ffff
                | u64::from((random.normal() as f32).to_bits());
            column.push(match (i + k) % 4 {
                0 | 1 => special,
                2 => number,
                _ => near,
            });
        }
    }
    columns
}

/// Runs all cases of a table and compares every result.
fn run(fill: impl Fn(&mut Table)) {
    let mut table = Table::default();
    fill(&mut table);
    let program = Program::ptx("instructions.ptx", &module(&table.0));
    let columns = inputs();
    let buffers: Vec<_> = columns
        .iter()
        .map(|column| program.upload(column))
        .collect();
    for (i, case) in table.0.iter().enumerate() {
        let got: Vec<u64> = program.map(&format!("k{i}"), &buffers, columns[0].len());
        for (k, &got) in got.iter().enumerate() {
            let [a, b, c] = [columns[0][k], columns[1][k], columns[2][k]];
            let want = low((case.expected)(a, b, c), case.width);
            assert_eq!(
                got, want,
                "{}\n a = {a:#x}, b = {b:#x}, c = {c:#x}: {got:#x}, not {want:#x}",
                case.text
            );
        }
    }
}

#[test]
fn integer_instructions() {
    run(integers);
}

#[test]
fn floating_point_instructions() {
    run(floats);
}

#[test]
fn conversion_instructions() {
    run(conversions);
}

#[test]
fn video_instructions() {
    run(video);
}

/// The register operand of a vector of `count` registers from number `first` on.
fn vector(first: u32, count: u32) -> String {
    let names: Vec<String> = (first..first + count).map(|i| format!("r{i}")).collect();
    format!("{{{}}}", names.join(", "))
}

#[test]
fn matrix_instructions() {
    use matrix::{BitOp, Element::*, Mma};
    let float = |m, n, k, element, sum| Mma {
        m,
        n,
        k,
        a: element,
        b: element,
        c: sum,
        d: sum,
        satfinite: false,
        bit_op: BitOp::Xor,
    };
    let mut cases = vec![
        (float(16, 8, 8, F16, F16), "f16.f16.f16.f16", ""),
        (float(16, 8, 8, F16, F32), "f32.f16.f16.f32", ""),
        (float(16, 8, 16, F16, F16), "f16.f16.f16.f16", ""),
        (float(16, 8, 16, F16, F32), "f32.f16.f16.f32", ""),
        (float(16, 8, 8, Bf16, F32), "f32.bf16.bf16.f32", ""),
        (float(16, 8, 16, Bf16, F32), "f32.bf16.bf16.f32", ""),
        (float(16, 8, 4, Tf32, F32), "f32.tf32.tf32.f32", ""),
        (float(16, 8, 8, Tf32, F32), "f32.tf32.tf32.f32", ""),
    ];
    for (m, k) in [(8, 16), (16, 16), (16, 32)] {
        cases.push((float(m, 8, k, S8, S32), "s32.s8.s8.s32", ""));
        cases.push((
            Mma {
                b: S8,
                ..float(m, 8, k, U8, S32)
            },
            "s32.u8.s8.s32",
            "",
        ));
        cases.push((
            Mma {
                satfinite: true,
                ..float(m, 8, k, U8, S32)
            },
            "s32.u8.u8.s32",
            ".satfinite",
        ));
    }
    for (m, k) in [(8, 32), (16, 32), (16, 64)] {
        cases.push((float(m, 8, k, S4, S32), "s32.s4.s4.s32", ""));
        cases.push((
            Mma {
                a: S4,
                ..float(m, 8, k, U4, S32)
            },
            "s32.s4.u4.s32",
            "",
        ));
    }
    for (m, k) in [(8, 128), (16, 128), (16, 256)] {
        cases.push((float(m, 8, k, B1, S32), "s32.b1.b1.s32", ".xor.popc"));
        cases.push((
            Mma {
                bit_op: BitOp::And,
                ..float(m, 8, k, B1, S32)
            },
            "s32.b1.b1.s32",
            ".and.popc",
        ));
    }
    let mut random = Random(2);
    for (mma, types, suffix) in cases {
        let [na, nb, nc] = [matrix::Role::A, matrix::Role::B, matrix::Role::C]
            .map(|role| mma.fragment(role).registers());
        let (before, after) = if suffix == ".satfinite" {
            (suffix, "")
        } else {
            ("", suffix)
        };
        let name = format!(
            "mma.sync.aligned.m{}n{}k{}.row.col{before}.{types}{after}",
            mma.m, mma.n, mma.k
        );
        let load: String = (0..na + nb + nc)
            .map(|i| format!(" ld.global.b32 r{i}, [x+{}];\n", 128 * i))
            .collect();
        let store: String = (0..nc)
            .map(|i| format!(" st.global.b32 [y+{}], r{};\n", 128 * i, 40 + i))
            .collect();
        let text = format!(
            ".version 8.6\n.target sm_86\n.address_size 64\n.visible .entry k(.param .u64 px, .param .u64 py)\n{{
 .reg .b32 r<60>;\n .reg .b32 t;\n .reg .b64 x, y, o;
 ld.param.u64 x, [px];\n ld.param.u64 y, [py];\n mov.u32 t, %tid.x;\n mul.wide.u32 o, t, 4;
 add.u64 x, x, o;\n add.u64 y, y, o;\n{load} {name} {}, {}, {}, {};\n{store} ret;\n}}\n",
            vector(40, nc),
            vector(0, na),
            vector(na, nb),
            vector(na + nb, nc),
        );
        let program = Program::ptx(&name, &text);
        // f16 patterns of moderate size are moderate f32 and bf16 numbers too.
        let mut registers = || -> [u32; 32] {
            std::array::from_fn(|_| {
                if mma.d == S32 {
                    return random.next() as u32;
                }
                let mut half = || u32::from(f32_to_f16_nearest((random.normal() as f32).to_bits()));
                half() << 16 | half()
            })
        };
        let inputs: Vec<[u32; 32]> = (0..na + nb + nc).map(|_| registers()).collect();
        let output = program.uninit::<u32>(32 * nc as usize);
        program.launch(
            "k",
            [1, 1, 1],
            [32, 1, 1],
            &[
                (&program.upload(inputs.as_flattened())).into(),
                (&output).into(),
            ],
        );
        let (a, rest) = inputs.split_at(na as usize);
        let (b, c) = rest.split_at(nb as usize);
        let mut d = vec![[0; 32]; nc as usize];
        mma.apply(a, b, c, &mut d);
        assert_eq!(program.download::<u32>(&output), d.as_flattened(), "{name}");
    }
}
