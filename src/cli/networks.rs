//! The networks that `profile` and `plan` look at, as graphs of any batch; nothing of them is loaded.

use std::path::PathBuf;

use super::error::CliError;
use super::options::{ModelOptions, parse_size};
use crate::checkpoint::ModelConfig;
use crate::compile::Precision;
use crate::diffusion::{NoiseSchedule, NoiseSource, SamplingSpec};
use crate::graph::Graph;
use crate::model::{build_decoder, build_encoder};
use crate::ops::optimizer::AdamConfig;
use crate::ops::pixel_loss::Distance;
use crate::pipeline::sampler_graph;
use crate::tensor::DType;
use crate::train::loss::{DiffusionInputs, DiffusionLossOptions, diffusion_loss};
use crate::train::names;
use crate::train::step::{EmaOptions, StepOptions, TrainingGraph};

/// Most samples of a batch: beyond it every published network exceeds every GPU of the data files many times over.
pub(super) const MOST_BATCH: u64 = 4096;

#[derive(Debug, clap::Args)]
pub(super) struct NetworkOptions {
    /// Model folder, safetensors file or PyTorch checkpoint [default: the one that ships; with --published the
    /// published networks]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Image size as PIXELS or HEIGHTxWIDTH, where the model does not say
    #[arg(long, value_parser = parse_size)]
    size: Option<[usize; 2]>,
    #[command(flatten)]
    model_options: ModelOptions,
}

/// Networks of known extents.
#[derive(Clone, Debug)]
pub(super) struct Networks {
    /// What they are called.
    pub name: String,
    config: ModelConfig,
    /// Height and width of images, and of what the noise estimator sees.
    image: [usize; 2],
    latent: [usize; 2],
}

fn missing(what: &str) -> CliError {
    CliError::new(format!(
        "the model has no {what}: name one that has with --model, or take the published networks with --published"
    ))
}

impl Networks {
    pub fn open(options: &NetworkOptions) -> Result<Self, CliError> {
        // Without a model `--published` leaves nothing to be read.
        let (config, name) = match (&options.model, options.model_options.published()) {
            (None, true) => (
                ModelConfig::published(2),
                "the published networks".to_owned(),
            ),
            (path, _) => {
                let model = options.model_options.open(path.as_deref())?;
                let name = path.as_ref().map_or_else(
                    || "the model that ships".to_owned(),
                    |path| path.display().to_string(),
                );
                (model.config, name)
            }
        };
        let [height, width] = options.size.or(config.image_size).ok_or_else(|| {
            CliError::new("the model does not say how large its images are: give --size")
        })?;
        let factor = config.vae.as_ref().map_or(1, |vae| vae.downsampling());
        let inner = config.unet.as_ref().map_or(1, |unet| unet.downsampling());
        let needed = factor * inner;
        if height == 0
            || width == 0
            || !height.is_multiple_of(needed)
            || !width.is_multiple_of(needed)
        {
            return Err(CliError::new(format!(
                "--size {height}x{width}: the networks need multiples of {needed}"
            )));
        }
        Ok(Self {
            name,
            config,
            image: [height, width],
            latent: [height / factor, width / factor],
        })
    }

    /// A step of DDIM with its noise, as samplers of `steps` steps repeat it. With guidance the network sees each sample
    /// twice.
    pub fn sampling(&self, batch: usize, steps: usize, guidance: bool) -> Result<Graph, CliError> {
        let unet = self
            .config
            .unet
            .as_ref()
            .ok_or_else(|| missing("noise estimator"))?;
        let spec = SamplingSpec {
            batch,
            shape: vec![self.latent[0], self.latent[1], unet.in_channels],
            rows: steps,
            objective: self.config.objective,
            clip_x0: self.config.clip_x0,
            learned_variance: unet.learned_variance,
            guidance,
            labels: unet.num_classes.is_some(),
            noise: NoiseSource::Philox,
        };
        Ok(sampler_graph(&self.config, &spec)?)
    }

    /// Latents to images.
    pub fn decoding(&self, batch: usize) -> Result<Graph, CliError> {
        let vae = self
            .config
            .vae
            .as_ref()
            .ok_or_else(|| missing("autoencoder"))?;
        let mut graph = Graph::new();
        let shape = [batch, self.latent[0], self.latent[1], vae.latent_channels];
        let z = graph.input("z", shape, DType::F32)?;
        let y = build_decoder(&mut graph, vae, z)?.y;
        graph.output("y", y);
        Ok(graph)
    }

    /// Images to latents.
    pub fn encoding(&self, batch: usize) -> Result<Graph, CliError> {
        let vae = self
            .config
            .vae
            .as_ref()
            .ok_or_else(|| missing("autoencoder"))?;
        let mut graph = Graph::new();
        let shape = [batch, self.image[0], self.image[1], vae.in_channels];
        let x = graph.input("x", shape, DType::F32)?;
        let moments = build_encoder(&mut graph, vae, x)?;
        graph.output("mean", moments.mean);
        graph.output("logvar", moments.logvar);
        Ok(graph)
    }

    /// A training step of the noise estimator as `medfusion train diffusion` does it by default, with averaged weights:
    /// L1 on the noise, AdamW, clipped gradients, and loss scaling in f16.
    pub fn training(&self, batch: usize, precision: Precision) -> Result<TrainingGraph, CliError> {
        let unet = self
            .config
            .unet
            .as_ref()
            .ok_or_else(|| missing("noise estimator"))?;
        let noise = self
            .config
            .noise
            .as_ref()
            .ok_or_else(|| missing("noise schedule"))?;
        let schedule = NoiseSchedule::new(noise)?;
        let mut graph = Graph::new();
        let shape = [batch, self.latent[0], self.latent[1], unet.in_channels];
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
            objective: self.config.objective,
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
}
