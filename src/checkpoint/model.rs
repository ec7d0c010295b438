//! A model in memory, and its classes.

use std::fmt;
use std::path::PathBuf;

use serde_json::Value;
use thiserror::Error;

use super::config::ModelConfig;
use super::folder::StoredModel;
use super::notes::Note;
use super::torch::TorchFormat;
use crate::tensor::TensorMap;

/// A model, ready to be built: its tensors are exactly those its configuration needs, all finite.
#[derive(Clone, Debug)]
pub struct Model {
    /// The architecture and everything around it.
    pub config: ModelConfig,
    /// Parameters of the noise estimator; empty where `config.unet` is `None`.
    pub unet: TensorMap,
    /// Parameters of the autoencoder; empty where `config.vae` is `None`.
    pub vae: TensorMap,
    /// Where it came from.
    pub source: ModelSource,
    /// The model's identity: 16 hex digits over configuration and tensors.
    pub hash: String,
    classes: Vec<String>,
}

/// What kind of thing holds a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelFormat {
    /// The project's own folder.
    Folder,
    /// One safetensors file.
    Safetensors,
    /// A PyTorch checkpoint.
    Torch(TorchFormat),
}

impl fmt::Display for ModelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelFormat::Folder => f.write_str("model folder"),
            ModelFormat::Safetensors => f.write_str("safetensors file"),
            ModelFormat::Torch(format) => format.fmt(f),
        }
    }
}

/// Where a model came from.
#[derive(Clone, Debug)]
pub struct ModelSource {
    /// The file or folder.
    pub path: PathBuf,
    /// Its kind.
    pub format: ModelFormat,
    /// True if the UNet's weights are the averaged ones of a training checkpoint.
    pub ema: bool,
    /// Lightning's hyper-parameters, where the file has them.
    pub hyper_parameters: Option<Value>,
    /// What a person should know of the file, such as what was left out.
    pub notes: Vec<Note>,
}

impl Model {
    /// `model` with its hash, as it came from `source`.
    pub(super) fn new(model: StoredModel, hash: String, source: ModelSource) -> Self {
        Self {
            classes: classes_of(&model.config),
            hash,
            config: model.config,
            unet: model.unet,
            vae: model.vae,
            source,
        }
    }

    /// A model that was never in a file: `origin` stands for its path in messages. Its tensors are taken as they are.
    pub fn in_memory(model: StoredModel, origin: &str) -> Self {
        let source = ModelSource {
            path: origin.into(),
            format: ModelFormat::Folder,
            ema: false,
            hyper_parameters: None,
            notes: Vec::new(),
        };
        Self::new(model.clone(), model.hash(), source)
    }

    /// Configuration and tensors, as [`super::save_folder`] takes them. Tensors are shared, not copied.
    pub fn to_model(&self) -> StoredModel {
        StoredModel {
            config: self.config.clone(),
            unet: self.unet.clone(),
            vae: self.vae.clone(),
        }
    }

    /// The classes that images can be made of, by index: their names, or `0`, `1`, … where the model names none. Empty
    /// for an unconditional model.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The index of a class.
    ///
    /// # Errors
    /// If the model has no such class.
    pub fn class_index(&self, class: &Class) -> Result<usize, UnknownClass> {
        let index = match class {
            Class::Index(index) => Some(*index),
            // A number is an index, unless a class is called so.
            Class::Name(name) => {
                let named = self.classes.iter().position(|known| known == name);
                named.or_else(|| name.parse().ok())
            }
        };
        index
            .filter(|&index| index < self.classes.len())
            .ok_or_else(|| UnknownClass {
                asked: class.clone(),
                known: self.classes.clone(),
            })
    }
}

fn classes_of(config: &ModelConfig) -> Vec<String> {
    match config.unet.as_ref().map(|unet| unet.num_classes) {
        Some(None) => Vec::new(),
        Some(Some(count)) if config.class_names.is_empty() => {
            (0..count).map(|index| index.to_string()).collect()
        }
        _ => config.class_names.clone(),
    }
}

/// A class of a model, as a caller asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// By name; a number that no class is called by is an index.
    Name(String),
    /// By index.
    Index(usize),
}

impl From<usize> for Class {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl From<&str> for Class {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<String> for Class {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl From<&String> for Class {
    fn from(name: &String) -> Self {
        Self::Name(name.clone())
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Index(index) => index.fmt(f),
        }
    }
}

/// A class that the model does not have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct UnknownClass {
    /// What was asked for.
    pub asked: Class,
    /// The model's classes by index, see [`Model::classes`]; never empty.
    pub known: Vec<String>,
}

impl fmt::Display for UnknownClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (asked, count) = (&self.asked, self.known.len());
        write!(
            f,
            "no class {asked}: the model has {count} classes, 0 to {}",
            count.saturating_sub(1)
        )?;
        let is_named = (0..count).any(|index| self.known[index] != index.to_string());
        match is_named {
            true => write!(f, ": {}", self.known.join(", ")),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(names: &[&str]) -> Model {
        let mut config = ModelConfig::published(3);
        config.class_names = names.iter().map(|&name| name.to_owned()).collect();
        let stored = StoredModel {
            config,
            unet: TensorMap::new(),
            vae: TensorMap::new(),
        };
        Model::in_memory(stored, "a test")
    }

    #[test]
    fn a_class_is_its_name_or_its_index() {
        let named = model(&["2", "rbc", "wbc"]);
        let index = |model: &Model, class: Class| model.class_index(&class);
        assert_eq!(index(&named, "rbc".into()), Ok(1));
        assert_eq!(index(&named, 2.into()), Ok(2));
        // Names come first.
        assert_eq!(index(&named, "2".into()), Ok(0));
        assert_eq!(index(&named, "1".into()), Ok(1));
        let error = index(&named, "neutrophil".into()).unwrap_err();
        assert_eq!(error.known, ["2", "rbc", "wbc"]);
        assert_eq!(
            error.to_string(),
            "no class neutrophil: the model has 3 classes, 0 to 2: 2, rbc, wbc"
        );
        let unnamed = model(&[]);
        assert_eq!(unnamed.classes(), ["0", "1", "2"]);
        assert_eq!(index(&unnamed, "1".into()), Ok(1));
        assert_eq!(
            index(&unnamed, 3.into()).unwrap_err().to_string(),
            "no class 3: the model has 3 classes, 0 to 2"
        );
    }
}
