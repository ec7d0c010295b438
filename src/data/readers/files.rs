//! Finding image files below a folder, in a fixed order.

use std::fs;
use std::path::{Path, PathBuf};

use crate::data::error::DataError;

/// Extensions that are taken for images, in lower case.
const IMAGE_EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "tif", "tiff", "bmp"];

/// Folders below this depth are not searched; deeper trees are links that lead in circles.
const MAX_DEPTH: usize = 16;

/// What lies directly in a folder, sorted by name; hidden entries are left out.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub folders: Vec<PathBuf>,
    pub images: Vec<PathBuf>,
    /// Files that are no images.
    pub others: Vec<PathBuf>,
}

pub(super) fn list(folder: &Path) -> Result<Listing, DataError> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(folder).map_err(DataError::io("list", folder))? {
        let path = entry.map_err(DataError::io("list", folder))?.path();
        if name_of(&path).starts_with('.') {
            continue;
        }
        if path.is_dir() {
            listing.folders.push(path);
        } else if is_image(&path) {
            listing.images.push(path);
        } else {
            listing.others.push(path);
        }
    }
    listing.folders.sort();
    listing.images.sort();
    listing.others.sort();
    Ok(listing)
}

/// All images below `folder`, sorted within each folder, and the number of other files.
pub(super) fn images_below(folder: &Path) -> Result<(Vec<PathBuf>, usize), DataError> {
    let (mut images, mut others) = (Vec::new(), 0);
    collect(folder, 0, &mut images, &mut others)?;
    Ok((images, others))
}

fn collect(
    folder: &Path,
    depth: usize,
    images: &mut Vec<PathBuf>,
    others: &mut usize,
) -> Result<(), DataError> {
    if depth > MAX_DEPTH {
        return Err(DataError::Options(format!(
            "`{}` lies more than {MAX_DEPTH} folders deep; a link that leads back to its own folder?",
            folder.display()
        )));
    }
    let listing = list(folder)?;
    images.extend(listing.images);
    *others += listing.others.len();
    for inner in &listing.folders {
        collect(inner, depth + 1, images, others)?;
    }
    Ok(())
}

fn is_image(path: &Path) -> bool {
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    IMAGE_EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str())
}

/// The last component as text.
pub(super) fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The last component without its extension.
pub(super) fn stem_of(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The path below `root` without its extension, with `/` between components.
pub(super) fn id_below(root: &Path, path: &Path) -> String {
    let inner = path.strip_prefix(root).unwrap_or(path).with_extension("");
    let parts: Vec<_> = inner
        .components()
        .map(|part| part.as_os_str().to_string_lossy())
        .collect();
    parts.join("/")
}
