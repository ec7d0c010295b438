//! The project's own format: a folder with `model.json` and one safetensors file per part.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::{Builder, TempDir};

use super::config::{MODEL_JSON, ModelConfig};
use super::digest::{check_finite, digest_tensors, element, first_non_finite, model_hash, unravel};
use super::names::{ParameterMismatch, shapes_of, unet_parameters, vae_parameters};
use super::safetensors::{read_safetensors, write_safetensors};
use super::sharded::kind_of;
use super::{CheckpointError, Problem};
use crate::files::{parent_of, sync_folder, write_atomically};
use crate::tensor::{DType, TensorMap};

/// Name of the noise estimator's tensors in a model folder.
pub const UNET_FILE: &str = "unet.safetensors";
/// Name of the autoencoder's tensors in a model folder.
pub const VAE_FILE: &str = "vae.safetensors";

/// A model's configuration and tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredModel {
    /// The architecture and everything around it.
    pub config: ModelConfig,
    /// Parameters of the noise estimator; empty where `config.unet` is `None`.
    pub unet: TensorMap,
    /// Parameters of the autoencoder; empty where `config.vae` is `None`.
    pub vae: TensorMap,
}

/// The content of `model.json`.
#[derive(Serialize, Deserialize)]
struct ModelJson {
    #[serde(flatten)]
    config: ModelConfig,
    /// What the tensor files hold, by file name; a file without an entry is not compared.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    files: BTreeMap<String, FileEntry>,
}

#[derive(Serialize, Deserialize)]
struct FileEntry {
    parameters: usize,
    /// BLAKE3 over names, types, shapes and elements.
    blake3: String,
}

impl StoredModel {
    /// Checks the configuration, that the tensors are exactly those it needs, and that every element is finite.
    ///
    /// # Errors
    /// The first problem found.
    pub fn validate(&self) -> Result<(), Problem> {
        self.config.validate()?;
        let unet = self.config.unet.as_ref().map(unet_parameters).transpose()?;
        ParameterMismatch::check("unet", &unet.unwrap_or_default(), &shapes_of(&self.unet))?;
        let vae = self.config.vae.as_ref().map(vae_parameters).transpose()?;
        ParameterMismatch::check("vae", &vae.unwrap_or_default(), &shapes_of(&self.vae))?;
        check_finite(&self.unet)?;
        check_finite(&self.vae)
    }

    /// The model's identity: 16 hex digits over configuration and tensors.
    pub fn hash(&self) -> String {
        model_hash(
            &self.config,
            digest_tensors(&self.unet),
            digest_tensors(&self.vae),
        )
    }

    /// The model with its tensors rounded to `dtype`.
    ///
    /// # Errors
    /// If a value does not fit the type; the error names it.
    pub fn cast(&self, dtype: DType) -> Result<StoredModel, Problem> {
        let cast = |tensors: &TensorMap| -> Result<TensorMap, Problem> {
            tensors
                .iter()
                .map(|(name, tensor)| {
                    let small = tensor
                        .cast(dtype)
                        .map_err(|error| Problem::tensor(name, error))?;
                    if let Some(flat) = first_non_finite(&small)
                        && element(tensor, flat).is_finite()
                    {
                        return Err(Problem::tensor(
                            name,
                            format!(
                                "{} at {:?} does not fit {dtype}; use bf16 or f32",
                                element(tensor, flat),
                                unravel(flat, tensor.shape())
                            ),
                        ));
                    }
                    Ok((name.clone(), small))
                })
                .collect()
        };
        Ok(StoredModel {
            config: self.config.clone(),
            unet: cast(&self.unet)?,
            vae: cast(&self.vae)?,
        })
    }
}

/// Writes a model folder as a whole: into a temporary folder beside `path`, synced, then renamed into place.
///
/// An existing model folder is replaced; its other files (a card, a licence) are kept. `dtype` rounds the tensors.
/// Returns the model's hash as stored.
///
/// # Errors
/// If the model is invalid, `path` is something that is not a model folder, or the file system refuses; then whatever
/// was at `path` is as before.
pub fn save_folder(
    path: impl AsRef<Path>,
    model: &StoredModel,
    dtype: Option<DType>,
) -> Result<String, CheckpointError> {
    let path = path.as_ref();
    save(path, model, dtype).map_err(|problem| problem.at(path))
}

fn save(path: &Path, model: &StoredModel, dtype: Option<DType>) -> Result<String, Problem> {
    model.validate()?;
    let kept = files_to_keep(path)?;
    let rounded;
    let model = match dtype {
        Some(dtype) => {
            rounded = model.cast(dtype)?;
            &rounded
        }
        None => model,
    };
    let parent = parent_of(path);
    fs::create_dir_all(parent).map_err(Problem::io("create the folder around it"))?;
    let name = path
        .file_name()
        .ok_or_else(|| Problem::Refused {
            why: "the path names no folder".to_owned(),
        })?
        .to_string_lossy()
        .into_owned();
    let temporary = temporary_folder(parent, &name).map_err(Problem::io("write"))?;
    let hash = write_parts(temporary.path(), model)?;
    for file in &kept {
        let name = file.file_name().unwrap_or_default();
        fs::copy(file, temporary.path().join(name)).map_err(Problem::io("keep a file of"))?;
    }
    sync_folder(temporary.path()).map_err(Problem::io("write"))?;
    swap_in(temporary, path, &name).map_err(Problem::io("replace"))?;
    sync_folder(parent).map_err(Problem::io("write"))?;
    Ok(hash)
}

fn write_parts(folder: &Path, model: &StoredModel) -> Result<String, Problem> {
    let (unet, vae) = (digest_tensors(&model.unet), digest_tensors(&model.vae));
    let mut files = BTreeMap::new();
    for (file, tensors, digest) in [(UNET_FILE, &model.unet, unet), (VAE_FILE, &model.vae, vae)] {
        if tensors.is_empty() {
            continue;
        }
        write_safetensors(folder.join(file), tensors, &BTreeMap::new())
            .map_err(|error| *error.problem)?;
        let entry = FileEntry {
            parameters: tensors.values().map(|tensor| tensor.len()).sum(),
            blake3: digest.to_hex().to_string(),
        };
        files.insert(file.to_owned(), entry);
    }
    let json = ModelJson {
        config: model.config.clone(),
        files,
    };
    write_atomically(&folder.join(MODEL_JSON), |out| {
        serde_json::to_writer_pretty(&mut *out, &json).map_err(io::Error::from)?;
        out.write_all(b"\n")
    })
    .map_err(Problem::io("write"))?;
    Ok(model_hash(&model.config, unet, vae))
}

/// Files of an existing model folder that are not the model's.
fn files_to_keep(path: &Path) -> Result<Vec<PathBuf>, Problem> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Problem::io("look at")(error)),
    };
    if !metadata.is_dir() {
        return Err(Problem::Refused {
            why: "a file is there, expected a folder or nothing; choose another name".to_owned(),
        });
    }
    let entries: Vec<PathBuf> = fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(Problem::io("list"))?;
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    if !path.join(MODEL_JSON).is_file() {
        return Err(Problem::Refused {
            why: "the folder has other things in it and is no model folder; choose another name"
                .to_owned(),
        });
    }
    let ours = [MODEL_JSON, UNET_FILE, VAE_FILE];
    let mut kept = Vec::new();
    for entry in entries {
        let name = entry.file_name().unwrap_or_default().to_owned();
        if ours.iter().any(|ours| name == *ours) {
            continue;
        }
        if !entry.is_file() {
            return Err(Problem::Refused {
                why: format!(
                    "the model folder also holds the folder `{}`; move it away or choose another name",
                    name.to_string_lossy()
                ),
            });
        }
        kept.push(entry);
    }
    Ok(kept)
}

fn temporary_folder(parent: &Path, name: &str) -> io::Result<TempDir> {
    let prefix = format!(".{name}.");
    let mut builder = Builder::new();
    builder.prefix(&prefix).suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o777));
    }
    builder.tempdir_in(parent)
}

/// Renames `temporary` to `path`, moving what is there aside first and back if that fails.
fn swap_in(temporary: TempDir, path: &Path, name: &str) -> io::Result<()> {
    if fs::symlink_metadata(path).is_err() {
        fs::rename(temporary.path(), path)?;
        // Nothing is left under the old name to remove.
        let _ = temporary.keep();
        return Ok(());
    }
    let aside = temporary_folder(parent_of(path), name)?;
    let old = aside.path().join("old");
    fs::rename(path, &old)?;
    if let Err(error) = fs::rename(temporary.path(), path) {
        fs::rename(&old, path)?;
        return Err(error);
    }
    let _ = temporary.keep();
    Ok(())
}

/// Loads a model folder; the tensors are windows into the mapped files.
///
/// # Errors
/// If there is no valid `model.json`, a file is damaged, or tensors and configuration do not fit.
pub fn load_folder(path: impl AsRef<Path>) -> Result<StoredModel, CheckpointError> {
    load(path.as_ref()).map(|(model, _)| model)
}

/// The problem with a folder that has no `model.json`.
fn no_model(path: &Path) -> Problem {
    match kind_of(path) {
        Some((folder, kind)) => Problem::Folder { folder, kind },
        None => Problem::Foreign {
            found: "a folder without a model.json".to_owned(),
        },
    }
}

/// A model folder's model and hash, which reading it computes anyway.
pub(super) fn load(path: &Path) -> Result<(StoredModel, String), CheckpointError> {
    let json_path = path.join(MODEL_JSON);
    let text = match fs::read(&json_path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_dir() => {
            return Err(no_model(path).at(path));
        }
        Err(error) => return Err(Problem::io("read")(error).at(&json_path)),
    };
    let json: ModelJson =
        serde_json::from_slice(&text).map_err(|error| Problem::Json(error).at(&json_path))?;
    json.config
        .validate()
        .map_err(|error| Problem::from(error).at(&json_path))?;
    let part = |file: &str, wanted: bool| -> Result<(TensorMap, blake3::Hash), CheckpointError> {
        if !wanted {
            let none = TensorMap::new();
            let digest = digest_tensors(&none);
            return Ok((none, digest));
        }
        let file_path = path.join(file);
        let tensors = read_safetensors(&file_path)?.tensors;
        let digest = digest_tensors(&tensors);
        if let Some(entry) = json.files.get(file)
            && entry.blake3 != digest.to_hex().as_str()
        {
            let what = format!(
                "its content does not match the digest in {MODEL_JSON} ({}…)",
                entry.blake3.get(..16).unwrap_or(&entry.blake3)
            );
            return Err(Problem::damaged(what).at(&file_path));
        }
        Ok((tensors, digest))
    };
    let (unet, unet_digest) = part(UNET_FILE, json.config.unet.is_some())?;
    let (vae, vae_digest) = part(VAE_FILE, json.config.vae.is_some())?;
    let hash = model_hash(&json.config, unet_digest, vae_digest);
    let model = StoredModel {
        config: json.config,
        unet,
        vae,
    };
    model.validate().map_err(|problem| problem.at(path))?;
    Ok((model, hash))
}
