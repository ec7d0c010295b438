//! `medfusion classify`: what a trained classifier makes of a labelled set.

use std::path::PathBuf;

use super::choices;
use super::error::CliError;
use super::options::DeviceOptions;
use super::process::print;
use crate::data::{Dataset, OpenOptions, Split};
use crate::metrics::Classifier;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Images with classes, such as a folder of samples: any data set
    images: PathBuf,
    /// The folder that `medfusion train classifier` wrote: best/ or model/ of its run
    #[arg(long, value_name = "DIR")]
    classifier: PathBuf,
    /// The part of the images, where they are split
    #[arg(long, value_name = "SPLIT", value_parser = choices::split(), default_value = "test")]
    split: Split,
    #[command(flatten)]
    device: DeviceOptions,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let classifier = Classifier::open(&args.classifier)?;
    let images = Dataset::open(&args.images, &OpenOptions::default())
        .and_then(|set| set.select(args.split))?;
    let device = args.device.open()?;
    let scores = classifier.score(&images, &device)?;
    for (name, recall) in classifier.class_names().iter().zip(&scores.recall) {
        if let Some(recall) = recall {
            print(format!("{name:<12} recognised {recall:.4}"))?;
        }
    }
    let auroc = match scores.auroc {
        Some(auroc) => format!("  auroc {auroc:.4}"),
        None => String::new(),
    };
    print(format!(
        "{:<12} accuracy {:.4}{auroc}  {} images",
        "all",
        scores.accuracy,
        images.len()
    ))
}
