//! From recorded calls such as `_rebuild_tensor_v2(storage, offset, size, stride, …)` to tensors.

use std::collections::HashMap;
use std::sync::Arc;

use super::storages::{Storages, Window};
use crate::checkpoint::pickle::{Id, Pickle, PickleNode};
use crate::tensor::{DType, Tensor};

/// What `('storage', type, key, location, count, view)` says.
pub(super) struct StorageId {
    /// Name of the storage within the file.
    pub key: String,
    /// `torch.FloatStorage`
    pub type_name: String,
    /// Element type; `None` for untyped storages and for types the engine has no use for.
    pub dtype: Option<DType>,
    /// Size of an element, 1 for untyped storages; `None` for unknown types.
    pub element_bytes: Option<usize>,
    /// Number of elements.
    pub count: usize,
    /// First element and number of elements, for a storage that is a part of another.
    pub view: Option<(usize, usize)>,
}

/// Keys are texts or numbers.
pub(super) fn key_text(pickle: &Pickle, id: Id) -> Option<String> {
    match pickle.node(id) {
        PickleNode::Str(text) => Some(text.to_string()),
        PickleNode::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Reads a persistent identifier; `None` if it is not that of a storage.
pub(super) fn parse_storage_id(pickle: &Pickle, id: Id) -> Option<StorageId> {
    let fields = pickle.elements(id)?;
    if fields.len() < 5 || pickle.str(fields[0]) != Some("storage") {
        return None;
    }
    let (module, name) = pickle.global(fields[1])?;
    let dtype = storage_dtype(name);
    let element_bytes = match (dtype, name) {
        (Some(dtype), _) => Some(dtype.size_bytes()),
        (None, "UntypedStorage") => Some(1),
        (None, "ComplexFloatStorage") => Some(8),
        (None, "ComplexDoubleStorage") => Some(16),
        (None, "QInt8Storage" | "QUInt8Storage") => Some(1),
        (None, "QInt32Storage") => Some(4),
        _ => None,
    };
    let view = match fields.get(5).and_then(|&view| pickle.elements(view)) {
        Some(&[_, first, count, ..]) => Some((
            usize::try_from(pickle.int(first)?).ok()?,
            usize::try_from(pickle.int(count)?).ok()?,
        )),
        _ => None,
    };
    Some(StorageId {
        key: key_text(pickle, fields[2])?,
        type_name: format!("{module}.{name}"),
        dtype,
        element_bytes,
        count: usize::try_from(pickle.int(fields[4])?).ok()?,
        view,
    })
}

fn storage_dtype(name: &str) -> Option<DType> {
    Some(match name {
        "DoubleStorage" => DType::F64,
        "FloatStorage" => DType::F32,
        "HalfStorage" => DType::F16,
        "BFloat16Storage" => DType::BF16,
        "LongStorage" => DType::I64,
        "IntStorage" => DType::I32,
        "ShortStorage" => DType::I16,
        "CharStorage" => DType::I8,
        "ByteStorage" => DType::U8,
        "BoolStorage" => DType::Bool,
        _ => return None,
    })
}

fn torch_dtype(name: &str) -> Option<DType> {
    Some(match name {
        "float64" => DType::F64,
        "float32" => DType::F32,
        "float16" => DType::F16,
        "bfloat16" => DType::BF16,
        "int64" => DType::I64,
        "int32" => DType::I32,
        "int16" => DType::I16,
        "int8" => DType::I8,
        "uint8" => DType::U8,
        "bool" => DType::Bool,
        _ => return None,
    })
}

/// Turns values into tensors, reading and verifying each storage once.
pub(super) struct TensorReader<'a> {
    pickle: &'a Pickle,
    storages: &'a dyn Storages,
    verified: HashMap<String, Window>,
    /// Bytes that copies may still take: a tiny file whose strides claim huge tensors must not fill the memory.
    copy_budget: usize,
}

impl<'a> TensorReader<'a> {
    pub(super) fn new(pickle: &'a Pickle, storages: &'a dyn Storages, file_len: usize) -> Self {
        Self {
            pickle,
            storages,
            verified: HashMap::new(),
            copy_budget: (256 << 20) + file_len.saturating_mul(4),
        }
    }

    /// True if the value was made by one of the functions that make tensors, readable or not.
    pub(super) fn is_tensor(&self, id: Id) -> bool {
        let PickleNode::Call(call) = self.pickle.node(id) else {
            return false;
        };
        matches!(
            self.pickle.global(call.callable),
            Some(("torch._utils" | "torch._tensor", name)) if name.starts_with("_rebuild")
        )
    }

    /// The tensor at `id`, row-major.
    pub(super) fn tensor(&mut self, id: Id) -> Result<Tensor, String> {
        /// A parameter of a subclass of a tensor is three calls deep.
        const MAX_WRAPPERS: usize = 8;
        let mut id = id;
        let mut callable = None;
        for _ in 0..MAX_WRAPPERS {
            let PickleNode::Call(call) = self.pickle.node(id) else {
                return Err(format!("expected a tensor, found {}", self.summary(id)));
            };
            let function = callable.take().unwrap_or(call.callable);
            let args = self.pickle.elements(call.args).unwrap_or_default();
            let Some((module, name)) = self.pickle.global(function) else {
                return Err("is made by something that is no function".to_owned());
            };
            match (module, name) {
                (
                    "torch._utils",
                    "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3",
                ) => return self.strided(name, args),
                ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
                | ("torch.nn.parameter", "Parameter" | "Buffer") => {
                    id = *args.first().ok_or("a parameter without a tensor")?;
                }
                // (function, type, arguments, state): a subclass of Tensor around an ordinary one.
                ("torch._tensor", "_rebuild_from_type_v2") if args.len() >= 3 => {
                    let (inner, inner_args) = (args[0], self.pickle.elements(args[2]));
                    let inner_args = inner_args.unwrap_or_default();
                    match self.pickle.global(inner) {
                        Some((
                            "torch._utils",
                            name
                            @ ("_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3"),
                        )) => return self.strided(name, inner_args),
                        Some(("torch._utils", "_rebuild_parameter")) => {
                            id = *inner_args.first().ok_or("a parameter without a tensor")?;
                        }
                        _ => {
                            return Err(format!(
                                "is made by {}, which this reader does not know",
                                self.summary(inner)
                            ));
                        }
                    }
                }
                ("torch._utils", "_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor") => {
                    return Err(
                        "is sparse; convert it in Python with `.to_dense()` and save again"
                            .to_owned(),
                    );
                }
                ("torch._utils", "_rebuild_qtensor") => {
                    return Err(
                        "is quantised; convert it in Python with `.dequantize()` and save again"
                            .to_owned(),
                    );
                }
                ("torch._utils", "_rebuild_meta_tensor_no_storage") => {
                    return Err(
                        "is on the `meta` device, so its values were never saved".to_owned()
                    );
                }
                _ => {
                    return Err(format!(
                        "is made by `{module}.{name}`, which this reader does not know and does not run; \
                         save a plain state dict"
                    ));
                }
            }
        }
        Err("is wrapped in too many calls".to_owned())
    }

    fn summary(&self, id: Id) -> String {
        let mut text = self.pickle.repr(id);
        if text.len() > 80 {
            text.truncate(
                (0..=77)
                    .rev()
                    .find(|&at| text.is_char_boundary(at))
                    .unwrap_or(0),
            );
            text.push_str("...");
        }
        text
    }

    /// `(storage, offset, size, stride, requires_grad, hooks[, dtype])`, all counted in elements.
    fn strided(&mut self, function: &str, args: &[Id]) -> Result<Tensor, String> {
        let [storage, offset, size, stride, ..] = *args else {
            return Err(format!(
                "`{function}` has {} arguments, expected 4 or more",
                args.len()
            ));
        };
        let PickleNode::Persistent(storage) = self.pickle.node(storage) else {
            return Err(format!("has no storage, found {}", self.summary(storage)));
        };
        let storage = parse_storage_id(self.pickle, *storage)
            .ok_or_else(|| format!("has an invalid storage {}", self.summary(*storage)))?;
        let named_dtype = match (function, args.get(6)) {
            ("_rebuild_tensor_v3", Some(&id)) => self.pickle.global(id),
            _ => None,
        };
        let dtype = match named_dtype {
            Some((_, name)) => torch_dtype(name)
                .ok_or_else(|| format!("has the type `{name}`, which this reader does not take"))?,
            None => storage.dtype.ok_or_else(|| {
                format!(
                    "has the type `{}`, which this reader does not take",
                    storage.type_name
                )
            })?,
        };
        let offset = self
            .pickle
            .int(offset)
            .and_then(|value| usize::try_from(value).ok())
            .ok_or("has an invalid storage offset")?;
        let shape = self.extents(size).ok_or("has an invalid size")?;
        let strides = self.extents(stride).ok_or("has invalid strides")?;
        if shape.len() != strides.len() {
            return Err(format!(
                "has {} dimensions and {} strides",
                shape.len(),
                strides.len()
            ));
        }

        let window = self.window(&storage)?;
        let element_bytes = dtype.size_bytes();
        let available = window.len / element_bytes;
        // An empty tensor may point anywhere, also behind its storage.
        let needed = match reach(&shape, &strides) {
            Some(0) => Some(0),
            reach => reach.and_then(|reach| reach.checked_add(offset)),
        };
        let needed = needed.ok_or("has a size that overflows")?;
        if needed > available {
            return Err(format!(
                "needs {needed} elements of storage {}, which holds {available}",
                storage.key
            ));
        }
        let count = shape
            .iter()
            .try_fold(1usize, |count, &extent| count.checked_mul(extent))
            .ok_or("has a size that overflows")?;
        if is_row_major(&shape, &strides) {
            let start = if count == 0 {
                0
            } else {
                offset * element_bytes
            };
            return Tensor::from_shared(
                dtype,
                shape,
                window.bytes.clone(),
                window.start + start,
                count * element_bytes,
            )
            .map_err(|error| error.to_string());
        }
        let bytes = count
            .checked_mul(element_bytes)
            .ok_or("has a size that overflows")?;
        self.copy_budget = self.copy_budget.checked_sub(bytes).ok_or_else(|| {
            format!("is a view of {bytes} bytes of a far smaller file; refusing to expand it")
        })?;
        let source = &window.as_slice()[offset * element_bytes..];
        let copy = gather(source, &shape, &strides, element_bytes, bytes);
        Tensor::from_bytes(dtype, shape, copy).map_err(|error| error.to_string())
    }

    fn extents(&self, id: Id) -> Option<Vec<usize>> {
        let elements = self.pickle.elements(id)?;
        // PyTorch has at most 64 dimensions.
        if elements.len() > 64 {
            return None;
        }
        elements
            .iter()
            .map(|&id| usize::try_from(self.pickle.int(id)?).ok())
            .collect()
    }

    /// The bytes of a storage, or of its part where it is a view of another.
    fn window(&mut self, storage: &StorageId) -> Result<Window, String> {
        let whole = match self.verified.get(&storage.key) {
            Some(window) => window.clone(),
            None => {
                let window = self
                    .storages
                    .storage(&storage.key)
                    .map_err(|problem| problem.to_string())?;
                self.verified.insert(storage.key.clone(), window.clone());
                window
            }
        };
        let element_bytes = storage.element_bytes.unwrap_or(1);
        let too_short = || {
            format!(
                "storage {} holds {} bytes, fewer than its {} elements take",
                storage.key, whole.len, storage.count
            )
        };
        let expected = storage.count.checked_mul(element_bytes);
        if expected.is_none_or(|expected| expected > whole.len) {
            return Err(too_short());
        }
        let Some((first, count)) = storage.view else {
            return Ok(whole);
        };
        let start = first.checked_mul(element_bytes).ok_or_else(too_short)?;
        let len = count.checked_mul(element_bytes).ok_or_else(too_short)?;
        if start.checked_add(len).is_none_or(|end| end > whole.len) {
            return Err(too_short());
        }
        Ok(Window {
            bytes: Arc::clone(&whole.bytes),
            start: whole.start + start,
            len,
        })
    }
}

impl Window {
    pub(super) fn as_slice(&self) -> &[u8] {
        &(*self.bytes).as_ref()[self.start..][..self.len]
    }
}

/// Elements from the first to behind the last that the view touches; 0 for an empty one.
fn reach(shape: &[usize], strides: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape
        .iter()
        .zip(strides)
        .try_fold(1usize, |reach, (&extent, &stride)| {
            reach.checked_add((extent - 1).checked_mul(stride)?)
        })
}

/// Strides of dimensions of extent 1 say nothing, nor do any in an empty tensor.
fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    if shape.contains(&0) {
        return true;
    }
    let mut expected = 1usize;
    for (&extent, &stride) in shape.iter().zip(strides).rev() {
        if extent != 1 && stride != expected {
            return false;
        }
        expected = expected.saturating_mul(extent);
    }
    true
}

/// Copies a strided view into row-major order. The caller has checked that it lies within `source`.
fn gather(
    source: &[u8],
    shape: &[usize],
    strides: &[usize],
    element_bytes: usize,
    bytes: usize,
) -> Vec<u8> {
    let mut copy = Vec::with_capacity(bytes);
    let mut index = vec![0usize; shape.len()];
    let mut position = 0usize;
    while copy.len() < bytes {
        let at = position * element_bytes;
        copy.extend_from_slice(&source[at..at + element_bytes]);
        for dimension in (0..shape.len()).rev() {
            index[dimension] += 1;
            position += strides[dimension];
            if index[dimension] < shape[dimension] {
                break;
            }
            position -= strides[dimension] * shape[dimension];
            index[dimension] = 0;
        }
    }
    copy
}
