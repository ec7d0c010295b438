//! `cargo xtask setup`: the CUDA compiler pieces that need no GPU, from PyPI into `target/nvrtc`.
//!
//! What lands there: NVRTC, ptxas, the CUDA headers (runtime and CCCL), nvdisasm and cuobjdump. A stamp file with the
//! exact versions makes a second run free; a changed pin or an interrupted install starts from an empty folder.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::test::target_folder;

/// Exact versions: PTX text and register counts change between releases, and tests compare them.
/// The two disassemblers exist on PyPI only from CUDA 13 on; they read sm_86 code of either release.
const PACKAGES: [(&str, &str); 6] = [
    ("nvidia-cuda-nvrtc-cu12", "12.9.86"),
    ("nvidia-cuda-nvcc-cu12", "12.9.86"),
    ("nvidia-cuda-runtime-cu12", "12.9.79"),
    ("nvidia-cuda-cccl-cu12", "12.9.27"),
    ("nvidia-cuda-nvdisasm", "13.2.78"),
    ("nvidia-cuda-cuobjdump", "13.2.78"),
];

/// One file of each package, relative to the install folder: present means that the package was unpacked for this platform.
const EXPECTED: [&str; 6] = [
    "nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
    "nvidia/cuda_nvcc/bin/ptxas",
    "nvidia/cuda_runtime/include/cuda_fp16.h",
    "nvidia/cuda_cccl/include/cub/cub.cuh",
    "nvidia/cu13/bin/nvdisasm",
    "nvidia/cu13/bin/cuobjdump",
];

const STAMP: &str = "installed-versions.txt";

/// Options of `cargo xtask setup`.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Install again even if the pinned versions are there
    #[arg(long)]
    force: bool,
    /// Where to install instead of nvrtc under the target folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Installs the pinned packages if they are not there yet and prints where they are.
///
/// # Errors
/// Says which step failed (no Python, no pip, no network, a file missing afterwards) and what to do about it.
pub fn run(args: &Args) -> Result<(), String> {
    let dir = args.dir.clone().unwrap_or_else(default_dir);
    let wanted = stamp_text();
    if !args.force && is_current(&dir, &wanted) {
        println!("{} is up to date", dir.display());
        return Ok(());
    }
    let python = find_python()?;
    if dir.exists() {
        fs::remove_dir_all(&dir).map_err(|e| {
            format!(
                "could not clear the old install {}: {e}; remove it by hand",
                dir.display()
            )
        })?;
    }
    fs::create_dir_all(&dir).map_err(|e| format!("could not create {}: {e}", dir.display()))?;
    println!("installing into {}:", dir.display());
    for (name, version) in PACKAGES {
        println!("  {name} {version}");
    }
    install(&python, &dir)?;
    for file in EXPECTED {
        if !dir.join(file).is_file() {
            return Err(format!(
                "pip succeeded but {} is missing: the wheels hold no such file for this platform \
                 (expected Linux on x86-64 or aarch64)",
                dir.join(file).display()
            ));
        }
    }
    // Written last: an interrupted install has no stamp and is done again.
    fs::write(dir.join(STAMP), wanted)
        .map_err(|e| format!("could not write {}: {e}", dir.join(STAMP).display()))?;
    println!(
        "done: NVRTC, ptxas, headers and disassemblers are in {}",
        dir.display()
    );
    Ok(())
}

/// `$CARGO_TARGET_DIR/nvrtc`, else `target/nvrtc` of this workspace.
fn default_dir() -> PathBuf {
    target_folder().join("nvrtc")
}

fn stamp_text() -> String {
    PACKAGES
        .iter()
        .map(|(name, version)| format!("{name}=={version}\n"))
        .collect()
}

fn is_current(dir: &Path, wanted: &str) -> bool {
    fs::read_to_string(dir.join(STAMP)).is_ok_and(|found| found == wanted)
        && EXPECTED.iter().all(|file| dir.join(file).is_file())
}

/// The first Python 3 that can run pip. `--target` installs are exempt from PEP 668, so a system Python will do.
pub fn find_python() -> Result<String, String> {
    let mut without_pip = Vec::new();
    for python in ["python3", "python"] {
        let version = Command::new(python)
            .args(["-c", "import sys; print(sys.version_info[0])"])
            .stdin(Stdio::null())
            .output();
        match version {
            Ok(out) if out.status.success() && out.stdout.starts_with(b"3") => {}
            _ => continue,
        }
        let pip = Command::new(python)
            .args(["-m", "pip", "--version"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if pip.is_ok_and(|s| s.success()) {
            return Ok(python.to_string());
        }
        without_pip.push(python);
    }
    Err(match without_pip.first() {
        Some(python) => format!(
            "`{python} -m pip` does not run: install pip (Debian and Ubuntu: `apt-get install python3-pip`) and try again"
        ),
        None => "no Python 3 on the PATH: install it with pip (Debian and Ubuntu: `apt-get install python3-pip`) \
                 and try again"
            .to_string(),
    })
}

fn install(python: &str, dir: &Path) -> Result<(), String> {
    let status = Command::new(python)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
        ])
        // The wheels are complete without each other, and nothing is to be built from source.
        .args([
            "--no-deps",
            "--only-binary",
            ":all:",
            "--no-compile",
            "--retries",
            "5",
        ])
        .arg("--target")
        .arg(dir)
        .args(
            PACKAGES
                .iter()
                .map(|(name, version)| format!("{name}=={version}")),
        )
        // Exported variables such as PIP_USER=1 contradict --target.
        .env_remove("PIP_USER")
        .env_remove("PIP_TARGET")
        .env("PIP_ROOT_USER_ACTION", "ignore")
        .stdin(Stdio::null())
        .status()
        .map_err(|e| match e.kind() {
            ErrorKind::NotFound => format!("{python} vanished from the PATH"),
            _ => format!("could not start {python}: {e}"),
        })?;
    if status.success() {
        return Ok(());
    }
    Err(format!(
        "pip failed ({status}); its own message is above. Check that the package index is reachable \
         (`{python} -m pip download --no-deps {}=={}`), then run `cargo xtask setup` again",
        PACKAGES[0].0, PACKAGES[0].1
    ))
}
