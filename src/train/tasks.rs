//! What the three tasks share: from a run file to a planned step, and models made of its weights.

use std::collections::BTreeSet;
use std::path::Path;

use rand::RngExt;

use super::error::TrainError;
use super::run_file::sections::{self, DropoutUnit, OptimizerKind, PixelLossKind};
use super::step::{EmaOptions, StepOptions, TrainingGraph};
use crate::checkpoint::Model;
use crate::compile::{self, Precision, PrecisionChoice};
use crate::data::{Dataset, Loader};
use crate::device::{Device, DeviceChoice};
use crate::image::grid::{GridOptions, compose};
use crate::image::png::Image8;
use crate::ops::optimizer::AdamConfig;
use crate::ops::pixel_loss::Distance;
use crate::tensor::TensorMap;
use crate::tensor::philox::{
    Philox, RandomStream, philox4x32_10, stream_counter, stream_key, uniform_below,
};

/// Opens the device of a run file.
pub(super) fn open_device(device: &sections::Device) -> Result<Device, TrainError> {
    let choice: DeviceChoice = device.device.parse()?;
    let precision: PrecisionChoice = device.precision.parse()?;
    Ok(Device::builder()
        .choice(choice)
        .precision(precision)
        .purpose(compile::Purpose::Training)
        .threads(device.threads)
        .open()?)
}

/// The memory budget in bytes.
pub(super) fn budget_bytes(device: &sections::Device) -> Option<usize> {
    device
        .memory
        .map(|memory| usize::try_from(memory.0).unwrap_or(usize::MAX))
}

/// The update rule of a run file.
pub(super) fn step_options(
    optimizer: &sections::Optimizer,
    ema: &sections::Ema,
    train: &sections::Train,
    device: &sections::Device,
) -> StepOptions {
    let precision = device.precision.parse::<Precision>();
    StepOptions {
        adam: AdamConfig {
            beta1: optimizer.betas[0],
            beta2: optimizer.betas[1],
            eps: optimizer.eps,
            weight_decay: optimizer.weight_decay,
            decoupled: optimizer.kind == OptimizerKind::AdamW,
        },
        max_norm: optimizer
            .grad_clip
            .map_or(f32::INFINITY, |norm| norm as f32),
        ema: ema.enabled.then_some(EmaOptions {
            max_decay: ema.max_decay,
            power: ema.power,
        }),
        accumulate: train.accumulate,
        // The range of bf16 is that of f32.
        loss_scaling: matches!(precision, Ok(Precision::F16 | Precision::F16Fast)),
    }
}

impl From<PixelLossKind> for Distance {
    fn from(pixel: PixelLossKind) -> Self {
        match pixel {
            PixelLossKind::L1 => Self::L1,
            PixelLossKind::Mse => Self::L2,
        }
    }
}

/// A hash of what decides what a run's next step is, beside its state.
pub(super) fn identity(parts: &[String]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part.as_bytes()).update(&[0]);
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// `known` with the values of `trained` where there are any: parameters that no output depends on stay as they began.
pub(super) fn overlay(known: &TensorMap, trained: &TensorMap) -> TensorMap {
    let mut all = known.clone();
    for (name, tensor) in trained {
        all.insert(name.clone(), tensor.clone());
    }
    all
}

/// The initial values of parameters that no step changes, because no output depends on them.
pub(super) fn untrained(initial: &TensorMap, training: &TrainingGraph) -> TensorMap {
    let trained: BTreeSet<&str> = training
        .gradients
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    initial
        .iter()
        .filter(|(name, _)| !trained.contains(name.as_str()))
        .map(|(name, tensor)| (name.clone(), tensor.clone()))
        .collect()
}

/// Opens the autoencoder of a diffusion run.
pub(super) fn open_vae(path: &Path) -> Result<Model, TrainError> {
    Ok(Model::open(path)?)
}

/// Images decoded in order, at most `most`, evenly spread over the set: `(images, labels)`. Unreadable ones are left
/// out.
pub(super) fn spread(
    dataset: &Dataset,
    transform: &crate::data::Transform,
    most: usize,
) -> (Vec<Vec<f32>>, Vec<i32>) {
    let count = dataset.len().min(most);
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for k in 0..count {
        let index = k * dataset.len() / count;
        match dataset.pixels(index) {
            Ok(pixels) => {
                images.push(transform.apply(pixels));
                labels.push(dataset.samples()[index].class as i32);
            }
            Err(error) => tracing::warn!("{error}; not measured on"),
        }
    }
    (images, labels)
}

/// The next batch of an endless loader.
pub(super) fn next_batch(loader: &mut Loader) -> Result<crate::data::Batch, TrainError> {
    match loader.next() {
        Some(batch) => Ok(batch?),
        None => Err(TrainError::Setting(
            "the data set ended, expected an endless one".to_owned(),
        )),
    }
}

/// Says how many images could not be decoded; each was named when it was met.
pub(super) fn report_skipped(loader: &Loader) {
    let count = loader.skipped().len();
    if count > 0 {
        tracing::warn!("{count} unreadable images were left out");
    }
}

/// Pairs or rows of small images, enlarged to a size that a person can look at.
pub(super) fn picture(tiles: &[Image8], columns: usize, row_labels: Vec<String>) -> Image8 {
    let height = tiles.first().map_or(1, |tile| tile.height);
    let options = GridOptions {
        scale: (128 / height.max(1)).clamp(1, 4),
        row_labels,
        ..GridOptions::new(columns)
    };
    compose(tiles, &options)
}

/// Random choices of a diffusion step that the host makes, functions of seed, step and sample.
pub(super) struct Draws {
    time: [u32; 2],
    dropout: [u32; 2],
}

impl Draws {
    pub fn new(seed: u64) -> Self {
        Self {
            time: stream_key(seed, RandomStream::TimeStep),
            dropout: stream_key(seed, RandomStream::ConditionDropout),
        }
    }

    /// A time step in `0..timesteps`.
    pub fn time_step(&self, step: u64, sample: i32, timesteps: usize) -> i32 {
        let words = philox4x32_10(self.time, stream_counter(sample as u64, step as u32, 0));
        uniform_below(words[0], words[1], timesteps as u64) as i32
    }

    /// Whether the condition of a sample is dropped.
    pub fn drops(&self, step: u64, sample: i32, unit: DropoutUnit, probability: f64) -> bool {
        let sample = match unit {
            DropoutUnit::Sample => sample,
            DropoutUnit::Batch => 0,
        };
        let draw: f32 = Philox::new(self.dropout, sample as u64, step as u32).random();
        f64::from(draw) < probability
    }
}
