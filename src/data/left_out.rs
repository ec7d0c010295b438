//! Files that are not in a data set, by reason.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Why a file or folder is not in a data set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOutReason {
    /// A file that no decoder exists for, by its extension in lower case (without the dot; may be empty).
    NoImage {
        /// Its extension.
        extension: String,
    },
    /// A segmentation mask beside its picture.
    Mask,
    /// A folder of segmentation masks.
    MaskFolder,
    /// A file or folder whose name begins with a dot.
    Hidden,
    /// What an operating system, an archive or a network drive left behind.
    System {
        /// A folder, or a file.
        is_folder: bool,
    },
    /// Matched by a pattern that excludes.
    Excluded,
    /// Matched by none of the patterns that include.
    NotIncluded,
}

/// Files that were left out for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOutFiles {
    /// How many.
    pub count: usize,
    /// The first of them.
    pub first: PathBuf,
}

/// Everything below the root of a data set that is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOutByReason {
    by_reason: BTreeMap<LeftOutReason, LeftOutFiles>,
}

impl LeftOutByReason {
    /// Counts `path`.
    pub(super) fn add(&mut self, reason: LeftOutReason, path: &Path) {
        let files = self.by_reason.entry(reason).or_insert(LeftOutFiles {
            count: 0,
            first: path.to_owned(),
        });
        files.count += 1;
    }

    /// The reasons, each with its files.
    pub fn iter(&self) -> impl Iterator<Item = (&LeftOutReason, &LeftOutFiles)> {
        self.by_reason.iter()
    }

    /// How many were left out for `reason`.
    pub fn count(&self, reason: &LeftOutReason) -> usize {
        self.by_reason.get(reason).map_or(0, |files| files.count)
    }

    /// True if nothing was left out.
    pub fn is_empty(&self) -> bool {
        self.by_reason.is_empty()
    }

    /// A line for each reason: how many, why, the first one, and what to do where something can be done.
    pub fn lines(&self, root: &Path) -> Vec<String> {
        let line = |(reason, files): (&LeftOutReason, &LeftOutFiles)| {
            let first = files.first.strip_prefix(root).unwrap_or(&files.first);
            let (one, many) = reason.nouns();
            let what = if files.count == 1 { one } else { many };
            let remedy = reason
                .remedy()
                .map_or_else(String::new, |r| format!("; {r}"));
            format!(
                "{} {what}, such as `{}`{remedy}",
                files.count,
                first.display()
            )
        };
        self.by_reason.iter().map(line).collect()
    }
}

impl fmt::Display for LeftOutByReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines(Path::new("")).join("\n"))
    }
}

impl LeftOutReason {
    /// Singular and plural.
    fn nouns(&self) -> (String, String) {
        let pair = |one: &str, many: &str| (one.to_owned(), many.to_owned());
        match self {
            Self::NoImage { extension } if extension.is_empty() => pair(
                "file without extension that is no image",
                "files without extension that are no images",
            ),
            Self::NoImage { extension } => (
                format!(".{extension} file that is no image"),
                format!(".{extension} files that are no images"),
            ),
            Self::Mask => pair("segmentation mask", "segmentation masks"),
            Self::MaskFolder => pair("folder of masks", "folders of masks"),
            Self::Hidden => pair("hidden file or folder", "hidden files or folders"),
            Self::System { is_folder: true } => pair(
                "folder of an operating system, archive or network drive",
                "folders of an operating system, archive or network drive",
            ),
            Self::System { is_folder: false } => pair(
                "file of an operating system",
                "files of an operating system",
            ),
            Self::Excluded => pair("image excluded", "images excluded"),
            Self::NotIncluded => pair("image not included", "images not included"),
        }
    }

    /// What a person can do to have such files read.
    fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::NoImage { extension } => match extension.as_str() {
                "nii" | "gz" | "nrrd" | "nhdr" | "mha" | "mhd" | "raw" | "img" | "hdr" => {
                    Some("for volumes: export their slices as 16-bit PNG or DICOM")
                }
                "svs" | "ndpi" | "mrxs" | "scn" | "vms" | "bif" => {
                    Some("whole slides: cut them into tiles first")
                }
                "zip" | "tar" | "tgz" | "7z" | "rar" => Some("archives: unpack them"),
                "gif" | "heic" | "heif" | "avif" | "jp2" | "j2k" | "jpx" | "jxl" | "psd"
                | "tga" | "exr" | "ico" | "svg" | "pdf" => Some("convert them to PNG"),
                "npy" | "npz" | "mat" | "h5" | "hdf5" | "pt" | "pkl" | "tfrecord" | "parquet" => {
                    Some("arrays: save images and labels in one .npz")
                }
                "mp4" | "avi" | "mov" | "mkv" => Some("videos: export their frames"),
                _ => None,
            },
            Self::Mask | Self::MaskFolder => Some("`data.include` takes them in"),
            _ => None,
        }
    }
}
