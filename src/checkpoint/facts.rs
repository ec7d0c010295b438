//! What is known of a checkpoint: its tensors by part, what the caller says of it, and what is still missing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::diffusion::{NoiseConfig, Objective};
use crate::tensor::TensorMap;

/// Which of two sets of noise estimator weights to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// The averaged ones where training used them (`use_ema`), else the raw ones.
    #[default]
    Auto,
    /// `ema_model.averaged_model.*`
    Ema,
    /// `noise_estimator.*`
    Raw,
}

impl FromStr for Weights {
    type Err = String;

    /// Reads `auto`, `ema` or `raw`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Weights::Auto),
            "ema" => Ok(Weights::Ema),
            "raw" => Ok(Weights::Raw),
            _ => Err(format!("expected auto, ema or raw, found {text:?}")),
        }
    }
}

/// What the caller knows about a checkpoint; each fact wins over what the file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// GroupNorm groups of the UNet.
    pub norm_groups: Option<usize>,
    /// Strides of the UNet, one per level.
    pub strides: Option<Vec<usize>>,
    /// GroupNorm groups of the autoencoder.
    pub vae_norm_groups: Option<usize>,
    /// Strides of the autoencoder, one per level.
    pub vae_strides: Option<Vec<usize>>,
    /// A checkpoint of the autoencoder; gives its configuration, and its tensors if there are none.
    pub vae: Option<PathBuf>,
    /// The UNet's output is twice as wide and its second half a variance.
    pub learned_variance: Option<bool>,
    /// The UNet's input is twice as wide.
    pub self_conditioning: Option<bool>,
    /// What the UNet predicts.
    pub objective: Option<Objective>,
    /// Clamp estimates of the clean sample.
    pub clip_x0: Option<bool>,
    /// The diffusion works on `2x - 1`.
    pub input_centering: Option<bool>,
    /// The noise schedule.
    pub noise: Option<NoiseConfig>,
    /// Height and width of the training images.
    pub image_size: Option<[usize; 2]>,
    /// Names of the classes by index.
    pub class_names: Option<Vec<String>>,
    /// Which weights of a training checkpoint to take.
    pub weights: Weights,
    /// Take the published settings for what is not said: 32 groups in the UNet, 8 in the autoencoder,
    /// strides 1, 2, 2, …, objective x_T, schedule scaled_linear 0.002 to 0.02 in 1000 steps.
    pub published: bool,
}

/// The tensors of a checkpoint by part, prefixes removed.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// The noise estimator; empty if there is none.
    pub unet: TensorMap,
    /// The autoencoder without its perceptual network; empty if there is none.
    pub vae: TensorMap,
    /// Buffers of the noise scheduler.
    pub noise: TensorMap,
    /// True if `unet` holds the averaged weights.
    pub ema: bool,
    /// Tensors of none of these, by their names in the state dict: those of metrics, of perceptual networks, ….
    pub other: TensorMap,
    /// What is before the names of `unet` in the state dict, with a dot at its end, or nothing.
    pub unet_prefix: &'static str,
    /// What is before the names of `vae`.
    pub vae_prefix: &'static str,
    /// Why tensors that no network needs cannot be read, by their names in the state dict.
    pub unreadable: BTreeMap<String, String>,
}

/// One of the two networks of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// The noise estimator.
    Unet,
    /// The image autoencoder.
    Autoencoder,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Network::Unet => "UNet",
            Network::Autoencoder => "autoencoder",
        })
    }
}

/// A fact about a model that neither tensors nor hyper-parameters tell, and that the caller can give with [`Facts`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fact {
    /// Groups of a network's norms; `usual` is the reference's default.
    NormGroups {
        /// Whose norms.
        network: Network,
        /// The reference's default.
        usual: usize,
    },
    /// Strides of a network; `usual` are those of the reference for as many levels.
    Strides {
        /// Whose strides.
        network: Network,
        /// The reference's, one per level.
        usual: Vec<usize>,
    },
    /// The autoencoder on whose latents the UNet works.
    Autoencoder,
    /// What the UNet predicts.
    Objective,
    /// The noise schedule.
    Schedule,
    /// Whether the UNet's input is twice the sample.
    SelfConditioning {
        /// Channels that its first convolution takes.
        input_channels: usize,
    },
    /// Whether half of the UNet's output is a variance.
    LearnedVariance {
        /// Channels that its last convolution gives.
        output_channels: usize,
    },
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::NormGroups { network, usual } => write!(
                f,
                "groups of its norms in the {network} (the reference's default is {usual})"
            ),
            Fact::Strides { network, usual } => write!(
                f,
                "strides of the {network}, one for each of its {} levels",
                usual.len()
            ),
            Fact::Autoencoder => f.write_str(
                "the autoencoder: the UNet works on its latents, and it is not in the file",
            ),
            Fact::Objective => f.write_str("what the UNet predicts, x_T or x_0"),
            Fact::Schedule => f.write_str(
                "the noise schedule: linear or scaled_linear with first and last beta, or cosine, and its steps",
            ),
            Fact::SelfConditioning { input_channels } => write!(
                f,
                "whether the UNet's {input_channels} input channels are twice the sample's"
            ),
            Fact::LearnedVariance { output_channels } => write!(
                f,
                "whether half of the UNet's {output_channels} output channels are a variance"
            ),
        }
    }
}
