//! Opening a model from whatever holds it: model folder, safetensors file, PyTorch checkpoint. The content decides.

use std::path::Path;

use serde_json::Value;

use super::config::{MODEL_JSON, ModelConfig};
use super::facts::Facts;
use super::folder::{self, StoredModel};
use super::foreign::{left_out, take_foreign};
use super::infer::infer_model;
use super::map::{SharedBytes, map_file};
use super::model::{Model, ModelFormat, ModelSource};
use super::names::{unet_parameters, vae_parameters};
use super::notes::Note;
use super::safetensors::{looks_like_safetensors, parse};
use super::sharded::kind_around;
use super::split::split_state;
use super::state::StateDict;
use super::torch::TorchFile;
use super::{CheckpointError, Problem};

/// The tensors of a file and what else it says, before any interpretation.
pub(super) struct RawFile {
    pub format: ModelFormat,
    pub state: StateDict,
    pub hyper_parameters: Option<Value>,
    pub top_level_keys: Vec<String>,
    pub notes: Vec<Note>,
}

impl Model {
    /// Opens a model folder, safetensors file or PyTorch checkpoint that says all about itself; for others,
    /// [`Model::open_with`] takes what is missing.
    ///
    /// # Errors
    /// As [`Model::open_with`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        Self::open_with(path, &Facts::default())
    }

    /// Opens the model at `path`; `facts` are what the caller knows about it.
    ///
    /// # Errors
    /// If the path is no model, is damaged, does not say enough about its architecture (the error lists the facts that
    /// are missing), or if tensors and configuration do not fit.
    pub fn open_with(path: impl AsRef<Path>, facts: &Facts) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        if path.is_dir() {
            let (mut model, mut hash) = folder::load(path)?;
            if apply(&mut model.config, facts) {
                model
                    .config
                    .validate()
                    .map_err(|error| Problem::from(error).at(path))?;
                hash = model.hash();
            }
            let source = ModelSource {
                path: path.to_owned(),
                format: ModelFormat::Folder,
                ema: false,
                hyper_parameters: None,
                notes: Vec::new(),
            };
            return Ok(Self::new(model, hash, source));
        }
        let raw = read_file(path).map_err(|problem| problem.at(path))?;
        let vae = match &facts.vae {
            Some(vae_path) => Some(open_vae(vae_path, facts)?),
            None => None,
        };
        interpret(raw, path, vae, facts).map_err(|problem| problem.at(path))
    }
}

fn interpret(
    raw: RawFile,
    path: &Path,
    separate_vae: Option<Model>,
    facts: &Facts,
) -> Result<Model, Problem> {
    let RawFile {
        format,
        state,
        hyper_parameters,
        mut notes,
        ..
    } = raw;
    let hyper = hyper_parameters.as_ref();
    let sizes = state.tensors.values().map(|tensor| tensor.bytes().len());
    let file_bytes = sizes.sum();
    let mut parts = split_state(state, hyper, facts.weights)?;
    let vae_config = match separate_vae {
        Some(vae) => {
            if parts.vae.is_empty() {
                parts.vae = vae.vae;
            }
            notes.extend(vae.source.notes);
            vae.config.vae
        }
        None => None,
    };
    let config = infer_model(&parts, hyper, vae_config, facts)
        .map_err(|problem| hint_at_folder(problem, path))?;
    let needed = config.unet.as_ref().map(unet_parameters).transpose()?;
    let unet = take_foreign("unet", &needed.unwrap_or_default(), &mut parts.unet);
    let needed = config.vae.as_ref().map(vae_parameters).transpose()?;
    let vae = take_foreign("vae", &needed.unwrap_or_default(), &mut parts.vae);
    notes.extend(left_out(&parts, &unet, &vae, file_bytes)?);
    let model = StoredModel {
        config,
        unet: parts.unet,
        vae: parts.vae,
    };
    model.validate()?;
    let hash = model.hash();
    let source = ModelSource {
        path: path.to_owned(),
        format,
        ema: parts.ema,
        hyper_parameters,
        notes,
    };
    Ok(Model::new(model, hash, source))
}

/// One part of a model folder says nothing about strides; the folder does.
fn hint_at_folder(problem: Problem, path: &Path) -> Problem {
    let beside = path.with_file_name(MODEL_JSON);
    match problem {
        Problem::Undetermined(_) if beside.is_file() => Problem::unsupported(
            "this is one part of a model folder; open the folder that holds it",
        ),
        other => other,
    }
}

fn open_vae(path: &Path, facts: &Facts) -> Result<Model, CheckpointError> {
    let own = Facts {
        vae_norm_groups: facts.vae_norm_groups,
        vae_strides: facts.vae_strides.clone(),
        published: facts.published,
        ..Facts::default()
    };
    let model = Model::open_with(path, &own)?;
    match model.config.vae {
        Some(_) => Ok(model),
        None => Err(Problem::unsupported("the file holds no autoencoder").at(path)),
    }
}

/// Lets what the caller says win over `model.json`. True if anything changed.
fn apply(config: &mut ModelConfig, facts: &Facts) -> bool {
    let before = config.clone();
    if let Some(unet) = &mut config.unet {
        if let Some(groups) = facts.norm_groups {
            unet.backbone.norm_groups = groups;
        }
        if let Some(strides) = &facts.strides {
            unet.backbone.strides = strides.clone();
        }
    }
    if let Some(vae) = &mut config.vae {
        if let Some(groups) = facts.vae_norm_groups {
            vae.backbone.norm_groups = groups;
        }
        if let Some(strides) = &facts.vae_strides {
            vae.backbone.strides = strides.clone();
        }
    }
    config.objective = facts.objective.unwrap_or(config.objective);
    config.clip_x0 = facts.clip_x0.unwrap_or(config.clip_x0);
    config.input_centering = facts.input_centering.unwrap_or(config.input_centering);
    if facts.noise.is_some() {
        config.noise = facts.noise.clone();
    }
    if facts.image_size.is_some() {
        config.image_size = facts.image_size;
    }
    if let Some(names) = &facts.class_names {
        config.class_names = names.clone();
    }
    *config != before
}

/// Reads a safetensors file or PyTorch checkpoint, telling them apart by their first bytes.
pub(super) fn read_file(path: &Path) -> Result<RawFile, Problem> {
    if let Some((folder, kind)) = kind_around(path).filter(|_| path.is_file()) {
        return Err(Problem::Folder { folder, kind });
    }
    let bytes = map_file(path)?;
    let content = (*bytes).as_ref();
    // First, since its first byte, the low one of a length, can be any.
    if looks_like_safetensors(content) {
        let (state, _) = parse(bytes)?;
        if state.is_empty() {
            return Err(Problem::Foreign {
                found: "a safetensors file without tensors".to_owned(),
            });
        }
        return Ok(RawFile {
            format: ModelFormat::Safetensors,
            state,
            hyper_parameters: None,
            top_level_keys: Vec::new(),
            notes: Vec::new(),
        });
    }
    if content.starts_with(b"PK\x03\x04")
        || content.starts_with(b"PK\x05\x06")
        || content[0] == 0x80
    {
        return torch_file(bytes);
    }
    Err(Problem::Foreign {
        found: describe_content(content).to_owned(),
    })
}

fn torch_file(bytes: SharedBytes) -> Result<RawFile, Problem> {
    let file = TorchFile::parse(bytes)?;
    let unsummed = file.without_checksum().filter(|(members, _)| *members > 0);
    let notes = unsummed.map(|(members, of)| Note::NoChecksum { members, of });
    Ok(RawFile {
        format: ModelFormat::Torch(file.format()),
        state: file.state()?,
        hyper_parameters: file.hyper_parameters(),
        top_level_keys: file.top_level_keys(),
        notes: notes.into_iter().collect(),
    })
}

/// What a file that is no model looks like.
fn describe_content(content: &[u8]) -> &'static str {
    const KNOWN: &[(&[u8], &str)] = &[
        (b"\x89PNG", "a PNG image"),
        (b"\xff\xd8\xff", "a JPEG image"),
        (b"GIF8", "a GIF image"),
        (b"%PDF", "a PDF document"),
        (b"\x1f\x8b", "a gzip archive; unpack it first"),
        (b"\xfd7zXZ", "an xz archive; unpack it first"),
        (b"7z\xbc\xaf", "a 7-Zip archive; unpack it first"),
        (b"\x93NUMPY", "a NumPy array"),
        (b"\x89HDF", "an HDF5 file"),
        (b"\x7fELF", "a program"),
        (b"GGUF", "a GGUF model"),
        (
            b"version https://git-lfs",
            "a Git LFS pointer; fetch the file itself with `git lfs pull`",
        ),
        (b"<!DOCTYPE", "a web page; the download went wrong"),
        (b"<html", "a web page; the download went wrong"),
    ];
    let found = KNOWN.iter().find(|(magic, _)| content.starts_with(magic));
    if let Some((_, name)) = found {
        return name;
    }
    if content.get(257..262) == Some(b"ustar") {
        return "a tar archive; unpack it first";
    }
    let sample = &content[..content.len().min(1024)];
    let printable = |b: &u8| b.is_ascii_graphic() || b" \t\r\n".contains(b);
    if sample.iter().all(printable) {
        return "a text file";
    }
    "a file of unknown kind"
}
