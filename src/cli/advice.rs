//! From an error of the library, which states facts, to what the command line says: the error, and the flag or command
//! that helps.

use std::error::Error;
use std::path::Path;

use crate::checkpoint::{CheckpointError, Fact, FolderKind, Network, Problem, Undetermined};
use crate::compile::{OverBudget, Precision};
use crate::data::DataError;
use crate::device::DeviceError;
use crate::device::cuda::CudaError;
use crate::metrics::ClassifierError;
use crate::pipeline::{AutoencoderError, SampleError, WeightOverflow};
use crate::tensor::DType;
use crate::train::TrainError;
use crate::train::run_file::RunFileError;

/// `error` in words, with what helps against it where there is something.
pub(super) fn message(error: &(dyn Error + 'static)) -> String {
    match remedy(error) {
        Some(remedy) => format!("{error}{remedy}"),
        None => error.to_string(),
    }
}

/// What helps against `error`, as a continuation of its message: the first remedy along its sources.
pub(super) fn remedy(error: &(dyn Error + 'static)) -> Option<String> {
    let in_training = error.is::<TrainError>();
    let mut next = Some(error);
    while let Some(error) = next {
        let found = error
            .downcast_ref()
            .and_then(sampling)
            .or_else(|| error.downcast_ref().and_then(training))
            .or_else(|| error.downcast_ref().and_then(run_file))
            .or_else(|| error.downcast_ref().and_then(checkpoint))
            .or_else(|| {
                let overflow: &WeightOverflow = error.downcast_ref()?;
                other_precision(overflow.precision)
            })
            .or_else(|| error.downcast_ref().and_then(device))
            .or_else(|| error.downcast_ref().and_then(cuda))
            .or_else(|| error.downcast_ref().map(over_budget))
            .or_else(|| {
                error
                    .downcast_ref()
                    .and_then(|error| data(error, in_training))
            });
        if found.is_some() {
            return found;
        }
        next = inner(error);
    }
    None
}

/// The error inside `error`. Wrappers that show the inner error as their own skip it in their `source`.
fn inner<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    if let Some(error) = error.downcast_ref() {
        match error {
            TrainError::Run(inner) => return Some(inner),
            TrainError::Data(inner) => return Some(inner),
            TrainError::Checkpoint(inner) => return Some(inner),
            TrainError::Sample(inner) => return Some(inner),
            TrainError::Classifier(inner) => return Some(inner),
            TrainError::Device(inner) => return Some(inner),
            TrainError::OverBudget(inner) => return Some(inner),
            _ => {}
        }
    }
    if let Some(error) = error.downcast_ref() {
        match error {
            ClassifierError::Checkpoint(inner) => return Some(inner),
            ClassifierError::Data(inner) => return Some(inner),
            ClassifierError::Device(inner) => return Some(inner),
            _ => {}
        }
    }
    if let Some(error) = error.downcast_ref() {
        match error {
            SampleError::Device(inner) => return Some(inner),
            SampleError::WeightOverflow(inner) => return Some(inner),
            SampleError::Autoencoder(inner) => return Some(inner),
            _ => {}
        }
    }
    if let Some(error) = error.downcast_ref() {
        match error {
            AutoencoderError::Device(inner) => return Some(inner),
            AutoencoderError::WeightOverflow(inner) => return Some(inner),
            _ => {}
        }
    }
    if let Some(CheckpointError { problem, .. }) = error.downcast_ref() {
        return Some(&**problem);
    }
    error.source()
}

fn sampling(error: &SampleError) -> Option<String> {
    Some(match error {
        SampleError::NoImages => "; --count takes at least 1".to_owned(),
        SampleError::NoBatch => "; --batch takes at least 1".to_owned(),
        SampleError::TooMany(_) => "; make them in several runs with --first".to_owned(),
        SampleError::SizeUnknown => "; give --size HEIGHTxWIDTH".to_owned(),
        SampleError::Unconditional => {
            "; leave out --class, --opposite-class and --guidance".to_owned()
        }
        SampleError::Memory { fits, .. } if *fits > 0 => format!("; take --batch {fits}"),
        SampleError::NotFinite { precision, .. } if precision.storage() == DType::F16 => {
            return other_precision(*precision);
        }
        _ => return None,
    })
}

fn training(error: &TrainError) -> Option<String> {
    Some(match error {
        TrainError::NotFinite { .. } => {
            ". Go on from the last checkpoint with --resume and a smaller --set optimizer.lr=…, with \
             --set optimizer.grad_clip=1, or with --set optimizer.warmup_steps=…; if it happens at the first step, \
             look at the data with `medfusion data`"
                .to_owned()
        }
        TrainError::Interrupted { .. } => "; --resume goes on from there".to_owned(),
        TrainError::Exists(_) => "; go on with --resume or choose another --out".to_owned(),
        TrainError::NoAutoencoder(_) => "; --vae takes what `medfusion train vae` made".to_owned(),
        TrainError::Channels { autoencoder, .. } => {
            format!("; set them with --set data.channels={autoencoder}")
        }
        _ => return None,
    })
}

fn run_file(error: &RunFileError) -> Option<String> {
    match error {
        RunFileError::BadOverride(_) => Some(", as in --set train.steps=5000".to_owned()),
        _ => None,
    }
}

fn checkpoint(problem: &Problem) -> Option<String> {
    match problem {
        Problem::NoAverage => Some("; leave out --weights ema".to_owned()),
        Problem::Folder { folder, kind } => one_file(folder, kind),
        Problem::Undetermined(Undetermined { missing }) => {
            let flags: Vec<String> = missing.iter().filter_map(flag).collect();
            Some(format!(
                "\ngive them with {}, or take --published, if the model was trained with the published settings",
                flags.join(" ")
            ))
        }
        _ => None,
    }
}

/// The command that makes one file of a folder.
fn one_file(folder: &Path, kind: &FolderKind) -> Option<String> {
    let folder = quoted(folder);
    let command = match kind {
        FolderKind::DeepSpeed { has_script: true } => {
            format!("cd {folder} && python zero_to_fp32.py . model.ckpt")
        }
        FolderKind::DeepSpeed { has_script: false } => {
            format!("python -m deepspeed.utils.zero_to_fp32 {folder} model.ckpt")
        }
        FolderKind::Distributed => format!(
            "python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} model.pt"
        ),
        FolderKind::SafetensorsShards => format!(
            "cd {folder} && python -c \"import glob, safetensors.torch as s; \
             s.save_file({{k: v for f in glob.glob('*-of-*.safetensors') for k, v in s.load_file(f).items()}}, \
             'model.safetensors')\""
        ),
        FolderKind::TorchShards => format!(
            "cd {folder} && python -c \"import glob, torch; \
             torch.save({{k: v for f in glob.glob('*-of-*.bin') for k, v in \
             torch.load(f, map_location='cpu').items()}}, 'model.pt')\""
        ),
        _ => return None,
    };
    Some(format!("; make one file of it with\n  {command}"))
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=@:".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// Numbers end sooner in f16 than in the other precisions.
fn other_precision(precision: Precision) -> Option<String> {
    match precision.storage() {
        DType::F16 => Some("; take --precision bf16 or f32".to_owned()),
        DType::BF16 => Some("; take --precision f32".to_owned()),
        _ => None,
    }
}

fn device(error: &DeviceError) -> Option<String> {
    match error {
        DeviceError::Precision { .. } => {
            Some("; leave --precision out, or use --device cuda".to_owned())
        }
        DeviceError::Cuda(error) => cuda(error),
        _ => None,
    }
}

fn cuda(error: &CudaError) -> Option<String> {
    Some(match error {
        CudaError::NoDriver => {
            "; install NVIDIA's driver, or use --device cpu or emulated".to_owned()
        }
        CudaError::DriverSilent { .. } => {
            "; `nvidia-smi` says more; or use --device cpu".to_owned()
        }
        CudaError::NoDevice => {
            "; check `nvidia-smi` and CUDA_VISIBLE_DEVICES, or use --device cpu".to_owned()
        }
        CudaError::OldDevice { .. } => "; use --device cpu".to_owned(),
        _ => return None,
    })
}

fn over_budget(_: &OverBudget) -> String {
    "; give it more with --memory, or make train.batch smaller and train.accumulate larger"
        .to_owned()
}

/// The flag that gives a fact, with its form.
fn flag(fact: &Fact) -> Option<String> {
    Some(match fact {
        Fact::NormGroups { network, usual } => match network {
            Network::Unet => format!("--norm-groups {usual}"),
            Network::Autoencoder => format!("--vae-norm-groups {usual}"),
        },
        Fact::Strides { network, usual } => {
            let list: Vec<String> = usual.iter().map(usize::to_string).collect();
            match network {
                Network::Unet => format!("--strides {}", list.join(",")),
                Network::Autoencoder => format!("--vae-strides {}", list.join(",")),
            }
        }
        Fact::Autoencoder => "--vae FILE".to_owned(),
        Fact::Objective => "--objective x_T|x_0".to_owned(),
        Fact::Schedule => "--schedule scaled_linear:0.002:0.02:1000".to_owned(),
        Fact::SelfConditioning { .. } => "--self-conditioning true|false".to_owned(),
        Fact::LearnedVariance { .. } => "--learned-variance true|false".to_owned(),
    })
}

fn data(error: &DataError, in_training: bool) -> Option<String> {
    match error {
        DataError::Inconsistent { .. } if in_training => Some(
            "; correct the data, or leave those samples out with --set data.on_mismatch=skip"
                .to_owned(),
        ),
        DataError::Inconsistent { .. } => Some("; correct the data".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_is_found_however_deep_its_error_lies() {
        let error = TrainError::Sample(SampleError::NoBatch);
        assert_eq!(
            message(&error),
            "batch 0 makes no images; --batch takes at least 1"
        );
        let problems = Vec::new();
        let inconsistent = || DataError::Inconsistent {
            path: "cells".into(),
            problems: problems.clone(),
        };
        assert!(message(&inconsistent()).ends_with("; correct the data"));
        let error = TrainError::Classifier(ClassifierError::Data(inconsistent()));
        assert!(message(&error).ends_with("--set data.on_mismatch=skip"));
        let error = TrainError::Checkpoint(Problem::NoAverage.at("model.ckpt"));
        assert_eq!(
            message(&error),
            "model.ckpt: the checkpoint holds no averaged weights (`ema_model.averaged_model.*`); leave out --weights ema"
        );
        assert_eq!(remedy(&SampleError::Interrupted), None);
        let error = TrainError::NotFinite {
            step: 3,
            what: "the loss".to_owned(),
            loss: f32::NAN,
            grad_norm: 1.0,
        };
        let text = message(&error);
        for part in ["step 3", "--resume", "--set optimizer.lr="] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let over = OverBudget {
            needed_bytes: 2 << 20,
            budget_bytes: 1 << 20,
        };
        assert!(message(&TrainError::OverBudget(over)).contains("--memory"));
        let error = DeviceError::Precision {
            device: crate::compile::DeviceKind::Cpu,
            asked: crate::compile::Precision::F16,
        };
        assert_eq!(
            message(&error),
            "the CPU does not compute in f16; leave --precision out, or use --device cuda"
        );
    }

    /// Numbers that end in f16 are no damage.
    #[test]
    fn an_overflow_is_answered_with_another_precision() {
        for precision in [Precision::F16, Precision::F16Fast] {
            let overflow = || WeightOverflow {
                name: "in_conv.conv.weight".to_owned(),
                value: 70000.0,
                precision,
                largest: 65504.0,
            };
            let errors = [
                SampleError::WeightOverflow(overflow()),
                SampleError::Autoencoder(AutoencoderError::WeightOverflow(overflow())),
                SampleError::NotFinite {
                    index: 3,
                    precision,
                },
            ];
            for error in errors {
                let text = message(&error);
                assert!(text.contains(&precision.to_string()), "{text}");
                assert!(text.ends_with("; take --precision bf16 or f32"), "{text}");
                assert!(!text.contains("damaged"), "{text}");
            }
        }
    }

    #[test]
    fn a_folder_of_another_kind_is_answered_with_the_command_that_makes_one_file_of_it() {
        let text = |folder: &str, kind| {
            let folder = folder.into();
            message(&Problem::Folder { folder, kind }.at("run"))
        };
        let script = text("runs/a b", FolderKind::DeepSpeed { has_script: true });
        let expected = "\n  cd 'runs/a b' && python zero_to_fp32.py . model.ckpt";
        assert!(script.ends_with(expected), "{script}");
        let distributed = text("run", FolderKind::Distributed);
        let expected = "torch.distributed.checkpoint.format_utils dcp_to_torch run model.pt";
        assert!(distributed.ends_with(expected), "{distributed}");
        let shards = text("run", FolderKind::SafetensorsShards);
        assert!(shards.contains("cd run && python -c \"import"), "{shards}");
        assert!(shards.ends_with("'model.safetensors')\""), "{shards}");
        let of = text("run", FolderKind::Of(vec!["best".into(), "model".into()]));
        assert!(of.contains("holds best, model; open one of these"), "{of}");
    }

    /// A library's errors about a missing GPU name no flag; the command line adds the other device, through every wrapper.
    #[test]
    fn a_missing_gpu_is_answered_with_another_device() {
        let expected = "no CUDA driver here: libcuda.so.1 cannot be loaded; install NVIDIA's driver, or use \
                        --device cpu or emulated";
        let device = || DeviceError::Cuda(CudaError::NoDriver);
        assert_eq!(message(&CudaError::NoDriver), expected);
        assert_eq!(message(&device()), expected);
        assert_eq!(message(&TrainError::Device(device())), expected);
        assert_eq!(message(&SampleError::Device(device())), expected);
        let old = CudaError::OldDevice {
            name: "GTX 1080".to_owned(),
            capability: "6.1".to_owned(),
        };
        for error in [CudaError::NoDevice, old] {
            assert!(!error.to_string().contains("--"), "{error}");
            assert!(message(&error).ends_with("use --device cpu"), "{error}");
        }
    }

    /// Every flag that a missing fact asks for is one that `sample`, `inspect` and `convert` take.
    #[test]
    fn each_missing_fact_has_its_flag() {
        let network = Network::Unet;
        let missing = vec![
            Fact::NormGroups { network, usual: 32 },
            Fact::Strides {
                network,
                usual: vec![1, 2, 2],
            },
            Fact::NormGroups {
                network: Network::Autoencoder,
                usual: 8,
            },
            Fact::Strides {
                network: Network::Autoencoder,
                usual: vec![1, 2],
            },
            Fact::Autoencoder,
            Fact::Objective,
            Fact::Schedule,
            Fact::SelfConditioning { input_channels: 8 },
            Fact::LearnedVariance { output_channels: 8 },
        ];
        use clap::CommandFactory;
        let cli = crate::cli::Cli::command();
        for command in ["sample", "inspect", "convert", "reconstruct"] {
            let command = cli.find_subcommand(command).expect("a subcommand");
            for fact in &missing {
                let flag = flag(fact).expect("a flag");
                let name = flag.split(' ').next().unwrap_or_default();
                let known = command.get_arguments().any(|argument| {
                    Some(name) == argument.get_long().map(|l| format!("--{l}")).as_deref()
                });
                assert!(known, "{name}");
            }
        }
        let error = Problem::Undetermined(Undetermined { missing }).at("model.ckpt");
        let text = message(&error);
        assert!(
            text.contains("--strides 1,2,2 --vae-norm-groups 8"),
            "{text}"
        );
        assert!(text.contains("--published"), "{text}");
    }
}
