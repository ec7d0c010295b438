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

/// Packs what would be published, builds it from the packed files alone, and holds it to the registry's size.
fn packages() -> Result<(), String> {
    cargo(
        &["publish", "--dry-run", "--workspace", "--allow-dirty"],
        &[],
    )?;
    let folder = test::target_folder().join("package");
    let entries =
        fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let bytes = path.metadata().map_or(0, |file| file.len());
        if path.extension().is_some_and(|ending| ending == "crate") && bytes > LARGEST_PACKAGE {
            return Err(format!(
                "{} has {bytes} bytes, the registry takes {LARGEST_PACKAGE}",
                path.display()
            ));
        }
    }
    Ok(())
}
