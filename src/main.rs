//! The `medfusion` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    medfusion::cli::run()
}
