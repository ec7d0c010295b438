//! Architecture of a model: what a checkpoint holds beside its tensors, and what `model.json` stores.
//!
//! Field names follow the field's terms; `docs` name the reference's hyper-parameter.

use serde::{Deserialize, Serialize};
use std::str::FromStr;
use thiserror::Error;

/// The format version that [`ModelConfig::format`] states.
pub const MODEL_FORMAT: u32 = 1;

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
    fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }
}

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
                    .any(|&a| a != Attention::None)
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

impl NoiseConfig {
    /// The betas in f64, one per time step.
    ///
    /// linear: `linspace(b0, b1)`; scaled linear: `linspace(√b0, √b1)²`; cosine (Nichol and Dhariwal 2021,
    /// eq. 17): `1 - ᾱ(i+1)/ᾱ(i)` clipped to [0, 0.999] with `ᾱ(x) = cos²(((x/T) + s)/(1 + s) · π/2)`, s = 0.008.
    pub fn betas(&self) -> Vec<f64> {
        match &self.betas {
            BetaSchedule::Linear {
                beta_start,
                beta_end,
            } => linspace(*beta_start, *beta_end, self.timesteps),
            BetaSchedule::ScaledLinear {
                beta_start,
                beta_end,
            } => linspace(beta_start.sqrt(), beta_end.sqrt(), self.timesteps)
                .into_iter()
                .map(|root| root * root)
                .collect(),
            BetaSchedule::Cosine => {
                const S: f64 = 0.008;
                let survival = |x: usize| {
                    let angle = (x as f64 / self.timesteps as f64 + S) / (1.0 + S);
                    (angle * std::f64::consts::FRAC_PI_2).cos().powi(2)
                };
                (0..self.timesteps)
                    .map(|i| (1.0 - survival(i + 1) / survival(i)).clamp(0.0, 0.999))
                    .collect()
            }
            BetaSchedule::Given { betas } => betas.iter().map(|&b| f64::from(b)).collect(),
        }
    }

    /// Checks that there is one beta in [0, 1) per time step.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !(1..=1_000_000).contains(&self.timesteps) {
            return Err(ConfigError::new(
                "noise.timesteps",
                format!("expected 1 to 1000000, found {}", self.timesteps),
            ));
        }
        let betas = self.betas();
        if betas.len() != self.timesteps {
            return Err(ConfigError::new(
                "noise.betas",
                format!(
                    "expected {} values, one per time step, found {}",
                    self.timesteps,
                    betas.len()
                ),
            ));
        }
        if let Some(step) = betas.iter().position(|b| !(0.0..1.0).contains(b)) {
            return Err(ConfigError::new(
                "noise.betas",
                format!(
                    "beta of step {step} is {}, expected 0 <= beta < 1",
                    betas[step]
                ),
            ));
        }
        Ok(())
    }
}

impl FromStr for NoiseConfig {
    type Err = ConfigError;

    /// Reads `scaled_linear:0.002:0.02:1000`, `linear:0.0001:0.02:1000` or `cosine:1000`: first and last beta, steps.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let invalid = || {
            ConfigError::new(
                "schedule",
                format!(
                    "expected scaled_linear:FIRST:LAST:STEPS, linear:FIRST:LAST:STEPS or cosine:STEPS, found {text:?}"
                ),
            )
        };
        let beta = |text: &str| text.parse::<f64>().map_err(|_| invalid());
        let steps = |text: &str| text.parse::<usize>().map_err(|_| invalid());
        let fields: Vec<&str> = text.split(':').collect();
        let noise = match fields[..] {
            ["linear", first, last, count] => NoiseConfig {
                timesteps: steps(count)?,
                betas: BetaSchedule::Linear {
                    beta_start: beta(first)?,
                    beta_end: beta(last)?,
                },
            },
            ["scaled_linear", first, last, count] => NoiseConfig {
                timesteps: steps(count)?,
                betas: BetaSchedule::ScaledLinear {
                    beta_start: beta(first)?,
                    beta_end: beta(last)?,
                },
            },
            ["cosine", count] => NoiseConfig {
                timesteps: steps(count)?,
                betas: BetaSchedule::Cosine,
            },
            _ => return Err(invalid()),
        };
        noise.validate()?;
        Ok(noise)
    }
}

/// `count` values from `start` to `end`, computed from both ends as the reference's tensor library does.
fn linspace(start: f64, end: f64, count: usize) -> Vec<f64> {
    if count < 2 {
        return vec![start; count];
    }
    let step = (end - start) / (count - 1) as f64;
    (0..count)
        .map(|i| {
            if i < count / 2 {
                start + step * i as f64
            } else {
                end - step * (count - 1 - i) as f64
            }
        })
        .collect()
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

impl FromStr for Objective {
    type Err = ConfigError;

    /// Reads `x_T` or `x_0`.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "x_T" => Ok(Objective::Noise),
            "x_0" => Ok(Objective::Sample),
            _ => Err(ConfigError::new(
                "objective",
                format!("expected x_T or x_0, found {text:?}"),
            )),
        }
    }
}

/// Everything that describes a trained pipeline, in `model.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Format version of the model folder, [`MODEL_FORMAT`].
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
            attention: vec![Attention::None; 4],
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
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.format != MODEL_FORMAT {
            return Err(ConfigError::new(
                "format",
                format!(
                    "this version reads model format {MODEL_FORMAT}, found {}",
                    self.format
                ),
            ));
        }
        if self.unet.is_none() && self.vae.is_none() {
            return Err(ConfigError::new(
                "unet, vae",
                "a model has at least one of them",
            ));
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
            ));
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
            ));
        }
        if let Some([height, width]) = self.image_size
            && (height == 0 || width == 0)
        {
            return Err(ConfigError::new(
                "image_size",
                format!("expected positive numbers, found {height} x {width}"),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_and_objectives_are_read_from_flags() {
        let noise: NoiseConfig = "scaled_linear:0.002:0.02:1000".parse().unwrap();
        let betas = noise.betas();
        assert_eq!(betas.len(), 1000);
        assert!((betas[0] - 0.002).abs() < 1e-15 && (betas[999] - 0.02).abs() < 1e-15);
        assert_eq!(
            "cosine:50".parse::<NoiseConfig>().unwrap().betas().len(),
            50
        );
        for wrong in [
            "",
            "cosine",
            "cosine:x",
            "cosine:0",
            "linear:0.1:0.2",
            "linear:0.1:2:10",
            "linear:nan:0.2:10",
            "scaled_linear:-1:0.2:10",
            "linear:0:0.1:99999999999",
            "sigmoid:0:1:10",
        ] {
            assert!(wrong.parse::<NoiseConfig>().is_err(), "{wrong}");
        }
        assert_eq!("x_0".parse(), Ok(Objective::Sample));
        assert!("v".parse::<Objective>().is_err());
    }

    #[test]
    fn a_configuration_is_the_same_after_json() {
        let noise = NoiseConfig {
            timesteps: 3,
            betas: BetaSchedule::Given {
                betas: vec![0.1, 0.002, 1e-7],
            },
        };
        let text = serde_json::to_string(&noise).unwrap();
        assert_eq!(serde_json::from_str::<NoiseConfig>(&text).unwrap(), noise);
    }
}
