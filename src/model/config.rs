//! Architecture of a model: what a checkpoint holds beside its tensors, and what `model.json` stores.
//!
//! Field names follow the field's terms; `docs` name the reference's hyper-parameter.

use serde::{Deserialize, Serialize};

/// Attention after the convolution block of one level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attention {
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
    pub attention: Vec<Attention>,
    /// `deep_supervision`: number of vertical output heads.
    pub deep_supervision: usize,
}

/// The noise estimator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnetConfig {
    #[serde(default)]
    pub variant: UnetVariant,
    /// `in_ch`: channels of `x_t` before self-conditioning doubles them.
    pub in_channels: usize,
    /// `out_ch`: channels of the prediction; learned variance doubles what the network emits.
    pub out_channels: usize,
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
    #[serde(flatten)]
    pub backbone: Backbone,
}

impl VaeConfig {
    /// Image pixels per latent pixel along one side: the product of the strides after the first.
    pub fn downsampling(&self) -> usize {
        self.backbone.strides.iter().skip(1).product()
    }
}

/// How betas follow from `beta_start`, `beta_end` and `timesteps` (`schedule_strategy`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "strategy", rename_all = "snake_case")]
pub enum BetaSchedule {
    Linear {
        beta_start: f64,
        beta_end: f64,
    },
    ScaledLinear {
        beta_start: f64,
        beta_end: f64,
    },
    Cosine,
    /// Betas taken as given, one per time step.
    Given {
        betas: Vec<f32>,
    },
}

/// The forward process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoiseConfig {
    /// Number of time steps `T`.
    pub timesteps: usize,
    #[serde(flatten)]
    pub betas: BetaSchedule,
}

/// What the network predicts (`estimator_objective`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Objective {
    /// The noise `x_T`.
    #[default]
    #[serde(rename = "x_T")]
    Noise,
    /// The clean sample `x_0`.
    #[serde(rename = "x_0")]
    Sample,
}

/// Everything that describes a trained pipeline, in `model.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Format version of the model folder, currently 1.
    pub format: u32,
    /// The noise estimator; a model folder may hold a VAE alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unet: Option<UnetConfig>,
    /// The image autoencoder; without one the UNet works on pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vae: Option<VaeConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<NoiseConfig>,
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
