//! A trained classifier in a folder, and how well it tells the images of a labelled set apart.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::scores::Scores;
use crate::checkpoint::{CheckpointError, read_safetensors, write_safetensors};
use crate::data::{DataError, Dataset, Loader, LoaderOptions, Position, Transform};
use crate::device::{Device, DeviceError};
use crate::files::write_bytes_atomically;
use crate::graph::{Graph, GraphError};
use crate::model::{ClassifierConfig, build_classifier};
use crate::tensor::{DType, TensorMap};

/// The files of a classifier's folder.
const JSON: &str = "classifier.json";
const WEIGHTS: &str = "classifier.safetensors";
/// The version that [`ClassifierFile::format`] states.
const FORMAT: u32 = 1;

/// Why a classifier cannot be opened, written or measured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClassifierError {
    /// The operating system said no, or the JSON is none.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as in "cannot read".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// `classifier.json` is of another version, or does not name each class.
    #[error(
        "`{}`: format {format} with {classes} classes and {names} names, expected format {FORMAT} and a name for \
         each class",
        path.display()
    )]
    File {
        /// The file.
        path: PathBuf,
        /// The format that it states.
        format: u32,
        /// Classes of its network.
        classes: usize,
        /// Names that it lists.
        names: usize,
    },
    /// The images have other classes than the classifier.
    #[error(
        "the classifier knows the classes {known:?}, `{}` has {found:?}: expected the same",
        path.display()
    )]
    Classes {
        /// The data set.
        path: PathBuf,
        /// The classifier's classes.
        known: Vec<String>,
        /// The set's classes.
        found: Vec<String>,
    },
    /// No image of the set can be read.
    #[error("`{}` holds no readable image", .0.display())]
    NoImage(PathBuf),
    /// The weights cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The images cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The network does not take images of that size.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl ClassifierError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// The content of `classifier.json`, beside `classifier.safetensors`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassifierFile {
    /// Format version, 1 so far.
    pub format: u32,
    /// The architecture.
    pub network: ClassifierConfig,
    /// Height and width of the images.
    pub image_size: [usize; 2],
    /// Names of the classes by index.
    pub class_names: Vec<String>,
}

/// A trained classifier, ready to be measured on labelled images.
#[derive(Clone, Debug)]
pub struct Classifier {
    file: ClassifierFile,
    weights: TensorMap,
}

impl Classifier {
    /// Images per pass when measuring.
    pub const BATCH: usize = 32;

    /// A classifier of images of `image_size` (height, width) with its weights.
    pub fn new(
        network: ClassifierConfig,
        image_size: [usize; 2],
        class_names: Vec<String>,
        weights: TensorMap,
    ) -> Self {
        let file = ClassifierFile {
            format: FORMAT,
            network,
            image_size,
            class_names,
        };
        Self { file, weights }
    }

    /// Opens a folder that a run exported.
    ///
    /// # Errors
    /// If a file is missing, is not what it should be, or the weights do not fit the network.
    pub fn open(folder: &Path) -> Result<Self, ClassifierError> {
        let path = folder.join(JSON);
        let text = std::fs::read(&path).map_err(ClassifierError::io("read", &path))?;
        let file: ClassifierFile = serde_json::from_slice(&text)
            .map_err(|error| ClassifierError::io("read", &path)(error.into()))?;
        if file.format != FORMAT || file.network.classes != file.class_names.len() {
            return Err(ClassifierError::File {
                path,
                format: file.format,
                classes: file.network.classes,
                names: file.class_names.len(),
            });
        }
        let weights = read_safetensors(folder.join(WEIGHTS))?.tensors;
        Ok(Self { file, weights })
    }

    /// Writes the folder that [`Classifier::open`] reads.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn save(&self, folder: &Path) -> Result<(), ClassifierError> {
        std::fs::create_dir_all(folder).map_err(ClassifierError::io("make", folder))?;
        write_safetensors(folder.join(WEIGHTS), &self.weights, &BTreeMap::new())?;
        let path = folder.join(JSON);
        let json = serde_json::to_vec_pretty(&self.file)
            .map_err(|error| ClassifierError::io("write", &path)(error.into()))?;
        write_bytes_atomically(&path, &json).map_err(ClassifierError::io("write", &path))
    }

    /// Names of the classes by index.
    pub fn class_names(&self) -> &[String] {
        &self.file.class_names
    }

    /// How well it tells the images of a labelled set apart. Unreadable images are left out with a warning.
    ///
    /// # Errors
    /// If the set has other classes or no readable image, or the weights do not fit the network.
    pub fn score(&self, set: &Dataset, device: &Device) -> Result<Scores, ClassifierError> {
        if set.classes() != self.class_names() {
            return Err(ClassifierError::Classes {
                path: set.root().to_owned(),
                known: self.class_names().to_vec(),
                found: set.classes().to_vec(),
            });
        }
        let transform = Transform::new(self.file.image_size, self.file.network.in_channels)?;
        let options = LoaderOptions::one_pass(Self::BATCH, transform);
        self.measure(Arc::new(set.clone()), options, device)?
            .ok_or_else(|| ClassifierError::NoImage(set.root().to_owned()))
    }

    /// As [`Classifier::score`], on batches of at most [`Classifier::BATCH`] that are loaded as `options` say; `None`
    /// where nothing could be read. Whether the set has the classifier's classes is not checked.
    ///
    /// # Errors
    /// If images cannot be read or the weights do not fit the network.
    pub fn measure(
        &self,
        set: Arc<Dataset>,
        options: LoaderOptions,
        device: &Device,
    ) -> Result<Option<Scores>, ClassifierError> {
        let classes = self.file.class_names.len();
        let graph = self.logits_graph()?;
        let mut executable = device.load(device.compile(&graph), &self.weights)?;
        let len = options.transform.len();
        let (mut all, mut labels) = (Vec::new(), Vec::new());
        for batch in Loader::new(set, options, Position::default())? {
            let batch = batch?;
            let mut images = batch.images;
            images.resize(Self::BATCH * len, 0.0);
            executable.write("images", &images)?;
            executable.run()?;
            let logits = executable.output("logits")?;
            all.extend_from_slice(&logits[..batch.labels.len() * classes]);
            labels.extend(batch.labels.iter().map(|&label| label as i32));
        }
        Ok((!labels.is_empty()).then(|| Scores::new(&all, &labels, classes)))
    }

    /// Input `images` `[BATCH, H, W, C]`, output `logits` `[BATCH, classes]`.
    fn logits_graph(&self) -> Result<Graph, GraphError> {
        let ClassifierFile {
            network,
            image_size: [height, width],
            ..
        } = &self.file;
        let mut graph = Graph::new();
        let shape = [Self::BATCH, *height, *width, network.in_channels];
        let images = graph.input("images", shape, DType::F32)?;
        let logits = build_classifier(&mut graph, network, images)?;
        graph.output("logits", logits);
        Ok(graph)
    }
}
