//! `medfusion plan`: memory and work of any batch, without running anything.

use std::fmt::Write as _;

use super::error::CliError;
use super::networks::{MOST_BATCH, NetworkOptions, Networks};
use super::process::print;
use crate::bytes::{ByteSize, gib};
use crate::compile::{Compiled, CudaBackend, Precision, compile, compile_within};
use crate::perf::{self, Gpu};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    networks: NetworkOptions,
    /// GPU that plans are made for
    #[arg(long, value_name = "NAME", default_value = "rtx3090")]
    gpu: String,
    /// Memory that a run may take, such as 20GiB [default: all that the GPU has]
    #[arg(long, value_name = "BYTES")]
    memory: Option<ByteSize>,
    /// Samples at once, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,8,32,64",
          value_parser = clap::value_parser!(u64).range(1..=MOST_BATCH))]
    batch: Vec<u64>,
    /// Precision of sampling and decoding
    #[arg(long, default_value = "f16")]
    precision: Precision,
    /// Precision of training
    #[arg(long, default_value = "bf16")]
    training_precision: Precision,
    /// With guidance: the network sees each sample twice
    #[arg(long)]
    guidance: bool,
}

/// Sampling steps; they change a table of some MB.
const STEPS: usize = 150;

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let gpu = Gpu::named(&args.gpu)?;
    let networks = Networks::open(&args.networks)?;
    let budget = args.memory.map_or(gpu.memory(), |ByteSize(bytes)| {
        usize::try_from(bytes).unwrap_or(usize::MAX)
    });
    let backend = |precision| CudaBackend {
        target: perf::target(gpu, precision),
        precision,
        group: true,
    };
    let (inference, training) = (backend(args.precision), backend(args.training_precision));
    let sample = |batch: usize| -> Result<Compiled, CliError> {
        Ok(compile(
            &networks.sampling(batch, STEPS, args.guidance)?,
            &inference,
        ))
    };
    let decode = |batch: usize| -> Result<Compiled, CliError> {
        Ok(compile(&networks.decoding(batch)?, &inference))
    };
    let has_decoder = networks.decoding(1).is_ok();
    // A sampler holds both plans at once.
    let sampling_bytes = |batch: usize| -> Result<usize, CliError> {
        let decoder = match has_decoder {
            true => decode(batch)?.memory.total_bytes(),
            false => 0,
        };
        Ok(sample(batch)?.memory.total_bytes() + decoder)
    };
    let train = |batch: usize| -> Result<Compiled, CliError> {
        let graph = networks.training(batch, args.training_precision)?;
        Ok(compile(&graph.graph, &training))
    };
    // What is computed again makes room; `None` where no plan fits.
    let train_within = |batch: usize| -> Result<Option<Compiled>, CliError> {
        let graph = networks.training(batch, args.training_precision)?;
        Ok(compile_within(&graph.graph, &training, graph.forward_nodes, budget).ok())
    };

    let mut text = format!(
        "{} on {}, planned; {:.1} GiB may be taken\n{:>6} {:>22} {:>22} {:>26}\n",
        networks.name,
        gpu.name,
        gib(budget),
        "batch",
        format!("sampling, {}", args.precision),
        format!("training, {}", args.training_precision),
        "training within the memory",
    );
    for &batch in &args.batch {
        let batch = batch as usize;
        let trained = train(batch)?;
        let within = match trained.memory.total_bytes() <= budget {
            true => "as it is".to_owned(),
            false => match train_within(batch)? {
                Some(fitted) => format!(
                    "{:.2} GiB, {:+.0} % work",
                    gib(fitted.memory.total_bytes()),
                    100.0 * (fitted.plan.flops() as f64 / trained.plan.flops() as f64 - 1.0)
                ),
                None => "does not fit".to_owned(),
            },
        };
        let planned = |bytes: usize, flops: u64| {
            let mark = if bytes > budget { " !" } else { "" };
            format!(
                "{:.2} GiB, {:.1} TFLOP{mark}",
                gib(bytes),
                1e-12 * flops as f64
            )
        };
        let sampled = sample(batch)?.plan.flops();
        writeln!(
            text,
            "{batch:>6} {:>22} {:>22} {within:>26}",
            planned(sampling_bytes(batch)?, sampled),
            planned(trained.memory.total_bytes(), trained.plan.flops()),
        )
        .expect("a string");
    }
    let fits = |batch: usize| Ok(sampling_bytes(batch)? <= budget);
    let sampling = largest(fits)?;
    let plain = largest(|batch| Ok(train(batch)?.memory.total_bytes() <= budget))?;
    writeln!(
        text,
        "TFLOP are those of a step of the whole batch; sampling holds the decoder's plan too\n\
         largest batch that fits: {} sampling, {} training",
        shown(sampling),
        shown(plain)
    )
    .expect("a string");
    print(text.trim_end())
}

fn shown(batch: usize) -> String {
    match batch as u64 {
        0 => "none".to_owned(),
        MOST_BATCH => format!("{MOST_BATCH} or more"),
        batch => batch.to_string(),
    }
}

/// The largest batch for which `fits` holds, up to [`MOST_BATCH`]; 0 if it does not hold for 1. Memory grows with the
/// batch.
fn largest(fits: impl Fn(usize) -> Result<bool, CliError>) -> Result<usize, CliError> {
    let most = MOST_BATCH as usize;
    let (mut low, mut high) = (0, 1);
    while high <= most && fits(high)? {
        (low, high) = (high, 2 * high);
    }
    high = high.min(most + 1);
    while high - low > 1 {
        let middle = low.midpoint(high);
        match fits(middle)? {
            true => low = middle,
            false => high = middle,
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_batch_is_found() {
        let most = MOST_BATCH as usize;
        for limit in [0, 1, 2, 3, 7, 8, 100, most - 1, most, most + 5] {
            let found = largest(|batch| Ok(batch <= limit)).expect("no error");
            assert_eq!(found, limit.min(most), "{limit}");
        }
    }
}
