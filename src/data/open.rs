//! Opening a data set: the reader that fits, and what is wrong with what it found.

use std::collections::BTreeSet;
use std::path::Path;

use rayon::prelude::*;

use super::dataset::{Dataset, OnMismatch, OpenOptions, PixelSource, Sample};
use super::decode::{FileContent, content};
use super::error::{DataError, DataProblem};
use super::readers;
use super::split::Split;

impl Dataset {
    /// Indexes the data set at `path`. Image files are found but not decoded; those that may hold several images are
    /// opened to count them.
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
        set.black_white = options.black_white;
        set.look_into_files();
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

    /// Makes each page or frame of a file a sample of its own, `stack#1`, `stack#2` and so on, and groups images by the
    /// patient that their files name, where no table says whose they are.
    fn look_into_files(&mut self) {
        let contents: Vec<FileContent> = self
            .samples
            .par_iter()
            .map(|sample| match &sample.source {
                PixelSource::File { path, .. } => content(path),
                PixelSource::Array { .. } => FileContent::default(),
            })
            .collect();
        let mut counts = Vec::with_capacity(contents.len());
        for (sample, content) in self.samples.iter_mut().zip(contents) {
            sample.group = sample.group.take().or(content.patient);
            counts.push(content.images);
        }
        let several = counts.iter().filter(|&&count| count > 1);
        let (files, images) = several.fold((0, 0), |(n, sum), count| (n + 1, sum + count));
        if files == 0 {
            return;
        }
        let what = if files == 1 {
            "1 file holds"
        } else {
            &format!("{files} files hold")
        };
        self.notes.push(format!(
            "{what} several pages or frames, {images} images in total"
        ));
        let samples = std::mem::take(&mut self.samples);
        for (sample, count) in samples.into_iter().zip(counts) {
            match sample.source {
                PixelSource::File { ref path, .. } if count > 1 => {
                    let page = |frame| Sample {
                        id: format!("{}#{}", sample.id, frame + 1),
                        source: PixelSource::File {
                            path: path.clone(),
                            frame,
                        },
                        ..sample.clone()
                    };
                    self.samples.extend((0..count).map(page));
                }
                _ => self.samples.push(sample),
            }
        }
    }

    /// Number of groups (patients) with images on both sides of a split.
    pub fn groups_on_both_sides(&self) -> usize {
        let both: BTreeSet<(&str, Option<Split>)> = self
            .samples
            .iter()
            .filter_map(|sample| Some((sample.group.as_deref()?, sample.split)))
            .collect();
        let names: BTreeSet<&str> = both.iter().map(|(name, _)| *name).collect();
        let splits = |name: &str| {
            both.range((name, None)..)
                .take_while(|(n, _)| *n == name)
                .count()
        };
        names.into_iter().filter(|name| splits(name) > 1).count()
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
                    self.problems.push(DataProblem::EmptyClass {
                        class: name.clone(),
                        split,
                    });
                }
            }
        }
    }
}
