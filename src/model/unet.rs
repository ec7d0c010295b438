//! The noise estimator: the UNet class that the reference's package exports.

use super::attention::{attend, attend_here};
use super::blocks::{conv_block, down, up};
use super::config::{UnetConfig, UnetVariant};
use super::embedders::{ConditionEmbedding, embed};
use super::layers::{conv, head};
use super::legacy_unet;
use crate::graph::{Graph, GraphError, Value};

/// What the network is given.
#[derive(Clone, Copy, Debug)]
pub struct NetworkInputs {
    /// `x_t`, `[N, H, W, in_channels]`.
    pub x: Value,
    /// Time steps, `[N]` integers in `0..T`.
    pub t: Value,
    /// Class indices, `[N]` integers, -1 for none; `None` for a network without condition.
    pub labels: Option<Value>,
    /// For self-conditioning networks, what is concatenated to `x`; zeros if `None`.
    ///
    /// The reference ignores the content of the self-condition and concatenates `x_t` itself a
    /// second time; callers that follow it pass `x`.
    pub self_condition: Option<Value>,
}

/// What the network predicts.
#[derive(Clone, Debug)]
pub struct UnetOutput {
    /// Noise or clean sample, `[N, H, W, out_channels]`.
    pub y: Value,
    /// Raw interpolation values of a learned variance, shaped as `y`.
    pub variance: Option<Value>,
    /// Prediction and variance in one, as the network emits them: `[N, H, W, C or 2C]`.
    pub raw: Value,
    /// Deep-supervision outputs, highest resolution first; cost nothing unless used.
    pub vertical: Vec<Value>,
}

/// Adds the noise estimator to `g` under the current path.
///
/// # Errors
/// If the input does not fit the configuration: channels, a map that does not divide by the
/// strides, labels for an unconditional network.
pub fn build_unet(
    g: &mut Graph,
    config: &UnetConfig,
    inputs: NetworkInputs,
) -> Result<UnetOutput, GraphError> {
    check(g, config, inputs.x)?;
    let x = if config.self_conditioning {
        let other = match inputs.self_condition {
            Some(other) => other,
            None => g.scale(inputs.x, 0.0)?,
        };
        g.concat(&[inputs.x, other])?
    } else {
        inputs.x
    };
    let embedding = embed(g, config, inputs.t, inputs.labels)?;
    network(g, config, x, embedding)
}

fn network(
    g: &mut Graph,
    config: &UnetConfig,
    x: Value,
    embedding: Option<ConditionEmbedding>,
) -> Result<UnetOutput, GraphError> {
    let (h, vertical) = match config.variant {
        UnetVariant::Unet => exported(g, config, x, embedding)?,
        UnetVariant::Legacy => legacy_unet::build(g, config, x, embedding)?,
    };
    let width = config.out_channels * (1 + usize::from(config.learned_variance));
    let out = head(g, "outc", "conv.conv", h, width)?;
    let (y, variance) = if config.learned_variance {
        let y = g.slice(out, 0, config.out_channels)?;
        (
            y,
            Some(g.slice(out, config.out_channels, config.out_channels)?),
        )
    } else {
        (out, None)
    };
    Ok(UnetOutput {
        y,
        variance,
        raw: out,
        vertical,
    })
}

fn check(g: &Graph, config: &UnetConfig, x: Value) -> Result<(), GraphError> {
    let backbone = &config.backbone;
    let depth = backbone.hidden_channels.len();
    let error = |message: String| Err(GraphError::Model(message));
    if depth < 2 {
        return error(format!("a UNet needs at least 2 levels, found {depth}"));
    }
    for (what, len) in [
        ("kernel sizes", backbone.kernel_sizes.len()),
        ("strides", backbone.strides.len()),
        ("attention kinds", backbone.attention.len()),
    ] {
        if len != depth {
            return error(format!("{depth} levels of channels but {len} {what}"));
        }
    }
    let &[_, h, w, c] = g.shape(x) else {
        return error(format!("the network takes [N, H, W, C], found {}", g.ty(x)));
    };
    if c != config.in_channels {
        return error(format!(
            "the network takes {} channels, found {c}",
            config.in_channels
        ));
    }
    let factor = config.downsampling();
    if h % factor != 0 || w % factor != 0 || h == 0 || w == 0 {
        return error(format!(
            "the map of {h}x{w} has to be a multiple of {factor} on both sides"
        ));
    }
    Ok(())
}

#[allow(
    clippy::needless_range_loop,
    reason = "a level indexes channels, kernels, strides and attention alike"
)]
fn exported(
    g: &mut Graph,
    config: &UnetConfig,
    x: Value,
    embedding: Option<ConditionEmbedding>,
) -> Result<(Value, Vec<Value>), GraphError> {
    let backbone = &config.backbone;
    let hidden = &backbone.hidden_channels;
    let depth = hidden.len();
    let groups = backbone.norm_groups;
    let blocks = config.num_res_blocks;

    let h = g.block("in_conv", |g| {
        let h = conv(
            g,
            "conv",
            x,
            hidden[0],
            backbone.kernel_sizes[0],
            backbone.strides[0],
        )?;
        g.label(h);
        Ok(h)
    })?;
    let mut stack = vec![h];
    let mut index = 0;
    for level in 1..depth {
        for _ in 0..blocks {
            let input = stack[stack.len() - 1];
            let h = g.block(&format!("in_blocks.{index}"), |g| {
                let h = g.scope("0", |g| {
                    let kernel = backbone.kernel_sizes[level];
                    conv_block(g, input, hidden[level], kernel, backbone, embedding)
                })?;
                let h = attend(g, "1", h, backbone.attention[level], groups, embedding)?;
                g.label(h);
                Ok(h)
            })?;
            stack.push(h);
            index += 1;
        }
        if level < depth - 1 {
            let input = stack[stack.len() - 1];
            let h = g.block(&format!("in_blocks.{index}"), |g| {
                let (kernel, stride) = (backbone.kernel_sizes[level], backbone.strides[level]);
                let h = down(g, input, hidden[level], kernel, stride, backbone)?;
                g.label(h);
                Ok(h)
            })?;
            stack.push(h);
            index += 1;
        }
    }

    let kernel = backbone.kernel_sizes[depth - 1];
    let deepest = hidden[depth - 1];
    let h = stack[stack.len() - 1];
    let h = g.block("middle_block.0", |g| {
        conv_block(g, h, deepest, kernel, backbone, embedding)
    })?;
    let attention = backbone.attention[depth - 1];
    let h = g.block("middle_block.1", |g| {
        attend_here(g, h, attention, groups, embedding)
    })?;
    let mut h = g.block("middle_block.2", |g| {
        conv_block(g, h, deepest, kernel, backbone, embedding)
    })?;

    let mut vertical = Vec::new();
    for level in (1..depth).rev() {
        for k in (0..=blocks).rev() {
            let skip = stack.pop().expect("one skip per decoder block");
            h = g.concat(&[h, skip])?;
            if k == 0 && level >= 2 && level - 2 < backbone.deep_supervision {
                let block = format!("outc_ver.{}", level - 2);
                vertical.push(head(g, &block, "conv.conv", h, config.out_channels)?);
            }
            let width = if k == 0 {
                hidden[level - 1]
            } else {
                hidden[level]
            };
            let index = (level - 1) * (blocks + 1) + k;
            h = g.block(&format!("out_blocks.{index}"), |g| {
                let kernel = backbone.kernel_sizes[level];
                let y = g.scope("0", |g| {
                    conv_block(g, h, width, kernel, backbone, embedding)
                })?;
                let mut y = attend(g, "1", y, backbone.attention[level], groups, embedding)?;
                if k == 0 && level > 1 {
                    y = g.scope("2", |g| up(g, y, width, backbone.strides[level], backbone))?;
                }
                g.label(y);
                Ok(y)
            })?;
        }
    }
    vertical.reverse();
    Ok((h, vertical))
}
