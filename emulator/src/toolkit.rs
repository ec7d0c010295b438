//! Finding NVIDIA's compiler pieces on this machine: NVRTC, its headers and ptxas. None of them needs a GPU.
//!
//! The order is `MEDFUSION_NVRTC`, `CUDA_PATH`, `CUDA_HOME`, the loader's path, and the folder `target/nvrtc` that
//! `cargo xtask setup` fills, seen from the executable or the working directory upwards.

use std::collections::BTreeMap;
use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;

/// Library names that NVRTC goes by.
const NVRTC_NAMES: [&str; 3] = ["libnvrtc.so.12", "libnvrtc.so.13", "libnvrtc.so"];

/// What ptxas allots to a kernel on sm_86.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Assembled {
    /// Registers per thread.
    pub registers: u32,
    /// Bytes stored to the stack for want of registers, in the code.
    pub spill_store_bytes: u32,
    /// Bytes loaded back, in the code.
    pub spill_load_bytes: u32,
    /// Stack bytes per thread.
    pub stack_bytes: u32,
    /// Static shared memory in bytes.
    pub shared_bytes: u32,
}

/// Folders that may be `target/nvrtc`: beside or above the executable and the working directory.
fn wheel_folders() -> Vec<PathBuf> {
    let starts = [env::current_exe().ok(), env::current_dir().ok()];
    starts
        .iter()
        .flatten()
        .flat_map(|start| start.ancestors())
        .flat_map(|folder| [folder.join("nvrtc"), folder.join("target").join("nvrtc")])
        .filter(|folder| folder.join("nvidia").is_dir())
        .collect()
}

fn toolkit_folders() -> Vec<PathBuf> {
    ["CUDA_PATH", "CUDA_HOME"]
        .iter()
        .filter_map(env::var_os)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .collect()
}

/// Where NVRTC may be, in the order to be tried; a bare name is the loader's to find.
pub fn nvrtc_candidates() -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let Some(named) = env::var_os("MEDFUSION_NVRTC").filter(|value| !value.is_empty()) {
        let named = PathBuf::from(named);
        if named.is_dir() {
            found.extend(NVRTC_NAMES.iter().map(|name| named.join(name)));
            found.extend(NVRTC_NAMES.iter().map(|name| named.join("lib").join(name)));
        } else {
            found.push(named);
        }
    }
    for folder in toolkit_folders() {
        for library in ["lib64", "lib", "targets/x86_64-linux/lib"] {
            found.extend(
                NVRTC_NAMES
                    .iter()
                    .map(|name| folder.join(library).join(name)),
            );
        }
    }
    found.retain(|path| path.is_file());
    found.extend(NVRTC_NAMES.iter().map(PathBuf::from));
    for folder in wheel_folders() {
        found.extend(
            NVRTC_NAMES
                .iter()
                .map(|name| folder.join("nvidia/cuda_nvrtc/lib").join(name))
                .filter(|path| path.is_file()),
        );
    }
    found
}

/// Folders of CUDA's headers that exist here, in the order of search.
pub fn include_folders() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = toolkit_folders()
        .iter()
        .flat_map(|folder| [folder.join("include"), folder.join("include/cccl")])
        .collect();
    for folder in wheel_folders() {
        for package in ["cuda_runtime", "cuda_cccl", "cuda_nvcc"] {
            found.push(folder.join("nvidia").join(package).join("include"));
        }
    }
    found.retain(|folder| folder.is_dir());
    found.dedup();
    found
}

/// The assembler, if one is installed.
pub fn ptxas() -> Option<PathBuf> {
    let mut candidates: Vec<PathBuf> = toolkit_folders()
        .iter()
        .map(|f| f.join("bin/ptxas"))
        .collect();
    if let Some(path) = env::var_os("PATH") {
        candidates.extend(env::split_paths(&path).map(|folder| folder.join("ptxas")));
    }
    candidates.extend(
        wheel_folders()
            .iter()
            .map(|f| f.join("nvidia/cuda_nvcc/bin/ptxas")),
    );
    candidates.into_iter().find(|path| path.is_file())
}

/// Asks ptxas what it allots to each kernel of a PTX text on sm_86. `None` where it is not installed or refuses.
pub fn assemble(ptx: &str) -> Option<BTreeMap<String, Assembled>> {
    run_ptxas(&ptxas()?, ptx).map(|report| parse_report(&report))
}

fn run_ptxas(ptxas: &Path, ptx: &str) -> Option<String> {
    let mut child = Command::new(ptxas)
        .args(["-v", "-arch=sm_86", "-o", "/dev/null", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    // ptxas reads all of its input before it writes, so the pipes cannot block each other.
    child.stdin.take()?.write_all(ptx.as_bytes()).ok()?;
    let output = child.wait_with_output().ok()?;
    if !output.status.success() {
        return None;
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text += &String::from_utf8_lossy(&output.stderr);
    Some(text)
}

/// Reads the lines of `ptxas -v`: which entry, its stack and spills, its registers and shared memory.
fn parse_report(report: &str) -> BTreeMap<String, Assembled> {
    let mut kernels = BTreeMap::new();
    let mut current: Option<(String, Assembled)> = None;
    for line in report.lines() {
        if let Some(rest) = line.split("entry function '").nth(1) {
            kernels.extend(current.take());
            let name = rest.split('\'').next().unwrap_or_default().to_string();
            current = Some((name, Assembled::default()));
        } else if let Some((_, kernel)) = &mut current {
            for part in line.split([',', ':']) {
                let words: Vec<&str> = part.split_whitespace().collect();
                let (number, what) = match words.as_slice() {
                    ["Used", number, rest @ ..] => (number, rest.join(" ")),
                    [number, rest @ ..] => (number, rest.join(" ")),
                    [] => continue,
                };
                let Ok(number) = number.parse() else { continue };
                match what.as_str() {
                    "registers" => kernel.registers = number,
                    "bytes stack frame" => kernel.stack_bytes = number,
                    "bytes spill stores" => kernel.spill_store_bytes = number,
                    "bytes spill loads" => kernel.spill_load_bytes = number,
                    "bytes smem" => kernel.shared_bytes = number,
                    _ => {}
                }
            }
        }
    }
    kernels.extend(current);
    kernels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_report_is_read() {
        let report = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'scale' for 'sm_86'
ptxas info    : Function properties for scale
    16 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 16 bytes cumulative stack size, 2048 bytes smem, 380 bytes cmem[0]
ptxas info    : Compiling entry function 'copy' for 'sm_86'
ptxas info    : Used 8 registers, 372 bytes cmem[0]
";
        let kernels = parse_report(report);
        assert_eq!(
            kernels["scale"],
            Assembled {
                registers: 40,
                spill_store_bytes: 12,
                spill_load_bytes: 8,
                stack_bytes: 16,
                shared_bytes: 2048,
            }
        );
        assert_eq!(kernels["copy"].registers, 8);
    }
}
