//! The index of a data set: which images there are, their classes and splits.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::array::ImageArray;
use super::decode::{DecodedImage, ValueRange, decode};
use super::error::{DataError, DataProblem};
use super::left_out::LeftOutByReason;
use super::pixels::Pixels;
use super::split::Split;

/// How a data set lies on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataFormat {
    /// Decided by what is there.
    #[default]
    Auto,
    /// A folder per class, possibly below `train/`, `val/`, `test/`; images directly in the folder form one class.
    Folder,
    /// Images in any folders, and a table that names the file and the label of each.
    Labels,
    /// Arrays of images and labels in one `.npz` file, such as `train_images` and `train_labels`.
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
            DataFormat::Labels => "labels",
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

/// Names of the columns of a table of labels; those that are not given are told by the names that people use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelColumns {
    /// Path or name of an image.
    pub file: Option<String>,
    /// Its class.
    pub label: Option<String>,
    /// Its split: train, val or test.
    pub split: Option<String>,
    /// Whose image it is.
    pub patient: Option<String>,
}

/// How [`Dataset::open`] reads.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenOptions {
    /// Layout to read the set as.
    pub format: DataFormat,
    /// Glob patterns of the images to take; none: all but the masks of others.
    pub include: Vec<String>,
    /// Glob patterns of images to leave out.
    pub exclude: Vec<String>,
    /// The table of labels, below the root or anywhere; `None`: told by its columns.
    pub labels: Option<PathBuf>,
    /// Names of the columns of a table of labels.
    pub columns: LabelColumns,
    /// Which stored values are black and white.
    pub black_white: ValueRange,
    /// CheXpert: the column that becomes the class.
    pub finding: String,
    /// CheXpert: what a finding that is uncertain (-1) counts as.
    pub uncertain: UnknownPolicy,
    /// CheXpert: what a finding that is not mentioned (empty) counts as.
    pub not_mentioned: UnknownPolicy,
    /// What to do when labels and images disagree.
    pub on_mismatch: OnMismatch,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            format: DataFormat::Auto,
            include: Vec::new(),
            exclude: Vec::new(),
            labels: None,
            columns: LabelColumns::default(),
            black_white: ValueRange::Stored,
            finding: "Cardiomegaly".to_owned(),
            uncertain: UnknownPolicy::Negative,
            not_mentioned: UnknownPolicy::Negative,
            on_mismatch: OnMismatch::Fail,
        }
    }
}

/// Where the pixels of a sample are.
#[derive(Clone, Debug)]
pub enum PixelSource {
    /// An image file.
    File {
        /// The file.
        path: PathBuf,
        /// Page or frame of the file, from 0.
        frame: usize,
    },
    /// An image of an array.
    Array {
        /// The images of one split.
        array: Arc<ImageArray>,
        /// Index of this image in `array`.
        index: usize,
    },
}

impl PixelSource {
    /// The first image of a file.
    pub(super) fn file(path: PathBuf) -> Self {
        Self::File { path, frame: 0 }
    }
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
    /// Whose image it is, where the set says that: images of one patient belong on one side of a split.
    pub group: Option<String>,
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
    pub(super) left_out: LeftOutByReason,
    pub(super) black_white: ValueRange,
}

impl Dataset {
    /// A set without samples, for readers to fill.
    pub(super) fn empty(root: &Path, format: DataFormat) -> Self {
        Self {
            root: root.to_owned(),
            format,
            classes: Vec::new(),
            samples: Vec::new(),
            problems: Vec::new(),
            notes: Vec::new(),
            left_out: LeftOutByReason::default(),
            black_white: ValueRange::Stored,
        }
    }

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

    /// What a reader decided, in words (lateral views left out, unknown findings, where labels are from).
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Files below the root that are not in the set, by reason.
    pub fn left_out(&self) -> &LeftOutByReason {
        &self.left_out
    }

    /// Which stored values are black and white.
    pub fn black_white(&self) -> ValueRange {
        self.black_white
    }

    /// The split that is never trained on when `train` is: test, or else val.
    pub fn held_out_split(&self, train: Split) -> Option<Split> {
        let splits = self.splits();
        [Split::Test, Split::Val]
            .into_iter()
            .find(|split| *split != train && splits.contains(split))
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
        Ok(self.decode(index)?.pixels)
    }

    /// As [`Dataset::pixels`], with what the decoder saw of the image as it is stored.
    ///
    /// # Errors
    /// As [`Dataset::pixels`].
    ///
    /// # Panics
    /// As [`Dataset::pixels`].
    pub fn decode(&self, index: usize) -> Result<DecodedImage, DataError> {
        let sample = &self.samples[index];
        let (id, decoded) = match &sample.source {
            PixelSource::Array { array, index } => {
                (sample.id.clone(), array.decode(*index, self.black_white))
            }
            PixelSource::File { path, frame } => {
                let decoded = fs::read(path)
                    .map_err(|e| e.to_string())
                    .and_then(|bytes| decode(&bytes, *frame, self.black_white));
                (path.display().to_string(), decoded)
            }
        };
        decoded.map_err(|reason| DataError::Corrupt { id, reason })
    }

    /// A hash of the samples, their labels and the bytes of their files or arrays: the key under which anything computed
    /// from the set may be kept. Copying the set elsewhere does not change it. Reads every file once, on all threads.
    pub fn fingerprint(&self) -> String {
        let files: Vec<[u8; 32]> = self
            .samples
            .par_iter()
            .map(|sample| match &sample.source {
                PixelSource::File { path, frame: 0 } => hash_of_file(path),
                _ => [0; 32],
            })
            .collect();
        let mut hasher = blake3::Hasher::new();
        let mut last_array: Option<*const ImageArray> = None;
        for class in &self.classes {
            hasher.update(class.as_bytes()).update(&[0]);
        }
        hasher.update(format!("{:?}", self.black_white).as_bytes());
        for (sample, hash) in self.samples.iter().zip(files) {
            hasher.update(sample.id.as_bytes()).update(&[0]);
            hasher.update(&(sample.class as u64).to_le_bytes());
            hasher.update(&hash);
            if let PixelSource::Array { array, .. } = &sample.source {
                // Samples of one array follow each other, so each array is hashed about once.
                if last_array != Some(Arc::as_ptr(array)) {
                    last_array = Some(Arc::as_ptr(array));
                    array.hash(&mut hasher);
                }
            }
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// A hash of the bytes of a file; zeros where it cannot be read, which whoever decodes it will say.
fn hash_of_file(path: &Path) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let read = fs::File::open(path).and_then(|file| hasher.update_reader(file).map(|_| ()));
    match read {
        Ok(()) => *hasher.finalize().as_bytes(),
        Err(_) => [0; 32],
    }
}
