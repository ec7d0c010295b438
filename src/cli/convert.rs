//! `medfusion convert`: any checkpoint to a model folder.

use std::path::PathBuf;

use super::error::CliError;
use super::options::{ModelOptions, parse_dtype, parse_size, show_notes};
use super::process::print;
use crate::checkpoint;
use crate::tensor::DType;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Model folder, safetensors file or PyTorch checkpoint
    input: PathBuf,
    /// The model folder to write
    output: PathBuf,
    /// Type of the written weights: f32, f16 or bf16 [default: as they are]
    #[arg(long, value_parser = parse_dtype)]
    dtype: Option<DType>,
    /// Names of the classes by index, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    class_names: Option<Vec<String>>,
    /// Size of the training images as PIXELS or HEIGHTxWIDTH
    #[arg(long, value_parser = parse_size)]
    size: Option<[usize; 2]>,
    #[command(flatten)]
    model_options: ModelOptions,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let mut facts = args.model_options.facts();
    facts.class_names = args.class_names.clone();
    facts.image_size = args.size;
    let converted = checkpoint::convert(&args.input, &args.output, &facts, args.dtype)?;
    show_notes(&converted.source);
    print(format!(
        "{} ({}) -> {}, {:.1} MB of weights, hash {}",
        args.input.display(),
        converted.source.source.format,
        converted.output.display(),
        converted.bytes as f64 / 1e6,
        converted.hash
    ))
}
