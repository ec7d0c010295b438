//! The images that the `[data]` section describes: what to train on and what to measure on.

use std::sync::Arc;

use super::sections::Data;
use crate::data::{Augment, DataError, Dataset, LoaderOptions, OpenOptions, Transform};

/// The sets of a run.
#[derive(Clone, Debug)]
pub struct Sets {
    /// The images to train on.
    pub train: Arc<Dataset>,
    /// Never trained on; `None` where there is none.
    pub holdout: Option<Arc<Dataset>>,
}

impl Data {
    /// Opens the sets. The held-out set is `holdout`, or else the held-out split of `path`, where it has one.
    ///
    /// # Errors
    /// What [`Dataset::open`] reports; and if the two sets do not have the same classes.
    pub fn open(&self) -> Result<Sets, DataError> {
        let options = OpenOptions {
            format: self.format,
            finding: self.finding.clone(),
            unknown: self.unknown,
            on_mismatch: self.on_mismatch,
        };
        let whole = Dataset::open(&self.path, &options)?;
        let train = whole.select(self.split)?;
        let holdout = match &self.holdout {
            Some(path) => {
                // Its layout may be another one than that of the training set.
                let options = OpenOptions {
                    format: Default::default(),
                    ..options
                };
                Some(Dataset::open(path, &options)?.select(self.holdout_split)?)
            }
            None if self.holdout_split != self.split
                && whole.splits().contains(&self.holdout_split) =>
            {
                Some(whole.select(self.holdout_split)?)
            }
            None => None,
        };
        if let Some(other) = &holdout
            && other.classes() != train.classes()
        {
            return Err(DataError::Options(format!(
                "`{}` has the classes {:?}, the held-out set `{}` has {:?}: expected the same",
                train.root().display(),
                train.classes(),
                other.root().display(),
                other.classes()
            )));
        }
        Ok(Sets {
            train: Arc::new(train),
            holdout: holdout.map(Arc::new),
        })
    }

    /// Size and channels.
    ///
    /// # Errors
    /// If they are out of range.
    pub fn transform(&self) -> Result<Transform, DataError> {
        Transform::new(self.image_size, self.channels)
    }

    /// How training loads: shuffled, endless, augmented.
    ///
    /// # Errors
    /// As [`Data::transform`].
    pub fn training_loader(&self, batch: usize, seed: u64) -> Result<LoaderOptions, DataError> {
        Ok(LoaderOptions {
            augment: Augment {
                flip_horizontal: self.flip_horizontal,
                flip_vertical: self.flip_vertical,
                transpose: self.transpose,
            },
            balanced: self.balanced,
            threads: self.threads,
            cache_bytes: usize::try_from(self.cache.0).unwrap_or(usize::MAX),
            on_corrupt: self.on_corrupt,
            ..LoaderOptions::training(batch, self.transform()?, seed)
        })
    }

    /// How measuring loads: one pass in order, as the images are.
    ///
    /// # Errors
    /// As [`Data::transform`].
    pub fn one_pass_loader(&self, batch: usize) -> Result<LoaderOptions, DataError> {
        Ok(LoaderOptions {
            threads: self.threads,
            on_corrupt: self.on_corrupt,
            ..LoaderOptions::one_pass(batch, self.transform()?)
        })
    }
}
