//! What to make: the settings of a run, checked and planned together.

use super::autoencoder::{Autoencoder, AutoencoderPart, PlannedAutoencoder};
use super::error::SampleError;
use super::samples::{PlannedSampler, Samples};
use super::shifts::Shifts;
use super::step::{SamplerGraph, sampler_step};
use crate::checkpoint::{Class, Model};
use crate::device::{Compiled, Device, MemoryReport};
use crate::diffusion::{
    Method, NoiseSchedule, NoiseSource, SamplerTable, SamplingSpec, TimestepSpacing,
};

/// What to make. Every setting has a default; [`Sampler::prepare`] checks them together.
#[derive(Clone, Debug)]
pub struct Sampler<'m> {
    model: &'m Model,
    classes: Vec<Class>,
    count: u64,
    steps: usize,
    guidance: f64,
    opposite: Option<Class>,
    method: Method,
    spacing: TimestepSpacing,
    clip_x0: Option<bool>,
    seed: u64,
    first: u64,
    batch: Option<usize>,
    size: Option<[usize; 2]>,
}

/// Images per batch unless asked otherwise: past this the CPU gains nothing.
const DEFAULT_BATCH: usize = 8;

impl<'m> Sampler<'m> {
    /// 150 steps of DDIM with eta 1, no guidance, no class, one image, seed 0.
    pub fn new(model: &'m Model) -> Self {
        Self {
            model,
            classes: Vec::new(),
            count: 1,
            steps: 150,
            guidance: 1.0,
            opposite: None,
            method: Method::default(),
            spacing: TimestepSpacing::default(),
            clip_x0: None,
            seed: 0,
            first: 0,
            batch: None,
            size: None,
        }
    }

    /// Images of one class, by name or index.
    #[must_use]
    pub fn class(self, class: impl Into<Class>) -> Self {
        self.classes([class])
    }

    /// Images of several classes, one class after the other.
    #[must_use]
    pub fn classes(mut self, classes: impl IntoIterator<Item = impl Into<Class>>) -> Self {
        self.classes = classes.into_iter().map(Into::into).collect();
        self
    }

    /// Number of images, of each class.
    #[must_use]
    pub fn count(mut self, count: u64) -> Self {
        self.count = count;
        self
    }

    /// Sampling steps.
    #[must_use]
    pub fn steps(mut self, steps: usize) -> Self {
        self.steps = steps;
        self
    }

    /// Guidance scale: `u + scale (c - u)` of the predictions with and without the class; 1 is
    /// none.
    #[must_use]
    pub fn guidance(mut self, scale: f64) -> Self {
        self.guidance = scale;
        self
    }

    /// Guide away from a class instead of from "no class".
    #[must_use]
    pub fn opposite_class(mut self, class: impl Into<Class>) -> Self {
        self.opposite = Some(class.into());
        self
    }

    /// DDIM with its eta, or ancestral sampling.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Which time steps the steps are: evenly over the whole process, or the reference's.
    #[must_use]
    pub fn spacing(mut self, spacing: TimestepSpacing) -> Self {
        self.spacing = spacing;
        self
    }

    /// Clamp estimates of the clean sample to [-1, 1], or not, whatever the model says.
    #[must_use]
    pub fn clip_x0(mut self, clip: bool) -> Self {
        self.clip_x0 = Some(clip);
        self
    }

    /// Seed of all noise.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Index of the first image, to go on where another run ended.
    #[must_use]
    pub fn first_index(mut self, index: u64) -> Self {
        self.first = index;
        self
    }

    /// Images at once. It changes speed and memory, not the images.
    #[must_use]
    pub fn batch(mut self, batch: usize) -> Self {
        self.batch = Some(batch);
        self
    }

    /// Height and width of the images, where the model does not say.
    #[must_use]
    pub fn size(mut self, size: [usize; 2]) -> Self {
        self.size = Some(size);
        self
    }

    fn total(&self) -> Result<u64, SampleError> {
        let classes = self.classes.len().max(1) as u128;
        let total = u128::from(self.count) * classes;
        // Image indices are 32-bit words of the noise's counter.
        match total {
            0 => Err(SampleError::NoImages),
            _ if total + u128::from(self.first) > 1 << 32 => Err(SampleError::TooMany(total)),
            _ => Ok(total as u64),
        }
    }

    /// Checks the settings, plans both networks, checks that they fit in memory and loads them.
    ///
    /// # Errors
    /// If a setting is out of range for the model or the machine; the error says which.
    pub fn prepare(&self, device: &Device) -> Result<Samples, SampleError> {
        let prepared = self.compile(device)?;
        prepared.load(self.model, device)
    }

    /// The plans of [`Sampler::prepare`] in words, without loading anything.
    ///
    /// # Errors
    /// As [`Sampler::prepare`].
    pub fn explain(&self, device: &Device) -> Result<String, SampleError> {
        let prepared = self.compile(device)?;
        let mut text = format!(
            "sampling step, batch {}\n{}",
            prepared.spec.batch, prepared.step
        );
        if let Some(decoder) = &prepared.decoder {
            text += &format!(
                "\ndecoder, batch {}\n{}",
                prepared.spec.batch,
                decoder.compiled()
            );
        }
        Ok(text)
    }

    fn compile(&self, device: &Device) -> Result<PlannedSampler, SampleError> {
        let config = &self.model.config;
        let unet = config
            .unet
            .as_ref()
            .ok_or(SampleError::Incomplete("noise estimator"))?;
        let noise = config
            .noise
            .as_ref()
            .ok_or(SampleError::Incomplete("noise schedule"))?;
        let total = self.total()?;
        let index = |class: &Class| match unet.num_classes {
            Some(_) => Ok(self.model.class_index(class)?),
            None => Err(SampleError::Unconditional),
        };
        let classes = self.classes.iter().map(index);
        let classes: Vec<usize> = classes.collect::<Result<_, _>>()?;
        let opposite = self.opposite.as_ref().map(index).transpose()?;
        if self.guidance != 1.0 && unet.num_classes.is_none() {
            return Err(SampleError::Unconditional);
        }
        let schedule = NoiseSchedule::new(noise)?;
        let table = SamplerTable::spaced(
            &schedule,
            self.method,
            self.spacing,
            self.steps,
            self.guidance,
            unet.learned_variance,
        )?;
        let [height, width] = self
            .size
            .or(config.image_size)
            .ok_or(SampleError::SizeUnknown)?;
        let factor = config.vae.as_ref().map_or(1, |vae| vae.downsampling());
        let needed = factor * unet.downsampling();
        if height == 0 || width == 0 || height % needed != 0 || width % needed != 0 {
            return Err(SampleError::Size {
                height,
                width,
                factor: needed,
            });
        }
        // Without a class there is nothing to guide towards.
        let guidance = self.guidance != 1.0 && !self.classes.is_empty();
        let largest = usize::try_from(total).unwrap_or(usize::MAX);
        let batch = self.batch.unwrap_or(DEFAULT_BATCH).min(largest);
        if batch == 0 {
            return Err(SampleError::NoBatch);
        }
        let spec = |batch: usize| SamplingSpec {
            batch,
            shape: vec![height / factor, width / factor, unet.in_channels],
            rows: self.steps,
            objective: config.objective,
            clip_x0: self.clip_x0.unwrap_or(config.clip_x0),
            learned_variance: unet.learned_variance,
            guidance,
            labels: unet.num_classes.is_some(),
            noise: if table.needs_noise() {
                NoiseSource::Philox
            } else {
                NoiseSource::None
            },
        };
        type Plans = (Compiled, Option<PlannedAutoencoder>, Option<Shifts>);
        let plan = |batch: usize| -> Result<Plans, SampleError> {
            let step = sampler_step(config, &spec(batch))?;
            let compiled = device.compile(step.graph());
            let shifts = match step {
                SamplerGraph::Tabulated(shifts) => Some(*shifts),
                SamplerGraph::Plain(_) => None,
            };
            let decoder = match &config.vae {
                Some(_) => Some(Autoencoder::plan(
                    AutoencoderPart::Decode {
                        centred: config.input_centering,
                    },
                    config,
                    device,
                    batch,
                    [height, width],
                )?),
                None => None,
            };
            Ok((compiled, decoder, shifts))
        };
        let memory = |(step, decoder, _): &Plans| {
            let none = MemoryReport::default();
            step.memory + decoder.as_ref().map_or(none, PlannedAutoencoder::memory)
        };
        let bytes = |plans: &Plans| memory(plans).total_bytes();
        let plans = plan(batch)?;
        if let Some(available_bytes) = device.available_bytes()
            && bytes(&plans) > available_bytes
        {
            let (mut fits, mut too_large) = (0, batch);
            while too_large - fits > 1 {
                let middle = fits.midpoint(too_large);
                if bytes(&plan(middle)?) > available_bytes {
                    too_large = middle;
                } else {
                    fits = middle;
                }
            }
            return Err(SampleError::Memory {
                batch,
                needed: memory(&plans),
                available_bytes,
                fits,
            });
        }
        Ok(PlannedSampler {
            spec: spec(batch),
            table,
            memory: memory(&plans),
            step: plans.0,
            decoder: plans.1,
            shifts: plans.2,
            total,
            classes: classes
                .into_iter()
                .map(|class| (class, self.model.classes()[class].clone()))
                .collect(),
            count: self.count,
            opposite,
            seed: self.seed,
            first: self.first,
            image_shape: [
                height,
                width,
                config
                    .vae
                    .as_ref()
                    .map_or(unet.out_channels, |v| v.out_channels),
            ],
        })
    }
}
