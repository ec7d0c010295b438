//! The house: which room of `src/` may import which. Imports run downwards only; see `ARCHITECTURE.md`.
//!
//! The code is read as text, without comments, strings and what stands under `#[cfg(test)]`; tests may look anywhere. A name
//! that a module passes on counts as a name of the module that defines it. Calls of methods need no path and are not seen.

#[path = "../emulator/tests/house/reader.rs"]
mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use reader::{Files, arrows, circle, homonyms};

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
    ("data", "image tensor bytes"),
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

/// Files of one room that name each other in a circle: from, to, and why.
const CIRCLES: &[(&str, &str, &str)] = &[
    (
        "graph/operator",
        "graph",
        "a graph holds ops, and a gradient adds to a graph",
    ),
    (
        "graph/rewrite",
        "graph",
        "the fields of a graph are private to its room",
    ),
    (
        "ops/sum_to",
        "ops/binary",
        "each is in the gradient of the other",
    ),
];

fn files() -> Files {
    reader::files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

fn room(module: &str) -> &str {
    match module.split('/').next() {
        None | Some("") => "lib",
        Some(room) => room,
    }
}

#[test]
fn imports_run_downwards() {
    let table: BTreeMap<&str, BTreeSet<&str>> = ROOMS
        .iter()
        .map(|(room, may)| (*room, may.split_whitespace().collect()))
        .collect();
    let mut wrong = Vec::new();
    for (from, targets) in &arrows(&files()) {
        // The root declares the rooms; the program calls the command line.
        if matches!(room(from), "lib" | "main") {
            continue;
        }
        let Some(may) = table.get(room(from)) else {
            wrong.push(format!("{from} is in no room of the table"));
            continue;
        };
        for to in targets {
            if room(to) != room(from) && !may.contains(room(to)) {
                wrong.push(format!("{from} imports {to}"));
            }
        }
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
                below.is_some_and(|below| below > index),
                "{room} imports {other}, which does not lie below it"
            );
        }
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut arrows = arrows(&files());
    for (from, to, _) in CIRCLES {
        let targets = arrows.get_mut(*from);
        assert!(
            targets.is_some_and(|targets| targets.remove(*to)),
            "`{from}` does not import `{to}` any more: take it off the list"
        );
    }
    let circle = circle(&arrows);
    assert!(
        circle.is_none(),
        "{}",
        circle.unwrap_or_default().join(" → ")
    );
}

/// Rooms that may name CUDA: what launches kernels, what compiles for them, and the command line.
#[test]
fn only_the_device_side_names_cuda() {
    let may = ["cli", "kernel", "compile/cuda", "device", "perf"];
    let mut wrong = Vec::new();
    for (module, text) in files() {
        let kernel_side = module.starts_with("ops/") && module.contains("cuda");
        let in_room = |room: &&str| module == **room || module.starts_with(&format!("{room}/"));
        if kernel_side || may.iter().any(in_room) {
            continue;
        }
        for line in text.lines().map(str::trim) {
            let named = line.contains("cuda::") || line.contains("Cuda");
            // An op's folder and the compiler pass on what lies in their CUDA file; the trait of ops holds all kernels.
            let allowed = line.contains("use cuda::")
                || (module == "graph/operator" && line.contains("CudaOperator"));
            if named && !allowed {
                wrong.push(format!("{module}: {line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Type names that mean one thing in each of several files, and why.
const HOMONYMS: &[(&str, &str)] = &[("Args", "the flags of a subcommand, one type each")];

/// A type's name means one thing in the whole crate.
#[test]
fn no_two_types_have_one_name() {
    let mut homonyms = homonyms(&files());
    for (name, _) in HOMONYMS {
        assert!(
            homonyms.remove(*name).is_some(),
            "`{name}` is declared once"
        );
    }
    assert!(homonyms.is_empty(), "{homonyms:#?}");
}
