//! TIFF whose values are no picture but measurements: floating point, signed or wide integers, as scientific programs save.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ::tiff::ColorType;
use ::tiff::decoder::{Decoder, DecodingResult, Limits};

use super::range::{DecodedImage, ImageFacts, ValueKind, ValueRange, ends, range, windowed};
use crate::data::pixels::Pixels;

/// Decodes the first page of `bytes`, grey or RGB, whatever its values are, in at most `allowed_bytes` of memory for a
/// buffer.
pub(super) fn decode(
    bytes: &[u8],
    allowed_bytes: u64,
    black_white: ValueRange,
) -> Result<DecodedImage, String> {
    // A decoder that panics on a damaged file must cost that file, not the run.
    let values = catch_unwind(AssertUnwindSafe(|| Values::read(bytes, allowed_bytes)))
        .map_err(|_| "the decoder gave up on damaged data".to_owned())??;
    let range = range(values.numbers.iter().copied())?;
    let given = black_white.limits(values.kind);
    let limits = ends(given, values.kind, range)?;
    Ok(DecodedImage {
        facts: ImageFacts {
            kind: values.kind,
            channels: values.channels,
            range,
            turned: false,
            windowed: given.is_some(),
        },
        pixels: Pixels {
            width: values.width,
            height: values.height,
            channels: values.channels,
            samples: windowed(values.numbers.into_iter(), limits),
        },
    })
}

struct Values {
    width: usize,
    height: usize,
    channels: usize,
    kind: ValueKind,
    /// `[height, width, channels]`.
    numbers: Vec<f64>,
}

impl Values {
    fn read(bytes: &[u8], allowed_bytes: u64) -> Result<Self, String> {
        let error = |e: ::tiff::TiffError| e.to_string();
        let allowed = usize::try_from(allowed_bytes).unwrap_or(usize::MAX);
        let mut limits = Limits::default();
        limits.decoding_buffer_size = limits.decoding_buffer_size.min(allowed);
        limits.intermediate_buffer_size = limits.intermediate_buffer_size.min(allowed);
        let decoder = Decoder::new(Cursor::new(bytes)).map_err(error)?;
        let mut decoder = decoder.with_limits(limits);
        let (width, height) = decoder.dimensions().map_err(error)?;
        let channels = match decoder.colortype().map_err(error)? {
            ColorType::Gray(_) => 1,
            ColorType::RGB(_) => 3,
            other => {
                return Err(format!(
                    "{other:?} values are not supported, only grey and RGB"
                ));
            }
        };
        let (kind, numbers) = match decoder.read_image().map_err(error)? {
            DecodingResult::U8(v) => (ValueKind::Bits(8), numbers(v)),
            DecodingResult::U16(v) => (ValueKind::Bits(16), numbers(v)),
            DecodingResult::U32(v) => (ValueKind::Bits(32), numbers(v)),
            DecodingResult::U64(v) => (
                ValueKind::Bits(64),
                v.into_iter().map(|v| v as f64).collect(),
            ),
            DecodingResult::I8(v) => (ValueKind::Bits(8), numbers(v)),
            DecodingResult::I16(v) => (ValueKind::Bits(16), numbers(v)),
            DecodingResult::I32(v) => (ValueKind::Bits(32), numbers(v)),
            DecodingResult::I64(v) => (
                ValueKind::Bits(64),
                v.into_iter().map(|v| v as f64).collect(),
            ),
            DecodingResult::F16(v) => (ValueKind::Float(16), numbers(v)),
            DecodingResult::F32(v) => (ValueKind::Float(32), numbers(v)),
            DecodingResult::F64(v) => (ValueKind::Float(64), v),
        };
        let (width, height) = (width as usize, height as usize);
        if numbers.is_empty() || numbers.len() != width * height * channels {
            return Err(format!(
                "{} values for {width} x {height} pixels of {channels} channels",
                numbers.len()
            ));
        }
        Ok(Self {
            width,
            height,
            channels,
            kind,
            numbers,
        })
    }
}

fn numbers<T: Into<f64>>(values: Vec<T>) -> Vec<f64> {
    values.into_iter().map(Into::into).collect()
}
