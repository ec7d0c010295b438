//! What this machine has for CUDA, what is missing, and the command that gets it.

use super::code::Code;
use super::context::Context;
use super::driver::{Driver, emulator_library};
use super::error::CudaError;
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

/// Looks for a driver and GPU, NVRTC, the kernel cache and the emulator. A tiny program is
/// compiled, to see that NVRTC is whole; nothing is run.
pub fn diagnose() -> Vec<Finding> {
    let finding = |subject, result: Result<String, String>| Finding {
        subject,
        found: result.is_ok(),
        text: result.unwrap_or_else(|missing| missing),
    };
    let gpu = Context::open(Driver::Nvidia, 0);
    let mut findings = vec![finding("CUDA GPU", about(&gpu))];
    if let Ok(context) = &gpu {
        findings.push(finding("kernels", kernels(context)));
    }
    findings.extend([
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
    ]);
    findings
}

fn about(gpu: &Result<Context, CudaError>) -> Result<String, String> {
    let context = gpu.as_ref().map_err(ToString::to_string)?;
    let (free, total) = context.memory_info().map_err(|error| error.to_string())?;
    let (driver_major, driver_minor) = context
        .driver_version()
        .map_err(|error| error.to_string())?;
    let (major, minor) = context.target().capability;
    Ok(format!(
        "{}, compute capability {major}.{minor}, {:.1} of {:.1} GiB free, driver of CUDA {driver_major}.{driver_minor}",
        context.name(),
        gib(free),
        gib(total)
    ))
}

/// What NVRTC compiles the kernels to for this GPU and driver.
fn kernels(context: &Context) -> Result<String, String> {
    let attempts = context.attempts().map_err(|error| error.to_string())?;
    nvrtc::ready(attempts[0]).map_err(|error| error.to_string())?;
    let version = nvrtc::nvrtc().map_err(|error| error.to_string())?.version();
    let driver = context
        .driver_version()
        .map_err(|error| error.to_string())?;
    Ok(consequence(&attempts, driver, version))
}

/// What follows from the releases of the driver and of NVRTC.
fn consequence(attempts: &[Code], driver: (i32, i32), nvrtc: (i32, i32)) -> String {
    let order: Vec<String> = attempts.iter().map(ToString::to_string).collect();
    let order = order.join(", else ");
    let newer = nvrtc > driver;
    let note = match attempts[0] {
        Code::Cubin(_) if nvrtc.0 > driver.0 => {
            "; the driver may take neither, for NVRTC is of a newer major release"
        }
        Code::Cubin(_) if newer => "; PTX of this NVRTC is newer than the driver takes",
        Code::Ptx(_) if newer => {
            "; the driver may refuse it, for NVRTC is newer: name one of the driver's release in MEDFUSION_NVRTC"
        }
        _ => "",
    };
    format!("{order}{note}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_releases_decide_what_is_said_of_the_kernels() {
        let both = [Code::Cubin((8, 6)), Code::Ptx((8, 6))];
        let said = |driver, nvrtc| consequence(&both, driver, nvrtc);
        let order = "machine code for sm_86, else PTX for compute_86";
        assert_eq!(said((12, 9), (12, 9)), order);
        assert_eq!(said((13, 0), (12, 9)), order);
        let newer = said((12, 2), (12, 9));
        assert!(
            newer.starts_with(order) && newer.contains("PTX of this NVRTC is newer"),
            "{newer}"
        );
        let major = said((12, 2), (13, 0));
        assert!(major.contains("may take neither"), "{major}");
        let unknown = consequence(&[Code::Ptx((9, 0))], (12, 8), (12, 9));
        assert!(unknown.contains("MEDFUSION_NVRTC"), "{unknown}");
    }
}
