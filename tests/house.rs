//! The house: which room of `src/` may import which. Imports run downwards only; see `ARCHITECTURE.md`.
//!
//! Every `crate::room` outside of comments and of code under `#[cfg(test)]` is read as text. Tests may look anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms from the top down, each with the rooms it may import.
const ROOMS: &[(&str, &str)] = &[
    (
        "cli",
        "bytes checkpoint compile data device diffusion evaluate files generate graph image kernel metrics model ops perf \
         pipeline serve tensor train",
    ),
    ("serve", "pipeline checkpoint metrics perf image device"),
    (
        "evaluate",
        "train pipeline metrics checkpoint model diffusion data image files compile device graph ops tensor",
    ),
    (
        "generate",
        "pipeline checkpoint data metrics image files device",
    ),
    (
        "train",
        "pipeline metrics checkpoint model diffusion data image files bytes compile device graph ops tensor",
    ),
    (
        "pipeline",
        "checkpoint model diffusion device compile graph ops tensor bytes",
    ),
    (
        "metrics",
        "checkpoint model data image files device graph ops tensor",
    ),
    ("checkpoint", "model diffusion graph files tensor bytes"),
    ("model", "graph ops tensor"),
    ("diffusion", "graph ops tensor"),
    ("data", "image tensor"),
    ("perf", "device compile kernel graph ops tensor"),
    ("device", "compile graph ops kernel tensor bytes"),
    ("compile", "graph ops kernel tensor bytes"),
    ("ops", "graph kernel tensor"),
    ("graph", "kernel tensor"),
    ("kernel", "tensor"),
    ("image", "files tensor"),
    ("tensor", ""),
    ("files", ""),
    ("bytes", ""),
];

/// Imports that are still to go.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// One `crate::room` with where it stands.
struct Import {
    file: PathBuf,
    line: usize,
    from: String,
    to: String,
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Whether the file or a folder around it is declared under `#[cfg(test)]`.
fn is_test(src: &Path, file: &Path) -> bool {
    let relative = file.strip_prefix(src).unwrap();
    let mut module = src.to_path_buf();
    for part in relative.iter() {
        let name = Path::new(part).file_stem().unwrap().to_str().unwrap();
        let declared_in = [
            module.join("mod.rs"),
            module.with_extension("rs"),
            module.join("lib.rs"),
        ];
        for parent in declared_in.iter().filter(|p| p.is_file()) {
            let text = fs::read_to_string(parent).unwrap();
            let mut lines = text.lines().map(str::trim);
            let mut gated = false;
            let declared = lines.any(|line| {
                let is_it = line
                    .trim_start_matches("pub(crate) ")
                    .trim_start_matches("pub ")
                    == format!("mod {name};");
                if !is_it {
                    gated = line == "#[cfg(test)]" || (gated && line.starts_with("#["));
                }
                is_it
            });
            if declared && gated {
                return true;
            }
        }
        module.push(name);
    }
    false
}

/// The lines of a file that are neither comments nor under `#[cfg(test)]`, with their numbers.
fn code(text: &str) -> Vec<(usize, &str)> {
    let mut kept = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            // The item ends with its first line at this depth that closes it.
            let indent = line.len() - line.trim_start().len();
            for (_, line) in lines.by_ref() {
                let depth = line.len() - line.trim_start().len();
                let ends = line.ends_with(';') || line.ends_with('}');
                if depth == indent && ends && !line.trim().is_empty() {
                    break;
                }
            }
            continue;
        }
        let line = line.split("//").next().unwrap_or_default();
        kept.push((number + 1, line));
    }
    kept
}

/// The first segments of the paths that begin at `text`, which follows `crate::`.
fn rooms_named(text: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let Some(group) = text.strip_prefix('{') else {
        return vec![name(text)];
    };
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.push(name(group[start..at].trim()));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(name(group[start..at].trim()));
                start = at + 1;
            }
            _ => {}
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn room_of(file: &Path) -> String {
    let first = file.strip_prefix(src()).unwrap().iter().next().unwrap();
    let stem = Path::new(first).file_stem().unwrap();
    stem.to_str().unwrap().to_owned()
}

fn imports() -> Vec<Import> {
    let mut all = Vec::new();
    files(&src(), &mut all);
    let mut imports = Vec::new();
    for file in all {
        let from = room_of(&file);
        if is_test(&src(), &file) || from == "lib" || from == "main" || from == "testing" {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let code = code(&text);
        let joined: String = code.iter().flat_map(|(_, line)| [*line, "\n"]).collect();
        for (at, _) in joined.match_indices("crate::") {
            if joined[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let index = joined[..at].matches('\n').count();
            for to in rooms_named(&joined[at + "crate::".len()..]) {
                imports.push(Import {
                    file: file.clone(),
                    line: code[index].0,
                    from: from.clone(),
                    to,
                });
            }
        }
    }
    imports
}

#[test]
fn imports_run_downwards() {
    let table: BTreeMap<&str, BTreeSet<&str>> = ROOMS
        .iter()
        .map(|(room, may)| (*room, may.split_whitespace().collect()))
        .collect();
    let mut wrong = Vec::new();
    let mut needed = BTreeSet::new();
    for import in imports() {
        let (from, to) = (import.from.as_str(), import.to.as_str());
        if from == to {
            continue;
        }
        let at = format!("{}:{}", import.file.display(), import.line);
        if !table.contains_key(to) {
            wrong.push(format!("{at}: '{to}' is no room"));
            continue;
        }
        let allowed = table.get(from).is_some_and(|may| may.contains(to));
        let exception = EXCEPTIONS.iter().find(|&&(a, b)| (a, b) == (from, to));
        match (allowed, exception) {
            (false, None) => wrong.push(format!("{at}: {from} may not import {to}")),
            (false, Some(pair)) => {
                needed.insert(*pair);
            }
            (true, _) => {}
        }
    }
    for pair in EXCEPTIONS.iter().filter(|pair| !needed.contains(*pair)) {
        wrong.push(format!("the exception {pair:?} is not needed any more"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The table itself has no circle: every room stands above all that it may import.
#[test]
fn the_table_runs_downwards() {
    for (index, (room, may)) in ROOMS.iter().enumerate() {
        for other in may.split_whitespace() {
            let below = ROOMS.iter().position(|(name, _)| *name == other);
            assert!(
                below.is_some_and(|below| below > index) || *room == "cli",
                "{room} imports {other}, which does not lie below it"
            );
        }
    }
}

/// Rooms that may name CUDA: what launches kernels, what compiles for them, and the command line.
#[test]
fn only_the_device_side_names_cuda() {
    let mut all = Vec::new();
    files(&src(), &mut all);
    let mut wrong = Vec::new();
    for file in all {
        let relative = file
            .strip_prefix(src())
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let may = [
            "cli/",
            "kernel/",
            "compile/cuda.rs",
            "device/",
            "perf/",
            "testing/",
            "lib.rs",
        ];
        let is_kernel_side = relative.starts_with("ops/") && relative.contains("cuda");
        if may.iter().any(|room| relative.starts_with(room))
            || is_kernel_side
            || is_test(&src(), &file)
        {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in code(&text) {
            // Strings are for people.
            let outside: String = line.split('"').step_by(2).collect();
            let named = outside.contains("cuda::") || outside.contains("Cuda");
            let declares = line.trim() == "mod cuda;"
                || line.trim().starts_with("pub(crate) use cuda::")
                || (relative.starts_with("ops/") && outside.contains("CudaOperator"))
                || (relative.starts_with("graph/operator.rs") && outside.contains("CudaOperator"))
                || (relative.starts_with("compile/mod.rs"));
            if named && !declares {
                wrong.push(format!("{relative}:{number}: {}", line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
