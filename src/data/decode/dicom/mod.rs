//! DICOM objects (PS3.3, PS3.5, PS3.10), with `dicom-object` and `dicom-pixeldata`.
//!
//! What says who was imaged, when and where is stepped over unread: only what pixels depend on reaches the crates, so that
//! no error and no event can quote more. Errors are in words of this module, and the crates' own events go nowhere.

mod attributes;
mod codestream;
mod colour;
mod file;
mod frame;
mod lut;
mod structure;
mod syntax;
mod tags;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use dicom_core::Tag;
use dicom_object::InMemDicomObject;
use tracing::subscriber::{NoSubscriber, with_default};

use super::range::{DecodedImage, ImageFacts, ValueKind, ValueRange, range, windowed};
use crate::data::pixels::{PixelValues, Pixels};
use attributes::{Modality, Photometric, StoredForm, Voi, class, padding};
use colour::rgb;
use file::{Elements, RawDataSet};
use frame::{StoredFrame, stored_frame};
use syntax::Compression;

/// Bytes of a file that its header is first looked for in, and what that grows by where it is longer.
const HEADER: u64 = 64 << 10;
const HEADER_GROWTH: u64 = 16;

/// Deflate shrinks by at most so much.
const MAX_EXPANSION: u64 = 1032;

const PATIENT_ID: Tag = Tag(0x0010, 0x0020);

/// True if these are the first bytes of a DICOM file, or of a data set without preamble, as old files are.
pub(super) fn is_dicom(head: &[u8]) -> bool {
    file::is_dicom(head)
}

/// Number of images in a DICOM file, from its header.
///
/// # Errors
/// If it is damaged, or says that it holds more images than it has bytes for.
pub(super) fn frames(path: &Path) -> Result<usize, String> {
    with_header(path, |data, file_bytes| {
        let elements = data.elements(tags::PIXEL_REPRESENTATION).ok()?;
        if !elements.complete {
            return None;
        }
        Some(quietly(|| {
            let form = StoredForm::of(&*data.attributes(&elements)?)?;
            let bytes = form.frame_bits().saturating_mul(form.frames) as u64 / 8;
            let (needed, available) = match data.compression {
                Compression::None => (bytes, file_bytes),
                Compression::DeflatedDataSet => (bytes, file_bytes.saturating_mul(MAX_EXPANSION)),
                // Each fragment has eight bytes in front of it.
                _ => ((form.frames as u64).saturating_mul(8), file_bytes),
            };
            if needed > available {
                return Err(format!(
                    "the header promises {} images, more than the file can hold",
                    form.frames
                ));
            }
            Ok(form.frames)
        }))
    })
    .unwrap_or_else(|| Err("the header of the DICOM file is damaged".to_owned()))
}

/// A key for the images of one patient: 16 hexadecimal digits of the BLAKE3 hash of the patient's ID, `None` where the file
/// names none. An ID can be guessed from its hash, so keys stay in memory and are never written anywhere.
pub(super) fn patient_key(path: &Path) -> Option<String> {
    with_header(path, |data, _| {
        let id = data.value(PATIENT_ID)?;
        Some(id.map(|id| id.trim_ascii()).and_then(|id| {
            let end = id.iter().rposition(|&byte| !matches!(byte, 0 | b' '))?;
            let hash = blake3::hash(&id[..=end]);
            Some(hash.to_hex()[..16].to_owned())
        }))
    })
    .flatten()
}

/// Calls `look` with as much of a file as it needs: more is read as long as it answers `None`.
fn with_header<T>(path: &Path, look: impl Fn(&RawDataSet<'_>, u64) -> Option<T>) -> Option<T> {
    let file = File::open(path).ok()?;
    let file_bytes = file.metadata().ok()?.len();
    let mut bytes = Vec::new();
    let mut wanted = HEADER;
    loop {
        let missing = wanted.saturating_sub(bytes.len() as u64);
        (&file).take(missing).read_to_end(&mut bytes).ok()?;
        let found = RawDataSet::new(&bytes)
            .ok()
            .and_then(|data| look(&data, file_bytes));
        if found.is_some() || bytes.len() as u64 >= file_bytes || (bytes.len() as u64) < wanted {
            return found;
        }
        wanted = wanted.saturating_mul(HEADER_GROWTH);
    }
}

/// Runs what calls the crates: a panic becomes an error, and events, which could quote what a file says, are dropped.
fn quietly<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    with_default(NoSubscriber::default(), || {
        catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(|_| Err("the decoder gave up on damaged data".to_owned()))
    })
}

/// Decodes image `frame` of a DICOM object: stored values, rescaled (modality LUT), windowed (by `black_white`, else by the
/// file), from black to white.
///
/// # Errors
/// What is wrong with the file, or what kind of file is not read and what to do about it.
pub(super) fn decode(
    bytes: &[u8],
    frame: usize,
    black_white: ValueRange,
) -> Result<DecodedImage, String> {
    quietly(|| decode_loudly(bytes, frame, black_white))
}

fn decode_loudly(
    bytes: &[u8],
    frame: usize,
    black_white: ValueRange,
) -> Result<DecodedImage, String> {
    let data = RawDataSet::new(bytes)?;
    let elements = data
        .elements(tags::PIXEL_DATA)
        .map_err(|e| e.reason(data.bytes.len()))?;
    let attributes = data.attributes(&elements)?;
    let pixels = elements
        .pixels
        .as_ref()
        .ok_or_else(|| no_pixels(&elements, &attributes))?;
    let form = StoredForm::of(&attributes)?;
    let stored = stored_frame(&data, &elements, pixels, &form, frame)?;
    match stored.photometric {
        Photometric::Monochrome1 | Photometric::Monochrome2 => {
            grey(&stored, &form, &attributes, frame, black_white)
        }
        _ => colour(&stored, &form, &attributes, black_white),
    }
}

fn no_pixels(elements: &Elements, attributes: &InMemDicomObject) -> String {
    if elements.has_float_pixels {
        return "the DICOM object holds floating-point pixels, only integers are read".to_owned();
    }
    let what = syntax::without_pixels(&class(attributes));
    format!("the DICOM object holds no image: {what}")
}

fn grey(
    stored: &StoredFrame<'_>,
    form: &StoredForm,
    attributes: &InMemDicomObject,
    frame: usize,
    black_white: ValueRange,
) -> Result<DecodedImage, String> {
    let modality = Modality::of(attributes, frame)?;
    let padding = padding(attributes, form);
    let is_padding = |value: i64| padding.is_some_and(|[from, to]| (from..=to).contains(&value));
    let limits = black_white.limits(ValueKind::Bits(form.bits_stored as u32));
    let voi = match limits {
        Some(_) => None,
        None => Voi::of(attributes, frame)?,
    };
    let image = stored.values().filter(|&value| !is_padding(value));
    let range = match range(image.map(|value| modality.apply(value)))? {
        // Nothing but padding.
        [least, most] if least > most => [0.0, 0.0],
        range => range,
    };
    let inverted = stored.photometric == Photometric::Monochrome1;
    let windowed = voi.is_some() || limits.is_some();
    let samples =
        if windowed || !modality.is_identity() || (form.bits_stored, form.signed) != (8, false) {
            let [black, white] = match limits {
                Some(limits) => limits,
                None => full_range(&modality, form),
            };
            let brightness = |value: f64| match &voi {
                Some(voi) => voi.apply(value),
                None => ((value - black) / (white - black)).clamp(0.0, 1.0),
            };
            let shown = |value: i64| {
                if is_padding(value) {
                    return 0;
                }
                let bright = brightness(modality.apply(value));
                let bright = if inverted { 1.0 - bright } else { bright };
                (bright * 65_535.0).round() as u16
            };
            PixelValues::U16(stored.values().map(shown).collect())
        } else {
            let shown = |value: i64| match value as u8 {
                _ if is_padding(value) => 0,
                value if inverted => 255 - value,
                value => value,
            };
            PixelValues::U8(stored.values().map(shown).collect())
        };
    Ok(decoded(form, 1, form.bits_stored, samples, range, windowed))
}

/// Black and white where nobody says: the smallest and the largest value that the stored bits can hold, rescaled.
fn full_range(modality: &Modality, form: &StoredForm) -> [f64; 2] {
    if let Modality::Table(table) = modality {
        return [0.0, 2f64.powi(table.bits as i32) - 1.0];
    }
    let values = 1i64 << form.bits_stored;
    let least = if form.signed { -values / 2 } else { 0 };
    let ends = [least, least + values - 1].map(|end| modality.apply(end));
    [ends[0].min(ends[1]), ends[0].max(ends[1])]
}

fn colour(
    stored: &StoredFrame<'_>,
    form: &StoredForm,
    attributes: &InMemDicomObject,
    black_white: ValueRange,
) -> Result<DecodedImage, String> {
    let rgb = rgb(stored, form, attributes)?;
    let values = || rgb.values.iter().map(|&value| f64::from(value));
    let range = range(values())?;
    let limits = black_white.limits(ValueKind::Bits(rgb.bits as u32));
    let samples = match (limits, rgb.bits) {
        (Some(limits), _) => windowed(values(), limits),
        (None, 8) => PixelValues::U8(rgb.values.iter().map(|&value| value as u8).collect()),
        (None, 16) => PixelValues::U16(rgb.values),
        (None, bits) => windowed(values(), [0.0, 2f64.powi(bits as i32) - 1.0]),
    };
    let windowed = limits.is_some();
    Ok(decoded(form, 3, rgb.bits, samples, range, windowed))
}

fn decoded(
    form: &StoredForm,
    channels: usize,
    bits: usize,
    samples: PixelValues,
    range: [f64; 2],
    windowed: bool,
) -> DecodedImage {
    DecodedImage {
        pixels: Pixels {
            width: form.columns,
            height: form.rows,
            channels,
            samples,
        },
        facts: ImageFacts {
            kind: ValueKind::Bits(bits as u32),
            channels,
            range,
            turned: false,
            windowed,
        },
    }
}
