//! What a module has: kernels, their parameters, variables.

/// A kernel's parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The name in the PTX.
    pub name: String,
    /// Byte offset in the parameter buffer.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// Alignment in bytes.
    pub align: u32,
}

/// The state space of a module variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlobalSpace {
    /// `.global`
    Global,
    /// `.const`
    Const,
}

/// A module variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    /// The name in the PTX.
    pub name: String,
    /// Where it lives.
    pub space: GlobalSpace,
    /// Bytes.
    pub size: u64,
    /// Alignment in bytes.
    pub align: u64,
    /// Initial bytes. If there are fewer than `size`, zeros follow: also a variable without an initialiser starts as zeros,
    /// as CUDA C++ says.
    pub bytes: Vec<u8>,
    /// Whether the PTX gives an initialiser.
    pub initialised: bool,
    /// Addresses to be written into `bytes` when the module is placed.
    pub relocations: Vec<Relocation>,
}

/// An address inside an initialiser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Byte offset in the variable.
    pub offset: u64,
    /// Bytes of the field: 4 or 8, or 1 for one byte of an address.
    pub width: u32,
    /// The address is shifted right by so many bits first.
    pub shift: u32,
    /// What is pointed to.
    pub symbol: String,
    /// Added to the symbol's address.
    pub addend: i64,
}

/// What a host program can ask about a kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The entry's name.
    pub name: String,
    /// Parameters in order.
    pub parameters: Vec<Parameter>,
    /// Bytes of the parameter buffer.
    pub parameter_bytes: u32,
    /// Static shared memory in bytes.
    pub static_shared_bytes: u32,
    /// Local memory per thread in bytes.
    pub local_bytes: u32,
    /// `.const` bytes of the module.
    pub const_bytes: u32,
    /// `.maxntid`, where given.
    pub max_threads: Option<[u32; 3]>,
    /// `.reqntid`, where given.
    pub required_threads: Option<[u32; 3]>,
    /// `.minnctapersm`, where given.
    pub min_blocks_per_sm: Option<u32>,
    /// An estimate of the registers per thread, from the live ranges of virtual registers.
    pub registers: u32,
    /// The module's `.version`, e.g. 88 for 8.8.
    pub ptx_version: u32,
    pub(crate) function: u32,
    /// Where the module's shared variables lie in a block of this kernel.
    pub(crate) shared_offsets: Vec<u32>,
    pub(crate) narrowest_shared: u32,
    pub(crate) narrowest_global: u32,
    pub(crate) general_sync: bool,
}

/// A `.shared` variable of the module.
#[derive(Clone, Debug)]
pub(crate) struct SharedVariable {
    pub name: String,
    pub size: u64,
    pub align: u64,
    /// `.extern`: starts where the static ones end, its size is given by the launch.
    pub dynamic: bool,
}

/// The place of a shared variable that a kernel doesn't use.
pub(crate) const UNUSED: u32 = u32::MAX;
