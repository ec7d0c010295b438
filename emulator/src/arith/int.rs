//! Integer arithmetic, shifts, bit fields, permutes, dot products and carry chains.
//!
//! Functions that take an [`IntType`] read the low bits of their operands and give a result that is extended to 64 bits
//! by that type. The caller cuts it to the register's width.

pub use super::float::IntType;

/// `add.sat.s32`.
#[inline(always)]
pub fn add_sat_s32(a: u32, b: u32) -> u32 {
    (a as i32).saturating_add(b as i32) as u32
}

/// `sub.sat.s32`.
#[inline(always)]
pub fn sub_sat_s32(a: u32, b: u32) -> u32 {
    (a as i32).saturating_sub(b as i32) as u32
}

/// `mul.lo`: the low half of the product.
#[inline(always)]
pub fn mul_lo(ty: IntType, a: u64, b: u64) -> u64 {
    ty.extend(a.wrapping_mul(b))
}

/// `mul.hi`: the high half of the double-width product.
#[inline(always)]
pub fn mul_hi(ty: IntType, a: u64, b: u64) -> u64 {
    let product = if ty.signed {
        (i128::from(ty.extend(a) as i64) * i128::from(ty.extend(b) as i64)) as u128
    } else {
        u128::from(ty.extend(a)) * u128::from(ty.extend(b))
    };
    ty.extend((product >> ty.bits) as u64)
}

/// `mul.wide`: the whole product of 16- or 32-bit operands, twice as wide as they are.
#[inline(always)]
pub fn mul_wide(ty: IntType, a: u64, b: u64) -> u64 {
    ty.extend(a).wrapping_mul(ty.extend(b))
}

/// `mul.hi.u32`.
#[inline(always)]
pub fn mul_hi_u32(a: u32, b: u32) -> u32 {
    ((u64::from(a) * u64::from(b)) >> 32) as u32
}

/// `mul.hi.s32`.
#[inline(always)]
pub fn mul_hi_s32(a: u32, b: u32) -> u32 {
    ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32
}

/// `mad.hi`: the high half of the product plus `c`, wrapping.
#[inline(always)]
pub fn mad_hi(ty: IntType, a: u64, b: u64, c: u64) -> u64 {
    ty.extend(mul_hi(ty, a, b).wrapping_add(c))
}

/// `mad.hi.sat.s32`: the high half of the product plus `c`, clamped.
#[inline(always)]
pub fn mad_hi_sat_s32(a: u32, b: u32, c: u32) -> u32 {
    add_sat_s32(mul_hi_s32(a, b), c)
}

/// `mad.wide`: the whole product plus a `c` of twice the width, wrapping.
#[inline(always)]
pub fn mad_wide(ty: IntType, a: u64, b: u64, c: u64) -> u64 {
    mul_wide(ty, a, b).wrapping_add(c)
}

/// The low 24 bits of an operand of `mul24`.
#[inline(always)]
fn low_24(signed: bool, a: u32) -> i64 {
    if signed {
        i64::from((a << 8) as i32 >> 8)
    } else {
        i64::from(a & 0x00ff_ffff)
    }
}

/// `mul24.lo`: bits 31..0 of the product of 24-bit operands.
#[inline(always)]
pub fn mul24_lo(signed: bool, a: u32, b: u32) -> u32 {
    (low_24(signed, a) * low_24(signed, b)) as u32
}

/// `mul24.hi`: bits 47..16 of the product of 24-bit operands.
#[inline(always)]
pub fn mul24_hi(signed: bool, a: u32, b: u32) -> u32 {
    ((low_24(signed, a) * low_24(signed, b)) >> 16) as u32
}

/// `mad24.hi.sat.s32`.
#[inline(always)]
pub fn mad24_hi_sat_s32(a: u32, b: u32, c: u32) -> u32 {
    add_sat_s32(mul24_hi(true, a, b), c)
}

/// `sad`: c + |a − b|, wrapping.
#[inline(always)]
pub fn sad(ty: IntType, a: u64, b: u64, c: u64) -> u64 {
    let (x, y) = (ty.value(a), ty.value(b));
    ty.extend(c.wrapping_add((x - y).unsigned_abs() as u64))
}

/// `div`. By zero, all bits are ones, as the hardware's division sequence leaves them; the least number over −1 is itself.
#[inline(always)]
pub fn div(ty: IntType, a: u64, b: u64) -> u64 {
    let (a, b) = (ty.extend(a), ty.extend(b));
    if b == 0 {
        return ty.extend(u64::MAX);
    }
    ty.extend(if ty.signed {
        (a as i64).wrapping_div(b as i64) as u64
    } else {
        a / b
    })
}

/// `rem`, with the dividend's sign. By zero, all bits are ones, as the hardware's division sequence leaves them.
#[inline(always)]
pub fn rem(ty: IntType, a: u64, b: u64) -> u64 {
    let (a, b) = (ty.extend(a), ty.extend(b));
    if b == 0 {
        return ty.extend(u64::MAX);
    }
    ty.extend(if ty.signed {
        (a as i64).wrapping_rem(b as i64) as u64
    } else {
        a % b
    })
}

/// `abs` of a signed type; the least number is its own.
#[inline(always)]
pub fn abs(ty: IntType, a: u64) -> u64 {
    ty.extend((ty.extend(a) as i64).wrapping_abs() as u64)
}

/// `min` and, with `larger`, `max`.
#[inline(always)]
pub fn min_max(ty: IntType, a: u64, b: u64, larger: bool) -> u64 {
    let (a, b) = (ty.extend(a), ty.extend(b));
    let a_is_less = if ty.signed {
        (a as i64) < (b as i64)
    } else {
        a < b
    };
    if a_is_less != larger { a } else { b }
}

/// `shl`: shifts by the width or more give 0.
#[inline(always)]
pub fn shl(bits: u32, a: u64, amount: u32) -> u64 {
    if amount >= bits {
        0
    } else {
        (a << amount) & (u64::MAX >> (64 - bits))
    }
}

/// `shr`: shifts by the width or more give 0, or the sign in every bit.
#[inline(always)]
pub fn shr(ty: IntType, a: u64, amount: u32) -> u64 {
    let a = ty.extend(a);
    if ty.signed {
        ((a as i64) >> amount.min(63)) as u64
    } else if amount >= ty.bits {
        0
    } else {
        a >> amount
    }
}

/// `shf.l`: the upper word of `b:a` shifted left; by at most 32 with `.clamp`, modulo 32 with `.wrap`.
#[inline(always)]
pub fn shf_l(a: u32, b: u32, amount: u32, wrap: bool) -> u32 {
    let amount = if wrap { amount & 31 } else { amount.min(32) };
    (((u64::from(b) << 32 | u64::from(a)) << amount) >> 32) as u32
}

/// `shf.r`: the lower word of `b:a` shifted right; by at most 32 with `.clamp`, modulo 32 with `.wrap`.
#[inline(always)]
pub fn shf_r(a: u32, b: u32, amount: u32, wrap: bool) -> u32 {
    let amount = if wrap { amount & 31 } else { amount.min(32) };
    ((u64::from(b) << 32 | u64::from(a)) >> amount) as u32
}

/// `bfe`: `length` bits from `position`, zero- or sign-extended. Both are read modulo 256.
#[inline]
pub fn bfe(ty: IntType, a: u64, position: u32, length: u32) -> u64 {
    let (position, length) = (position & 0xff, length & 0xff);
    if length == 0 {
        return 0;
    }
    // Bits past the operand's end are copies of its sign, or zero: exactly what an arithmetic shift brings in.
    let shifted = shr(ty, a, position);
    if length >= 64 {
        return shifted;
    }
    let unused = 64 - length;
    // For a signed field that ends inside the operand the sign is the field's top bit; otherwise the operand's.
    if ty.signed {
        ((shifted << unused) as i64 >> unused) as u64
    } else {
        shifted << unused >> unused
    }
}

/// `bfi`: the low `length` bits of `a` replace those of `b` from `position` on. Both are read modulo 256.
#[inline]
pub fn bfi(bits: u32, a: u64, b: u64, position: u32, length: u32) -> u64 {
    let (position, length) = (position & 0xff, length & 0xff);
    if length == 0 || position >= bits {
        return b;
    }
    let field = if length >= 64 {
        u64::MAX
    } else {
        (1 << length) - 1
    };
    let mask = (field << position) & (u64::MAX >> (64 - bits));
    (a << position) & mask | b & !mask
}

/// `bfind`: the position of the highest bit that is not the sign's, or its distance from the top with `.shiftamt`;
/// `0xffffffff` if there is none.
#[inline]
pub fn bfind(ty: IntType, a: u64, shift_amount: bool) -> u32 {
    let a = ty.extend(a);
    let a = if ty.signed && (a as i64) < 0 { !a } else { a };
    match a.checked_ilog2() {
        None => u32::MAX,
        Some(position) => {
            if shift_amount {
                ty.bits - 1 - position
            } else {
                position
            }
        }
    }
}

/// `fns`: the position of the n-th set bit of `mask`, counted from bit `base` upwards for a positive `offset`, downwards
/// for a negative one; for 0, `base` itself if it is set. `0xffffffff` if there is none, and for a `base` beyond 31.
pub fn fns(mask: u32, base: u32, offset: i32) -> u32 {
    if base > 31 {
        return u32::MAX;
    }
    let set = |bit: &u32| mask >> bit & 1 != 0;
    let found = match offset {
        0 => Some(base).filter(set),
        1.. => (base..32).filter(set).nth(offset as usize - 1),
        _ => (0..=base)
            .rev()
            .filter(set)
            .nth(offset.unsigned_abs() as usize - 1),
    };
    found.unwrap_or(u32::MAX)
}

/// `lop3`: bit (a,b,c) of the table, taken as the number 4a + 2b + c, in every bit position.
#[inline(always)]
pub fn lop3(a: u32, b: u32, c: u32, table: u8) -> u32 {
    let mut result = 0;
    for row in 0..8 {
        if table >> row & 1 != 0 {
            let take = |x: u32, bit: u32| if row >> bit & 1 != 0 { x } else { !x };
            result |= take(a, 2) & take(b, 1) & take(c, 0);
        }
    }
    result
}

/// The special forms of `prmt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PermuteMode {
    /// Four selectors in `c`; a selector's high bit replicates the byte's sign.
    Default,
    /// `.f4e`: four bytes upwards from byte `c`.
    ForwardExtract,
    /// `.b4e`: four bytes downwards from byte `c`.
    BackwardExtract,
    /// `.rc8`: byte `c` in all places.
    Replicate8,
    /// `.ecl`: bytes below `c` are clamped to it.
    EdgeClampLeft,
    /// `.ecr`: bytes above `c` are clamped to it.
    EdgeClampRight,
    /// `.rc16`: half-word `c` in both places.
    Replicate16,
}

/// `prmt`: four bytes picked from the eight of `b:a`.
#[inline]
pub fn prmt(mode: PermuteMode, a: u32, b: u32, c: u32) -> u32 {
    let source = u64::from(b) << 32 | u64::from(a);
    let byte = |index: u32| (source >> (8 * (index & 7))) as u8;
    let control = c & 3;
    let mut result = [0; 4];
    for (place, out) in (0..4).zip(&mut result) {
        *out = match mode {
            PermuteMode::Default => {
                let selector = c >> (4 * place);
                let picked = byte(selector);
                if selector & 8 != 0 {
                    ((picked as i8) >> 7) as u8
                } else {
                    picked
                }
            }
            PermuteMode::ForwardExtract => byte(control + place),
            PermuteMode::BackwardExtract => byte(control.wrapping_sub(place)),
            PermuteMode::Replicate8 => byte(control),
            PermuteMode::EdgeClampLeft => byte(control.max(place)),
            PermuteMode::EdgeClampRight => byte(control.min(place)),
            PermuteMode::Replicate16 => byte((control & 1) * 2 + (place & 1)),
        };
    }
    u32::from_le_bytes(result)
}

/// `szext`: the low `b` bits of `a`, zero- or sign-extended; `b` is read modulo 32 with `.wrap`, and 32 or more keep `a`
/// with `.clamp`.
#[inline]
pub fn szext(signed: bool, wrap: bool, a: u32, b: u32) -> u32 {
    if !wrap && b >= 32 {
        return a;
    }
    match b & 31 {
        0 => 0,
        n if signed => ((a << (32 - n)) as i32 >> (32 - n)) as u32,
        n => a & ((1 << n) - 1),
    }
}

/// `bmsk`: `width` ones from bit `position` on; both modulo 32 with `.wrap`, clamped with `.clamp`.
#[inline]
pub fn bmsk(wrap: bool, position: u32, width: u32) -> u32 {
    let (position, width) = if wrap {
        (position & 31, width & 31)
    } else {
        (position.min(32), width.min(32))
    };
    (((1u64 << width) - 1) << position) as u32
}

/// `dp4a`: c + Σ aᵢ·bᵢ over four bytes, wrapping.
#[inline(always)]
pub fn dp4a(a_signed: bool, b_signed: bool, a: u32, b: u32, c: u32) -> u32 {
    let byte = |signed: bool, x: u8| {
        if signed {
            i32::from(x as i8)
        } else {
            i32::from(x)
        }
    };
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    let products = a
        .iter()
        .zip(b)
        .map(|(&x, y)| byte(a_signed, x) * byte(b_signed, y));
    products.fold(c as i32, i32::wrapping_add) as u32
}

/// `dp2a`: c + Σ aᵢ·bᵢ over two half-words of `a` and the lower or upper two bytes of `b`, wrapping.
#[inline(always)]
pub fn dp2a(a_signed: bool, b_signed: bool, upper: bool, a: u32, b: u32, c: u32) -> u32 {
    let half = |x: u16| {
        if a_signed {
            i32::from(x as i16)
        } else {
            i32::from(x)
        }
    };
    let byte = |x: u8| {
        if b_signed {
            i32::from(x as i8)
        } else {
            i32::from(x)
        }
    };
    let bytes = (if upper { b >> 16 } else { b }).to_le_bytes();
    let low = half(a as u16) * byte(bytes[0]);
    let high = half((a >> 16) as u16) * byte(bytes[1]);
    (c as i32).wrapping_add(low).wrapping_add(high) as u32
}

/// `add.cc` and `addc{.cc}`: the sum with a carry in, and the carry out. `bits` is 32 or 64.
#[inline(always)]
pub fn add_carry(bits: u32, a: u64, b: u64, carry: bool) -> (u64, bool) {
    let mask = u64::MAX >> (64 - bits);
    let sum = u128::from(a & mask) + u128::from(b & mask) + u128::from(carry);
    (sum as u64 & mask, sum >> bits != 0)
}

/// `sub.cc` (with `carry` true) and `subc{.cc}`: a + !b + carry, and its carry out, which is true if nothing was borrowed.
///
/// The ISA's text calls the flag a borrow, but the flag is the adder's: ptxas turns `sub.cc` followed by `addc` into an
/// addition of −b and its carry, and the 128-bit division that NVRTC emits counts on that.
#[inline(always)]
pub fn sub_carry(bits: u32, a: u64, b: u64, carry: bool) -> (u64, bool) {
    add_carry(bits, a, !b, carry)
}

/// `mad{.lo,.hi}.cc` and `madc{.lo,.hi}{.cc}`: half of the product plus `c` and a carry in, and the carry out.
#[inline(always)]
pub fn mad_carry(ty: IntType, high: bool, a: u64, b: u64, c: u64, carry: bool) -> (u64, bool) {
    let product = if high {
        mul_hi(ty, a, b)
    } else {
        mul_lo(ty, a, b)
    };
    add_carry(ty.bits, product, c, carry)
}

/// A comparison of integers in `set` and `setp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IntCmp {
    /// `.eq`
    Eq,
    /// `.ne`
    Ne,
    /// `.lt`, and `.lo` for unsigned types.
    Lt,
    /// `.le`, and `.ls` for unsigned types.
    Le,
    /// `.gt`, and `.hi` for unsigned types.
    Gt,
    /// `.ge`, and `.hs` for unsigned types.
    Ge,
}

impl IntCmp {
    /// Compares two ordered values.
    #[inline(always)]
    pub fn holds<T: Ord>(self, a: T, b: T) -> bool {
        match self {
            IntCmp::Eq => a == b,
            IntCmp::Ne => a != b,
            IntCmp::Lt => a < b,
            IntCmp::Le => a <= b,
            IntCmp::Gt => a > b,
            IntCmp::Ge => a >= b,
        }
    }
}

/// Compares the low bits of two registers.
#[inline(always)]
pub fn compare(op: IntCmp, ty: IntType, a: u64, b: u64) -> bool {
    let (a, b) = (ty.extend(a), ty.extend(b));
    if ty.signed {
        op.holds(a as i64, b as i64)
    } else {
        op.holds(a, b)
    }
}
