//! `cargo xtask ci`: what has to pass before a change lands.

use crate::test::{self, cargo};

/// Format, lints and documentation without warnings, then [`test::run`].
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
    cargo(&["doc", "--release", "--workspace", "--no-deps"], &[])
}
