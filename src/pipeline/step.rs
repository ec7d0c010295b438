//! The graph of one sampling step.

use super::shifts::Shifts;
use crate::checkpoint::ModelConfig;
use crate::diffusion::{SamplingSpec, SamplingStep, sampling_step};
use crate::graph::{Graph, GraphError};
use crate::model::{NetworkInputs, build_unet};

/// The step that a [`Sampler`](super::Sampler) repeats: with what the network computes from step and label alone looked up
/// where that can be tabulated, else [`sampling_graph`].
///
/// # Errors
/// As [`sampling_graph`].
pub fn sampler_graph(config: &ModelConfig, spec: &SamplingSpec) -> Result<Graph, GraphError> {
    Ok(match sampler_step(config, spec)? {
        SamplerGraph::Tabulated(shifts) => shifts.step,
        SamplerGraph::Plain(graph) => *graph,
    })
}

/// The graph of a sampler's step.
pub(super) enum SamplerGraph {
    /// It looks up what depends on step and label alone.
    Tabulated(Box<Shifts>),
    /// It computes everything at each step.
    Plain(Box<Graph>),
}

impl SamplerGraph {
    pub fn graph(&self) -> &Graph {
        match self {
            Self::Tabulated(shifts) => &shifts.step,
            Self::Plain(graph) => graph,
        }
    }
}

pub(super) fn sampler_step(
    config: &ModelConfig,
    spec: &SamplingSpec,
) -> Result<SamplerGraph, GraphError> {
    let (graph, step) = sampling_graph(config, spec)?;
    let classes = config.unet.as_ref().and_then(|unet| unet.num_classes);
    Ok(match Shifts::of(&graph, &step, spec, classes)? {
        Some(shifts) => SamplerGraph::Tabulated(Box::new(shifts)),
        None => SamplerGraph::Plain(Box::new(graph)),
    })
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
