//! Time and label embedding.

use super::config::UnetConfig;
use super::layers::linear_here;
use crate::graph::{Graph, GraphError, Init, Parameter, Value};

/// The embedding of a sample, `[N, E]`, raw (for cross-attention) and through Swish (for blocks).
#[derive(Clone, Copy, Debug)]
pub(super) struct ConditionEmbedding {
    pub raw: Value,
    pub activated: Value,
}

/// Time embedding plus label embedding. `t` and `labels` are `[N]` integers; a label of -1 adds
/// nothing, which is what "unconditional" means here: there is no null class.
pub(super) fn embed(
    g: &mut Graph,
    config: &UnetConfig,
    t: Value,
    labels: Option<Value>,
) -> Result<Option<ConditionEmbedding>, GraphError> {
    let time = match config.time_embedding {
        Some(time) => Some(g.block("time_embedder", |g| {
            let sinusoid = g.sinusoid(t, time.sinusoid_dim)?;
            g.label_as(sinusoid, "time_embedder.pos_embedder");
            let h = g.block("time_emb.1", |g| linear_here(g, sinusoid, time.dim))?;
            let h = g.swish(h)?;
            let h = g.block("time_emb.3", |g| linear_here(g, h, time.dim))?;
            g.label(h);
            Ok(h)
        })?),
        None => None,
    };
    let label = match (config.num_classes, labels) {
        (Some(classes), Some(labels)) => Some(g.block("cond_embedder", |g| {
            let facts = Parameter {
                conditional: true,
                ..Init::Normal.into()
            };
            let shape = [classes, embedding_dim(config)];
            let table = g.parameter_with("embedding.weight", shape, facts)?;
            let h = g.embedding(table, labels)?;
            g.label(h);
            Ok(h)
        })?),
        (None, Some(_)) => {
            return Err(GraphError::Model(
                "the network is unconditional: it has no label embedding".to_owned(),
            ));
        }
        (_, None) => None,
    };
    let raw = match (time, label) {
        (Some(time), Some(label)) => g.add(time, label)?,
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => return Ok(None),
    };
    let activated = g.swish(raw)?;
    Ok(Some(ConditionEmbedding { raw, activated }))
}

/// Width `E` of the embedding.
fn embedding_dim(config: &UnetConfig) -> usize {
    config
        .time_embedding
        .map_or(LABEL_DIM_WITHOUT_TIME, |time| time.dim)
}

/// The reference's default `emb_dim` of the label embedder, for networks without time embedding.
const LABEL_DIM_WITHOUT_TIME: usize = 32;
