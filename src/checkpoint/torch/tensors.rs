//! From recorded calls such as `_rebuild_tensor_v2(storage, offset, size, stride, …)` to tensors.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::storages::{Storages, Window};
use crate::checkpoint::pickle::{Id, NumpyArray, Pickle, PickleNode};
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
        (None, "QInt8Storage" | "QUInt8Storage" | "QUInt4x2Storage" | "QUInt2x4Storage") => Some(1),
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

/// Why a value gives no tensor.
#[derive(Debug)]
pub(super) enum TensorProblem {
    /// It is of a kind or type that this reader does not take, in a file that may well be sound.
    Kind(String),
    /// What it says of itself cannot be so, or its bytes are not what they were.
    Broken(String),
}

impl<T: Into<String>> From<T> for TensorProblem {
    fn from(what: T) -> Self {
        Self::Broken(what.into())
    }
}

impl fmt::Display for TensorProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(what) | Self::Broken(what) => f.write_str(what),
        }
    }
}

fn kind<T>(what: impl Into<String>) -> Result<T, TensorProblem> {
    Err(TensorProblem::Kind(what.into()))
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
    pub(super) fn tensor(&mut self, id: Id) -> Result<Tensor, TensorProblem> {
        /// A parameter of a subclass of a tensor is three calls deep.
        const MAX_WRAPPERS: usize = 8;
        if let Some(array) = self.pickle.numpy_array(id) {
            return self.numpy(&array);
        }
        let mut id = id;
        let mut callable = None;
        for _ in 0..MAX_WRAPPERS {
            let PickleNode::Call(call) = self.pickle.node(id) else {
                return kind(format!("expected a tensor, found {}", self.summary(id)));
            };
            let function = callable.take().unwrap_or(call.callable);
            let args = self.pickle.elements(call.args).unwrap_or_default();
            let Some((module, name)) = self.pickle.global(function) else {
                return kind("is made by something that is no function");
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
                            return kind(format!(
                                "is made by {}, which this reader does not know",
                                self.summary(inner)
                            ));
                        }
                    }
                }
                ("torch._utils", "_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor") => {
                    return kind(
                        "is sparse; convert it in Python with `.to_dense()` and save again",
                    );
                }
                ("torch._utils", "_rebuild_qtensor") => {
                    return kind(
                        "is quantised; convert it in Python with `.dequantize()` and save again",
                    );
                }
                ("torch._utils", "_rebuild_meta_tensor_no_storage") => {
                    return kind("is on the `meta` device, so its values were never saved");
                }
                _ => {
                    return kind(format!(
                        "is made by `{module}.{name}`, which this reader does not know and does not run; \
                         save a plain state dict"
                    ));
                }
            }
        }
        Err("is wrapped in too many calls".into())
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
    fn strided(&mut self, function: &str, args: &[Id]) -> Result<Tensor, TensorProblem> {
        let [storage, offset, size, stride, ..] = *args else {
            return Err(format!(
                "`{function}` has {} arguments, expected 4 or more",
                args.len()
            )
            .into());
        };
        let PickleNode::Persistent(storage) = self.pickle.node(storage) else {
            return Err(format!("has no storage, found {}", self.summary(storage)).into());
        };
        let storage = parse_storage_id(self.pickle, *storage)
            .ok_or_else(|| format!("has an invalid storage {}", self.summary(*storage)))?;
        let named_dtype = match (function, args.get(6)) {
            ("_rebuild_tensor_v3", Some(&id)) => self.pickle.global(id),
            _ => None,
        };
        let dtype = match named_dtype {
            Some((_, name)) => torch_dtype(name).ok_or_else(|| foreign_type(name))?,
            None => storage
                .dtype
                .ok_or_else(|| foreign_type(&storage.type_name))?,
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
            )
            .into());
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
            )
            .into());
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
            .map_err(|error| error.to_string().into());
        }
        let source = &window.as_slice()[offset * element_bytes..];
        self.gathered(source, dtype, shape, &strides)
    }

    /// A row-major copy of a strided view, which the caller has checked to lie within `source`.
    fn gathered(
        &mut self,
        source: &[u8],
        dtype: DType,
        shape: Vec<usize>,
        strides: &[usize],
    ) -> Result<Tensor, TensorProblem> {
        let element_bytes = dtype.size_bytes();
        let bytes = shape
            .iter()
            .try_fold(element_bytes, |bytes, &extent| bytes.checked_mul(extent))
            .ok_or("has a size that overflows")?;
        self.copy_budget = self.copy_budget.checked_sub(bytes).ok_or_else(|| {
            format!("is a view of {bytes} bytes of a far smaller file; refusing to expand it")
        })?;
        let copy = gather(source, &shape, strides, element_bytes, bytes);
        Tensor::from_bytes(dtype, shape, copy).map_err(|error| error.to_string().into())
    }

    /// An array of NumPy's where a tensor is expected.
    fn numpy(&mut self, array: &NumpyArray<'_>) -> Result<Tensor, TensorProblem> {
        let dtype = match (array.element.kind, array.element.bytes) {
            _ if array.element.big_endian => None,
            (b'f', 8) => Some(DType::F64),
            (b'f', 4) => Some(DType::F32),
            (b'f', 2) => Some(DType::F16),
            (b'i', 8) => Some(DType::I64),
            (b'i', 4) => Some(DType::I32),
            (b'i', 2) => Some(DType::I16),
            (b'i', 1) => Some(DType::I8),
            (b'u', 1) => Some(DType::U8),
            (b'b', 1) => Some(DType::Bool),
            _ => None,
        };
        let Some(dtype) = dtype else {
            return kind("is a NumPy array of a type that this reader does not take");
        };
        self.gathered(array.bytes, dtype, array.shape.clone(), &array.strides())
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

fn foreign_type(name: &str) -> TensorProblem {
    TensorProblem::Kind(format!(
        "has the type `{name}`, which this reader does not take"
    ))
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
