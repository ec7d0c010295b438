//! Opening a data set: the reader that fits, and what is wrong with what it found.

use std::path::Path;

use super::dataset::{Dataset, OnMismatch, OpenOptions};
use super::error::{DataError, Problem};
use super::readers;
use super::split::Split;

impl Dataset {
    /// Indexes the data set at `path`. Image files are found but not read.
    ///
    /// # Errors
    /// If nothing readable is there, a label file is malformed, or (unless `on_mismatch` is [`OnMismatch::Skip`])
    /// labels and images disagree.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self, DataError> {
        let set = Self::inspect(path, options)?;
        if set.problems.is_empty() {
            return Ok(set);
        }
        if options.on_mismatch == OnMismatch::Fail {
            return Err(DataError::Inconsistent {
                path: path.to_owned(),
                problems: set.problems,
            });
        }
        for problem in &set.problems {
            tracing::warn!("{}: left out: {problem}", path.display());
        }
        Ok(set)
    }

    /// As [`Dataset::open`], but disagreements are kept in [`Dataset::problems`] instead of failing.
    ///
    /// # Errors
    /// If nothing readable is there or a label file is malformed.
    pub fn inspect(path: &Path, options: &OpenOptions) -> Result<Self, DataError> {
        let mut set = readers::read(path, options)?;
        set.find_empty_classes();
        if set.samples.is_empty() {
            if !set.problems.is_empty() {
                return Err(DataError::Inconsistent {
                    path: path.to_owned(),
                    problems: set.problems,
                });
            }
            return Err(DataError::Empty {
                path: path.to_owned(),
                what: "image".to_owned(),
            });
        }
        Ok(set)
    }

    /// Adds a problem for each class without samples, in the whole set or in a split that exists.
    fn find_empty_classes(&mut self) {
        let splits = self.splits();
        let places: Vec<Option<Split>> = match splits.len() {
            0 | 1 => vec![None],
            _ => splits.into_iter().map(Some).collect(),
        };
        for (class, name) in self.classes.iter().enumerate() {
            for &split in &places {
                let occurs = self
                    .samples
                    .iter()
                    .any(|s| s.class == class && (split.is_none() || s.split == split));
                if !occurs {
                    self.problems.push(Problem::EmptyClass {
                        class: name.clone(),
                        split,
                    });
                }
            }
        }
    }
}
