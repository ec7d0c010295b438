//! The command line: a thin shell over the library, one file per subcommand.

mod advice;
mod choices;
mod classify;
mod convert;
mod data;
mod doctor;
mod error;
mod inspect;
mod nearest;
mod networks;
mod options;
mod plan;
mod process;
mod profile;
mod progress;
mod reconstruct;
mod sample;
mod train;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use error::CliError;
use process::EXIT_INTERRUPTED;

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
    /// Predict where the time of sampling, decoding, encoding or training goes on a GPU that need not be there
    Profile(Box<profile::Args>),
    /// Plan memory and work of sampling and training for any batch and GPU, without running
    Plan(Box<plan::Args>),
    /// Show what this machine offers and what is missing
    Doctor(doctor::Args),
}

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
        Command::Profile(args) => profile::run(&args),
        Command::Plan(args) => plan::run(&args),
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
