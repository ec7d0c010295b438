//! Convolution blocks and resampling shared by UNet and VAE.

use super::config::Backbone;
use super::embedders::Embedding;
use super::layers::{channels, conv, group_norm, linear};
use crate::graph::{Graph, GraphError, Value};

/// `swish(norm(conv(x)))`: keys `conv.*`, `norm.*` (the reference's `BasicBlock`).
fn basic_block(
    g: &mut Graph,
    x: Value,
    out_channels: usize,
    kernel: usize,
    groups: usize,
) -> Result<Value, GraphError> {
    let h = conv(g, "conv", x, out_channels, kernel, 1)?;
    let h = group_norm(g, "norm", h, groups)?;
    g.swish(h)
}

/// Two basic blocks with the embedding between them: `UnetResBlock` (each with a skip, the
/// embedding added after the first) or `UnetBasicBlock` (no skips, added after both).
pub(super) fn conv_block(
    g: &mut Graph,
    x: Value,
    out_channels: usize,
    kernel: usize,
    backbone: &Backbone,
    embedding: Option<Embedding<'_>>,
) -> Result<Value, GraphError> {
    let residual = backbone.residual_blocks;
    let shift =
        match embedding {
            Some(Embedding {
                shifts: Some(shifts),
                ..
            }) => {
                let path = g.path();
                let shift = shifts.get(&path).copied();
                Some(shift.ok_or_else(|| {
                    GraphError::Model(format!("nothing was tabulated for {path}"))
                })?)
            }
            Some(embedding) => Some(g.scope("local_embedder", |g| {
                let shift = linear(g, "1", embedding.activated, out_channels)?;
                g.label(shift);
                Ok(shift)
            })?),
            None => None,
        };
    let mut h = x;
    for index in 0..2 {
        h = g.scope(&format!("block_seq.{index}"), |g| {
            let y = if residual {
                let y = g.scope("basic_block", |g| {
                    basic_block(g, h, out_channels, kernel, backbone.norm_groups)
                })?;
                let skip = if channels(g, h) == out_channels {
                    h
                } else {
                    conv(g, "conv_res", h, out_channels, 1, 1)?
                };
                g.add(y, skip)?
            } else {
                basic_block(g, h, out_channels, kernel, backbone.norm_groups)?
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
