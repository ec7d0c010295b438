//! Video instructions: scalar (`vadd` … `vset`, `vmad`) and SIMD within a register (`vadd2`, `vadd4` …).

use super::int::{IntCmp, IntType};

/// The part of a register that a scalar video operand reads or a destination writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum VideoPart {
    /// The whole register.
    #[default]
    Word,
    /// `.b0` … `.b3`.
    Byte(u8),
    /// `.h0`, `.h1`.
    Half(u8),
}

impl VideoPart {
    fn bits(self) -> u32 {
        match self {
            VideoPart::Word => 32,
            VideoPart::Byte(_) => 8,
            VideoPart::Half(_) => 16,
        }
    }

    fn shift(self) -> u32 {
        match self {
            VideoPart::Word => 0,
            VideoPart::Byte(n) => 8 * u32::from(n & 3),
            VideoPart::Half(n) => 16 * u32::from(n & 1),
        }
    }

    fn read(self, register: u32, signed: bool) -> i64 {
        IntType {
            bits: self.bits(),
            signed,
        }
        .extend(u64::from(register >> self.shift())) as i64
    }

    fn merge(self, value: u32, into: u32) -> u32 {
        let mask = (((1u64 << self.bits()) - 1) << self.shift()) as u32;
        (value << self.shift()) & mask | into & !mask
    }
}

/// A source operand of a scalar video instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VideoOperand {
    /// `.s32` if true, `.u32` otherwise.
    pub signed: bool,
    /// The part that is read and extended.
    pub part: VideoPart,
}

/// What a scalar video instruction computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VideoOp {
    /// `vadd`
    Add,
    /// `vsub`
    Sub,
    /// `vabsdiff`
    AbsDiff,
    /// `vmin`
    Min,
    /// `vmax`
    Max,
    /// `vshl`; the amount modulo 32 if `wrap`, at most 32 otherwise.
    ShiftLeft {
        /// `.wrap`
        wrap: bool,
    },
    /// `vshr`; the amount modulo 32 if `wrap`, at most 32 otherwise.
    ShiftRight {
        /// `.wrap`
        wrap: bool,
    },
    /// `vset`
    Set(IntCmp),
}

/// How the intermediate result and `c` are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Secondary {
    /// The intermediate result is the result.
    None,
    /// `.add`
    Add,
    /// `.min`, compared in the destination's type.
    Min,
    /// `.max`, compared in the destination's type.
    Max,
    /// A destination selector: the result goes into this part, the rest comes from `c`.
    Merge(VideoPart),
}

/// `vadd`, `vsub`, `vabsdiff`, `vmin`, `vmax`, `vshl`, `vshr`, `vset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Video {
    /// The operation.
    pub op: VideoOp,
    /// The destination's type, `.s32` if true. `vset` has `.u32`.
    pub signed: bool,
    /// First source.
    pub a: VideoOperand,
    /// Second source.
    pub b: VideoOperand,
    /// `.sat`: clamps to the destination's range, or to its selected part's.
    pub sat: bool,
    /// What happens to the result and `c`.
    pub secondary: Secondary,
}

impl Video {
    /// The result for one lane; `c` is ignored where there is no third operand.
    pub fn apply(&self, a: u32, b: u32, c: u32) -> u32 {
        let x = self.a.part.read(a, self.a.signed);
        let y = self.b.part.read(b, self.b.signed);
        let amount = |wrap: bool| {
            if wrap {
                y & 31
            } else {
                (y as u64).min(32) as i64
            }
        };
        let intermediate = match self.op {
            VideoOp::Add => x + y,
            VideoOp::Sub => x - y,
            VideoOp::AbsDiff => (x - y).abs(),
            VideoOp::Min => x.min(y),
            VideoOp::Max => x.max(y),
            VideoOp::ShiftLeft { wrap } => (i128::from(x) << amount(wrap)) as i64,
            VideoOp::ShiftRight { wrap } => x >> amount(wrap),
            VideoOp::Set(cmp) => i64::from(cmp.holds(x, y)),
        };
        let width = if let Secondary::Merge(part) = self.secondary {
            part.bits()
        } else {
            32
        };
        let (least, largest) = IntType {
            bits: width,
            signed: self.signed,
        }
        .range();
        let value = if self.sat {
            intermediate.clamp(least as i64, largest as i64)
        } else {
            intermediate
        } as u32;
        let in_order = |value: u32, c: u32| {
            if self.signed {
                (value as i32) < c as i32
            } else {
                value < c
            }
        };
        match self.secondary {
            Secondary::None => value,
            Secondary::Add => value.wrapping_add(c),
            Secondary::Min => {
                if in_order(value, c) {
                    value
                } else {
                    c
                }
            }
            Secondary::Max => {
                if in_order(value, c) {
                    c
                } else {
                    value
                }
            }
            Secondary::Merge(part) => part.merge(value, c),
        }
    }
}

/// `vmad`: a·b + c, scaled and clamped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VideoMad {
    /// First factor.
    pub a: VideoOperand,
    /// Second factor.
    pub b: VideoOperand,
    /// Exactly one of the factors is negated.
    pub negate_product: bool,
    /// `c` is negated.
    pub negate_c: bool,
    /// `.po`: adds one.
    pub plus_one: bool,
    /// `.shr7` or `.shr15`, else 0.
    pub scale: u32,
    /// `.sat`.
    pub sat: bool,
}

impl VideoMad {
    /// The result for one lane.
    pub fn apply(&self, a: u32, b: u32, c: u32) -> u32 {
        let signed = self.a.signed || self.b.signed || self.negate_product || self.negate_c;
        let product = i128::from(self.a.part.read(a, self.a.signed))
            * i128::from(self.b.part.read(b, self.b.signed));
        let c = if signed {
            i128::from(c as i32)
        } else {
            i128::from(c)
        };
        let product = if self.negate_product {
            -product
        } else {
            product
        };
        let c = if self.negate_c { -c } else { c };
        let scaled = (product + c + i128::from(self.plus_one)) >> self.scale;
        let (least, largest) = IntType { bits: 32, signed }.range();
        (if self.sat {
            scaled.clamp(least, largest)
        } else {
            scaled
        }) as u32
    }
}

/// What a SIMD video instruction computes per element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SimdOp {
    /// `vadd2`, `vadd4`
    Add,
    /// `vsub2`, `vsub4`
    Sub,
    /// `vavrg2`, `vavrg4`: rounded away from zero.
    Average,
    /// `vabsdiff2`, `vabsdiff4`
    AbsDiff,
    /// `vmin2`, `vmin4`
    Min,
    /// `vmax2`, `vmax4`
    Max,
    /// `vset2`, `vset4`
    Set(IntCmp),
}

/// A SIMD video instruction on two half-words or four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VideoSimd {
    /// The operation.
    pub op: SimdOp,
    /// 2 half-words or 4 bytes.
    pub elements: u32,
    /// The destination's type, `.s32` if true. `vset` has `.u32`.
    pub signed: bool,
    /// First source type.
    pub a_signed: bool,
    /// Second source type.
    pub b_signed: bool,
    /// For each element of the first source, which element of `b:a` it is, lowest first (`.h10` is `[0, 1]`).
    pub a_select: [u8; 4],
    /// For each element of the second source, which element of `b:a` it is, lowest first (`.h32` is `[2, 3]`).
    pub b_select: [u8; 4],
    /// Elements of the destination that are written: bit i is element i.
    pub mask: u8,
    /// `.sat`: clamps to the element's range in the destination's type.
    pub sat: bool,
    /// `.add`: the masked elements are added to `c`; otherwise the others come from `c`.
    pub accumulate: bool,
}

impl VideoSimd {
    /// The result for one lane.
    pub fn apply(&self, a: u32, b: u32, c: u32) -> u32 {
        let bits = 32 / self.elements;
        let source = u64::from(b) << 32 | u64::from(a);
        let element = |index: u8, signed: bool| {
            let index = u32::from(index) % (2 * self.elements);
            IntType { bits, signed }.extend(source >> (bits * index)) as i64
        };
        let (least, largest) = IntType {
            bits,
            signed: self.signed,
        }
        .range();
        let field = (1u32 << bits) - 1;
        let mut result = c;
        for i in 0..self.elements as usize {
            if self.mask >> i & 1 == 0 {
                continue;
            }
            let x = element(self.a_select[i], self.a_signed);
            let y = element(self.b_select[i], self.b_signed);
            let t = match self.op {
                SimdOp::Add => x + y,
                SimdOp::Sub => x - y,
                SimdOp::Average => (x + y + i64::from(x + y >= 0)) >> 1,
                SimdOp::AbsDiff => (x - y).abs(),
                SimdOp::Min => x.min(y),
                SimdOp::Max => x.max(y),
                SimdOp::Set(cmp) => i64::from(cmp.holds(x, y)),
            };
            let t = if self.sat {
                t.clamp(least as i64, largest as i64)
            } else {
                t
            };
            if self.accumulate {
                result = result.wrapping_add(t as u32);
            } else {
                let shift = bits * i as u32;
                result = result & !(field << shift) | (t as u32 & field) << shift;
            }
        }
        result
    }
}
