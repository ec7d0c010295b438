//! One part of a checkpoint: a safetensors file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use safetensors::tensor::SafeTensorError;
use safetensors::{Dtype, SafeTensors, View};

use crate::tensor::{DType, Storage, Tensor, TensorMap};

/// The types of both sides.
const TYPES: [(DType, Dtype); 10] = [
    (DType::F64, Dtype::F64),
    (DType::F32, Dtype::F32),
    (DType::F16, Dtype::F16),
    (DType::BF16, Dtype::BF16),
    (DType::I64, Dtype::I64),
    (DType::I32, Dtype::I32),
    (DType::I16, Dtype::I16),
    (DType::I8, Dtype::I8),
    (DType::U8, Dtype::U8),
    (DType::Bool, Dtype::BOOL),
];

/// Writes the tensors to `path`.
pub(super) fn write(path: &Path, tensors: &TensorMap) -> io::Result<()> {
    let views = tensors.iter().map(|(name, tensor)| (name, Stored(tensor)));
    let written = safetensors::serialize_to_file(views, None::<HashMap<String, String>>, path);
    written.map_err(|error| match error {
        SafeTensorError::IoError(error) => error,
        other => io::Error::other(other),
    })?;
    // The crate writes through a temporary file that only its owner may read.
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

/// The tensors of a safetensors file, as windows into its bytes.
pub(super) fn read(bytes: &Arc<dyn Storage>) -> Result<TensorMap, String> {
    let content = (**bytes).as_ref();
    let file = SafeTensors::deserialize(content).map_err(|e| e.to_string())?;
    let mut tensors = TensorMap::new();
    for (name, view) in file.iter() {
        let (dtype, _) = TYPES
            .iter()
            .find(|(_, stored)| *stored == view.dtype())
            .ok_or_else(|| format!("`{name}` is of type {:?}", view.dtype()))?;
        let start = view.data().as_ptr() as usize - content.as_ptr() as usize;
        let shared = Arc::clone(bytes);
        let tensor = Tensor::from_shared(*dtype, view.shape(), shared, start, view.data().len())
            .map_err(|e| format!("`{name}`: {e}"))?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(tensors)
}

/// A host tensor as the safetensors crate wants to see it.
struct Stored<'a>(&'a Tensor);

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        let found = TYPES.iter().find(|(ours, _)| *ours == self.0.dtype());
        found.map_or(Dtype::U8, |(_, stored)| *stored)
    }

    fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.0.bytes().into()
    }

    fn data_len(&self) -> usize {
        self.0.bytes().len()
    }
}
