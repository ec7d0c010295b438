//! Checkpoints that are spread over several files: recognised, since they do not open like one, and what their kind is.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::config::MODEL_JSON;
use crate::files::parent_of;

/// What a folder, or a file that is a part of one, is instead of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FolderKind {
    /// DeepSpeed's, whose ranks each wrote a part.
    DeepSpeed {
        /// The script that DeepSpeed leaves in it to make one file of it is there.
        has_script: bool,
    },
    /// `torch.distributed.checkpoint`: `.metadata` and `*.distcp`.
    Distributed,
    /// safetensors files that share the tensors, with an index.
    SafetensorsShards,
    /// PyTorch files that share the tensors, with an index.
    TorchShards,
    /// A pipeline of the diffusers library, which holds other networks.
    Diffusers,
    /// A folder that holds model folders, or checkpoints: their names.
    Of(Vec<String>),
}

impl fmt::Display for FolderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DeepSpeed { .. } => {
                "a DeepSpeed checkpoint, a folder over whose files the tensors are spread"
            }
            Self::Distributed => {
                "a torch.distributed checkpoint (.metadata, .distcp), a folder over whose files the tensors are spread"
            }
            Self::SafetensorsShards => "a sharded checkpoint: several safetensors files with an index",
            Self::TorchShards => "a sharded checkpoint: several PyTorch files with an index",
            Self::Diffusers => "a pipeline of the diffusers library, whose networks are others",
            Self::Of(names) => {
                return write!(f, "a folder that holds {}; open one of these", names.join(", "));
            }
        })
    }
}

/// Names in a folder; a hostile one has no end of them.
struct Names(Vec<String>);

impl Names {
    fn of(folder: &Path) -> Self {
        const MOST: usize = 10_000;
        let entries = fs::read_dir(folder).into_iter().flatten().take(MOST);
        let mut names: Vec<String> = entries
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .collect();
        names.sort();
        Self(names)
    }

    fn has(&self, name: &str) -> bool {
        self.any(|other| other == name)
    }

    fn any(&self, test: impl Fn(&str) -> bool) -> bool {
        self.0.iter().any(|name| test(name))
    }
}

/// What a folder without `model.json` is, and the outermost folder of it; `None` for none of the known kinds.
pub(super) fn kind_of(folder: &Path) -> Option<(PathBuf, FolderKind)> {
    let names = Names::of(folder);
    if let Some(found) = deep_speed(folder, &names) {
        return Some(found);
    }
    let kind = names.0.iter().find_map(|name| shard_kind(name));
    let kind = kind.or_else(|| {
        names
            .has("model_index.json")
            .then_some(FolderKind::Diffusers)
    });
    let kind = kind.or_else(|| {
        let inside = inside(folder, &names);
        (!inside.is_empty()).then_some(FolderKind::Of(inside))
    });
    Some((folder.to_owned(), kind?))
}

/// What the folder around a file is that holds only a part of a checkpoint, by its name.
pub(super) fn kind_around(file: &Path) -> Option<(PathBuf, FolderKind)> {
    let name = file.file_name()?.to_str()?;
    let folder = parent_of(file);
    if is_rank_of_deep_speed(name) {
        return deep_speed(folder, &Names::of(folder));
    }
    Some((folder.to_owned(), shard_kind(name)?))
}

/// The kind of checkpoint that a file of this name is a part of.
fn shard_kind(name: &str) -> Option<FolderKind> {
    if name == ".metadata" || name.ends_with(".distcp") {
        Some(FolderKind::Distributed)
    } else if name.ends_with(".safetensors.index.json") || is_shard(name, ".safetensors") {
        Some(FolderKind::SafetensorsShards)
    } else if name.ends_with(".bin.index.json") || is_shard(name, ".bin") {
        Some(FolderKind::TorchShards)
    } else {
        None
    }
}

/// The outermost folder of a DeepSpeed checkpoint that `folder` is, or is a step of.
fn deep_speed(folder: &Path, names: &Names) -> Option<(PathBuf, FolderKind)> {
    let is_step = |name: &str| name.starts_with("global_step");
    let has_script = names.has("zero_to_fp32.py");
    if has_script
        || (names.has("latest") && names.any(|name| is_step(name) || name == "checkpoint"))
    {
        return Some((folder.to_owned(), FolderKind::DeepSpeed { has_script }));
    }
    let is_rank = |name: &str| name.starts_with("mp_rank_") || is_rank_of_deep_speed(name);
    if !names.any(is_rank) {
        return None;
    }
    let above = parent_of(folder);
    let has_script = above.join("zero_to_fp32.py").is_file();
    Some((above.to_owned(), FolderKind::DeepSpeed { has_script }))
}

/// One rank's part of the optimizer's state or, in stage 3, of the weights.
fn is_rank_of_deep_speed(name: &str) -> bool {
    name.starts_with("zero_pp_rank_") || name.starts_with("bf16_zero_pp_rank_")
}

/// `model-00001-of-00003` and one ending.
fn is_shard(name: &str, ending: &str) -> bool {
    let Some((first, of)) = name
        .strip_suffix(ending)
        .and_then(|stem| stem.rsplit_once("-of-"))
    else {
        return false;
    };
    let number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let first = first.rsplit('-').next().unwrap_or(first);
    number(first) && number(of) && of != "00001"
}

/// Model folders in a folder, as a training run has them, or checkpoints; the first few.
fn inside(folder: &Path, names: &Names) -> Vec<String> {
    const MOST: usize = 8;
    let is_model = |name: &&String| folder.join(name).join(MODEL_JSON).is_file();
    let models: Vec<String> = names
        .0
        .iter()
        .filter(is_model)
        .take(MOST)
        .cloned()
        .collect();
    if !models.is_empty() {
        return models;
    }
    let is_checkpoint = |name: &&String| {
        [".ckpt", ".pt", ".pth"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    names
        .0
        .iter()
        .filter(is_checkpoint)
        .take(MOST)
        .cloned()
        .collect()
}
