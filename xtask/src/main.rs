//! Dispatches the workspace's chores: `cargo xtask <command>`. One file per command.

mod ci;
mod examples;
mod mutations;
mod peers;
mod setup;
mod soak;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Chores of the workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install NVRTC, ptxas, the CUDA headers and the disassemblers under target/nvrtc (from PyPI, no GPU needed)
    Setup(setup::Args),
    /// Set up what the tests need, then run all tests of the workspace
    Test(test::Args),
    /// Break the kernels one line at a time and check that the tests notice
    Mutations(mutations::Args),
    /// Format check, lints, all tests, examples, packages, documentation: what has to pass before a change lands
    Ci,
    /// What takes longer: networks of the paper's size, whole trajectories, long fuzzing; records each output
    Soak(soak::Args),
    /// Compare with other programs in throw-away environments; records the comparison
    Peers(peers::Args),
}

/// The root of this workspace.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Mutations(args) => mutations::run(&args),
        Command::Ci => ci::run(),
        Command::Soak(args) => soak::run(&args),
        Command::Peers(args) => peers::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
