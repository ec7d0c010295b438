//! A DICOM file as bytes: preamble, file meta information, transfer syntax, and the data set behind them (PS3.10).

use std::borrow::Cow;
use std::io::Read;
use std::ops::Range;

use dicom_core::Tag;
use dicom_object::{DefaultDicomObject, FileMetaTableBuilder, OpenFileOptions};
use flate2::read::DeflateDecoder;

use super::structure::{
    ElementEncoding, ElementSpan, StructureError, check_inside, element, guess_encoding,
};
use super::syntax::{self, Compression};
use super::tags;

/// The preamble, whose content means nothing, and the mark behind it.
const PREAMBLE: usize = 128;
const MARK: &[u8] = b"DICM";

/// More bytes than this are not inflated: an element of known length cannot have more than twice as many.
const MAX_INFLATED: u64 = 2 << 30;

/// True if these are the first bytes of a DICOM file or of a bare data set.
pub(super) fn is_dicom(head: &[u8]) -> bool {
    has_preamble(head) || guess_encoding(head).is_some()
}

fn has_preamble(bytes: &[u8]) -> bool {
    bytes
        .get(PREAMBLE..)
        .is_some_and(|rest| rest.starts_with(MARK))
}

/// A data set whose structure is known and whose values have not been looked at.
pub(super) struct RawDataSet<'a> {
    pub bytes: Cow<'a, [u8]>,
    pub encoding: ElementEncoding,
    pub compression: Compression,
    /// UID of the transfer syntax.
    pub syntax: String,
    /// Where the first element begins.
    start: usize,
}

/// Elements of a data set that matter here.
pub(super) struct Elements {
    /// What pixels depend on.
    kept: Vec<ElementSpan>,
    /// The pixels.
    pub pixels: Option<ElementSpan>,
    pub extended_offsets: Option<Range<usize>>,
    /// Floating-point pixels, which are an element of their own.
    pub has_float_pixels: bool,
    /// Something that comes later was seen: no element is missing because the bytes end.
    pub complete: bool,
}

impl<'a> RawDataSet<'a> {
    /// Finds the data set in the bytes of a file.
    pub fn new(bytes: &'a [u8]) -> Result<Self, String> {
        let mut start = if has_preamble(bytes) {
            PREAMBLE + MARK.len()
        } else {
            0
        };
        let mut syntax = None;
        // The meta information is always written with explicit VRs, and its length is not always right.
        while bytes.get(start..).is_some_and(|b| b.starts_with(&[2, 0])) {
            let span = element(bytes, ElementEncoding::EXPLICIT, start)
                .map_err(|e| e.reason(bytes.len()))?;
            if span.tag == tags::TRANSFER_SYNTAX {
                let uid = String::from_utf8_lossy(&bytes[span.value.clone()]);
                syntax = Some(uid.trim_matches(['\0', ' ']).to_owned());
            }
            start = span.value.end;
        }
        let rest = bytes.get(start..).unwrap_or_default();
        let (syntax, compression, encoding) = match syntax {
            Some(uid) => {
                let (compression, encoding) = syntax::of(&uid)?;
                (uid, compression, encoding)
            }
            None => {
                let encoding = guess_encoding(rest)
                    .ok_or("the DICOM file names no transfer syntax and holds no data set")?;
                let uid = syntax::native_uid(encoding).to_owned();
                (uid, Compression::None, encoding)
            }
        };
        let (bytes, start) = if compression == Compression::DeflatedDataSet {
            (Cow::Owned(inflate(rest, MAX_INFLATED)), 0)
        } else {
            (Cow::Borrowed(bytes), start)
        };
        Ok(Self {
            bytes,
            encoding,
            compression,
            syntax,
            start,
        })
    }

    /// Walks over the data set up to `last`, and to the pixels at most: what follows them does not matter.
    pub fn elements(&self, last: Tag) -> Result<Elements, StructureError> {
        let mut found = Elements {
            kept: Vec::new(),
            pixels: None,
            extended_offsets: None,
            has_float_pixels: false,
            complete: false,
        };
        let mut at = self.start;
        while at < self.bytes.len() {
            let span = element(&self.bytes, self.encoding, at)?;
            if span.tag > last {
                found.complete = true;
                break;
            }
            at = span.value.end;
            match span.tag {
                tags::PIXEL_DATA => {
                    found.pixels = Some(span);
                    found.complete = true;
                    break;
                }
                tags::EXTENDED_OFFSET_TABLE => found.extended_offsets = Some(span.value),
                tags::FLOAT_PIXELS | tags::DOUBLE_PIXELS => found.has_float_pixels = true,
                tag if tag.0 == 0 => return Err(StructureError::Damaged(tag)),
                tags::OBJECT_CLASS | Tag(0x0028, _) | Tag(0x5200, _) => {
                    check_inside(&self.bytes, &span)?;
                    found.kept.push(span);
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// Bytes of the value of an element; `None` if the bytes end before it can be told.
    pub fn value(&self, tag: Tag) -> Option<Option<&[u8]>> {
        let mut at = self.start;
        while at < self.bytes.len() {
            let span = element(&self.bytes, self.encoding, at).ok()?;
            if span.tag >= tag {
                return Some((span.tag == tag).then(|| &self.bytes[span.value]));
            }
            at = span.value.end;
        }
        None
    }

    /// The attributes that pixels depend on, and no others: an error of the crate can quote nothing else.
    pub fn attributes(&self, elements: &Elements) -> Result<DefaultDicomObject, String> {
        let damaged = || "the attributes of the DICOM file that describe its pixels are damaged";
        let mut bytes = MARK.to_vec();
        FileMetaTableBuilder::new()
            .transfer_syntax(syntax::native_uid(self.encoding))
            .media_storage_sop_class_uid(syntax::SECONDARY_CAPTURE)
            .media_storage_sop_instance_uid("2.25.1")
            .build()
            .map_err(|_| damaged())?
            .write(&mut bytes)
            .map_err(|_| damaged())?;
        for span in &elements.kept {
            bytes.extend_from_slice(&self.bytes[span.start..span.value.end]);
        }
        OpenFileOptions::new()
            .from_reader(&bytes[..])
            .map_err(|_| damaged().to_owned())
    }
}

/// Inflates up to `limit` bytes. Damaged data end early, and whoever reads them says where.
pub(super) fn inflate(bytes: &[u8], limit: u64) -> Vec<u8> {
    let mut inflated = Vec::new();
    // What came out before an error is kept.
    let _ = DeflateDecoder::new(bytes)
        .take(limit)
        .read_to_end(&mut inflated);
    inflated
}
