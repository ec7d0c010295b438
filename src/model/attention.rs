//! Attention blocks: `linear` (multi-head softmax attention) and `spatial` (transformer block).

use super::config::AttentionKind;
use super::embedders::ConditionEmbedding;
use super::layers::{
    Begin, NORM_EPS, channels, conv, group_norm, linear, norm_parameters, stored_weight_and_bias,
    weight_and_bias, zero_conv,
};
use crate::graph::{Graph, GraphError, Init, Value};

/// Heads of every attention layer of the reference.
const HEADS: usize = 8;

/// Applies the attention of one level under `{name}.attention`; the identity if there is none.
/// In either case the result is labelled with the path of the wrapper `name`.
pub(super) fn attend(
    g: &mut Graph,
    name: &str,
    x: Value,
    kind: AttentionKind,
    groups: usize,
    embedding: Option<ConditionEmbedding>,
) -> Result<Value, GraphError> {
    g.scope(name, |g| attend_here(g, x, kind, groups, embedding))
}

/// [`attend`] under the current path.
pub(super) fn attend_here(
    g: &mut Graph,
    x: Value,
    kind: AttentionKind,
    groups: usize,
    embedding: Option<ConditionEmbedding>,
) -> Result<Value, GraphError> {
    let y = g.scope("attention", |g| {
        let y = match kind {
            AttentionKind::None => return Ok(x),
            AttentionKind::Linear => attention_layer(g, x, embedding, groups)?,
            AttentionKind::Spatial => transformer(g, x, embedding, groups)?,
        };
        g.label(y);
        Ok(y)
    })?;
    g.label(y);
    Ok(y)
}

/// A 1-wide convolution over `[N, …, C]`: weight `[out, in, 1]`.
fn project(
    g: &mut Graph,
    name: &str,
    x: Value,
    out: usize,
    begin: Begin,
) -> Result<Value, GraphError> {
    g.scope(name, |g| {
        let shape = [out, channels(g, x), 1];
        let (weight, bias) = weight_and_bias(g, &shape, begin)?;
        g.linear(x, weight, Some(bias))
    })
}

/// Width of the heads together: the channels, rounded down to a multiple of the heads.
fn inner_width(g: &Graph, x: Value) -> Result<usize, GraphError> {
    let c = channels(g, x);
    match c / HEADS * HEADS {
        0 => Err(GraphError::Model(format!(
            "attention at '{}' needs at least {HEADS} channels (one per head), found {c}",
            g.path()
        ))),
        inner => Ok(inner),
    }
}

/// A norm that files hold and nothing reads.
fn stored_norm(g: &mut Graph, name: &str, c: usize) -> Result<(), GraphError> {
    g.scope(name, |g| {
        g.stored_parameter("weight", [c], Init::Ones)?;
        g.stored_parameter("bias", [c], Init::Zeros)
    })
}

/// `x + to_out(attention(…))`.
///
/// With an embedding the context is that single token: the softmax over one key is 1, so the
/// layer is `x + to_out(to_v(embedding))` on every pixel, and `norm_x`, `to_q` and `to_k` do not
/// matter: files hold them, nothing reads them. Without one the pixels attend to each other.
fn attention_layer(
    g: &mut Graph,
    x: Value,
    embedding: Option<ConditionEmbedding>,
    groups: usize,
) -> Result<Value, GraphError> {
    let c = channels(g, x);
    let inner = inner_width(g, x)?;
    if let Some(embedding) = embedding {
        stored_norm(g, "norm_x", c)?;
        let context = channels(g, embedding.raw);
        for (name, inputs) in [("to_q", c), ("to_k", context)] {
            g.scope(name, |g| {
                stored_weight_and_bias(g, &[inner, inputs, 1], Begin::Uniform)
            })?;
        }
        let v = project(g, "to_v", embedding.raw, inner, Begin::Uniform)?;
        let shift = project(g, "to_out.0", v, c, Begin::Zeros)?;
        return g.add_channels(x, shift);
    }
    let shape = g.shape(x).to_vec();
    let tokens = [shape[0], shape[1..shape.len() - 1].iter().product(), c];
    let h = group_norm(g, "norm_x", x, groups)?;
    let h = g.reshape(h, tokens)?;
    let q = project(g, "to_q", h, inner, Begin::Uniform)?;
    let k = project(g, "to_k", h, inner, Begin::Uniform)?;
    let v = project(g, "to_v", h, inner, Begin::Uniform)?;
    // The reference scales q and k by d^(-1/4) each.
    let scale = ((inner / HEADS) as f32).powf(-0.5);
    let h = g.attention(q, k, v, HEADS, scale)?;
    let h = project(g, "to_out.0", h, c, Begin::Zeros)?;
    let h = g.reshape(h, shape)?;
    g.add(x, h)
}

/// `x + proj_out(T(proj_in(norm(x))))` with `T` = self-attention, cross-attention, GEGLU.
fn transformer(
    g: &mut Graph,
    x: Value,
    embedding: Option<ConditionEmbedding>,
    groups: usize,
) -> Result<Value, GraphError> {
    let (c, inner) = (channels(g, x), inner_width(g, x)?);
    let h = group_norm(g, "norm", x, groups)?;
    let h = conv(g, "proj_in", h, inner, 1, 1)?;
    let h = g.scope("transformer_blocks.0", |g| {
        let h = g.scope("self_atn", |g| attention_layer(g, h, None, groups))?;
        let h = match embedding {
            Some(embedding) => g.scope("cros_atn", |g| {
                attention_layer(g, h, Some(embedding), groups)
            })?,
            None => h,
        };
        let gated = g.scope("proj_out.0", |g| {
            let normalised = g.scope("norm", |g| {
                let (gamma, beta) = norm_parameters(g, inner)?;
                g.layer_norm(h, gamma, beta, NORM_EPS)
            })?;
            let both = linear(g, "proj", normalised, 8 * inner)?;
            g.geglu(both)
        })?;
        let h2 = conv(g, "proj_out.2", gated, inner, 1, 1)?;
        g.add(h, h2)
    })?;
    let h = zero_conv(g, "proj_out", h, c, 1)?;
    g.add(x, h)
}
