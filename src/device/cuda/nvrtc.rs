//! A program of `kernels/` to PTX: its text and options, handed to NVRTC.

use medfusion_toolkit::{Nvrtc, Source, ToolkitError};

use super::error::CudaError;
use crate::kernel::cuda::launch::{LAYOUT_ASSERTS, Program, source, sources};

/// NVRTC, loaded at the first call.
///
/// # Errors
/// Says where it was looked for and how to get it.
pub(super) fn nvrtc() -> Result<&'static Nvrtc, CudaError> {
    medfusion_toolkit::nvrtc::shared().map_err(|error| CudaError::NoNvrtc {
        tried: match error {
            ToolkitError::NvrtcMissing { tried } => {
                let tried: Vec<String> = tried.iter().map(|p| p.display().to_string()).collect();
                format!("tried {}", tried.join(", "))
            }
            other => other.to_string(),
        },
    })
}

/// The whole text that is compiled: the file and the assertions on its parameter structs.
pub(super) fn program_text(program: &Program) -> Option<String> {
    let mut text = source(program.file)?.to_owned();
    text.push('\n');
    // A header's structs are asserted where it is included.
    for (file, asserts) in LAYOUT_ASSERTS {
        if *file == program.file || text.contains(&format!("#include \"{file}\"")) {
            text.push_str(asserts);
        }
    }
    Some(text)
}

/// Options for an architecture such as (8, 6).
pub(super) fn options(program: &Program, capability: (u32, u32)) -> Vec<String> {
    let mut options = vec![
        format!(
            "--gpu-architecture=compute_{}{}",
            capability.0, capability.1
        ),
        "--std=c++17".to_owned(),
        "--generate-line-info".to_owned(),
        "--device-as-default-execution-space".to_owned(),
    ];
    options.extend(
        program
            .constants
            .iter()
            .map(|(name, value)| format!("-D{name}={value}")),
    );
    options
}

/// Compiles a program of `kernels/` for an architecture.
///
/// # Errors
/// Where NVRTC is missing or too old, or the compiler's messages.
pub(super) fn compile(program: &Program, capability: (u32, u32)) -> Result<String, CudaError> {
    let nvrtc = nvrtc()?;
    let (major, minor) = nvrtc.version();
    if major < 12 {
        return Err(CudaError::OldNvrtc {
            major,
            minor,
            path: nvrtc.path().to_owned(),
            capability: format!("{}.{}", capability.0, capability.1),
        });
    }
    let refused = |log: String| CudaError::Compile {
        program: program.to_string(),
        log,
    };
    let text = program_text(program)
        .ok_or_else(|| refused(format!("there is no kernels/{}", program.file)))?;
    let headers: Vec<(&str, &str)> = sources()
        .iter()
        .filter(|(name, _)| name.ends_with(".cuh"))
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    let options = options(program, capability);
    let source = Source {
        name: &format!("kernels/{}", program.file),
        text: &text,
        headers: &headers,
        options: &options,
    };
    nvrtc
        .compile(&source)
        .map_err(|error| refused(error.to_string()))
}
