//! The tree of files below a data set's root, walked once: images, other files, and what was left out and why.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::masks;
use super::paths::{extension_of, has_image_extension, name_of};
use crate::data::dataset::OpenOptions;
use crate::data::decode::is_dicom;
use crate::data::error::DataError;
use crate::data::left_out::{LeftOutByReason, LeftOutReason};
use crate::data::patterns::Patterns;

/// Folders and files that operating systems, archives and network drives leave behind, in lower case.
const SYSTEM_NAMES: [&str; 11] = [
    "__macosx",
    "@eadir",
    "#recycle",
    "#snapshot",
    "@recycle",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "__pycache__",
    "thumbs.db",
    "desktop.ini",
];

/// Folders below this depth are not searched; deeper trees are links that lead in circles.
const MAX_DEPTH: usize = 16;

/// What lies in a folder, each list sorted by name.
#[derive(Debug, Default)]
pub(super) struct Folder {
    pub path: PathBuf,
    pub folders: Vec<Folder>,
    pub images: Vec<PathBuf>,
    /// Files that are no images.
    pub others: Vec<PathBuf>,
}

impl Folder {
    /// The folder's own name.
    pub fn name(&self) -> String {
        name_of(&self.path)
    }

    /// All images in and below the folder, those of the folder itself first.
    pub fn images_below(&self) -> Vec<&PathBuf> {
        let mut images: Vec<&PathBuf> = self.images.iter().collect();
        for folder in &self.folders {
            images.extend(folder.images_below());
        }
        images
    }

    /// True if there is an image in the folder or below.
    pub fn holds_images(&self) -> bool {
        !self.images.is_empty() || self.folders.iter().any(Folder::holds_images)
    }

    /// The files of the folder itself with this extension (in lower case).
    pub fn with_extension<'a>(&'a self, extension: &'a str) -> impl Iterator<Item = &'a PathBuf> {
        let fits = move |path: &&PathBuf| extension_of(path) == extension;
        self.others.iter().filter(fits)
    }

    fn others_below(&self) -> Vec<&PathBuf> {
        let mut others: Vec<&PathBuf> = self.others.iter().collect();
        for folder in &self.folders {
            others.extend(folder.others_below());
        }
        others
    }
}

/// Everything below a root.
#[derive(Debug)]
pub(super) struct Tree {
    pub top: Folder,
    left_out: LeftOutByReason,
}

impl Tree {
    /// Walks the folders below `root`.
    pub fn walk(root: &Path, options: &OpenOptions) -> Result<Self, DataError> {
        let mut walk = TreeWalk {
            root,
            include: Patterns::new("data.include", &options.include)?,
            exclude: Patterns::new("data.exclude", &options.exclude)?,
            left_out: LeftOutByReason::default(),
        };
        let top = walk.folder(root, 0)?;
        Ok(Self {
            top,
            left_out: walk.left_out,
        })
    }

    /// What was left out, when `used` are the files beside images that a reader made use of.
    pub fn left_out(&self, used: &[PathBuf]) -> LeftOutByReason {
        let mut left_out = self.left_out.clone();
        for path in self.top.others_below() {
            if !used.contains(path) {
                let extension = extension_of(path);
                left_out.add(LeftOutReason::NoImage { extension }, path);
            }
        }
        left_out
    }
}

struct TreeWalk<'a> {
    root: &'a Path,
    include: Patterns,
    exclude: Patterns,
    left_out: LeftOutByReason,
}

impl TreeWalk<'_> {
    fn folder(&mut self, path: &Path, depth: usize) -> Result<Folder, DataError> {
        if depth > MAX_DEPTH {
            return Err(DataError::Options(format!(
                "`{}` lies more than {MAX_DEPTH} folders deep; a link that leads back to its own folder?",
                path.display()
            )));
        }
        let mut entries = Vec::new();
        for entry in fs::read_dir(path).map_err(DataError::io("list", path))? {
            entries.push(entry.map_err(DataError::io("list", path))?.path());
        }
        entries.sort();
        let mut folder = Folder {
            path: path.to_owned(),
            ..Folder::default()
        };
        let mut inner = Vec::new();
        for entry in entries {
            let name = name_of(&entry);
            let is_folder = entry.is_dir();
            if SYSTEM_NAMES.contains(&name.to_lowercase().as_str()) {
                self.left_out
                    .add(LeftOutReason::System { is_folder }, &entry);
            } else if name.starts_with('.') {
                self.left_out.add(LeftOutReason::Hidden, &entry);
            } else if is_folder {
                inner.push(entry);
            } else if is_image(&entry) {
                self.image(entry, &mut folder.images);
            } else {
                folder.others.push(entry);
            }
        }
        self.drop_masks(&mut folder.images);
        for entry in &inner {
            if depth > 0 && masks::is_mask_folder(entry, &inner) && self.include.is_empty() {
                self.left_out.add(LeftOutReason::MaskFolder, entry);
            } else {
                folder.folders.push(self.folder(entry, depth + 1)?);
            }
        }
        Ok(folder)
    }

    fn image(&mut self, path: PathBuf, images: &mut Vec<PathBuf>) {
        let inner = path.strip_prefix(self.root).unwrap_or(&path);
        if self.exclude.matches(inner) {
            self.left_out.add(LeftOutReason::Excluded, &path);
        } else if !self.include.is_empty() && !self.include.matches(inner) {
            self.left_out.add(LeftOutReason::NotIncluded, &path);
        } else {
            images.push(path);
        }
    }

    /// Leaves out the masks of pictures in the same folder. What a pattern includes is taken at its word.
    fn drop_masks(&mut self, images: &mut Vec<PathBuf>) {
        if !self.include.is_empty() {
            return;
        }
        let masks = masks::masks_among(images);
        images.retain(|path| !masks.contains(path));
        for mask in &masks {
            self.left_out.add(LeftOutReason::Mask, mask);
        }
    }
}

/// True for a file that a decoder exists for: by its extension; DICOM files, which often have none, by their content.
fn is_image(path: &Path) -> bool {
    if has_image_extension(path) {
        return true;
    }
    let extension = extension_of(path);
    // Names made of an identifier such as 1.2.840.10008 end in digits.
    extension.bytes().all(|b| b.is_ascii_digit()) && {
        let mut head = Vec::new();
        let read = File::open(path).and_then(|file| file.take(256).read_to_end(&mut head));
        read.is_ok() && is_dicom(&head)
    }
}
