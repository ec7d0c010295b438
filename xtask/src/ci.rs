//! `cargo xtask ci`: what has to pass before a change lands.

use crate::mutations;
use crate::test::{self, cargo};

/// Format, lints and documentation without warnings, [`test::run`], and [`mutations::run`].
///
/// # Errors
/// The first of them that fails.
pub fn run() -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"], &[])?;
    cargo(
        &[
            "clippy",
            "--release",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
        &[],
    )?;
    test::run(&test::Args::default())?;
    mutations::run(&mutations::Args::default())?;
    cargo(&["doc", "--release", "--workspace", "--no-deps"], &[])
}
