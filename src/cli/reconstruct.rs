//! `medfusion reconstruct`: images through the autoencoder, side by side, with MSE and PSNR.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::choices;
use super::error::CliError;
use super::options::{DeviceOptions, ModelOptions, parse_size};
use super::process::print;
use crate::data::{Dataset, OpenOptions, Pixels, Split, Transform};
use crate::image::grid::{GridOptions, compose};
use crate::image::png::{self, Image8};
use crate::pipeline::{Autoencoder, SampleError, psnr_db};
use crate::tensor::DType;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Image files, folders that are searched for images, or MedMNIST .npz files
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// The part of an .npz file
    #[arg(long, value_name = "SPLIT", value_parser = choices::split(), default_value = "test")]
    split: Split,
    /// Model folder, safetensors file or PyTorch checkpoint [default: the one that ships]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Images at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: u16,
    /// Image size as PIXELS or HEIGHTxWIDTH, where the model does not say
    #[arg(long, value_parser = parse_size)]
    size: Option<[usize; 2]>,
    /// The side-by-side grid
    #[arg(long, value_name = "FILE.png", default_value = "reconstructions.png")]
    out: PathBuf,
    /// Pairs in the grid, spread over all images
    #[arg(long, value_name = "N", default_value_t = 16)]
    pairs: usize,
    /// Print the error of every image
    #[arg(long)]
    each: bool,
    #[command(flatten)]
    device: DeviceOptions,
    #[command(flatten)]
    model_options: ModelOptions,
}

const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "tif", "tiff", "bmp"];

/// An image to reconstruct.
enum Input {
    File(PathBuf),
    /// Image `index` of an array file.
    Element {
        set: Arc<Dataset>,
        index: usize,
    },
}

impl Input {
    fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Element { set, index } => {
                format!("{}: {}", set.root().display(), set.samples()[*index].id)
            }
        }
    }

    /// What the summary groups by: the folder of a file, the class of an element.
    fn group(&self) -> String {
        match self {
            Self::File(path) => {
                let folder = path.parent().and_then(Path::file_name);
                folder.map_or_else(String::new, |f| f.to_string_lossy().into_owned())
            }
            Self::Element { set, index } => set.classes()[set.samples()[*index].class].clone(),
        }
    }

    fn pixels(&self) -> Result<Pixels, CliError> {
        let error = |error: String| CliError::new(format!("{}: {error}", self.name()));
        match self {
            Self::File(path) => {
                let bytes = std::fs::read(path).map_err(|e| error(e.to_string()))?;
                Pixels::decode(&bytes).map_err(error)
            }
            Self::Element { set, index } => Ok(set.pixels(*index)?),
        }
    }
}

/// Images under `path`, in name order.
fn find_images(path: &Path, split: Split, found: &mut Vec<Input>) -> Result<(), CliError> {
    let error = |error| CliError::new(format!("{}: cannot read: {error}", path.display()));
    if !path.is_dir() {
        std::fs::metadata(path).map_err(error)?;
        if path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("npz"))
        {
            let set =
                Dataset::open(path, &OpenOptions::default()).and_then(|set| set.select(split))?;
            let set = Arc::new(set);
            let elements = (0..set.len()).map(|index| Input::Element {
                set: set.clone(),
                index,
            });
            found.extend(elements);
            return Ok(());
        }
        found.push(Input::File(path.to_owned()));
        return Ok(());
    }
    let entries = std::fs::read_dir(path).map_err(error)?;
    let mut entries: Vec<PathBuf> = entries
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()
        .map_err(error)?;
    entries.sort();
    for entry in entries {
        let extension = entry.extension().and_then(|e| e.to_str()).unwrap_or("");
        let is_image = EXTENSIONS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(extension));
        if entry.is_dir() || is_image {
            find_images(&entry, split, found)?;
        }
    }
    Ok(())
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let model = args.model_options.open(args.model.as_deref())?;
    let mut files = Vec::new();
    for path in &args.images {
        find_images(path, args.split, &mut files)?;
    }
    if files.is_empty() {
        return Err(CliError::new(format!(
            "no images in {}; expected files ending in {}",
            args.images
                .iter()
                .map(|p| p.display().to_string())
                .collect::<Vec<_>>()
                .join(", "),
            EXTENSIONS.join(", ")
        )));
    }
    let size = args
        .size
        .or(model.config.image_size)
        .ok_or_else(|| CliError::from(SampleError::SizeUnknown))?;
    let device = args.device.open()?;
    let batch = usize::from(args.batch).min(files.len());
    let mut autoencoder = Autoencoder::round_trip(&model, &device, batch, size)?;
    let shape = autoencoder.image_shape();
    let transform = Transform::new(size, shape[2])?;

    let every = files.len().div_ceil(args.pairs.max(1));
    let mut tiles = Vec::new();
    let mut errors: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (number, group) in files.chunks(batch).enumerate() {
        let images = group
            .iter()
            .map(|file| Ok(transform.apply(file.pixels()?)))
            .collect::<Result<Vec<_>, CliError>>()?;
        let slices: Vec<&[f32]> = images.iter().map(Vec::as_slice).collect();
        let results = autoencoder.reconstruct(&slices)?;
        for (offset, ((file, image), result)) in group.iter().zip(&images).zip(&results).enumerate()
        {
            if !result.mse.is_finite() {
                let precision = device.precision();
                let cause = match precision.storage() {
                    DType::F16 => {
                        "a number beyond 65504 overflowed on the way; take --precision bf16 or f32"
                    }
                    _ => "the weights are damaged",
                };
                return Err(CliError::new(format!(
                    "{}: the reconstruction is NaN or infinite in {precision}: {cause}",
                    file.name()
                )));
            }
            if args.each {
                print(format!(
                    "{}  mse {:.3e}  psnr {:.2} dB",
                    file.name(),
                    result.mse,
                    result.psnr_db()
                ))?;
            }
            errors.entry(file.group()).or_default().push(result.mse);
            if (number * batch + offset) % every == 0 {
                tiles.push(Image8::from_f32(image, shape));
                tiles.push(Image8::from_f32(&result.pixels, shape));
            }
        }
    }

    let mut options = GridOptions::new(8);
    options.scale = (128 / shape[0].max(1)).clamp(1, 4);
    let text = [
        (
            "Software",
            format!("medfusion {}", env!("CARGO_PKG_VERSION")),
        ),
        ("content", "pairs of image and reconstruction".to_owned()),
        ("model_hash", model.hash.clone()),
    ];
    png::write(&args.out, &compose(&tiles, &options), &text).map_err(|error| {
        CliError::new(format!(
            "--out {}: cannot write the grid: {error}",
            args.out.display()
        ))
    })?;
    if errors.len() > 1 {
        for (group, mses) in &errors {
            print(summary(group, mses))?;
        }
    }
    let all: Vec<f64> = errors.into_values().flatten().collect();
    print(summary("all", &all))?;
    print(format!(
        "pairs of image and reconstruction: {}",
        args.out.display()
    ))
}

/// Mean MSE, and the mean of the images' PSNR, as the reference reports it.
fn summary(name: &str, mses: &[f64]) -> String {
    let count = mses.len() as f64;
    let mse = mses.iter().sum::<f64>() / count;
    let psnr = mses.iter().map(|&mse| psnr_db(mse)).sum::<f64>() / count;
    format!(
        "{name:<12} {:>6} images  mse {mse:.3e}  psnr {psnr:.2} dB",
        mses.len()
    )
}
