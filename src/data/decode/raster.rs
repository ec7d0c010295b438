//! PNG, JPEG, TIFF, BMP, WebP and the PNM family, by the `image` crate.

use std::borrow::Cow;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, ImageResult, Limits};

use super::range::{DecodedImage, ImageFacts, ValueKind, ValueRange, ends, range, windowed};
use super::{tiff, tiff_numbers};
use crate::data::pixels::{PixelValues, Pixels};

/// DecodedImage bytes that a file may ask for, for each of its own: deflate shrinks by at most 1032, and a bit becomes a byte.
const MAX_EXPANSION: u64 = 1032 * 8;

/// DecodedImage bytes that any file may ask for.
const ALWAYS_ALLOWED: u64 = 1 << 20;

/// Values of an image as stored, `[height, width, channels]`.
enum StoredValues {
    U8(Vec<u8>),
    U16(Vec<u16>),
    F32(Vec<f32>),
}

/// Decodes page `frame` of the bytes of an image file.
pub(super) fn decode(
    bytes: &[u8],
    frame: usize,
    black_white: ValueRange,
) -> Result<DecodedImage, String> {
    if bytes.starts_with(&[0xff, 0xd8]) && !jpeg_is_whole(bytes) {
        return Err("the JPEG ends before its image does".to_owned());
    }
    let mut bytes = Cow::Borrowed(bytes);
    if tiff::is_tiff(&bytes) {
        let pages = tiff::pages(Cursor::new(&bytes))?;
        let &page = pages
            .get(frame)
            .ok_or_else(|| format!("the file has {} pages, not {}", pages.len(), frame + 1))?;
        if frame > 0 {
            tiff::select_page(bytes.to_mut(), page);
        }
    }
    // A decoder that panics on a damaged file must cost that file, not the run.
    let read = catch_unwind(AssertUnwindSafe(|| read(&bytes)))
        .map_err(|_| "the decoder gave up on damaged data".to_owned())?;
    match read {
        Ok((image, orientation)) => finish(image, orientation, black_white),
        Err(ImageError::Unsupported(_)) if tiff::is_tiff(&bytes) => {
            tiff_numbers::decode(&bytes, allowed_bytes(&bytes), black_white)
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Memory that decoding a file may take.
fn allowed_bytes(bytes: &[u8]) -> u64 {
    bytes.len() as u64 * MAX_EXPANSION + ALWAYS_ALLOWED
}

fn read(bytes: &[u8]) -> ImageResult<(DynamicImage, Orientation)> {
    let allowed = allowed_bytes(bytes);
    let mut limits = Limits::default();
    limits.max_alloc = Some(allowed.min(limits.max_alloc.unwrap_or(u64::MAX)));
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    if decoder.total_bytes() > allowed {
        let (width, height) = decoder.dimensions();
        let reason = format!(
            "the header promises {width} x {height} pixels, more than {} bytes can hold",
            bytes.len()
        );
        return Err(ImageError::IoError(std::io::Error::other(reason)));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((DynamicImage::from_decoder(decoder)?, orientation))
}

fn finish(
    mut image: DynamicImage,
    orientation: Orientation,
    black_white: ValueRange,
) -> Result<DecodedImage, String> {
    image.apply_orientation(orientation);
    let (width, height) = (image.width() as usize, image.height() as usize);
    if width == 0 || height == 0 {
        return Err(format!("the image is {width} x {height} pixels"));
    }
    let (channels, stored) = match image {
        DynamicImage::ImageLuma8(i) => (1, StoredValues::U8(i.into_raw())),
        DynamicImage::ImageRgb8(i) => (3, StoredValues::U8(i.into_raw())),
        DynamicImage::ImageLumaA8(i) => (1, StoredValues::U8(drop_alpha(i.as_raw(), 1))),
        DynamicImage::ImageRgba8(i) => (3, StoredValues::U8(drop_alpha(i.as_raw(), 3))),
        DynamicImage::ImageLuma16(i) => (1, StoredValues::U16(i.into_raw())),
        DynamicImage::ImageRgb16(i) => (3, StoredValues::U16(i.into_raw())),
        DynamicImage::ImageLumaA16(i) => (1, StoredValues::U16(drop_alpha(i.as_raw(), 1))),
        DynamicImage::ImageRgba16(i) => (3, StoredValues::U16(drop_alpha(i.as_raw(), 3))),
        DynamicImage::ImageRgb32F(i) => floats(i.into_raw()),
        DynamicImage::ImageRgba32F(i) => floats(drop_alpha(i.as_raw(), 3)),
        other => {
            return Err(format!(
                "pixels of type {:?} are not supported, only 8 and 16 bit and floating-point grey and RGB",
                other.color()
            ));
        }
    };
    let kind = stored.kind();
    let limits = black_white.limits(kind);
    let windowed = limits.is_some();
    let (samples, range) = stored.into_samples(limits)?;
    Ok(DecodedImage {
        pixels: Pixels {
            width,
            height,
            channels,
            samples,
        },
        facts: ImageFacts {
            kind,
            channels,
            range,
            turned: orientation != Orientation::NoTransforms,
            windowed,
        },
    })
}

impl StoredValues {
    fn kind(&self) -> ValueKind {
        match self {
            Self::U8(_) => ValueKind::Bits(8),
            Self::U16(_) => ValueKind::Bits(16),
            Self::F32(_) => ValueKind::Float(32),
        }
    }

    /// The values between black and white, and their range as stored.
    fn into_samples(self, limits: Option<[f64; 2]>) -> Result<(PixelValues, [f64; 2]), String> {
        let range = self.range()?;
        let kind = self.kind();
        let samples = match (self, limits) {
            (Self::U8(values), None) => PixelValues::U8(values),
            (Self::U16(values), None) => PixelValues::U16(values),
            (stored, _) => windowed(stored.values(), ends(limits, kind, range)?),
        };
        Ok((samples, range))
    }

    /// Smallest and largest value. Every image that is loaded comes by here.
    fn range(&self) -> Result<[f64; 2], String> {
        fn of<T: Ord + Copy + Into<f64>>(values: &[T]) -> [f64; 2] {
            let ends = [values.iter().min(), values.iter().max()];
            ends.map(|end| end.map_or(0.0, |&end| end.into()))
        }
        match self {
            Self::U8(values) => Ok(of(values)),
            Self::U16(values) => Ok(of(values)),
            Self::F32(values) => range(values.iter().map(|&v| f64::from(v))),
        }
    }

    fn values(&self) -> Box<dyn Iterator<Item = f64> + '_> {
        match self {
            Self::U8(values) => Box::new(values.iter().map(|&v| f64::from(v))),
            Self::U16(values) => Box::new(values.iter().map(|&v| f64::from(v))),
            Self::F32(values) => Box::new(values.iter().map(|&v| f64::from(v))),
        }
    }
}

/// RGB values, or grey ones where the decoder wrote each value three times.
fn floats(values: Vec<f32>) -> (usize, StoredValues) {
    let same = |p: &[f32]| p[0].to_bits() == p[1].to_bits() && p[1].to_bits() == p[2].to_bits();
    if values.chunks_exact(3).all(same) {
        return (
            1,
            StoredValues::F32(values.into_iter().step_by(3).collect()),
        );
    }
    (3, StoredValues::F32(values))
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
