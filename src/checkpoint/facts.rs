//! What is known of a checkpoint: its tensors by part, what the caller says of it, and what is still missing.

use std::path::PathBuf;
use std::str::FromStr;

use super::error::MissingFact;
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

/// Facts the caller knows about a checkpoint; each wins over what the file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// `--norm-groups N`: GroupNorm groups of the UNet.
    pub norm_groups: Option<usize>,
    /// `--strides 1,2,2,2`: strides of the UNet, one per level.
    pub strides: Option<Vec<usize>>,
    /// `--vae-norm-groups N`: GroupNorm groups of the autoencoder.
    pub vae_norm_groups: Option<usize>,
    /// `--vae-strides 1,2,2,2`: strides of the autoencoder, one per level.
    pub vae_strides: Option<Vec<usize>>,
    /// `--vae FILE`: a checkpoint of the autoencoder; gives its configuration, and its tensors if there are none.
    pub vae: Option<PathBuf>,
    /// `--learned-variance true|false`: the UNet's output is twice as wide and its second half a variance.
    pub learned_variance: Option<bool>,
    /// `--self-conditioning true|false`: the UNet's input is twice as wide.
    pub self_conditioning: Option<bool>,
    /// `--objective x_T|x_0`: what the UNet predicts.
    pub objective: Option<Objective>,
    /// `--clip-x0 true|false`: clamp estimates of the clean sample.
    pub clip_x0: Option<bool>,
    /// `--input-centering true|false`: the diffusion works on `2x - 1`.
    pub input_centering: Option<bool>,
    /// `--schedule scaled_linear:0.002:0.02:1000`: the noise schedule.
    pub noise: Option<NoiseConfig>,
    /// `--image-size 64x64`: height and width of the training images.
    pub image_size: Option<[usize; 2]>,
    /// `--class-names a,b,c`: names of the classes by index.
    pub class_names: Option<Vec<String>>,
    /// `--weights auto|ema|raw`.
    pub weights: Weights,
    /// `--published`: take the published settings for what is not said: 32 groups in the UNet, 8 in the autoencoder,
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
    /// Tensors under no known prefix.
    pub other: TensorMap,
}

pub(super) fn fact(flag: &str, meaning: impl Into<String>) -> MissingFact {
    MissingFact {
        flag: flag.to_owned(),
        meaning: meaning.into(),
    }
}
