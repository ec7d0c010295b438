//! `cargo xtask test`: sets up what the tests need, then runs every test of the workspace.

use std::path::PathBuf;
use std::process::Command;

use crate::{setup, workspace};

/// Options of `cargo xtask test`.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Passed on to `cargo test`, such as a test's name
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs `cargo test --release --workspace`: the release profile, because tests run whole networks
/// and the binary they start is then built already.
///
/// # Errors
/// If the set-up or a test fails.
pub fn run(args: &Args) -> Result<(), String> {
    setup::run(&setup::Args::default())?;
    cargo(&["test", "--release", "--workspace"], &args.arguments)
}

/// Where the kernels that tests compile are kept: not among the user's own.
pub fn kernel_cache() -> PathBuf {
    match std::env::var_os("MEDFUSION_CACHE") {
        Some(folder) if !folder.is_empty() => folder.into(),
        _ => target_folder().join("kernel-cache"),
    }
}

/// `$CARGO_TARGET_DIR`, else `target` of this workspace.
pub fn target_folder() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) if !folder.is_empty() => workspace().join(folder),
        _ => workspace().join("target"),
    }
}

/// Runs cargo with its output on this terminal.
///
/// # Errors
/// If it cannot be started or fails.
pub fn cargo(arguments: &[&str], more: &[String]) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    println!("cargo {} {}", arguments.join(" "), more.join(" "));
    let status = Command::new(cargo)
        .args(arguments)
        .args(more)
        .env("RUSTDOCFLAGS", "-D warnings")
        .env("MEDFUSION_CACHE", kernel_cache())
        .status()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("cargo {} failed ({status})", arguments.join(" "))),
    }
}
