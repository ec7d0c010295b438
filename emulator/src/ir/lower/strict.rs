//! Combinations of modifiers and types that the assembler refuses although their meaning could be guessed.
//!
//! Found by comparing 217,000 generated forms with ptxas 12.9 for sm_86.

use crate::ptx::ast::{Instruction, Number, Operand, Type};

/// Opcodes whose operands may be special registers.
pub(super) fn takes_special_registers(opcode: &str) -> bool {
    matches!(opcode, "mov" | "cvt")
}

/// Why the assembler refuses an instruction, if it does. Covers only what the lowering itself would accept.
pub(super) fn objection(i: &Instruction) -> Option<String> {
    let form = Form::new(i);
    let why = match i.opcode.as_str() {
        "ld" | "st" | "ldu" => memory(&form),
        "atom" | "red" => atomic(&form),
        "cvt" if form.has("pack") => pack(&form),
        "cvt" => convert(&form),
        "set" | "setp" => comparison(&form),
        "mov" | "selp" | "slct" => moving(&form),
        "mma" | "wmma" => matrix(&form),
        "bar" | "barrier" | "fence" | "membar" | "mbarrier" | "activemask" | "shfl"
        | "ldmatrix" => warp(&form),
        "cp" | "prefetch" | "discard" => copying(&form),
        opcode if opcode.starts_with('v') && opcode != "vote" => video(&form),
        _ => arithmetic(&form),
    }?;
    Some(format!("`{}`: {why}", i.text()))
}

/// An instruction's modifiers by kind.
struct Form<'a> {
    i: &'a Instruction,
    types: Vec<Type>,
    /// The state space; none is generic.
    space: Option<&'a str>,
}

impl<'a> Form<'a> {
    fn new(i: &'a Instruction) -> Self {
        let space = i.modifiers.iter().map(String::as_str).find(|m| {
            matches!(
                *m,
                "global"
                    | "shared"
                    | "shared::cta"
                    | "local"
                    | "const"
                    | "param"
                    | "param::entry"
                    | "param::func"
            )
        });
        Form {
            i,
            types: i.modifiers.iter().filter_map(|m| Type::parse(m)).collect(),
            space,
        }
    }

    fn has(&self, modifier: &str) -> bool {
        self.i.modifiers.iter().any(|m| m == modifier)
    }

    fn any(&self, modifiers: &[&str]) -> bool {
        modifiers.iter().any(|m| self.has(m))
    }

    fn starts(&self, prefix: &str) -> bool {
        self.i.modifiers.iter().any(|m| m.starts_with(prefix))
    }

    fn is(&self, opcode: &str) -> bool {
        self.i.opcode == opcode
    }

    /// The last type, which is that of the sources.
    fn ty(&self) -> Option<Type> {
        self.types.last().copied()
    }

    fn space_is(&self, names: &[&str]) -> bool {
        self.space.is_some_and(|s| names.contains(&s))
    }

    fn integer_literal(&self) -> bool {
        self.i
            .operands
            .iter()
            .any(|o| matches!(o, Operand::Number(Number::Int(_))))
    }
}

type Objection = Option<&'static str>;

fn is_bits(ty: Type) -> bool {
    matches!(
        ty,
        Type::B8 | Type::B16 | Type::B32 | Type::B64 | Type::B128
    )
}

fn is_integer(ty: Type) -> bool {
    !ty.is_float() && !is_bits(ty) && ty != Type::Pred
}

/// Floating-point types that exist for arithmetic only; moves and memory use bit types.
fn is_arithmetic_only(ty: Type) -> bool {
    matches!(
        ty,
        Type::F16 | Type::F16x2 | Type::BF16 | Type::BF16x2 | Type::TF32
    )
}

/// Returns the first objection whose condition holds.
macro_rules! object {
    ($($condition:expr => $why:expr),+ $(,)?) => {
        $(if $condition { return Some($why); })+
    };
}

fn memory(f: &Form<'_>) -> Objection {
    let load = !f.is("st");
    let global = f.space == Some("global");
    let cached = global || f.space.is_none();
    let vector = f.any(&["v2", "v4", "v8"]);
    object! {
        f.ty().is_some_and(is_arithmetic_only) => "memory holds such values as `.b16` or `.b32`",
        load && f.has("release") => "a load releases nothing",
        !load && f.has("acquire") => "a store acquires nothing",
        f.any(&["relaxed", "acquire", "release", "volatile"])
            && f.space_is(&["local", "const", "param", "param::entry", "param::func"])
            => "memory of one thread or that nobody writes has no order",
        f.has("mmio") && !cached => "`.mmio` is for global memory",
        f.has("mmio") && vector => "`.mmio` goes with one element",
        f.has("nc") && !global => "`.nc` needs `.global`",
        f.starts("L2::evict_") => "this priority goes with 32-byte accesses of later processors",
        f.any(&["L2::64B", "L2::128B", "L2::256B"]) && !(load && cached)
            => "only loads from global memory prefetch",
        (f.starts("L1::") || f.has("L2::cache_hint")) && !cached
            => "only global memory has cache priorities",
        f.starts("L1::") && f.any(&["ca", "cg", "cs", "lu", "cv", "wb", "wt"])
            => "a cache operator and a priority contradict each other",
        f.is("ldu") && !cached => "`ldu` loads from global memory",
        f.is("ldu") && f.has("v8") => "`ldu` loads at most four elements",
        matches!((load, f.i.operands.first()), (true, Some(Operand::Sink)))
            => "a load needs a register",
        f.integer_literal() && f.ty().is_some_and(Type::is_float)
            => "an integer literal where a floating-point value is expected",
        f.space != Some("local")
            && f.i.operands.iter().any(|o| matches!(o, Operand::Address { base: None, .. }))
            => "only `.local` memory has addresses that are numbers",
    }
    None
}

fn atomic(f: &Form<'_>) -> Objection {
    let half = f
        .ty()
        .is_some_and(|t| matches!(t, Type::F16 | Type::F16x2 | Type::BF16 | Type::BF16x2));
    object! {
        half && !f.has("noftz") => "16-bit floating-point atomics need `.noftz`",
        !half && f.has("noftz") => "`.noftz` is for 16-bit floating-point types",
        f.is("red") && f.any(&["acquire", "acq_rel"]) => "a reduction acquires nothing",
        f.has("L2::cache_hint") && f.space_is(&["shared", "shared::cta"])
            => "only global memory has cache priorities",
        f.has("L2::cache_hint") && f.has("cas") => "`.cas` takes no cache policy",
    }
    None
}

fn convert(f: &Form<'_>) -> Objection {
    let [to, from] = f.types[..] else {
        return None;
    };
    let integral = f.any(&["rni", "rzi", "rmi", "rpi"]);
    let rounded = f.any(&["rn", "rz", "rm", "rp", "rna"]);
    let finite = f.any(&["relu", "satfinite"]);
    object! {
        f.has("ftz") && f.types.iter().all(|t| *t != Type::F32)
            => "`.ftz` needs `.f32` on one side",
        f.has("ftz") && from == Type::F32 && to.is_float() && to.bytes() == 4 && to != Type::F32
            => "this conversion keeps subnormal numbers",
        finite && !(from == Type::F32 && is_arithmetic_only(to))
            => "`.relu` and `.satfinite` go with conversions from `.f32` to narrower types",
        matches!(to, Type::F16x2 | Type::BF16x2) && !f.any(&["rn", "rz"])
            => "packed conversions take `.rn` and `.rz`",
        finite && to != Type::TF32 && !f.any(&["rn", "rz"])
            => "`.relu` and `.satfinite` go with `.rn` and `.rz`",
        f.has("relu") && f.has("rna") => "`.relu` doesn't go with `.rna`",
        f.has("rna") && to != Type::TF32 => "`.rna` is for `.tf32`",
        f.has("sat") && [to, from].iter().any(|t| is_arithmetic_only(*t) && *t != Type::F16)
            => "this conversion doesn't clamp",
    }
    if to.is_float() && from.is_float() {
        let widening = to.bytes() > from.bytes();
        object! {
            integral && to != from => "only conversions within a type round to whole numbers",
            rounded && (to == from || (widening && from != Type::BF16))
                => "an exact conversion has no rounding mode",
            to == Type::BF16 && from != Type::F32 || from == Type::BF16 && to != Type::F32
                => "`.bf16` converts from and to `.f32` only",
        }
    } else if to.is_float() {
        object! {
            integral || f.has("rna") => "conversions from integers take `.rn`, `.rz`, `.rm` or `.rp`",
            f.has("ftz") && to != Type::F32 => "whole numbers are never subnormal here",
        }
    } else if from.is_float() {
        object! {
            rounded => "conversions to integers take `.rni`, `.rzi`, `.rmi` or `.rpi`",
            f.has("ftz") && from != Type::F32 => "`.ftz` is for `.f32` sources",
        }
    } else {
        object! {
            rounded || integral => "integers are not rounded",
            f.has("ftz") => "integers are never subnormal",
            f.has("sat") && holds(to, from) => "every value fits, so there is nothing to clamp",
        }
    }
    None
}

/// Whether integer type `to` holds every value of `from`.
fn holds(to: Type, from: Type) -> bool {
    match (to.is_signed(), from.is_signed()) {
        (false, true) => false,
        (true, false) => to.bytes() > from.bytes(),
        _ => to.bytes() >= from.bytes(),
    }
}

fn pack(f: &Form<'_>) -> Objection {
    let small = f.any(&["u2", "s2", "u4", "s4"]);
    let types = &f.types[..];
    let good = match types {
        [Type::U16 | Type::S16, Type::S32] => f.i.operands.len() == 3,
        [Type::U8 | Type::S8, Type::S32, Type::B32] => f.i.operands.len() == 4,
        [Type::S32, Type::B32] => small && f.i.operands.len() == 4,
        _ => false,
    };
    (!good)
        .then_some("packs `.s32` into 16 bits, or into 8, 4 or 2 with `.b32` and a fourth operand")
}

fn comparison(f: &Form<'_>) -> Objection {
    let from = f.ty()?;
    object! {
        f.has("ftz") && (!from.is_float() || from == Type::F64)
            => "`.ftz` is for `.f32` and `.f16`",
        is_bits(from) && f.any(&["lt", "le", "gt", "ge", "lo", "ls", "hi", "hs"])
            => "bits are equal or not, and have no order",
        from.is_signed() && f.any(&["lo", "ls", "hi", "hs"])
            => "`.lo`, `.ls`, `.hi` and `.hs` compare unsigned numbers",
        f.is("setp") && from == Type::F16
            && matches!(f.i.operands.first(), Some(Operand::Pair(_, q)) if !matches!(**q, Operand::Sink))
            => "a comparison of `.f16` writes one predicate",
    }
    if let ("set", [to, from]) = (f.i.opcode.as_str(), &f.types[..]) {
        let exists = match (to, from) {
            (Type::F16x2, from) => *from == Type::F16x2,
            (Type::U32 | Type::S32, _) => true,
            (_, Type::F16x2) => false,
            (Type::U16 | Type::S16, from) => *from == Type::F16,
            (Type::F32, from) => *from != Type::F16,
            (Type::F16, _) => true,
            _ => false,
        };
        object! { !exists => "the assembler knows no such pair of types" }
    }
    None
}

fn moving(f: &Form<'_>) -> Objection {
    let ty = *f.types.first()?;
    object! {
        is_arithmetic_only(ty) || ty.bytes() == 1 && ty != Type::Pred
            => "such values move as `.b16` or `.b32`",
        f.is("slct") && f.has("ftz") && f.ty() != Some(Type::F32)
            => "`.ftz` is for a selecting `.f32`",
        f.is("selp") && ty.is_float() && f.integer_literal()
            => "an integer literal where a floating-point value is expected",
        f.is("mov") && !is_bits(ty)
            && f.i.operands.iter().any(|o| matches!(o, Operand::Vector(_)))
            && !f.any(&["v2", "v4"])
            => "values are put together and taken apart as bits",
    }
    None
}

fn matrix(f: &Form<'_>) -> Objection {
    let narrow = f.any(&["s4", "u4", "b1"]);
    let integers = f.any(&["s8", "u8", "s4", "u4"]);
    let layouts: Vec<&str> =
        f.i.modifiers
            .iter()
            .map(String::as_str)
            .filter(|m| matches!(*m, "row" | "col"))
            .collect();
    let rounded = f.any(&["rn", "rz", "rm", "rp"]);
    object! {
        f.has("satfinite") && !integers => "`.satfinite` is for integers of 8 and 4 bits",
        f.is("mma") && f.has("m8n8k4") && f.types[..] == [Type::F16, Type::F16, Type::F16, Type::F32]
            => "sums don't become narrower than they come in",
        f.is("wmma") && rounded && !f.has("f64") => "only `.f64` has a rounding mode",
    }
    if f.is("wmma") && narrow {
        let wrong = if f.has("load") {
            f.has("a") && layouts == ["col"] || f.has("b") && layouts == ["row"]
        } else {
            f.has("mma") && !f.has("m8n8k4") && layouts != ["row", "col"]
        };
        object! { wrong => "matrices of 4 bits and 1 bit are `.row` for A and `.col` for B" }
    }
    None
}

fn warp(f: &Form<'_>) -> Objection {
    let scoped = f.any(&["cta", "gpu", "sys"]);
    object! {
        f.is("bar") && f.has("aligned") => "`bar` is always aligned; `barrier` has `.aligned`",
        f.is("barrier") && f.has("warp") => "`bar.warp.sync` is the name",
        matches!(f.i.opcode.as_str(), "bar" | "barrier") && f.i.operands.is_empty()
            && !f.has("cluster") => "a barrier has a number",
        f.is("fence") && !scoped && !f.starts("proxy") && !f.starts("mbarrier_init")
            => "a fence needs `.cta`, `.gpu` or `.sys`",
        f.is("fence") && f.has("gl") => "`.gl` is a level of `membar`",
        f.is("membar") && !f.any(&["cta", "gl", "sys"]) && !f.starts("proxy")
            => "`membar` needs `.cta`, `.gl` or `.sys`",
        f.is("activemask") && f.ty() != Some(Type::B32) => "the mask is `.b32`",
        f.is("shfl") && matches!(f.i.operands.first(), Some(Operand::Pair(d, _)) if matches!(**d, Operand::Sink))
            => "a shuffle needs a register",
        f.is("ldmatrix") && !matches!(f.i.operands.first(), Some(Operand::Vector(_)))
            => "the registers stand in braces",
    }
    if f.is("mbarrier") {
        let arrives = f.any(&["arrive", "arrive_drop"]);
        let waits = f.any(&["test_wait", "try_wait"]);
        object! {
            arrives && f.has("acquire") => "an arrival releases",
            waits && f.has("release") => "a wait acquires",
            arrives && f.has("release") && !scoped => "`.release` needs a scope",
        }
    }
    None
}

fn copying(f: &Form<'_>) -> Objection {
    let number = |at: usize| match f.i.operands.get(at) {
        Some(Operand::Number(Number::Int(v))) => Some(*v),
        _ => None,
    };
    object! {
        f.is("cp") && f.has("mbarrier") && f.ty() != Some(Type::B64) => "an mbarrier is `.b64`",
        f.is("cp") && number(2).zip(number(3)).is_some_and(|(copied, read)| read > copied)
            => "more bytes are read than copied",
        f.is("prefetch") && f.i.operands.len() != 1 => "takes one address",
        f.is("prefetch") && !f.starts("L1") && !f.starts("L2") => "needs a cache level",
        f.is("prefetch") && f.starts("L2::evict") && f.space == Some("local")
            => "only global memory has cache priorities",
        f.is("prefetch") && f.space.is_some_and(|s| !matches!(s, "global" | "local"))
            => "prefetches from global and local memory",
        f.is("discard") && number(1) != Some(128) => "discards 128 bytes",
    }
    None
}

fn video(f: &Form<'_>) -> Objection {
    let shift = f.is("vshl") || f.is("vshr");
    object! {
        f.i.opcode.ends_with(['2', '4']) && f.has("sat") && f.has("add")
            => "sums over the elements are not clamped",
        shift && !f.any(&["clamp", "wrap"]) => "needs `.clamp` or `.wrap`",
        shift && f.ty() != Some(Type::U32) => "the shift is `.u32`",
    }
    None
}

fn arithmetic(f: &Form<'_>) -> Objection {
    let op = f.i.opcode.as_str();
    let ty = f.ty()?;
    let sums = matches!(op, "add" | "sub" | "mul");
    let half = matches!(ty, Type::F16 | Type::F16x2 | Type::BF16 | Type::BF16x2);
    // `.sat` exists for one form of product only.
    let clamps = match op {
        "mad" | "mad24" => f.has("hi") && ty == Type::S32,
        "madc" => f.has("hi") && ty == Type::S32,
        "mul" | "mul24" => false,
        _ => true,
    };
    object! {
        is_bits(ty)
            && (sums || matches!(
                op,
                "mad" | "addc" | "subc" | "madc" | "mul24" | "mad24" | "sad" | "div" | "rem"
                    | "min" | "max" | "bfind" | "bfe" | "szext"
            ))
            => "works on numbers, not on bits",
        (op == "bmsk" || op == "shl") && !is_bits(ty) => "works on bits, not on numbers",
        op == "lop3" && f.has("xor") => "joins its predicates with `.and` or `.or`",
        f.has("sat") && is_integer(ty) && !clamps => "this product doesn't clamp",
        f.has("cc") && ty.bytes() < 4 => "the carry is that of 32 or 64 bits",
        f.has("relu") && sums => "`.relu` goes with `fma`, `min` and `max`",
        f.has("relu") && f.has("sat") => "`.relu` and `.sat` exclude each other",
        op == "fma" && half && !f.any(&["rn", "rz", "rm", "rp"]) => "needs a rounding mode",
        op == "fma" && matches!(ty, Type::BF16 | Type::BF16x2) && !f.has("rn")
            // ptxas takes the scalar form for one of f16, drops `.relu`, and rounds the packed one to nearest.
            => "rounds to nearest; the assembler takes other modes and makes something else of them",
        matches!(op, "min" | "max") && f.has("ftz") && matches!(ty, Type::BF16 | Type::BF16x2)
            => "bfloat16 keeps subnormal numbers",
        f.has("ftz") && (op == "tanh" || op == "ex2" && matches!(ty, Type::F16 | Type::F16x2))
            => "keeps subnormal numbers",
    }
    None
}
