//! Imports of the emulator run downwards: between its rooms (the top modules) as the table here and in the README says,
//! and between files without a circle.
//!
//! The tests read all paths outside `#[cfg(test)]` that start with `crate`, `super`, `self` or a child module. They don't
//! see calls of methods, which need no path even if the method is defined in another file than its type.

mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use reader::{Files, arrows, circle, paths};

/// Rooms from the ground up, and what each imports. A room stands above all that it imports.
const ROOMS: [(&str, &[&str]); 12] = [
    ("limits", &[]),
    ("arith", &[]),
    ("memory", &[]),
    ("ptx", &[]),
    ("check", &["memory"]),
    ("ir", &["arith", "limits", "memory", "ptx"]),
    ("counters", &["ir"]),
    ("report", &["counters"]),
    (
        "exec",
        &[
            "arith", "check", "counters", "ir", "limits", "memory", "ptx",
        ],
    ),
    (
        "case",
        &["counters", "exec", "ir", "limits", "memory", "ptx"],
    ),
    (
        "driver",
        &[
            "check", "counters", "exec", "ir", "limits", "memory", "report",
        ],
    ),
    // The crate's root declares the rooms and passes on what users need of them.
    ("lib", &[]),
];

/// Files that may import each other in a circle: from, to, and why. There are none.
const CIRCLES: [(&str, &str, &str); 0] = [];

/// Files that call the operating system: for the address space of the device, for a function at exit, for the library's
/// own symbols.
const LIBC: [&str; 3] = ["driver/procaddr", "driver/process", "memory/mapping"];

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
fn rooms_import_what_the_table_says_and_no_more() {
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let files = files();
    let arrows = arrows(&files);
    for (from, targets) in &arrows {
        let imports = found.entry(room(from)).or_default();
        imports.extend(
            targets
                .iter()
                .map(|to| room(to))
                .filter(|to| *to != room(from)),
        );
    }
    let said: BTreeMap<&str, BTreeSet<&str>> = ROOMS
        .iter()
        .map(|(room, imports)| (*room, imports.iter().copied().collect()))
        .collect();
    assert_eq!(
        found, said,
        "what rooms import (left) is not what the table says (right)"
    );
}

#[test]
fn no_room_imports_one_above_it() {
    for (at, (room, imports)) in ROOMS.iter().enumerate() {
        for import in *imports {
            assert!(
                ROOMS[..at].iter().any(|(below, _)| below == import),
                "`{room}` imports `{import}`, which doesn't stand below it"
            );
        }
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let files = files();
    let mut arrows = arrows(&files);
    for (from, to, _) in CIRCLES {
        let known = arrows
            .get_mut(from)
            .is_some_and(|targets| targets.remove(to));
        assert!(
            known,
            "`{from}` doesn't import `{to}` any more: take it off the list"
        );
    }
    let circle = circle(&arrows);
    assert!(
        circle.is_none(),
        "{}",
        circle.unwrap_or_default().join(" → ")
    );
}

#[test]
fn few_files_call_the_operating_system() {
    let files = files();
    let found: Vec<&str> = files
        .iter()
        .filter(|(_, text)| {
            paths(text)
                .iter()
                .any(|named| named.path.starts_with("libc"))
        })
        .map(|(module, _)| module.as_str())
        .collect();
    assert_eq!(found, LIBC);
}

/// A type's name means one thing in the whole emulator. `Result` alone is each file's own, with that file's error.
#[test]
fn no_two_types_have_one_name() {
    let mut homonyms = reader::homonyms(&files());
    homonyms.remove("Result");
    assert!(homonyms.is_empty(), "{homonyms:?}");
}
