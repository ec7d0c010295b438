//! Reads which file of a crate names which other file: paths outside of comments, strings and `#[cfg(test)]`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Module paths (`ir/lower/names`; the root is empty) and texts.
pub type Files = BTreeMap<String, String>;

/// Imports between files: from, to.
pub type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Module paths (`ir/lower/names`; the root is empty) and texts of all files below `source`, without comments, strings and
/// tests. Programs and the files of tests are left out.
pub fn files(source: &Path) -> Files {
    fn read(source: &Path, folder: &Path, into: &mut Files) {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                read(source, &path, into);
                continue;
            }
            let relative = path.strip_prefix(source).expect("below src");
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
    let mut all = Files::new();
    read(source, source, &mut all);
    drop_undeclared(&mut all);
    assert!(all.len() > 60, "only {} files found", all.len());
    all
}

/// Drops files that no other declares: what declares them stands under `#[cfg(test)]`.
fn drop_undeclared(files: &mut Files) {
    loop {
        let declared = |module: &String| {
            let (parent, name) = module.rsplit_once('/').unwrap_or(("", module));
            let declares = |text: &String| text.contains(&format!("mod {name};"));
            module.is_empty() || files.get(parent).is_some_and(declares)
        };
        let gone: Vec<String> = files.keys().filter(|m| !declared(m)).cloned().collect();
        if gone.is_empty() {
            return;
        }
        files.retain(|module, _| !gone.contains(module));
    }
}

/// Blanks comments, strings and character literals.
pub fn without_comments(text: &str) -> String {
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
pub fn without_tests(text: &str) -> String {
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

/// A path that a file names.
pub struct Named {
    /// Such as `super::pool::AvgPool`.
    pub path: String,
    /// The name that it gets in this file and for others, of a `pub use`.
    reexported: Option<String>,
}

/// The paths of a `use` tree.
fn expand(tree: &str, public: bool, out: &mut Vec<Named>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
        let name = match alias.trim() {
            "" => path.rsplit("::").next().unwrap_or(path).trim(),
            alias => alias,
        };
        out.push(Named {
            path: path.trim().to_owned(),
            reexported: public.then(|| name.to_owned()),
        });
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
                        public,
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
pub fn paths(text: &str) -> Vec<Named> {
    let mut out = Vec::new();
    let mut code = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("use ") {
        let starts_word = !rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let end = rest[at..].find(';').map_or(rest.len(), |n| at + n);
        code.push_str(&rest[..at]);
        if starts_word {
            let before = rest[..at].trim_end();
            let public = before.ends_with("pub") || before.ends_with(')');
            expand(&rest[at + 4..end], public, &mut out);
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
            out.push(Named {
                path: word.to_owned(),
                reexported: None,
            });
        }
    }
    out
}

/// Which file a name that a module re-exports comes from, by module and name.
type Reexports = BTreeMap<(String, String), String>;

fn reexports(files: &Files) -> Reexports {
    let mut found = Reexports::new();
    for (module, text) in files {
        for Named { path, reexported } in paths(text) {
            if let Some(name) = reexported
                && let Some(target) = resolve(module, &path, files, &Reexports::new())
                && target != *module
            {
                found.insert((module.clone(), name), target);
            }
        }
    }
    found
}

/// The file that a path in `module` leads to, if it leads to one of the crate's: the one that defines what the path names,
/// not one that passes it on.
fn resolve(module: &str, path: &str, files: &Files, reexports: &Reexports) -> Option<String> {
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
        if files.contains_key(&next) {
            at = next;
            continue;
        }
        while let Some(from) = reexports.get(&(at.clone(), part.to_owned())) {
            at.clone_from(from);
        }
        break;
    }
    Some(at)
}

/// Which file imports which.
pub fn arrows(files: &Files) -> Arrows {
    let mut arrows = Arrows::new();
    let reexports = reexports(files);
    for (module, text) in files {
        let targets = arrows.entry(module.clone()).or_default();
        for Named { path, reexported } in paths(text) {
            let target = resolve(module, &path, files, &reexports);
            // A module that passes on what its own files define does not import it.
            let below =
                |target: &String| module.is_empty() || target.starts_with(&format!("{module}/"));
            let target = target.filter(|t| t != module && !(reexported.is_some() && below(t)));
            targets.extend(target);
        }
    }
    arrows
}

/// The first circle that a walk along the arrows finds, if there is one.
pub fn circle(arrows: &Arrows) -> Option<Vec<String>> {
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

/// Types that several files declare, with those files.
pub fn homonyms(files: &Files) -> BTreeMap<String, Vec<String>> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (module, text) in files {
        // Associated types are indented.
        let indented = |line: &&str| line.trim_start() != *line && line.trim().starts_with("type ");
        for line in text.lines().filter(|line| !indented(line)) {
            let mut words = line.split([' ', '<', '(', ';', ':', '{', '=']);
            let declared = words
                .by_ref()
                .find(|word| !word.starts_with("pub") && *word != "super)");
            if matches!(
                declared,
                Some("struct" | "enum" | "trait" | "type" | "union")
            ) && let Some(name) = words.next()
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
    places
}

/// The reader sees what it is there to see.
#[test]
fn imports_are_found_in_every_form() {
    let files: Files = [
        ("", "mod a; mod b;"),
        ("a", "use super::b::{c::{self, X}, d::Y as Z};\n// use crate::b::e::F;"),
        ("b", "mod c; mod d; mod e; pub use c::X; fn f() -> &'static str { \"crate::a::X\" }"),
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
        ("b", to(&[])),
        ("b/c", to(&["b/d", "b/e"])),
        ("b/d", to(&[])),
        ("b/e", to(&["b/d"])),
    ]
    .map(|(from, to)| (from.to_owned(), to))
    .into();
    let mut arrows = arrows(&files);
    assert_eq!(arrows, expected);
    assert_eq!(circle(&arrows), None);
    arrows.entry("b/d".into()).or_default().insert("a".into());
    let found = circle(&arrows).unwrap_or_default();
    assert_eq!(found, ["a", "b/c", "b/d", "a"]);
}
