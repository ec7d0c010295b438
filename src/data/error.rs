//! What can be wrong with a data set.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::split::Split;

/// A failure to open, read or decode a data set.
#[derive(Debug, Error)]
pub enum DataError {
    /// The operating system refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as in "cannot read".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The path holds nothing that any reader knows.
    #[error(
        "`{}` is not a data set: expected class folders with images, images with a table of labels, a MedMNIST .npz or \
         CheXpert's train.csv; found {found}",
        path.display()
    )]
    Unrecognised {
        /// What was opened.
        path: PathBuf,
        /// What is there instead, in words.
        found: String,
    },
    /// A label file or array does not have the form its format asks for.
    #[error("`{}`{}: {message}", path.display(), line.map(|l| format!(", line {l}")).unwrap_or_default())]
    Malformed {
        /// The label file or array file.
        path: PathBuf,
        /// Line of a label file, from 1; `None` for arrays.
        line: Option<u64>,
        /// What was expected and what was found.
        message: String,
    },
    /// The labels and the images disagree.
    #[error("`{}`: {}", path.display(), summary(problems))]
    Inconsistent {
        /// The data set.
        path: PathBuf,
        /// Every disagreement found; at least one.
        problems: Vec<DataProblem>,
    },
    /// An image cannot be decoded.
    #[error("cannot read the image `{id}`: {reason}")]
    Corrupt {
        /// Id of the sample, or the path of its file.
        id: String,
        /// The decoder's reason, in words.
        reason: String,
    },
    /// No image of a class can be decoded, so that nothing could be learned about it.
    #[error(
        "none of the {count} images of class `{class}` in `{}` can be read; the last error: {last}",
        path.display()
    )]
    ClassLost {
        /// The data set.
        path: PathBuf,
        /// The class.
        class: String,
        /// Number of its images.
        count: usize,
        /// Why the last of them cannot be read.
        last: String,
    },
    /// There is nothing to load.
    #[error("`{}` holds no {what}", path.display())]
    Empty {
        /// The data set.
        path: PathBuf,
        /// What it lacks, behind "holds no".
        what: String,
    },
    /// Options that contradict each other or the data.
    #[error("{0}")]
    Options(String),
}

impl DataError {
    /// Adapter for `map_err` around file operations.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataError {
        let path = path.to_owned();
        move |source| DataError::Io {
            action,
            path,
            source,
        }
    }

    pub(crate) fn malformed(path: &Path, line: Option<u64>, message: impl Into<String>) -> Self {
        DataError::Malformed {
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }
}

/// One disagreement inside a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataProblem {
    /// A class without a single image, in the named split or in the whole set.
    EmptyClass {
        /// Name of the class.
        class: String,
        /// The split without images; `None` for the whole set.
        split: Option<Split>,
    },
    /// A label whose image does not exist.
    MissingImage {
        /// Id as written in the label file.
        id: String,
        /// Line of the label file, from 1.
        line: u64,
    },
    /// An image that no label or class folder covers.
    Unlabelled {
        /// The image file.
        path: PathBuf,
    },
    /// A label that is none of the known classes.
    UnknownClass {
        /// Id as written in the label file.
        id: String,
        /// The label found.
        class: String,
        /// Line of the label file, from 1.
        line: u64,
        /// The known classes, in words.
        known: String,
    },
    /// A row without a label.
    NoLabel {
        /// Id as written in the label file.
        id: String,
        /// Line of the label file, from 1.
        line: u64,
    },
    /// A split that is none of train, val and test.
    UnknownSplit {
        /// Id as written in the label file.
        id: String,
        /// The split found.
        split: String,
        /// Line of the label file, from 1.
        line: u64,
    },
    /// An identifier that occurs twice.
    DuplicateId {
        /// The identifier.
        id: String,
        /// Where it occurs: lines of the label file or paths, in words.
        places: String,
    },
}

impl DataProblem {
    /// Line of the label file where it has one of its own.
    pub(super) fn line(&self) -> Option<u64> {
        match self {
            Self::MissingImage { line, .. }
            | Self::UnknownClass { line, .. }
            | Self::NoLabel { line, .. }
            | Self::UnknownSplit { line, .. } => Some(*line),
            _ => None,
        }
    }
}

impl fmt::Display for DataProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataProblem::EmptyClass { class, split: None } => {
                write!(f, "class `{class}` has no image")
            }
            DataProblem::EmptyClass {
                class,
                split: Some(split),
            } => write!(f, "class `{class}` has no image in the {split} split"),
            DataProblem::MissingImage { id, line } => {
                write!(f, "the image of `{id}` (line {line}) does not exist")
            }
            DataProblem::Unlabelled { path } => write!(f, "`{}` has no label", path.display()),
            DataProblem::UnknownClass {
                id,
                class,
                line,
                known,
            } => {
                write!(
                    f,
                    "`{id}` (line {line}) has the label `{class}`, expected {known}"
                )
            }
            DataProblem::NoLabel { id, line } => write!(f, "`{id}` (line {line}) has no label"),
            DataProblem::UnknownSplit { id, split, line } => write!(
                f,
                "`{id}` (line {line}) is in the split `{split}`, expected train, val or test"
            ),
            DataProblem::DuplicateId { id, places } => write!(f, "`{id}` occurs twice ({places})"),
        }
    }
}

/// The first problems in words and the number of the others.
fn summary(problems: &[DataProblem]) -> String {
    const NAMED: usize = 4;
    let named: Vec<String> = problems
        .iter()
        .take(NAMED)
        .map(DataProblem::to_string)
        .collect();
    let mut text = named.join("; ");
    if problems.len() > NAMED {
        text += &format!("; and {} more problems", problems.len() - NAMED);
    }
    text
}
