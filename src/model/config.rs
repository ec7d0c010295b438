//! The architecture of the networks, as data.
//!
//! Field names follow the field's terms; `docs` name the reference's hyper-parameter.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A configuration that describes no network: which field, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {problem}")]
pub struct ConfigError {
    /// The field, with its part: `unet.strides`.
    pub field: String,
    /// What was expected and what was found.
    pub problem: String,
}

impl ConfigError {
    /// `problem` with `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }
}

/// Attention after the convolution block of one level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttentionKind {
    /// No attention.
    #[default]
    None,
    /// One multi-head softmax attention layer (the reference calls it `linear`).
    Linear,
    /// A transformer block: self-attention, cross-attention to the embedding, GEGLU.
    Spatial,
}

/// Which of the reference's two UNet classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnetVariant {
    /// The exported class: skip from every block, concatenation.
    #[default]
    Unet,
    /// The older class: one skip per level, added or concatenated.
    Legacy,
}

/// Convolution widths, strides and block kind shared by UNet and VAE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backbone {
    /// `hid_chs`: channels per level, highest resolution first.
    pub hidden_channels: Vec<usize>,
    /// `kernel_sizes`: one per level.
    pub kernel_sizes: Vec<usize>,
    /// `strides`: one per level.
    pub strides: Vec<usize>,
    /// `norm_name = ('GROUP', {num_groups})`.
    pub norm_groups: usize,
    /// `use_res_block`: residual blocks (`UnetResBlock`) or plain ones (`UnetBasicBlock`).
    pub residual_blocks: bool,
    /// `learnable_interpolation`: convolutions resample, or pooling and pixel repetition.
    pub learnable_resampling: bool,
    /// `use_attention`: one per level.
    pub attention: Vec<AttentionKind>,
    /// `deep_supervision`: number of vertical output heads.
    pub deep_supervision: usize,
}

impl Backbone {
    /// Number of levels, `D`.
    pub fn depth(&self) -> usize {
        self.hidden_channels.len()
    }

    /// Checks that the lists agree, the groups divide the channels and nothing is zero.
    ///
    /// # Errors
    /// The first field that is wrong, named as `{part}.{field}`.
    pub fn validate(&self, part: &str) -> Result<(), ConfigError> {
        let depth = self.depth();
        let fail = |field: &str, problem: String| {
            Err(ConfigError::new(format!("{part}.{field}"), problem))
        };
        if !(2..=MAX_LEVELS).contains(&depth) {
            return fail(
                "hidden_channels",
                format!("expected 2 to {MAX_LEVELS} levels, found {depth}"),
            );
        }
        let lists = [
            ("hidden_channels", &self.hidden_channels, MAX_CHANNELS),
            ("kernel_sizes", &self.kernel_sizes, 31),
            ("strides", &self.strides, 16),
        ];
        for (field, values, largest) in lists {
            if values.len() != depth {
                return fail(
                    field,
                    format!(
                        "expected {depth} values, one per level, found {}",
                        values.len()
                    ),
                );
            }
            if let Some(value) = values.iter().find(|&&v| v == 0 || v > largest) {
                return fail(
                    field,
                    format!("expected values of 1 to {largest}, found {value}"),
                );
            }
        }
        let scale = self.strides.iter().try_fold(1usize, |product, stride| {
            product
                .checked_mul(*stride)
                .filter(|product| *product <= MAX_SCALE)
        });
        if scale.is_none() {
            return fail(
                "strides",
                format!(
                    "expected strides whose product is at most {MAX_SCALE}, found {:?}",
                    self.strides
                ),
            );
        }
        if self.attention.len() != depth {
            return fail(
                "attention",
                format!(
                    "expected {depth} values, one per level, found {}",
                    self.attention.len()
                ),
            );
        }
        let odd_one = |&&channels: &&usize| {
            self.norm_groups == 0 || !channels.is_multiple_of(self.norm_groups)
        };
        if let Some(channels) = self.hidden_channels.iter().find(odd_one) {
            return fail(
                "norm_groups",
                format!(
                    "{} groups do not divide {channels} channels",
                    self.norm_groups
                ),
            );
        }
        if self.deep_supervision >= depth {
            return fail(
                "deep_supervision",
                format!(
                    "{depth} levels have at most {} vertical outputs, found {}",
                    depth - 1,
                    self.deep_supervision
                ),
            );
        }
        Ok(())
    }
}

/// Every level halves the image; nobody needs more.
const MAX_LEVELS: usize = 16;

/// Pixels of an image's side per pixel of the deepest map; no image is larger.
const MAX_SCALE: usize = 1 << 14;

/// Widths beyond this are a damaged file, not a network.
const MAX_CHANNELS: usize = 1 << 16;

fn check_width(field: &str, value: usize) -> Result<(), ConfigError> {
    if value == 0 || value > MAX_CHANNELS {
        return Err(ConfigError::new(
            field,
            format!("expected 1 to {MAX_CHANNELS}, found {value}"),
        ));
    }
    Ok(())
}

/// The noise estimator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnetConfig {
    /// Which of the reference's two UNets.
    #[serde(default)]
    pub variant: UnetVariant,
    /// `in_ch`: channels of `x_t` before self-conditioning doubles them.
    pub in_channels: usize,
    /// `out_ch`: channels of the prediction; learned variance doubles what the network emits.
    pub out_channels: usize,
    /// Levels: channels, strides, kernels, blocks, attention.
    #[serde(flatten)]
    pub backbone: Backbone,
    /// `num_res_blocks` per level (exported variant only).
    pub num_res_blocks: usize,
    /// Time embedding; `None` for a network that ignores `t`.
    pub time_embedding: Option<TimeEmbedding>,
    /// `num_classes` of the label embedder; `None` for an unconditional network.
    pub num_classes: Option<usize>,
    /// `estimate_variance`.
    pub learned_variance: bool,
    /// `use_self_conditioning`.
    pub self_conditioning: bool,
}

impl UnetConfig {
    /// The sides of a map have to be multiples of this: the product of the strides that are used.
    /// The exported class never uses the last one.
    pub fn downsampling(&self) -> usize {
        let strides = &self.backbone.strides;
        let used = match self.variant {
            UnetVariant::Unet => strides.len().saturating_sub(1),
            UnetVariant::Legacy => strides.len(),
        };
        strides[..used].iter().product()
    }

    /// Checks that the configuration describes a network.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.backbone.validate("unet")?;
        check_width("unet.in_channels", self.in_channels)?;
        check_width("unet.out_channels", self.out_channels)?;
        if self.variant == UnetVariant::Unet {
            if !(1..=64).contains(&self.num_res_blocks) {
                return Err(ConfigError::new(
                    "unet.num_res_blocks",
                    format!("expected 1 to 64, found {}", self.num_res_blocks),
                ));
            }
            if self.backbone.deep_supervision > self.backbone.depth() - 2 {
                return Err(ConfigError::new(
                    "unet.deep_supervision",
                    format!(
                        "{} levels have at most {} vertical outputs, found {}",
                        self.backbone.depth(),
                        self.backbone.depth() - 2,
                        self.backbone.deep_supervision
                    ),
                ));
            }
        }
        match self.time_embedding {
            Some(time) => {
                check_width("unet.time_embedding.dim", time.dim)?;
                check_width("unet.time_embedding.sinusoid_dim", time.sinusoid_dim)?;
                if time.sinusoid_dim < 4 {
                    return Err(ConfigError::new(
                        "unet.time_embedding.sinusoid_dim",
                        format!("expected at least 4, found {}", time.sinusoid_dim),
                    ));
                }
            }
            None if self.num_classes.is_some() => {
                return Err(ConfigError::new(
                    "unet.num_classes",
                    "labels are added to the time embedding, and there is none",
                ));
            }
            None => {
                if self
                    .backbone
                    .attention
                    .iter()
                    .any(|&a| a != AttentionKind::None)
                {
                    return Err(ConfigError::new(
                        "unet.attention",
                        "attention reads the time embedding, and there is none",
                    ));
                }
            }
        }
        if let Some(classes) = self.num_classes {
            check_width("unet.num_classes", classes)?;
        }
        Ok(())
    }
}

/// Widths of the time embedding: sinusoid of `sinusoid_dim`, then two linear layers of `dim`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeEmbedding {
    /// `emb_dim`.
    pub dim: usize,
    /// `sinusoidal_dim`; the reference's default is `emb_dim / 4`.
    pub sinusoid_dim: usize,
}

/// The image autoencoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaeConfig {
    /// `in_channels` of the image.
    pub in_channels: usize,
    /// `out_channels` of the reconstruction.
    pub out_channels: usize,
    /// `emb_channels` of the latent.
    pub latent_channels: usize,
    /// Levels: channels, strides, kernels, blocks, attention.
    #[serde(flatten)]
    pub backbone: Backbone,
}

impl VaeConfig {
    /// Checks that the configuration describes a network.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.backbone.validate("vae")?;
        check_width("vae.in_channels", self.in_channels)?;
        check_width("vae.out_channels", self.out_channels)?;
        check_width("vae.latent_channels", self.latent_channels)
    }

    /// Image pixels per latent pixel along one side: the product of the strides after the first.
    pub fn downsampling(&self) -> usize {
        self.backbone.strides.iter().skip(1).product()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a hostile `model.json` or checkpoint can ask for: no product of its numbers leaves 64 bits.
    #[test]
    fn strides_that_overflow_a_shape_are_refused() {
        let backbone = |strides: Vec<usize>| {
            let depth = strides.len();
            Backbone {
                hidden_channels: vec![MAX_CHANNELS; depth],
                kernel_sizes: vec![31; depth],
                strides,
                norm_groups: 1,
                residual_blocks: true,
                learnable_resampling: true,
                attention: vec![AttentionKind::None; depth],
                deep_supervision: 0,
            }
        };
        let error = backbone(vec![16; MAX_LEVELS]).validate("unet").unwrap_err();
        assert_eq!(error.field, "unet.strides");
        assert_eq!(backbone(vec![2; 14]).validate("unet"), Ok(()));
        assert!(backbone(vec![2; 15]).validate("unet").is_err());
        // The largest maps that a network of such a size has are counted without overflow.
        let (side, channels) = (MAX_SCALE, 2 * MAX_CHANNELS);
        let bytes = [4, channels, side, side]
            .iter()
            .try_fold(1usize, |product, &n| product.checked_mul(n));
        assert!(bytes.is_some());
    }
}
