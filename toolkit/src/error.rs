//! What can go wrong with the toolkit's pieces, as facts: who reads them knows the remedy.

use std::path::PathBuf;

use thiserror::Error;

/// A piece that is missing, or that refuses what it is given.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ToolkitError {
    /// NVRTC's library could not be loaded from anywhere.
    #[error("NVRTC was not found (tried {})", list(tried))]
    NvrtcMissing {
        /// The places that were tried, in their order; a bare file name was looked up by the loader.
        tried: Vec<PathBuf>,
    },
    /// A program of the toolkit is installed nowhere that is looked at.
    #[error("{tool} was not found (tried {})", list(tried))]
    ToolMissing {
        /// The program's file name, such as `ptxas`.
        tool: &'static str,
        /// The places that were tried, in their order.
        tried: Vec<PathBuf>,
    },
    /// A text for a C function that holds a NUL, which would end it there.
    #[error("{name}: the {what} holds a NUL")]
    HoldsNul {
        /// The program's name.
        name: String,
        /// Which text: `source`, `name`, `header` or `option`.
        what: &'static str,
    },
    /// NVRTC refuses a program.
    #[error("{name}: {}", refusal(*code, log))]
    Refused {
        /// The program's name.
        name: String,
        /// NVRTC's `nvrtcResult`; 6 is a compilation error.
        code: i32,
        /// The compiler's messages; empty where it gives none.
        log: String,
    },
    /// NVRTC says that it compiled the program but hands out no PTX.
    #[error("{name}: NVRTC gave no PTX")]
    NoPtx {
        /// The program's name.
        name: String,
    },
    /// ptxas refuses a PTX text.
    #[error("ptxas refuses the PTX for sm_{}{}:\n{log}", capability.0, capability.1)]
    PtxasRefused {
        /// Compute capability that it was assembled for.
        capability: (u32, u32),
        /// The assembler's messages.
        log: String,
    },
    /// A program of the toolkit does not run.
    #[error("{} does not run: {why}", tool.display())]
    DoesNotRun {
        /// The program's path.
        tool: PathBuf,
        /// The system's message.
        why: String,
    },
}

/// What NVRTC answers, with its messages where there are any.
pub(crate) fn refusal(code: i32, log: &str) -> String {
    match log.is_empty() {
        true => format!("NVRTC error {code}"),
        false => format!("NVRTC error {code}\n{log}"),
    }
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(", ")
}
