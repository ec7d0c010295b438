//! Objects written with `dicom-object`, one of each kind, decoded and compared with values computed by formula.

use std::fs;
use std::io::{Cursor, Write};
use std::sync::{Arc, Mutex};

use dicom_core::value::{DataSetSequence, PixelFragmentSequence};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use flate2::Compression as Level;
use flate2::write::DeflateEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, Rgb, RgbImage};
use tempfile::TempDir;

use super::{decode, frames, is_dicom, patient_key, tags};
use crate::data::decode::range::{DecodedImage, ValueKind, ValueRange};
use crate::data::pixels::PixelValues;

const IMPLICIT: &str = "1.2.840.10008.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const BIG: &str = "1.2.840.10008.1.2.2";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
const RLE: &str = "1.2.840.10008.1.2.5";
const BASELINE: &str = "1.2.840.10008.1.2.4.50";

const NAME: &str = "Secretperson^Anna";
const ID: &str = "ID-4711-private";

/// An object that says whose image it is.
struct Object(InMemDicomObject);

impl Object {
    fn new([columns, rows]: [u16; 2], bits: [u16; 2]) -> Self {
        let mut object = Self(InMemDicomObject::new_empty());
        object.text(tags::OBJECT_CLASS, VR::UI, "1.2.840.10008.5.1.4.1.1.7");
        object.text(Tag(0x0008, 0x0020), VR::DA, "20260315");
        object.text(Tag(0x0010, 0x0010), VR::PN, NAME);
        object.text(Tag(0x0010, 0x0020), VR::LO, ID);
        object.number(tags::SAMPLES_PER_PIXEL, 1);
        object.text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
        object.number(tags::ROWS, rows);
        object.number(tags::COLUMNS, columns);
        object.number(tags::BITS_ALLOCATED, bits[0]);
        object.number(tags::BITS_STORED, bits[1]);
        object.number(tags::HIGH_BIT, bits[1] - 1);
        object.number(tags::PIXEL_REPRESENTATION, 0);
        object
    }

    fn rgb(size: [u16; 2], bits: u16) -> Self {
        let mut object = Self::new(size, [bits, bits]);
        object.number(tags::SAMPLES_PER_PIXEL, 3);
        object.text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "RGB");
        object
    }

    fn text(&mut self, tag: Tag, vr: VR, value: &str) {
        self.0
            .put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
    }

    fn number(&mut self, tag: Tag, value: u16) {
        self.0
            .put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
    }

    fn numbers(&mut self, tag: Tag, vr: VR, values: &[u16]) {
        let values = PrimitiveValue::U16(values.into());
        self.0.put(DataElement::new(tag, vr, values));
    }

    fn item(&mut self, tag: Tag, items: Vec<InMemDicomObject>) {
        self.0
            .put(DataElement::new(tag, VR::SQ, DataSetSequence::from(items)));
    }

    fn window(&mut self, center: &str, width: &str) {
        self.text(tags::WINDOW_CENTER, VR::DS, center);
        self.text(tags::WINDOW_WIDTH, VR::DS, width);
    }

    fn bytes8(&mut self, values: &[u8]) {
        let value = PrimitiveValue::U8(values.into());
        self.0
            .put(DataElement::new(tags::PIXEL_DATA, VR::OB, value));
    }

    fn words(&mut self, values: &[u16]) {
        self.numbers(tags::PIXEL_DATA, VR::OW, values);
    }

    fn fragments(&mut self, fragments: Vec<Vec<u8>>) {
        self.0.put(DataElement::new(
            tags::PIXEL_DATA,
            VR::OB,
            PixelFragmentSequence::new_fragments(fragments),
        ));
    }

    fn file(&self, syntax: &str) -> Vec<u8> {
        let meta = FileMetaTableBuilder::new()
            .transfer_syntax(syntax)
            .media_storage_sop_class_uid("1.2.840.10008.5.1.4.1.1.7")
            .media_storage_sop_instance_uid("2.25.77");
        let mut bytes = Vec::new();
        let object = self.0.clone().with_meta(meta).unwrap();
        object.write_all(&mut bytes).unwrap();
        bytes
    }

    /// The data set without preamble and meta information.
    fn bare(&self, syntax: &str) -> Vec<u8> {
        let bytes = self.file(syntax);
        let length = u32::from_le_bytes(bytes[140..144].try_into().unwrap()) as usize;
        bytes[144 + length..].to_vec()
    }
}

fn stored(bytes: &[u8]) -> DecodedImage {
    decode(bytes, 0, ValueRange::Stored).unwrap()
}

fn reason(bytes: &[u8]) -> String {
    decode(bytes, 0, ValueRange::Stored).unwrap_err()
}

fn grey16(bytes: &[u8]) -> Vec<u16> {
    match stored(bytes).pixels.samples {
        PixelValues::U16(values) => values,
        other => panic!("{other:?}"),
    }
}

fn samples8(bytes: &[u8]) -> Vec<u8> {
    match stored(bytes).pixels.samples {
        PixelValues::U8(values) => values,
        other => panic!("{other:?}"),
    }
}

/// A step from 0 to 1 as 16 bits.
fn to_16(value: f64) -> u16 {
    (value.clamp(0.0, 1.0) * 65_535.0).round() as u16
}

const TWELVE_BITS: [u16; 6] = [0, 1, 1000, 2047, 4000, 4095];

fn twelve_bits() -> Object {
    let mut object = Object::new([3, 2], [16, 12]);
    object.words(&TWELVE_BITS);
    object
}

#[test]
fn values_without_a_window_fill_the_stored_bits() {
    let expected: Vec<u16> = TWELVE_BITS
        .iter()
        .map(|&v| to_16(f64::from(v) / 4095.0))
        .collect();
    for syntax in [IMPLICIT, EXPLICIT, BIG] {
        let bytes = twelve_bits().file(syntax);
        assert_eq!(grey16(&bytes), expected, "{syntax}");
        let facts = stored(&bytes).facts;
        assert_eq!(facts.kind, ValueKind::Bits(12));
        assert_eq!((facts.range, facts.windowed), ([0.0, 4095.0], false));
    }
    // Eight bits stay as they are, sixteen too.
    let mut object = Object::new([3, 1], [8, 8]);
    object.bytes8(&[0, 7, 255, 0]);
    assert_eq!(samples8(&object.file(EXPLICIT)), [0, 7, 255]);
    let mut object = Object::new([3, 1], [16, 16]);
    object.words(&[0, 7, 65_535]);
    assert_eq!(grey16(&object.file(EXPLICIT)), [0, 7, 65_535]);
}

#[test]
fn signed_values_and_unused_bits() {
    let mut object = Object::new([4, 1], [16, 12]);
    object.number(tags::PIXEL_REPRESENTATION, 1);
    // Overlays may lie in the four unused bits.
    object.words(&[0x0800, 0xf000 | 0x0fff, 0x0000, 0x07ff]);
    let bytes = object.file(EXPLICIT);
    let expected = [-2048, -1, 0, 2047].map(|v| to_16((f64::from(v) + 2048.0) / 4095.0));
    assert_eq!(grey16(&bytes), expected);
    assert_eq!(stored(&bytes).facts.range, [-2048.0, 2047.0]);
    object.number(tags::HIGH_BIT, 15);
    object.words(&[0x8000, 0xfff0, 0x0000, 0x7ff0]);
    assert_eq!(grey16(&object.file(EXPLICIT)), expected);
}

#[test]
fn monochrome1_is_inverted() {
    let mut object = Object::new([3, 1], [8, 8]);
    object.text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1");
    object.bytes8(&[0, 7, 255, 0]);
    assert_eq!(samples8(&object.file(EXPLICIT)), [255, 248, 0]);
    let mut object = twelve_bits();
    object.text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1");
    let expected = TWELVE_BITS.map(|v| to_16(1.0 - f64::from(v) / 4095.0));
    assert_eq!(grey16(&object.file(EXPLICIT)), expected);
}

/// PS3.3, C.11.2.1.2.1 to C.11.2.1.3.2, after rescale slope and intercept.
#[test]
fn windows_of_each_form() {
    let hounsfield = TWELVE_BITS.map(|v| f64::from(v) * 2.0 - 1024.0);
    let (center, width) = (40.0, 400.0);
    let linear = hounsfield.map(|x| {
        if x <= center - 0.5 - (width - 1.0) / 2.0 {
            0.0
        } else if x > center - 0.5 + (width - 1.0) / 2.0 {
            1.0
        } else {
            (x - (center - 0.5)) / (width - 1.0) + 0.5
        }
    });
    let exact = hounsfield.map(|x| (x - center) / width + 0.5);
    let sigmoid = hounsfield.map(|x| 1.0 / (1.0 + (-4.0 * (x - center) / width).exp()));
    for (function, expected) in [
        (None, linear),
        (Some("LINEAR"), linear),
        (Some("LINEAR_EXACT"), exact),
        (Some("SIGMOID"), sigmoid),
    ] {
        let mut object = twelve_bits();
        object.text(tags::RESCALE_SLOPE, VR::DS, "2");
        object.text(tags::RESCALE_INTERCEPT, VR::DS, "-1024");
        // The first of several counts.
        object.window("40\\300", "400\\1500");
        if let Some(function) = function {
            object.text(tags::WINDOW_FUNCTION, VR::CS, function);
        }
        let bytes = object.file(EXPLICIT);
        assert_eq!(grey16(&bytes), expected.map(to_16), "{function:?}");
        let facts = stored(&bytes).facts;
        assert_eq!((facts.range, facts.windowed), ([-1024.0, 7166.0], true));
        // A given window counts instead, in the same units.
        let given = decode(&bytes, 0, ValueRange::Window([-1000.0, 1000.0])).unwrap();
        let expected = hounsfield.map(|x| to_16((x + 1000.0) / 2000.0));
        assert_eq!(given.pixels.samples, PixelValues::U16(expected.to_vec()));
        assert!(given.facts.windowed);
    }
    let mut object = twelve_bits();
    object.window("40", "0");
    assert!(reason(&object.file(EXPLICIT)).contains("0 wide"));
    object.window("40", "400");
    object.text(tags::WINDOW_FUNCTION, VR::CS, "CUBIC");
    assert!(reason(&object.file(EXPLICIT)).contains("LINEAR_EXACT"));
}

#[test]
fn a_slope_below_zero_turns_black_and_white() {
    let mut object = twelve_bits();
    object.text(tags::RESCALE_SLOPE, VR::DS, "-1");
    let expected = TWELVE_BITS.map(|v| to_16((4095.0 - f64::from(v)) / 4095.0));
    assert_eq!(grey16(&object.file(EXPLICIT)), expected);
    object.text(tags::RESCALE_SLOPE, VR::DS, "0");
    assert!(reason(&object.file(EXPLICIT)).contains("slope is 0"));
}

fn table(descriptor: [u16; 3], entries: &[u16]) -> InMemDicomObject {
    let mut item = Object(InMemDicomObject::new_empty());
    item.numbers(tags::LUT_DESCRIPTOR, VR::US, &descriptor);
    item.numbers(tags::LUT_DATA, VR::US, entries);
    item.0
}

#[test]
fn tables_instead_of_slopes_and_windows() {
    let mut object = Object::new([4, 1], [16, 12]);
    object.words(&[0, 10, 11, 4000]);
    let curve = vec![table([3, 10, 12], &[100, 4000, 4095])];
    object.item(tags::MODALITY_LUT_SEQUENCE, curve.clone());
    let expected = [100.0, 100.0, 4000.0, 4095.0].map(|v| to_16(v / 4095.0));
    assert_eq!(grey16(&object.file(EXPLICIT)), expected);
    object.0.remove_element(tags::MODALITY_LUT_SEQUENCE);
    object.item(tags::VOI_LUT_SEQUENCE, curve);
    let bytes = object.file(IMPLICIT);
    assert_eq!(grey16(&bytes), expected);
    assert!(stored(&bytes).facts.windowed);
    object.item(tags::VOI_LUT_SEQUENCE, vec![table([9, 10, 12], &[100])]);
    assert!(reason(&object.file(EXPLICIT)).contains("VOI LUT has 2 bytes for 9 entries"));
}

#[test]
fn padding_is_black() {
    let mut object = Object::new([4, 1], [16, 16]);
    object.number(tags::PIXEL_REPRESENTATION, 1);
    object.text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1");
    // -2000 as unsigned words.
    object.number(tags::PIXEL_PADDING_VALUE, 63_536);
    object.words(&[63_536, 0, 100, 63_536]);
    object.window("50", "101");
    let bytes = object.file(EXPLICIT);
    let shown = |x: f64| to_16(1.0 - ((x - 49.5) / 100.0 + 0.5));
    assert_eq!(grey16(&bytes), [0, shown(0.0), shown(100.0), 0]);
    assert_eq!(stored(&bytes).facts.range, [0.0, 100.0]);
    object.number(tags::PIXEL_PADDING_RANGE_LIMIT, 0);
    assert_eq!(grey16(&object.file(EXPLICIT))[1], 0);
}

#[test]
fn colours_interleaved_and_in_planes() {
    let pixels = [[1u8, 2, 3], [4, 5, 6], [250, 251, 252], [7, 8, 9]];
    let mut object = Object::rgb([2, 2], 8);
    object.bytes8(pixels.as_flattened());
    assert_eq!(samples8(&object.file(EXPLICIT)), pixels.as_flattened());
    assert_eq!(stored(&object.file(EXPLICIT)).pixels.channels, 3);
    object.number(tags::PLANAR_CONFIGURATION, 1);
    let planes: Vec<u8> = (0..3).flat_map(|c| pixels.map(|p| p[c])).collect();
    object.bytes8(&planes);
    assert_eq!(samples8(&object.file(IMPLICIT)), pixels.as_flattened());
    let mut object = Object::rgb([1, 1], 16);
    object.words(&[1, 40_000, 65_535]);
    assert_eq!(grey16(&object.file(EXPLICIT)), [1, 40_000, 65_535]);
}

/// PS3.3, C.7.6.3.1.2: luma and chroma of ITU-R BT.601 in full range.
#[test]
fn luma_and_chroma_become_colours() {
    let colour = |y: f64, b: f64, r: f64| {
        let channels = [
            y + 1.402 * (r - 128.0),
            y - 0.344_136 * (b - 128.0) - 0.714_136 * (r - 128.0),
            y + 1.772 * (b - 128.0),
        ];
        channels.map(|c| c.round().clamp(0.0, 255.0) as u8)
    };
    let mut object = Object::rgb([2, 1], 8);
    object.text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "YBR_FULL");
    object.bytes8(&[100, 90, 200, 30, 128, 128]);
    let expected = [colour(100.0, 90.0, 200.0), [30; 3]];
    assert_eq!(samples8(&object.file(EXPLICIT)), expected.as_flattened());
    object.text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "YBR_FULL_422");
    object.bytes8(&[100, 30, 90, 200]);
    let expected = [colour(100.0, 90.0, 200.0), colour(30.0, 90.0, 200.0)];
    assert_eq!(samples8(&object.file(EXPLICIT)), expected.as_flattened());
    object.text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "CMYK");
    assert!(reason(&object.file(EXPLICIT)).contains("CMYK are not read, only MONOCHROME1"));
}

#[test]
fn palettes_are_looked_up() {
    let mut object = Object::new([4, 1], [8, 8]);
    object.text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "PALETTE COLOR");
    object.bytes8(&[0, 5, 6, 200]);
    let entries = [[10u16, 20], [30, 40], [50, 60]];
    let wide = |e: u16| e * 257;
    let tags_of = || tags::PALETTE_DESCRIPTORS.into_iter().zip(tags::PALETTES);
    for ((descriptor, palette), entries) in tags_of().zip(entries) {
        object.numbers(descriptor, VR::US, &[2, 5, 16]);
        object.numbers(palette, VR::OW, &entries.map(wide));
    }
    let first = [10, 30, 50];
    let last = [20, 40, 60];
    let expected = [first, first, last, last];
    let bytes = object.file(EXPLICIT);
    assert_eq!(
        grey16(&bytes),
        expected
            .as_flattened()
            .iter()
            .map(|&e| wide(e))
            .collect::<Vec<_>>()
    );
    assert_eq!(stored(&bytes).facts.kind, ValueKind::Bits(16));
    // Entries of 8 bits, two in a word and one in a word.
    for packed in [true, false] {
        for ((descriptor, palette), [a, b]) in tags_of().zip(entries) {
            object.numbers(descriptor, VR::US, &[2, 5, 8]);
            let words = if packed { vec![a | b << 8] } else { vec![a, b] };
            object.numbers(palette, VR::OW, &words);
        }
        let expected: Vec<u8> = expected.as_flattened().iter().map(|&e| e as u8).collect();
        assert_eq!(samples8(&object.file(EXPLICIT)), expected);
    }
    for tag in tags::PALETTES {
        object.0.remove_element(tag);
    }
    assert!(reason(&object.file(EXPLICIT)).contains("red palette is damaged"));
    object.numbers(tags::SEGMENTED_RED_PALETTE, VR::OW, &[0, 1, 2]);
    assert!(reason(&object.file(EXPLICIT)).contains("segmented palettes"));
}

#[test]
fn deflated_data_sets() {
    let plain = twelve_bits().file(EXPLICIT);
    let length = u32::from_le_bytes(plain[140..144].try_into().unwrap()) as usize;
    let mut bytes = plain[..144 + length].to_vec();
    // The UID is two characters longer, and the group says how long it is.
    let at = bytes
        .windows(EXPLICIT.len())
        .position(|w| w == EXPLICIT.as_bytes())
        .unwrap();
    bytes.splice(at..at + 20, DEFLATED.bytes());
    bytes[at - 2] = DEFLATED.len() as u8;
    bytes[140] = (length + DEFLATED.len() - 20) as u8;
    let mut encoder = DeflateEncoder::new(bytes, Level::default());
    encoder.write_all(&plain[144 + length..]).unwrap();
    let bytes = encoder.finish().unwrap();
    assert_eq!(grey16(&bytes), grey16(&plain));
    // Where the stream is cut decides which element is the first to be missing.
    assert!(!reason(&bytes[..bytes.len() - 20]).is_empty());
}

/// A fragment of RLE: each byte of the pixels in a segment of its own, without repetitions (PS3.5, annex G).
fn rle(segments: &[Vec<u8>]) -> Vec<u8> {
    let mut header = vec![segments.len() as u32];
    let mut body = Vec::new();
    for segment in segments {
        header.push(64 + body.len() as u32);
        for literal in segment.chunks(128) {
            body.push(literal.len() as u8 - 1);
            body.extend_from_slice(literal);
        }
        if body.len() % 2 == 1 {
            // A byte that means nothing.
            body.push(0x80);
        }
    }
    header.resize(16, 0);
    let header = header.iter().flat_map(|n| n.to_le_bytes());
    header.chain(body).collect()
}

#[test]
fn rle_of_grey_and_colour() {
    let mut object = Object::new([3, 2], [16, 12]);
    let high = TWELVE_BITS.map(|v| (v >> 8) as u8).to_vec();
    let low = TWELVE_BITS.map(|v| v as u8).to_vec();
    object.fragments(vec![rle(&[high, low])]);
    assert_eq!(
        grey16(&object.file(RLE)),
        grey16(&twelve_bits().file(EXPLICIT))
    );
    let mut object = Object::rgb([2, 1], 8);
    object.number(tags::PLANAR_CONFIGURATION, 1);
    object.fragments(vec![rle(&[vec![1, 4], vec![2, 5], vec![3, 6]])]);
    assert_eq!(samples8(&object.file(RLE)), [1, 2, 3, 4, 5, 6]);
    object.fragments(vec![rle(&[vec![1, 4]])]);
    assert!(reason(&object.file(RLE)).contains("expected 3 segments"));
}

fn jpeg(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(Cursor::new(&mut bytes), 95)
        .encode(
            image.as_raw(),
            image.width(),
            image.height(),
            ExtendedColorType::Rgb8,
        )
        .unwrap();
    bytes
}

/// An image of one colour, which JPEG keeps within its rounding.
fn flat(colour: [u8; 3]) -> RgbImage {
    RgbImage::from_pixel(16, 8, Rgb(colour))
}

fn close(found: &[u8], colour: [u8; 3]) -> bool {
    found
        .chunks(3)
        .all(|p| p.iter().zip(colour).all(|(a, b)| a.abs_diff(b) <= 3))
}

#[test]
fn baseline_jpeg_and_frames_in_several_fragments() {
    let colours = [[200, 40, 90], [10, 220, 60], [30, 60, 250]];
    let streams = colours.map(|c| jpeg(&flat(c)));
    let mut object = Object::rgb([16, 8], 8);
    object.text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "YBR_FULL_422");
    object.text(tags::NUMBER_OF_FRAMES, VR::IS, "3");
    let halves = |stream: &Vec<u8>| {
        let middle = stream.len() / 4 * 2;
        [stream[..middle].to_vec(), stream[middle..].to_vec()]
    };
    for fragments in [
        streams.to_vec(),
        streams.iter().flat_map(halves).collect::<Vec<_>>(),
    ] {
        object.fragments(fragments);
        let bytes = object.file(BASELINE);
        for (frame, colour) in colours.into_iter().enumerate() {
            let image = decode(&bytes, frame, ValueRange::Stored).unwrap();
            let PixelValues::U8(values) = image.pixels.samples else {
                panic!("8 bits")
            };
            assert!(close(&values, colour), "{frame}: {:?}", &values[..3]);
        }
        let error = decode(&bytes, 3, ValueRange::Stored).unwrap_err();
        assert!(error.contains("3 images, not 4"), "{error}");
    }
    object.fragments(streams[..2].to_vec());
    assert!(reason(&object.file(BASELINE)).contains("promises 3 images, the file holds 2"));
    object.number(tags::ROWS, 9);
    object.text(tags::NUMBER_OF_FRAMES, VR::IS, "1");
    object.fragments(vec![streams[0].clone()]);
    let error = reason(&object.file(BASELINE));
    assert!(
        error.contains("16 x 8") && error.contains("16 x 9"),
        "{error}"
    );
}

/// A JPEG that names no colour space is what the object says: RGB is not converted.
#[test]
fn an_object_may_say_that_a_jpeg_is_rgb() {
    let colour = [200u8, 40, 90];
    let mut stream = jpeg(&flat(colour));
    // Without the JFIF marker, which says that the colours are luma and chroma.
    assert_eq!(stream[2..4], [0xff, 0xe0]);
    let length = usize::from(u16::from_be_bytes([stream[4], stream[5]]));
    stream.drain(2..4 + length);
    let mut object = Object::rgb([16, 8], 8);
    object.fragments(vec![stream]);
    let [r, g, b] = colour.map(f64::from);
    let luma = [
        0.299 * r + 0.587 * g + 0.114 * b,
        -0.1687 * r - 0.3313 * g + 0.5 * b + 128.0,
        0.5 * r - 0.4187 * g - 0.0813 * b + 128.0,
    ];
    let bytes = object.file(BASELINE);
    assert!(close(&samples8(&bytes), luma.map(|c| c.round() as u8)));
    object.text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "YBR_FULL");
    assert!(close(&samples8(&object.file(BASELINE)), colour));
}

#[test]
fn frames_are_images_with_windows_of_their_own() {
    let mut object = Object::new([2, 1], [16, 16]);
    object.words(&[0, 100, 200, 300]);
    object.text(tags::NUMBER_OF_FRAMES, VR::IS, "2");
    let group = |center: &str| {
        let mut window = Object(InMemDicomObject::new_empty());
        window.window(center, "101");
        let mut group = Object(InMemDicomObject::new_empty());
        group.item(tags::FRAME_VOI_LUT_SEQUENCE, vec![window.0]);
        group.0
    };
    object.item(tags::PER_FRAME_GROUPS, vec![group("50.5"), group("250.5")]);
    let mut slope = Object(InMemDicomObject::new_empty());
    slope.text(tags::RESCALE_SLOPE, VR::DS, "1");
    slope.text(tags::RESCALE_INTERCEPT, VR::DS, "0");
    let mut shared = Object(InMemDicomObject::new_empty());
    shared.item(tags::PIXEL_VALUE_TRANSFORMATION, vec![slope.0]);
    object.item(tags::SHARED_GROUPS, vec![shared.0]);
    for syntax in [EXPLICIT, IMPLICIT] {
        let bytes = object.file(syntax);
        for frame in [0, 1] {
            let image = decode(&bytes, frame, ValueRange::Stored).unwrap();
            assert_eq!(image.pixels.samples, PixelValues::U16(vec![0, 65_535]));
            assert_eq!(
                image.facts.range,
                [200.0 * frame as f64, 200.0 * frame as f64 + 100.0]
            );
        }
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, &bytes).unwrap();
        assert_eq!(frames(&path), Ok(2));
    }
}

#[test]
fn one_bit_per_pixel() {
    let mut object = Object::new([3, 3], [1, 1]);
    object.text(tags::NUMBER_OF_FRAMES, VR::IS, "2");
    // The second frame begins at bit 9.
    object.bytes8(&[0b0000_0101, 0b0000_0010, 0b0000_0100, 0]);
    let bytes = object.file(EXPLICIT);
    let ones = |frame| match decode(&bytes, frame, ValueRange::Stored)
        .unwrap()
        .pixels
        .samples
    {
        PixelValues::U16(v) => (0..9).filter(|&i| v[i] == 65_535).collect::<Vec<_>>(),
        PixelValues::U8(_) => panic!("16 bits"),
    };
    assert_eq!((ones(0), ones(1)), (vec![0, 2], vec![0]));
}

#[test]
fn data_sets_without_preamble() {
    let expected = grey16(&twelve_bits().file(EXPLICIT));
    for syntax in [EXPLICIT, IMPLICIT, BIG] {
        let bare = twelve_bits().bare(syntax);
        assert!(is_dicom(&bare), "{syntax}");
        assert!(is_dicom(&bare[..256.min(bare.len())]));
        assert_eq!(grey16(&bare), expected, "{syntax}");
    }
    // With meta information, but nothing in front of it.
    let bytes = twelve_bits().file(EXPLICIT);
    assert!(is_dicom(&bytes[132..]));
    assert_eq!(grey16(&bytes[132..]), expected);
}

#[test]
fn other_files_are_not_taken_for_dicom() {
    let long = vec![0u8; 600];
    let spaced: Vec<u8> = [8u8, 0, 5, 0].into_iter().chain(vec![0; 300]).collect();
    for head in [
        &b""[..],
        b"\x08",
        b"\x08\x00",
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
        b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
        b"II*\x00\x08\x00\x00\x00\x10\x00",
        b"P5\n3 3\n255\n",
        b"file,label\n1.png,a\n",
        &[8, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0],
        &[2, 0, 0, 0, 4, 0, 0, 0, 2, 0, 1, 0],
        &long,
        &spaced,
    ] {
        assert!(!is_dicom(head), "{head:?}");
    }
}

#[test]
fn objects_without_an_image_say_what_they_are() {
    for (class, expected) in [
        ("1.2.840.10008.5.1.4.1.1.88.33", "it's a structured report"),
        ("1.2.840.10008.5.1.4.1.1.481.5", "it's a radiotherapy plan"),
        ("1.2.840.10008.1.3.10", "DICOMDIR"),
        ("1.2.840.10008.5.1.4.1.1.2", "it has no pixel data"),
    ] {
        let mut object = twelve_bits();
        object.text(tags::OBJECT_CLASS, VR::UI, class);
        object.0.remove_element(tags::PIXEL_DATA);
        let error = reason(&object.file(EXPLICIT));
        assert!(
            error.contains("holds no image") && error.contains(expected),
            "{error}"
        );
    }
    // A file that is nothing but the mark.
    let mut stub = vec![0; 232];
    stub[128..132].copy_from_slice(b"DICM");
    assert!(
        reason(&stub).contains("no transfer syntax"),
        "{}",
        reason(&stub)
    );
}

#[test]
fn what_is_not_read_is_named() {
    let object = twelve_bits();
    for (uid, expected) in [
        ("1.2.840.10008.1.2.4.80", "dcmdjpls"),
        ("1.2.840.10008.1.2.4.81", "JPEG-LS"),
        ("1.2.840.10008.1.2.4.110", "JPEG XL"),
        ("1.2.840.10008.1.2.4.102", "video"),
        ("1.2.840.10008.1.2.4.53", "rare or retired"),
        ("1.2.3.4", "transfer syntax is not known"),
    ] {
        let mut bytes = object.file(EXPLICIT);
        let padded = format!("{uid:\0<20}");
        let at = bytes
            .windows(EXPLICIT.len())
            .position(|w| w == EXPLICIT.as_bytes())
            .unwrap();
        let field = if uid.len() > 20 {
            bytes[at - 2] = 24;
            bytes[140] += 4;
            format!("{uid:\0<24}")
        } else {
            padded
        };
        bytes.splice(at..at + 20, field.bytes());
        let error = reason(&bytes);
        assert!(error.contains(expected), "{uid}: {error}");
    }
    // JPEG with 12 bits, which only its own header tells.
    let mut stream = jpeg(&flat([1, 2, 3]));
    let at = stream.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    stream[at + 1] = 0xc1;
    stream[at + 4] = 12;
    let mut object = Object::rgb([16, 8], 8);
    object.fragments(vec![stream]);
    let error = reason(&object.file("1.2.840.10008.1.2.4.51"));
    assert!(
        error.contains("12 bits") && error.contains("dcmdjpeg"),
        "{error}"
    );
    if !cfg!(feature = "openjp2") {
        let error = reason(&object.file("1.2.840.10008.1.2.4.90"));
        assert!(error.contains("openjp2"), "{error}");
    }
}

#[test]
fn headers_that_promise_more_than_the_file_holds() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("x.dcm");
    for (tag, value) in [
        (tags::ROWS, "60000"),
        (tags::COLUMNS, "65535"),
        (tags::NUMBER_OF_FRAMES, "2000000000"),
    ] {
        let mut object = twelve_bits();
        if tag == tags::NUMBER_OF_FRAMES {
            object.text(tag, VR::IS, value);
        } else {
            object.number(tag, value.parse().unwrap());
        }
        let bytes = object.file(EXPLICIT);
        let error = reason(&bytes);
        assert!(error.contains("the file holds 12 bytes"), "{error}");
        fs::write(&path, &bytes).unwrap();
        assert!(
            frames(&path)
                .unwrap_err()
                .contains("more than the file can hold")
        );
    }
}

/// No truncation panics, and each says that the file ends; nothing personal is in any reason.
#[test]
fn truncated_files() {
    let mut colour = Object::rgb([16, 8], 8);
    colour.fragments(vec![jpeg(&flat([9, 99, 199]))]);
    for bytes in [
        twelve_bits().file(EXPLICIT),
        twelve_bits().file(IMPLICIT),
        colour.file(BASELINE),
    ] {
        for length in 132..bytes.len() - 8 {
            let error = decode(&bytes[..length], 0, ValueRange::Stored).unwrap_err();
            for personal in ["Secret", "Anna", "4711", "20260315", "2.25.77"] {
                assert!(!error.contains(personal), "{error}");
            }
        }
        assert!(reason(&bytes[..bytes.len() - 9]).contains("ends inside element (7FE0,0010)"));
    }
}

/// Whatever the crates tell their subscriber.
struct Events(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Events {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// Character sets are what the parser warns about, with the text that the file holds.
#[test]
fn no_event_leaves_the_decoder() {
    let mut object = twelve_bits();
    object.text(Tag(0x0008, 0x0005), VR::CS, NAME);
    object.text(tags::WINDOW_CENTER, VR::DS, NAME);
    object.text(tags::WINDOW_WIDTH, VR::DS, NAME);
    object.text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, NAME);
    let bytes = object.file(EXPLICIT);
    let events = Arc::new(Mutex::new(Vec::new()));
    let error = tracing::subscriber::with_default(Events(events.clone()), || reason(&bytes));
    assert!(!error.contains("Secret"), "{error}");
    assert!(events.lock().unwrap().is_empty());
}

#[test]
fn patients_are_told_apart_by_a_hash() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("x");
    let key = |id: Option<&str>, syntax| {
        let mut object = twelve_bits();
        match id {
            Some(id) => object.text(Tag(0x0010, 0x0020), VR::LO, id),
            None => {
                object.0.remove_element(Tag(0x0010, 0x0020));
            }
        }
        fs::write(&path, object.file(syntax)).unwrap();
        patient_key(&path)
    };
    let one = key(Some(ID), EXPLICIT).unwrap();
    assert_eq!(one, blake3::hash(ID.as_bytes()).to_hex()[..16]);
    assert_eq!(key(Some(&format!(" {ID} ")), IMPLICIT), Some(one.clone()));
    assert_ne!(key(Some("another"), EXPLICIT), Some(one));
    assert_eq!(key(None, EXPLICIT), None);
    assert_eq!(key(Some(""), EXPLICIT), None);
}
