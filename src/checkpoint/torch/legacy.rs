//! The stream container: magic number, protocol, system, value, storage keys (five pickles), then the raw storages,
//! each led by its element count.

use std::collections::HashMap;

use super::storages::{Storages, Window};
use super::tensors::{key_text, parse_storage_id};
use crate::checkpoint::Problem;
use crate::checkpoint::map::SharedBytes;
use crate::checkpoint::pickle::{Pickle, PickleNode};

/// 0x1950a86a20f9469cfc6c, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

pub(super) struct LegacyStorages {
    bytes: SharedBytes,
    /// Start and length by key.
    places: HashMap<String, (usize, usize)>,
}

/// Reads the pickles and finds the storages.
pub(super) fn open(bytes: SharedBytes) -> Result<(Pickle, LegacyStorages), Problem> {
    let content = (*bytes).as_ref();
    let mut at = 0;
    let mut next = |what: &str| -> Result<Pickle, Problem> {
        if at >= content.len() {
            return Err(Problem::damaged(format!(
                "the stream ends before its {what}"
            )));
        }
        let (pickle, length) = Pickle::parse(&content[at..])?;
        at += length;
        Ok(pickle)
    };

    let magic = next("magic number").map_err(|problem| match problem {
        // A hostile pickle that torch.save did not write is still called hostile.
        Problem::Pickle(crate::checkpoint::pickle::PickleError::Forbidden { .. }) => problem,
        _ => not_ours(),
    })?;
    match magic.node(magic.root()) {
        PickleNode::BigInt(number) if number[..] == MAGIC => {}
        _ => return Err(not_ours()),
    }
    let protocol = next("protocol version")?;
    match protocol.node(protocol.root()) {
        PickleNode::Int(1001) => {}
        _ => {
            return Err(Problem::unsupported(format!(
                "expected version 1001 of PyTorch's stream format, found {}",
                protocol.repr(protocol.root())
            )));
        }
    }
    let system = next("system description")?;
    let little_endian = system.get(system.root(), "little_endian");
    if little_endian.is_some_and(|id| *system.node(id) == PickleNode::Bool(false)) {
        return Err(Problem::unsupported(
            "the checkpoint was written on a big-endian machine; load it in Python and save it anew",
        ));
    }
    let pickle = next("value")?;
    let keys = next("list of storages")?;

    let sizes = referenced_sizes(&pickle)?;
    let mut places = HashMap::new();
    for &key in keys.elements(keys.root()).unwrap_or_default() {
        let key = key_text(&keys, key).ok_or_else(|| {
            Problem::damaged("the list of storages holds something that is no key")
        })?;
        let &(elements, element_bytes) = sizes.get(&key).ok_or_else(|| {
            Problem::damaged(format!(
                "storage {key} is in the file, but no tensor uses it"
            ))
        })?;
        let truncated =
            || Problem::damaged(format!("the stream ends in the middle of storage {key}"));
        let count: [u8; 8] = content
            .get(at..at + 8)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(truncated)?;
        let count = i64::from_le_bytes(count);
        if usize::try_from(count) != Ok(elements) {
            return Err(Problem::damaged(format!(
                "storage {key} should hold {elements} elements, its header says {count}"
            )));
        }
        at += 8;
        let length = elements.checked_mul(element_bytes).ok_or_else(truncated)?;
        if length > content.len() - at {
            return Err(truncated());
        }
        places.insert(key, (at, length));
        at += length;
    }
    if at != content.len() {
        return Err(Problem::damaged(format!(
            "{} bytes follow the last storage, expected none",
            content.len() - at
        )));
    }
    Ok((pickle, LegacyStorages { bytes, places }))
}

fn not_ours() -> Problem {
    Problem::Foreign {
        found: "not a PyTorch checkpoint (neither a zip archive nor PyTorch's stream)".to_owned(),
    }
}

/// Elements and bytes per element of every storage that the pickle mentions.
fn referenced_sizes(pickle: &Pickle) -> Result<HashMap<String, (usize, usize)>, Problem> {
    let mut sizes = HashMap::new();
    for node in pickle.nodes() {
        let PickleNode::Persistent(id) = node else {
            continue;
        };
        let Some(storage) = parse_storage_id(pickle, *id) else {
            continue;
        };
        // A storage of an unsupported type still has to be stepped over.
        let Some(element_bytes) = storage.element_bytes else {
            return Err(Problem::unsupported(format!(
                "storage {} has the type `{}`, which this reader does not take",
                storage.key, storage.type_name
            )));
        };
        let entry = (storage.count, element_bytes);
        if *sizes.entry(storage.key.clone()).or_insert(entry) != entry {
            return Err(Problem::damaged(format!(
                "storage {} is described in two ways",
                storage.key
            )));
        }
    }
    Ok(sizes)
}

impl Storages for LegacyStorages {
    fn storage(&self, key: &str) -> Result<Window, Problem> {
        let &(start, len) = self
            .places
            .get(key)
            .ok_or_else(|| Problem::damaged(format!("storage {key} is not in the file")))?;
        Ok(Window {
            bytes: self.bytes.clone(),
            start,
            len,
        })
    }
}
