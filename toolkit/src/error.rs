//! What can go wrong with the toolkit's pieces, as facts: who reads them knows the remedy.

use std::path::PathBuf;

use thiserror::Error;

/// A piece that is missing, or that refuses what it is given.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ToolkitError {
    /// NVRTC's library could not be loaded from anywhere.
    #[error("NVRTC was not found (tried {})", attempts(tried))]
    NvrtcMissing {
        /// The places that were tried, in their order.
        tried: Vec<Attempt>,
    },
    /// NVRTC is there, but not the library with its device headers.
    #[error(
        "NVRTC {}.{} does not find libnvrtc-builtins, which belongs beside {}{}",
        version.0,
        version.1,
        beside.display(),
        behind(log)
    )]
    NoBuiltins {
        /// NVRTC's version.
        version: (i32, i32),
        /// NVRTC's library; a bare file name was found by the loader.
        beside: PathBuf,
        /// NVRTC's messages, which name the file.
        log: String,
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
    /// NVRTC says that it compiled the program but does not hand out the code.
    #[error("{name}: NVRTC gave no {kind}")]
    NoCode {
        /// The program's name.
        name: String,
        /// What was asked for: `PTX` or `machine code`.
        kind: &'static str,
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

/// A place where a library was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The file; a bare file name was looked up by the loader.
    pub path: PathBuf,
    /// The loader's reason where the file is there.
    pub why: Option<String>,
}

/// What NVRTC answers, with its messages where there are any.
pub(crate) fn refusal(code: i32, log: &str) -> String {
    match log.is_empty() {
        true => format!("NVRTC error {code}"),
        false => format!("NVRTC error {code}\n{log}"),
    }
}

fn behind(log: &str) -> String {
    match log.is_empty() {
        true => String::new(),
        false => format!(" ({log})"),
    }
}

/// The places that were tried, for a message.
pub fn attempts(tried: &[Attempt]) -> String {
    let tried: Vec<String> = tried
        .iter()
        .map(|Attempt { path, why }| match why {
            Some(why) => format!("{}, which does not load: {why}", path.display()),
            None => path.display().to_string(),
        })
        .collect();
    tried.join(", ")
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(", ")
}
