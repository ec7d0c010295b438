//! `medfusion inspect`: what a model or checkpoint holds.

use std::path::PathBuf;

use super::advice;
use super::error::CliError;
use super::options::ModelOptions;
use super::process::print;
use crate::checkpoint;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Model folder, safetensors file or PyTorch checkpoint
    path: PathBuf,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    #[command(flatten)]
    model_options: ModelOptions,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let mut report = checkpoint::inspect(&args.path, &args.model_options.facts())?;
    report.list_tensors = args.tensors;
    print(&report)?;
    match &report.config {
        Err(error) => match advice::remedy(error.as_ref()) {
            Some(remedy) => print(remedy.trim_start_matches([';', ' ', '\n'])),
            None => Ok(()),
        },
        Ok(_) => Ok(()),
    }
}
