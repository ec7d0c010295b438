//! Where NVIDIA's compiler pieces are.
//!
//! The order is `MEDFUSION_NVRTC` (NVRTC only), `CUDA_PATH`, `CUDA_HOME`, the loader's path or `PATH`, and the folder
//! `target/nvrtc` that `cargo xtask setup` fills from PyPI, seen from the executable and the working directory upwards.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::ToolkitError;

/// Library names that NVRTC goes by, in the order of preference.
const NVRTC_NAMES: [&str; 3] = ["libnvrtc.so.12", "libnvrtc.so.13", "libnvrtc.so"];

/// Folders of a toolkit that may hold its libraries.
const LIBRARY_FOLDERS: [&str; 3] = ["lib64", "lib", "targets/x86_64-linux/lib"];

/// What the search depends on: the environment's variables and where to look upwards from.
struct Surroundings {
    /// The library or folder that `MEDFUSION_NVRTC` names.
    named: Option<PathBuf>,
    /// Folders of installed CUDA toolkits.
    toolkits: Vec<PathBuf>,
    /// The folders of `PATH`.
    path: Vec<PathBuf>,
    /// Folders that NVIDIA's wheels were unpacked into.
    wheels: Vec<PathBuf>,
}

impl Surroundings {
    fn of_this_process() -> Self {
        let starts = [env::current_exe().ok(), env::current_dir().ok()];
        let starts: Vec<PathBuf> = starts.into_iter().flatten().collect();
        Self::of(|name| env::var_os(name), &starts)
    }

    fn of(variable: impl Fn(&str) -> Option<OsString>, starts: &[PathBuf]) -> Self {
        let folder = |name: &str| {
            variable(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        Self {
            named: folder("MEDFUSION_NVRTC"),
            toolkits: ["CUDA_PATH", "CUDA_HOME"]
                .into_iter()
                .filter_map(folder)
                .collect(),
            path: variable("PATH")
                .map(|path| env::split_paths(&path).collect())
                .unwrap_or_default(),
            wheels: starts
                .iter()
                .flat_map(|start| start.ancestors())
                .flat_map(|folder| [folder.join("nvrtc"), folder.join("target/nvrtc")])
                .filter(|folder| folder.join("nvidia").is_dir())
                .collect(),
        }
    }

    fn nvrtc(&self) -> Vec<PathBuf> {
        let in_folder = |folder: &Path| NVRTC_NAMES.map(|name| folder.join(name));
        let mut found = Vec::new();
        if let Some(named) = &self.named {
            if !named.is_dir() {
                // What the user names is taken or refused, never passed over.
                return vec![named.clone()];
            }
            found.extend(in_folder(named));
            found.extend(in_folder(&named.join("lib")));
        }
        for toolkit in &self.toolkits {
            for libraries in LIBRARY_FOLDERS {
                found.extend(in_folder(&toolkit.join(libraries)));
            }
        }
        found.retain(|path| path.is_file());
        found.extend(NVRTC_NAMES.map(PathBuf::from));
        for wheels in &self.wheels {
            let libraries = in_folder(&wheels.join("nvidia/cuda_nvrtc/lib"));
            found.extend(libraries.into_iter().filter(|path| path.is_file()));
        }
        found
    }

    fn include_folders(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = self
            .toolkits
            .iter()
            .flat_map(|folder| [folder.join("include"), folder.join("include/cccl")])
            .collect();
        for wheels in &self.wheels {
            for package in ["cuda_runtime", "cuda_cccl", "cuda_nvcc"] {
                found.push(wheels.join("nvidia").join(package).join("include"));
            }
        }
        found.retain(|folder| folder.is_dir());
        found.dedup();
        found
    }

    /// The program `tool`, which lies in `nvidia/<package>/bin` of the wheels.
    fn tool(&self, tool: &'static str, package: &str) -> Result<PathBuf, ToolkitError> {
        let toolkits = self.toolkits.iter().map(|folder| folder.join("bin"));
        let wheels = self
            .wheels
            .iter()
            .map(|folder| folder.join("nvidia").join(package).join("bin"));
        let tried: Vec<PathBuf> = toolkits
            .chain(self.path.iter().cloned())
            .chain(wheels)
            .map(|folder| folder.join(tool))
            .collect();
        match tried.iter().find(|path| path.is_file()) {
            Some(path) => Ok(path.clone()),
            None => Err(ToolkitError::ToolMissing { tool, tried }),
        }
    }
}

/// Where NVRTC's library may be, in the order to be tried; a bare file name is the loader's to find. A file that
/// `MEDFUSION_NVRTC` names is the only candidate.
pub fn nvrtc_candidates() -> Vec<PathBuf> {
    Surroundings::of_this_process().nvrtc()
}

/// Folders of CUDA's headers that exist here (runtime, CCCL), in the order of search.
pub fn include_folders() -> Vec<PathBuf> {
    Surroundings::of_this_process().include_folders()
}

/// The assembler of PTX.
///
/// # Errors
/// [`ToolkitError::ToolMissing`] with the places that were tried.
pub fn ptxas() -> Result<PathBuf, ToolkitError> {
    Surroundings::of_this_process().tool("ptxas", "cuda_nvcc")
}

/// The disassembler of machine code that knows control flow and registers.
///
/// # Errors
/// [`ToolkitError::ToolMissing`] with the places that were tried.
pub fn nvdisasm() -> Result<PathBuf, ToolkitError> {
    Surroundings::of_this_process().tool("nvdisasm", "cu13")
}

/// The program that takes machine code out of binaries and fat binaries.
///
/// # Errors
/// [`ToolkitError::ToolMissing`] with the places that were tried.
pub fn cuobjdump() -> Result<PathBuf, ToolkitError> {
    Surroundings::of_this_process().tool("cuobjdump", "cu13")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, "").expect("written");
    }

    #[test]
    fn a_named_library_is_taken_or_refused() {
        let found = Surroundings::of(
            |name| (name == "MEDFUSION_NVRTC").then(|| "/nowhere/libnvrtc.so.12".into()),
            &[],
        );
        assert_eq!(found.nvrtc(), [PathBuf::from("/nowhere/libnvrtc.so.12")]);
    }

    #[test]
    fn places_come_in_their_order() {
        let root = tempfile::tempdir().expect("a folder");
        let (toolkit, work) = (root.path().join("cuda"), root.path().join("a/b"));
        let wheels = root.path().join("a/target/nvrtc/nvidia");
        touch(&toolkit.join("lib64/libnvrtc.so.13"));
        touch(&toolkit.join("include/cuda.h"));
        touch(&wheels.join("cuda_nvrtc/lib/libnvrtc.so.12"));
        touch(&wheels.join("cuda_runtime/include/cuda_fp16.h"));
        touch(&wheels.join("cuda_nvcc/bin/ptxas"));
        touch(&wheels.join("cu13/bin/nvdisasm"));
        touch(&root.path().join("path/nvdisasm"));
        fs::create_dir_all(&work).expect("made");
        let found = Surroundings::of(
            |name| match name {
                "CUDA_HOME" => Some(toolkit.clone().into()),
                "CUDA_PATH" => Some("".into()),
                "PATH" => Some(root.path().join("path").into()),
                _ => None,
            },
            &[work],
        );
        assert_eq!(
            found.nvrtc(),
            [
                toolkit.join("lib64/libnvrtc.so.13"),
                "libnvrtc.so.12".into(),
                "libnvrtc.so.13".into(),
                "libnvrtc.so".into(),
                wheels.join("cuda_nvrtc/lib/libnvrtc.so.12"),
            ]
        );
        assert_eq!(
            found.include_folders(),
            [toolkit.join("include"), wheels.join("cuda_runtime/include")]
        );
        assert_eq!(
            found.tool("ptxas", "cuda_nvcc"),
            Ok(wheels.join("cuda_nvcc/bin/ptxas"))
        );
        assert_eq!(
            found.tool("nvdisasm", "cu13"),
            Ok(root.path().join("path/nvdisasm")),
            "PATH comes before the wheels"
        );
        assert_eq!(
            found.tool("cuobjdump", "cu13"),
            Err(ToolkitError::ToolMissing {
                tool: "cuobjdump",
                tried: vec![
                    toolkit.join("bin/cuobjdump"),
                    root.path().join("path/cuobjdump"),
                    wheels.join("cu13/bin/cuobjdump"),
                ],
            })
        );
    }
}
