//! What this machine has for CUDA, what is missing, and the command that gets it.

use super::context::Context;
use super::driver::{Driver, emulator_library};
use super::{cache, nvrtc};
use crate::bytes::gib;

/// One line of `medfusion doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked for.
    pub subject: &'static str,
    /// What was found, or what is missing and how to get it.
    pub text: String,
    /// Whether it is there.
    pub found: bool,
}

/// Looks for a driver and GPU, NVRTC, the kernel cache and the emulator. Nothing is compiled or run.
pub fn diagnose() -> Vec<Finding> {
    let finding = |subject, result: Result<String, String>| Finding {
        subject,
        found: result.is_ok(),
        text: result.unwrap_or_else(|missing| missing),
    };
    vec![
        finding("CUDA GPU", gpu()),
        finding(
            "NVRTC",
            nvrtc::nvrtc()
                .map(|nvrtc| {
                    let (major, minor) = nvrtc.version();
                    format!("{major}.{minor} at {}", nvrtc.path().display())
                })
                .map_err(|error| error.to_string()),
        ),
        finding("kernel cache", cache::state()),
        finding(
            "emulated GPU",
            emulator_library()
                .map(|path| path.display().to_string())
                .map_err(|error| error.to_string()),
        ),
    ]
}

fn gpu() -> Result<String, String> {
    let context = Context::open(Driver::Nvidia, 0).map_err(|error| error.to_string())?;
    let (major, minor) = context.target().capability;
    let (free, total) = context.memory_info().map_err(|error| error.to_string())?;
    Ok(format!(
        "{}, compute capability {major}.{minor}, {:.1} of {:.1} GiB free",
        context.name(),
        gib(free),
        gib(total)
    ))
}
