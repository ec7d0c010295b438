//! Drivers, compilers and GPUs of different ages together, as a user meets them: the emulated driver takes the place of
//! NVIDIA's, and a small library before it answers some calls as another driver does (`other_driver.c`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::faults::{emulated, refuses, sample, succeeds};

/// A folder that the loader finds a driver in.
struct Drivers {
    folder: tempfile::TempDir,
    /// Where the program runs.
    work: tempfile::TempDir,
}

impl Drivers {
    /// The emulated driver under the name of NVIDIA's.
    fn emulated() -> Option<Self> {
        if !emulated() {
            return None;
        }
        let emulator = medfusion::device::cuda::diagnose()
            .into_iter()
            .find(|finding| finding.subject == "emulated GPU")
            .map(|finding| PathBuf::from(finding.text))
            .expect("the emulator is there");
        let folder = tempfile::tempdir().expect("a folder");
        let emulator = fs::canonicalize(emulator).expect("a library");
        let link = folder.path().join("libcuda.so.1");
        std::os::unix::fs::symlink(emulator, &link).expect("linked");
        // A driver of this machine must not be found before it.
        std::os::unix::fs::symlink("libcuda.so.1", folder.path().join("libcuda.so"))
            .expect("linked");
        Some(Self {
            folder,
            work: tempfile::tempdir().expect("a folder"),
        })
    }

    /// The same behind `other_driver.c`.
    fn other() -> Option<Self> {
        let drivers = Self::emulated()?;
        let library = drivers.folder.path().join("libcuda.so");
        fs::remove_file(&library).expect("removed");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda/other_driver.c");
        let gcc = |build: &mut Command| -> Option<()> {
            match build.output() {
                Ok(output) => {
                    let said = String::from_utf8_lossy(&output.stderr).into_owned();
                    assert!(output.status.success(), "{said}");
                    Some(())
                }
                Err(error) => {
                    assert!(
                        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                        "CI must not skip this test: {error}"
                    );
                    eprintln!("NOT TESTED: gcc does not run: {error}");
                    None
                }
            }
        };
        // The emulator calls itself libcuda.so, so the library is linked with an empty one of the name that it gets here.
        let empty = drivers.work.path().join("libcuda.so.1");
        gcc(Command::new("gcc")
            .args([
                "-shared",
                "-Wl,-soname,libcuda.so.1",
                "-x",
                "c",
                "/dev/null",
                "-o",
            ])
            .arg(&empty))?;
        gcc(Command::new("gcc")
            .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
            .arg(&library)
            .arg(source)
            .args(["-Wl,--no-as-needed"])
            .arg(&empty)
            .arg("-ldl"))?;
        fs::remove_file(&empty).expect("removed");
        Some(drivers)
    }

    fn sample(&self, variables: &[(&str, &str)], device: &str) -> Output {
        let folder = self.folder.path().to_str().expect("UTF-8");
        let log = self.log();
        let mut all = vec![
            ("LD_LIBRARY_PATH", folder),
            ("OTHER_DRIVER_LOG", log.to_str().expect("UTF-8")),
        ];
        all.extend(variables);
        sample(self.work.path(), &all, &["--device", device])
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("images")
    }

    /// The kinds of images that the driver was given, each once, in their order.
    fn images(&self) -> Vec<String> {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let mut kinds: Vec<String> = text.lines().map(str::to_owned).collect();
        kinds.dedup();
        kinds
    }

    fn refuses(&self, output: &Output, parts: &[&str]) {
        refuses(self.work.path(), output, parts);
    }

    fn succeeds(&self, output: &Output) {
        succeeds(self.work.path(), output);
    }

    /// What `medfusion doctor` says.
    fn doctor(&self, variables: &[(&str, &str)]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_medfusion"))
            .arg("doctor")
            .env("LD_LIBRARY_PATH", self.folder.path())
            .envs(variables.iter().copied())
            .output()
            .expect("the program starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_driver_that_takes_no_machine_code_of_this_compiler_gets_ptx() {
    let Some(drivers) = Drivers::emulated() else {
        return;
    };
    let output = drivers.sample(&[], "cuda");
    drivers.succeeds(&output);
}

#[test]
fn a_driver_older_than_the_compiler_gets_machine_code() {
    let Some(drivers) = Drivers::other() else {
        return;
    };
    let older = [
        ("OTHER_DRIVER_VERSION", "12020"),
        ("OTHER_DRIVER_REFUSES", "ptx"),
    ];
    let output = drivers.sample(&older, "cuda");
    // The other driver takes machine code, but cannot run it.
    assert!(
        said(&output).contains("OPERATING_SYSTEM"),
        "{}",
        said(&output)
    );
    assert_eq!(drivers.images(), ["cubin"]);
    let doctor = drivers.doctor(&older);
    assert!(doctor.contains("driver of CUDA 12.2"), "{doctor}");
    assert!(
        doctor.contains("machine code for sm_86") && doctor.contains("newer than the driver takes"),
        "{doctor}"
    );
}

#[test]
fn a_driver_that_takes_neither_is_named_with_the_compiler() {
    let Some(drivers) = Drivers::emulated() else {
        return;
    };
    let output = drivers.sample(&[("CUDA_EMULATOR_DRIVER_VERSION", "12.2")], "cuda");
    let parts = [
        "CUDA 12.2",
        "NVRTC 12.",
        "machine code for sm_86",
        "PTX for compute_86",
        "UNSUPPORTED_PTX_VERSION",
        "pip install nvidia-cuda-nvrtc-cu12==12.2.*",
    ];
    drivers.refuses(&output, &parts);
}

#[test]
fn a_gpu_newer_than_the_compiler_gets_ptx_of_the_highest_architecture_below() {
    let Some(drivers) = Drivers::other() else {
        return;
    };
    // No NVRTC knows 19.9; 8.8 came with CUDA 13, so the one of CUDA 12 that the tests install ends at 8.7.
    for (capability, target) in [("19.9", "ptx sm_"), ("8.8", "ptx sm_8")] {
        let _ = fs::remove_file(drivers.log());
        let output = drivers.sample(&[("OTHER_DRIVER_CAPABILITY", capability)], "cuda");
        let images = drivers.images();
        assert!(
            images.len() == 1 && images[0].starts_with(target),
            "{capability}: {images:?}\n{}",
            said(&output)
        );
        drivers.succeeds(&output);
        fs::remove_file(drivers.work.path().join("out.png")).expect("removed");
    }
}

#[test]
fn auto_takes_the_cpu_and_says_why() {
    let Some(drivers) = Drivers::other() else {
        return;
    };
    let nowhere = "/nowhere/libnvrtc.so.12";
    let reasons: [(&[(&str, &str)], &str); 3] = [
        (&[("MEDFUSION_NVRTC", nowhere)], nowhere),
        (&[("OTHER_DRIVER_INIT", "999")], "CUDA_ERROR_UNKNOWN"),
        (
            &[("OTHER_DRIVER_CAPABILITY", "7.5")],
            "compute capability 7.5",
        ),
    ];
    for (variables, reason) in reasons {
        let output = drivers.sample(variables, "auto");
        drivers.succeeds(&output);
        let text = said(&output);
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("computing on the CPU"))
            .collect();
        assert!(lines.len() == 1 && lines[0].contains(reason), "{text}");
        assert_eq!(drivers.images(), <[&str; 0]>::default());
        fs::remove_file(drivers.work.path().join("out.png")).expect("removed");
        // Who asks for the GPU is refused instead.
        let output = drivers.sample(variables, "cuda");
        drivers.refuses(&output, &[reason]);
    }
}

#[test]
fn a_compiler_without_its_builtins_is_named() {
    let Some(drivers) = Drivers::emulated() else {
        return;
    };
    let nvrtc = medfusion::device::cuda::diagnose()
        .into_iter()
        .find(|finding| finding.subject == "NVRTC")
        .and_then(|finding| Some(PathBuf::from(finding.text.split_once(" at ")?.1)))
        .expect("NVRTC is there");
    if !nvrtc.is_file() {
        eprintln!("NOT TESTED: the loader found NVRTC by its name");
        return;
    }
    let alone = drivers.folder.path().join("libnvrtc.so.12");
    fs::copy(&nvrtc, &alone).expect("copied");
    let alone = [("MEDFUSION_NVRTC", alone.to_str().expect("UTF-8"))];
    let output = drivers.sample(&alone, "cuda");
    drivers.refuses(&output, &["libnvrtc-builtins", alone[0].1, "whole package"]);
    let output = drivers.sample(&alone, "auto");
    drivers.succeeds(&output);
    assert!(
        said(&output).contains("computing on the CPU"),
        "{}",
        said(&output)
    );
    assert!(drivers.doctor(&alone).contains("libnvrtc-builtins"));
}
