//! Flags that several subcommands share.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::error::CliError;
use super::progress::CompileBar;
use crate::checkpoint::{Facts, Model, Weights};
use crate::compile::PrecisionChoice;
use crate::device::{Device, DeviceChoice};
use crate::diffusion::{BetaSchedule, NoiseConfig, Objective};
use crate::tensor::DType;

/// Where to run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Device")]
pub(super) struct DeviceOptions {
    /// auto, cpu, cuda, cuda:N or emulated (an RTX 3090 in software, for tests)
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Activations and products in f32, f16, bf16 or f16-fast; auto is f16 on a GPU and f32 on the CPU
    #[arg(long, default_value = "auto")]
    precision: PrecisionChoice,
    /// Image k is the same in any batch to the last bit, on one device; a little slower on a GPU
    #[arg(long)]
    deterministic: bool,
    /// CPU threads [default: one per core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl DeviceOptions {
    pub fn open(&self) -> Result<Device, CliError> {
        let bar = CompileBar::default();
        let device = Device::builder()
            .choice(self.device)
            .precision(self.precision)
            .deterministic(self.deterministic)
            .threads(self.threads.map(usize::from))
            .observe(move |progress| bar.show(progress))
            .open()?;
        tracing::info!("device: {device}");
        Ok(device)
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WeightsChoice {
    Auto,
    Ema,
    Raw,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ObjectiveChoice {
    #[value(name = "x_T")]
    Noise,
    #[value(name = "x_0")]
    Sample,
}

/// What a checkpoint does not say about its architecture.
#[derive(Debug, Args)]
#[command(next_help_heading = "What a checkpoint may not say")]
pub(super) struct ModelOptions {
    /// GroupNorm groups of the UNet
    #[arg(long, value_name = "N")]
    norm_groups: Option<usize>,
    /// Strides of the UNet, one per level, such as 1,2,2,2
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    strides: Option<Vec<usize>>,
    /// GroupNorm groups of the autoencoder
    #[arg(long, value_name = "N")]
    vae_norm_groups: Option<usize>,
    /// Strides of the autoencoder, one per level
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    vae_strides: Option<Vec<usize>>,
    /// A checkpoint of the autoencoder, for its configuration and, if there are none yet, its tensors
    #[arg(long, value_name = "FILE")]
    vae: Option<PathBuf>,
    /// The second half of the UNet's output is a variance
    #[arg(long, value_name = "BOOL")]
    learned_variance: Option<bool>,
    /// The UNet takes its input twice
    #[arg(long, value_name = "BOOL")]
    self_conditioning: Option<bool>,
    /// What the UNet predicts: the noise x_T or the sample x_0
    #[arg(long)]
    objective: Option<ObjectiveChoice>,
    /// Clamp estimates of the clean sample to [-1, 1]
    #[arg(long, value_name = "BOOL")]
    clip_x0: Option<bool>,
    /// The diffusion was trained on 2x - 1
    #[arg(long, value_name = "BOOL")]
    input_centering: Option<bool>,
    /// Noise schedule as STRATEGY:BETA_START:BETA_END:STEPS with linear or scaled_linear, or cosine:STEPS
    #[arg(long, value_name = "SCHEDULE", value_parser = parse_schedule)]
    schedule: Option<NoiseConfig>,
    /// Which of a training checkpoint's weights: auto takes averaged ones where training used them
    #[arg(long, default_value = "auto")]
    weights: WeightsChoice,
    /// Take the published settings for everything that is not said
    #[arg(long)]
    published: bool,
}

fn parse_schedule(text: &str) -> Result<NoiseConfig, String> {
    let usage = "expected linear:0.002:0.02:1000, scaled_linear:0.002:0.02:1000 or cosine:1000";
    let parts: Vec<&str> = text.split(':').collect();
    let number = |text: &str| {
        text.parse::<f64>()
            .map_err(|_| format!("'{text}' is no number; {usage}"))
    };
    let steps = |text: &str| {
        text.parse::<usize>()
            .map_err(|_| format!("'{text}' is no number of steps; {usage}"))
    };
    match parts[..] {
        ["cosine", t] => Ok(NoiseConfig {
            timesteps: steps(t)?,
            betas: BetaSchedule::Cosine,
        }),
        [strategy @ ("linear" | "scaled_linear"), start, end, t] => {
            let (beta_start, beta_end) = (number(start)?, number(end)?);
            Ok(NoiseConfig {
                timesteps: steps(t)?,
                betas: match strategy {
                    "linear" => BetaSchedule::Linear {
                        beta_start,
                        beta_end,
                    },
                    _ => BetaSchedule::ScaledLinear {
                        beta_start,
                        beta_end,
                    },
                },
            })
        }
        _ => Err(usage.to_owned()),
    }
}

impl ModelOptions {
    pub fn facts(&self) -> Facts {
        Facts {
            norm_groups: self.norm_groups,
            strides: self.strides.clone(),
            vae_norm_groups: self.vae_norm_groups,
            vae_strides: self.vae_strides.clone(),
            vae: self.vae.clone(),
            learned_variance: self.learned_variance,
            self_conditioning: self.self_conditioning,
            objective: self.objective.map(|objective| match objective {
                ObjectiveChoice::Noise => Objective::Noise,
                ObjectiveChoice::Sample => Objective::Sample,
            }),
            clip_x0: self.clip_x0,
            input_centering: self.input_centering,
            noise: self.schedule.clone(),
            image_size: None,
            class_names: None,
            weights: match self.weights {
                WeightsChoice::Auto => Weights::Auto,
                WeightsChoice::Ema => Weights::Ema,
                WeightsChoice::Raw => Weights::Raw,
            },
            published: self.published,
        }
    }

    pub fn open(&self, path: &Path) -> Result<Model, CliError> {
        if !path.exists() {
            return Err(CliError::new(format!(
                "--model {}: no such file or folder; give a model folder or a checkpoint \
                 (the models that ship are weights/cells64 and weights/xray32 in the project's checkout)",
                path.display()
            )));
        }
        if path != Path::new(SHIPPED[0]) && path == shipped_model() {
            tracing::info!(
                "model: {}, because {} is not here",
                path.display(),
                SHIPPED[0]
            );
        }
        Ok(Model::open_with(path, &self.facts())?)
    }
}

/// The models that ship with the project, in the order of preference. The package on crates.io has only the second.
const SHIPPED: [&str; 2] = ["weights/cells64", "weights/xray32"];

/// The model where none is named: the first that is in the working directory, or where this program was built.
pub(super) fn shipped_model() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR"));
    let here = SHIPPED.map(PathBuf::from);
    let there = SHIPPED.map(|model| built.join(model));
    here.into_iter()
        .chain(there)
        .find(|model| model.is_dir())
        .unwrap_or_else(|| SHIPPED[0].into())
}

/// `256` or `256x320` (height × width).
pub(super) fn parse_size(text: &str) -> Result<[usize; 2], String> {
    let side = |text: &str| match text.parse::<usize>() {
        Ok(side) if (1..=1 << 14).contains(&side) => Ok(side),
        _ => Err(format!(
            "'{text}' is no image size; expected pixels such as 256, or 256x320 for height x width"
        )),
    };
    match text.split_once('x') {
        Some((height, width)) => Ok([side(height)?, side(width)?]),
        None => Ok([side(text)?; 2]),
    }
}

/// An element type that models are stored in.
pub(super) fn parse_dtype(text: &str) -> Result<DType, String> {
    match text {
        "f32" => Ok(DType::F32),
        "f16" => Ok(DType::F16),
        "bf16" => Ok(DType::BF16),
        other => Err(format!(
            "'{other}' is no type for weights; expected f32, f16 or bf16"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_parsed_or_explained() {
        let noise = parse_schedule("scaled_linear:0.002:0.02:1000").unwrap();
        assert_eq!(noise.timesteps, 1000);
        assert!(parse_schedule("cosine:500").is_ok());
        assert!(
            parse_schedule("linear:0.1")
                .unwrap_err()
                .contains("expected")
        );
        assert!(
            parse_schedule("linear:a:0.1:10")
                .unwrap_err()
                .contains("'a'")
        );
    }

    #[test]
    fn sizes_are_parsed_or_explained() {
        assert_eq!(parse_size("256"), Ok([256, 256]));
        assert_eq!(parse_size("64x96"), Ok([64, 96]));
        assert!(parse_size("0").is_err());
        assert!(parse_size("64x").is_err());
    }
}
