//! Packs `kernels/` into the binary and writes the Rust twin of every kernel's parameter struct.
//!
//! A struct whose name ends in `Params` is declared once, in CUDA, with one field per line: pointers, `float`, `double`,
//! `int`, `unsigned`, `long long`, `unsigned long long`, and arrays of them. Its twin has the same fields; its size is
//! asserted by the CUDA compiler too, so the two sides cannot drift.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=kernels");
    println!("cargo:rerun-if-changed=build.rs");
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"))
        .join("kernels");
    let mut files = Vec::new();
    collect(&root, &root, &mut files);
    files.sort();

    let mut sources = String::from("pub const SOURCES: &[(&str, &str)] = &[\n");
    let mut twins = String::new();
    let mut asserts = String::from("pub const LAYOUT_ASSERTS: &[(&str, &str)] = &[\n");
    for name in &files {
        let path = root.join(name);
        writeln!(
            sources,
            "    ({name:?}, include_str!({:?})),",
            path.display().to_string()
        )
        .expect("a string");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut checks = String::new();
        for declared in structs(&text, name) {
            twins += &declared.twin();
            checks += &declared.asserts();
        }
        writeln!(asserts, "    ({name:?}, {checks:?}),").expect("a string");
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("sources.rs"), sources + "];\n" + &asserts + "];\n")
        .expect("OUT_DIR is writable");
    fs::write(out.join("params.rs"), twins).expect("OUT_DIR is writable");
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            collect(root, &path, files);
        } else if path.extension().is_some_and(|e| e == "cu" || e == "cuh") {
            let name = path.strip_prefix(root).expect("below the root");
            files.push(name.to_string_lossy().replace('\\', "/"));
        }
    }
}

struct Struct {
    name: String,
    fields: Vec<Field>,
}

struct Field {
    name: String,
    doc: String,
    rust: &'static str,
    size: usize,
    count: Option<usize>,
}

/// The parameter structs that a CUDA source declares.
fn structs(text: &str, file: &str) -> Vec<Struct> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((_, line)) = lines.next() {
        let Some(name) = line
            .trim()
            .strip_prefix("struct ")
            .and_then(|rest| rest.strip_suffix('{'))
        else {
            continue;
        };
        let name = name.trim();
        if !name.ends_with("Params") {
            continue;
        }
        let mut fields = Vec::new();
        let mut pending_doc = String::new();
        for (number, line) in lines.by_ref() {
            let (code, comment) = line.split_once("//").unwrap_or((line, ""));
            let (code, comment) = (code.trim(), comment.trim());
            if code.starts_with('}') {
                break;
            }
            if code.is_empty() {
                if !comment.is_empty() {
                    pending_doc = format!("{pending_doc} {comment}");
                }
                continue;
            }
            let mut field = Field::parse(code)
                .unwrap_or_else(|why| panic!("kernels/{file}:{}: {why}: `{code}`", number + 1));
            field.doc = format!("{} {comment}", std::mem::take(&mut pending_doc))
                .trim()
                .to_owned();
            fields.push(field);
        }
        found.push(Struct {
            name: name.to_owned(),
            fields,
        });
    }
    found
}

impl Field {
    fn parse(code: &str) -> Result<Self, &'static str> {
        let code = code
            .strip_suffix(';')
            .ok_or("one field per line, ended by a semicolon")?
            .trim();
        let (code, count) = match code.strip_suffix(']') {
            Some(rest) => {
                let (rest, count) = rest.split_once('[').ok_or("an array needs its bracket")?;
                let count = count
                    .trim()
                    .parse()
                    .map_err(|_| "an array's length is a number")?;
                (rest.trim(), Some(count))
            }
            None => (code, None),
        };
        let split = code
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_'))
            .ok_or("a type and a name")?;
        let (ty, name) = (code[..=split].trim(), &code[split + 1..]);
        let (rust, size) = if ty.ends_with('*') {
            ("DevicePtr", 8)
        } else {
            match ty {
                "float" => ("f32", 4),
                "double" => ("f64", 8),
                "int" => ("i32", 4),
                "unsigned" => ("u32", 4),
                "long long" => ("i64", 8),
                "unsigned long long" => ("u64", 8),
                _ => {
                    return Err(
                        "the type is none of pointer, float, double, int, unsigned, (unsigned) long long",
                    );
                }
            }
        };
        Ok(Self {
            name: name.to_owned(),
            doc: String::new(),
            rust,
            size,
            count,
        })
    }
}

impl Struct {
    /// Byte offset of every field, and the size, by the rules of C.
    fn layout(&self) -> (Vec<usize>, usize) {
        let (mut at, mut align) = (0usize, 1usize);
        let offsets = self
            .fields
            .iter()
            .map(|field| {
                at = at.next_multiple_of(field.size);
                align = align.max(field.size);
                let offset = at;
                at += field.size * field.count.unwrap_or(1);
                offset
            })
            .collect();
        (offsets, at.next_multiple_of(align))
    }

    fn twin(&self) -> String {
        let (offsets, size) = self.layout();
        let mut text = format!(
            "/// Parameters of kernels, as their CUDA source declares them.\n#[derive(Clone, Copy, Debug)]\npub(crate) struct {} {{\n",
            self.name
        );
        let mut bytes = String::new();
        for (field, offset) in self.fields.iter().zip(offsets) {
            if !field.doc.is_empty() {
                writeln!(
                    text,
                    "    /// {}",
                    field
                        .doc
                        .replace('[', "\\[")
                        .replace(']', "\\]")
                        .replace('<', "&lt;")
                )
                .expect("a string");
            }
            let ty = match field.count {
                Some(count) => format!("[{}; {count}]", field.rust),
                None => field.rust.to_owned(),
            };
            writeln!(text, "    pub {}: {ty},", field.name).expect("a string");
            let (name, field_size) = (&field.name, field.size);
            let value = if field.rust == "DevicePtr" { ".0" } else { "" };
            match field.count {
                Some(_) => writeln!(
                    bytes,
                    "        for (i, v) in self.{name}.iter().enumerate() {{ let at = {offset} + i * {field_size}; bytes[at..at + {field_size}].copy_from_slice(&v{value}.to_le_bytes()); }}"
                ),
                None => writeln!(
                    bytes,
                    "        bytes[{offset}..{}].copy_from_slice(&self.{name}{value}.to_le_bytes());",
                    offset + field_size
                ),
            }
            .expect("a string");
        }
        write!(
            text,
            "}}\n\nimpl KernelParams for {} {{\n    fn bytes(&self) -> Vec<u8> {{\n        let mut bytes = vec![0u8; {size}];\n{bytes}        bytes\n    }}\n}}\n\n",
            self.name
        )
        .expect("a string");
        text
    }

    fn asserts(&self) -> String {
        let (_, size) = self.layout();
        let name = &self.name;
        format!("static_assert(sizeof({name}) == {size}, \"{name} is not what build.rs read\");\n")
    }
}
