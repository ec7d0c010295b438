//! The reference's older UNet class: one skip per level, added or concatenated.

use super::attention::attend;
use super::blocks::{conv_block, down, up};
use super::config::{Backbone, UnetConfig};
use super::embedders::ConditionEmbedding;
use super::layers::head;
use crate::graph::{Graph, GraphError, Value};

/// `encoders.{index}`: resample, attend, convolve. Shared with the VAE.
pub(super) fn encoder_block(
    g: &mut Graph,
    index: usize,
    x: Value,
    backbone: &Backbone,
    embedding: Option<ConditionEmbedding>,
) -> Result<Value, GraphError> {
    let level = index + 1;
    let (kernel, stride) = (backbone.kernel_sizes[level], backbone.strides[level]);
    let width = backbone.hidden_channels[level];
    g.block(&format!("encoders.{index}"), |g| {
        let h = g.scope("down_op", |g| {
            let h = down(g, x, width, kernel, stride, backbone)?;
            g.label(h);
            Ok(h)
        })?;
        let kind = backbone.attention[level];
        let h = attend(g, "attention", h, kind, backbone.norm_groups, embedding)?;
        let h = g.scope("conv_block", |g| {
            conv_block(g, h, width, kernel, backbone, embedding)
        })?;
        g.label(h);
        Ok(h)
    })
}

/// `decoders.{index}`: resample, join the skip if there is one, attend, convolve. Shared with
/// the VAE.
pub(super) fn decoder_block(
    g: &mut Graph,
    index: usize,
    x: Value,
    skip: Option<Value>,
    backbone: &Backbone,
    embedding: Option<ConditionEmbedding>,
) -> Result<Value, GraphError> {
    let level = index + 1;
    let width = backbone.hidden_channels[index];
    g.block(&format!("decoders.{index}"), |g| {
        let h = g.scope("up_op", |g| {
            let h = up(g, x, width, backbone.strides[level], backbone)?;
            g.label(h);
            Ok(h)
        })?;
        let h = match skip {
            Some(skip) if backbone.learnable_resampling => g.add(h, skip)?,
            Some(skip) => g.concat(&[h, skip])?,
            None => h,
        };
        let kind = backbone.attention[index];
        let h = attend(g, "attention", h, kind, backbone.norm_groups, embedding)?;
        let kernel = backbone.kernel_sizes[level];
        let h = g.scope("conv_block", |g| {
            conv_block(g, h, width, kernel, backbone, embedding)
        })?;
        g.label(h);
        Ok(h)
    })
}

/// The network up to its output convolution, and the vertical outputs.
pub(super) fn build(
    g: &mut Graph,
    config: &UnetConfig,
    x: Value,
    embedding: Option<ConditionEmbedding>,
) -> Result<(Value, Vec<Value>), GraphError> {
    let backbone = &config.backbone;
    let depth = backbone.hidden_channels.len();
    let h = g.scope("inc", |g| {
        let (width, kernel) = (backbone.hidden_channels[0], backbone.kernel_sizes[0]);
        conv_block(g, x, width, kernel, backbone, embedding)
    })?;
    let mut levels = vec![h];
    for index in 0..depth - 1 {
        levels.push(encoder_block(g, index, levels[index], backbone, embedding)?);
    }
    for index in (0..depth - 1).rev() {
        levels[index] = decoder_block(
            g,
            index,
            levels[index + 1],
            Some(levels[index]),
            backbone,
            embedding,
        )?;
    }
    let vertical = (0..backbone.deep_supervision)
        .map(|index| {
            let block = format!("outc_ver.{index}");
            head(
                g,
                &block,
                "conv.conv",
                levels[index + 1],
                config.out_channels,
            )
        })
        .collect::<Result<_, _>>()?;
    Ok((levels[0], vertical))
}
