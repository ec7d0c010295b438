//! What the noise estimator adds for time step and label, tabulated once for a trajectory.

use std::collections::HashMap;

use super::error::SampleError;
use crate::checkpoint::ModelConfig;
use crate::device::Device;
use crate::diffusion::{SamplingSpec, names, sampling_step};
use crate::graph::{Graph, GraphError, Value};
use crate::model::config::UnetConfig;
use crate::model::{build_shifts, build_unet_with_shifts, tabulated_blocks};
use crate::tensor::{DType, TensorMap};

/// What the network's blocks add for step and label, computed once for a walk instead of at each step.
pub(super) struct Shifts {
    /// Block paths and channels.
    blocks: Vec<(String, usize)>,
    rows: usize,
    /// Labels, and none.
    entries: usize,
}

/// The binding of [`Shifts`] in a sampling step: `[rows, labels + 1, sum of channels]`.
pub(super) const SHIFTS: &str = "shifts";

impl Shifts {
    /// `None` where the network reads more of time and label, or where the table would be larger than it is worth.
    pub fn of(config: &ModelConfig, spec: &SamplingSpec) -> Option<Self> {
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
    pub fn step(&self, unet: &UnetConfig, spec: &SamplingSpec) -> Result<Graph, GraphError> {
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
    pub fn compute(
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

#[cfg(test)]
mod tests {
    use super::super::step::sampling_graph;
    use super::*;
    use crate::checkpoint::{hashed_parameters, unet_parameters};
    use crate::device::DeviceChoice;
    use crate::diffusion::{
        HostValues, Method, NoiseSchedule, NoiseSource, RunInputs, SamplerTable, initial_noise,
    };

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
        let device = Device::builder()
            .choice(DeviceChoice::Cpu)
            .threads(1)
            .open()
            .unwrap();
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
