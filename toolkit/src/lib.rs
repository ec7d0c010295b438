//! NVIDIA's compiler pieces on this machine: NVRTC, CUDA's headers, ptxas and the disassemblers. None of them needs a GPU,
//! and none is linked: each is looked for when it is first asked for.
//!
//! | module | what it does |
//! |---|---|
//! | [`find`] | where things are, and in which order places are tried |
//! | [`nvrtc`] | CUDA C++ to PTX or machine code |
//! | [`ptxas`] | what the assembler allots to the kernels of a PTX text |
//!
//! ```no_run
//! use medfusion_toolkit::{Ptxas, Source, nvrtc};
//!
//! # fn main() -> Result<(), medfusion_toolkit::ToolkitError> {
//! let text = r#"extern "C" __global__ void scale(float* x, float by) { x[threadIdx.x] *= by; }"#;
//! let ptx = nvrtc::shared()?.compile(&Source {
//!     name: "scale.cu",
//!     text,
//!     headers: &[],
//!     options: &["--gpu-architecture=compute_86".to_owned()],
//! })?;
//! let kernels = Ptxas::find()?.assemble(&ptx, (8, 6))?;
//! println!("{} registers per thread", kernels["scale"].registers);
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs)]

mod error;
pub mod find;
pub mod nvrtc;
pub mod ptxas;

pub use error::{Attempt, ToolkitError, attempts};
pub use nvrtc::{Nvrtc, Source};
pub use ptxas::{Ptxas, Resources};
