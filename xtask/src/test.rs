//! `cargo xtask test`: sets up what the tests need, then runs every test of the workspace.

use std::process::Command;

use crate::setup;

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
fn kernel_cache() -> std::path::PathBuf {
    match std::env::var_os("MEDFUSION_CACHE") {
        Some(folder) if !folder.is_empty() => folder.into(),
        _ => setup::default_dir().with_file_name("kernel-cache"),
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
