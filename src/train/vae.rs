//! Training of the image autoencoder.

use std::path::Path;
use std::sync::Arc;

use super::error::TrainError;
use super::init::initial_weights;
use super::loss::{VaeLossOptions, vae_loss};
use super::names;
use super::run_file::{Sets, VaeRun};
use super::session::{Measured, Pass, Session, TrainingTask, Watch};
use super::step::TrainingGraph;
use super::tasks::{
    budget_bytes, identity, next_batch, open_device, overlay, picture, report_skipped, spread,
    step_options, untrained,
};
use crate::checkpoint::{MODEL_FORMAT, ModelConfig};
use crate::checkpoint::{Model, StoredModel, read_safetensors, save_folder};
use crate::data::{Dataset, Loader, Position, Transform};
use crate::device::{Compiled, Device, Executable};
use crate::graph::Graph;
use crate::image::png::Image8;
use crate::model::config::VaeConfig;
use crate::model::{build_decoder, build_encoder, lpips};
use crate::pipeline::{Autoencoder, psnr_db};
use crate::tensor::philox::RandomStream;
use crate::tensor::{DType, TensorMap};

/// Held-out images that a measurement uses at most.
const MOST_MEASURED: usize = 512;
/// Pairs of image and reconstruction in a picture.
const PAIRS: usize = 16;

/// The step of a run as a graph: images in, loss, update.
///
/// # Errors
/// If the architecture or the image size does not fit.
pub fn training_graph(run: &VaeRun) -> Result<TrainingGraph, TrainError> {
    let config = run.model.config(run.data.image_channels());
    config.validate()?;
    let [height, width] = run.data.image_size;
    let batch = run.train.batch;
    let mut g = Graph::new();
    let shape = [batch, height, width, run.data.image_channels()];
    let images = g.input(names::IMAGES, shape, DType::F32)?;
    let moments = build_encoder(&mut g, &config, images)?;
    let seed = g.state(names::SEED, [2], DType::I32)?;
    let step = g.state(names::STEP, [1], DType::I32)?;
    let samples = g.input(names::SAMPLES, [batch], DType::I32)?;
    let latent = g.shape(moments.mean)[1..].to_vec();
    let noise = g.philox_normal(RandomStream::LatentNoise, seed, samples, step, latent)?;
    let z = g.reparameterize(moments.mean, moments.logvar, noise)?;
    let decoded = build_decoder(&mut g, &config, z)?;
    let options = VaeLossOptions {
        pixel: run.loss.pixel.into(),
        ssim: run.loss.ssim,
        perceptual: run.loss.lpips_weights.is_some(),
        kl_weight: run.loss.kl_weight,
        supervision_weights: run.loss.supervision_weights.clone().unwrap_or_default(),
    };
    let loss = vae_loss(&mut g, &options, moments, &decoded, images)?;
    g.output(names::LOSS, loss.total);
    g.output("loss/reconstruction", loss.reconstruction);
    g.output("loss/kl", loss.kl);
    g.output("loss/pixel", loss.outputs[0].pixel);
    if let Some([term, _]) = loss.outputs[0].ssim {
        g.output("loss/ssim", term);
    }
    if let Some([term, _]) = loss.outputs[0].perceptual {
        g.output("loss/perceptual", term);
    }
    let options = step_options(&run.optimizer, &run.ema, &run.train, &run.device);
    Ok(TrainingGraph::new(g, loss.total, options)?)
}

/// A planned run, before anything is loaded: to look at, and for the loop.
///
/// # Errors
/// If the architecture does not fit or the memory budget is too small.
pub fn plan(run: &VaeRun) -> Result<(TrainingGraph, Compiled, Device), TrainError> {
    let device = open_device(&run.device)?;
    let training = training_graph(run)?;
    let compiled = training.compile(&device, budget_bytes(&run.device))?;
    Ok((training, compiled, device))
}

/// Trains an autoencoder as `run` says, in the folder `out`; `watch` sees every step and can stop the loop.
///
/// # Errors
/// Whatever stops it; see [`TrainError`].
pub fn train(run: &VaeRun, out: &Path, resume: bool, watch: Watch<'_>) -> Result<(), TrainError> {
    train_on(run.data.open()?, run, out, resume, watch)
}

/// As [`train`], on sets that are open.
pub(super) fn train_on(
    sets: Sets,
    run: &VaeRun,
    out: &Path,
    resume: bool,
    watch: Watch<'_>,
) -> Result<(), TrainError> {
    let (training, compiled, device) = plan(run)?;
    let identity = identity(&[
        sets.train.fingerprint(),
        format!(
            "{:?} {} {}",
            run.model, run.train.batch, run.train.accumulate
        ),
    ]);
    let mut session = Session::open(out, &run.train, &run.optimizer, identity, resume)?;
    let config = run.model.config(run.data.image_channels());
    let initial = initial_weights(training.graph.declared_parameters(), run.train.seed);
    let kept = untrained(&initial, &training);
    let mut weights = initial;
    match &run.loss.lpips_weights {
        Some(path) => weights.extend(perceptual_weights(path)?),
        None => tracing::info!(
            "no perceptual loss: loss.lpips_weights names no VGG16 weights; the reference trains with it"
        ),
    }
    let options = run.data.training_loader(run.train.batch, run.train.seed)?;
    let mut task = VaeTask {
        loader: Loader::new(sets.train.clone(), options, session.start())?,
        terms: terms(&training),
        transform: run.data.transform()?,
        holdout: sets.holdout,
        config,
        class_names: sets.train.classes().to_vec(),
        initial: kept,
        device: device.clone(),
    };
    let result = session.run(&mut task, &training, compiled, &device, weights, watch);
    report_skipped(&task.loader);
    result
}

/// Scalar outputs that are losses.
pub(super) fn terms(training: &TrainingGraph) -> Vec<(String, String)> {
    let outputs = training.graph.outputs().iter();
    outputs
        .filter(|(name, _)| name.starts_with("loss/"))
        .map(|(name, _)| (name.clone(), name.clone()))
        .collect()
}

/// VGG16 weights from a file: under the reference's names, with or without the path before them, or torchvision's
/// `features.N.weight`.
fn perceptual_weights(path: &Path) -> Result<TensorMap, TrainError> {
    let tensors = read_safetensors(path)?.tensors;
    let mut weights = TensorMap::new();
    for (name, shape) in lpips::parameters() {
        let full = format!("{}.{name}", lpips::PATH);
        // `net.slice3.10.weight` is torchvision's `features.10.weight`.
        let tail: Vec<&str> = name.rsplitn(3, '.').collect();
        let torchvision = format!("features.{}.{}", tail[1], tail[0]);
        let tensor = [&full, &name, &torchvision]
            .into_iter()
            .find_map(|key| tensors.get(key))
            .ok_or_else(|| {
                TrainError::Setting(format!(
                    "loss.lpips_weights = {}: no tensor `{full}`, `{name}` or `{torchvision}`; expected the \
                     convolutions of VGG16",
                    path.display()
                ))
            })?;
        if tensor.shape() != shape {
            return Err(TrainError::Setting(format!(
                "loss.lpips_weights = {}: `{name}` has shape {:?}, VGG16 has {shape:?}",
                path.display(),
                tensor.shape()
            )));
        }
        weights.insert(full, tensor.clone());
    }
    Ok(weights)
}

/// A held-out image and what the autoencoder makes of it.
struct Pair {
    image: Vec<f32>,
    back: Vec<f32>,
    /// Mean squared error on [0, 1].
    mse: f64,
}

struct VaeTask {
    loader: Loader,
    terms: Vec<(String, String)>,
    transform: Transform,
    holdout: Option<Arc<Dataset>>,
    config: VaeConfig,
    class_names: Vec<String>,
    initial: TensorMap,
    device: Device,
}

impl VaeTask {
    fn model(&self, weights: &TensorMap) -> StoredModel {
        StoredModel {
            config: ModelConfig {
                format: MODEL_FORMAT,
                unet: None,
                vae: Some(self.config.clone()),
                noise: None,
                objective: Default::default(),
                clip_x0: false,
                input_centering: false,
                image_size: Some(self.transform.size),
                class_names: self.class_names.clone(),
            },
            unet: TensorMap::new(),
            vae: overlay(&self.initial, weights),
        }
    }

    /// At most `most` held-out images and what comes back of them.
    fn reconstruct(&self, weights: &TensorMap, most: usize) -> Result<Vec<Pair>, TrainError> {
        let Some(holdout) = &self.holdout else {
            return Ok(Vec::new());
        };
        const BATCH: usize = 8;
        let model = Model::in_memory(self.model(weights), "the run");
        let size = self.transform.size;
        let mut autoencoder = Autoencoder::round_trip(&model, &self.device, BATCH, size)?;
        let (images, _) = spread(holdout, &self.transform, most);
        let mut results = Vec::with_capacity(images.len());
        for chunk in images.chunks(BATCH) {
            let slices: Vec<&[f32]> = chunk.iter().map(Vec::as_slice).collect();
            for (image, result) in chunk.iter().zip(autoencoder.reconstruct(&slices)?) {
                results.push(Pair {
                    image: image.clone(),
                    back: result.pixels,
                    mse: result.mse,
                });
            }
        }
        Ok(results)
    }
}

impl TrainingTask for VaeTask {
    fn feed(&mut self, executable: &mut dyn Executable, pass: Pass) -> Result<bool, TrainError> {
        let batch = next_batch(&mut self.loader)?;
        executable.write(names::IMAGES, &batch.images)?;
        executable.write_i32(names::SAMPLES, &pass.samples())?;
        Ok(true)
    }

    fn position(&self) -> Position {
        self.loader.next_position()
    }

    fn waited_s(&self) -> f64 {
        self.loader.waited().as_secs_f64()
    }

    fn terms(&self) -> Vec<(String, String)> {
        self.terms.clone()
    }

    fn measure(&mut self, weights: &TensorMap) -> Result<Option<Measured>, TrainError> {
        let results = self.reconstruct(weights, MOST_MEASURED)?;
        if results.is_empty() {
            return Ok(None);
        }
        let count = results.len() as f64;
        let mse = results.iter().map(|pair| pair.mse).sum::<f64>() / count;
        let psnr = results.iter().map(|pair| psnr_db(pair.mse)).sum::<f64>() / count;
        Ok(Some(Measured {
            values: vec![("mse", mse), ("psnr_db", psnr)],
            metric: mse,
        }))
    }

    fn pictures(&mut self, weights: &TensorMap) -> Result<Vec<(&'static str, Image8)>, TrainError> {
        let [height, width] = self.transform.size;
        let shape = [height, width, self.transform.channels];
        let tiles: Vec<Image8> = self
            .reconstruct(weights, PAIRS)?
            .iter()
            .flat_map(|pair| {
                [&pair.image, &pair.back].map(|pixels| Image8::from_f32(pixels, shape))
            })
            .collect();
        if tiles.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![("reconstructions", picture(&tiles, 8, Vec::new()))])
    }

    fn export(&self, weights: &TensorMap, folder: &Path) -> Result<(), TrainError> {
        save_folder(folder, &self.model(weights), None)?;
        Ok(())
    }
}
