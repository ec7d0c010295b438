//! Where NVIDIA's compiler pieces are.
//!
//! The order is `MEDFUSION_NVRTC` (NVRTC only), `CUDA_PATH`, `CUDA_HOME`, the loader's path or `PATH`, the folder
//! `target/nvrtc` that `cargo xtask setup` fills from PyPI, seen from the executable and the working directory upwards,
//! the Python packages of the active environment (`VIRTUAL_ENV`, `CONDA_PREFIX`), of the user and of the system, where
//! PyTorch brings these libraries along, and `/usr/local/cuda`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::ToolkitError;

/// Library names that NVRTC goes by, in the order of preference.
const NVRTC_NAMES: [&str; 3] = ["libnvrtc.so.12", "libnvrtc.so.13", "libnvrtc.so"];

/// Folders of a wheel's `nvidia` that hold NVRTC: of CUDA 12, and of CUDA 13, whose wheels share one folder.
const NVRTC_PACKAGES: [&str; 2] = ["cuda_nvrtc", "cu13"];

/// Folders of a wheel's `nvidia` whose `include` holds CUDA's headers.
const HEADER_PACKAGES: [&str; 4] = ["cuda_runtime", "cuda_cccl", "cuda_nvcc", "cu13"];

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
    /// Where a toolkit is installed though no variable names it.
    usual: Vec<PathBuf>,
}

impl Surroundings {
    fn of_this_process() -> Self {
        let starts = [env::current_exe().ok(), env::current_dir().ok()];
        let starts: Vec<PathBuf> = starts.into_iter().flatten().collect();
        let mut here = Self::of(|name| env::var_os(name), &starts);
        let system = ["/usr/local", "/usr"].map(PathBuf::from);
        here.wheels
            .extend(system.iter().flat_map(|prefix| python_packages(prefix)));
        here.usual = vec![PathBuf::from("/usr/local/cuda")];
        here
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
                .chain(
                    [
                        folder("VIRTUAL_ENV"),
                        folder("CONDA_PREFIX"),
                        folder("HOME").map(|home| home.join(".local")),
                    ]
                    .into_iter()
                    .flatten()
                    .flat_map(|prefix| python_packages(&prefix)),
                )
                .collect(),
            usual: Vec::new(),
        }
    }

    fn all_toolkits(&self) -> impl Iterator<Item = &PathBuf> {
        self.toolkits.iter().chain(&self.usual)
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
        let wheels = self.wheels.iter().flat_map(|wheels| {
            NVRTC_PACKAGES.map(|package| wheels.join("nvidia").join(package).join("lib"))
        });
        let usual = self
            .usual
            .iter()
            .flat_map(|toolkit| LIBRARY_FOLDERS.map(|libraries| toolkit.join(libraries)));
        found.extend(
            wheels
                .chain(usual)
                .flat_map(|folder| in_folder(&folder))
                .filter(|path| path.is_file()),
        );
        found
    }

    fn include_folders(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = self
            .all_toolkits()
            .flat_map(|folder| [folder.join("include"), folder.join("include/cccl")])
            .collect();
        for wheels in &self.wheels {
            for package in HEADER_PACKAGES {
                found.push(wheels.join("nvidia").join(package).join("include"));
            }
        }
        found.retain(|folder| folder.is_dir());
        found.dedup();
        found
    }

    /// The program `tool`, which lies in `nvidia/<package>/bin` of the wheels.
    fn tool(&self, tool: &'static str, packages: &[&str]) -> Result<PathBuf, ToolkitError> {
        let toolkits = self.all_toolkits().map(|folder| folder.join("bin"));
        let wheels = self.wheels.iter().flat_map(|folder| {
            packages
                .iter()
                .map(|package| folder.join("nvidia").join(package).join("bin"))
        });
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

/// Folders of Python packages below `prefix` that hold some of NVIDIA's.
fn python_packages(prefix: &Path) -> Vec<PathBuf> {
    let Ok(versions) = fs::read_dir(prefix.join("lib")) else {
        return Vec::new();
    };
    let mut versions: Vec<PathBuf> = versions
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("python3"))
        })
        .collect();
    versions.sort();
    versions
        .iter()
        .flat_map(|version| ["site-packages", "dist-packages"].map(|name| version.join(name)))
        .filter(|packages| packages.join("nvidia").is_dir())
        .collect()
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
    Surroundings::of_this_process().tool("ptxas", &["cuda_nvcc", "cu13"])
}

/// The disassembler of machine code that knows control flow and registers.
///
/// # Errors
/// [`ToolkitError::ToolMissing`] with the places that were tried.
pub fn nvdisasm() -> Result<PathBuf, ToolkitError> {
    Surroundings::of_this_process().tool("nvdisasm", &["cu13"])
}

/// The program that takes machine code out of binaries and fat binaries.
///
/// # Errors
/// [`ToolkitError::ToolMissing`] with the places that were tried.
pub fn cuobjdump() -> Result<PathBuf, ToolkitError> {
    Surroundings::of_this_process().tool("cuobjdump", &["cu13"])
}

#[cfg(test)]
mod tests {
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

    /// The wheels of CUDA 13 share one folder, wherever they are installed.
    #[test]
    fn the_wheels_of_cuda_13_are_found_in_a_python_environment() {
        let root = tempfile::tempdir().expect("a folder");
        let packages = root.path().join("lib/python3.13/site-packages/nvidia/cu13");
        touch(&packages.join("lib/libnvrtc.so.13"));
        touch(&packages.join("include/cuda_fp16.h"));
        touch(&packages.join("bin/ptxas"));
        touch(&root.path().join("lib/python3.12/site-packages/other/file"));
        for variable in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
            let found =
                Surroundings::of(|name| (name == variable).then(|| root.path().into()), &[]);
            assert_eq!(
                found.nvrtc().last(),
                Some(&packages.join("lib/libnvrtc.so.13"))
            );
            assert_eq!(found.include_folders(), [packages.join("include")]);
            let ptxas = found.tool("ptxas", &["cuda_nvcc", "cu13"]);
            assert_eq!(ptxas, Ok(packages.join("bin/ptxas")));
        }
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
            found.tool("ptxas", &["cuda_nvcc", "cu13"]),
            Ok(wheels.join("cuda_nvcc/bin/ptxas"))
        );
        assert_eq!(
            found.tool("nvdisasm", &["cu13"]),
            Ok(root.path().join("path/nvdisasm")),
            "PATH comes before the wheels"
        );
        assert_eq!(
            found.tool("cuobjdump", &["cu13"]),
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
