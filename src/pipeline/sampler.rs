//! Making images: noise, a walk of sampling steps, the decoder.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;

use thiserror::Error;

use super::Model;
use crate::checkpoint::ModelConfig;
use crate::device::{Compiled, Device, DeviceError, Executable, MemoryReport};
use crate::diffusion::{
    DiffusionError, HostValues, Method, NoiseSchedule, NoiseSource, RunInputs, SamplerTable,
    SamplingSpec, SamplingStep, initial_noise, names, sampling_step,
};
use crate::graph::{Graph, GraphError, Value};
use crate::model::config::UnetConfig;
use crate::model::{
    NetworkInputs, build_decoder, build_shifts, build_unet, build_unet_with_shifts,
    tabulated_blocks,
};
use crate::tensor::{DType, TensorMap};

/// Why images cannot be made.
#[derive(Debug, Error)]
pub enum SampleError {
    #[error("the model has no {0}; only a whole pipeline can make images")]
    Incomplete(&'static str),
    #[error("class {found} is out of range: the model has {classes} classes, 0 to {}", classes - 1)]
    Class { found: usize, classes: usize },
    #[error("the model is unconditional: it takes no class and no guidance")]
    Unconditional,
    #[error("asked for 0 images; --count takes at least 1")]
    NoImages,
    #[error("{0} images are more than one run can number; make them in several runs with --first")]
    TooMany(u128),
    #[error("batch 0 makes no images; --batch takes at least 1")]
    NoBatch,
    #[error("the model does not say how large its images are; give --size HEIGHTxWIDTH")]
    SizeUnknown,
    #[error(
        "an image of {height}x{width} does not fit the model: both sides have to be multiples of {factor}"
    )]
    Size {
        height: usize,
        width: usize,
        factor: usize,
    },
    #[error(
        "batch {batch} needs {needed}, the machine has {:.1} MiB free; the largest batch that fits is {fits}",
        *available_bytes as f64 / f64::from(1 << 20)
    )]
    Memory {
        batch: usize,
        needed: MemoryReport,
        available_bytes: usize,
        fits: usize,
    },
    #[error(
        "image {index} came out as NaN or infinity: the weights are damaged or the guidance scale is too large"
    )]
    NotFinite { index: u64 },
    #[error("interrupted")]
    Interrupted,
    #[error(transparent)]
    Diffusion(#[from] DiffusionError),
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// How far a run is, reported after each sampling step of each batch.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Image-steps done, of all batches.
    pub done: u64,
    /// Image-steps in all.
    pub total: u64,
}

/// One image.
#[derive(Clone, Debug)]
pub struct Sampled {
    /// Index under the seed: the same seed and index give the same image in any batch.
    pub index: u64,
    /// Its class, if the model is conditional and a class was asked for.
    pub class: Option<usize>,
    /// Height, width, channels.
    pub shape: [usize; 3],
    /// `[H, W, C]`, nominally in [-1, 1], not clamped.
    pub pixels: Vec<f32>,
}

/// What to make. Every setting has a default; [`Sampler::prepare`] checks them together.
#[derive(Clone, Debug)]
pub struct Sampler<'m> {
    model: &'m Model,
    classes: Vec<usize>,
    count: u64,
    steps: usize,
    guidance: f64,
    opposite: Option<usize>,
    method: Method,
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
            clip_x0: None,
            seed: 0,
            first: 0,
            batch: None,
            size: None,
        }
    }

    /// Images of one class.
    #[must_use]
    pub fn class(self, class: usize) -> Self {
        self.classes([class])
    }

    /// Images of several classes, one class after the other.
    #[must_use]
    pub fn classes(mut self, classes: impl IntoIterator<Item = usize>) -> Self {
        self.classes = classes.into_iter().collect();
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
    pub fn opposite_class(mut self, class: usize) -> Self {
        self.opposite = Some(class);
        self
    }

    /// DDIM with its eta, or ancestral sampling.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
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
            text += &format!("\ndecoder, batch {}\n{decoder}", prepared.spec.batch);
        }
        Ok(text)
    }

    fn compile(&self, device: &Device) -> Result<Planned, SampleError> {
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
        for &class in self.classes.iter().chain(&self.opposite) {
            let classes = unet.num_classes.ok_or(SampleError::Unconditional)?;
            if class >= classes {
                return Err(SampleError::Class {
                    found: class,
                    classes,
                });
            }
        }
        if self.guidance != 1.0 && unet.num_classes.is_none() {
            return Err(SampleError::Unconditional);
        }
        let schedule = NoiseSchedule::new(noise)?;
        let table = SamplerTable::new(
            &schedule,
            self.method,
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
        let plan = |batch: usize| -> Result<(Compiled, Option<Compiled>), SampleError> {
            let spec = spec(batch);
            let step = device.compile(&sampler_graph(config, &spec)?);
            let decoder = decoder_graph(config, &spec)?.map(|graph| device.compile(&graph));
            Ok((step, decoder))
        };
        let bytes = |(step, decoder): &(Compiled, Option<Compiled>)| {
            step.memory.total_bytes() + decoder.as_ref().map_or(0, |d| d.memory.total_bytes())
        };
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
                needed: plans.0.memory + plans.1.map_or(MemoryReport::default(), |d| d.memory),
                available_bytes,
                fits,
            });
        }
        Ok(Planned {
            spec: spec(batch),
            table,
            step: plans.0,
            decoder: plans.1,
            total,
            classes: self.classes.clone(),
            count: self.count,
            opposite: self.opposite,
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

/// The step that a [`Sampler`] repeats: with what the network adds for step and label looked up where that can be
/// tabulated, else [`sampling_graph`].
///
/// # Errors
/// As [`sampling_graph`].
pub fn sampler_graph(config: &ModelConfig, spec: &SamplingSpec) -> Result<Graph, GraphError> {
    match (Shifts::of(config, spec), &config.unet) {
        (Some(shifts), Some(unet)) => shifts.step(unet, spec),
        _ => Ok(sampling_graph(config, spec)?.0),
    }
}

/// One sampling step of `config`'s noise estimator as a graph.
///
/// # Errors
/// If the configuration lacks a noise estimator or `spec` does not fit it.
pub fn sampling_graph(
    config: &ModelConfig,
    spec: &SamplingSpec,
) -> Result<(Graph, SamplingStep), GraphError> {
    let unet = config
        .unet
        .as_ref()
        .ok_or_else(|| GraphError::Model("the model has no noise estimator".to_owned()))?;
    let mut graph = Graph::new();
    let step = sampling_step(&mut graph, spec, |g, inputs| {
        // The reference concatenates x_t itself from the second step on.
        let self_condition = match unet.self_conditioning {
            true => Some(g.mul(inputs.x_t, inputs.continues)?),
            false => None,
        };
        let network = NetworkInputs {
            x: inputs.x_t,
            t: inputs.t,
            labels: inputs.labels,
            self_condition,
        };
        Ok(build_unet(g, unet, network)?.raw)
    })?;
    Ok((graph, step))
}

/// What the network's blocks add for step and label, computed once for a walk instead of at each step.
struct Shifts {
    /// Block paths and channels.
    blocks: Vec<(String, usize)>,
    rows: usize,
    /// Labels, and none.
    entries: usize,
}

/// The binding of [`Shifts`] in a sampling step: `[rows, labels + 1, sum of channels]`.
const SHIFTS: &str = "shifts";

impl Shifts {
    /// `None` where the network reads more of time and label, or where the table would be larger than it is worth.
    fn of(config: &ModelConfig, spec: &SamplingSpec) -> Option<Self> {
        /// The paper's network has 16 MB for 150 steps and two classes.
        const MOST_BYTES: usize = 256 << 20;
        let unet = config.unet.as_ref()?;
        let shifts = Self {
            blocks: tabulated_blocks(unet)?,
            rows: spec.rows,
            entries: 1 + unet.num_classes.unwrap_or(0),
        };
        let elements = shifts
            .rows
            .checked_mul(shifts.entries)?
            .checked_mul(shifts.width())?;
        (elements <= MOST_BYTES / size_of::<f32>()).then_some(shifts)
    }

    fn width(&self) -> usize {
        self.blocks.iter().map(|(_, channels)| channels).sum()
    }

    /// The step that looks them up.
    fn step(&self, unet: &UnetConfig, spec: &SamplingSpec) -> Result<Graph, GraphError> {
        let mut graph = Graph::new();
        let table = graph.input(SHIFTS, [self.rows, self.entries, self.width()], DType::F32)?;
        let evaluated = spec.batch * (1 + usize::from(spec.guidance));
        sampling_step(&mut graph, spec, |g, inputs| {
            let counter = g.state(names::COUNTER, [1], DType::I32)?;
            let label = g.input(names::LABELS, [evaluated], DType::I32)?;
            let widths = self.blocks.iter().map(|&(_, channels)| channels).collect();
            let parts = g.table_gather(table, counter, label, widths)?;
            let paths = self.blocks.iter().map(|(path, _)| path.clone());
            let shifts: HashMap<String, Value> = paths.zip(parts).collect();
            Ok(build_unet_with_shifts(g, unet, inputs.x_t, &shifts)?.raw)
        })?;
        Ok(graph)
    }

    /// Computes the table for a walk's time steps, in pieces of one step.
    fn compute(
        &self,
        unet: &UnetConfig,
        weights: &TensorMap,
        device: &Device,
        timesteps: &[i32],
    ) -> Result<Vec<f32>, SampleError> {
        let mut graph = Graph::new();
        let t = graph.input("t", [self.entries], DType::I32)?;
        let labels = match unet.num_classes {
            Some(_) => Some(graph.input("labels", [self.entries], DType::I32)?),
            None => None,
        };
        let shifts = build_shifts(&mut graph, unet, &self.blocks, t, labels)?;
        graph.output(SHIFTS, shifts);
        let mut executable = device.load(device.compile(&graph), weights)?;
        if labels.is_some() {
            let labels: Vec<i32> = (-1..self.entries as i32 - 1).collect();
            executable.write_i32("labels", &labels)?;
        }
        let mut table = Vec::with_capacity(self.rows * self.entries * self.width());
        for &t in timesteps {
            if executable.has("t") {
                executable.write_i32("t", &vec![t; self.entries])?;
            }
            executable.run()?;
            table.extend(executable.output(SHIFTS)?);
        }
        table.resize(self.rows * self.entries * self.width(), 0.0);
        Ok(table)
    }
}

fn decoder_graph(config: &ModelConfig, spec: &SamplingSpec) -> Result<Option<Graph>, GraphError> {
    let Some(vae) = &config.vae else {
        return Ok(None);
    };
    let mut graph = Graph::new();
    let shape = [&[spec.batch], spec.shape.as_slice()].concat();
    let mut z = graph.input("z", shape, DType::F32)?;
    if config.input_centering {
        // Training centred the latents to 2z - 1.
        z = graph.apply(
            crate::ops::Unary::Affine {
                scale: 0.5,
                shift: 0.5,
            },
            &[z],
        )?;
    }
    let decoded = build_decoder(&mut graph, vae, z)?;
    graph.output("image", decoded.y);
    Ok(Some(graph))
}

/// Settings that were checked, and the plans for them.
struct Planned {
    spec: SamplingSpec,
    table: SamplerTable,
    step: Compiled,
    decoder: Option<Compiled>,
    total: u64,
    classes: Vec<usize>,
    count: u64,
    opposite: Option<usize>,
    seed: u64,
    first: u64,
    image_shape: [usize; 3],
}

impl Planned {
    fn load(self, model: &Model, device: &Device) -> Result<Samples, SampleError> {
        let memory = self.step.memory
            + self
                .decoder
                .as_ref()
                .map_or(MemoryReport::default(), |d| d.memory);
        let mut step = device.load(self.step, &model.unet)?;
        if let Some(shifts) = Shifts::of(&model.config, &self.spec) {
            let unet = model
                .config
                .unet
                .as_ref()
                .ok_or(SampleError::Incomplete("noise estimator"))?;
            let table = shifts.compute(unet, &model.unet, device, &self.table.timesteps)?;
            step.write(SHIFTS, &table)?;
            if !self.spec.labels {
                let evaluated = self.spec.batch * (1 + usize::from(self.spec.guidance));
                step.write_i32(names::LABELS, &vec![-1; evaluated])?;
            }
        }
        let decoder = match self.decoder {
            Some(decoder) => Some(device.load(decoder, &model.vae)?),
            None => None,
        };
        Ok(Samples {
            spec: self.spec,
            table: self.table,
            step,
            decoder,
            memory,
            total: self.total,
            classes: self.classes,
            count: self.count,
            opposite: self.opposite,
            seed: self.seed,
            first: self.first,
            image_shape: self.image_shape,
            next: 0,
            ready: VecDeque::new(),
        })
    }
}

/// Images on their way: planned, loaded, made batch by batch as they are asked for.
pub struct Samples {
    spec: SamplingSpec,
    table: SamplerTable,
    step: Box<dyn Executable>,
    decoder: Option<Box<dyn Executable>>,
    memory: MemoryReport,
    total: u64,
    classes: Vec<usize>,
    count: u64,
    opposite: Option<usize>,
    seed: u64,
    first: u64,
    image_shape: [usize; 3],
    /// Offset of the next image that no batch has made yet.
    next: u64,
    ready: VecDeque<Sampled>,
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

    /// The next image, or `None` after the last.
    ///
    /// # Errors
    /// If the device fails or the image is not finite.
    pub fn next_image(&mut self) -> Result<Option<Sampled>, SampleError> {
        self.next_with(&mut |_| ControlFlow::Continue(()))
    }

    /// As [`Samples::next_image`], calling `observe` after each sampling step; it stops the run
    /// with `ControlFlow::Break`.
    ///
    /// # Errors
    /// As [`Samples::next_image`], or [`SampleError::Interrupted`].
    pub fn next_with(
        &mut self,
        observe: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Sampled>, SampleError> {
        if self.ready.is_empty() && self.next < self.total {
            self.make_batch(observe)?;
        }
        Ok(self.ready.pop_front())
    }

    fn class_of(&self, offset: u64) -> Option<usize> {
        self.classes.get((offset / self.count) as usize).copied()
    }

    fn make_batch(
        &mut self,
        observe: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), SampleError> {
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
        let labels: Vec<i32> = offsets.iter().map(|&o| label(self.class_of(o))).collect();
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
                done: self.next * steps + step * wanted,
                total: self.total * steps,
            };
            if observe(progress).is_break() {
                return Err(SampleError::Interrupted);
            }
        }
        let latent = self.step.read(names::X_T)?;
        let pixels = match &mut self.decoder {
            Some(decoder) => {
                decoder.write("z", &latent)?;
                decoder.run()?;
                decoder.output("image")?
            }
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
                return Err(SampleError::NotFinite { index });
            }
            self.ready.push_back(Sampled {
                index,
                class: self.class_of(*offset),
                shape: self.image_shape,
                pixels: pixels.to_vec(),
            });
        }
        self.next += wanted;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{hashed_parameters, unet_parameters};
    use crate::device::DeviceChoice;

    /// A walk of a small network with hashed weights; with and without `tabulated` shifts.
    fn walk(classes: Option<usize>, guidance: bool, tabulated: bool) -> Vec<f32> {
        let mut config = ModelConfig::published(2);
        let unet = config.unet.as_mut().unwrap();
        unet.num_classes = classes;
        unet.backbone.hidden_channels = vec![32, 32, 64, 64];
        unet.backbone.norm_groups = 8;
        let unet = unet.clone();
        let spec = SamplingSpec {
            batch: 3,
            shape: vec![8, 8, 8],
            rows: 4,
            objective: config.objective,
            clip_x0: false,
            learned_variance: false,
            guidance,
            labels: classes.is_some(),
            noise: NoiseSource::None,
        };
        let weights = hashed_parameters(&unet_parameters(&unet), 0.8);
        let device = Device::open(DeviceChoice::Cpu, Some(1)).unwrap();
        let schedule = NoiseSchedule::new(config.noise.as_ref().unwrap()).unwrap();
        let scale = if guidance { 2.0 } else { 1.0 };
        let table =
            SamplerTable::new(&schedule, Method::Ddim { eta: 0.0 }, 4, scale, false).unwrap();
        let shifts = Shifts::of(&config, &spec).expect("a network without attention");
        let graph = match tabulated {
            true => shifts.step(&unet, &spec).unwrap(),
            false => sampling_graph(&config, &spec).unwrap().0,
        };
        let mut step = device.load(device.compile(&graph), &weights).unwrap();
        if tabulated {
            let table = shifts.compute(&unet, &weights, &device, &table.timesteps);
            step.write(SHIFTS, &table.unwrap()).unwrap();
            if classes.is_none() {
                step.write_i32(names::LABELS, &[-1; 3]).unwrap();
            }
        }
        let noise = initial_noise(5, &[0, 1, 2], 512);
        let labels: &[i32] = if classes.is_some() { &[1, -1, 0] } else { &[] };
        let bindings = spec.bindings(&RunInputs {
            table: &table,
            x_t: &noise,
            labels,
            opposite_labels: &[],
            seed: 5,
            images: &[0, 1, 2],
            noise: &[],
        });
        for (name, values) in bindings.unwrap() {
            if step.has(name) {
                match values {
                    HostValues::F32(values) => step.write(name, &values).unwrap(),
                    HostValues::I32(values) => step.write_i32(name, &values).unwrap(),
                }
            }
        }
        for _ in 0..4 {
            step.run().unwrap();
        }
        step.read(names::X_T).unwrap()
    }

    #[test]
    fn tabulated_shifts_give_the_same_walk() {
        for (classes, guidance) in [(Some(2), false), (Some(2), true), (None, false)] {
            let (want, got) = (
                walk(classes, guidance, false),
                walk(classes, guidance, true),
            );
            let worst = want
                .iter()
                .zip(&got)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            let largest = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            // The products are of another batch, so their sums may be ordered differently.
            assert!(
                worst <= 1e-5 * largest,
                "{classes:?} {guidance}: {worst} of {largest}"
            );
        }
    }
}
