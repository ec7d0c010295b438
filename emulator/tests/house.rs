//! Imports of the emulator run downwards: between its rooms (the top modules) as the table here and in the README says,
//! and between files without a circle.
//!
//! The tests read all paths outside `#[cfg(test)]` that start with `crate`, `super`, `self` or a child module. They don't
//! see calls of methods, which need no path even if the method is defined in another file than its type.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

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
    // The crate's root declares the rooms and names what users need of them.
    ("lib", &["check", "counters", "exec", "ir", "memory", "ptx"]),
];

/// Files that may import each other in a circle: from, to, and why. There are none.
const CIRCLES: [(&str, &str, &str); 0] = [];

/// Files that call the operating system: for the address space of the device, for a function at exit, for the library's
/// own symbols.
const LIBC: [&str; 3] = ["driver/procaddr", "driver/process", "memory/mapping"];

/// Imports between files: from, to.
type Arrows = BTreeMap<String, BTreeSet<String>>;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Module paths (`ir/lower/names`; the root is empty) and texts of all files but tests and programs.
fn files() -> BTreeMap<String, String> {
    fn read(folder: &Path, into: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                read(&path, into);
                continue;
            }
            let relative = path.strip_prefix(source()).expect("below src");
            let name = relative.with_extension("").display().to_string();
            let name = name.strip_suffix("/mod").unwrap_or(&name).to_owned();
            let name = if name == "lib" { String::new() } else { name };
            if name.starts_with("bin/") || name.ends_with("tests") {
                continue;
            }
            let text = fs::read_to_string(&path).expect("a source file");
            into.insert(name, without_tests(&without_comments(&text)));
        }
    }
    let mut all = BTreeMap::new();
    read(&source(), &mut all);
    assert!(all.len() > 60, "only {} files found", all.len());
    all
}

/// Blanks comments, strings and character literals.
fn without_comments(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let literal = |from: usize, end: char| {
            let mut escaped = false;
            rest[from..]
                .char_indices()
                .find(|(_, c)| {
                    let ends = *c == end && !escaped;
                    escaped = *c == '\\' && !escaped;
                    ends
                })
                .map_or(rest.len(), |(at, _)| from + at + 1)
        };
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if next == '"' {
            literal(1, '"')
        } else if next == '\'' && (rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'')) {
            literal(1, '\'')
        } else {
            out.push(next);
            rest = &rest[next.len_utf8()..];
            continue;
        };
        out.push(' ');
        rest = &rest[skip..];
    }
    out
}

/// Drops the items under `#[cfg(test)]`.
fn without_tests(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..at]);
        let item = &rest[at..];
        let mut depth = 0;
        let end = item.char_indices().find(|(_, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            depth == 0 && matches!(c, ';' | '}')
        });
        rest = end.map_or("", |(at, _)| &item[at + 1..]);
    }
    out + rest
}

/// The paths of a `use` tree.
fn expand(tree: &str, out: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        out.push(tree.split(" as ").next().unwrap_or(tree).trim().to_owned());
        return;
    };
    let inside = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inside.char_indices().chain([(inside.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inside[start..at].trim().is_empty() {
                    expand(
                        &format!("{}{}", &tree[..open], &inside[start..at].trim()),
                        out,
                    );
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// All paths that a file names, in `use` declarations and elsewhere.
fn paths(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut code = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("use ") {
        let starts_word = !rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let end = rest[at..].find(';').map_or(rest.len(), |n| at + n);
        code.push_str(&rest[..at]);
        if starts_word {
            expand(&rest[at + 4..end], &mut out);
            rest = &rest[end..];
        } else {
            code.push_str("use ");
            rest = &rest[at + 4..];
        }
    }
    code.push_str(rest);
    let in_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for word in code.split(|c: char| !in_path(c)) {
        if word.contains("::") && !word.starts_with(':') {
            out.push(word.to_owned());
        }
    }
    out
}

/// The file that a path in `module` leads to, if it leads to one of the crate's.
fn resolve(module: &str, path: &str, files: &BTreeMap<String, String>) -> Option<String> {
    let join = |base: &str, part: &str| match base {
        "" => part.to_owned(),
        base => format!("{base}/{part}"),
    };
    let mut parts = path.split("::").map(str::trim).peekable();
    let mut at = match parts.peek()? {
        &"crate" => String::new(),
        &("super" | "self") => module.to_owned(),
        child if files.contains_key(&join(module, child)) => module.to_owned(),
        _ => return None,
    };
    while let Some(part) = parts.next_if(|part| matches!(*part, "crate" | "super" | "self")) {
        if part == "super" {
            at = at.rsplit_once('/').map_or("", |(base, _)| base).to_owned();
        }
    }
    for part in parts {
        let next = join(&at, part);
        if !files.contains_key(&next) {
            break;
        }
        at = next;
    }
    Some(at)
}

fn arrows(files: &BTreeMap<String, String>) -> Arrows {
    let mut arrows = Arrows::new();
    for (module, text) in files {
        let targets = arrows.entry(module.clone()).or_default();
        for path in paths(text) {
            if let Some(target) = resolve(module, &path, files)
                && target != *module
            {
                targets.insert(target);
            }
        }
    }
    arrows
}

/// The first circle that a walk along the arrows finds, if there is one.
fn circle(arrows: &Arrows) -> Option<Vec<String>> {
    fn walk(at: &str, arrows: &Arrows, way: &mut Vec<String>, done: &mut BTreeSet<String>) -> bool {
        if let Some(start) = way.iter().position(|seen| seen == at) {
            way.drain(..start);
            way.push(at.to_owned());
            return true;
        }
        if done.contains(at) {
            return false;
        }
        way.push(at.to_owned());
        for to in arrows.get(at).into_iter().flatten() {
            if walk(to, arrows, way, done) {
                return true;
            }
        }
        way.pop();
        done.insert(at.to_owned());
        false
    }
    let mut done = BTreeSet::new();
    arrows.keys().find_map(|start| {
        let mut way = Vec::new();
        walk(start, arrows, &mut way, &mut done).then_some(way)
    })
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
        .filter(|(_, text)| paths(text).iter().any(|path| path.starts_with("libc")))
        .map(|(module, _)| module.as_str())
        .collect();
    assert_eq!(found, LIBC);
}

/// A type's name means one thing in the whole emulator. `Result` alone is each file's own, with that file's error.
#[test]
fn no_two_types_have_one_name() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (module, text) in files() {
        for line in text.lines() {
            let mut words = line.split([' ', '<', '(', ';', ':', '{', '=']);
            let declared = words
                .by_ref()
                .find(|word| !word.starts_with("pub") && *word != "super)");
            if matches!(
                declared,
                Some("struct" | "enum" | "trait" | "type" | "union")
            ) && let Some(name) = words.next()
                && name != "Result"
            {
                places
                    .entry(name.to_owned())
                    .or_default()
                    .push(module.clone());
            }
        }
    }
    assert!(places.len() > 200, "only {} types found", places.len());
    places.retain(|_, modules| modules.len() > 1);
    assert!(places.is_empty(), "{places:?}");
}

/// The reader sees what it is there to see.
#[test]
fn imports_are_found_in_every_form() {
    let files: BTreeMap<String, String> = [
        ("", "mod a; mod b;"),
        ("a", "use super::b::{c::{self, X}, d::Y as Z};\n// use crate::b::e::F;"),
        ("b", "mod c; pub use c::X; fn f() -> &'static str { \"crate::a::X\" }"),
        ("b/c", "#[cfg(test)] mod t { use crate::a::W; } fn f() { crate::b::e::g(); super::d::h::<u8>() }"),
        ("b/d", "#[cfg(test)]\nmod tests;"),
        ("b/e", "fn g(x: char) { match x { '\"' => crate::b::d::h(), _ => {} } }"),
    ]
    .map(|(module, text)| (module.to_owned(), without_tests(&without_comments(text))))
    .into();
    let to = |targets: &[&str]| targets.iter().map(|t| (*t).to_owned()).collect();
    let expected: Arrows = [
        ("", to(&[])),
        ("a", to(&["b/c", "b/d"])),
        ("b", to(&["b/c"])),
        ("b/c", to(&["b/d", "b/e"])),
        ("b/d", to(&[])),
        ("b/e", to(&["b/d"])),
    ]
    .map(|(from, to)| (from.to_owned(), to))
    .into();
    let mut arrows = arrows(&files);
    assert_eq!(arrows, expected);
    assert_eq!(circle(&arrows), None);
    arrows.entry("b/d".into()).or_default().insert("b".into());
    let found = circle(&arrows).unwrap_or_default();
    assert_eq!(found, ["b/c", "b/d", "b", "b/c"]);
}
