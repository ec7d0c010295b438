//! The pages of a TIFF: its chain of image directories.
//!
//! A page is decoded by pointing the header of the file at its directory, so that any decoder of first pages reads all.

use std::collections::BTreeSet;
use std::io::{self, Read, Seek, SeekFrom};

/// More pages than this are taken for damage.
const MAX_PAGES: usize = 1 << 16;

/// The tag `NewSubfileType` and its bits for thumbnails and transparency masks.
const SUBFILE_TYPE: u16 = 254;
const THUMBNAIL_OR_MASK: u64 = 0b101;

/// Byte order and width of a TIFF's offsets.
#[derive(Clone, Copy, Debug)]
struct TiffLayout {
    big_endian: bool,
    /// BigTIFF: offsets and counts of 8 bytes.
    wide: bool,
}

impl TiffLayout {
    fn of(head: &[u8; 4]) -> Option<Self> {
        let (big_endian, version) = match head {
            [b'I', b'I', low, high] => (false, [*low, *high]),
            [b'M', b'M', high, low] => (true, [*low, *high]),
            _ => return None,
        };
        match u16::from_le_bytes(version) {
            42 => Some(Self {
                big_endian,
                wide: false,
            }),
            43 => Some(Self {
                big_endian,
                wide: true,
            }),
            _ => None,
        }
    }

    fn number(self, bytes: &[u8]) -> u64 {
        let join = |value: u64, &byte: &u8| value << 8 | u64::from(byte);
        if self.big_endian {
            bytes.iter().fold(0, join)
        } else {
            bytes.iter().rev().fold(0, join)
        }
    }

    fn read<const N: usize>(self, file: &mut impl Read) -> io::Result<u64> {
        let mut bytes = [0; N];
        file.read_exact(&mut bytes)?;
        Ok(self.number(&bytes))
    }

    /// An offset, or a count of directories' entries where `N` is its width in the narrow form.
    fn either<const N: usize>(self, file: &mut impl Read) -> io::Result<u64> {
        if self.wide {
            self.read::<8>(file)
        } else {
            self.read::<N>(file)
        }
    }

    /// Where the header holds the offset of the first directory, and of how many bytes that is.
    fn first_directory(self) -> (usize, usize) {
        if self.wide { (8, 8) } else { (4, 4) }
    }
}

/// True if these are the first bytes of a TIFF.
pub(super) fn is_tiff(bytes: &[u8]) -> bool {
    let head = bytes.first_chunk::<4>();
    head.is_some_and(|head| TiffLayout::of(head).is_some())
}

/// Offsets of the directories of full images, in the order of the file; thumbnails and masks are no pages.
///
/// # Errors
/// If the chain is damaged, or an entry claims more values than the file can hold, for which decoders would make room.
pub(super) fn pages(mut file: impl Read + Seek) -> Result<Vec<u64>, String> {
    let damaged = |e: io::Error| format!("the chain of TIFF pages is damaged: {e}");
    let file_bytes = file.seek(SeekFrom::End(0)).map_err(damaged)?;
    file.rewind().map_err(damaged)?;
    let mut head = [0; 4];
    file.read_exact(&mut head).map_err(damaged)?;
    let layout = TiffLayout::of(&head).ok_or("not a TIFF")?;
    let mut pages = Vec::new();
    let mut seen = BTreeSet::new();
    file.seek(SeekFrom::Start(layout.first_directory().0 as u64))
        .map_err(damaged)?;
    let mut offset = layout.either::<4>(&mut file).map_err(damaged)?;
    while offset != 0 {
        if !seen.insert(offset) || seen.len() > MAX_PAGES {
            return Err("the chain of TIFF pages leads in a circle".to_owned());
        }
        let directory = Directory::read(&mut file, layout, offset).map_err(damaged)?;
        if directory.largest_entry_bytes > file_bytes {
            return Err(format!(
                "an entry of a TIFF page claims {} bytes of values, the file has {file_bytes}",
                directory.largest_entry_bytes
            ));
        }
        if directory.is_page {
            pages.push(offset);
        }
        offset = directory.next;
    }
    Ok(pages)
}

/// What matters of an image directory.
struct Directory {
    is_page: bool,
    /// Bytes of the values of the entry that has most of them.
    largest_entry_bytes: u64,
    /// Offset of the next directory; 0 for the last.
    next: u64,
}

impl Directory {
    fn read(file: &mut (impl Read + Seek), layout: TiffLayout, offset: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(offset))?;
        let entries = layout.either::<2>(file)?;
        let entry_bytes = if layout.wide { 20 } else { 12 };
        let mut directory = Self {
            is_page: true,
            largest_entry_bytes: 0,
            next: 0,
        };
        for _ in 0..entries {
            let mut entry = [0; 20];
            file.read_exact(&mut entry[..entry_bytes])?;
            let value = if layout.wide { 12 } else { 8 };
            let count = layout.number(&entry[4..value]);
            let bytes = count.saturating_mul(value_bytes(layout.number(&entry[2..4])));
            directory.largest_entry_bytes = directory.largest_entry_bytes.max(bytes);
            if layout.number(&entry[..2]) == u64::from(SUBFILE_TYPE) {
                let kind = layout.number(&entry[value..value + 4]);
                directory.is_page = kind & THUMBNAIL_OR_MASK == 0;
            }
        }
        directory.next = layout.either::<4>(file)?;
        Ok(directory)
    }
}

/// Bytes of a value by its type's number in the format.
fn value_bytes(kind: u64) -> u64 {
    match kind {
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16..=18 => 8,
        _ => 1,
    }
}

/// Points the header of `bytes` at the directory at `offset`.
pub(super) fn select_page(bytes: &mut [u8], offset: u64) {
    let Some(layout) = bytes.first_chunk::<4>().and_then(TiffLayout::of) else {
        return;
    };
    let (at, width) = layout.first_directory();
    let mut value = offset.to_le_bytes()[..width].to_vec();
    if layout.big_endian {
        value.reverse();
    }
    bytes[at..at + width].copy_from_slice(&value);
}
