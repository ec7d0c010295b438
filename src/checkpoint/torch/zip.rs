//! The zip container: `<stem>/data.pkl` and one member per storage, each with a CRC-32 that is verified.

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
    crc: u32,
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
        let member = Member {
            index,
            start,
            len,
            packed_len,
            crc: file.crc32(),
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
    /// The bytes of `<stem>/<name>`, verified against the archive's CRC.
    fn member(&self, name: &str) -> Result<Window, Problem> {
        let name = format!("{}{name}", self.stem);
        let member = self.members.get(&name).ok_or_else(|| {
            Problem::damaged(format!("member `{name}` is missing from the archive"))
        })?;
        let corrupt = || {
            Problem::damaged(format!(
                "member `{name}` does not match its checksum (CRC-32 {:08x})",
                member.crc
            ))
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
            // One byte more than promised shows a member that is longer than it claims.
            file.take(member.len as u64 + 1)
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
        if crc32fast::hash(window.as_slice()) != member.crc {
            return Err(corrupt());
        }
        Ok(window)
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
}
