//! 8-bit images for looking: value mapping, PNG with text chunks written whole or not at all, reading the text back.

use std::io::{self, BufReader};
use std::path::Path;

use png::{BitDepth, ColorType, Compression, Encoder};

use crate::files::write_bytes_atomically;

/// An 8-bit grey or RGB image, `[height, width, channels]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image8 {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 1 or 3.
    pub channels: usize,
    /// `[height, width, channels]`, row-major.
    pub values: Vec<u8>,
}

impl Image8 {
    /// An image of one colour.
    pub fn filled(width: usize, height: usize, channels: usize, value: u8) -> Self {
        Self {
            width,
            height,
            channels,
            values: vec![value; width * height * channels],
        }
    }

    /// An image from `[H, W, C]` values, nominally in [-1, 1], through [`to_u8`].
    ///
    /// # Panics
    /// If `values` does not hold `height * width * channels` elements or the channels are neither 1 nor 3.
    pub fn from_f32(values: &[f32], [height, width, channels]: [usize; 3]) -> Self {
        assert!(channels == 1 || channels == 3);
        assert_eq!(values.len(), height * width * channels);
        Self {
            width,
            height,
            channels,
            values: values.iter().map(|&v| to_u8(v)).collect(),
        }
    }

    /// The images of a `[B, H, W, C]` batch.
    ///
    /// # Panics
    /// As [`Image8::from_f32`].
    pub fn from_batch(values: &[f32], [b, h, w, c]: [usize; 4]) -> Vec<Self> {
        assert_eq!(values.len(), b * h * w * c);
        values
            .chunks_exact((h * w * c).max(1))
            .map(|image| Self::from_f32(image, [h, w, c]))
            .collect()
    }

    /// The same image with 3 channels.
    pub fn to_rgb(&self) -> Self {
        if self.channels == 3 {
            return self.clone();
        }
        Self {
            channels: 3,
            values: self.values.iter().flat_map(|&v| [v; 3]).collect(),
            ..*self
        }
    }
}

/// The reference's mapping of an image value to 8 bits: `(clip(x, -1, 1) + 1) / 2 * 255`, truncated. NaN becomes 0.
pub fn to_u8(x: f32) -> u8 {
    ((x.clamp(-1.0, 1.0) + 1.0) / 2.0 * 255.0) as u8
}

/// The bytes of a PNG file. Each text entry becomes a chunk: `tEXt` where Latin-1 suffices, else `iTXt`.
///
/// # Errors
/// If a side is 0, or a keyword is not 1 to 79 Latin-1 characters.
pub fn encode(image: &Image8, text: &[(&str, String)]) -> io::Result<Vec<u8>> {
    let side =
        |n: usize| u32::try_from(n).map_err(|_| io::Error::other("the image is too large for PNG"));
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, side(image.width)?, side(image.height)?);
    encoder.set_color(match image.channels {
        1 => ColorType::Grayscale,
        _ => ColorType::Rgb,
    });
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Balanced);
    for (keyword, value) in text {
        let is_latin1 = value.chars().all(|c| u32::from(c) < 256);
        if is_latin1 {
            encoder.add_text_chunk((*keyword).to_owned(), value.clone())?;
        } else {
            encoder.add_itxt_chunk((*keyword).to_owned(), value.clone())?;
        }
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&image.values)?;
    writer.finish()?;
    Ok(bytes)
}

/// Writes a PNG file with text chunks; on any error `path` is as it was.
///
/// # Errors
/// As [`encode`], and what the operating system reports.
pub fn write(path: &Path, image: &Image8, text: &[(&str, String)]) -> io::Result<()> {
    write_bytes_atomically(path, &encode(image, text)?)
}

/// The text chunks of a PNG file in file order, `tEXt` before `zTXt` before `iTXt`.
///
/// # Errors
/// If the file cannot be read or is no PNG.
pub fn read_text(path: &Path) -> io::Result<Vec<(String, String)>> {
    let file = BufReader::new(std::fs::File::open(path)?);
    let mut reader = png::Decoder::new(file).read_info()?;
    reader.finish()?;
    let info = reader.info();
    let mut text: Vec<(String, String)> = Vec::new();
    for chunk in &info.uncompressed_latin1_text {
        text.push((chunk.keyword.clone(), chunk.text.clone()));
    }
    for chunk in &info.compressed_latin1_text {
        text.push((chunk.keyword.clone(), chunk.get_text()?));
    }
    for chunk in &info.utf8_text {
        text.push((chunk.keyword.clone(), chunk.get_text()?));
    }
    Ok(text)
}
