//! Training of the noise estimator, on the latents of a frozen autoencoder or on pixels.

use std::path::Path;
use std::sync::Arc;

use super::error::TrainError;
use super::init::initial_weights;
use super::latents::{BATCH, LatentCache, LatentLoader, LatentSource, latent_len};
use super::loss::{DiffusionInputs, DiffusionLoss, DiffusionLossOptions, diffusion_loss};
use super::names;
use super::run_file::{DiffusionRun, Sets};
use super::session::{Event, Measured, Pass, Session, TrainingTask, Watch};
use super::step::TrainingGraph;
use super::tasks::{
    Draws, budget_bytes, identity, next_batch, open_device, open_vae, overlay, picture,
    report_skipped, spread, step_options, untrained,
};
use super::vae::terms;
use crate::checkpoint::{MODEL_FORMAT, ModelConfig};
use crate::checkpoint::{Model, StoredModel, save_folder};
use crate::data::{Dataset, Loader, Position};
use crate::device::{Compiled, Device, Executable};
use crate::diffusion::NoiseSchedule;
use crate::graph::Graph;
use crate::image::png::Image8;
use crate::model::config::UnetConfig;
use crate::pipeline::{Autoencoder, Sampler};
use crate::tensor::philox::{RandomStream, seed_words};
use crate::tensor::{DType, TensorMap};

/// Held-out images that a measurement uses at most.
const MOST_MEASURED: usize = 256;
/// Samples of each class in a picture, and their steps.
const SAMPLES: u64 = 4;
const SAMPLING_STEPS: usize = 50;

/// What the network is trained on.
#[derive(Clone, Debug)]
struct Space {
    /// `[h, w, c]` of a sample.
    shape: [usize; 3],
    /// Samples are drawn from means and log-variances.
    latent: bool,
}

impl Space {
    fn new(run: &DiffusionRun, vae: Option<&Model>) -> Self {
        let [height, width] = run.data.image_size;
        match vae.and_then(|model| model.config.vae.as_ref()) {
            Some(vae) => {
                let factor = vae.downsampling().max(1);
                Self {
                    shape: [height / factor, width / factor, vae.latent_channels],
                    latent: true,
                }
            }
            None => Self {
                shape: [height, width, run.data.image_channels()],
                latent: false,
            },
        }
    }
}

/// Noising, network and loss, their random numbers drawn on the device.
fn loss_graph(
    run: &DiffusionRun,
    unet: &UnetConfig,
    space: &Space,
    batch: usize,
) -> Result<(Graph, DiffusionLoss), TrainError> {
    let schedule = NoiseSchedule::new(&run.diffusion.noise())?;
    let mut g = Graph::new();
    let [h, w, c] = space.shape;
    let shape = [batch, h, w, c];
    let seed = g.state(names::SEED, [2], DType::I32)?;
    let step = g.state(names::STEP, [1], DType::I32)?;
    let samples = g.input(names::SAMPLES, [batch], DType::I32)?;
    let x_0 = match space.latent {
        true => {
            let mean = g.input(names::MEAN, shape, DType::F32)?;
            let logvar = g.input(names::LOGVAR, shape, DType::F32)?;
            let noise =
                g.philox_normal(RandomStream::LatentNoise, seed, samples, step, space.shape)?;
            g.reparameterize(mean, logvar, noise)?
        }
        false => g.input(names::IMAGES, shape, DType::F32)?,
    };
    let noise = g.philox_normal(
        RandomStream::TrainingNoise,
        seed,
        samples,
        step,
        space.shape,
    )?;
    let inputs = DiffusionInputs {
        x_0,
        noise,
        t: g.input(names::TIME_STEPS, [batch], DType::I32)?,
        labels: match unet.num_classes {
            Some(_) => Some(g.input(names::LABELS, [batch], DType::I32)?),
            None => None,
        },
    };
    let options = DiffusionLossOptions {
        objective: run.diffusion.objective,
        distance: run.loss.pixel.into(),
        supervision_weights: run.loss.supervision_weights.clone().unwrap_or_default(),
        input_centering: run.diffusion.input_centering,
    };
    let loss = diffusion_loss(&mut g, unet, &schedule, &options, inputs)?;
    g.output(names::LOSS, loss.total);
    g.output("loss/prediction", loss.prediction);
    if let Some(variance) = loss.variance {
        g.output("loss/variance", variance);
    }
    Ok((g, loss))
}

/// The step of a run that noises images themselves.
#[cfg(test)]
pub(super) fn training_graph(
    run: &DiffusionRun,
    classes: usize,
) -> Result<TrainingGraph, TrainError> {
    let space = Space::new(run, None);
    let unet = run.model.config(space.shape[2], classes, &run.diffusion);
    let (graph, loss) = loss_graph(run, &unet, &space, run.train.batch)?;
    let options = step_options(&run.optimizer, &run.ema, &run.train, &run.device);
    Ok(TrainingGraph::new(graph, loss.total, options)?)
}

/// A planned run.
struct PlannedTraining {
    training: TrainingGraph,
    compiled: Compiled,
    device: Device,
    unet: UnetConfig,
    space: Space,
    vae: Option<Model>,
}

fn prepare(run: &DiffusionRun, classes: usize) -> Result<PlannedTraining, TrainError> {
    let device = open_device(&run.device)?;
    let vae = match &run.latents.vae {
        Some(path) => Some(open_vae(path)?),
        None => None,
    };
    let space = Space::new(run, vae.as_ref());
    let unet = run.model.config(space.shape[2], classes, &run.diffusion);
    unet.validate()?;
    let (graph, loss) = loss_graph(run, &unet, &space, run.train.batch)?;
    let options = step_options(&run.optimizer, &run.ema, &run.train, &run.device);
    let training = TrainingGraph::new(graph, loss.total, options)?;
    let compiled = training.compile(&device, budget_bytes(&run.device))?;
    Ok(PlannedTraining {
        training,
        compiled,
        device,
        unet,
        space,
        vae,
    })
}

/// The plan of a run's step for so many classes, to look at.
///
/// # Errors
/// If the architecture does not fit or the memory budget is too small.
pub fn plan(run: &DiffusionRun, classes: usize) -> Result<Compiled, TrainError> {
    Ok(prepare(run, classes)?.compiled)
}

/// Trains a noise estimator as `run` says, in the folder `out`; `watch` sees every step and can stop the loop.
///
/// # Errors
/// Whatever stops it; see [`TrainError`].
pub fn train(
    run: &DiffusionRun,
    out: &Path,
    resume: bool,
    watch: Watch<'_>,
) -> Result<(), TrainError> {
    train_on(run.data.open()?, run, out, resume, watch)
}

/// As [`train`], on sets that are open.
pub(super) fn train_on(
    sets: Sets,
    run: &DiffusionRun,
    out: &Path,
    resume: bool,
    watch: Watch<'_>,
) -> Result<(), TrainError> {
    let classes = sets.train.classes().to_vec();
    let PlannedTraining {
        training,
        compiled,
        device,
        unet,
        space,
        vae,
    } = prepare(run, classes.len())?;
    let fingerprint = sets.train.fingerprint();
    let identity = identity(&[
        fingerprint.clone(),
        vae.as_ref().map_or(String::new(), |vae| vae.hash.clone()),
        format!(
            "{:?} {} {}",
            run.model, run.train.batch, run.train.accumulate
        ),
    ]);
    let mut session = Session::open(out, &run.train, &run.optimizer, identity, resume)?;
    let transform = run.data.transform()?;
    let options = run.data.training_loader(run.train.batch, run.train.seed)?;
    let source = LatentSource {
        dataset: &sets.train,
        fingerprint,
        transform,
        augment: options.augment,
        on_corrupt: run.data.on_corrupt,
    };
    let mut encoder = match &vae {
        Some(vae) => Some(encoder(vae, &device, &transform)?),
        None => None,
    };
    let held_out = match &sets.holdout {
        Some(set) => Some(HeldOut::new(set, &transform, encoder.as_mut())?),
        None => None,
    };
    let start = session.start();
    let data = match (encoder, &vae) {
        (Some(mut encoder), Some(vae)) if run.latents.cache => {
            let folder = out.join("latents");
            let mut progress = |done: u64, total: u64| {
                let what = "encoding the images";
                match watch(&Event::Preparing { what, done, total }).is_break() {
                    true => Err(TrainError::Interrupted { step: 0 }),
                    false => Ok(()),
                }
            };
            let cache = LatentCache::open(&folder, &source, vae, &mut encoder, &mut progress)?;
            let (balanced, seed) = (options.balanced, options.seed);
            Feed::Cached(LatentLoader::new(cache, &source, balanced, seed, start)?)
        }
        (encoder, _) => Feed::Images {
            loader: Loader::new(sets.train.clone(), options, start)?,
            encoder,
        },
    };
    let initial = initial_weights(training.graph.declared_parameters(), run.train.seed);
    let config = ModelConfig {
        format: MODEL_FORMAT,
        unet: Some(unet.clone()),
        vae: vae.as_ref().and_then(|vae| vae.config.vae.clone()),
        noise: Some(run.diffusion.noise()),
        objective: run.diffusion.objective,
        clip_x0: run.diffusion.clip_x0,
        input_centering: run.diffusion.input_centering,
        image_size: Some(run.data.image_size),
        class_names: match unet.num_classes {
            Some(_) => classes,
            None => Vec::new(),
        },
    };
    let mut task = DiffusionTask {
        position: start,
        data,
        terms: terms(&training),
        draws: Draws::new(run.train.seed),
        run: run.clone(),
        unet,
        space,
        config,
        vae: vae.map(|vae| vae.vae).unwrap_or_default(),
        initial: untrained(&initial, &training),
        held_out,
        device: device.clone(),
    };
    let result = session.run(&mut task, &training, compiled, &device, initial, watch);
    if let Feed::Images { loader, .. } = &task.data {
        report_skipped(loader);
    }
    result
}

/// The encoder of an autoencoder for images of a transform.
fn encoder(
    model: &Model,
    device: &Device,
    transform: &crate::data::Transform,
) -> Result<Autoencoder, TrainError> {
    let vae = model
        .config
        .vae
        .as_ref()
        .ok_or_else(|| TrainError::NoAutoencoder(model.source.path.clone()))?;
    if vae.in_channels != transform.channels {
        return Err(TrainError::Channels {
            autoencoder: vae.in_channels,
            images: transform.channels,
        });
    }
    Ok(Autoencoder::encoder(model, device, BATCH, transform.size)?)
}

/// Held-out samples in the space of the network, moments one after the other where it is latent.
struct HeldOut {
    samples: Vec<Vec<f32>>,
    labels: Vec<i32>,
}

impl HeldOut {
    fn new(
        set: &Arc<Dataset>,
        transform: &crate::data::Transform,
        encoder: Option<&mut Autoencoder>,
    ) -> Result<Self, TrainError> {
        let (images, labels) = spread(set, transform, MOST_MEASURED);
        let samples = match encoder {
            Some(encoder) => {
                let moments = encoder.encode(&images.concat())?;
                moments
                    .chunks_exact(2 * latent_len(encoder))
                    .map(<[f32]>::to_vec)
                    .collect()
            }
            None => images,
        };
        Ok(Self { samples, labels })
    }
}

/// Where batches come from.
enum Feed {
    Cached(LatentLoader),
    Images {
        loader: Loader,
        /// `None` where the network works on pixels.
        encoder: Option<Autoencoder>,
    },
}

struct DiffusionTask {
    data: Feed,
    position: Position,
    terms: Vec<(String, String)>,
    draws: Draws,
    run: DiffusionRun,
    unet: UnetConfig,
    space: Space,
    config: ModelConfig,
    vae: TensorMap,
    initial: TensorMap,
    held_out: Option<HeldOut>,
    device: Device,
}

/// Writes moments `[n, 2, …]` as mean and log-variance.
fn write_moments(
    executable: &mut dyn Executable,
    moments: &[f32],
    len: usize,
) -> Result<(), TrainError> {
    let (mut mean, mut logvar) = (Vec::new(), Vec::new());
    for sample in moments.chunks_exact(2 * len) {
        mean.extend_from_slice(&sample[..len]);
        logvar.extend_from_slice(&sample[len..]);
    }
    executable.write(names::MEAN, &mean)?;
    executable.write(names::LOGVAR, &logvar)?;
    Ok(())
}

impl TrainingTask for DiffusionTask {
    fn feed(&mut self, executable: &mut dyn Executable, pass: Pass) -> Result<bool, TrainError> {
        let len: usize = self.space.shape.iter().product();
        let labels = match &mut self.data {
            Feed::Cached(loader) => {
                let batch = loader.next(pass.batch);
                executable.write(names::MEAN, &batch.mean)?;
                executable.write(names::LOGVAR, &batch.logvar)?;
                self.position = batch.next;
                batch.labels
            }
            Feed::Images { loader, encoder } => {
                let batch = next_batch(loader)?;
                match encoder {
                    Some(encoder) => {
                        write_moments(executable, &encoder.encode(&batch.images)?, len)?;
                    }
                    None => executable.write(names::IMAGES, &batch.images)?,
                }
                self.position = batch.next;
                batch.labels
            }
        };
        let samples = pass.samples();
        let diffusion = &self.run.diffusion;
        let t: Vec<i32> = samples
            .iter()
            .map(|&sample| self.draws.time_step(pass.step, sample, diffusion.timesteps))
            .collect();
        executable.write_i32(names::TIME_STEPS, &t)?;
        let (unit, probability) = (diffusion.dropout_unit, diffusion.condition_dropout);
        let labels: Vec<i32> = labels
            .iter()
            .zip(&samples)
            .map(
                |(&label, &sample)| match self.draws.drops(pass.step, sample, unit, probability) {
                    true => -1,
                    false => label as i32,
                },
            )
            .collect();
        executable.write_i32(names::SAMPLES, &samples)?;
        if self.unet.num_classes.is_some() {
            executable.write_i32(names::LABELS, &labels)?;
        }
        Ok(labels.iter().any(|&label| label >= 0))
    }

    fn position(&self) -> Position {
        self.position
    }

    fn waited_s(&self) -> f64 {
        match &self.data {
            Feed::Cached(_) => 0.0,
            Feed::Images { loader, .. } => loader.waited().as_secs_f64(),
        }
    }

    fn terms(&self) -> Vec<(String, String)> {
        self.terms.clone()
    }

    /// The loss on held-out samples with their classes, at time steps spread evenly and noise that is always the same.
    fn measure(&mut self, weights: &TensorMap) -> Result<Option<Measured>, TrainError> {
        let Some(held_out) = self.held_out.as_ref().filter(|h| !h.samples.is_empty()) else {
            return Ok(None);
        };
        let batch = self.run.train.batch.min(held_out.samples.len());
        let (graph, _) = loss_graph(&self.run, &self.unet, &self.space, batch)?;
        let weights = overlay(&self.initial, weights);
        let mut executable = self.device.load(self.device.compile(&graph), &weights)?;
        executable.write_i32(names::SEED, &seed_words(self.run.train.seed))?;
        // A step that training never reaches.
        executable.write_i32(names::STEP, &[-1])?;
        let len: usize = self.space.shape.iter().product();
        let timesteps = self.run.diffusion.timesteps;
        let (mut total, mut batches) = (0.0, 0);
        // A last batch that is not full is left out, so that all samples count alike.
        for first in (0..held_out.samples.len() - batch + 1).step_by(batch) {
            let samples = held_out.samples[first..first + batch].concat();
            match self.space.latent {
                true => write_moments(&mut *executable, &samples, len)?,
                false => executable.write(names::IMAGES, &samples)?,
            }
            // Multiples of the golden ratio cover the time steps evenly, whatever the order of classes.
            let t: Vec<i32> = (first..first + batch)
                .map(|i| {
                    let share = (i as f64 * 0.618_033_988_749_894_9).fract();
                    (share * timesteps as f64) as i32
                })
                .collect();
            let numbers: Vec<i32> = (first..first + batch).map(|i| i as i32).collect();
            executable.write_i32(names::TIME_STEPS, &t)?;
            executable.write_i32(names::SAMPLES, &numbers)?;
            if self.unet.num_classes.is_some() {
                executable.write_i32(names::LABELS, &held_out.labels[first..first + batch])?;
            }
            executable.run()?;
            total += f64::from(executable.output(names::LOSS)?[0]);
            batches += 1;
        }
        let loss = total / f64::from(batches);
        Ok(Some(Measured {
            values: vec![("loss", loss)],
            metric: loss,
        }))
    }

    fn pictures(&mut self, weights: &TensorMap) -> Result<Vec<(&'static str, Image8)>, TrainError> {
        let unet = overlay(&self.initial, weights);
        let stored = StoredModel {
            config: self.config.clone(),
            unet,
            vae: self.vae.clone(),
        };
        let model = Model::in_memory(stored, "the run");
        let classes = self.unet.num_classes.unwrap_or(0);
        let steps = SAMPLING_STEPS.min(self.run.diffusion.timesteps);
        let images = Sampler::new(&model)
            .classes(0..classes)
            .count(SAMPLES)
            .steps(steps)
            .seed(self.run.train.seed)
            .prepare(&self.device)?;
        let mut tiles = Vec::new();
        for image in images {
            let image = image?;
            tiles.push(Image8::from_f32(&image.pixels, image.shape));
        }
        let labels = self.config.class_names.clone();
        Ok(vec![("samples", picture(&tiles, SAMPLES as usize, labels))])
    }

    fn export(&self, weights: &TensorMap, folder: &Path) -> Result<(), TrainError> {
        let model = StoredModel {
            config: self.config.clone(),
            unet: overlay(&self.initial, weights),
            vae: self.vae.clone(),
        };
        save_folder(folder, &model, None)?;
        Ok(())
    }
}
