//! The images that the `[data]` section describes: what to train on and what to measure on.

use std::sync::Arc;

use super::sections::{Data, GroupBy};
use crate::data::{
    Augment, DataError, Dataset, LabelColumns, LoaderOptions, OpenOptions, Transform, ValueRange,
};

/// The sets of a run.
#[derive(Clone, Debug)]
pub struct Sets {
    /// The images to train on.
    pub train: Arc<Dataset>,
    /// Never trained on; `None` where there is none.
    pub holdout: Option<Arc<Dataset>>,
}

impl Data {
    /// How the set is read.
    fn options(&self) -> OpenOptions {
        OpenOptions {
            format: self.format,
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            labels: self.labels.clone(),
            columns: LabelColumns {
                file: self.file_column.clone(),
                label: self.label_column.clone(),
                split: self.split_column.clone(),
                patient: self.patient_column.clone(),
            },
            black_white: ValueRange::of(self.window, self.bits),
            finding: self.finding.clone(),
            uncertain: self.uncertain.unwrap_or(self.unknown),
            not_mentioned: self.not_mentioned.unwrap_or(self.unknown),
            on_mismatch: self.on_mismatch,
        }
    }

    /// Opens the sets. The held-out set is `holdout`, or else the held-out split of `path`, where it has one, or a part
    /// that [`Dataset::hold_out`] makes.
    ///
    /// # Errors
    /// What [`Dataset::open`] reports; and if the two sets do not have the same classes.
    pub fn open(&self) -> Result<Sets, DataError> {
        let options = self.options();
        let mut whole = Dataset::open(&self.path, &options)?;
        if let Some(fraction) = self.holdout_fraction {
            let grouped = self.group_by == Some(GroupBy::Patient);
            whole = whole.hold_out(fraction, grouped)?;
        }
        let train = whole.select(self.split)?;
        let holdout = match &self.holdout {
            Some(path) => {
                // Its layout may be another one than that of the training set.
                let options = OpenOptions {
                    format: Default::default(),
                    labels: None,
                    ..options
                };
                let other = Dataset::open(path, &options)?;
                let split = self
                    .holdout_split
                    .or_else(|| other.held_out_split(self.split));
                Some(match split {
                    Some(split) => other.select(split)?,
                    None => other,
                })
            }
            None => {
                let split = self
                    .holdout_split
                    .or_else(|| whole.held_out_split(self.split));
                match split.filter(|split| *split != self.split && whole.splits().contains(split)) {
                    Some(split) => Some(whole.select(split)?),
                    None => None,
                }
            }
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

    /// Channels of the images that a network is given: as set, else 3.
    pub fn image_channels(&self) -> usize {
        self.channels.unwrap_or(3)
    }

    /// Opens the sets, decides what follows from the images themselves and says so: one channel where all are grey, what is
    /// measured on, and values that use a small part of their range.
    ///
    /// # Errors
    /// As [`Data::open`].
    pub fn settle(&mut self) -> Result<Sets, DataError> {
        let sets = self.open()?;
        let glance = sets.train.glance();
        if self.channels.is_none() {
            self.channels = Some(if glance.grey { 1 } else { 3 });
            if glance.grey {
                tracing::info!(
                    "{}: all images are grey: one channel (data.channels = 3 for three)",
                    self.path.display()
                );
            }
        }
        if let Some(warning) = glance.range_warning {
            tracing::warn!("{}: {warning}", self.path.display());
        }
        match &sets.holdout {
            Some(set) => {
                let what = set.splits().first().map_or("images", |split| split.name());
                tracing::info!(
                    "held out: {} {what} images of {}",
                    set.len(),
                    set.root().display()
                );
            }
            None => tracing::info!(
                "nothing is held out, so nothing is measured; data.holdout names a set, data.holdout_fraction makes one"
            ),
        }
        Ok(sets)
    }

    /// Size and channels.
    ///
    /// # Errors
    /// If they are out of range.
    pub fn transform(&self) -> Result<Transform, DataError> {
        Transform::new(self.image_size, self.image_channels())
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
