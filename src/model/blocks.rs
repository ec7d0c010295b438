//! Convolution blocks and resampling shared by UNet and VAE.

use super::config::Backbone;
use super::embedders::ConditionEmbedding;
use super::layers::{Begin, channels, conv, conv_here, group_norm, linear_here};
use crate::graph::{Graph, GraphError, Value};

/// `swish(norm(conv(x)))`: keys `conv.*`, `norm.*` (the reference's `BasicBlock`).
fn basic_block(
    g: &mut Graph,
    x: Value,
    out_channels: usize,
    kernel: usize,
    groups: usize,
    begin: Begin,
) -> Result<Value, GraphError> {
    let h = g.scope("conv", |g| conv_here(g, x, out_channels, kernel, 1, begin))?;
    let h = group_norm(g, "norm", h, groups)?;
    g.swish(h)
}

/// A part of a convolution block: recomputation's block of its own, unless the whole lies in one.
fn part<T>(g: &mut Graph, name: &str, build: impl FnOnce(&mut Graph) -> T) -> T {
    match g.block_of(&g.path()).is_empty() {
        true => g.block(name, build),
        false => g.scope(name, build),
    }
}

/// Two basic blocks with the embedding between them: `UnetResBlock` (each with a skip, the
/// embedding added after the first) or `UnetBasicBlock` (no skips, added after both).
pub(super) fn conv_block(
    g: &mut Graph,
    x: Value,
    out_channels: usize,
    kernel: usize,
    backbone: &Backbone,
    embedding: Option<ConditionEmbedding>,
) -> Result<Value, GraphError> {
    let residual = backbone.residual_blocks;
    let shift = match embedding {
        Some(embedding) => Some(g.scope("local_embedder", |g| {
            let shift = part(g, "1", |g| {
                linear_here(g, embedding.activated, out_channels)
            })?;
            g.label(shift);
            Ok(shift)
        })?),
        None => None,
    };
    let mut h = x;
    for (index, begin) in [Begin::Uniform, Begin::Zeros].into_iter().enumerate() {
        h = part(g, &format!("block_seq.{index}"), |g| {
            let y = if residual {
                let y = g.scope("basic_block", |g| {
                    basic_block(g, h, out_channels, kernel, backbone.norm_groups, begin)
                })?;
                let skip = if channels(g, h) == out_channels {
                    h
                } else {
                    conv(g, "conv_res", h, out_channels, 1, 1)?
                };
                g.add(y, skip)?
            } else {
                basic_block(g, h, out_channels, kernel, backbone.norm_groups, begin)?
            };
            g.label(y);
            Ok(y)
        })?;
        if let Some(shift) = shift.filter(|_| index == 0 || !residual) {
            h = g.add_channels(h, shift)?;
        }
    }
    g.label(h);
    Ok(h)
}

/// Reduces the map by `stride`: a convolution, or average pooling that keeps the channels and
/// counts the zero padding (`BasicDown`).
pub(super) fn down(
    g: &mut Graph,
    x: Value,
    out_channels: usize,
    kernel: usize,
    stride: usize,
    backbone: &Backbone,
) -> Result<Value, GraphError> {
    if backbone.learnable_resampling {
        conv(g, "down_op", x, out_channels, kernel, stride)
    } else {
        g.avg_pool(x, 3, stride, 1)
    }
}

/// Enlarges the map by `stride`: pixel repetition, then a 3×3 convolution if resampling is
/// learned (`BasicUp`).
pub(super) fn up(
    g: &mut Graph,
    x: Value,
    out_channels: usize,
    stride: usize,
    backbone: &Backbone,
) -> Result<Value, GraphError> {
    let repeated = if stride == 1 {
        x
    } else {
        g.upsample(x, stride)?
    };
    if backbone.learnable_resampling {
        conv(g, "up_op", repeated, out_channels, 3, 1)
    } else {
        Ok(repeated)
    }
}
