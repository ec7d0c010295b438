//! Which file a label table means: by path, by name, or by the last components of a path.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use super::paths::{extension_of, has_image_extension, without_image_extension};

/// Components from the end of a path under which a file can be found.
const MAX_TAIL: usize = 4;

/// So many equal components at the end make two paths the same, whatever is before them: `patient/study/view`.
const CERTAIN_TAIL: usize = 3;

/// The images of a data set by the ends of their paths, without extensions.
pub(super) struct ImageIndex<'a> {
    images: Vec<&'a PathBuf>,
    components: Vec<usize>,
    by_tail: [HashMap<String, Vec<usize>>; MAX_TAIL],
}

/// What a name in a table stands for.
pub(super) enum Resolved<'a> {
    /// This file.
    File(&'a Path),
    /// No file.
    Missing,
    /// More than one file.
    Ambiguous(&'a Path, &'a Path),
}

impl<'a> ImageIndex<'a> {
    /// Indexes `images`, which lie below `root`.
    pub fn new(root: &Path, images: Vec<&'a PathBuf>) -> Self {
        let mut by_tail: [HashMap<String, Vec<usize>>; MAX_TAIL] = Default::default();
        let mut components = Vec::with_capacity(images.len());
        for (index, path) in images.iter().enumerate() {
            let parts = parts_of(path.strip_prefix(root).unwrap_or(path));
            components.push(parts.len());
            for (map, tail) in by_tail.iter_mut().zip(tails(&parts)) {
                map.entry(tail).or_default().push(index);
            }
        }
        Self {
            images,
            components,
            by_tail,
        }
    }

    /// The file that `name` stands for. The longest end that some file shares decides; it has to be the whole of one of
    /// the two paths, or certain.
    pub fn resolve(&self, name: &str) -> Resolved<'a> {
        let name = name.replace('\\', "/");
        let parts = parts_of(Path::new(&name));
        let tails: Vec<String> = tails(&parts).collect();
        for (longer, tail) in tails.iter().enumerate().rev() {
            let (depth, map) = (longer + 1, &self.by_tail[longer]);
            let certain = |&&index: &&usize| {
                let whole = self.components[index].min(MAX_TAIL) == depth
                    || parts.len().min(MAX_TAIL) == depth;
                whole || depth >= CERTAIN_TAIL
            };
            let mut found: Vec<usize> = map
                .get(tail)
                .into_iter()
                .flatten()
                .filter(certain)
                .copied()
                .collect();
            if found.len() > 1 && has_image_extension(Path::new(&name)) {
                // Files that differ in the extension alone: that of the table decides.
                let extension = extension_of(Path::new(&name));
                let same: Vec<usize> = found
                    .iter()
                    .copied()
                    .filter(|&index| extension_of(self.images[index]) == extension)
                    .collect();
                if !same.is_empty() {
                    found = same;
                }
            }
            match found[..] {
                [] => {}
                [index] => return Resolved::File(self.images[index]),
                [first, second, ..] => {
                    return Resolved::Ambiguous(self.images[first], self.images[second]);
                }
            }
        }
        Resolved::Missing
    }
}

/// The components of a path as text, the last one without the extension of an image.
fn parts_of(path: &Path) -> Vec<String> {
    let bare = without_image_extension(path);
    let text = |part: &OsStr| part.to_string_lossy().into_owned();
    bare.components()
        .filter_map(|part| match part {
            Component::Normal(part) => Some(text(part)),
            _ => None,
        })
        .collect()
}

/// The last component, the last two, and so on.
fn tails(parts: &[String]) -> impl Iterator<Item = String> {
    (1..=parts.len().min(MAX_TAIL)).map(|depth| parts[parts.len() - depth..].join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(images: &[&str], name: &str) -> String {
        let images: Vec<PathBuf> = images.iter().map(|i| Path::new("/set").join(i)).collect();
        let index = ImageIndex::new(Path::new("/set"), images.iter().collect());
        match index.resolve(name) {
            Resolved::File(path) => path.strip_prefix("/set").unwrap().display().to_string(),
            Resolved::Missing => "missing".to_owned(),
            Resolved::Ambiguous(..) => "ambiguous".to_owned(),
        }
    }

    #[test]
    fn names_and_paths_find_their_file() {
        let images = ["part1/a.jpg", "part2/b.jpg", "part2/deep/c.png"];
        assert_eq!(resolved(&images, "a"), "part1/a.jpg");
        assert_eq!(resolved(&images, "a.jpg"), "part1/a.jpg");
        assert_eq!(resolved(&images, "part1/a.jpg"), "part1/a.jpg");
        assert_eq!(resolved(&images, "./part1\\a.png"), "part1/a.jpg");
        assert_eq!(
            resolved(&images, "/data/set/part2/deep/c.png"),
            "part2/deep/c.png"
        );
        assert_eq!(resolved(&images, "part3/a.jpg"), "missing");
        assert_eq!(resolved(&images, "d"), "missing");
    }

    #[test]
    fn the_end_of_a_long_path_is_enough() {
        let images = [
            "batch 2 (train 1)/patient1/study1/view1_frontal.jpg",
            "batch 2 (train 1)/patient2/study1/view1_frontal.jpg",
        ];
        let name = "CheXpert-v1.0/train/patient2/study1/view1_frontal.jpg";
        assert_eq!(resolved(&images, name), images[1]);
        assert_eq!(
            resolved(&images, "train/patient3/study1/view1_frontal.jpg"),
            "missing"
        );
        assert_eq!(resolved(&images, "view1_frontal.jpg"), "ambiguous");
    }

    #[test]
    fn extensions_tell_files_apart_that_share_a_name() {
        let images = ["a.png", "a.bmp"];
        assert_eq!(resolved(&images, "a.bmp"), "a.bmp");
        assert_eq!(resolved(&images, "a"), "ambiguous");
    }
}
