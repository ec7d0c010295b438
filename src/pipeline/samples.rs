//! A run of the sampler: batch after batch, image after image.

use std::collections::VecDeque;
use std::iter::FusedIterator;
use std::ops::ControlFlow;

use super::autoencoder::{Autoencoder, PlannedAutoencoder};
use super::error::SampleError;
use super::overflow::check_weights;
use super::shifts::{SHIFTS, Shifts};
use crate::checkpoint::Model;
use crate::compile::Precision;
use crate::device::{Compiled, Device, Executable, MemoryReport, Progress, Stage};
use crate::diffusion::{HostValues, RunInputs, SamplerTable, SamplingSpec, initial_noise, names};

/// One image.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Seed of its noise.
    pub seed: u64,
    /// Index under the seed: the same seed and index give the same image in any batch.
    pub index: u64,
    /// Index of its class, if the model is conditional and a class was asked for.
    pub class: Option<usize>,
    /// Name of its class; the index where the model names none.
    pub class_name: Option<String>,
    /// Height, width, channels.
    pub shape: [usize; 3],
    /// `[H, W, C]`, nominally in [-1, 1], not clamped.
    pub pixels: Vec<f32>,
}

/// Settings that were checked, and the plans for them.
pub(super) struct PlannedSampler {
    pub spec: SamplingSpec,
    pub table: SamplerTable,
    pub step: Compiled,
    /// How to compute what the step looks up.
    pub shifts: Option<Shifts>,
    pub decoder: Option<PlannedAutoencoder>,
    /// Memory of both plans.
    pub memory: MemoryReport,
    pub total: u64,
    pub classes: Vec<(usize, String)>,
    pub count: u64,
    pub opposite: Option<usize>,
    pub seed: u64,
    pub first: u64,
    pub image_shape: [usize; 3],
}

impl PlannedSampler {
    pub fn load(self, model: &Model, device: &Device) -> Result<Samples, SampleError> {
        check_weights(&model.unet, device.precision())?;
        let mut step = device.load(self.step, &model.unet)?;
        if let Some(shifts) = &self.shifts {
            let table = shifts.compute(&model.unet, device, &self.table.timesteps)?;
            step.write(SHIFTS, &table)?;
            if !self.spec.labels {
                let evaluated = self.spec.batch * (1 + usize::from(self.spec.guidance));
                step.write_i32(names::LABELS, &vec![-1; evaluated])?;
            }
        }
        let decoder = match self.decoder {
            Some(decoder) => Some(decoder.load(model, device)?),
            None => None,
        };
        Ok(Samples {
            precision: device.precision(),
            spec: self.spec,
            table: self.table,
            step,
            decoder,
            memory: self.memory,
            total: self.total,
            classes: self.classes,
            count: self.count,
            opposite: self.opposite,
            seed: self.seed,
            first: self.first,
            image_shape: self.image_shape,
            next: 0,
            ready: VecDeque::new(),
            observer: None,
            failed: false,
        })
    }
}

/// Called after each sampling step; `Break` ends the run.
type StepObserver = Box<dyn FnMut(Progress) -> ControlFlow<()>>;

/// Images on their way: planned, loaded, made batch by batch as they are asked for.
///
/// An iterator over images in the order of their indices. After an error there are no more images.
pub struct Samples {
    precision: Precision,
    spec: SamplingSpec,
    table: SamplerTable,
    step: Box<dyn Executable>,
    decoder: Option<Autoencoder>,
    memory: MemoryReport,
    total: u64,
    classes: Vec<(usize, String)>,
    count: u64,
    opposite: Option<usize>,
    seed: u64,
    first: u64,
    image_shape: [usize; 3],
    /// Offset of the next image that no batch has made yet.
    next: u64,
    ready: VecDeque<Image>,
    observer: Option<StepObserver>,
    failed: bool,
}

impl Samples {
    /// Number of images in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Images per batch.
    pub fn batch(&self) -> usize {
        self.spec.batch
    }

    /// Height, width and channels of an image.
    pub fn image_shape(&self) -> [usize; 3] {
        self.image_shape
    }

    /// Memory of both plans.
    pub fn memory(&self) -> MemoryReport {
        self.memory
    }

    /// Has `observer` called after each sampling step of each batch; with `ControlFlow::Break` it ends the run, whose
    /// next item is then [`SampleError::Interrupted`].
    #[must_use]
    pub fn observe(mut self, observer: impl FnMut(Progress) -> ControlFlow<()> + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    fn class_of(&self, offset: u64) -> Option<&(usize, String)> {
        self.classes.get((offset / self.count) as usize)
    }

    fn make_batch(&mut self) -> Result<(), SampleError> {
        let batch = self.spec.batch;
        let wanted = (self.total - self.next).min(batch as u64);
        // A last batch that is not full repeats its last image; images do not see each other.
        let offsets: Vec<u64> = (0..batch as u64)
            .map(|i| self.next + i.min(wanted - 1))
            .collect();
        let images: Vec<u32> = offsets
            .iter()
            .map(|offset| (self.first + offset) as u32)
            .collect();
        let label = |class: Option<usize>| class.map_or(-1, |class| class as i32);
        let labels: Vec<i32> = offsets
            .iter()
            .map(|&offset| label(self.class_of(offset).map(|(class, _)| *class)))
            .collect();
        let opposite = vec![label(self.opposite); batch];
        let sample: usize = self.spec.shape.iter().product();
        let noise = initial_noise(self.seed, &images, sample);
        let bindings = self.spec.bindings(&RunInputs {
            table: &self.table,
            x_t: &noise,
            labels: &labels,
            opposite_labels: &opposite,
            seed: self.seed,
            images: &images,
            noise: &[],
        })?;
        for (name, values) in &bindings {
            if self.step.has(name) {
                match values {
                    HostValues::F32(values) => self.step.write(name, values)?,
                    HostValues::I32(values) => self.step.write_i32(name, values)?,
                }
            }
        }
        let steps = self.table.steps() as u64;
        for step in 1..=steps {
            self.step.run()?;
            let progress = Progress {
                what: Stage::ImageSteps,
                done: self.next * steps + step * wanted,
                total: self.total * steps,
            };
            if let Some(observer) = &mut self.observer
                && observer(progress).is_break()
            {
                return Err(SampleError::Interrupted);
            }
        }
        let latent = self.step.read(names::X_T)?;
        let pixels = match &mut self.decoder {
            Some(decoder) => decoder.decode(&latent)?,
            None => latent,
        };
        let len: usize = self.image_shape.iter().product();
        for (offset, pixels) in offsets
            .iter()
            .zip(pixels.chunks_exact(len))
            .take(wanted as usize)
        {
            let index = self.first + offset;
            if !pixels.iter().all(|v| v.is_finite()) {
                let precision = self.precision;
                return Err(SampleError::NotFinite { index, precision });
            }
            let class = self.class_of(*offset).cloned();
            self.ready.push_back(Image {
                seed: self.seed,
                index,
                class: class.as_ref().map(|(class, _)| *class),
                class_name: class.map(|(_, name)| name),
                shape: self.image_shape,
                pixels: pixels.to_vec(),
            });
        }
        self.next += wanted;
        Ok(())
    }
}

impl Iterator for Samples {
    type Item = Result<Image, SampleError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty()
            && self.next < self.total
            && !self.failed
            && let Err(error) = self.make_batch()
        {
            self.failed = true;
            self.ready.clear();
            return Some(Err(error));
        }
        self.ready.pop_front().map(Ok)
    }
}

impl FusedIterator for Samples {}
