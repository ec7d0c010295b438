//! `medfusion profile`: where the time of a run goes, predicted for a GPU that need not be there.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use super::error::CliError;
use super::options::{ModelOptions, parse_size};
use super::process::print;
use crate::bytes::gib;
use crate::checkpoint::ModelConfig;
use crate::compile::{CudaBackend, Precision, compile};
use crate::diffusion::{NoiseSchedule, NoiseSource, SamplingSpec};
use crate::files::write_bytes_atomically;
use crate::graph::Graph;
use crate::model::{build_decoder, build_encoder};
use crate::ops::optimizer::AdamConfig;
use crate::ops::pixel_loss::Distance;
use crate::perf::{self, Gpu, Profile, ProfileSum};
use crate::pipeline::sampler_graph;
use crate::tensor::DType;
use crate::train::loss::{DiffusionInputs, DiffusionLossOptions, diffusion_loss};
use crate::train::names;
use crate::train::step::{EmaOptions, StepOptions, TrainingGraph};

/// Most samples of a batch: beyond it every published network exceeds every GPU of the data files many times over.
const MOST_BATCH: u64 = 4096;
/// Relative difference below which two predictions count as the same.
const SAME: f64 = 0.005;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What runs
    #[arg(value_enum)]
    task: Task,
    /// Model folder, safetensors file or PyTorch checkpoint [default: the one that ships]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// GPU that the time is predicted for
    #[arg(long, value_name = "NAME", default_value = "rtx3090")]
    gpu: String,
    /// Samples at once, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,2,8,32",
          value_parser = clap::value_parser!(u64).range(1..=MOST_BATCH))]
    batch: Vec<u64>,
    /// Precisions, separated by commas: f32, f16, bf16 or f16-fast
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "f16"
    )]
    precision: Vec<Precision>,
    /// Image size as PIXELS or HEIGHTxWIDTH, where the model does not say
    #[arg(long, value_parser = parse_size)]
    size: Option<[usize; 2]>,
    /// Sampling steps of an image
    #[arg(long, value_name = "N", default_value_t = 150)]
    steps: usize,
    /// With guidance: the network sees each sample twice
    #[arg(long)]
    guidance: bool,
    /// Images of a data set whose time is told
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    images: u64,
    /// Order of the tables
    #[arg(long, value_enum, default_value = "time")]
    sort: Sort,
    /// Rows of each table
    #[arg(long, value_name = "N", default_value_t = 12)]
    top: usize,
    /// Write all profiles to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Compare with a file that --json wrote
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    #[command(flatten)]
    model_options: ModelOptions,
}

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Task {
    /// A step of DDIM sampling
    Sample,
    /// Latents to images
    Decode,
    /// Images to latents
    Encode,
    /// A training step of the noise estimator
    Train,
    /// Nothing: hold the model of a GPU against measurements that others published
    Check,
}

impl Task {
    fn name(self) -> &'static str {
        match self {
            Self::Sample => "sampling step",
            Self::Decode => "decoder",
            Self::Encode => "encoder",
            Self::Train => "training step",
            Self::Check => "check",
        }
    }
}

/// Order of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Sort {
    /// Longest first
    Time,
    /// Most launches first
    Calls,
    /// Most floating-point operations first
    Flops,
    /// Most DRAM bytes first
    Bytes,
    /// Farthest from the roofline first
    Roofline,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    if args.task == Task::Check {
        return print(perf::published::report().trim_end());
    }
    let gpu = Gpu::named(&args.gpu)?;
    let (config, name) = config(args)?;
    let mut profiles = Vec::new();
    for &precision in &args.precision {
        for &batch in &args.batch {
            profiles.push(predict(
                args,
                &config,
                &name,
                gpu,
                precision,
                batch as usize,
            )?);
        }
    }
    print(perf::caveat(gpu))?;
    print(summary(args, gpu, &profiles))?;
    if let [profile] = &profiles[..] {
        print(tables(args, profile))?;
    }
    if let Some(path) = &args.compare {
        print(compare(path, &profiles)?)?;
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&profiles).expect("numbers and texts");
        let written = write_bytes_atomically(path, text.as_bytes());
        written.map_err(|error| CliError::new(format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

/// The networks, and what they are called.
fn config(args: &Args) -> Result<(ModelConfig, String), CliError> {
    // Without a model `--published` leaves nothing to be read: the networks are the published ones.
    let (mut config, name) = match args.model.is_none() && args.model_options.published() {
        true => (
            ModelConfig::published(2),
            "the published networks".to_owned(),
        ),
        false => {
            let model = args.model_options.open(args.model.as_deref())?;
            let name = match &args.model {
                Some(path) => path.display().to_string(),
                None => "the model that ships".to_owned(),
            };
            (model.config, name)
        }
    };
    config.image_size = args.size.or(config.image_size);
    Ok((config, name))
}

fn predict(
    args: &Args,
    config: &ModelConfig,
    name: &str,
    gpu: &Gpu,
    precision: Precision,
    batch: usize,
) -> Result<Profile, CliError> {
    let subject = match (args.task, args.guidance) {
        (Task::Sample, true) => format!("{} with guidance of {name}", args.task.name()),
        _ => format!("{} of {name}", args.task.name()),
    };
    let backend = CudaBackend {
        target: perf::target(gpu, precision),
        precision,
        group: true,
    };
    let compiled = match args.task {
        Task::Train => {
            let graph = training_graph(config, batch, precision)?;
            compile(&graph.graph, &backend)
        }
        _ => compile(&inference_graph(args, config, batch)?, &backend),
    };
    Ok(Profile::predict(
        &subject, gpu, precision, batch, &compiled,
    )?)
}

/// Image extents, and those of the latents that the noise estimator sees.
fn extents(config: &ModelConfig) -> Result<([usize; 2], [usize; 2]), CliError> {
    let [height, width] = config.image_size.ok_or_else(|| {
        CliError::new("the model does not say how large its images are: give --size")
    })?;
    let factor = config.vae.as_ref().map_or(1, |vae| vae.downsampling());
    let inner = config.unet.as_ref().map_or(1, |unet| unet.downsampling());
    if !height.is_multiple_of(factor * inner) || !width.is_multiple_of(factor * inner) {
        return Err(CliError::new(format!(
            "--size {height}x{width}: the networks need multiples of {}",
            factor * inner
        )));
    }
    Ok(([height, width], [height / factor, width / factor]))
}

fn missing(what: &str) -> CliError {
    CliError::new(format!(
        "the model has no {what}, so there is nothing to profile"
    ))
}

fn inference_graph(args: &Args, config: &ModelConfig, batch: usize) -> Result<Graph, CliError> {
    let (image, latent) = extents(config)?;
    let vae = || config.vae.as_ref().ok_or_else(|| missing("autoencoder"));
    let mut graph = Graph::new();
    match args.task {
        Task::Decode => {
            let vae = vae()?;
            let shape = [batch, latent[0], latent[1], vae.latent_channels];
            let z = graph.input("z", shape, DType::F32)?;
            let y = build_decoder(&mut graph, vae, z)?.y;
            graph.output("y", y);
        }
        Task::Encode => {
            let vae = vae()?;
            let shape = [batch, image[0], image[1], vae.in_channels];
            let x = graph.input("x", shape, DType::F32)?;
            let moments = build_encoder(&mut graph, vae, x)?;
            graph.output("mean", moments.mean);
            graph.output("logvar", moments.logvar);
        }
        Task::Sample | Task::Train | Task::Check => {
            let unet = config
                .unet
                .as_ref()
                .ok_or_else(|| missing("noise estimator"))?;
            let spec = SamplingSpec {
                batch,
                shape: vec![latent[0], latent[1], unet.in_channels],
                rows: args.steps,
                objective: config.objective,
                clip_x0: config.clip_x0,
                learned_variance: unet.learned_variance,
                guidance: args.guidance,
                labels: unet.num_classes.is_some(),
                noise: NoiseSource::Philox,
            };
            graph = sampler_graph(config, &spec)?;
        }
    }
    Ok(graph)
}

/// A training step as `medfusion train diffusion` does it by default: L1 on the noise, AdamW, averaged weights, clipped
/// gradients, and loss scaling in f16.
fn training_graph(
    config: &ModelConfig,
    batch: usize,
    precision: Precision,
) -> Result<TrainingGraph, CliError> {
    let (_, [height, width]) = extents(config)?;
    let unet = config
        .unet
        .as_ref()
        .ok_or_else(|| missing("noise estimator"))?;
    let noise = config
        .noise
        .as_ref()
        .ok_or_else(|| missing("noise schedule"))?;
    let schedule = NoiseSchedule::new(noise)?;
    let mut graph = Graph::new();
    let shape = [batch, height, width, unet.in_channels];
    let labels = match unet.num_classes {
        Some(_) => Some(graph.input("labels", [batch], DType::I32)?),
        None => None,
    };
    let inputs = DiffusionInputs {
        x_0: graph.input("x_0", shape, DType::F32)?,
        noise: graph.input("noise", shape, DType::F32)?,
        t: graph.input("t", [batch], DType::I32)?,
        labels,
    };
    let options = DiffusionLossOptions {
        objective: config.objective,
        distance: Distance::L1,
        supervision_weights: Vec::new(),
        input_centering: false,
    };
    let loss = diffusion_loss(&mut graph, unet, &schedule, &options, inputs)?;
    graph.output(names::LOSS, loss.total);
    let options = StepOptions {
        adam: AdamConfig::ADAMW,
        max_norm: 1.0,
        ema: Some(EmaOptions {
            max_decay: 0.9999,
            power: 2.0 / 3.0,
        }),
        accumulate: 1,
        loss_scaling: matches!(precision, Precision::F16 | Precision::F16Fast),
    };
    Ok(TrainingGraph::new(graph, loss.total, options)?)
}

/// One line per profile.
fn summary(args: &Args, gpu: &Gpu, profiles: &[Profile]) -> String {
    let mut text = format!(
        "{}, predicted\n{:>6} {:>9} {:>10} {:>12} {:>9} {:>7} {:>9} {:>10}",
        profiles[0].subject,
        "batch",
        "precision",
        "ms a run",
        "µs a sample",
        "launches",
        "gaps",
        "TFLOP/s",
        "memory"
    );
    let per_image = args.task == Task::Sample;
    if per_image {
        write!(text, " {:>14}", "images/s").expect("a string");
        write!(text, " {:>16}", format!("{} images", args.images)).expect("a string");
    }
    text.push('\n');
    for profile in profiles {
        let (sum, seconds) = (profile.sum(), profile.seconds());
        let memory = match profile.memory_bytes > gpu.memory() {
            true => format!("{:.1} GiB !", gib(profile.memory_bytes)),
            false => format!("{:.1} GiB", gib(profile.memory_bytes)),
        };
        write!(
            text,
            "{:>6} {:>9} {:>10.3} {:>12.0} {:>9} {:>6.1}% {:>9.1} {:>10}",
            profile.batch,
            profile.precision,
            1e3 * seconds,
            1e6 * seconds / profile.batch as f64,
            sum.launches,
            100.0 * profile.gaps() / seconds,
            1e-12 * sum.flops as f64 / seconds,
            memory,
        )
        .expect("a string");
        if per_image {
            let images = profile.batch as f64 / (seconds * args.steps as f64);
            let set = args.images as f64 / images;
            write!(text, " {images:>14.2} {:>16}", duration(set)).expect("a string");
        }
        text.push('\n');
    }
    if profiles
        .iter()
        .any(|profile| profile.memory_bytes > gpu.memory())
    {
        writeln!(
            text,
            "! does not fit into the {:.0} GiB of {}",
            gib(gpu.memory()),
            gpu.name
        )
        .expect("a string");
    }
    if per_image {
        text += "images/s are those of all steps, without decoding, which `medfusion profile decode` tells\n";
    }
    text.truncate(text.trim_end().len());
    text
}

fn duration(seconds: f64) -> String {
    match seconds {
        ..60.0 => format!("{seconds:.1} s"),
        60.0..3600.0 => format!("{:.1} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

/// Kernels, layers and what bounds them.
fn tables(args: &Args, profile: &Profile) -> String {
    let bounds = table(
        args,
        profile,
        "bound",
        profile.by(|launch| launch.bound.clone()),
    );
    let kernels = table(
        args,
        profile,
        "kernel",
        profile.by(|launch| launch.kernel.clone()),
    );
    let layers = table(
        args,
        profile,
        "layer",
        profile.by(|launch| match launch.layer.as_str() {
            "" => format!("({})", launch.op),
            layer => layer.to_owned(),
        }),
    );
    let assumed = profile
        .launches
        .iter()
        .filter(|launch| !launch.stated)
        .count();
    let assumed: f64 = match assumed {
        0 => 0.0,
        _ => profile
            .launches
            .iter()
            .filter(|launch| !launch.stated)
            .map(|launch| launch.seconds)
            .sum(),
    };
    format!(
        "\n{kernels}\n{layers}\n{bounds}\n{:.1} % of the time is of launches that are known by the sizes of their operands alone",
        100.0 * assumed / profile.seconds()
    )
}

fn table(
    args: &Args,
    profile: &Profile,
    title: &str,
    sums: std::collections::BTreeMap<String, ProfileSum>,
) -> String {
    let mut rows: Vec<(String, ProfileSum)> = sums.into_iter().collect();
    let key = |sum: &ProfileSum| match args.sort {
        Sort::Time => sum.seconds,
        Sort::Calls => sum.launches as f64,
        Sort::Flops => sum.flops as f64,
        Sort::Bytes => sum.dram_bytes as f64,
        Sort::Roofline => sum.seconds - sum.roofline_seconds,
    };
    rows.sort_by(|(_, a), (_, b)| key(b).total_cmp(&key(a)));
    let (shown, rest) = rows.split_at(rows.len().min(args.top));
    let width = shown.iter().map(|(name, _)| name.chars().count()).max();
    let width = width.unwrap_or(0).max(title.len()).max(8);
    let mut text = format!(
        "{title:<width$} {:>6} {:>10} {:>6} {:>9} {:>9} {:>9}\n",
        "calls", "µs", "share", "roofline", "GFLOP", "MB"
    );
    let total = profile.seconds();
    let mut row = |name: &str, sum: &ProfileSum| {
        writeln!(
            text,
            "{name:<width$} {:>6} {:>10.1} {:>5.1}% {:>8.0}% {:>9.2} {:>9.2}",
            sum.launches,
            1e6 * sum.seconds,
            100.0 * sum.seconds / total,
            100.0 * sum.roofline_seconds / sum.seconds.max(f64::MIN_POSITIVE),
            1e-9 * sum.flops as f64,
            1e-6 * sum.dram_bytes as f64,
        )
        .expect("a string");
    };
    for (name, sum) in shown {
        row(name, sum);
    }
    if !rest.is_empty() {
        let mut others = ProfileSum::default();
        rest.iter().for_each(|(_, sum)| others.merge(sum));
        row(&format!("{} more", rest.len()), &others);
    }
    row(
        "gaps",
        &ProfileSum {
            launches: profile.launches.len(),
            seconds: profile.gaps(),
            ..ProfileSum::default()
        },
    );
    text
}

/// What became faster or slower since `path` was written.
fn compare(path: &std::path::Path, profiles: &[Profile]) -> Result<String, CliError> {
    let refuse = |why: String| CliError::new(format!("--compare {}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    let versions: Vec<serde_json::Value> = serde_json::from_str(&text)
        .map_err(|error| refuse(format!("not a list of profiles that --json wrote: {error}")))?;
    for profile in &versions {
        let version = profile["version"].as_u64();
        if version != Some(u64::from(perf::PROFILE_VERSION)) {
            let found = version.map_or("none".to_owned(), |version| version.to_string());
            return Err(refuse(format!(
                "expected profiles of version {}, found {found}; write it again with this program's --json",
                perf::PROFILE_VERSION
            )));
        }
    }
    let old: Vec<Profile> =
        serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
    let mut report = format!("\ncompared with {}\n", path.display());
    for new in profiles {
        let same = |old: &&Profile| {
            (
                &old.subject,
                &old.gpu,
                &old.method,
                old.batch,
                &old.precision,
            ) == (
                &new.subject,
                &new.gpu,
                &new.method,
                new.batch,
                &new.precision,
            )
        };
        let Some(old) = old.iter().find(same) else {
            return Err(refuse(format!(
                "it has no {}, {}, batch {}, {} on {}",
                new.method, new.subject, new.batch, new.precision, new.gpu
            )));
        };
        let (before, after) = (old.seconds(), new.seconds());
        writeln!(
            report,
            "batch {}, {}: {:.1} µs, was {:.1} µs: {}",
            new.batch,
            new.precision,
            1e6 * after,
            1e6 * before,
            verdict(before, after)
        )
        .expect("a string");
        let key = |launch: &perf::LaunchProfile| launch.kernel.clone();
        let (olds, news) = (old.by(key), new.by(key));
        for (kernel, sum) in &news {
            let before = olds.get(kernel).map_or(0.0, |sum| sum.seconds);
            if verdict(before, sum.seconds) != "same" {
                writeln!(
                    report,
                    "  {kernel}: {:.1} µs, was {:.1} µs: {}",
                    1e6 * sum.seconds,
                    1e6 * before,
                    verdict(before, sum.seconds)
                )
                .expect("a string");
            }
        }
        for (kernel, sum) in olds
            .iter()
            .filter(|(kernel, _)| !news.contains_key(*kernel))
        {
            writeln!(report, "  {kernel}: gone, was {:.1} µs", 1e6 * sum.seconds)
                .expect("a string");
        }
    }
    Ok(report)
}

/// Predictions have no noise; differences below half a percent are of no account.
fn verdict(before: f64, after: f64) -> &'static str {
    match after / before {
        ratio if ratio < 1.0 - SAME => "faster",
        ratio if ratio > 1.0 + SAME => "slower",
        _ => "same",
    }
}
