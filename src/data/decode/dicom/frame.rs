//! The stored values of one frame, uncompressed (PS3.5, chapter 8 and annex A.4).

use std::borrow::Cow;

use dicom_core::{DataElement, PrimitiveValue, VR, dicom_value, value::PixelFragmentSequence};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use dicom_pixeldata::PixelDecoder;

use super::attributes::{Photometric, StoredForm, sign_extended};
use super::codestream::{Jpeg2000Head, JpegHead};
use super::file::{Elements, RawDataSet, inflate};
use super::structure::{ElementSpan, fragments};
use super::syntax::{Compression, SECONDARY_CAPTURE};
use super::tags;

/// Bytes that a compressed byte may become: deflate shrinks by at most 1032, and everything else by less.
const MAX_EXPANSION: usize = 1032;

/// Bytes of pixels that any object may ask for.
const ALWAYS_ALLOWED: usize = 1 << 20;

/// Stored values of a frame.
pub(super) struct StoredFrame<'a> {
    bytes: Cow<'a, [u8]>,
    bytes_per_sample: usize,
    big_endian: bool,
    /// Bits that belong to a value, and unused ones below them.
    bits: usize,
    shift: usize,
    signed: bool,
    pub photometric: Photometric,
    pub planar: bool,
}

impl StoredFrame<'_> {
    /// Values in the order of the bytes.
    pub fn values(&self) -> impl Iterator<Item = i64> + '_ {
        self.bytes
            .chunks_exact(self.bytes_per_sample)
            .map(|bytes| self.value(bytes))
    }

    fn into_owned<'b>(self) -> StoredFrame<'b> {
        StoredFrame {
            bytes: Cow::Owned(self.bytes.into_owned()),
            ..self
        }
    }

    fn value(&self, bytes: &[u8]) -> i64 {
        let raw = match *bytes {
            [a] => u32::from(a),
            [a, b] if self.big_endian => u32::from(u16::from_be_bytes([a, b])),
            [a, b] => u32::from(u16::from_le_bytes([a, b])),
            [a, b, c, d] if self.big_endian => u32::from_be_bytes([a, b, c, d]),
            [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
            _ => 0,
        };
        sign_extended(i64::from(raw >> self.shift), self.bits, self.signed)
    }
}

/// Finds and decompresses frame `frame`.
///
/// # Errors
/// If the pixels are not those that the attributes promise, or of a kind that is not read.
pub(super) fn stored_frame<'a>(
    data: &'a RawDataSet<'_>,
    elements: &Elements,
    pixels: &ElementSpan,
    form: &StoredForm,
    frame: usize,
) -> Result<StoredFrame<'a>, String> {
    if frame >= form.frames {
        return Err(format!(
            "the object has {} images, not {}",
            form.frames,
            frame + 1
        ));
    }
    if data.compression.is_native() {
        let bytes = &data.bytes[pixels.value.clone()];
        if data.encoding.big_endian && pixels.words && form.bits_allocated <= 8 {
            return native_words(bytes, data, form, frame);
        }
        return native(bytes, data, form, frame);
    }
    if !pixels.open {
        return Err(format!(
            "the file says that its pixels are {}, and they are not",
            data.compression.name()
        ));
    }
    let stream = encapsulated(data, elements, pixels, form, frame)?;
    let asked = form.frame_bits() / 8;
    if asked > stream.len() * MAX_EXPANSION + ALWAYS_ALLOWED {
        return Err(too_small(form, asked, stream.len()));
    }
    match data.compression {
        Compression::Jpeg => jpeg(stream, data, form),
        Compression::Jpeg2000 => jpeg_2000(&stream, data, form),
        Compression::Rle => rle(&stream, data, form),
        Compression::DeflatedFrames => {
            let bytes = inflate(&stream, asked as u64);
            whole(Cow::Owned(bytes), data, form)
        }
        _ => whole(stream, data, form),
    }
}

fn too_small(form: &StoredForm, promised: usize, found: usize) -> String {
    format!(
        "the header promises {} images of {} x {} pixels ({promised} bytes), the file holds {found} bytes of them",
        form.frames, form.columns, form.rows
    )
}

fn native<'a>(
    bytes: &'a [u8],
    data: &RawDataSet<'_>,
    form: &StoredForm,
    frame: usize,
) -> Result<StoredFrame<'a>, String> {
    let bits = form.frame_bits();
    let promised = bits.saturating_mul(form.frames).div_ceil(8);
    if promised > bytes.len() {
        return Err(too_small(form, promised, bytes.len()));
    }
    if form.bits_allocated == 1 {
        let bit = |at: usize| bytes[at / 8] >> (at % 8) & 1;
        let bits: Vec<u8> = (frame * bits..(frame + 1) * bits).map(bit).collect();
        return Ok(StoredFrame::new(Cow::Owned(bits), 1, data, form));
    }
    let size = bits / 8;
    let bytes = Cow::Borrowed(&bytes[frame * size..(frame + 1) * size]);
    let mut stored = StoredFrame::new(bytes, form.bits_allocated / 8, data, form);
    stored.big_endian = data.encoding.big_endian;
    Ok(stored)
}

/// Pixels of at most 8 bits in words whose higher byte comes first: the lower byte is the earlier pixel.
fn native_words<'a>(
    bytes: &[u8],
    data: &RawDataSet<'_>,
    form: &StoredForm,
    frame: usize,
) -> Result<StoredFrame<'a>, String> {
    let bytes: Vec<u8> = bytes
        .chunks_exact(2)
        .flat_map(|word| [word[1], word[0]])
        .collect();
    native(&bytes, data, form, frame).map(StoredFrame::into_owned)
}

/// A frame that is written as uncompressed ones are.
fn whole<'a>(
    bytes: Cow<'a, [u8]>,
    data: &RawDataSet<'_>,
    form: &StoredForm,
) -> Result<StoredFrame<'a>, String> {
    let one = StoredForm {
        frames: 1,
        ..form.clone()
    };
    match bytes {
        Cow::Borrowed(bytes) => native(bytes, data, &one, 0),
        Cow::Owned(bytes) => native(&bytes, data, &one, 0).map(StoredFrame::into_owned),
    }
}

impl<'a> StoredFrame<'a> {
    fn new(
        bytes: Cow<'a, [u8]>,
        bytes_per_sample: usize,
        data: &RawDataSet<'_>,
        form: &StoredForm,
    ) -> Self {
        Self {
            bytes,
            bytes_per_sample,
            big_endian: false,
            bits: form.bits_stored,
            shift: form.shift,
            signed: form.signed,
            photometric: form.photometric,
            planar: form.planar && !matches!(data.compression, Compression::Rle),
        }
    }
}

/// The compressed bytes of a frame, which may lie in several fragments.
fn encapsulated<'a>(
    data: &'a RawDataSet<'_>,
    elements: &Elements,
    pixels: &ElementSpan,
    form: &StoredForm,
    frame: usize,
) -> Result<Cow<'a, [u8]>, String> {
    let items =
        fragments(&data.bytes, data.encoding, pixels).map_err(|e| e.reason(data.bytes.len()))?;
    let (table, fragments) = items
        .split_first()
        .ok_or("the compressed pixels have no offset table")?;
    if fragments.len() < form.frames {
        return Err(format!(
            "the header promises {} images, the file holds {} compressed ones",
            form.frames,
            fragments.len()
        ));
    }
    let joined = |fragments: &[&[u8]]| Cow::Owned(fragments.concat());
    if fragments.len() == form.frames {
        return Ok(Cow::Borrowed(fragments[frame]));
    }
    if form.frames == 1 {
        return Ok(joined(fragments));
    }
    let extended = elements
        .extended_offsets
        .clone()
        .map(|range| &data.bytes[range]);
    let starts = starts_by_offset(table, extended, fragments)
        .filter(|starts| starts.len() == form.frames)
        .or_else(|| starts_by_content(fragments))
        .filter(|starts| starts.len() == form.frames)
        .ok_or_else(|| {
            format!(
                "it cannot be told which of the {} compressed fragments belong to which of {} images",
                fragments.len(),
                form.frames
            )
        })?;
    let end = starts.get(frame + 1).copied().unwrap_or(fragments.len());
    Ok(joined(&fragments[starts[frame]..end]))
}

/// The first fragment of each frame, by the offset table.
fn starts_by_offset(
    basic: &[u8],
    extended: Option<&[u8]>,
    fragments: &[&[u8]],
) -> Option<Vec<usize>> {
    let offsets: Vec<u64> = match extended {
        Some(bytes) => bytes
            .chunks_exact(8)
            .map(|b| b.try_into().map_or(0, u64::from_le_bytes))
            .collect(),
        None => basic
            .chunks_exact(4)
            .map(|b| b.try_into().map_or(0, |b| u64::from(u32::from_le_bytes(b))))
            .collect(),
    };
    // Offsets count from the first fragment, with the eight bytes in front of each.
    let mut at = 0;
    let mut positions = Vec::with_capacity(fragments.len());
    for fragment in fragments {
        positions.push(at);
        at += fragment.len() as u64 + 8;
    }
    let found = offsets
        .iter()
        .map(|offset| positions.binary_search(offset).ok());
    let starts: Vec<usize> = found.collect::<Option<_>>()?;
    starts.is_sorted().then_some(starts)
}

/// The fragments that begin a JPEG or a JPEG 2000 code stream.
fn starts_by_content(fragments: &[&[u8]]) -> Option<Vec<usize>> {
    let begins =
        |f: &&[u8]| f.starts_with(&[0xff, 0xd8, 0xff]) || f.starts_with(&[0xff, 0x4f, 0xff, 0x51]);
    let starts: Vec<usize> = (0..fragments.len())
        .filter(|&i| begins(&fragments[i]))
        .collect();
    (starts.first() == Some(&0)).then_some(starts)
}

fn jpeg<'a>(
    stream: Cow<'_, [u8]>,
    data: &RawDataSet<'_>,
    form: &StoredForm,
) -> Result<StoredFrame<'a>, String> {
    let head = JpegHead::of(&stream, form)?;
    let mut stream = stream.into_owned();
    if form.photometric == Photometric::Rgb {
        head.name_rgb(&mut stream);
    }
    let bytes_per_sample = if head.precision == 8 { 1 } else { 2 };
    let bytes = by_crate(&stream, data, form, bytes_per_sample)?;
    let mut stored = decompressed(bytes, bytes_per_sample, head.precision, data, form);
    stored.photometric = match form.photometric {
        kind if form.samples == 1 => kind,
        Photometric::YbrFull | Photometric::YbrFull422 if head.lossless => Photometric::YbrFull,
        _ => Photometric::Rgb,
    };
    Ok(stored)
}

fn jpeg_2000<'a>(
    stream: &[u8],
    data: &RawDataSet<'_>,
    form: &StoredForm,
) -> Result<StoredFrame<'a>, String> {
    let head = Jpeg2000Head::of(stream, form)?;
    let bytes_per_sample = form.bits_allocated.div_ceil(8);
    if head.precision > form.bits_allocated || bytes_per_sample > 2 {
        return Err(format!(
            "the JPEG 2000 has {} bits, the DICOM object says {}",
            head.precision, form.bits_allocated
        ));
    }
    let bytes = by_crate(stream, data, form, bytes_per_sample)?;
    let mut stored = decompressed(bytes, bytes_per_sample, head.precision, data, form);
    stored.photometric = match form.photometric {
        kind if form.samples == 1 => kind,
        Photometric::YbrFull | Photometric::YbrFull422 if !head.transforms_colours => {
            Photometric::YbrFull
        }
        _ => Photometric::Rgb,
    };
    Ok(stored)
}

fn rle<'a>(
    stream: &[u8],
    data: &RawDataSet<'_>,
    form: &StoredForm,
) -> Result<StoredFrame<'a>, String> {
    let bytes_per_sample = form.bits_allocated / 8;
    if !matches!(bytes_per_sample, 1 | 2) {
        return Err(format!(
            "RLE with {} bits is not read, only with 8 or 16: decompress the file with `gdcmconv --raw IN OUT` (GDCM)",
            form.bits_allocated
        ));
    }
    // One segment for each byte of a pixel, with 16 numbers in front of them (PS3.5, annex G.5).
    let segments = stream.first_chunk().map(|b| u32::from_le_bytes(*b));
    let expected = form.samples * bytes_per_sample;
    if stream.len() < 64 || segments != Some(expected as u32) {
        return Err(format!(
            "the RLE data are damaged: expected {expected} segments in {} bytes",
            stream.len()
        ));
    }
    let bytes = by_crate(stream, data, form, bytes_per_sample)?;
    let mut stored = decompressed(bytes, bytes_per_sample, form.bits_allocated, data, form);
    stored.shift = form.shift;
    if form.photometric == Photometric::YbrFull422 {
        stored.photometric = Photometric::YbrFull;
    }
    Ok(stored)
}

fn decompressed<'a>(
    bytes: Vec<u8>,
    bytes_per_sample: usize,
    precision: usize,
    data: &RawDataSet<'_>,
    form: &StoredForm,
) -> StoredFrame<'a> {
    StoredFrame {
        bits: form.bits_stored.min(precision),
        shift: 0,
        planar: false,
        ..StoredFrame::new(Cow::Owned(bytes), bytes_per_sample, data, form)
    }
}

/// Has `dicom-pixeldata` decompress a frame, as the only one of an object that holds nothing else.
fn by_crate(
    stream: &[u8],
    data: &RawDataSet<'_>,
    form: &StoredForm,
    bytes_per_sample: usize,
) -> Result<Vec<u8>, String> {
    let damaged = || format!("the {} data are damaged", data.compression.name());
    let bits = 8 * bytes_per_sample as u16;
    let number = |tag, value: u16| DataElement::new(tag, VR::US, PrimitiveValue::from(value));
    let fragment = stream.to_vec();
    let object = InMemDicomObject::from_element_iter([
        number(tags::SAMPLES_PER_PIXEL, form.samples as u16),
        DataElement::new(
            tags::PHOTOMETRIC_INTERPRETATION,
            VR::CS,
            dicom_value!(
                Str,
                if form.samples == 3 {
                    "RGB"
                } else {
                    "MONOCHROME2"
                }
            ),
        ),
        number(tags::ROWS, form.rows as u16),
        number(tags::COLUMNS, form.columns as u16),
        number(tags::PLANAR_CONFIGURATION, 0),
        number(tags::BITS_ALLOCATED, bits),
        number(tags::BITS_STORED, bits),
        number(tags::HIGH_BIT, bits - 1),
        number(tags::PIXEL_REPRESENTATION, 0),
        DataElement::new(
            tags::PIXEL_DATA,
            VR::OB,
            PixelFragmentSequence::new_fragments(vec![fragment]),
        ),
    ]);
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(&data.syntax)
        .media_storage_sop_class_uid(SECONDARY_CAPTURE)
        .media_storage_sop_instance_uid("2.25.1");
    let object = object.with_meta(meta).map_err(|_| damaged())?;
    let pixels = object.decode_pixel_data_frame(0).map_err(|_| damaged())?;
    let expected = form.pixels() * form.samples * bytes_per_sample;
    let bytes = pixels.data().to_vec();
    if bytes.len() != expected {
        return Err(damaged());
    }
    Ok(bytes)
}
