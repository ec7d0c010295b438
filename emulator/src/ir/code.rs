//! The executable instructions: one enum, operands resolved to slots, targets to indices.

use super::regs::{AluFn, Reg, S32, S64, SP};
use crate::arith::float::Round;
use crate::arith::matrix::{Fragment, Mma, QuadPairMma, SparseMma};
use crate::ptx::ast::{Location, Type};

/// The state space of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessSpace {
    Generic,
    Global,
    Shared,
    Local,
    Const,
    /// The kernel's parameter buffer.
    Param,
}

/// How an access takes part in synchronisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Order {
    /// Volatile, relaxed, acquire or release: never a data race with its kind.
    pub strong: bool,
    /// `.acquire`
    pub acquire: bool,
    /// `.release`
    pub release: bool,
}

/// An address: a register (or none) and an offset in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    /// The register part.
    pub base: Option<Reg>,
    /// Added in bytes.
    pub offset: i64,
}

/// Where a loaded element goes.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// A register; `bits` is its declared width, which narrower loads are extended to.
    Reg(Reg, u32),
    /// `_`
    Sink,
}

/// `ld`
#[derive(Debug)]
pub struct Load {
    /// State space.
    pub space: AccessSpace,
    /// Element type: its width, and whether it is sign-extended.
    pub ty: Type,
    /// One destination per element.
    pub targets: Vec<Target>,
    /// Where from.
    pub address: Address,
    /// Ordering.
    pub order: Order,
}

/// `st`
#[derive(Debug)]
pub struct Store {
    /// State space.
    pub space: AccessSpace,
    /// Element type.
    pub ty: Type,
    /// One source per element.
    pub sources: Vec<Reg>,
    /// Where to.
    pub address: Address,
    /// Ordering.
    pub order: Order,
}

/// The operation of `atom` and `red`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtomicOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exch,
    Cas,
    Inc,
    Dec,
}

/// `atom` and `red`
#[derive(Debug)]
pub struct Atomic {
    /// State space.
    pub space: AccessSpace,
    /// The operation.
    pub op: AtomicOp,
    /// Type.
    pub ty: Type,
    /// The old value's destination; `red` has none.
    pub target: Option<Reg>,
    /// Where.
    pub address: Address,
    /// The operand (the comparand of `cas`).
    pub b: Reg,
    /// The new value of `cas`.
    pub c: Option<Reg>,
    /// Ordering.
    pub order: Order,
}

/// The collectives of a warp: all lanes of a mask execute them together.
#[derive(Debug)]
pub enum Collective {
    /// `bar.warp.sync`
    Sync,
    /// `shfl.sync`
    Shuffle {
        mode: ShuffleMode,
        d: S32,
        p: Option<SP>,
        a: S32,
        b: S32,
        c: S32,
    },
    /// `vote.sync`
    Vote {
        mode: VoteMode,
        source: SP,
        negated: bool,
        pred: Option<SP>,
        ballot: Option<S32>,
    },
    /// `match.sync`
    Match {
        all: bool,
        d: S32,
        p: Option<SP>,
        a: Reg,
    },
    /// `redux.sync`
    Reduce {
        op: AtomicOp,
        signed: bool,
        d: S32,
        a: S32,
    },
    /// `elect.sync`
    Elect { d: Option<S32>, p: SP },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShuffleMode {
    Up,
    Down,
    Bfly,
    Idx,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteMode {
    All,
    Any,
    Uni,
    Ballot,
}

/// What a block barrier does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarrierKind {
    /// Waits.
    Sync,
    /// Arrives without waiting.
    Arrive,
    /// Waits and counts the lanes whose predicate holds.
    Popc(S32),
    /// Waits and asks whether the predicate holds in all lanes.
    And(SP),
    /// Waits and asks whether it holds in any lane.
    Or(SP),
}

/// `bar` and `barrier`
#[derive(Debug)]
pub struct Barrier {
    /// What it does.
    pub kind: BarrierKind,
    /// The barrier's number.
    pub id: S32,
    /// Threads that take part; all of the block if none.
    pub count: Option<S32>,
    /// Predicate of a reduction, and whether it is negated.
    pub source: Option<(SP, bool)>,
    /// All lanes of a warp must arrive at one instruction.
    pub aligned: bool,
}

/// A matrix product.
#[derive(Debug)]
pub enum MmaKind {
    /// `mma` and `wmma.mma` in 32-bit registers.
    Plain(Mma),
    /// `mma.m8n8k4` of f16.
    QuadPair(QuadPairMma),
    /// `mma.m8n8k4.f64`
    F64(Round),
    /// `mma.sp`, with its metadata.
    Sparse(SparseMma, S32),
}

/// `mma` and `wmma.mma`
#[derive(Debug)]
pub struct MatrixMultiply {
    /// Shape and types.
    pub kind: MmaKind,
    /// Multiply-adds.
    pub fma: u64,
    /// Destination.
    pub d: Vec<Reg>,
    /// Left factor.
    pub a: Vec<Reg>,
    /// Right factor.
    pub b: Vec<Reg>,
    /// Addend.
    pub c: Vec<Reg>,
    /// The name in the counters, e.g. `mma.m16n8k16.f32.f16.f16.f32`.
    pub name: String,
}

/// `wmma.load` and `wmma.store`
#[derive(Debug)]
pub struct FragmentMove {
    /// The operand.
    pub fragment: Fragment,
    /// Column-major in memory.
    pub col: bool,
    /// Registers.
    pub regs: Vec<Reg>,
    /// State space.
    pub space: AccessSpace,
    /// The first element.
    pub address: Address,
    /// Elements from one row (or column) to the next; none is the matrix's own width.
    pub stride: Option<S32>,
    /// A store.
    pub store: bool,
}

/// `ldmatrix`
#[derive(Debug)]
pub struct LoadMatrix {
    /// Matrices: 1, 2 or 4.
    pub d: Vec<S32>,
    /// Transposed.
    pub transpose: bool,
    /// State space: shared or generic.
    pub space: AccessSpace,
    /// Each lane's row.
    pub address: Address,
}

/// `cp.async`
#[derive(Debug)]
pub struct CopyAsync {
    /// In shared memory.
    pub to: Address,
    /// In global memory.
    pub from: Address,
    /// 4, 8 or 16.
    pub bytes: u32,
    /// Bytes that are read; the rest are zeros.
    pub source_bytes: Option<S32>,
    /// Reads nothing where it holds (`ignore-src`).
    pub ignore: Option<(SP, bool)>,
}

/// `mbarrier.*`
#[derive(Debug)]
pub enum Mbarrier {
    Init {
        address: Address,
        count: S32,
    },
    Inval {
        address: Address,
    },
    Arrive {
        address: Address,
        state: Option<S64>,
        count: Option<S32>,
        drop: bool,
    },
    Test {
        address: Address,
        done: SP,
        state: Option<S64>,
        parity: Option<S32>,
    },
    PendingCount {
        d: S32,
        state: S64,
    },
    /// `cp.async.mbarrier.arrive`
    CopyArrive {
        address: Address,
        noinc: bool,
    },
}

/// How an argument or a return value is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassedIn {
    /// In the frame's local memory: offset and bytes.
    Memory(u32, u32),
    /// In a register of so many bytes.
    Register(Reg, u32),
}

impl PassedIn {
    /// Bytes.
    pub fn size(&self) -> u32 {
        match self {
            PassedIn::Memory(_, size) | PassedIn::Register(_, size) => *size,
        }
    }
}

/// `call`
#[derive(Debug)]
pub struct Call {
    /// The function's index, or a register with a function's address.
    pub target: CallTarget,
    /// Arguments in the caller's frame.
    pub arguments: Vec<PassedIn>,
    /// Return values in the caller's frame.
    pub returns: Vec<PassedIn>,
}

/// The target of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallTarget {
    /// A function of the module.
    Direct(u32),
    /// A function's address in a register.
    Indirect(S64),
    /// A function of the device's own library.
    Builtin(Builtin),
}

/// Functions that the toolkit declares and the device provides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builtin {
    Vprintf,
    AssertFail,
    Malloc,
    Free,
}

/// Special registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    LaneId,
    WarpId,
    NWarpId,
    SmId,
    NSmId,
    GridId,
    LaneMaskEq,
    LaneMaskLt,
    LaneMaskLe,
    LaneMaskGt,
    LaneMaskGe,
    Clock,
    ClockHi,
    Clock64,
    GlobalTimer,
    GlobalTimerLo,
    GlobalTimerHi,
    DynamicSharedSize,
    TotalSharedSize,
    EnvReg(u8),
    Zero,
}

/// What an instruction does.
pub enum Op {
    /// Registers to registers.
    Alu(AluFn),
    /// Reads a special register.
    Special(Reg, Special),
    /// `activemask`
    ActiveMask(S32),
    /// `isspacep`
    IsSpace {
        /// Destination.
        d: SP,
        /// Address.
        a: S64,
        /// The space asked for.
        space: AccessSpace,
    },
    /// A jump that the layout of basic blocks adds: it is no instruction of the program and is not counted.
    Jump(u32),
    /// `bra`, taken by the lanes whose guard holds.
    Branch(u32),
    /// `brx.idx`
    BranchIndex(S32, Vec<u32>),
    /// `call`
    Call(Box<Call>),
    /// `ret`
    Return,
    /// `exit`
    Exit,
    /// `trap` and `brkpt`
    Trap,
    /// `ld`
    Load(Box<Load>),
    /// `st`
    Store(Box<Store>),
    /// `atom`, `red`
    Atomic(Box<Atomic>),
    /// `ldmatrix`
    LoadMatrix(Box<LoadMatrix>),
    /// `movmatrix`
    MoveMatrix(S32, S32),
    /// `wmma.load`, `wmma.store`
    FragmentMove(Box<FragmentMove>),
    /// `mma`, `wmma.mma`
    MatrixMultiply(Box<MatrixMultiply>),
    /// `cp.async`
    CopyAsync(Box<CopyAsync>),
    /// `cp.async.commit_group`
    CopyCommit,
    /// `cp.async.wait_group n`; `wait_all` has none.
    CopyWait(Option<u32>),
    /// `mbarrier.*`
    Mbarrier(Box<Mbarrier>),
    /// `membar`, `fence`
    Fence,
    /// `bar`, `barrier`
    Barrier(Box<Barrier>),
    /// Warp collectives: the member mask and what they do.
    Collective(S32, Box<Collective>),
    /// `alloca`: bytes, and the alignment of the address.
    StackAllocate(Reg, Reg, u32),
    /// `stacksave`
    StackSave(Reg),
    /// `stackrestore`
    StackRestore(Reg),
    /// `nanosleep`: lets others run.
    Sleep,
    /// `prefetch` and other hints.
    Hint,
    /// `discard.L2`: the 128 bytes at the address hold nothing any more.
    Discard(AccessSpace, Address),
}

/// The classes that counters tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstructionClass {
    Integer,
    F32,
    F64,
    Half,
    Special,
    Convert,
    Move,
    Predicate,
    Control,
    LoadGlobal,
    StoreGlobal,
    LoadShared,
    StoreShared,
    LoadLocal,
    StoreLocal,
    LoadConst,
    LoadParam,
    LoadGeneric,
    StoreGeneric,
    LoadMatrix,
    CopyAsync,
    Atomic,
    Mma,
    Warp,
    Barrier,
    Fence,
    Other,
}

impl InstructionClass {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            InstructionClass::Integer => "integer",
            InstructionClass::F32 => "f32",
            InstructionClass::F64 => "f64",
            InstructionClass::Half => "half",
            InstructionClass::Special => "special_function",
            InstructionClass::Convert => "convert",
            InstructionClass::Move => "move",
            InstructionClass::Predicate => "predicate",
            InstructionClass::Control => "control",
            InstructionClass::LoadGlobal => "load_global",
            InstructionClass::StoreGlobal => "store_global",
            InstructionClass::LoadShared => "load_shared",
            InstructionClass::StoreShared => "store_shared",
            InstructionClass::LoadLocal => "load_local",
            InstructionClass::StoreLocal => "store_local",
            InstructionClass::LoadConst => "load_const",
            InstructionClass::LoadParam => "load_param",
            InstructionClass::LoadGeneric => "load_generic",
            InstructionClass::StoreGeneric => "store_generic",
            InstructionClass::LoadMatrix => "ldmatrix",
            InstructionClass::CopyAsync => "cp_async",
            InstructionClass::Atomic => "atomic",
            InstructionClass::Mma => "mma",
            InstructionClass::Warp => "warp",
            InstructionClass::Barrier => "barrier",
            InstructionClass::Fence => "fence",
            InstructionClass::Other => "other",
        }
    }
}

/// One instruction, ready to run.
pub struct Inst {
    /// What it does.
    pub op: Op,
    /// The lanes that execute it: a predicate, and whether it is negated.
    pub guard: Option<(SP, bool)>,
    /// Index into [`Function::sites`].
    pub site: u32,
}

/// What reports say about an instruction.
#[derive(Clone, Debug)]
pub struct Site {
    /// Line in the PTX text.
    pub line: u32,
    /// Source line.
    pub location: Option<Location>,
    /// Opcode and modifiers.
    pub text: String,
    /// Class for counters.
    pub class: InstructionClass,
}

/// A value that a frame's constant slot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Constant {
    /// Bits.
    Bits(u64),
    /// Address of a module variable, by index, plus an offset.
    Global(u32, i64),
    /// Offset of a shared variable, by index, in the block's shared memory, plus an offset.
    Shared(u32, i64),
    /// Offset in the frame's local memory.
    Frame(u32, i64),
    /// Address of a function, by index.
    Function(u32),
}

/// A kernel or function, ready to run.
pub struct Function {
    /// Its name.
    pub name: String,
    /// Whether it is an entry.
    pub is_kernel: bool,
    /// Instructions in the order of scheduling: a lane that is behind has the smaller index.
    pub insts: Vec<Inst>,
    /// What reports say about the instructions, by [`Inst::site`].
    pub sites: Vec<Site>,
    /// 32-bit slots.
    pub n32: u32,
    /// 64-bit slots.
    pub n64: u32,
    /// Predicate slots.
    pub npred: u32,
    /// Constant 32-bit slots.
    pub constants32: Vec<(S32, Constant)>,
    /// Constant 64-bit slots.
    pub constants64: Vec<(S64, Constant)>,
    /// Constant predicates.
    pub constants_pred: Vec<(SP, bool)>,
    /// Local memory of a frame in bytes.
    pub frame_bytes: u32,
    /// Formal parameters (functions only; a kernel's are in the parameter buffer).
    pub params: Vec<PassedIn>,
    /// Return values.
    pub returns: Vec<PassedIn>,
    /// Shared variables used, by index.
    pub shared_used: Vec<u32>,
    /// Functions called directly, by index.
    pub calls: Vec<u32>,
    /// Whether it calls through a pointer.
    pub calls_indirectly: bool,
    /// Narrowest access to shared memory (or a generic address), in bytes.
    pub narrowest_shared: u32,
    /// Narrowest access to global memory (or a generic address), in bytes.
    pub narrowest_global: u32,
    /// Whether threads may be ordered in other ways than by barriers of the whole block: by barriers of part of it,
    /// `mbarrier` or fences.
    pub general_sync: bool,
    /// Estimated registers per thread.
    pub registers: u32,
}
