//! A small residual network that tells classes apart, for measuring what synthetic images are worth.
//!
//! Source: He, Zhang, Ren, Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016; Wu, He, "Group
//! Normalization", ECCV 2018.

use serde::{Deserialize, Serialize};

use super::layers::{Begin, channels, conv, conv_here, group_norm, group_norm_here, linear_here};
use crate::graph::{Graph, GraphError, Value};

/// Architecture of the classifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassifierConfig {
    /// Channels of the image.
    pub in_channels: usize,
    /// Number of classes.
    pub classes: usize,
    /// Channels per level; each level halves the image.
    pub hidden_channels: Vec<usize>,
    /// Residual blocks per level.
    pub num_res_blocks: usize,
    /// Groups of each group normalisation.
    pub norm_groups: usize,
}

/// Adds the classifier: images `[N, H, W, C]` to logits `[N, classes]`.
///
/// A 3×3 stem; per level blocks `x + conv(swish(norm(conv(swish(norm(x))))))`, the first of which halves the map and
/// changes its channels (the skip through a 1×1 convolution); `swish(norm(·))`, the mean over space, one linear layer.
///
/// # Errors
/// If the image has other channels or the groups do not divide the channels.
pub fn build_classifier(
    g: &mut Graph,
    config: &ClassifierConfig,
    x: Value,
) -> Result<Value, GraphError> {
    let &[batch, height, width, c] = g.shape(x) else {
        return Err(GraphError::Model(format!(
            "the classifier takes images [N, H, W, C], found {}",
            g.ty(x)
        )));
    };
    let (Some(&first), true) = (
        config.hidden_channels.first(),
        c == config.in_channels && height * width > 0,
    ) else {
        return Err(GraphError::Model(format!(
            "the classifier takes images of {} channels and at least one level, found {}",
            config.in_channels,
            g.ty(x)
        )));
    };
    let groups = config.norm_groups;
    let mut h = g.block("stem", |g| conv_here(g, x, first, 3, 1, Begin::Uniform))?;
    for (level, &out) in config.hidden_channels.iter().enumerate() {
        for block in 0..config.num_res_blocks {
            let stride = if block == 0 { 2 } else { 1 };
            h = g.block(&format!("levels.{level}"), |g| {
                g.scope(&block.to_string(), |g| {
                    let y = activated(g, "norm1", h, groups)?;
                    let y = conv(g, "conv1", y, out, 3, stride)?;
                    let y = activated(g, "norm2", y, groups)?;
                    let y = conv(g, "conv2", y, out, 3, 1)?;
                    let skip = match stride == 1 && channels(g, h) == out {
                        true => h,
                        false => conv(g, "skip", h, out, 1, stride)?,
                    };
                    let y = g.add(y, skip)?;
                    g.label(y);
                    Ok::<_, GraphError>(y)
                })
            })?;
        }
    }
    let h = g.block("norm", |g| group_norm_here(g, h, groups))?;
    let h = g.swish(h)?;
    let c = channels(g, h);
    let h = g.resize_area(h, 1, 1)?;
    let h = g.reshape(h, [batch, c])?;
    g.block("head", |g| linear_here(g, h, config.classes))
}

fn activated(g: &mut Graph, name: &str, x: Value, groups: usize) -> Result<Value, GraphError> {
    let h = group_norm(g, name, x, groups)?;
    g.swish(h)
}
