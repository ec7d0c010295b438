//! Decoded pixels before any transform: grey or RGB, 8 or 16 bit.

use std::fs;
use std::path::Path;

use super::decode::{ValueRange, decode};
use super::error::DataError;

/// Channel values of an image, `[height, width, channels]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PixelValues {
    /// 8 bits per channel, 0 to 255.
    U8(Vec<u8>),
    /// 16 bits per channel, 0 to 65535.
    U16(Vec<u16>),
}

/// A decoded image with 1 (grey) or 3 (RGB) channels. Alpha is dropped, palettes are expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 1 or 3.
    pub channels: usize,
    /// `[height, width, channels]`.
    pub samples: PixelValues,
}

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

    /// Bits per channel: 8 or 16.
    pub fn bits(&self) -> usize {
        match self.samples {
            PixelValues::U8(_) => 8,
            PixelValues::U16(_) => 16,
        }
    }

    /// Bytes of the samples.
    pub fn size_bytes(&self) -> usize {
        self.width * self.height * self.channels * self.bits() / 8
    }
}
