//! What a user sees when something about CUDA is missing or broken: one clear line, an exit code, nothing left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs `medfusion sample` in an empty folder with these variables and arguments.
pub fn sample(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/cells64");
    Command::new(env!("CARGO_BIN_EXE_medfusion"))
        .args([
            "sample", "--steps", "1", "--class", "0", "--out", "out.png", "--model",
        ])
        .arg(model)
        .args(match arguments.contains(&"--count") {
            true => &[][..],
            false => &["--count", "1"],
        })
        .args(arguments)
        .current_dir(folder)
        .env("MEDFUSION_CACHE", folder.join("cache"))
        .envs(variables.iter().copied())
        .output()
        .expect("the program starts")
}

/// Checks that a run failed with one line that contains `parts`, wrote no image and did not panic.
pub fn refuses(folder: &Path, output: &Output, parts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> = text.lines().filter(|line| line.contains("error")).collect();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        errors
            .first()
            .is_some_and(|line| line.starts_with("error: ")),
        "{text}"
    );
    assert!(
        !text.contains("panicked") && !text.contains("RUST_BACKTRACE"),
        "{text}"
    );
    for part in parts {
        assert!(text.contains(part), "no '{part}' in: {text}");
    }
    let left: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with("cache") && !path.ends_with("kernels"))
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

pub fn succeeds(folder: &Path, output: &Output) {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(folder.join("out.png").is_file());
}

/// Whether the emulated GPU can be used here; in CI it must be.
pub fn emulated() -> bool {
    let found = medfusion::device::cuda::diagnose();
    let missing: Vec<&str> = found
        .iter()
        .filter(|finding| ["NVRTC", "emulated GPU"].contains(&finding.subject) && !finding.found)
        .map(|finding| finding.text.as_str())
        .collect();
    if !missing.is_empty() {
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "CI must not skip this test: {missing:?}"
        );
        eprintln!("NOT TESTED: {missing:?}");
    }
    missing.is_empty()
}

#[test]
fn no_driver() {
    let folder = tempfile::tempdir().unwrap();
    if Path::new("/dev/nvidiactl").exists() {
        eprintln!("NOT TESTED: this machine has a GPU");
        return;
    }
    let output = sample(folder.path(), &[], &["--device", "cuda"]);
    refuses(folder.path(), &output, &["no CUDA driver", "--device cpu"]);
    // Auto falls back.
    let output = sample(folder.path(), &[], &["--device", "auto"]);
    succeeds(folder.path(), &output);
}

#[test]
fn no_emulator() {
    let folder = tempfile::tempdir().unwrap();
    let output = sample(
        folder.path(),
        &[("MEDFUSION_EMULATOR", "/nowhere/libcuda_emulator.so")],
        &["--device", "emulated"],
    );
    refuses(
        folder.path(),
        &output,
        &["/nowhere", "cargo build --release -p cuda-emulator"],
    );
}

#[test]
fn a_library_that_is_no_emulator() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    fs::create_dir(&cache).unwrap();
    let fake = cache.join("fake.so");
    fs::write(&fake, "no library").unwrap();
    let output = sample(
        folder.path(),
        &[("MEDFUSION_EMULATOR", fake.to_str().unwrap())],
        &["--device", "emulated"],
    );
    refuses(folder.path(), &output, &["fake.so", "cannot be loaded"]);
}

#[test]
fn no_nvrtc() {
    if !emulated() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = sample(
        folder.path(),
        &[("MEDFUSION_NVRTC", "/nowhere/libnvrtc.so.12")],
        &["--device", "emulated"],
    );
    refuses(
        folder.path(),
        &output,
        &["NVRTC", "/nowhere/libnvrtc.so.12", "cargo xtask setup"],
    );
}

#[test]
fn a_device_that_is_not_there_and_a_precision_that_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let output = sample(
        folder.path(),
        &[],
        &["--device", "cpu", "--precision", "f16"],
    );
    refuses(folder.path(), &output, &["the CPU does not compute in f16"]);
    for arguments in [["--device", "gpu"], ["--precision", "f8"]] {
        let output = sample(folder.path(), &[], &arguments);
        // clap's exit code for a bad value.
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("unknown"));
    }
}

#[test]
fn a_cache_of_garbage_and_one_that_cannot_be_written() {
    if !emulated() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let output = sample(folder.path(), &[], &["--device", "emulated"]);
    succeeds(folder.path(), &output);
    let first = fs::read(folder.path().join("out.png")).unwrap();
    let programs: Vec<PathBuf> = fs::read_dir(&cache)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(!programs.is_empty());
    // Truncated, flipped, emptied, replaced: each is compiled anew.
    for (index, path) in programs.iter().enumerate() {
        let mut bytes = fs::read(path).unwrap();
        match index % 4 {
            0 => bytes.truncate(bytes.len() / 2),
            1 => *bytes.last_mut().unwrap() ^= 1,
            2 => bytes.clear(),
            _ => bytes = vec![b'x'; 100],
        }
        fs::write(path, bytes).unwrap();
    }
    let output = sample(folder.path(), &[], &["--device", "emulated"]);
    succeeds(folder.path(), &output);
    assert_eq!(first, fs::read(folder.path().join("out.png")).unwrap());
    // A file where the folder should be: root could write into any folder.
    let file = folder.path().join("cache/file");
    fs::write(&file, "no folder").unwrap();
    let output = sample(
        folder.path(),
        &[("MEDFUSION_CACHE", file.to_str().unwrap())],
        &["--device", "emulated"],
    );
    succeeds(folder.path(), &output);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("kernels are compiled at every start")
    );
    assert_eq!(first, fs::read(folder.path().join("out.png")).unwrap());
}

#[test]
fn more_than_the_gpu_holds() {
    if !emulated() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = sample(
        folder.path(),
        &[],
        &[
            "--device", "emulated", "--batch", "1000000", "--count", "1000000",
        ],
    );
    refuses(folder.path(), &output, &["batch"]);
}

/// Copies `kernels/` and changes one file of it.
fn changed_kernels(folder: &Path, file: &str, change: impl Fn(&str) -> String) -> String {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let target = to.join(path.file_name().unwrap());
            if path.is_dir() {
                copy(&path, &target);
            } else {
                fs::copy(&path, &target).unwrap();
            }
        }
    }
    let kernels = folder.join("kernels");
    copy(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels"),
        &kernels,
    );
    let path = kernels.join(file);
    let text = fs::read_to_string(&path).unwrap();
    let changed = change(&text);
    assert_ne!(text, changed);
    fs::write(&path, changed).unwrap();
    kernels.to_str().unwrap().to_owned()
}

#[test]
fn a_kernel_that_does_not_compile() {
    if !emulated() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let kernels = changed_kernels(folder.path(), "cast.cu", |text| {
        text.replace("to_float(x[k])", "to_float(x[k]")
    });
    let output = sample(
        folder.path(),
        &[("MEDFUSION_KERNELS", &kernels)],
        &["--device", "emulated"],
    );
    refuses(folder.path(), &output, &["cast.cu", "does not compile"]);
}

#[test]
fn an_error_in_the_middle_of_a_capture() {
    if !emulated() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Fewer threads than it is launched with: the driver refuses that launch while the plan is captured.
    let kernels = changed_kernels(folder.path(), "cast.cu", |text| {
        text.replace("__launch_bounds__(256)", "__launch_bounds__(32)")
    });
    let output = sample(
        folder.path(),
        &[("MEDFUSION_KERNELS", &kernels)],
        &["--device", "emulated"],
    );
    refuses(folder.path(), &output, &["cast", "CUDA_ERROR"]);
}

#[test]
fn two_processes_give_the_same_bits() {
    if !emulated() {
        return;
    }
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let images = folders.each_ref().map(|folder| {
        let output = sample(folder.path(), &[], &["--device", "emulated"]);
        succeeds(folder.path(), &output);
        fs::read(folder.path().join("out.png")).unwrap()
    });
    assert_eq!(images[0], images[1]);
}
