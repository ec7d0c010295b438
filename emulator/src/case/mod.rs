//! Test cases for kernels as JSON files: what a case says, and running one.
//!
//! The format is described in the README. [`Case::read`] checks everything that can be checked without the kernel,
//! [`run::run`] compiles, launches and compares.

pub mod data;
pub mod nvrtc;
pub mod run;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use data::{Array, DType};

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// The file's name without its folder and ending.
    pub name: String,
    /// The `.ptx` or `.cu`.
    pub source: PathBuf,
    /// Options for NVRTC besides the architecture.
    pub compiler_options: Vec<String>,
    /// The kernel.
    pub entry: String,
    /// `gridDim`.
    pub grid: [u32; 3],
    /// `blockDim`.
    pub block: [u32; 3],
    /// Dynamic shared memory in bytes.
    pub shared: u32,
    /// A cooperative launch: all blocks at once, so that they can wait for each other.
    pub cooperative: bool,
    /// Arguments in order.
    pub args: Vec<Arg>,
    /// The fault that must be reported, and others that are right too. Empty: no fault may be reported.
    pub accepted_faults: Vec<String>,
}

/// One argument.
#[derive(Clone, Debug)]
pub enum Arg {
    /// A pointer to device memory.
    Buffer(Buffer),
    /// A number by value.
    Scalar(DType, [u8; 8]),
    /// A structure by value.
    Struct(Vec<u8>),
    /// A null pointer.
    Null,
}

/// Device memory of a case.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// The element type.
    pub dtype: DType,
    /// The bytes before the launch: what the host writes, or the garbage in memory that counts as never written.
    pub content: Array,
    /// The host never wrote it.
    pub uninit: bool,
    /// It was freed before the launch.
    pub freed: bool,
    /// What it must hold afterwards.
    pub expect: Option<Expectation>,
}

/// What a buffer must hold after the launch: |got − want| ≤ atol + rtol·|want| for floats, equality for integers.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// Wanted values.
    pub want: Array,
    /// Relative tolerance.
    pub rtol: f64,
    /// Absolute tolerance.
    pub atol: f64,
}

impl Case {
    /// Reads a case and the files that it names.
    ///
    /// # Errors
    /// Says which key or file is missing or wrong.
    pub fn read(path: &Path) -> Result<Case, String> {
        let text =
            std::fs::read_to_string(path).map_err(|e| format!("could not read the case: {e}"))?;
        let json: Value = serde_json::from_str(&text).map_err(|e| format!("not JSON: {e}"))?;
        let Value::Object(keys) = json else {
            return Err("expected a JSON object at the top".into());
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        let name = path.file_stem().map_or_else(
            || path.display().to_string(),
            |s| s.to_string_lossy().into_owned(),
        );
        let args = match keys.get("args") {
            Some(Value::Array(args)) => args
                .iter()
                .enumerate()
                .map(|(i, arg)| read_arg(arg, folder).map_err(|e| format!("args[{i}]: {e}")))
                .collect::<Result<Vec<_>, _>>()?,
            Some(_) => return Err("`args`: expected an array".into()),
            None => return Err("`args` is missing".into()),
        };
        let mut accepted_faults = Vec::new();
        if let Some(error) = keys.get("expect_error").filter(|v| !v.is_null()) {
            let error = error.as_str().ok_or("`expect_error`: expected a text")?;
            accepted_faults.push(error.to_string());
            accepted_faults.extend(strings(keys.get("also_accept"), "also_accept")?);
        }
        let shared = match keys.get("shared") {
            None | Some(Value::Null) => 0,
            Some(value) => number(value).map_err(|e| format!("`shared`: {e}"))?,
        };
        Ok(Case {
            source: find_source(&keys, folder, path)?,
            compiler_options: strings(keys.get("options"), "options")?,
            entry: text_of(&keys, "entry")?.to_string(),
            grid: triple(&keys, "grid")?,
            block: triple(&keys, "block")?,
            cooperative: flag(&keys, "cooperative")?,
            name,
            shared,
            args,
            accepted_faults,
        })
    }
}

/// The kernel's text: the value that ends in `.ptx` or `.cu`, or the file of the case's own name.
fn find_source(keys: &Map<String, Value>, folder: &Path, case: &Path) -> Result<PathBuf, String> {
    let named = keys
        .values()
        .filter_map(Value::as_str)
        .find(|text| text.ends_with(".ptx") || text.ends_with(".cu"));
    let candidates = match named {
        Some(name) => vec![folder.join(name)],
        None => vec![case.with_extension("ptx"), case.with_extension("cu")],
    };
    match candidates.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None if named.is_some() => Err(format!("no file {}", candidates[0].display())),
        None => Err("the case names no .ptx or .cu and there is none of its own name".into()),
    }
}

fn text_of<'a>(keys: &'a Map<String, Value>, key: &str) -> Result<&'a str, String> {
    match keys.get(key) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("`{key}`: expected a text, found {other}")),
        None => Err(format!("`{key}` is missing")),
    }
}

fn strings(value: Option<&Value>, key: &str) -> Result<Vec<String>, String> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text.clone()]),
        Some(Value::Array(list)) => list
            .iter()
            .map(|v| {
                v.as_str()
                    .map(String::from)
                    .ok_or(format!("`{key}`: expected texts, found {v}"))
            })
            .collect(),
        Some(other) => Err(format!(
            "`{key}`: expected a text or a list of texts, found {other}"
        )),
    }
}

fn number(value: &Value) -> Result<u32, String> {
    let whole = value.as_u64().or_else(|| {
        value
            .as_f64()
            .filter(|f| f.fract() == 0.0 && *f >= 0.0)
            .map(|f| f as u64)
    });
    whole
        .and_then(|n| u32::try_from(n).ok())
        .ok_or(format!("expected a whole number below 2^32, found {value}"))
}

fn triple(keys: &Map<String, Value>, key: &str) -> Result<[u32; 3], String> {
    let list = match keys.get(key) {
        Some(Value::Array(list)) if list.len() == 3 => list,
        Some(other) => return Err(format!("`{key}`: expected three numbers, found {other}")),
        None => return Err(format!("`{key}` is missing")),
    };
    let mut size = [0; 3];
    for (n, value) in size.iter_mut().zip(list) {
        *n = number(value).map_err(|e| format!("`{key}`: {e}"))?;
    }
    Ok(size)
}

fn flag(keys: &Map<String, Value>, key: &str) -> Result<bool, String> {
    match keys.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(format!("`{key}`: expected true or false, found {other}")),
    }
}

fn tolerance(keys: &Map<String, Value>, key: &str) -> Result<f64, String> {
    match keys.get(key) {
        None | Some(Value::Null) => Ok(0.0),
        Some(value) => value.as_f64().filter(|t| *t >= 0.0).ok_or(format!(
            "`{key}`: expected a number of at least 0, found {value}"
        )),
    }
}

fn read_arg(arg: &Value, folder: &Path) -> Result<Arg, String> {
    let Value::Object(keys) = arg else {
        return Err(format!("expected an object, found {arg}"));
    };
    match text_of(keys, "kind")? {
        "buffer" => read_buffer(keys, folder).map(Arg::Buffer),
        "scalar" => {
            let dtype = DType::parse(text_of(keys, "dtype")?)?;
            let value = keys.get("value").ok_or("`value` is missing")?;
            Ok(Arg::Scalar(dtype, dtype.encode(value)?))
        }
        "struct" => {
            let path = folder.join(text_of(keys, "file")?);
            std::fs::read(&path)
                .map(Arg::Struct)
                .map_err(|e| format!("could not read {}: {e}", path.display()))
        }
        "null" => Ok(Arg::Null),
        other => Err(format!(
            "`kind`: expected buffer, scalar, struct or null, found `{other}`"
        )),
    }
}

fn read_buffer(keys: &Map<String, Value>, folder: &Path) -> Result<Buffer, String> {
    let dtype = DType::parse(text_of(keys, "dtype")?)?;
    let content = data::read_npy(&folder.join(text_of(keys, "file")?))?;
    content.check_fits(dtype)?;
    let expect = match keys.get("expect") {
        None | Some(Value::Null) => None,
        Some(Value::String(file)) => {
            let want = data::read_npy(&folder.join(file))?;
            if want.len() != content.len() {
                return Err(format!(
                    "`expect`: {file} has {} elements, the buffer {}",
                    want.len(),
                    content.len()
                ));
            }
            Some(Expectation {
                want,
                rtol: tolerance(keys, "rtol")?,
                atol: tolerance(keys, "atol")?,
            })
        }
        Some(other) => return Err(format!("`expect`: expected a file name, found {other}")),
    };
    Ok(Buffer {
        dtype,
        content,
        uninit: flag(keys, "uninit")?,
        freed: flag(keys, "freed")?,
        expect,
    })
}
