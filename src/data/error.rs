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
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The path holds nothing that any reader knows.
    #[error(
        "`{}` is not a data set: expected class folders with images, a MedMNIST .npz, AIROGS' train_labels.csv or \
         CheXpert's train.csv; found {found}",
        path.display()
    )]
    Unrecognised { path: PathBuf, found: String },
    /// A label file or array does not have the form its format asks for.
    #[error("`{}`{}: {message}", path.display(), line.map(|l| format!(", line {l}")).unwrap_or_default())]
    Malformed {
        path: PathBuf,
        line: Option<u64>,
        message: String,
    },
    /// The labels and the images disagree.
    #[error("`{}`: {}", path.display(), summary(problems))]
    Inconsistent {
        path: PathBuf,
        problems: Vec<Problem>,
    },
    /// An image cannot be decoded.
    #[error("cannot read the image `{id}`: {reason}")]
    Corrupt { id: String, reason: String },
    /// There is nothing to load.
    #[error("`{}` holds no {what}", path.display())]
    Empty { path: PathBuf, what: String },
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
pub enum Problem {
    /// A class without a single image, in the named split or in the whole set.
    EmptyClass { class: String, split: Option<Split> },
    /// A label whose image does not exist.
    MissingImage { id: String, line: u64 },
    /// An image that no label or class folder covers.
    Unlabelled { path: PathBuf },
    /// A label that is none of the known classes.
    UnknownClass {
        id: String,
        class: String,
        line: u64,
        known: String,
    },
    /// An identifier that occurs twice.
    DuplicateId { id: String, places: String },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::EmptyClass { class, split: None } => write!(f, "class `{class}` has no image"),
            Problem::EmptyClass {
                class,
                split: Some(split),
            } => write!(f, "class `{class}` has no image in the {split} split"),
            Problem::MissingImage { id, line } => {
                write!(f, "the image of `{id}` (line {line}) does not exist")
            }
            Problem::Unlabelled { path } => write!(f, "`{}` has no label", path.display()),
            Problem::UnknownClass {
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
            Problem::DuplicateId { id, places } => write!(f, "`{id}` occurs twice ({places})"),
        }
    }
}

/// The first problems in words and the number of the others.
fn summary(problems: &[Problem]) -> String {
    const NAMED: usize = 4;
    let named: Vec<String> = problems
        .iter()
        .take(NAMED)
        .map(Problem::to_string)
        .collect();
    let mut text = named.join("; ");
    if problems.len() > NAMED {
        text += &format!("; and {} more problems", problems.len() - NAMED);
    }
    text
}
