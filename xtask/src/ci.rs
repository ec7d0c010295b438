//! `cargo xtask ci`: what has to pass before a change lands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::test::{self, cargo};
use crate::{examples, mutations, workspace};

/// Format and lints without warnings, the library without the command line, [`test::run`], [`mutations::run`],
/// [`examples::run`], packages as they would be published, documentation without warnings.
///
/// # Errors
/// The first of them that fails.
pub fn run() -> Result<(), String> {
    format()?;
    clippy(&["--workspace", "--all-targets"])?;
    clippy(&["--package", "medfusion", "--lib", "--no-default-features"])?;
    test::run(&test::Args::default())?;
    mutations::run(&mutations::Args::default())?;
    examples::run()?;
    packages()?;
    cargo(&["doc", "--release", "--workspace", "--no-deps"], &[])
}

/// `rustfmt --check` over every file: `cargo fmt` follows `mod` lines, and would miss a file that only a macro or a path names.
fn format() -> Result<(), String> {
    let root = workspace();
    let mut files = vec![root.join("build.rs")];
    for folder in [
        "benches", "emulator", "examples", "src", "tests", "toolkit", "xtask",
    ] {
        rust_files(&root.join(folder), &mut files)?;
    }
    println!("rustfmt --check over {} files", files.len());
    let status = Command::new("rustfmt")
        .args(["--edition", "2024", "--check"])
        .args(&files)
        .status()
        .map_err(|error| format!("cannot start rustfmt: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err("some files are not as rustfmt writes them: run `cargo fmt --all`".to_owned()),
    }
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn clippy(what: &[&str]) -> Result<(), String> {
    let arguments: Vec<&str> = ["clippy", "--release"]
        .into_iter()
        .chain(what.iter().copied())
        .chain(["--", "-D", "warnings"])
        .collect();
    cargo(&arguments, &[])
}

/// Bytes that crates.io takes of one package.
const LARGEST_PACKAGE: u64 = 10 * 1024 * 1024;

/// Packs what would be published, holds it to the registry's size, and samples with the packed files alone.
fn packages() -> Result<(), String> {
    // Cargo would build every package in the dev profile, from scratch; the run below builds what matters in release.
    cargo(
        &[
            "publish",
            "--dry-run",
            "--no-verify",
            "--workspace",
            "--allow-dirty",
        ],
        &[],
    )?;
    let folder = test::target_folder().join("package");
    let mut packages = Vec::new();
    // Cargo leaves the packages of a dry run beside each other, or in a registry of its own, by version.
    for folder in [folder.clone(), folder.join("tmp-registry")] {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        packages.extend(entries.map(|entry| entry.path()).filter(|path| {
            path.extension()
                .is_some_and(|ending| ending.eq_ignore_ascii_case("crate"))
        }));
    }
    for path in &packages {
        let bytes = path.metadata().map_or(0, |file| file.len());
        println!("{} has {bytes} bytes", path.display());
        if bytes > LARGEST_PACKAGE {
            return Err(format!("the registry takes {LARGEST_PACKAGE} bytes"));
        }
    }
    let name = concat!("medfusion-", env!("CARGO_PKG_VERSION"));
    let packed = packages
        .iter()
        .find(|path| path.file_stem().is_some_and(|stem| stem == name))
        .ok_or_else(|| format!("cargo left no {name} in {}", folder.display()))?;
    samples_alone(packed, &folder.join("unpacked"), name)
}

/// Unpacks the engine and runs its program, which has to find the model that is packed with it.
fn samples_alone(packed: &Path, folder: &Path, name: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).map_err(failed)?;
    let unpacked = Command::new("tar")
        .arg("xzf")
        .arg(packed)
        .arg("-C")
        .arg(folder)
        .status()
        .map_err(|error| format!("cannot start tar: {error}"))?;
    if !unpacked.success() {
        return Err(format!("{} does not unpack", packed.display()));
    }
    let folder = folder.join(name);
    // It lies below this workspace and is no part of it.
    let manifest = folder.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).map_err(failed)?;
    fs::write(&manifest, text + "\n[workspace]\n").map_err(failed)?;
    let toolkit = format!(
        "patch.crates-io.medfusion-toolkit.path={:?}",
        workspace().join("toolkit")
    );
    let sampled = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["run", "--release", "--config", &toolkit])
        .args(["--", "sample", "--count", "1", "--steps", "3"])
        .env("CARGO_TARGET_DIR", test::target_folder())
        .current_dir(&folder)
        .status()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    match sampled.success() && folder.join("samples.png").is_file() {
        true => Ok(()),
        false => Err("the packed program does not sample".to_owned()),
    }
}
