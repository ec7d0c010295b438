//! PyTorch checkpoints written by hand: pickles as `torch.save` writes them, with whatever a test wants inside.

use std::io::{Cursor, Write};

use medfusion::tensor::{DType, Tensor, TensorMap};

/// A Python value.
#[derive(Clone)]
pub enum Py {
    Bool(bool),
    Int(i64),
    Text(String),
    List(Vec<Py>),
    Dict(Vec<(String, Py)>),
    Tensor(Tensor),
    /// Instructions that leave one value on the stack.
    Raw(Vec<u8>),
}

impl Py {
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub fn dict<const N: usize>(items: [(&str, Py); N]) -> Self {
        Self::Dict(items.map(|(key, value)| (key.to_owned(), value)).into())
    }

    pub fn state(tensors: &TensorMap) -> Self {
        let tensors = tensors.iter();
        Self::Dict(
            tensors
                .map(|(name, tensor)| (name.clone(), Self::Tensor(tensor.clone())))
                .collect(),
        )
    }

    /// The dict with another entry.
    pub fn with(self, key: &str, value: Py) -> Self {
        let Self::Dict(mut items) = self else {
            panic!("not a dict")
        };
        items.push((key.to_owned(), value));
        Self::Dict(items)
    }
}

/// A zip checkpoint that holds `value`.
pub fn checkpoint(value: &Py) -> Vec<u8> {
    let mut pickle = b"\x80\x02".to_vec();
    let mut storages = Vec::new();
    write(value, &mut pickle, &mut storages);
    pickle.push(b'.');
    let named: Vec<(String, &[u8])> = storages
        .iter()
        .enumerate()
        .map(|(key, bytes)| (format!("data/{key}"), bytes.as_slice()))
        .collect();
    let named: Vec<(&str, &[u8])> = named.iter().map(|(name, b)| (&**name, *b)).collect();
    archive(&pickle, &named, false)
}

fn write(value: &Py, out: &mut Vec<u8>, storages: &mut Vec<Vec<u8>>) {
    match value {
        Py::Bool(value) => out.push(0x89 - u8::from(*value)),
        Py::Int(value) => {
            out.extend(b"\x8a\x08");
            out.extend(value.to_le_bytes());
        }
        Py::Text(value) => out.extend(text(value)),
        Py::List(values) => {
            out.extend(b"](");
            for value in values {
                write(value, out, storages);
            }
            out.push(b'e');
        }
        Py::Dict(items) => {
            out.extend(b"}(");
            for (key, value) in items {
                out.extend(text(key));
                write(value, out, storages);
            }
            out.push(b'u');
        }
        Py::Tensor(tensor) => {
            let class = match tensor.dtype() {
                DType::F64 => "DoubleStorage",
                DType::F32 => "FloatStorage",
                DType::F16 => "HalfStorage",
                DType::BF16 => "BFloat16Storage",
                DType::I64 => "LongStorage",
                other => panic!("no test writes {other}"),
            };
            let shape: Vec<i64> = tensor.shape().iter().map(|&extent| extent as i64).collect();
            out.extend(tensor_call(class, storages.len(), tensor.len(), &shape));
            storages.push(tensor.bytes().to_vec());
        }
        Py::Raw(instructions) => out.extend(instructions),
    }
}

/// `_rebuild_tensor_v2(storage `key` of `class` with `count` elements, 0, shape, row-major strides, False, {})`.
pub fn tensor_call(class: &str, key: usize, count: usize, shape: &[i64]) -> Vec<u8> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    let mut out = b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    out.extend(text("storage"));
    out.extend(format!("ctorch\n{class}\n").bytes());
    out.extend(text(&key.to_string()));
    out.extend(text("cpu"));
    out.extend(b"\x8a\x08");
    out.extend((count as i64).to_le_bytes());
    out.extend(b"tQK\x00");
    out.extend(tuple(shape));
    out.extend(tuple(&strides));
    out.extend(b"\x89}tR");
    out
}

/// `numpy.dtype(code)` with the byte order of this machine.
fn dtype(code: &str) -> Vec<u8> {
    format!("cnumpy\ndtype\n(V{code}\nI00\nI01\ntR(I3\nV<\nNNNI-1\nI-1\nI0\ntb").into_bytes()
}

/// Bytes in protocol 2.
fn latin1(bytes: &[u8]) -> Vec<u8> {
    let characters: String = bytes.iter().map(|&byte| char::from(byte)).collect();
    let mut out = b"c_codecs\nencode\n(".to_vec();
    out.extend(text(&characters));
    out.extend(b"Vlatin1\ntR");
    out
}

/// A scalar as NumPy writes it, before version 2 or since.
pub fn numpy_scalar(core: &str, code: &str, bytes: &[u8]) -> Py {
    let mut out = format!("cnumpy.{core}.multiarray\nscalar\n(").into_bytes();
    out.extend(dtype(code));
    out.extend(latin1(bytes));
    out.extend(b"tR");
    Py::Raw(out)
}

/// An array as NumPy writes it.
pub fn numpy_array(core: &str, code: &str, shape: &[i64], bytes: &[u8]) -> Py {
    let mut out = format!("cnumpy.{core}.multiarray\n_reconstruct\n").into_bytes();
    out.extend(b"(cnumpy\nndarray\n(I0\ntVb\ntR(I1\n");
    out.extend(tuple(shape));
    out.extend(dtype(code));
    out.push(0x89);
    out.extend(latin1(bytes));
    out.extend(b"tb");
    Py::Raw(out)
}

/// A zip checkpoint around a pickle and storages.
pub fn archive(pickle: &[u8], storages: &[(&str, &[u8])], packed: bool) -> Vec<u8> {
    use zip::write::SimpleFileOptions;
    let method = match packed {
        true => zip::CompressionMethod::Deflated,
        false => zip::CompressionMethod::Stored,
    };
    let options = SimpleFileOptions::default().compression_method(method);
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file("archive/data.pkl", options).unwrap();
    writer.write_all(pickle).unwrap();
    for (name, bytes) in storages {
        writer
            .start_file(format!("archive/{name}"), options)
            .unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// The archive with 0 for the checksum of every member in the directory and, where `local`, in the members' headers.
pub fn without_checksums(mut archive: Vec<u8>, local: bool) -> Vec<u8> {
    let word = |archive: &[u8], at: usize| {
        u32::from_le_bytes(archive[at..at + 4].try_into().unwrap()) as usize
    };
    let half = |archive: &[u8], at: usize| {
        usize::from(u16::from_le_bytes(archive[at..at + 2].try_into().unwrap()))
    };
    let end = archive
        .windows(4)
        .rposition(|b| b == b"PK\x05\x06")
        .unwrap();
    let (count, mut at) = (half(&archive, end + 10), word(&archive, end + 16));
    for _ in 0..count {
        assert_eq!(&archive[at..at + 4], b"PK\x01\x02");
        let header = word(&archive, at + 42);
        archive[at + 16..at + 20].fill(0);
        if local {
            archive[header + 14..header + 18].fill(0);
        }
        at += 46 + half(&archive, at + 28) + half(&archive, at + 30) + half(&archive, at + 32);
    }
    archive
}

/// A text in protocol 2.
pub fn text(value: &str) -> Vec<u8> {
    let mut bytes = vec![b'X'];
    bytes.extend((value.len() as u32).to_le_bytes());
    bytes.extend(value.bytes());
    bytes
}

/// A tuple of integers.
pub fn tuple(numbers: &[i64]) -> Vec<u8> {
    let mut bytes = vec![b'('];
    for number in numbers {
        bytes.extend(b"\x8a\x08");
        bytes.extend(number.to_le_bytes());
    }
    bytes.push(b't');
    bytes
}
