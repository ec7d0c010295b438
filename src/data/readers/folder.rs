//! Class folders of images, optionally below `train/`, `val/` and `test/`; CRCDX is one with known class names.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::files::{Folder, Tree};
use super::paths::name_of;
use crate::data::dataset::{DataFormat, Dataset, PixelSource, Sample};
use crate::data::error::{DataError, DataProblem};
use crate::data::left_out::LeftOutByReason;
use crate::data::names::ids_below;
use crate::data::split::Split;

/// Classes of CRCDX.
pub(super) const CRCDX_CLASSES: [&str; 2] = ["MSIH", "nonMSIH"];

/// How the folders of a tree are meant: classes, or splits of classes.
pub(super) struct FolderLayout<'a> {
    top: &'a Folder,
    /// Split folders; empty where the set is not split.
    splits: Vec<(Split, &'a Folder)>,
}

impl<'a> FolderLayout<'a> {
    pub(super) fn of(tree: &'a Tree) -> Self {
        let mut top = &tree.top;
        let mut splits = splits_of(top);
        // An archive unpacked into a folder of its own name: the splits are one level down.
        while splits.is_empty()
            && top.images.is_empty()
            && let [only] = &top.folders[..]
        {
            top = only;
            splits = splits_of(top);
        }
        if splits.is_empty() {
            top = &tree.top;
        }
        Self { top, splits }
    }

    /// Names of the class folders, sorted, without repetition.
    pub(super) fn classes(&self) -> Vec<String> {
        let folders: Vec<&Folder> = if self.splits.is_empty() {
            self.top.folders.iter().collect()
        } else {
            self.splits.iter().flat_map(|(_, f)| &f.folders).collect()
        };
        let names: BTreeSet<String> = folders.into_iter().map(Folder::name).collect();
        names.into_iter().collect()
    }

    pub(super) fn describe(&self, left_out: &LeftOutByReason) -> String {
        let folders = self.top.folders.len();
        let mut text = match folders {
            1 => "1 folder without images".to_owned(),
            n => format!("{n} folders without images"),
        };
        for line in left_out.lines(&self.top.path) {
            text += &format!(", {line}");
        }
        text
    }
}

fn splits_of(top: &Folder) -> Vec<(Split, &Folder)> {
    let mut splits = Vec::new();
    for folder in &top.folders {
        if let Some(split) = split_named(&folder.name())
            && folder.images.is_empty()
            && !folder.folders.is_empty()
        {
            splits.push((split, folder));
        }
    }
    // A class may happen to be called `test`: it takes a `train` beside it, or nothing else, to make it a split.
    let has_train = splits.iter().any(|(split, _)| *split == Split::Train);
    if splits.len() != top.folders.len() && !has_train {
        splits.clear();
    }
    splits
}

/// The split that a folder or a field of a table names.
pub(super) fn split_named(name: &str) -> Option<Split> {
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
pub(super) fn read(tree: &Tree, expected: Option<&[&str]>) -> Result<Dataset, DataError> {
    let layout = FolderLayout::of(tree);
    let mut classes = match expected {
        Some(names) => names.iter().map(|&n| n.to_owned()).collect(),
        None => layout.classes(),
    };
    let mut set = Collected::default();
    let parts: Vec<(Option<Split>, &Folder)> = if layout.splits.is_empty() {
        vec![(None, layout.top)]
    } else {
        set.unlabelled(layout.top.images.iter());
        for folder in &layout.top.folders {
            if !layout
                .splits
                .iter()
                .any(|(_, split)| std::ptr::eq(*split, folder))
            {
                set.unlabelled(folder.images_below());
            }
        }
        layout.splits.iter().map(|&(s, f)| (Some(s), f)).collect()
    };
    let flat = classes.is_empty() && layout.splits.is_empty();
    if flat {
        let root = &tree.top.path;
        let absolute = root.canonicalize().map_err(DataError::io("open", root))?;
        classes.push(name_of(&absolute));
    }
    for (split, part) in parts {
        if flat {
            set.add(&part.images, 0, split);
        } else {
            set.unlabelled(&part.images);
        }
        for folder in &part.folders {
            match classes.iter().position(|c| *c == folder.name()) {
                Some(class) => set.add(folder.images_below(), class, split),
                None => set.unlabelled(folder.images_below()),
            }
        }
    }
    let paths: Vec<_> = set
        .samples
        .iter()
        .map(|sample| sample.0.as_path())
        .collect();
    let ids = ids_below(&tree.top.path, &paths);
    let mut samples: Vec<Sample> = ids
        .into_iter()
        .zip(&set.samples)
        .map(|(id, &(path, class, split))| Sample {
            id,
            source: PixelSource::file(path.clone()),
            class,
            split,
            group: None,
        })
        .collect();
    samples.sort_by_key(|s| (s.split, s.class));
    Ok(Dataset {
        classes,
        samples,
        problems: set.problems,
        left_out: tree.left_out(&[]),
        ..Dataset::empty(&tree.top.path, DataFormat::Folder)
    })
}

#[derive(Default)]
struct Collected<'a> {
    samples: Vec<(&'a PathBuf, usize, Option<Split>)>,
    problems: Vec<DataProblem>,
}

impl<'a> Collected<'a> {
    fn add(
        &mut self,
        paths: impl IntoIterator<Item = &'a PathBuf>,
        class: usize,
        split: Option<Split>,
    ) {
        let paths = paths.into_iter();
        self.samples.extend(paths.map(|path| (path, class, split)));
    }

    fn unlabelled(&mut self, paths: impl IntoIterator<Item = &'a PathBuf>) {
        let paths = paths.into_iter().cloned();
        self.problems
            .extend(paths.map(|path| DataProblem::Unlabelled { path }));
    }
}
