//! A program of `kernels/` to PTX or machine code: its text and options, handed to NVRTC.

use medfusion_toolkit::{Nvrtc, Source, ToolkitError};

use super::code::Code;
use super::error::CudaError;
use crate::kernel::cuda::launch::{LAYOUT_ASSERTS, Program, source, sources};

/// Major release of NVRTC from which on the kernels compile.
const LEAST_MAJOR: i32 = 12;

/// NVRTC, loaded at the first call.
///
/// # Errors
/// Says where it was looked for and how to get it, or that it is too old.
pub(super) fn nvrtc() -> Result<&'static Nvrtc, CudaError> {
    let nvrtc = medfusion_toolkit::nvrtc::shared().map_err(|error| CudaError::NoNvrtc {
        tried: match error {
            ToolkitError::NvrtcMissing { tried } => {
                format!("tried {}", medfusion_toolkit::attempts(&tried))
            }
            other => other.to_string(),
        },
    })?;
    let (major, minor) = nvrtc.version();
    match major < LEAST_MAJOR {
        true => Err(CudaError::OldNvrtc {
            major,
            minor,
            path: nvrtc.path().to_owned(),
        }),
        false => Ok(nvrtc),
    }
}

/// Whether NVRTC is there and whole, so that programs can be compiled to `code`: it compiles a tiny one.
///
/// # Errors
/// What is missing.
pub(super) fn ready(code: Code) -> Result<(), CudaError> {
    let nvrtc = nvrtc()?;
    let source = Source {
        name: "ready.cu",
        text: "extern \"C\" __global__ void ready() {}",
        headers: &[],
        options: &[code.architecture()],
    };
    compiled_by(nvrtc, &source, code, "ready.cu").map(drop)
}

fn compiled_by(
    nvrtc: &Nvrtc,
    source: &Source<'_>,
    code: Code,
    program: &str,
) -> Result<Vec<u8>, CudaError> {
    let bytes = match code {
        Code::Cubin(_) => nvrtc.compile_to_machine_code(source),
        Code::Ptx(_) => nvrtc.compile(source).map(String::into_bytes),
    };
    bytes.map_err(|error| match error {
        ToolkitError::NoBuiltins { .. } => CudaError::NoBuiltins {
            missing: error.to_string(),
        },
        error => CudaError::Compile {
            program: program.to_owned(),
            log: error.to_string(),
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

/// The compiler's options.
pub(super) fn options(program: &Program, code: Code) -> Vec<String> {
    let mut options = vec![
        code.architecture(),
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

/// Compiles a program of `kernels/` to `code`.
///
/// # Errors
/// Where NVRTC is missing or too old, or the compiler's messages.
pub(super) fn compile(program: &Program, code: Code) -> Result<Vec<u8>, CudaError> {
    let nvrtc = nvrtc()?;
    let text = program_text(program).ok_or_else(|| CudaError::Compile {
        program: program.to_string(),
        log: format!("there is no kernels/{}", program.file),
    })?;
    let headers: Vec<(&str, &str)> = sources()
        .iter()
        .filter(|(name, _)| name.ends_with(".cuh"))
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    let options = options(program, code);
    let source = Source {
        name: &format!("kernels/{}", program.file),
        text: &text,
        headers: &headers,
        options: &options,
    };
    compiled_by(nvrtc, &source, code, &program.to_string())
}
