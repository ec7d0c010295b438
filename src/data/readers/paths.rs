//! Parts of paths as text.

use std::path::{Path, PathBuf};

/// Extensions of files that a decoder exists for, in lower case.
const IMAGE_EXTENSIONS: [&str; 16] = [
    "png", "jpg", "jpeg", "jpe", "jfif", "tif", "tiff", "bmp", "webp", "pgm", "ppm", "pbm", "pnm",
    "dcm", "dicom", "ima",
];

/// True if the extension is that of an image.
pub(super) fn has_image_extension(path: &Path) -> bool {
    IMAGE_EXTENSIONS.contains(&extension_of(path).as_str())
}

/// The path without its extension, if that is one of an image: names may have other dots.
pub(super) fn without_image_extension(path: &Path) -> PathBuf {
    if has_image_extension(path) {
        path.with_extension("")
    } else {
        path.to_owned()
    }
}

/// The extension in lower case; empty where there is none.
pub(super) fn extension_of(path: &Path) -> String {
    let extension = path.extension().unwrap_or_default();
    extension.to_string_lossy().to_lowercase()
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
