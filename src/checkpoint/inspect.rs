//! What `inspect` shows of a model or of any file with tensors, and what `convert` does.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::CheckpointError;
use super::config::ModelConfig;
use super::facts::Facts;
use super::folder::{self, save_folder};
use super::model::Model;
use super::model::ModelFormat;
use super::names::Shapes;
use super::notes::Note;
use super::open::read_file;
use super::state::StateDict;
use super::wrappers::unwrapped;
use crate::bytes::readable;
use crate::tensor::{DType, TensorMap};

/// A report on a file or folder. Displays as text; set `list_tensors` for a line per tensor.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// What was inspected.
    pub path: PathBuf,
    /// Its kind.
    pub format: ModelFormat,
    /// The parts with tensors, by name.
    pub parts: Vec<PartReport>,
    /// The configuration, or why there is none.
    pub config: Result<ModelConfig, Arc<CheckpointError>>,
    /// The model's identity, where there is a configuration.
    pub hash: Option<String>,
    /// Lightning's hyper-parameters, where the file has them.
    pub hyper_parameters: Option<Value>,
    /// Keys of the outermost dict of a PyTorch checkpoint.
    pub top_level_keys: Vec<String>,
    /// What a person should know of the file.
    pub notes: Vec<Note>,
    /// Whether [`fmt::Display`] lists every tensor.
    pub list_tensors: bool,
}

/// The tensors of one part.
#[derive(Debug, Clone)]
pub struct PartReport {
    /// `unet`, `unet (averaged)`, `vae`, … or the first word of the tensors' names.
    pub name: String,
    /// Number of elements.
    pub parameters: usize,
    /// Size in the file.
    pub bytes: usize,
    /// Tensors per element type.
    pub dtypes: BTreeMap<&'static str, usize>,
    /// Name, type and shape of each tensor.
    pub tensors: Vec<(String, DType, Vec<usize>)>,
}

impl PartReport {
    fn new(name: impl Into<String>, tensors: &TensorMap) -> Self {
        let mut dtypes = BTreeMap::new();
        for tensor in tensors.values() {
            *dtypes.entry(tensor.dtype().name()).or_insert(0) += 1;
        }
        Self {
            name: name.into(),
            parameters: tensors.values().map(|tensor| tensor.len()).sum(),
            bytes: tensors.values().map(|tensor| tensor.bytes().len()).sum(),
            dtypes,
            tensors: tensors
                .iter()
                .map(|(name, tensor)| (name.clone(), tensor.dtype(), tensor.shape().to_vec()))
                .collect(),
        }
    }
}

/// Reports on a model folder, safetensors file or PyTorch checkpoint, also where it is no complete model.
///
/// # Errors
/// If nothing can be read at all.
pub fn inspect(path: impl AsRef<Path>, facts: &Facts) -> Result<Inspection, CheckpointError> {
    let path = path.as_ref();
    if path.is_dir() {
        let (model, hash) = folder::load(path)?;
        let parts = [("unet", &model.unet), ("vae", &model.vae)];
        let parts = parts.into_iter().filter(|(_, tensors)| !tensors.is_empty());
        return Ok(Inspection {
            path: path.to_owned(),
            format: ModelFormat::Folder,
            parts: parts
                .map(|(name, tensors)| PartReport::new(name, tensors))
                .collect(),
            config: Ok(model.config.clone()),
            hash: Some(hash),
            hyper_parameters: None,
            top_level_keys: Vec::new(),
            notes: Vec::new(),
            list_tensors: false,
        });
    }
    let raw = read_file(path).map_err(|problem| problem.at(path))?;
    let mut notes = raw.notes;
    let (config, hash) = match Model::open_with(path, facts) {
        Ok(model) => {
            notes = model.source.notes;
            (Ok(model.config), Some(model.hash))
        }
        Err(error) => {
            notes.extend(unreadable(&raw.state));
            (Err(Arc::new(error)), None)
        }
    };
    Ok(Inspection {
        path: path.to_owned(),
        format: raw.format,
        parts: parts_by_prefix(&raw.state.tensors),
        config,
        hash,
        hyper_parameters: raw.hyper_parameters,
        top_level_keys: raw.top_level_keys,
        notes,
        list_tensors: false,
    })
}

/// The note on the tensors of a file that cannot be read.
fn unreadable(state: &StateDict) -> Option<Note> {
    let (name, why) = state.unreadable.first_key_value()?;
    Some(Note::Unreadable {
        tensors: state.unreadable.len(),
        first: (name.clone(), why.clone()),
    })
}

/// Groups tensors by the first word of their names behind what wrappers put there; the names stay those of the file.
fn parts_by_prefix(state: &TensorMap) -> Vec<PartReport> {
    let mut groups: BTreeMap<String, TensorMap> = BTreeMap::new();
    for (name, tensor) in state {
        let bare = unwrapped(name);
        let group = bare.split('.').next().unwrap_or(&bare).to_owned();
        groups
            .entry(group)
            .or_default()
            .insert(name.clone(), tensor.clone());
    }
    groups
        .into_iter()
        .map(|(name, tensors)| PartReport::new(name, &tensors))
        .collect()
}

impl Inspection {
    /// Shapes of all tensors, for tools.
    pub fn shapes(&self) -> Shapes {
        let tensors = self.parts.iter().flat_map(|part| &part.tensors);
        tensors
            .map(|(name, _, shape)| (name.clone(), shape.clone()))
            .collect()
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.path.display())?;
        writeln!(f, "  format      {}", self.format)?;
        if let Some(hash) = &self.hash {
            writeln!(f, "  hash        {hash}")?;
        }
        if !self.top_level_keys.is_empty() {
            writeln!(f, "  keys        {}", self.top_level_keys.join(", "))?;
        }
        for note in &self.notes {
            writeln!(f, "  note        {note}")?;
        }
        writeln!(f, "\nparts")?;
        let width = self.parts.iter().map(|p| p.name.len()).max().unwrap_or(0);
        for part in &self.parts {
            let dtypes: Vec<&str> = part.dtypes.keys().copied().collect();
            writeln!(
                f,
                "  {:width$}  {:>5} tensors  {:>13} parameters  {:>9}  {}",
                part.name,
                part.tensors.len(),
                grouped(part.parameters),
                readable(part.bytes),
                dtypes.join(", ")
            )?;
        }
        match &self.config {
            Ok(config) => {
                writeln!(f, "\nconfiguration")?;
                let mut config = config.clone();
                shorten_betas(&mut config);
                let text = serde_json::to_string_pretty(&config).map_err(|_| fmt::Error)?;
                for line in text.lines() {
                    writeln!(f, "  {line}")?;
                }
            }
            Err(why) => writeln!(f, "\nno configuration: {}", why.problem)?,
        }
        if let (Some(hyper), Err(_)) = (&self.hyper_parameters, &self.config) {
            writeln!(f, "\nhyper-parameters")?;
            let text = serde_json::to_string_pretty(hyper).map_err(|_| fmt::Error)?;
            for line in text.lines() {
                writeln!(f, "  {line}")?;
            }
        }
        if self.list_tensors {
            for part in &self.parts {
                writeln!(f, "\n{}", part.name)?;
                let width = part.tensors.iter().map(|t| t.0.len()).max().unwrap_or(0);
                for (name, dtype, shape) in &part.tensors {
                    writeln!(
                        f,
                        "  {name:width$}  {dtype:4}  {shape:?}",
                        dtype = dtype.name()
                    )?;
                }
            }
        }
        Ok(())
    }
}

/// A thousand betas are not for reading.
fn shorten_betas(config: &mut ModelConfig) {
    use crate::diffusion::BetaSchedule;
    if let Some(noise) = &mut config.noise
        && let BetaSchedule::Given { betas } = &mut noise.betas
    {
        betas.truncate(4);
    }
}

/// `194 352 904`
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// What a conversion wrote.
#[derive(Debug, Clone)]
pub struct Converted {
    /// The model as read.
    pub source: Model,
    /// The model folder.
    pub output: PathBuf,
    /// The hash of the model as written.
    pub hash: String,
    /// Bytes in the model folder's tensor files.
    pub bytes: usize,
}

/// Reads any model and writes it as a model folder, rounded to `dtype` if one is given.
///
/// # Errors
/// As [`Model::open_with`] and [`save_folder`].
pub fn convert(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    facts: &Facts,
    dtype: Option<DType>,
) -> Result<Converted, CheckpointError> {
    let source = Model::open_with(input, facts)?;
    let hash = save_folder(&output, &source.to_model(), dtype)?;
    let tensors = source.unet.values().chain(source.vae.values());
    let bytes = tensors
        .map(|tensor| tensor.len() * dtype.unwrap_or(tensor.dtype()).size_bytes())
        .sum();
    Ok(Converted {
        source,
        output: output.as_ref().to_owned(),
        hash,
        bytes,
    })
}
