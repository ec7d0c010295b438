//! The index of a data set: which images there are, their classes and splits.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::{DataError, DataProblem};
use super::pixels::{ImageArray, Pixels};
use super::split::Split;

/// How a data set lies on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataFormat {
    /// Decided by what is there.
    #[default]
    Auto,
    /// `class/*.png|jpg|jpeg|tif|tiff|bmp`, possibly below `train/`, `val/`, `test/`; images directly in the folder
    /// form one class.
    Folder,
    /// `{train,val,test}_{images,labels}` in one `.npz` file.
    Medmnist,
    /// `train_labels.csv` (`challenge_id,class`) and images named after the id.
    Airogs,
    /// `train.csv` (and `valid.csv`) over `CheXpert-v1.0/train/patientN/studyN/viewN_frontal.jpg`.
    Chexpert,
    /// Class folders `MSIH` and `nonMSIH`.
    Crcdx,
}

impl DataFormat {
    /// The name as written in run files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            DataFormat::Auto => "auto",
            DataFormat::Folder => "folder",
            DataFormat::Medmnist => "medmnist",
            DataFormat::Airogs => "airogs",
            DataFormat::Chexpert => "chexpert",
            DataFormat::Crcdx => "crcdx",
        }
    }
}

/// What a finding that is uncertain (-1) or not mentioned (empty) counts as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownPolicy {
    /// As in the Medfusion paper.
    #[default]
    Negative,
    /// The class of the finding.
    Positive,
    /// The image is left out.
    Skip,
}

/// What to do when labels and images disagree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnMismatch {
    /// Stop, naming the first problems.
    #[default]
    Fail,
    /// Leave the samples concerned out, with a warning each.
    Skip,
}

/// How [`Dataset::open`] reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Layout to read the set as.
    pub format: DataFormat,
    /// CheXpert: the column that becomes the class.
    pub finding: String,
    /// CheXpert: what uncertain and empty findings count as.
    pub unknown: UnknownPolicy,
    /// What to do when labels and images disagree.
    pub on_mismatch: OnMismatch,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            format: DataFormat::Auto,
            finding: "Cardiomegaly".to_owned(),
            unknown: UnknownPolicy::Negative,
            on_mismatch: OnMismatch::Fail,
        }
    }
}

/// Where the pixels of a sample are.
#[derive(Clone, Debug)]
pub enum PixelSource {
    /// An image file.
    File(PathBuf),
    /// Image `index` of an array in memory.
    Array {
        /// The images of one split.
        array: Arc<ImageArray>,
        /// Index of this image in `array`.
        index: usize,
    },
}

/// One image of a data set.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Unique within the set: the path below the root without its extension, or `split/number`.
    pub id: String,
    /// Where its pixels are.
    pub source: PixelSource,
    /// Index into [`Dataset::classes`].
    pub class: usize,
    /// `None` where the set is not split.
    pub split: Option<Split>,
}

/// The index of a data set: samples in a fixed order (by split, class and name) and the names of their classes.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub(super) root: PathBuf,
    pub(super) format: DataFormat,
    pub(super) classes: Vec<String>,
    pub(super) samples: Vec<Sample>,
    pub(super) problems: Vec<DataProblem>,
    pub(super) notes: Vec<String>,
}

impl Dataset {
    /// Where the set was opened.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The layout it was read as; never [`DataFormat::Auto`].
    pub fn format(&self) -> DataFormat {
        self.format
    }

    /// Class names by index.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The samples.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Disagreements between labels and images; their samples are not in the set.
    pub fn problems(&self) -> &[DataProblem] {
        &self.problems
    }

    /// What a reader left out on purpose, in words (lateral views, unknown findings, other files).
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// True if there is no sample.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The splits that occur; empty where the set is not split.
    pub fn splits(&self) -> Vec<Split> {
        let found: BTreeSet<Split> = self.samples.iter().filter_map(|s| s.split).collect();
        found.into_iter().collect()
    }

    /// Number of samples of each class.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for sample in &self.samples {
            counts[sample.class] += 1;
        }
        counts
    }

    /// The samples of one split. A set that is not split is returned whole, whatever is asked for.
    ///
    /// # Errors
    /// If the set is split but not into this one.
    pub fn select(&self, split: Split) -> Result<Dataset, DataError> {
        let splits = self.splits();
        let mut set = self.clone();
        if splits.is_empty() {
            return Ok(set);
        }
        if !splits.contains(&split) {
            let found: Vec<&str> = splits.iter().map(|s| s.name()).collect();
            return Err(DataError::Empty {
                path: self.root.clone(),
                what: format!("{split} split, only {}", found.join(" and ")),
            });
        }
        set.samples.retain(|s| s.split == Some(split));
        Ok(set)
    }

    /// Reads and decodes the pixels of sample `index`.
    ///
    /// # Errors
    /// If the image is missing or corrupt.
    ///
    /// # Panics
    /// If `index` is not below [`Dataset::len`].
    pub fn pixels(&self, index: usize) -> Result<Pixels, DataError> {
        let sample = &self.samples[index];
        match &sample.source {
            PixelSource::Array { array, index } => Ok(array.image(*index)),
            PixelSource::File(path) => Pixels::read(path),
        }
    }

    /// A hash that changes with the samples, their labels or their files (size and modification time; for arrays the
    /// pixels): the key under which anything computed from the set may be kept.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut last_array: Option<*const ImageArray> = None;
        for class in &self.classes {
            hasher.update(class.as_bytes()).update(&[0]);
        }
        for sample in &self.samples {
            hasher.update(sample.id.as_bytes()).update(&[0]);
            hasher.update(&(sample.class as u64).to_le_bytes());
            match &sample.source {
                PixelSource::File(path) => {
                    if let Ok(meta) = path.metadata() {
                        hasher.update(&meta.len().to_le_bytes());
                        let modified = meta
                            .modified()
                            .ok()
                            .and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
                        hasher.update(&modified.map_or(0, |d| d.as_nanos()).to_le_bytes());
                    }
                }
                PixelSource::Array { array, .. } => {
                    // Samples of one array follow each other, so each array is hashed about once.
                    if last_array != Some(Arc::as_ptr(array)) {
                        last_array = Some(Arc::as_ptr(array));
                        array.hash(&mut hasher);
                    }
                }
            }
        }
        hasher.finalize().to_hex().to_string()
    }
}
