//! `medfusion profile`: where the time of a run goes, predicted for a GPU that need not be there.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::CliError;
use super::networks::{MOST_BATCH, NetworkOptions, Networks};
use super::process::print;
use crate::bytes::gib;
use crate::compile::{CudaBackend, Precision, compile};
use crate::files::write_bytes_atomically;
use crate::perf::{self, Gpu, Profile, ProfileSum};

/// Relative difference below which two predictions count as the same.
const SAME: f64 = 0.005;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What runs
    #[arg(value_enum)]
    task: ProfiledTask,
    #[command(flatten)]
    networks: NetworkOptions,
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
    /// Write the only profile to this file as a Chrome trace, which Perfetto opens
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Compare with a file that --json wrote
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ProfiledTask {
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

impl ProfiledTask {
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
    if args.task == ProfiledTask::Check {
        return print(perf::published::report().trim_end());
    }
    let gpu = Gpu::named(&args.gpu)?;
    let networks = Networks::open(&args.networks)?;
    let mut profiles = Vec::new();
    for &precision in &args.precision {
        for &batch in &args.batch {
            profiles.push(predict(args, &networks, gpu, precision, batch as usize)?);
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
        write(path, &text)?;
    }
    if let Some(path) = &args.trace {
        let [profile] = &profiles[..] else {
            return Err(CliError::new(format!(
                "--trace {}: a trace shows one profile, and there are {}; name one --batch and one --precision",
                path.display(),
                profiles.len()
            )));
        };
        write(path, &profile.trace().to_string())?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), CliError> {
    write_bytes_atomically(path, text.as_bytes())
        .map_err(|error| CliError::new(format!("{}: {error}", path.display())))
}

fn predict(
    args: &Args,
    networks: &Networks,
    gpu: &Gpu,
    precision: Precision,
    batch: usize,
) -> Result<Profile, CliError> {
    let name = &networks.name;
    let subject = match (args.task, args.guidance) {
        (ProfiledTask::Sample, true) => format!("{} with guidance of {name}", args.task.name()),
        _ => format!("{} of {name}", args.task.name()),
    };
    let graph = match args.task {
        ProfiledTask::Train => networks.training(batch, precision)?.graph,
        ProfiledTask::Decode => networks.decoding(batch)?,
        ProfiledTask::Encode => networks.encoding(batch)?,
        ProfiledTask::Sample | ProfiledTask::Check => {
            networks.sampling(batch, args.steps, args.guidance)?
        }
    };
    let backend = CudaBackend {
        target: perf::target(gpu, precision),
        precision,
        group: true,
    };
    let compiled = compile(&graph, &backend);
    Ok(Profile::predict(
        &subject, gpu, precision, batch, &compiled,
    )?)
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
    let per_image = args.task == ProfiledTask::Sample;
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
fn compare(path: &Path, profiles: &[Profile]) -> Result<String, CliError> {
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
