//! The image autoencoder.

use super::blocks::conv_block;
use super::config::VaeConfig;
use super::layers::{channels, conv, head};
use super::legacy_unet::{decoder_block, encoder_block};
use crate::graph::{Graph, GraphError, Value};
use crate::ops::Unary;

/// The Gaussian posterior of a latent, `[N, H/f, W/f, latent_channels]` each.
#[derive(Clone, Copy, Debug)]
pub struct Moments {
    /// Mean of the latent, `[N, h, w, z]`.
    pub mean: Value,
    /// Clamped to [-30, 20].
    pub logvar: Value,
}

/// A decoded image and its deep-supervision outputs.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// `[N, H, W, out_channels]`, nominally in [-1, 1], not clamped.
    pub y: Value,
    /// Half resolution, quarter resolution, …; cost nothing unless used.
    pub vertical: Vec<Value>,
}

fn check(config: &VaeConfig) -> Result<(), GraphError> {
    let backbone = &config.backbone;
    let depth = backbone.hidden_channels.len();
    let lengths = [
        backbone.kernel_sizes.len(),
        backbone.strides.len(),
        backbone.attention.len(),
    ];
    if depth < 2 || lengths.iter().any(|&len| len != depth) {
        return Err(GraphError::Model(format!(
            "a VAE needs at least 2 levels and as many kernel sizes, strides and attention kinds \
             as channels, found {depth} channels and {lengths:?}"
        )));
    }
    Ok(())
}

/// Adds the encoder: image `[N, H, W, in_channels]` in [-1, 1] to the posterior's moments.
///
/// # Errors
/// If the image's channels differ from the configuration's or its sides do not divide by the
/// strides.
pub fn build_encoder(g: &mut Graph, config: &VaeConfig, x: Value) -> Result<Moments, GraphError> {
    check(config)?;
    let backbone = &config.backbone;
    let factor = config.downsampling();
    match *g.shape(x) {
        [_, h, w, c]
            if c == config.in_channels && h % factor == 0 && w % factor == 0 && h * w > 0 => {}
        _ => {
            return Err(GraphError::Model(format!(
                "the VAE encodes images of {} channels whose sides are multiples of {factor}, found {:?}",
                config.in_channels,
                g.shape(x)
            )));
        }
    }
    let mut h = g.scope("inc", |g| {
        let (width, kernel) = (backbone.hidden_channels[0], backbone.kernel_sizes[0]);
        conv_block(g, x, width, kernel, backbone, None)
    })?;
    for index in 0..backbone.hidden_channels.len() - 1 {
        h = encoder_block(g, index, h, backbone, None)?;
    }
    let width = 2 * config.latent_channels;
    let moments = g.scope("out_enc", |g| {
        let h = g.block("0", |g| conv(g, "conv", h, width, 3, 1))?;
        g.label_as(h, "out_enc.0");
        let moments = g.block("1", |g| conv(g, "conv", h, width, 1, 1))?;
        g.label(moments);
        Ok(moments)
    })?;
    let mean = g.slice(moments, 0, config.latent_channels)?;
    let logvar = g.slice(moments, config.latent_channels, config.latent_channels)?;
    let logvar = g.apply(
        Unary::Clamp {
            low: -30.0,
            high: 20.0,
        },
        &[logvar],
    )?;
    Ok(Moments { mean, logvar })
}

/// Kernel of the decoder's first block, whatever that of the deepest level is.
const DECODER_STEM: usize = 3;

/// Adds the decoder: latent `[N, h, w, latent_channels]` to an image.
///
/// # Errors
/// If the latent's channels differ from the configuration's.
pub fn build_decoder(g: &mut Graph, config: &VaeConfig, z: Value) -> Result<Decoded, GraphError> {
    check(config)?;
    if channels(g, z) != config.latent_channels || g.shape(z).len() != 4 {
        return Err(GraphError::Model(format!(
            "the VAE decodes latents of {} channels, found {:?}",
            config.latent_channels,
            g.shape(z)
        )));
    }
    let backbone = &config.backbone;
    let depth = backbone.hidden_channels.len();
    let mut h = g.scope("inc_dec", |g| {
        let width = backbone.hidden_channels[depth - 1];
        conv_block(g, z, width, DECODER_STEM, backbone, None)
    })?;
    let mut vertical = Vec::new();
    for index in (0..depth - 1).rev() {
        if index < backbone.deep_supervision {
            let block = format!("outc_ver.{index}");
            vertical.push(head(g, &block, "conv", h, config.out_channels)?);
        }
        h = decoder_block(g, index, h, None, backbone, None)?;
    }
    vertical.reverse();
    let y = head(g, "outc", "conv", h, config.out_channels)?;
    Ok(Decoded { y, vertical })
}
