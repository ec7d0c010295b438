//! `medfusion data`: what a data set holds, and what is wrong with it.

use std::path::PathBuf;

use super::choices;
use super::error::CliError;
use super::options::parse_size;
use super::process::print;
use crate::data::{
    DataFormat, Dataset, DatasetReport, OpenOptions, UnknownPolicy, ValueRange, contact_sheet,
};
use crate::image::png;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A folder with a folder per class or a table of labels, an .npz, or the folder of AIROGS, CheXpert or CRCDX
    data: PathBuf,
    /// How the set lies on disk
    #[arg(long, value_parser = choices::format(), default_value = "auto")]
    format: DataFormat,
    /// Glob pattern of images to take, such as '*_dx.png' (again for more)
    #[arg(long, value_name = "PATTERN")]
    include: Vec<String>,
    /// Glob pattern of images to leave out (again for more)
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// The table of labels, where it is not told by its columns
    #[arg(long, value_name = "FILE.csv")]
    labels: Option<PathBuf>,
    /// Bits that values use, where they are fewer than the files have
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=32), conflicts_with = "window")]
    bits: Option<u32>,
    /// The values that are black and white
    #[arg(long, num_args = 2, value_names = ["BLACK", "WHITE"], allow_negative_numbers = true)]
    window: Option<Vec<f64>>,
    /// CheXpert: the finding that becomes the class
    #[arg(long, value_name = "COLUMN")]
    finding: Option<String>,
    /// CheXpert: what uncertain (-1) and empty findings count as
    #[arg(long, value_parser = choices::unknown_policy(), default_value = "negative")]
    unknown: UnknownPolicy,
    /// CheXpert: what uncertain findings (-1) count as, where that differs
    #[arg(long, value_parser = choices::unknown_policy())]
    uncertain: Option<UnknownPolicy>,
    /// CheXpert: what findings that are not mentioned (empty) count as, where that differs
    #[arg(long, value_parser = choices::unknown_policy())]
    not_mentioned: Option<UnknownPolicy>,
    /// A contact sheet with a row of images of each class
    #[arg(long, value_name = "FILE.png", default_value = "contact-sheet.png")]
    sheet: PathBuf,
    /// Images in a row of the sheet
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=64))]
    per_class: u16,
    /// Size of an image in the sheet, as PIXELS or HEIGHTxWIDTH
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "64")]
    size: [usize; 2],
    /// Only count: no contact sheet
    #[arg(long)]
    no_sheet: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let window = match args.window.as_deref() {
        None => None,
        Some(&[black, white]) if black < white => Some([black, white]),
        Some(limits) => {
            return Err(CliError::new(format!(
                "--window {limits:?}: expected a black value below a white one"
            )));
        }
    };
    let mut options = OpenOptions {
        format: args.format,
        include: args.include.clone(),
        exclude: args.exclude.clone(),
        labels: args.labels.clone(),
        black_white: ValueRange::of(window, args.bits),
        uncertain: args.uncertain.unwrap_or(args.unknown),
        not_mentioned: args.not_mentioned.unwrap_or(args.unknown),
        ..OpenOptions::default()
    };
    if let Some(finding) = &args.finding {
        options.finding.clone_from(finding);
    }
    let set = Dataset::inspect(&args.data, &options)?;
    print(DatasetReport::new(&set))?;
    if args.no_sheet {
        return Ok(());
    }
    let sheet = contact_sheet(&set, usize::from(args.per_class), args.size)?;
    let text = [(
        "Software",
        format!("medfusion {}", env!("CARGO_PKG_VERSION")),
    )];
    png::write(&args.sheet, &sheet, &text).map_err(|error| {
        CliError::new(format!(
            "--sheet {}: cannot write: {error}",
            args.sheet.display()
        ))
    })?;
    print(format!("contact sheet: {}", args.sheet.display()))
}
