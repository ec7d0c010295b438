//! The safetensors format: tensors as windows into the mapped file, deterministic and atomic writing.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, SafeTensorError};
use serde_json::{Map, Value, json};

use super::map::{SharedBytes, map_file};
use super::state::StateDict;
use super::{CheckpointError, Problem};
use crate::files::write_atomically;
use crate::tensor::{DType, Tensor, TensorMap};

/// The content of a safetensors file.
#[derive(Debug, Clone)]
pub struct SafetensorsFile {
    /// The tensors, as windows into the mapped file.
    pub tensors: TensorMap,
    /// The `__metadata__` entry.
    pub metadata: BTreeMap<String, String>,
}

/// Maps a safetensors file. Nothing but the header is read; the tensors keep the map alive.
///
/// # Errors
/// If the file cannot be read, is no safetensors file, is truncated, or holds a type the engine has no use for.
pub fn read_safetensors(path: impl AsRef<Path>) -> Result<SafetensorsFile, CheckpointError> {
    let path = path.as_ref();
    let read = || -> Result<SafetensorsFile, Problem> {
        let (state, metadata) = parse(map_file(path)?)?;
        let tensors = state.into_tensors()?;
        Ok(SafetensorsFile { tensors, metadata })
    };
    read().map_err(|problem| problem.at(path))
}

/// True if the bytes begin as a safetensors file does: a header length, then a JSON object.
pub(super) fn looks_like_safetensors(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return false;
    };
    u64::from_le_bytes(*length) <= 100_000_000 && rest.first() == Some(&b'{')
}

/// The tensors and the `__metadata__` entry.
pub(super) fn parse(bytes: SharedBytes) -> Result<(StateDict, BTreeMap<String, String>), Problem> {
    let content = (*bytes).as_ref();
    let (header_len, metadata) = SafeTensors::read_metadata(content).map_err(describe)?;
    let data_start = header_len + 8;
    let mut state = StateDict::default();
    for (name, info) in metadata.tensors() {
        let Some(dtype) = dtype_of(info.dtype) else {
            let why = format!(
                "has the type {:?}, which this reader does not take; convert it to F32, F16 or BF16",
                info.dtype
            );
            state.unreadable.insert(name, why);
            continue;
        };
        let (start, end) = info.data_offsets;
        let tensor = Tensor::from_shared(
            dtype,
            info.shape.clone(),
            bytes.clone(),
            data_start + start,
            end - start,
        )
        .map_err(|error| Problem::tensor(&name, error))?;
        state.tensors.insert(name, tensor);
    }
    let metadata = metadata.metadata().clone().unwrap_or_default();
    Ok((state, metadata.into_iter().collect()))
}

fn describe(error: SafeTensorError) -> Problem {
    let what = match error {
        SafeTensorError::MetadataIncompleteBuffer | SafeTensorError::InvalidHeaderLength => {
            "the safetensors file ends before, or runs on after, the data its header lists"
                .to_owned()
        }
        other => format!("the safetensors header is invalid ({other})"),
    };
    Problem::damaged(what)
}

/// Writes tensors and metadata so that `path` holds its old content or all of the new one.
///
/// Equal input gives equal bytes: metadata in key order, tensors by falling element size (which aligns every one of
/// them), then by name.
///
/// # Errors
/// If the file cannot be written; the old one is left as it was.
pub fn write_safetensors(
    path: impl AsRef<Path>,
    tensors: &TensorMap,
    metadata: &BTreeMap<String, String>,
) -> Result<(), CheckpointError> {
    let path = path.as_ref();
    write_atomically(path, |out| write_to(out, tensors, metadata))
        .map_err(|error| Problem::io("write")(error).at(path))
}

fn write_to(
    out: &mut dyn Write,
    tensors: &TensorMap,
    metadata: &BTreeMap<String, String>,
) -> std::io::Result<()> {
    let mut order: Vec<(&String, &Tensor)> = tensors.iter().collect();
    order.sort_by_key(|(name, tensor)| (std::cmp::Reverse(tensor.dtype().size_bytes()), *name));
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".to_owned(), json!(metadata));
    }
    let mut offset = 0;
    for (name, tensor) in &order {
        let end = offset + tensor.bytes().len();
        header.insert(
            (*name).clone(),
            json!({
                "dtype": safetensors_name(tensor.dtype()),
                "shape": tensor.shape(),
                "data_offsets": [offset, end],
            }),
        );
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for (_, tensor) in &order {
        out.write_all(tensor.bytes())?;
    }
    Ok(())
}

fn dtype_of(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I16 => DType::I16,
        Dtype::I8 => DType::I8,
        Dtype::U8 => DType::U8,
        Dtype::BOOL => DType::Bool,
        _ => return None,
    })
}

fn safetensors_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F64 => "F64",
        DType::F32 => "F32",
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::I64 => "I64",
        DType::I32 => "I32",
        DType::I16 => "I16",
        DType::I8 => "I8",
        DType::U8 => "U8",
        DType::Bool => "BOOL",
    }
}
