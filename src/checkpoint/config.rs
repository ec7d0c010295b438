//! What `model.json` stores: the networks' architecture and everything around it.
//!
//! Field names follow the field's terms; docs name the reference's hyper-parameter.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::diffusion::{BetaSchedule, DiffusionError, NoiseConfig, Objective};
use crate::model::config::{
    AttentionKind, Backbone, ConfigError, TimeEmbedding, UnetConfig, UnetVariant, VaeConfig,
};

/// The format version that [`ModelConfig::format`] states.
pub const MODEL_FORMAT: u32 = 1;

/// Name of the configuration file in a model folder.
pub const MODEL_JSON: &str = "model.json";

/// A configuration that describes no model.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ModelConfigError {
    /// A network, or how the parts fit each other.
    #[error(transparent)]
    Network(#[from] ConfigError),
    /// The noise schedule.
    #[error(transparent)]
    Noise(#[from] DiffusionError),
}

/// Everything that describes a trained pipeline, in `model.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// ModelFormat version of the model folder, [`MODEL_FORMAT`].
    pub format: u32,
    /// The noise estimator; a model folder may hold a VAE alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unet: Option<UnetConfig>,
    /// The image autoencoder; without one the UNet works on pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vae: Option<VaeConfig>,
    /// The noise schedule; a model folder with a VAE alone has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<NoiseConfig>,
    /// What the noise estimator predicts.
    #[serde(default)]
    pub objective: Objective,
    /// Clamp estimates of `x_0` to [-1, 1] while sampling (`clip_x0`).
    #[serde(default)]
    pub clip_x0: bool,
    /// `do_input_centering`: the diffusion works on `2x - 1`.
    #[serde(default)]
    pub input_centering: bool,
    /// Image height and width the model was trained on, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<[usize; 2]>,
    /// Names of the classes by index, where known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_names: Vec<String>,
}

impl ModelConfig {
    /// The published configuration for 256×256 RGB images: a VAE to 32×32×8 latents and the UNet of
    /// 194 M parameters (at 2 classes), scaled_linear noise from 0.002 to 0.02 in 1000 steps.
    pub fn published(num_classes: usize) -> Self {
        let backbone = |hidden: [usize; 4], norm_groups, deep_supervision| Backbone {
            hidden_channels: hidden.to_vec(),
            kernel_sizes: vec![3; 4],
            strides: vec![1, 2, 2, 2],
            norm_groups,
            residual_blocks: true,
            learnable_resampling: true,
            attention: vec![AttentionKind::None; 4],
            deep_supervision,
        };
        Self {
            format: MODEL_FORMAT,
            unet: Some(UnetConfig {
                variant: UnetVariant::Unet,
                in_channels: 8,
                out_channels: 8,
                backbone: backbone([256, 256, 512, 1024], 32, 0),
                num_res_blocks: 2,
                time_embedding: Some(TimeEmbedding {
                    dim: 1024,
                    sinusoid_dim: 256,
                }),
                num_classes: Some(num_classes),
                learned_variance: false,
                self_conditioning: false,
            }),
            vae: Some(VaeConfig {
                in_channels: 3,
                out_channels: 3,
                latent_channels: 8,
                backbone: backbone([64, 128, 256, 512], 8, 1),
            }),
            noise: Some(NoiseConfig {
                timesteps: 1000,
                betas: BetaSchedule::ScaledLinear {
                    beta_start: 0.002,
                    beta_end: 0.02,
                },
            }),
            objective: Objective::Noise,
            clip_x0: false,
            input_centering: false,
            image_size: Some([256, 256]),
            class_names: Vec::new(),
        }
    }

    /// Checks every part, and that the parts fit each other.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn validate(&self) -> Result<(), ModelConfigError> {
        if self.format != MODEL_FORMAT {
            return Err(ConfigError::new(
                "format",
                format!(
                    "this version reads model format {MODEL_FORMAT}, found {}",
                    self.format
                ),
            )
            .into());
        }
        if self.unet.is_none() && self.vae.is_none() {
            return Err(ConfigError::new("unet, vae", "a model has at least one of them").into());
        }
        if let Some(unet) = &self.unet {
            unet.validate()?;
        }
        if let Some(vae) = &self.vae {
            vae.validate()?;
        }
        if let (Some(unet), Some(vae)) = (&self.unet, &self.vae)
            && unet.in_channels != vae.latent_channels
        {
            return Err(ConfigError::new(
                "unet.in_channels",
                format!(
                    "the autoencoder has {} latent channels, the noise estimator takes {}",
                    vae.latent_channels, unet.in_channels
                ),
            )
            .into());
        }
        if let Some(noise) = &self.noise {
            noise.validate()?;
        }
        let classes = self.unet.as_ref().and_then(|unet| unet.num_classes);
        if let Some(classes) = classes
            && !self.class_names.is_empty()
            && self.class_names.len() != classes
        {
            return Err(ConfigError::new(
                "class_names",
                format!(
                    "the network has {classes} classes, found {} names",
                    self.class_names.len()
                ),
            )
            .into());
        }
        if let Some([height, width]) = self.image_size
            && (height == 0 || width == 0)
        {
            return Err(ConfigError::new(
                "image_size",
                format!("expected positive numbers, found {height} x {width}"),
            )
            .into());
        }
        Ok(())
    }
}
