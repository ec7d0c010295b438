//! What a launch is: a kernel with its compile-time constants, a grid, and one parameter struct.

use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;

use super::work::LaunchWork;

/// An address in device memory; 0 is null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DevicePtr(pub u64);

impl DevicePtr {
    /// No address, for operands that a kernel does not have.
    pub const NULL: Self = Self(0);

    /// This address, or the next that is a multiple of `bytes`.
    pub fn aligned(self, bytes: usize) -> Self {
        Self(self.0.next_multiple_of(bytes as u64))
    }

    /// The address `bytes` further on.
    pub fn add(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

/// A parameter struct that `build.rs` wrote from its CUDA declaration.
pub trait KernelParams {
    /// The struct's memory as the kernel sees it.
    fn bytes(&self) -> Vec<u8>;
}

/// A program that NVRTC compiles: a file of `kernels/` and the macros it is specialised with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Program {
    /// Path below `kernels/`.
    pub file: &'static str,
    /// Macros and their values, in the order in which they are defined.
    pub constants: Vec<(&'static str, String)>,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file)?;
        for (name, value) in &self.constants {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}

/// An entry point of a program.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    pub program: Program,
    pub entry: &'static str,
}

impl Kernel {
    /// The entry `entry` of `file`, without constants.
    pub fn new(file: &'static str, entry: &'static str) -> Self {
        let program = Program {
            file,
            constants: Vec::new(),
        };
        Self { program, entry }
    }

    /// Defines the macro `name` as `value`.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.program.constants.push((name, value.to_string()));
        self
    }
}

/// One kernel launch with everything decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    pub kernel: Kernel,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// Dynamic shared memory in bytes.
    pub shared_bytes: u32,
    pub params: Vec<u8>,
    pub work: LaunchWork,
}

/// The parameter structs of all kernels.
#[allow(clippy::identity_op, reason = "the first field lies at offset 0")]
pub mod params {
    use super::{DevicePtr, KernelParams};
    include!(concat!(env!("OUT_DIR"), "/params.rs"));
}

mod packed {
    include!(concat!(env!("OUT_DIR"), "/sources.rs"));
}

pub use packed::LAYOUT_ASSERTS;

/// Every file below `kernels/` with its text: those packed into the program, or, while kernels are worked on, those of
/// the folder that `MEDFUSION_KERNELS` names, read when the first program is compiled.
pub fn sources() -> &'static [(&'static str, String)] {
    static SOURCES: OnceLock<Vec<(&'static str, String)>> = OnceLock::new();
    SOURCES.get_or_init(|| {
        let folder = std::env::var_os("MEDFUSION_KERNELS").filter(|folder| !folder.is_empty());
        let text = |name: &str, packed: &str| {
            let path = PathBuf::from(folder.as_ref()?).join(name);
            std::fs::read_to_string(path)
                .ok()
                .filter(|text| text != packed)
        };
        let with_text = |&(name, packed): &(&'static str, &str)| {
            (
                name,
                text(name, packed).unwrap_or_else(|| packed.to_owned()),
            )
        };
        packed::SOURCES.iter().map(with_text).collect()
    })
}

/// The text of a file below `kernels/`.
pub fn source(file: &str) -> Option<&'static str> {
    sources()
        .iter()
        .find_map(|(name, text)| (*name == file).then_some(text.as_str()))
}
