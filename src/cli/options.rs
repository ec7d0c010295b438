//! Flags that several subcommands share.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::error::CliError;
use super::progress::CompileBar;
use crate::checkpoint::{Facts, MODEL_JSON, Model, Weights};
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

    /// Whether everything that is not said is as published.
    pub fn published(&self) -> bool {
        self.published
    }

    /// The model at `path`, or the one that ships.
    pub fn open(&self, path: Option<&Path>) -> Result<Model, CliError> {
        let shipped;
        let path = match path {
            Some(path) => path,
            None => {
                shipped = shipped_model()?;
                if !shipped.starts_with("weights") {
                    tracing::info!("model: {}", shipped.display());
                }
                &shipped
            }
        };
        if !path.exists() {
            return Err(CliError::new(format!(
                "--model {}: no such file or folder; give a model folder or a checkpoint, or leave --model out for the \
                 model that ships",
                path.display()
            )));
        }
        let model = Model::open_with(path, &self.facts())?;
        show_notes(&model);
        Ok(model)
    }
}

/// A line for each thing that a person should know of the model's file.
pub(super) fn show_notes(model: &Model) {
    for note in &model.source.notes {
        tracing::warn!("{}: {note}", model.source.path.display());
    }
}

/// The models that ship with the project, in the order of preference. The package on crates.io has only the second.
const SHIPPED: [&str; 2] = ["cells64", "xray32"];

/// Names the folder that holds the models that ship, or one model.
const WEIGHTS: &str = "MEDFUSION_WEIGHTS";

/// The model where none is named.
fn shipped_model() -> Result<PathBuf, CliError> {
    let named = std::env::var_os(WEIGHTS).filter(|folder| !folder.is_empty());
    let program = std::env::current_exe().ok();
    let folders = weight_folders(named.as_deref().map(Path::new), program.as_deref());
    let found = folders.iter().find_map(|folder| model_in(folder));
    found.ok_or_else(|| {
        let folders: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
        CliError::new(format!(
            "none of the models that ship ({}) was found; looked at in {}; give --model PATH, or the folder that holds \
             them in {WEIGHTS}",
            SHIPPED.join(", "),
            folders.join(", ")
        ))
    })
}

/// Where the models that ship may be: the folder that the environment names and no other; else in the working directory,
/// beside the program, where an installation puts them, or where the program was built.
fn weight_folders(named: Option<&Path>, program: Option<&Path>) -> Vec<PathBuf> {
    if let Some(named) = named {
        return vec![named.to_owned()];
    }
    let mut folders = vec![PathBuf::from("weights")];
    if let Some(beside) = program.and_then(Path::parent) {
        folders.push(beside.join("weights"));
        if let Some(prefix) = beside.parent() {
            folders.push(prefix.join("share/medfusion/weights"));
        }
    }
    folders.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("weights"));
    folders
}

/// The model in a folder of models, or what the path names itself: a model folder or a file.
fn model_in(folder: &Path) -> Option<PathBuf> {
    let is_model = |path: &PathBuf| path.is_file() || path.join(MODEL_JSON).is_file();
    let inside = SHIPPED.map(|model| folder.join(model));
    inside.into_iter().chain([folder.to_owned()]).find(is_model)
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
    fn the_model_that_ships_is_found_wherever_the_program_was_installed() {
        let installed = tempfile::tempdir().unwrap();
        let program = installed.path().join("bin/medfusion");
        let folders = weight_folders(None, Some(&program));
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights");
        let expected = [
            PathBuf::from("weights"),
            installed.path().join("bin/weights"),
            installed.path().join("share/medfusion/weights"),
            built.clone(),
        ];
        assert_eq!(folders, expected);
        // One that is named is the only one.
        assert_eq!(weight_folders(Some(&built), Some(&program)), [built]);
        let share = &folders[2];
        assert_eq!(model_in(share), None);
        let xray = share.join("xray32");
        std::fs::create_dir_all(&xray).unwrap();
        assert_eq!(model_in(share), None);
        std::fs::write(xray.join(MODEL_JSON), "{}").unwrap();
        assert_eq!(model_in(share), Some(xray.clone()));
        assert_eq!(model_in(&xray), Some(xray));
    }

    #[test]
    fn sizes_are_parsed_or_explained() {
        assert_eq!(parse_size("256"), Ok([256, 256]));
        assert_eq!(parse_size("64x96"), Ok([64, 96]));
        assert!(parse_size("0").is_err());
        assert!(parse_size("64x").is_err());
    }
}
