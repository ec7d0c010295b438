//! What the emulator refuses to run: the kinds of fault, and which of them are looked for.

use serde::Serialize;

pub(crate) mod race;

/// Which checkers watch a launch. All are on by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// Data races on shared and global memory.
    pub race: bool,
    /// Reads of bytes that nobody wrote: global, shared and local memory.
    pub uninit: bool,
    /// Reads of a `cp.async` destination before its wait.
    pub async_hazard: bool,
}

impl Checks {
    /// Every checker.
    pub const ALL: Checks = Checks {
        race: true,
        uninit: true,
        async_hazard: true,
    };
    /// Only what can't be left out without undefined behaviour of the host: bounds, alignment,
    /// barriers and masks are always checked.
    pub const NONE: Checks = Checks {
        race: false,
        uninit: false,
        async_hazard: false,
    };
}

impl Default for Checks {
    fn default() -> Self {
        Self::ALL
    }
}

/// A word that names no checker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected all, none or a list of race, uninit, async_hazard; found `{0}`")]
pub struct UnknownCheck(String);

impl std::str::FromStr for Checks {
    type Err = UnknownCheck;

    /// Reads `all`, `none` or a list of checkers (`race,uninit`).
    fn from_str(text: &str) -> Result<Checks, UnknownCheck> {
        match text {
            "all" | "on" | "1" => return Ok(Checks::ALL),
            "none" | "off" | "0" => return Ok(Checks::NONE),
            _ => {}
        }
        let mut checks = Checks::NONE;
        for word in text.split(',').map(str::trim) {
            match word {
                "race" => checks.race = true,
                "uninit" => checks.uninit = true,
                "async_hazard" => checks.async_hazard = true,
                _ => return Err(UnknownCheck(word.to_owned())),
            }
        }
        Ok(checks)
    }
}

/// What went wrong, with the stable name that reports and test cases use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Two unordered accesses to one location, at least one of them a write.
    Race,
    /// An address outside every allocation (or outside the window of its state space).
    OutOfBounds,
    /// An address that isn't a multiple of the access size.
    Misaligned,
    /// A read of bytes that nobody wrote.
    Uninitialized,
    /// A barrier or an aligned warp collective that not all threads of the warp or block reach.
    DivergentBarrier,
    /// A warp collective whose mask leaves out the caller, or names a lane that can't arrive.
    BadMask,
    /// A `cp.async` destination touched before the copy was waited for.
    AsyncHazard,
    /// An address inside memory that was freed.
    UseAfterFree,
    /// An instruction or operand that sm_86 doesn't have, found only at run time.
    Unsupported,
    /// `trap`, `brkpt` or a failed device-side `assert`.
    Trap,
    /// No warp can make progress any more.
    Deadlock,
    /// Call depth or local memory beyond the stack limit.
    StackOverflow,
    /// An indirect call or branch to something that isn't a valid target.
    BadTarget,
    /// A store to constant memory or to kernel parameters.
    ReadOnly,
}

impl FaultKind {
    /// The stable name: what a case's `expect_error` says.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Race => "race",
            FaultKind::OutOfBounds => "oob",
            FaultKind::Misaligned => "misaligned",
            FaultKind::Uninitialized => "uninit",
            FaultKind::DivergentBarrier => "divergent_barrier",
            FaultKind::BadMask => "bad_mask",
            FaultKind::AsyncHazard => "async_hazard",
            FaultKind::UseAfterFree => "use_after_free",
            FaultKind::Unsupported => "unsupported",
            FaultKind::Trap => "trap",
            FaultKind::Deadlock => "deadlock",
            FaultKind::StackOverflow => "stack_overflow",
            FaultKind::BadTarget => "bad_target",
            FaultKind::ReadOnly => "read_only",
        }
    }
}

/// One finding: the launch stopped here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// What kind of finding.
    pub kind: FaultKind,
    /// The kernel that was launched.
    pub kernel: String,
    /// Line in the PTX text, from 1.
    pub ptx_line: u32,
    /// The instruction's opcode with its modifiers.
    pub instruction: String,
    /// Source file and line, where the PTX has `.loc`.
    pub source: Option<(String, u32)>,
    /// `blockIdx`.
    pub block: [u32; 3],
    /// `threadIdx`.
    pub thread: [u32; 3],
    /// The address, where the fault is about one.
    pub address: Option<u64>,
    /// The allocation (or variable) the address belongs to or is nearest to, with the offset into it.
    pub allocation: Option<String>,
    /// What was expected and what was found.
    pub message: String,
    /// The scheduling seed of the launch: the same seed shows the same fault.
    pub seed: u64,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: {} in kernel `{}`, PTX line {}",
            self.kind.name(),
            self.message,
            self.kernel,
            self.ptx_line
        )?;
        if !self.instruction.is_empty() {
            write!(f, " (`{}`)", self.instruction)?;
        }
        if let Some((file, line)) = &self.source {
            write!(f, ", {file}:{line}")?;
        }
        write!(f, ", block {:?}, thread {:?}", self.block, self.thread)?;
        if let Some(address) = self.address {
            write!(f, ", address {address:#x}")?;
        }
        if let Some(allocation) = &self.allocation {
            write!(f, " ({allocation})")?;
        }
        write!(f, ", seed {}", self.seed)
    }
}

impl std::error::Error for Fault {}
