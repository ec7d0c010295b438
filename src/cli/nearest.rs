//! `medfusion nearest`: how far images are from the nearest ones of another set, to find copies.

use std::path::PathBuf;

use super::choices;
use super::error::CliError;
use super::options::parse_size;
use super::process::print;
use crate::data::{Dataset, OpenOptions, Split, Transform};
use crate::image::png;
use crate::metrics::{closest_pairs, nearest};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The images in question, such as a folder of samples: any data set
    images: PathBuf,
    /// The images that they may be copies of, such as the training set: any data set
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// The part of the images in question, where they are split
    #[arg(long, value_name = "SPLIT", value_parser = choices::split(), default_value = "test")]
    split: Split,
    /// The part of --data, where it is split
    #[arg(long, value_name = "SPLIT", value_parser = choices::split(), default_value = "train")]
    data_split: Split,
    /// Size at which images are compared, as PIXELS or HEIGHTxWIDTH [default: that of the first image in question]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    size: Option<[usize; 2]>,
    /// Also try --data mirrored and turned: all eight orientations, four where images are not square
    #[arg(long)]
    turned: bool,
    /// The closest pairs side by side, most alike first
    #[arg(long, value_name = "FILE.png", default_value = "nearest.png")]
    out: PathBuf,
    /// Pairs in the picture
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pairs: u16,
    /// Print every image with its nearest one
    #[arg(long)]
    each: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let open = |path, split| {
        Dataset::open(path, &OpenOptions::default()).and_then(|set| set.select(split))
    };
    let images = open(&args.images, args.split)?;
    let searched = open(&args.data, args.data_split)?;
    let first = images.pixels(0)?;
    let size = args.size.unwrap_or([first.height, first.width]);
    let transform = Transform::new(size, first.channels)?;
    let matches = nearest(&images, &searched, &transform, args.turned)?;

    let picture = closest_pairs(
        &images,
        &searched,
        &transform,
        &matches,
        usize::from(args.pairs),
    )?;
    let text = [
        (
            "Software",
            format!("medfusion {}", env!("CARGO_PKG_VERSION")),
        ),
        (
            "content",
            "pairs of image and nearest image, most alike first".to_owned(),
        ),
    ];
    png::write(&args.out, &picture, &text).map_err(|error| {
        CliError::new(format!(
            "--out {}: cannot write: {error}",
            args.out.display()
        ))
    })?;

    let id = |set: &Dataset, index: usize| set.samples()[index].id.clone();
    if args.each {
        for found in &matches {
            print(format!(
                "{}  {:.4}  {}",
                id(&images, found.image),
                found.distance,
                id(&searched, found.nearest)
            ))?;
        }
    }
    print("distance to the nearest image: root mean square of pixel differences on [0, 1]")?;
    let class_of = |index: usize| images.samples()[index].class;
    for (class, name) in images.classes().iter().enumerate() {
        let distances = matches.iter().filter(|m| class_of(m.image) == class);
        print_summary(name, distances.map(|m| m.distance).collect())?;
    }
    print_summary("all", matches.iter().map(|m| m.distance).collect())?;
    print(format!(
        "pairs of image and nearest image: {}",
        args.out.display()
    ))
}

/// Smallest, 5 %, median and largest; nothing for a class without images.
fn print_summary(name: &str, mut distances: Vec<f64>) -> Result<(), CliError> {
    if distances.is_empty() {
        return Ok(());
    }
    distances.sort_by(f64::total_cmp);
    let at = |share: f64| distances[((distances.len() - 1) as f64 * share).round() as usize];
    print(format!(
        "{name:<12} {:>6} images  min {:.4}  5 % {:.4}  median {:.4}  max {:.4}",
        distances.len(),
        at(0.0),
        at(0.05),
        at(0.5),
        at(1.0)
    ))
}
