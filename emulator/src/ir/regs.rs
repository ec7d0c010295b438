//! A warp's register file and the lane-parallel closures that instructions are lowered to.
//!
//! A register is a slot: 32 lanes of 32 bits, 32 lanes of 64 bits, or one bit per lane (predicates).
//! Narrower types live in 32-bit slots with zeros above.

use crate::arith::{WARP, simd};

/// One 32-bit register of a warp.
#[derive(Clone, Copy, Debug, bytemuck::TransparentWrapper)]
#[repr(transparent)]
pub struct Register32(pub [u32; WARP]);

/// One 64-bit register of a warp.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Register64(pub [u64; WARP]);

/// The registers of one warp: a stack of frames, of which the topmost is addressed.
#[derive(Default)]
pub struct Regs {
    /// 32-bit slots of all frames.
    pub r32: Vec<Register32>,
    /// 64-bit slots of all frames.
    pub r64: Vec<Register64>,
    /// Predicate slots of all frames, one bit per lane.
    pub pred: Vec<u32>,
    /// First slots of the current frame.
    pub base: Base,
}

/// Where a frame's slots start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// In the 32-bit slots.
    pub r32: u32,
    /// In the 64-bit slots.
    pub r64: u32,
    /// In the predicates.
    pub pred: u32,
}

/// A 32-bit slot of the current frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct S32(pub u32);

/// A 64-bit slot of the current frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct S64(pub u32);

/// A predicate slot of the current frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SP(pub u32);

/// A register of either width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reg {
    /// At most 32 bits.
    W(S32),
    /// 64 bits.
    D(S64),
}

impl Regs {
    /// Makes room for a frame that starts at `base`.
    pub fn reserve(&mut self, base: Base, r32: u32, r64: u32, pred: u32) {
        let grow = |have: usize, from: u32, count: u32| have.max((from + count) as usize);
        self.r32
            .resize(grow(self.r32.len(), base.r32, r32), Register32([0; WARP]));
        self.r64
            .resize(grow(self.r64.len(), base.r64, r64), Register64([0; WARP]));
        self.pred.resize(grow(self.pred.len(), base.pred, pred), 0);
    }

    /// Lanes of a 32-bit slot.
    #[inline(always)]
    pub fn get32(&self, s: S32) -> &[u32; WARP] {
        &self.r32[(self.base.r32 + s.0) as usize].0
    }

    /// Lanes of consecutive 32-bit slots.
    #[inline(always)]
    pub fn side_by_side(&self, first: S32, count: usize) -> &[[u32; WARP]] {
        let at = (self.base.r32 + first.0) as usize;
        bytemuck::TransparentWrapper::peel_slice(&self.r32[at..at + count])
    }

    /// Lanes of a 64-bit slot.
    #[inline(always)]
    pub fn get64(&self, s: S64) -> &[u64; WARP] {
        &self.r64[(self.base.r64 + s.0) as usize].0
    }

    /// Lane bits of a predicate.
    #[inline(always)]
    pub fn get_pred(&self, s: SP) -> u32 {
        self.pred[(self.base.pred + s.0) as usize]
    }

    /// Lanes of a 32-bit slot, to write.
    #[inline(always)]
    pub fn at32(&mut self, s: S32) -> &mut [u32; WARP] {
        &mut self.r32[(self.base.r32 + s.0) as usize].0
    }

    /// Lanes of a 64-bit slot, to write.
    #[inline(always)]
    pub fn at64(&mut self, s: S64) -> &mut [u64; WARP] {
        &mut self.r64[(self.base.r64 + s.0) as usize].0
    }

    /// Writes the lanes of `mask`.
    #[inline(always)]
    pub fn put32(&mut self, s: S32, value: &[u32; WARP], mask: u32) {
        let slot = self.at32(s);
        if mask == u32::MAX {
            *slot = *value;
        } else {
            for lane in 0..WARP {
                slot[lane] = if mask >> lane & 1 != 0 {
                    value[lane]
                } else {
                    slot[lane]
                };
            }
        }
    }

    /// Writes the lanes of `mask`.
    #[inline(always)]
    pub fn put64(&mut self, s: S64, value: &[u64; WARP], mask: u32) {
        let slot = self.at64(s);
        if mask == u32::MAX {
            *slot = *value;
        } else {
            for lane in 0..WARP {
                slot[lane] = if mask >> lane & 1 != 0 {
                    value[lane]
                } else {
                    slot[lane]
                };
            }
        }
    }

    /// Writes the lanes of `mask`.
    #[inline(always)]
    pub fn put_pred(&mut self, s: SP, value: u32, mask: u32) {
        let slot = &mut self.pred[(self.base.pred + s.0) as usize];
        *slot = *slot & !mask | value & mask;
    }
}

/// An instruction that only touches registers: called with the lanes that execute it.
pub type AluFn = Box<dyn Fn(&mut Regs, u32) + Send + Sync>;

/// A slot that an operand is read from.
pub trait Source: Copy + Send + Sync + 'static {
    /// One lane's value.
    type Lane: Copy;
    /// All lanes.
    fn fetch(self, regs: &Regs) -> [Self::Lane; WARP];
}

/// A slot that a result is written to.
pub trait Dest: Copy + Send + Sync + 'static {
    /// One lane's value.
    type Lane: Copy + Default;
    /// Writes the lanes of `mask`.
    fn store(self, regs: &mut Regs, value: &[Self::Lane; WARP], mask: u32);
}

impl Source for S32 {
    type Lane = u32;
    #[inline(always)]
    fn fetch(self, regs: &Regs) -> [u32; WARP] {
        *regs.get32(self)
    }
}

impl Source for S64 {
    type Lane = u64;
    #[inline(always)]
    fn fetch(self, regs: &Regs) -> [u64; WARP] {
        *regs.get64(self)
    }
}

impl Source for SP {
    type Lane = bool;
    #[inline(always)]
    fn fetch(self, regs: &Regs) -> [bool; WARP] {
        let bits = regs.get_pred(self);
        std::array::from_fn(|lane| bits >> lane & 1 != 0)
    }
}

impl Dest for S32 {
    type Lane = u32;
    #[inline(always)]
    fn store(self, regs: &mut Regs, value: &[u32; WARP], mask: u32) {
        regs.put32(self, value, mask);
    }
}

impl Dest for S64 {
    type Lane = u64;
    #[inline(always)]
    fn store(self, regs: &mut Regs, value: &[u64; WARP], mask: u32) {
        regs.put64(self, value, mask);
    }
}

impl Dest for SP {
    type Lane = bool;
    #[inline(always)]
    fn store(self, regs: &mut Regs, value: &[bool; WARP], mask: u32) {
        let mut bits = 0;
        for (lane, bit) in value.iter().enumerate() {
            bits |= u32::from(*bit) << lane;
        }
        regs.put_pred(self, bits, mask);
    }
}

macro_rules! lane_map {
    ($(#[$doc:meta])* $name:ident, $body:ident, $wide:ident, $($arg:ident: $ty:ident),*) => {
        #[inline(always)]
        #[allow(clippy::too_many_arguments)] // one per operand
        fn $body<D: Dest, $($ty: Source,)* F: Fn($($ty::Lane),*) -> D::Lane>(
            regs: &mut Regs, mask: u32, d: D, $($arg: $ty,)* f: &F,
        ) {
            $(let $arg = $arg.fetch(regs);)*
            let mut out = [D::Lane::default(); WARP];
            for lane in 0..WARP {
                out[lane] = f($($arg[lane]),*);
            }
            d.store(regs, &out, mask);
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c")]
        #[allow(clippy::too_many_arguments)] // one per operand
        fn $wide<D: Dest, $($ty: Source,)* F: Fn($($ty::Lane),*) -> D::Lane>(
            regs: &mut Regs, mask: u32, d: D, $($arg: $ty,)* f: &F,
        ) {
            $body(regs, mask, d, $($arg,)* f);
        }

        $(#[$doc])*
        pub fn $name<D: Dest, $($ty: Source,)* F>(d: D, $($arg: $ty,)* f: F) -> AluFn
        where F: Fn($($ty::Lane),*) -> D::Lane + Send + Sync + 'static {
            #[cfg(target_arch = "x86_64")]
            if simd::available() {
                return Box::new(move |regs, mask| {
                    // SAFETY: the processor was found to have the features when the closure was made.
                    unsafe { $wide(regs, mask, d, $($arg,)* &f) }
                });
            }
            Box::new(move |regs, mask| $body(regs, mask, d, $($arg,)* &f))
        }
    };
}

lane_map!(
    /// `d = f()` in every lane.
    map0, map0_body, map0_wide,
);
lane_map!(
    /// `d = f(a)` in every lane.
    map1, map1_body, map1_wide, a: A
);
lane_map!(
    /// `d = f(a, b)` in every lane.
    map2, map2_body, map2_wide, a: A, b: B
);
lane_map!(
    /// `d = f(a, b, c)` in every lane.
    map3, map3_body, map3_wide, a: A, b: B, c: C
);

impl Reg {
    /// All lanes, zero-extended.
    #[inline(always)]
    pub fn fetch_wide(self, regs: &Regs) -> [u64; WARP] {
        match self {
            Reg::W(s) => std::array::from_fn(|lane| u64::from(regs.get32(s)[lane])),
            Reg::D(s) => *regs.get64(s),
        }
    }

    /// Writes the lanes of `mask`, truncated to the register.
    #[inline(always)]
    pub fn store_wide(self, regs: &mut Regs, value: &[u64; WARP], mask: u32) {
        match self {
            Reg::W(s) => regs.put32(s, &std::array::from_fn(|lane| value[lane] as u32), mask),
            Reg::D(s) => regs.put64(s, value, mask),
        }
    }
}

#[inline(always)]
fn wide_body<const N: usize, F: Fn([u64; N]) -> u64>(
    regs: &mut Regs,
    mask: u32,
    d: Reg,
    sources: &[Reg; N],
    f: &F,
) {
    let values = sources.map(|s| s.fetch_wide(regs));
    let mut out = [0u64; WARP];
    for lane in 0..WARP {
        out[lane] = f(std::array::from_fn(|i| values[i][lane]));
    }
    d.store_wide(regs, &out, mask);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c")]
fn wide_avx2<const N: usize, F: Fn([u64; N]) -> u64>(
    regs: &mut Regs,
    mask: u32,
    d: Reg,
    sources: &[Reg; N],
    f: &F,
) {
    wide_body(regs, mask, d, sources, f);
}

/// `d = f(sources)` in every lane, for operands of any width: sources are zero-extended, the result
/// is truncated. Slower than [`map1`] and its kin, for rare instructions.
pub fn map_wide<const N: usize, F>(d: Reg, sources: [Reg; N], f: F) -> AluFn
where
    F: Fn([u64; N]) -> u64 + Send + Sync + 'static,
{
    #[cfg(target_arch = "x86_64")]
    if simd::available() {
        return Box::new(move |regs, mask| {
            // SAFETY: the processor was found to have the features when the closure was made.
            unsafe { wide_avx2(regs, mask, d, &sources, &f) }
        });
    }
    Box::new(move |regs, mask| wide_body(regs, mask, d, &sources, &f))
}

/// A lane-parallel closure of a hot instruction: like [`map1`] and its kin, but the expression is
/// certain to be inlined into the loop that is compiled for the processor's vector units. It can't
/// capture anything.
macro_rules! hot {
    ($d:expr; $($arg:ident: $ty:ty = $slot:expr),+; $body:expr) => {{
        #[inline(always)]
        fn scalar($($arg: <$ty as $crate::ir::regs::Source>::Lane),+) -> u32 {
            $body
        }
        #[inline(always)]
        fn portable(regs: &mut $crate::ir::regs::Regs, mask: u32, d: $crate::ir::regs::S32, $($arg: $ty),+) {
            $(let $arg = $crate::ir::regs::Source::fetch($arg, regs);)+
            let mut out = [0u32; $crate::arith::WARP];
            for lane in 0..$crate::arith::WARP {
                out[lane] = scalar($($arg[lane]),+);
            }
            regs.put32(d, &out, mask);
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c")]
        fn wide(regs: &mut $crate::ir::regs::Regs, mask: u32, d: $crate::ir::regs::S32, $($arg: $ty),+) {
            portable(regs, mask, d, $($arg),+);
        }
        let d: $crate::ir::regs::S32 = $d;
        $(let $arg: $ty = $slot;)+
        let f: $crate::ir::regs::AluFn = if $crate::arith::simd::available() {
            // SAFETY: the processor was found to have the features when the closure was made.
            #[cfg(target_arch = "x86_64")]
            { Box::new(move |regs, mask| unsafe { wide(regs, mask, d, $($arg),+) }) }
            #[cfg(not(target_arch = "x86_64"))]
            { Box::new(move |regs, mask| portable(regs, mask, d, $($arg),+)) }
        } else {
            Box::new(move |regs, mask| portable(regs, mask, d, $($arg),+))
        };
        f
    }};
}
pub(crate) use hot;
