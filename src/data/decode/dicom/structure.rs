//! Where the elements of a DICOM data set begin and end (PS3.5, chapter 7), told from the bytes that are there.
//!
//! Every length is compared with the bytes that follow before anything is parsed or allocated, and what is not asked for
//! (patients, dates, places) is stepped over unread.

use std::ops::Range;

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_object::StandardDataDictionary;

/// Sequences in sequences; deeper ones are taken for damage.
const MAX_DEPTH: usize = 16;

const ITEM: Tag = Tag(0xfffe, 0xe000);
const ITEM_END: Tag = Tag(0xfffe, 0xe00d);
const SEQUENCE_END: Tag = Tag(0xfffe, 0xe0dd);

/// The length of what ends with a delimiter.
const UNDEFINED: u32 = u32::MAX;

/// How numbers and value representations are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ElementEncoding {
    pub big_endian: bool,
    /// The value representation (VR) stands in front of the length.
    pub explicit: bool,
}

impl ElementEncoding {
    pub const EXPLICIT: Self = Self {
        big_endian: false,
        explicit: true,
    };
    pub const IMPLICIT: Self = Self {
        big_endian: false,
        explicit: false,
    };
    pub const EXPLICIT_BIG: Self = Self {
        big_endian: true,
        explicit: true,
    };

    pub fn u16(self, bytes: [u8; 2]) -> u16 {
        if self.big_endian {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        }
    }

    pub fn u32(self, bytes: [u8; 4]) -> u32 {
        if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    }
}

/// An element of a data set or an item.
#[derive(Clone, Debug)]
pub(super) struct ElementSpan {
    pub tag: Tag,
    /// Where its header begins.
    pub start: usize,
    /// Its value, with delimiters where the length is undefined.
    pub value: Range<usize>,
    /// The length is undefined: a sequence, or compressed pixels.
    pub open: bool,
    vr: [u8; 2],
    /// The value is words of 16 bits (VR OW), also where two pixels share one.
    pub words: bool,
    /// How elements inside are written.
    inside: ElementEncoding,
}

/// Why a data set cannot be walked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StructureError {
    /// The bytes end inside an element.
    Ends(Tag),
    /// A delimiter or an item where none belongs.
    Damaged(Tag),
}

impl StructureError {
    pub fn reason(&self, bytes: usize) -> String {
        match self {
            Self::Ends(tag) => {
                format!("the DICOM file ends inside element {tag}, after {bytes} bytes")
            }
            Self::Damaged(tag) => format!("the DICOM file is damaged at element {tag}"),
        }
    }
}

/// Tag, VR, length and the header's size of the element at `at`.
struct ElementHead {
    tag: Tag,
    vr: [u8; 2],
    length: u32,
    size: usize,
}

/// VRs with a length of two bytes (PS3.5 7.1.2). All others, unknown ones too, have two reserved bytes and a length of four,
/// and that is how dicom-object takes them.
const SHORT_VRS: [&[u8; 2]; 21] = [
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN",
    b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US",
];

fn head(bytes: &[u8], encoding: ElementEncoding, at: usize) -> Option<ElementHead> {
    let rest = bytes.get(at..)?;
    let number = |at: usize| -> Option<u16> { Some(encoding.u16(*rest.get(at..)?.first_chunk()?)) };
    let long = |at: usize| -> Option<u32> { Some(encoding.u32(*rest.get(at..)?.first_chunk()?)) };
    let tag = Tag(number(0)?, number(2)?);
    // Items and delimiters have no VR.
    if !encoding.explicit || tag.0 == ITEM.0 {
        return Some(ElementHead {
            tag,
            vr: *b"  ",
            length: long(4)?,
            size: 8,
        });
    }
    let vr = [rest.get(4).copied()?, rest.get(5).copied()?];
    let (length, size) = if SHORT_VRS.contains(&&vr) {
        (u32::from(number(6)?), 8)
    } else {
        (long(8)?, 12)
    };
    Some(ElementHead {
        tag,
        vr,
        length,
        size,
    })
}

/// The element at `at`; an error if it does not lie within `bytes`.
pub(super) fn element(
    bytes: &[u8],
    encoding: ElementEncoding,
    at: usize,
) -> Result<ElementSpan, StructureError> {
    element_within(bytes, encoding, at, 0)
}

fn element_within(
    bytes: &[u8],
    encoding: ElementEncoding,
    at: usize,
    depth: usize,
) -> Result<ElementSpan, StructureError> {
    let found = head(bytes, encoding, at).ok_or(StructureError::Ends(Tag(0, 0)))?;
    if found.tag.0 == ITEM.0 {
        return Err(StructureError::Damaged(found.tag));
    }
    let start = at + found.size;
    let open = found.length == UNDEFINED;
    // A sequence of unknown VR is written with implicit ones (PS3.5, 6.2.2).
    let inside = if found.vr == *b"UN" {
        ElementEncoding::IMPLICIT
    } else {
        encoding
    };
    let end = if open {
        items_end(bytes, inside, start, found.tag, depth + 1)?
    } else {
        end_of_value(bytes, start, found.length, found.tag)?
    };
    Ok(ElementSpan {
        tag: found.tag,
        start: at,
        value: start..end,
        open,
        vr: found.vr,
        words: found.vr == *b"OW",
        inside,
    })
}

/// The end of the `length` bytes from `start`, all of which have to be there; `tag` is whose they are.
fn end_of_value(
    bytes: &[u8],
    start: usize,
    length: u32,
    tag: Tag,
) -> Result<usize, StructureError> {
    start
        .checked_add(length as usize)
        .filter(|&end| end <= bytes.len())
        .ok_or(StructureError::Ends(tag))
}

/// The end of the items that begin at `at`, up to and with their delimiter.
fn items_end(
    bytes: &[u8],
    encoding: ElementEncoding,
    mut at: usize,
    parent: Tag,
    depth: usize,
) -> Result<usize, StructureError> {
    if depth > MAX_DEPTH {
        return Err(StructureError::Damaged(parent));
    }
    loop {
        let item = head(bytes, encoding, at).ok_or(StructureError::Ends(parent))?;
        at += item.size;
        match item.tag {
            SEQUENCE_END => return Ok(at),
            ITEM if item.length == UNDEFINED => {
                at = open_item_end(bytes, encoding, at, parent, depth)?;
            }
            ITEM => {
                at = end_of_value(bytes, at, item.length, parent)?;
            }
            _ => return Err(StructureError::Damaged(parent)),
        }
    }
}

fn open_item_end(
    bytes: &[u8],
    encoding: ElementEncoding,
    mut at: usize,
    parent: Tag,
    depth: usize,
) -> Result<usize, StructureError> {
    loop {
        let next = head(bytes, encoding, at).ok_or(StructureError::Ends(parent))?;
        if next.tag == ITEM_END {
            return Ok(at + next.size);
        }
        at = element_within(bytes, encoding, at, depth)?.value.end;
    }
}

/// Bytes of a number of this VR; 1 for texts and bytes.
fn number_bytes(vr: VR) -> usize {
    match vr {
        VR::OW | VR::SS | VR::US => 2,
        VR::AT | VR::FL | VR::OF | VR::OL | VR::SL | VR::UL => 4,
        VR::FD | VR::OD | VR::OV | VR::SV | VR::UV => 8,
        _ => 1,
    }
}

/// Checks that the element holds whole numbers. dicom-object leaves what is behind the last whole one unread, and would
/// take it for the next element's header.
fn check_numbers(span: &ElementSpan) -> Result<(), StructureError> {
    let of_dictionary = || {
        let entry = StandardDataDictionary.by_tag(span.tag)?;
        Some(entry.vr().relaxed())
    };
    let vr = match span.inside.explicit {
        true => VR::from_binary(span.vr),
        false => of_dictionary(),
    };
    let width = vr.map_or(1, number_bytes);
    match span.open || span.value.len().is_multiple_of(width) {
        true => Ok(()),
        false => Err(StructureError::Damaged(span.tag)),
    }
}

/// Checks the lengths of the element and of all elements inside it, where it holds items.
pub(super) fn check_inside(bytes: &[u8], span: &ElementSpan) -> Result<(), StructureError> {
    check_numbers(span)?;
    check_items(bytes, span, 0)
}

/// A value that does not begin with an item is no sequence.
fn check_items(bytes: &[u8], parent: &ElementSpan, depth: usize) -> Result<(), StructureError> {
    if depth > MAX_DEPTH {
        return Err(StructureError::Damaged(parent.tag));
    }
    let (bytes, encoding) = (&bytes[..parent.value.end], parent.inside);
    let mut at = parent.value.start;
    while let Some(item) = head(bytes, encoding, at).filter(|item| item.tag == ITEM) {
        at += item.size;
        let open = item.length == UNDEFINED;
        let end = if open {
            bytes.len()
        } else {
            at.checked_add(item.length as usize)
                .filter(|&end| end <= bytes.len())
                .ok_or(StructureError::Ends(parent.tag))?
        };
        while at < end {
            let next = head(bytes, encoding, at).ok_or(StructureError::Ends(parent.tag))?;
            if open && next.tag == ITEM_END {
                at += next.size;
                break;
            }
            let span = element_within(&bytes[..end], encoding, at, depth)?;
            check_numbers(&span)?;
            check_items(bytes, &span, depth + 1)?;
            at = span.value.end;
        }
    }
    Ok(())
}

/// The values of the items of an element of undefined length: the fragments of compressed pixels.
pub(super) fn fragments<'a>(
    bytes: &'a [u8],
    encoding: ElementEncoding,
    span: &ElementSpan,
) -> Result<Vec<&'a [u8]>, StructureError> {
    let mut at = span.value.start;
    let mut fragments = Vec::new();
    loop {
        let item = head(bytes, encoding, at).ok_or(StructureError::Ends(span.tag))?;
        at += item.size;
        if item.tag != ITEM {
            return Ok(fragments);
        }
        let end = at.saturating_add(item.length as usize);
        fragments.push(bytes.get(at..end).ok_or(StructureError::Ends(span.tag))?);
        at = end;
    }
}

/// VRs that the first elements of a data set have.
const FIRST_VRS: [&[u8; 2]; 10] = [
    b"UL", b"OB", b"UI", b"CS", b"DA", b"TM", b"SH", b"LO", b"US", b"DT",
];

/// How the data set that begins with `bytes` is written, if it looks like one: two elements in ascending order that belong
/// to the first groups, the first of them short and printable. `None` for what is no data set.
pub(super) fn guess_encoding(bytes: &[u8]) -> Option<ElementEncoding> {
    [
        ElementEncoding::EXPLICIT,
        ElementEncoding::IMPLICIT,
        ElementEncoding::EXPLICIT_BIG,
    ]
    .into_iter()
    .find(|&encoding| begins_a_data_set(bytes, encoding))
}

fn begins_a_data_set(bytes: &[u8], encoding: ElementEncoding) -> bool {
    let plausible = |found: &ElementHead| {
        let identifying = found.tag.0 == 8 && found.tag.1 <= 0x60;
        let meta = found.tag.0 == 2 && found.tag.1 <= 0x102 && encoding.explicit;
        let vr = !encoding.explicit || FIRST_VRS.contains(&&found.vr);
        (identifying || meta) && vr && found.length <= 64 && found.length.is_multiple_of(2)
    };
    let Some(first) = head(bytes, encoding, 0).filter(plausible) else {
        return false;
    };
    let end = first.size + first.length as usize;
    let Some(value) = bytes.get(first.size..end) else {
        return false;
    };
    let numeric = first.tag.1 <= 1;
    let printable = value
        .iter()
        .all(|&byte| byte == 0 || (b' '..=b'~').contains(&byte));
    let second = head(bytes, encoding, end);
    (numeric || printable) && second.is_some_and(|next| plausible(&next) && next.tag > first.tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits Allocated (0028,0100) with three bytes, explicit and implicit; and a text of three bytes, which is fine.
    #[test]
    fn elements_hold_whole_numbers() {
        let check = |bytes: &[u8], encoding| {
            let span = element(bytes, encoding, 0).expect("an element");
            check_inside(bytes, &span)
        };
        let damaged = Err(StructureError::Damaged(Tag(0x28, 0x100)));
        let explicit = ElementEncoding::EXPLICIT;
        assert_eq!(check(b"\x28\0\0\x01US\x03\0\x10\0\0", explicit), damaged);
        assert_eq!(check(b"\x28\0\0\x01US\x02\0\x10\0", explicit), Ok(()));
        let implicit = ElementEncoding::IMPLICIT;
        assert_eq!(check(b"\x28\0\0\x01\x03\0\0\0\x10\0\0", implicit), damaged);
        assert_eq!(check(b"\x28\0\0\x01\x02\0\0\0\x10\0", implicit), Ok(()));
        assert_eq!(check(b"\x28\0\x04\0CS\x03\0RGB", explicit), Ok(()));
    }
}
