//! Class folders of images, optionally below `train/`, `val/` and `test/`; CRCDX is one with known class names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::files::{Listing, id_below, images_below, list, name_of};
use crate::data::dataset::{DataFormat, Dataset, PixelSource, Sample};
use crate::data::error::{DataError, DataProblem};
use crate::data::split::Split;

/// The part of a folder that decides how it is read: its listing and, where it is split, those of the splits.
pub(super) struct FolderLayout {
    root: PathBuf,
    top: Listing,
    /// Split folders; empty where the set is not split.
    splits: Vec<(Split, PathBuf, Listing)>,
}

impl FolderLayout {
    pub(super) fn of(root: &Path) -> Result<Self, DataError> {
        let top = list(root)?;
        let mut splits = Vec::new();
        for folder in &top.folders {
            if let Some(split) = split_named(&name_of(folder)) {
                let inner = list(folder)?;
                if inner.images.is_empty() && !inner.folders.is_empty() {
                    splits.push((split, folder.clone(), inner));
                }
            }
        }
        // A class may happen to be called `test`: it takes a `train` beside it, or nothing else, to make it a split.
        let has_train = splits.iter().any(|(split, ..)| *split == Split::Train);
        if splits.len() != top.folders.len() && !has_train {
            splits.clear();
        }
        Ok(Self {
            root: root.to_owned(),
            top,
            splits,
        })
    }

    /// Names of the class folders, sorted, without repetition.
    pub(super) fn classes(&self) -> Vec<String> {
        let folders = if self.splits.is_empty() {
            self.top.folders.iter().collect::<Vec<_>>()
        } else {
            self.splits.iter().flat_map(|(.., l)| &l.folders).collect()
        };
        let names: BTreeSet<String> = folders.into_iter().map(|f| name_of(f)).collect();
        names.into_iter().collect()
    }

    /// True if there is an image in the folder or below one of its class folders.
    pub(super) fn holds_images(&self) -> Result<bool, DataError> {
        if !self.top.images.is_empty() {
            return Ok(true);
        }
        for folder in &self.top.folders {
            if !images_below(folder)?.0.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn describe(&self) -> String {
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        format!(
            "{} and {} without images",
            count(self.top.folders.len(), "folder"),
            count(self.top.others.len(), "file")
        )
    }
}

fn split_named(name: &str) -> Option<Split> {
    let lower = name.to_ascii_lowercase();
    let last = lower.rsplit(['_', '-', ' ']).next().unwrap_or_default();
    match last {
        "train" | "training" => Some(Split::Train),
        "val" | "valid" | "validation" => Some(Split::Val),
        "test" | "testing" => Some(Split::Test),
        _ => None,
    }
}

/// Reads class folders. `expected` fixes the class names; others are then unknown classes.
pub(super) fn read(root: &Path, expected: Option<&[&str]>) -> Result<Dataset, DataError> {
    let layout = FolderLayout::of(root)?;
    let mut classes = match expected {
        Some(names) => names.iter().map(|&n| n.to_owned()).collect(),
        None => layout.classes(),
    };
    let mut set = Collected::default();
    let parts: Vec<(Option<Split>, &Listing)> = if layout.splits.is_empty() {
        vec![(None, &layout.top)]
    } else {
        let mut stray = layout.top.images.clone();
        for folder in &layout.top.folders {
            if !layout.splits.iter().any(|(_, split, _)| split == folder) {
                stray.extend(images_below(folder)?.0);
            }
        }
        let stray = stray.into_iter();
        set.problems
            .extend(stray.map(|path| DataProblem::Unlabelled { path }));
        layout
            .splits
            .iter()
            .map(|(s, _, l)| (Some(*s), l))
            .collect()
    };
    let flat = classes.is_empty() && layout.splits.is_empty();
    if flat {
        let absolute = root.canonicalize().map_err(DataError::io("open", root))?;
        classes.push(name_of(&absolute));
    }
    for (split, listing) in parts {
        for path in &listing.images {
            if flat {
                set.add(&layout.root, path.clone(), 0, split);
            } else {
                set.problems
                    .push(DataProblem::Unlabelled { path: path.clone() });
            }
        }
        set.others += listing.others.len();
        for folder in &listing.folders {
            let (images, others) = images_below(folder)?;
            set.others += others;
            match classes.iter().position(|c| *c == name_of(folder)) {
                Some(class) => {
                    for path in images {
                        set.add(&layout.root, path, class, split);
                    }
                }
                None => {
                    let stray = images.into_iter();
                    set.problems
                        .extend(stray.map(|path| DataProblem::Unlabelled { path }));
                }
            }
        }
    }
    let notes = match set.others {
        0 => Vec::new(),
        1 => vec!["1 file that is no image was left out".to_owned()],
        n => vec![format!("{n} files that are no images were left out")],
    };
    set.samples.sort_by_key(|s| (s.split, s.class));
    Ok(Dataset {
        root: root.to_owned(),
        format: DataFormat::Folder,
        classes,
        samples: set.samples,
        problems: set.problems,
        notes,
    })
}

#[derive(Default)]
struct Collected {
    samples: Vec<Sample>,
    problems: Vec<DataProblem>,
    others: usize,
    seen: BTreeMap<String, PathBuf>,
}

impl Collected {
    fn add(&mut self, root: &Path, path: PathBuf, class: usize, split: Option<Split>) {
        let id = id_below(root, &path);
        if let Some(first) = self.seen.insert(id.clone(), path.clone()) {
            let places = format!("`{}` and `{}`", first.display(), path.display());
            self.problems.push(DataProblem::DuplicateId { id, places });
            return;
        }
        self.samples.push(Sample {
            id,
            source: PixelSource::File(path),
            class,
            split,
        });
    }
}
