//! From the bytes of an image file to pixels, whatever kind of file it is.
//!
//! One file may hold several images: the pages of a TIFF, the frames of a DICOM object. [`content`] counts them without
//! decoding, [`decode`] decodes one. The kind is told by content, never by the file's name.

mod dicom;
mod range;
mod raster;
mod tiff;
mod tiff_numbers;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;

pub use range::{DecodedImage, ImageFacts, ValueKind, ValueRange};
pub(super) use range::{ends, range, range_warning, windowed};

use super::error::DataError;
use super::pixels::Pixels;

/// Bytes that tell what kind of file it is.
const HEAD: usize = 512;

impl Pixels {
    /// Reads the first image of a file, by its content rather than by its extension.
    ///
    /// # Errors
    /// If the file cannot be read or is not a whole image of a supported kind.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let corrupt = |reason| DataError::Corrupt {
            id: path.display().to_string(),
            reason,
        };
        let bytes = fs::read(path).map_err(|e| corrupt(e.to_string()))?;
        Self::decode(&bytes).map_err(corrupt)
    }

    /// Decodes the first image in the bytes of a file.
    ///
    /// # Errors
    /// The reason in words.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        Ok(decode(bytes, 0, ValueRange::Stored)?.pixels)
    }
}

/// Decodes image `frame` (from 0) of the bytes of a file.
///
/// # Errors
/// The reason in words.
pub fn decode(bytes: &[u8], frame: usize, black_white: ValueRange) -> Result<DecodedImage, String> {
    if bytes.is_empty() {
        return Err("the file is empty".to_owned());
    }
    if dicom::is_dicom(bytes) {
        return dicom::decode(bytes, frame, black_white);
    }
    raster::decode(bytes, frame, black_white)
}

/// What a file holds, as far as its headers tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileContent {
    /// Number of images; a damaged file counts as one, so that whoever decodes it can say what is wrong.
    pub images: usize,
    /// A key that is the same for all images of one patient, where the file says whose image it is (DICOM). It is a hash, and
    /// has to stay in memory.
    pub patient: Option<String>,
}

impl Default for FileContent {
    fn default() -> Self {
        Self {
            images: 1,
            patient: None,
        }
    }
}

/// Looks at the headers of the file at `path`.
pub(super) fn content(path: &Path) -> FileContent {
    let look = || -> Option<FileContent> {
        let mut file = BufReader::with_capacity(HEAD, File::open(path).ok()?);
        let head = file.fill_buf().ok()?;
        let mut content = FileContent::default();
        if tiff::is_tiff(head) {
            content.images = tiff::pages(file).ok()?.len().max(1);
        } else if dicom::is_dicom(head) {
            content.images = dicom::frames(path).unwrap_or(1).max(1);
            content.patient = dicom::patient_key(path);
        }
        Some(content)
    };
    look().unwrap_or_default()
}

/// True if these are the first bytes of a DICOM file or of a data set without preamble; 256 are enough.
pub(super) fn is_dicom(head: &[u8]) -> bool {
    dicom::is_dicom(head)
}
