//! Decoded pixels before any transform: grey or RGB, 8 or 16 bit.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageReader};

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
    /// Reads an image file, by its content rather than by its extension.
    ///
    /// # Errors
    /// If the file cannot be read or is not a whole image of a supported kind.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let bytes = fs::read(path).map_err(|e| DataError::Corrupt {
            id: path.display().to_string(),
            reason: e.to_string(),
        })?;
        Self::decode(&bytes).map_err(|reason| DataError::Corrupt {
            id: path.display().to_string(),
            reason,
        })
    }

    /// Decodes the bytes of an image file.
    ///
    /// # Errors
    /// The reason in words.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("the file is empty".to_owned());
        }
        if bytes.starts_with(&[0xff, 0xd8]) && !jpeg_is_whole(bytes) {
            return Err("the JPEG ends before its image does".to_owned());
        }
        let reader = ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .map_err(|e| e.to_string())?;
        // A decoder that panics on a damaged file must cost that file, not the run.
        let decoded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| reader.decode()))
            .map_err(|_| "the decoder gave up on damaged data".to_owned())?
            .map_err(|e| e.to_string())?;
        Self::from_image(decoded)
    }

    fn from_image(image: DynamicImage) -> Result<Self, String> {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let (channels, samples) = match image {
            DynamicImage::ImageLuma8(i) => (1, PixelValues::U8(i.into_raw())),
            DynamicImage::ImageRgb8(i) => (3, PixelValues::U8(i.into_raw())),
            DynamicImage::ImageLumaA8(i) => (1, PixelValues::U8(drop_alpha(i.as_raw(), 1))),
            DynamicImage::ImageRgba8(i) => (3, PixelValues::U8(drop_alpha(i.as_raw(), 3))),
            DynamicImage::ImageLuma16(i) => (1, PixelValues::U16(i.into_raw())),
            DynamicImage::ImageRgb16(i) => (3, PixelValues::U16(i.into_raw())),
            DynamicImage::ImageLumaA16(i) => (1, PixelValues::U16(drop_alpha(i.as_raw(), 1))),
            DynamicImage::ImageRgba16(i) => (3, PixelValues::U16(drop_alpha(i.as_raw(), 3))),
            other => {
                return Err(format!(
                    "pixels of type {:?} are not supported, only 8 and 16 bit grey and RGB",
                    other.color()
                ));
            }
        };
        if width == 0 || height == 0 {
            return Err(format!("the image is {width} x {height} pixels"));
        }
        Ok(Self {
            width,
            height,
            channels,
            samples,
        })
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

/// Many images of one size in memory, `[images, height, width, channels]`.
#[derive(Clone, Debug)]
pub struct ImageArray {
    /// Rows of each image.
    pub height: usize,
    /// Columns of each image.
    pub width: usize,
    /// 1 or 3.
    pub channels: usize,
    /// `[images, height, width, channels]`.
    pub samples: PixelValues,
}

impl ImageArray {
    /// A copy of image `index`.
    pub(super) fn image(&self, index: usize) -> Pixels {
        let stride = self.height * self.width * self.channels;
        let range = index * stride..(index + 1) * stride;
        Pixels {
            width: self.width,
            height: self.height,
            channels: self.channels,
            samples: match &self.samples {
                PixelValues::U8(v) => PixelValues::U8(v[range].to_vec()),
                PixelValues::U16(v) => PixelValues::U16(v[range].to_vec()),
            },
        }
    }

    pub(super) fn hash(&self, hasher: &mut blake3::Hasher) {
        match &self.samples {
            PixelValues::U8(v) => hasher.update(v),
            PixelValues::U16(v) => hasher.update(bytemuck::cast_slice(v)),
        };
    }
}

fn drop_alpha<T: Copy>(values: &[T], colours: usize) -> Vec<T> {
    values
        .chunks_exact(colours + 1)
        .flat_map(|pixel| pixel[..colours].iter().copied())
        .collect()
}

/// True if the entropy-coded data of a JPEG is followed by an end-of-image marker. Decoders fill the missing part of a
/// truncated file with grey and call it a success.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    // Segments before the scan, each with a length that skips embedded thumbnails.
    while let Some(&[0xff, marker, hi, lo]) = bytes.get(at..at + 4) {
        match marker {
            0xff => at += 1,
            0xda => return bytes[at..].windows(2).any(|pair| pair == [0xff, 0xd9]),
            _ => at += 2 + usize::from(u16::from_be_bytes([hi, lo])),
        }
    }
    false
}
