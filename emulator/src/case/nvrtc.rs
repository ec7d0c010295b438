//! CUDA C++ to PTX for the emulated device, with line information and CUDA's headers.

use std::path::Path;

use medfusion_toolkit::nvrtc::shared;
use medfusion_toolkit::{Source, ToolkitError, find};

/// Where NVRTC was loaded from.
///
/// # Errors
/// Says where it was looked for and how to get it.
pub fn path() -> Result<&'static Path, String> {
    shared().map(|nvrtc| nvrtc.path()).map_err(with_remedy)
}

/// Compiles a source for compute capability 8.6 with line information; CUDA's headers are on the path if installed.
///
/// # Errors
/// Where NVRTC is missing, or the compiler's messages.
pub fn compile(text: &str, name: &str, options: &[String]) -> Result<String, String> {
    let mut all = vec![
        "--gpu-architecture=compute_86".to_owned(),
        "--generate-line-info".to_owned(),
    ];
    for folder in find::include_folders() {
        all.push(format!("--include-path={}", folder.display()));
    }
    all.extend_from_slice(options);
    let source = Source {
        name,
        text,
        headers: &[],
        options: &all,
    };
    shared()
        .and_then(|nvrtc| nvrtc.compile(&source))
        .map_err(with_remedy)
}

fn with_remedy(error: ToolkitError) -> String {
    match error {
        ToolkitError::NvrtcMissing { .. } => {
            format!("{error}: run `cargo xtask setup`, or name the library in MEDFUSION_NVRTC")
        }
        error => error.to_string(),
    }
}
