//! Segmentation masks beside the pictures that they belong to, told by their names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::paths::{name_of, stem_of};

/// What is added to the name of a picture for that of its mask, in lower case, after `_`, `-` or a space.
const MASK_WORDS: [&str; 8] = [
    "mask",
    "masks",
    "seg",
    "segmentation",
    "annotation",
    "groundtruth",
    "gt",
    "label",
];

/// Names of folders that hold masks, in lower case.
const MASK_FOLDERS: [&str; 6] = [
    "mask",
    "masks",
    "segmentation",
    "segmentations",
    "annotations",
    "groundtruth",
];

/// The masks among the images of a folder: `x_mask`, `x_mask_1`, `x-seg` and the like beside `x`.
pub(super) fn masks_among(images: &[PathBuf]) -> BTreeSet<PathBuf> {
    let stems: BTreeSet<String> = images.iter().map(|path| stem_of(path)).collect();
    let is_mask = |path: &&PathBuf| {
        let stem = stem_of(path);
        picture_of(&stem).is_some_and(|picture| stems.contains(picture))
    };
    images.iter().filter(is_mask).cloned().collect()
}

/// The name of the picture that `stem` names a mask of.
fn picture_of(stem: &str) -> Option<&str> {
    let separators = ['_', '-', ' '];
    let (mut picture, mut word) = stem.rsplit_once(separators)?;
    // A picture may have several masks, which are numbered.
    if word.bytes().all(|b| b.is_ascii_digit()) {
        (picture, word) = picture.rsplit_once(separators)?;
    }
    let is_word = MASK_WORDS.contains(&word.to_lowercase().as_str());
    (is_word && !picture.is_empty()).then_some(picture)
}

/// True if `folder` is a folder of masks beside other folders, its `siblings`.
pub(super) fn is_mask_folder(folder: &Path, siblings: &[PathBuf]) -> bool {
    siblings.len() > 1 && MASK_FOLDERS.contains(&name_of(folder).to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_named_after_its_picture() {
        assert_eq!(picture_of("benign (1)_mask"), Some("benign (1)"));
        assert_eq!(picture_of("benign (1)_mask_1"), Some("benign (1)"));
        assert_eq!(
            picture_of("ISIC_0000000_segmentation"),
            Some("ISIC_0000000")
        );
        assert_eq!(picture_of("a-Seg"), Some("a"));
        assert_eq!(picture_of("face_mask_photo"), None);
        assert_eq!(picture_of("mask"), None);
        assert_eq!(picture_of("_mask"), None);
        assert_eq!(picture_of("x_12"), None);
    }

    #[test]
    fn a_mask_without_a_picture_is_a_picture() {
        let images = ["a.png", "a_mask.png", "b_mask.png"].map(PathBuf::from);
        assert_eq!(masks_among(&images), [PathBuf::from("a_mask.png")].into());
    }
}
