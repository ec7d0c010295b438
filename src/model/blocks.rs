//! Convolution blocks and resampling shared by UNet and VAE.

use super::config::Backbone;
use super::embedders::Embedding;
use crate::graph::{Graph, GraphError, Value};

/// Numerical floor of every group norm and layer norm of the reference.
pub(super) const NORM_EPS: f32 = 1e-5;

/// The reference's padding rule: `trunc((kernel - stride + 1) / 2)`.
pub(super) fn padding(kernel: usize, stride: usize) -> usize {
    (kernel + 1).saturating_sub(stride) / 2
}

/// Channels of an activation.
pub(super) fn channels(g: &Graph, x: Value) -> usize {
    g.ty(x).channels()
}

/// A square convolution with bias: keys `{name}.weight` `[out, in, k, k]`, `{name}.bias`.
pub(super) fn conv(
    g: &mut Graph,
    name: &str,
    x: Value,
    out_channels: usize,
    kernel: usize,
    stride: usize,
) -> Result<Value, GraphError> {
    g.scope(name, |g| {
        let weight = g.parameter("weight", [out_channels, channels(g, x), kernel, kernel])?;
        let bias = g.parameter("bias", [out_channels])?;
        g.conv2d(x, weight, Some(bias), stride, padding(kernel, stride))
    })
}

/// A linear layer over the last axis: keys `{name}.weight` `[out, in]`, `{name}.bias`.
pub(super) fn linear(
    g: &mut Graph,
    name: &str,
    x: Value,
    out_features: usize,
) -> Result<Value, GraphError> {
    g.scope(name, |g| {
        let weight = g.parameter("weight", [out_features, channels(g, x)])?;
        let bias = g.parameter("bias", [out_features])?;
        g.linear(x, weight, Some(bias))
    })
}

/// Affine group norm: keys `{name}.weight`, `{name}.bias` `[C]`.
pub(super) fn group_norm(
    g: &mut Graph,
    name: &str,
    x: Value,
    groups: usize,
) -> Result<Value, GraphError> {
    g.scope(name, |g| {
        let c = channels(g, x);
        let gamma = g.parameter("weight", [c])?;
        let beta = g.parameter("bias", [c])?;
        g.group_norm(x, gamma, beta, groups, NORM_EPS)
    })
}

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
