//! The zip container: `<stem>/data.pkl` and one member per storage, each with a CRC-32 that is verified, unless the archive
//! was written without (`torch.serialization.set_crc32_options(False)`).

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::sync::{Arc, Mutex};

use zip::{CompressionMethod, ZipArchive};

use super::storages::{Storages, Window};
use crate::checkpoint::Problem;
use crate::checkpoint::map::SharedBytes;
use crate::checkpoint::pickle::Pickle;

/// Deflate cannot expand more than this.
const MAX_DEFLATE_RATIO: u64 = 1032;

pub(super) struct ZipStorages {
    bytes: SharedBytes,
    stem: String,
    members: HashMap<String, Member>,
    archive: Mutex<ZipArchive<Cursor<Whole>>>,
}

struct Member {
    index: usize,
    /// First byte of the data in the file.
    start: usize,
    len: usize,
    packed_len: u64,
    /// `None` where it was not computed.
    crc: Option<u32>,
    stored: bool,
}

/// The shared bytes as something a cursor can walk.
struct Whole(SharedBytes);

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

/// Opens the archive, reads its pickle and finds its members.
pub(super) fn open(bytes: SharedBytes) -> Result<(Pickle, ZipStorages), Problem> {
    let broken = |error: zip::result::ZipError| {
        Problem::damaged(format!("the zip archive cannot be read ({error})"))
    };
    let mut archive = ZipArchive::new(Cursor::new(Whole(bytes.clone()))).map_err(broken)?;
    let file_len = (*bytes).as_ref().len();
    let mut members = HashMap::new();
    for index in 0..archive.len() {
        let file = archive.by_index_raw(index).map_err(broken)?;
        let name = file.name().map_err(broken)?.into_owned();
        if file.encrypted() {
            return Err(Problem::unsupported(format!(
                "member `{name}` of the archive is encrypted; unpack it and save the checkpoint anew"
            )));
        }
        let stored = match file.compression() {
            CompressionMethod::Stored => true,
            CompressionMethod::Deflated => false,
            other => {
                return Err(Problem::unsupported(format!(
                    "member `{name}` of the archive is packed with {other}; PyTorch stores its members unpacked"
                )));
            }
        };
        let outside = || Problem::damaged(format!("member `{name}` lies outside the archive"));
        let start = file.data_start().ok_or_else(outside)?;
        let start = usize::try_from(start).map_err(|_| outside())?;
        let len = usize::try_from(file.size()).map_err(|_| outside())?;
        let packed_len = file.compressed_size();
        let packed = usize::try_from(packed_len).map_err(|_| outside())?;
        if start.checked_add(packed).is_none_or(|end| end > file_len)
            || (stored && len != packed)
            || len as u64 > packed_len.saturating_mul(MAX_DEFLATE_RATIO)
        {
            return Err(outside());
        }
        let content = (*bytes).as_ref();
        let header = usize::try_from(file.header_start()).map_err(|_| outside())?;
        let computed = file.crc32() != 0 || states_a_checksum(content, header, start + packed);
        let member = Member {
            index,
            start,
            len,
            packed_len,
            crc: computed.then(|| file.crc32()),
            stored,
        };
        drop(file);
        members.insert(name, member);
    }
    let stem = find_stem(&members)?;
    let storages = ZipStorages {
        bytes,
        stem,
        members,
        archive: Mutex::new(archive),
    };
    if let Some(order) = storages.small_text("byteorder")?
        && order != "little"
    {
        return Err(Problem::unsupported(format!(
            "the checkpoint was written in {order}-endian byte order; load it in Python and save it on a little-endian machine"
        )));
    }
    let window = storages.member("data.pkl")?;
    let (pickle, _) = Pickle::parse(window.as_slice())?;
    Ok((pickle, storages))
}

/// True if the member whose local header is at `header`, and whose data ends at `end`, states a checksum there or in the
/// descriptor behind its data. The archive's directory says 0, which is one in 2^32 checksums, or means "not computed";
/// a checksum that was lost from the directory alone would still be told by the other two.
fn states_a_checksum(content: &[u8], header: usize, end: usize) -> bool {
    let word = |at: Option<usize>| {
        let at = at?;
        let bytes = content.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let local = word(header.checked_add(14));
    let flags = word(header.checked_add(6)).unwrap_or(0);
    /// Size and checksum follow the data.
    const DESCRIPTOR: u32 = 1 << 3;
    const SIGNATURE: u32 = u32::from_le_bytes(*b"PK\x07\x08");
    let described = match flags & DESCRIPTOR != 0 {
        false => Some(0),
        true if word(Some(end)) == Some(SIGNATURE) => word(end.checked_add(4)),
        true => word(Some(end)),
    };
    local != Some(0) || described != Some(0)
}

/// The folder inside the archive that holds `data.pkl`, with its slash; PyTorch names it `archive` or after the file.
fn find_stem(members: &HashMap<String, Member>) -> Result<String, Problem> {
    let stem = members
        .keys()
        .filter_map(|name| name.strip_suffix("data.pkl"))
        .filter(|stem| stem.is_empty() || stem.ends_with('/'))
        .min_by_key(|stem| (stem.len(), stem.to_string()));
    let Some(stem) = stem else {
        return Err(Problem::Foreign {
            found: "a zip archive without a `data.pkl`, so not a PyTorch checkpoint".to_owned(),
        });
    };
    if members.contains_key(&format!("{stem}constants.pkl")) {
        return Err(Problem::unsupported(
            "the file is a TorchScript program, not a checkpoint; load it in Python and save `model.state_dict()`",
        ));
    }
    Ok(stem.to_owned())
}

impl ZipStorages {
    /// The bytes of `<stem>/<name>`, verified against the archive's CRC where there is one.
    fn member(&self, name: &str) -> Result<Window, Problem> {
        let name = format!("{}{name}", self.stem);
        let member = self.members.get(&name).ok_or_else(|| {
            Problem::damaged(format!("member `{name}` is missing from the archive"))
        })?;
        let corrupt = || {
            Problem::damaged(match member.crc {
                Some(crc) => {
                    format!("member `{name}` does not match its checksum (CRC-32 {crc:08x})")
                }
                None => format!("member `{name}` cannot be unpacked to {} bytes", member.len),
            })
        };
        let window = if member.stored {
            Window {
                bytes: self.bytes.clone(),
                start: member.start,
                len: member.len,
            }
        } else {
            let mut archive = self
                .archive
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            let file = archive.by_index(member.index).map_err(|_| corrupt())?;
            let mut unpacked = Vec::new();
            // One byte more than promised shows a member that is longer than it claims. Without a checksum the end is not
            // read, which is where the archive's reader compares it.
            let most = member.len as u64 + u64::from(member.crc.is_some());
            file.take(most)
                .read_to_end(&mut unpacked)
                .map_err(|_| corrupt())?;
            if unpacked.len() != member.len || member.packed_len == 0 && member.len > 0 {
                return Err(corrupt());
            }
            Window {
                start: 0,
                len: unpacked.len(),
                bytes: Arc::new(unpacked),
            }
        };
        match member.crc {
            Some(crc) if crc32fast::hash(window.as_slice()) != crc => Err(corrupt()),
            _ => Ok(window),
        }
    }

    /// The text of a short member, if it is there.
    fn small_text(&self, name: &str) -> Result<Option<String>, Problem> {
        if !self.members.contains_key(&format!("{}{name}", self.stem)) {
            return Ok(None);
        }
        let window = self.member(name)?;
        Ok(Some(
            String::from_utf8_lossy(window.as_slice()).trim().to_owned(),
        ))
    }
}

impl Storages for ZipStorages {
    fn storage(&self, key: &str) -> Result<Window, Problem> {
        self.member(&format!("data/{key}"))
    }

    fn without_checksum(&self) -> Option<(usize, usize)> {
        let unsummed = self
            .members
            .values()
            .filter(|m| m.crc.is_none() && m.len > 0);
        Some((unsummed.count(), self.members.len()))
    }
}
