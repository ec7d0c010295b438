//! The syntax tree of a PTX module.

use super::lexer::Pos;

/// A whole module.
#[derive(Debug, Default)]
pub struct SyntaxTree {
    /// `.version`, e.g. 88 for 8.8.
    pub version: u32,
    /// `.target`, e.g. `sm_86`.
    pub target: String,
    /// `.file` numbers and names.
    pub files: Vec<(u32, String)>,
    /// Module variables.
    pub variables: Vec<Variable>,
    /// Kernels and functions, declarations included.
    pub functions: Vec<PtxFunction>,
    /// `.alias` pairs: the new name, the function it stands for.
    pub aliases: Vec<(String, String)>,
}

/// A fundamental type, as declared or as an instruction's modifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    Pred,
    B8,
    B16,
    B32,
    B64,
    B128,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    BF16,
    BF16x2,
    TF32,
    F32,
    F64,
}

impl Type {
    /// The type of a modifier, without its dot.
    pub fn parse(text: &str) -> Option<Type> {
        Some(match text {
            "pred" => Type::Pred,
            "b8" => Type::B8,
            "b16" => Type::B16,
            "b32" => Type::B32,
            "b64" => Type::B64,
            "b128" => Type::B128,
            "u8" => Type::U8,
            "u16" => Type::U16,
            "u32" => Type::U32,
            "u64" => Type::U64,
            "s8" => Type::S8,
            "s16" => Type::S16,
            "s32" => Type::S32,
            "s64" => Type::S64,
            "f16" => Type::F16,
            "f16x2" => Type::F16x2,
            "bf16" => Type::BF16,
            "bf16x2" => Type::BF16x2,
            "tf32" => Type::TF32,
            "f32" => Type::F32,
            "f64" => Type::F64,
            _ => return None,
        })
    }

    /// Bytes in memory; a predicate has one.
    pub fn bytes(self) -> u32 {
        match self {
            Type::Pred | Type::B8 | Type::U8 | Type::S8 => 1,
            Type::B16 | Type::U16 | Type::S16 | Type::F16 | Type::BF16 => 2,
            Type::B32
            | Type::U32
            | Type::S32
            | Type::F32
            | Type::F16x2
            | Type::BF16x2
            | Type::TF32 => 4,
            Type::B64 | Type::U64 | Type::S64 | Type::F64 => 8,
            Type::B128 => 16,
        }
    }

    /// Whether integers of this type carry a sign.
    pub fn is_signed(self) -> bool {
        matches!(self, Type::S8 | Type::S16 | Type::S32 | Type::S64)
    }

    /// Whether values of this type are floating point.
    pub fn is_float(self) -> bool {
        matches!(
            self,
            Type::F16
                | Type::F16x2
                | Type::BF16
                | Type::BF16x2
                | Type::TF32
                | Type::F32
                | Type::F64
        )
    }
}

/// A state space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateSpace {
    Reg,
    Param,
    Shared,
    Local,
    Global,
    Const,
}

/// How a symbol links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Linkage {
    #[default]
    Internal,
    Extern,
    Visible,
    Weak,
    Common,
}

/// A variable: of the module, of a function, a parameter, or a bank of registers.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Where it is declared.
    pub pos: Pos,
    /// How it links.
    pub linkage: Linkage,
    /// Its state space.
    pub space: StateSpace,
    /// `.align`, in bytes.
    pub align: Option<u32>,
    /// Elements of a `.v2` or `.v4` declaration, else 1.
    pub vector: u32,
    /// Element type.
    pub ty: Type,
    /// Its name, or the prefix of `%r<10>`.
    pub name: String,
    /// The 10 of `%r<10>`.
    pub bank: Option<u32>,
    /// Array dimensions; 0 where left open.
    pub dims: Vec<u64>,
    /// The initialiser.
    pub init: Option<Init>,
}

/// An initialiser.
#[derive(Clone, Debug)]
pub enum Init {
    /// `{ … }`
    List(Vec<Init>),
    /// A number.
    Number(Number),
    /// An address: `name`, `name+4`, `generic(name)+4`, or a byte of one: `0xff00(name)`.
    Address {
        /// The variable or function.
        symbol: String,
        /// Added in bytes.
        addend: i64,
        /// The bytes kept, for byte-wise initialisers.
        mask: Option<u64>,
        /// Where it stands.
        pos: Pos,
    },
}

/// A literal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// An integer; negative ones in two's complement.
    Int(i128),
    /// A 32-bit pattern (`0f…`).
    F32(u32),
    /// A double.
    F64(f64),
}

/// A kernel or function.
#[derive(Debug)]
pub struct PtxFunction {
    /// Where it is declared.
    pub pos: Pos,
    /// Its name.
    pub name: String,
    /// Whether it is an `.entry`.
    pub is_kernel: bool,
    /// Formal parameters.
    pub params: Vec<Variable>,
    /// Return values.
    pub returns: Vec<Variable>,
    /// `.maxntid`.
    pub max_threads: Option<[u32; 3]>,
    /// `.reqntid`.
    pub required_threads: Option<[u32; 3]>,
    /// `.minnctapersm`.
    pub min_blocks_per_sm: Option<u32>,
    /// `.maxnreg`.
    pub max_registers: Option<u32>,
    /// Its statements; a declaration has none.
    pub body: Option<Vec<Statement>>,
}

/// A `.loc`: file number, line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// Number of a `.file`.
    pub file: u32,
    /// Line in it.
    pub line: u32,
}

/// One statement of a body.
#[derive(Debug)]
pub enum Statement {
    /// A declaration.
    Variable(Variable),
    /// `name:`
    Label(String),
    /// `{ … }` with names of its own.
    Block(Vec<Statement>),
    /// `.loc`; the line of the outermost inlining site where it is given.
    Loc(Location),
    /// `name: .branchtargets a, b;`
    BranchTargets(String, Vec<String>),
    /// `name: .callprototype …;` or `name: .calltargets f, g;`. An indirect call is checked when it runs, against the
    /// function that it reaches, so only the name is kept.
    Prototype(String),
    /// An instruction.
    Instruction(Instruction),
}

/// A predicate in front of an instruction.
#[derive(Clone, Debug)]
pub struct Guard {
    /// The predicate register.
    pub name: String,
    /// `@!`
    pub negated: bool,
}

/// One instruction.
#[derive(Debug)]
pub struct Instruction {
    /// Where it starts.
    pub pos: Pos,
    /// `@p` or `@!p`.
    pub guard: Option<Guard>,
    /// The opcode.
    pub opcode: String,
    /// Its modifiers and types, without dots, in order.
    pub modifiers: Vec<String>,
    /// Operands in order.
    pub operands: Vec<Operand>,
}

impl Instruction {
    /// Opcode and modifiers as written.
    pub fn text(&self) -> String {
        let mut text = self.opcode.clone();
        for m in &self.modifiers {
            text.push('.');
            text.push_str(m);
        }
        text
    }
}

/// An operand.
#[derive(Clone, Debug)]
pub enum Operand {
    /// A register, special register (`%tid.x`), variable, label or function, with an offset.
    Name {
        /// The name, a component included.
        name: String,
        /// `+n`, in bytes.
        offset: i64,
    },
    /// `!p`
    Not(String),
    /// `-r`, of `vmad` only; a part of the register included.
    Negated(String),
    /// A literal.
    Number(Number),
    /// `_`
    Sink,
    /// `{a, b}`
    Vector(Vec<Operand>),
    /// `[base+n]`
    Address {
        /// A register or variable; none for an absolute address.
        base: Option<String>,
        /// Added in bytes.
        offset: i64,
    },
    /// `a|b`
    Pair(Box<Operand>, Box<Operand>),
    /// `(a, b)` of a call.
    List(Vec<Operand>),
}
