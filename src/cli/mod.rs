//! The command line: a thin shell over the library, one file per subcommand.

mod advice;
mod choices;
mod classify;
mod convert;
mod data;
mod doctor;
mod inspect;
mod nearest;
mod options;
mod progress;
mod reconstruct;
mod sample;
mod train;

use std::fmt;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Parser, Subcommand};

/// Class-conditional latent diffusion for medical images.
#[derive(Debug, Parser)]
#[command(name = "medfusion", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make images with a model
    Sample(Box<sample::Args>),
    /// Send images through a model's autoencoder and measure what comes back
    Reconstruct(Box<reconstruct::Args>),
    /// Show what a model or checkpoint holds
    Inspect(Box<inspect::Args>),
    /// Write a model or checkpoint as a model folder
    Convert(Box<convert::Args>),
    /// Train a model on images
    Train(Box<train::Args>),
    /// Show what a data set holds: counts, sizes, classes, unreadable files, a contact sheet
    Data(Box<data::Args>),
    /// Test a trained classifier on labelled images
    Classify(Box<classify::Args>),
    /// Measure how far images are from the nearest ones of another set, to find copies
    Nearest(Box<nearest::Args>),
    /// Show what this machine offers and what is missing
    Doctor(doctor::Args),
}

/// Why a command failed, in one message.
#[derive(Debug)]
pub(crate) enum CliError {
    Message(String),
    /// Ctrl-C or SIGTERM: what was done so far, in words.
    Interrupted(String),
}

impl CliError {
    fn new(message: impl Into<String>) -> Self {
        Self::Message(message.into())
    }
}

/// An error of the library, with what helps against it.
impl<E: std::error::Error + 'static> From<E> for CliError {
    fn from(error: E) -> Self {
        Self::Message(advice::message(&error))
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(message) => f.write_str(message),
            Self::Interrupted(done) => write!(f, "interrupted: {done}"),
        }
    }
}

/// Exit code of a process that Ctrl-C ended, by the shell's convention.
const EXIT_INTERRUPTED: u8 = 130;

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("MEDFUSION_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .with_target(false)
        .init();
    let result = match cli.command {
        Command::Sample(args) => sample::run(&args),
        Command::Reconstruct(args) => reconstruct::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Data(args) => data::run(&args),
        Command::Classify(args) => classify::run(&args),
        Command::Nearest(args) => nearest::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            match error {
                CliError::Interrupted(_) => ExitCode::from(EXIT_INTERRUPTED),
                CliError::Message(_) => ExitCode::FAILURE,
            }
        }
    }
}

/// A flag that Ctrl-C and SIGTERM set; a second Ctrl-C ends the process at once.
fn interrupt_flag() -> Result<Arc<AtomicBool>, CliError> {
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
fn print(text: impl std::fmt::Display) -> Result<(), CliError> {
    use std::io::Write;
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(CliError::new(
            format!("cannot write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}
