//! What subcommands share with the process around them: its output, its exit code, Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::CliError;

/// Exit code of a process that Ctrl-C ended, by the shell's convention.
pub(super) const EXIT_INTERRUPTED: u8 = 130;

/// A flag that Ctrl-C and SIGTERM set; a second Ctrl-C ends the process at once.
pub(super) fn interrupt_flag() -> Result<Arc<AtomicBool>, CliError> {
    let flag = Arc::new(AtomicBool::new(false));
    let handler = flag.clone();
    ctrlc::set_handler(move || {
        if handler.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(EXIT_INTERRUPTED));
        }
    })
    .map_err(|error| CliError::new(format!("cannot watch for Ctrl-C: {error}")))?;
    Ok(flag)
}

/// Prints to standard output; a reader that went away (`| head`) is no error.
pub(super) fn print(text: impl std::fmt::Display) -> Result<(), CliError> {
    use std::io::Write;
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(CliError::new(
            format!("cannot write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}
