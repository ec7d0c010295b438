//! `medfusion sample`: images from a model, as a folder of PNGs or one labelled grid.

use std::collections::VecDeque;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use super::error::CliError;
use super::options::{DeviceOptions, ModelOptions, parse_size};
use super::process::{interrupt_flag, print};
use crate::bytes::mib;
use crate::checkpoint::Model;
use crate::device::Progress;
use crate::diffusion::Method;
use crate::image::grid::{GridOptions, compose};
use crate::image::png::{self, Image8};
use crate::pipeline::{Image, SampleError, Sampler, Samples};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Model folder, safetensors file or PyTorch checkpoint [default: the one that ships]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Classes by index or name, separated by commas [default: every class the model knows]
    #[arg(
        long = "class",
        value_name = "CLASS",
        value_delimiter = ',',
        conflicts_with = "unconditional"
    )]
    classes: Vec<String>,
    /// Make images of no class
    #[arg(long)]
    unconditional: bool,
    /// Images of each class
    #[arg(long, value_name = "N", default_value_t = 8)]
    count: u64,
    /// Sampling steps
    #[arg(long, value_name = "N", default_value_t = 150)]
    steps: usize,
    /// Guidance scale; 1 is none
    #[arg(long, value_name = "SCALE", default_value_t = 1.0)]
    guidance: f64,
    /// Guide away from this class instead of from "no class"
    #[arg(long, value_name = "CLASS")]
    opposite_class: Option<String>,
    /// Noise of DDIM: 0 is deterministic, 1 as noisy as ancestral sampling
    #[arg(
        long,
        value_name = "ETA",
        default_value_t = 1.0,
        conflicts_with = "ancestral"
    )]
    eta: f64,
    /// Ancestral (DDPM) sampling instead of DDIM
    #[arg(long)]
    ancestral: bool,
    /// Seed; image k of a seed is the same in any batch
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    /// Index of the first image, to go on where another run ended
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    first: u64,
    /// Images at once [default: 8 or fewer]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Image size as PIXELS or HEIGHTxWIDTH, where the model does not say
    #[arg(long, value_parser = parse_size)]
    size: Option<[usize; 2]>,
    /// A folder for one PNG per image, or a file NAME.png for one grid
    #[arg(long, value_name = "DIR|FILE.png", default_value = "samples.png")]
    out: PathBuf,
    /// Print the plans (steps, shapes, memory, what was fused) and stop
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    device: DeviceOptions,
    #[command(flatten)]
    model_options: ModelOptions,
}

/// A grid holds all its images in memory and is for looking at.
const MOST_IN_GRID: u64 = 4096;
/// Endings of names that ask for an image of a kind that is not written.
const OTHER_IMAGES: [&str; 7] = ["jpg", "jpeg", "tif", "tiff", "bmp", "gif", "webp"];

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let model = args.model_options.open(args.model.as_deref())?;
    let device = args.device.open()?;
    let sampler = sampler(args, &model);
    if args.explain {
        return print(sampler.explain(&device)?);
    }
    let samples = sampler.prepare(&device)?;
    let mut output = Output::open(args, &model, &samples)?;
    tracing::info!("memory: {}", samples.memory());

    let (total, steps) = (samples.total(), args.steps as u64);
    let bar = progress_bar(total * steps);
    let start = Instant::now();
    let samples = samples.observe(observer(bar.clone(), interrupt_flag()?, steps));
    let mut written = 0;
    let mut result = Ok(());
    for image in samples {
        match image {
            Ok(image) => {
                output.take(&image)?;
                written += 1;
            }
            Err(error) => result = Err(error),
        }
    }
    bar.finish_and_clear();
    match result {
        Ok(()) => {
            let seconds = start.elapsed().as_secs_f64();
            let place = output.finish()?;
            print(format!(
                "{written} images of {steps} steps in {seconds:.1} s ({:.2} images/s): {}",
                written as f64 / seconds,
                place.display()
            ))
        }
        Err(SampleError::Interrupted) => Err(CliError::Interrupted(match output {
            Output::Grid { .. } => "no grid was written".to_owned(),
            Output::Folder { ref folder, .. } => format!(
                "{written} of {total} images are in {}; --first {} goes on where this run ended",
                folder.display(),
                args.first + written
            ),
        })),
        Err(error) => Err(error.into()),
    }
}

/// Moves the bar with each step, and stops the run after an interruption.
fn observer(
    bar: ProgressBar,
    interrupted: Arc<AtomicBool>,
    steps: u64,
) -> impl FnMut(Progress) -> ControlFlow<()> + 'static {
    let start = Instant::now();
    move |progress| {
        bar.set_position(progress.done);
        let images = progress.done as f64 / steps as f64;
        let seconds = start.elapsed().as_secs_f64();
        bar.set_message(format!("{:.2} images/s", images / seconds.max(1e-9)));
        match interrupted.load(Ordering::SeqCst) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

fn sampler<'m>(args: &Args, model: &'m Model) -> Sampler<'m> {
    let classes: &[String] = if args.unconditional {
        &[]
    } else if args.classes.is_empty() {
        model.classes()
    } else {
        &args.classes
    };
    let mut sampler = Sampler::new(model)
        .classes(classes)
        .count(args.count)
        .steps(args.steps)
        .guidance(args.guidance)
        .method(if args.ancestral {
            Method::Ancestral
        } else {
            Method::Ddim { eta: args.eta }
        })
        .seed(args.seed)
        .first_index(args.first);
    if let Some(class) = &args.opposite_class {
        sampler = sampler.opposite_class(class);
    }
    if let Some(batch) = args.batch {
        sampler = sampler.batch(batch);
    }
    if let Some(size) = args.size {
        sampler = sampler.size(size);
    }
    sampler
}

fn progress_bar(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{bar:30} {percent:>3}%  {msg}  {elapsed} elapsed, {eta} left",
    )
    .expect("a valid template");
    ProgressBar::new(length).with_style(style)
}

/// What every PNG says about how it was made.
struct Provenance {
    model: String,
    hash: String,
    seed: u64,
    steps: usize,
    guidance: f64,
    sampler: String,
}

impl Provenance {
    fn text(&self, index: String, class: String) -> Vec<(&'static str, String)> {
        vec![
            (
                "Software",
                format!("medfusion {}", env!("CARGO_PKG_VERSION")),
            ),
            ("seed", self.seed.to_string()),
            ("index", index),
            ("class", class),
            ("steps", self.steps.to_string()),
            ("guidance", self.guidance.to_string()),
            ("sampler", self.sampler.clone()),
            ("model", self.model.clone()),
            ("model_hash", self.hash.clone()),
            ("Warning", "synthetic image, not for diagnosis".to_owned()),
        ]
    }
}

enum Output {
    Folder {
        folder: PathBuf,
        provenance: Provenance,
    },
    Grid {
        file: PathBuf,
        provenance: Provenance,
        /// Index, class and pixels.
        images: VecDeque<(u64, String, Image8)>,
        columns: usize,
    },
}

impl Output {
    /// Checks that the output can be written before any work is done.
    fn open(args: &Args, model: &Model, samples: &Samples) -> Result<Self, CliError> {
        let provenance = Provenance {
            model: model.source.path.display().to_string(),
            hash: model.hash.clone(),
            seed: args.seed,
            steps: args.steps,
            guidance: args.guidance,
            sampler: if args.ancestral {
                "ancestral".to_owned()
            } else {
                format!("ddim, eta {}", args.eta)
            },
        };
        let [height, width, channels] = samples.image_shape();
        if channels != 1 && channels != 3 {
            return Err(CliError::new(format!(
                "the model makes images of {channels} channels; PNGs hold 1 or 3"
            )));
        }
        let is_png = args
            .out
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("png"));
        if is_png {
            if samples.total() > MOST_IN_GRID {
                return Err(CliError::new(format!(
                    "--out {}: a grid of {} images is too large to look at (at most {MOST_IN_GRID}); \
                     give a folder instead",
                    args.out.display(),
                    samples.total()
                )));
            }
            let folder = match args.out.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            check_writable(folder, &args.out)?;
            return Ok(Self::Grid {
                file: args.out.clone(),
                provenance,
                images: VecDeque::new(),
                columns: usize::try_from(args.count).unwrap_or(1).clamp(1, 16),
            });
        }
        if let Some(ending) = args.out.extension().and_then(|e| e.to_str())
            && OTHER_IMAGES.contains(&ending.to_ascii_lowercase().as_str())
        {
            return Err(CliError::new(format!(
                "--out {}: images are written as PNG; name the grid {} or give a folder",
                args.out.display(),
                args.out.with_extension("png").display()
            )));
        }
        // Noise does not compress: a PNG is never much larger than its pixels, and for most
        // images about half as large.
        let bytes = samples.total() as u128 * (height * width * channels / 2 + 512) as u128;
        let there = args.out.ancestors().find(|folder| folder.is_dir());
        if let Some(free) = free_bytes(there.unwrap_or(Path::new(".")))
            && bytes > free
        {
            return Err(CliError::new(format!(
                "--out {}: {} images take about {:.1} MiB, the disk has {:.1} MiB free; \
                 make fewer with --count",
                args.out.display(),
                samples.total(),
                mib(bytes as usize),
                mib(free as usize)
            )));
        }
        fs::create_dir_all(&args.out).map_err(|error| {
            CliError::new(format!(
                "--out {}: cannot make the folder: {error}",
                args.out.display()
            ))
        })?;
        check_writable(&args.out, &args.out)?;
        Ok(Self::Folder {
            folder: args.out.clone(),
            provenance,
        })
    }

    fn take(&mut self, image: &Image) -> Result<(), CliError> {
        let pixels = Image8::from_f32(&image.pixels, image.shape);
        let class = image
            .class_name
            .clone()
            .unwrap_or_else(|| "none".to_owned());
        match self {
            Self::Folder { folder, provenance } => {
                let name = format!("{:08}_{}.png", image.index, file_name(&class));
                let text = provenance.text(image.index.to_string(), class);
                write_png(&folder.join(name), &pixels, &text)
            }
            Self::Grid { images, .. } => {
                images.push_back((image.index, class, pixels));
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<PathBuf, CliError> {
        let (file, provenance, images, columns) = match self {
            Self::Folder { folder, .. } => return Ok(folder),
            Self::Grid {
                file,
                provenance,
                images,
                columns,
            } => (file, provenance, images, columns),
        };
        let mut options = GridOptions::new(columns);
        // Small images are enlarged to a size that a person can look at.
        let height = images.front().map_or(1, |(_, _, image)| image.height);
        options.scale = (128 / height.max(1)).clamp(1, 4);
        options.row_labels = images
            .iter()
            .step_by(columns)
            .map(|(_, class, _)| class.clone())
            .collect();
        let mut classes: Vec<String> = options.row_labels.clone();
        classes.dedup();
        let (first, last) = (
            images.front().map_or(0, |i| i.0),
            images.back().map_or(0, |i| i.0),
        );
        let text = provenance.text(format!("{first}-{last}"), classes.join(","));
        let tiles: Vec<Image8> = images.into_iter().map(|(_, _, image)| image).collect();
        write_png(&file, &compose(&tiles, &options), &text)?;
        Ok(file)
    }
}

/// A class name as part of a file name.
fn file_name(class: &str) -> String {
    class
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        })
        .collect()
}

fn write_png(path: &Path, image: &Image8, text: &[(&'static str, String)]) -> Result<(), CliError> {
    png::write(path, image, text).map_err(|error| {
        CliError::new(format!(
            "{}: cannot write the image: {error}",
            path.display()
        ))
    })
}

/// Fails now rather than after the work if files cannot be made in `folder`.
fn check_writable(folder: &Path, out: &Path) -> Result<(), CliError> {
    tempfile::Builder::new()
        .prefix(".medfusion-")
        .tempfile_in(folder)
        .map(|_| ())
        .map_err(|error| {
            CliError::new(format!(
                "--out {}: cannot write to {}: {error}",
                out.display(),
                folder.display()
            ))
        })
}

/// Bytes that this user may still write to the file system of `path`.
fn free_bytes(path: &Path) -> Option<u128> {
    let stats = rustix::fs::statvfs(path).ok()?;
    Some(u128::from(stats.f_bavail) * u128::from(stats.f_frsize))
}
