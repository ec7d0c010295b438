//! What the noise estimator computes from time step and label alone, tabulated once for a trajectory.
//!
//! In a sampling step the values that depend on nothing else (the embedding, and what each block makes of it) take few
//! operations and many launches. They are cut out of the step's graph: their last ones, which the rest reads, become a
//! table over steps and labels, and the step looks them up.

use std::collections::HashMap;

use super::error::SampleError;
use crate::device::Device;
use crate::diffusion::{SamplingSpec, SamplingStep, names};
use crate::graph::{Graph, GraphError, Node, Rebuild, Source, Value, live_nodes};
use crate::ops::TableGather;
use crate::tensor::{DType, TensorMap, TensorType};

/// The binding of the table in a sampling step: `[rows, labels + 1, sum of channels]`.
pub(super) const SHIFTS: &str = "shifts";

/// A sampling step that looks up what depends on time step and label alone, and how to compute that.
pub(super) struct Shifts {
    /// The step, with inputs [`SHIFTS`] and [`names::LABELS`].
    pub step: Graph,
    /// Inputs `t` and, for a conditional network, `labels`, both `[labels + 1]`; output [`SHIFTS`].
    table: Graph,
    rows: usize,
    /// Labels, and none.
    entries: usize,
    /// Sum of channels.
    width: usize,
}

impl Shifts {
    /// Cuts them out of a sampling step; `None` where there are none, where they are no vectors, or where the table
    /// would be larger than it is worth.
    pub fn of(
        graph: &Graph,
        sampling: &SamplingStep,
        spec: &SamplingSpec,
        classes: Option<usize>,
    ) -> Result<Option<Self>, GraphError> {
        /// The paper's network has 16 MB for 150 steps and two classes.
        const MOST_BYTES: usize = 256 << 20;
        let t = sampling.inputs.t;
        let given: Vec<Value> = [Some(t), sampling.inputs.labels]
            .into_iter()
            .flatten()
            .collect();
        let hoisted = Hoisted::of(graph, &given);
        let evaluated = graph.shape(t)[0];
        let is_vector = |&value: &Value| {
            let ty = graph.ty(value);
            ty.shape.len() == 2 && ty.shape[0] == evaluated && ty.dtype == DType::F32
        };
        if hoisted.last.is_empty() || !hoisted.last.iter().all(is_vector) {
            return Ok(None);
        }
        let widths: Vec<usize> = hoisted
            .last
            .iter()
            .map(|&value| graph.shape(value)[1])
            .collect();
        let (rows, entries) = (spec.rows, 1 + classes.unwrap_or(0));
        let width: usize = widths.iter().sum();
        let elements = rows
            .checked_mul(entries)
            .and_then(|elements| elements.checked_mul(width));
        if elements.is_none_or(|elements| elements > MOST_BYTES / size_of::<f32>()) {
            return Ok(None);
        }
        // An op that is tied to the batch cannot be computed for other entries.
        let Ok(table) = hoisted.table(graph, sampling, entries) else {
            return Ok(None);
        };
        let step = hoisted.step(graph, widths, TensorType::f32([rows, entries, width]))?;
        Ok(Some(Self {
            step,
            table,
            rows,
            entries,
            width,
        }))
    }

    /// Computes the table for a trajectory's time steps, in pieces of one step.
    pub fn compute(
        &self,
        weights: &TensorMap,
        device: &Device,
        timesteps: &[i32],
    ) -> Result<Vec<f32>, SampleError> {
        let mut executable = device.load(device.compile(&self.table), weights)?;
        if executable.has("labels") {
            let labels: Vec<i32> = (-1..self.entries as i32 - 1).collect();
            executable.write_i32("labels", &labels)?;
        }
        let elements = self.rows * self.entries * self.width;
        let mut table = Vec::with_capacity(elements);
        for &t in timesteps {
            if executable.has("t") {
                executable.write_i32("t", &vec![t; self.entries])?;
            }
            executable.run()?;
            table.extend(executable.output(SHIFTS)?);
        }
        table.resize(elements, 0.0);
        Ok(table)
    }
}

/// The part of a graph that depends on a few given values, parameters and constants alone.
struct Hoisted {
    /// By node.
    nodes: Vec<bool>,
    /// Its results that the rest of the graph reads, in the order in which they are computed.
    last: Vec<Value>,
}

impl Hoisted {
    fn of(graph: &Graph, given: &[Value]) -> Self {
        let live = live_nodes(graph);
        let mut depends = vec![false; graph.value_count()];
        for value in given {
            depends[value.index()] = true;
        }
        let mut nodes = vec![false; graph.nodes().len()];
        let mut read = vec![false; graph.value_count()];
        for &(_, value) in graph.outputs() {
            read[value.index()] = true;
        }
        for (index, node) in graph.nodes().iter().enumerate().filter(|(i, _)| live[*i]) {
            let is_fixed = |value: &Value| {
                let source = &graph.info(*value).source;
                matches!(source, Source::Parameter | Source::Constant(_))
            };
            let is_given = node.outputs.iter().any(|value| given.contains(value));
            let any = node.inputs.iter().any(|value| depends[value.index()]);
            let all = node
                .inputs
                .iter()
                .all(|value| depends[value.index()] || is_fixed(value));
            // A view of a vector costs nothing, and its shape holds the batch: it stays.
            let operator = node.op.operator();
            let stays = operator.is_view() || !operator.updates().is_empty();
            if any && all && !is_given && !stays {
                nodes[index] = true;
                node.outputs
                    .iter()
                    .for_each(|value| depends[value.index()] = true);
            } else {
                node.inputs
                    .iter()
                    .for_each(|value| read[value.index()] = true);
            }
        }
        let hoisted = graph.nodes().iter().zip(&nodes).filter(|(_, h)| **h);
        let outputs = hoisted.flat_map(|(node, _)| &node.outputs);
        let last = outputs.copied().filter(|value| read[value.index()]);
        Self {
            last: last.collect(),
            nodes,
        }
    }

    /// The part as a graph of its own, for `entries` time steps and labels at once; the results behind each other.
    fn table(
        &self,
        graph: &Graph,
        sampling: &SamplingStep,
        entries: usize,
    ) -> Result<Graph, GraphError> {
        let mut table = Graph::new();
        let mut copies = HashMap::new();
        copies.insert(sampling.inputs.t, table.input("t", [entries], DType::I32)?);
        if let Some(labels) = sampling.inputs.labels {
            let copy = table.input("labels", [entries], DType::I32)?;
            copies.insert(labels, copy);
        }
        let hoisted = graph.nodes().iter().zip(&self.nodes).filter(|(_, h)| **h);
        for (node, _) in hoisted {
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for &input in &node.inputs {
                let copy = match copies.get(&input) {
                    Some(&copy) => copy,
                    None => copy_of_leaf(graph, &mut table, input)?,
                };
                copies.insert(input, copy);
                inputs.push(copy);
            }
            let outputs = table.node(node.op.clone(), &inputs)?;
            copies.extend(node.outputs.iter().copied().zip(outputs));
        }
        let last: Vec<Value> = self.last.iter().map(|value| copies[value]).collect();
        let shifts = table.concat(&last)?;
        table.output(SHIFTS, shifts);
        Ok(table)
    }

    /// The graph without the part, whose results are looked up in a table of type `ty`.
    fn step(&self, graph: &Graph, widths: Vec<usize>, ty: TensorType) -> Result<Graph, GraphError> {
        let mut graph = graph.clone();
        let counter = graph.state(names::COUNTER, [1], DType::I32)?;
        let table = graph.input(SHIFTS, ty.shape, DType::F32)?;
        let evaluated = graph.shape(self.last[0])[0];
        let labels = graph.input(names::LABELS, [evaluated], DType::I32)?;
        let mut gather = Some(Node {
            op: TableGather { widths }.into(),
            inputs: vec![table, counter, labels],
            outputs: self.last.clone(),
            path: String::new(),
        });
        let mut rebuilt = Rebuild::of(&graph);
        for (node, &hoisted) in graph.nodes().iter().zip(&self.nodes) {
            if !hoisted {
                rebuilt.push(node.clone());
                continue;
            }
            if let Some(gather) = gather.take() {
                rebuilt.push(gather);
            }
            for &output in &node.outputs {
                if !self.last.contains(&output) {
                    rebuilt.drop_for(output, self.last[0]);
                }
            }
        }
        Ok(rebuilt.finish())
    }
}

/// The parameter or constant `value` of `graph`, in another graph.
fn copy_of_leaf(graph: &Graph, other: &mut Graph, value: Value) -> Result<Value, GraphError> {
    let (info, shape) = (graph.info(value), graph.shape(value));
    match &info.source {
        Source::Constant(values) => other.constant(shape, values),
        _ => other.parameter_with(&info.name, shape, graph.facts(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::step::sampling_graph;
    use super::*;
    use crate::checkpoint::{ModelConfig, hashed_parameters, unet_parameters};
    use crate::device::DeviceChoice;
    use crate::diffusion::{
        HostValues, Method, NoiseSchedule, NoiseSource, RunInputs, SamplerTable, initial_noise,
    };
    use crate::model::config::AttentionKind;

    /// A trajectory of a small network with hashed weights; with and without `tabulated` shifts. `attending` networks read
    /// the embedding in their attention too, and condition themselves.
    fn trajectory(
        classes: Option<usize>,
        guidance: bool,
        attending: bool,
        tabulated: bool,
    ) -> Vec<f32> {
        let mut config = ModelConfig::published(2);
        let unet = config.unet.as_mut().unwrap();
        if attending {
            unet.backbone.attention[2] = AttentionKind::Linear;
            unet.backbone.attention[3] = AttentionKind::Spatial;
            unet.self_conditioning = true;
        }
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
        let weights = hashed_parameters(&unet_parameters(&unet).unwrap(), 0.8);
        let device = Device::builder()
            .choice(DeviceChoice::Cpu)
            .threads(1)
            .open()
            .unwrap();
        let schedule = NoiseSchedule::new(config.noise.as_ref().unwrap()).unwrap();
        let scale = if guidance { 2.0 } else { 1.0 };
        let table =
            SamplerTable::new(&schedule, Method::Ddim { eta: 0.0 }, 4, scale, false).unwrap();
        let (graph, sampling) = sampling_graph(&config, &spec).unwrap();
        let shifts = Shifts::of(&graph, &sampling, &spec, classes).unwrap();
        let shifts = shifts.expect("a network with an embedding");
        let graph = if tabulated { &shifts.step } else { &graph };
        let mut step = device.load(device.compile(graph), &weights).unwrap();
        if tabulated {
            let table = shifts.compute(&weights, &device, &table.timesteps);
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
    fn tabulated_shifts_give_the_same_trajectory() {
        for (classes, guidance, attending) in [
            (Some(2), false, false),
            (Some(2), true, false),
            (None, false, false),
            (Some(2), true, true),
        ] {
            let (want, got) = (
                trajectory(classes, guidance, attending, false),
                trajectory(classes, guidance, attending, true),
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
                "{classes:?} {guidance} {attending}: {worst} of {largest}"
            );
        }
    }
}
