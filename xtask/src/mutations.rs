//! `cargo xtask mutations`: breaks the kernels one line at a time and checks that the op suite notices.
//!
//! `kernels/mutations.toml` lists the bugs: a text of a kernel, what stands there instead, and the tests that have to
//! fail. The kernels are read from a changed copy (`MEDFUSION_KERNELS`), so nothing is rebuilt between them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::workspace;

/// Options of `cargo xtask mutations`.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Only mutations whose name contains this
    #[arg(value_name = "NAME")]
    only: Option<String>,
}

#[derive(Deserialize)]
struct List {
    mutation: Vec<Mutation>,
}

/// One planted bug.
#[derive(Deserialize)]
struct Mutation {
    /// What is broken.
    name: String,
    /// File below `kernels/`.
    file: String,
    /// Text that occurs exactly once in it.
    find: String,
    /// What stands there instead.
    replace: String,
    /// Filter of the tests that have to fail.
    tests: String,
    /// File in `tests/` that they are in; unit tests otherwise.
    suite: Option<String>,
}

/// Applies every mutation and runs its tests; first of all without any, which has to pass.
///
/// # Errors
/// If a mutation does not apply, or survives.
pub fn run(args: &Args) -> Result<(), String> {
    let root = workspace();
    let list = root.join("kernels/mutations.toml");
    let text = fs::read_to_string(&list).map_err(|error| format!("{}: {error}", list.display()))?;
    let list: List =
        toml::from_str(&text).map_err(|error| format!("{}: {error}", list.display()))?;
    let wanted: Vec<&Mutation> = list
        .mutation
        .iter()
        .filter(|mutation| {
            args.only
                .as_ref()
                .is_none_or(|only| mutation.name.contains(only.as_str()))
        })
        .collect();
    let mut suites: BTreeMap<Option<&str>, PathBuf> = BTreeMap::new();
    let mut filters = BTreeSet::new();
    for mutation in &wanted {
        let suite = mutation.suite.as_deref();
        if let Entry::Vacant(missing) = suites.entry(suite) {
            missing.insert(test_program(&root, suite)?);
        }
        filters.insert((suite, mutation.tests.as_str()));
    }
    let scratch = root.join("target/mutations");
    for (suite, filter) in filters {
        if !passes(&suites[&suite], &root, &root.join("kernels"), filter)? {
            return Err(format!("the tests `{filter}` fail without a mutation"));
        }
    }
    let mut survived = Vec::new();
    for mutation in &wanted {
        let path = root.join("kernels").join(&mutation.file);
        let text =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        if text.matches(&mutation.find).count() != 1 {
            return Err(format!(
                "'{}': its text occurs {} times in {}, expected once",
                mutation.name,
                text.matches(&mutation.find).count(),
                mutation.file
            ));
        }
        let _ = fs::remove_dir_all(&scratch);
        copy(&root.join("kernels"), &scratch)?;
        let changed = text.replace(&mutation.find, &mutation.replace);
        fs::write(scratch.join(&mutation.file), changed).map_err(|error| error.to_string())?;
        let suite = &suites[&mutation.suite.as_deref()];
        let survives = passes(suite, &root, &scratch, &mutation.tests)?;
        println!(
            "{} {}",
            if survives { "SURVIVED" } else { "killed  " },
            mutation.name
        );
        if survives {
            survived.push(mutation.name.as_str());
        }
    }
    let _ = fs::remove_dir_all(&scratch);
    println!("{} mutations, {} survived", wanted.len(), survived.len());
    match survived.is_empty() {
        true => Ok(()),
        false => Err(format!("not noticed: {}", survived.join(", "))),
    }
}

/// Builds the engine's unit tests, or those of a file in `tests/`, and says where they are.
fn test_program(root: &Path, suite: Option<&str>) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["test", "--release", "--package", "medfusion"])
        .args(suite.map_or(vec!["--lib"], |suite| vec!["--test", suite]))
        .args(["--no-run", "--message-format=json"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| {
            message["target"]["name"] == suite.unwrap_or("medfusion")
                && message["profile"]["test"] == true
        })
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| "cargo named no test program".to_owned())
}

/// Whether the tests that `filter` names pass with the kernels of `folder`. Only the CUDA side of them runs.
fn passes(suite: &Path, root: &Path, folder: &Path, filter: &str) -> Result<bool, String> {
    let output = Command::new(suite)
        .arg(filter)
        .current_dir(root)
        .env("MEDFUSION_KERNELS", folder)
        .env("MEDFUSION_TEST_ONLY_CUDA", "1")
        .env("CI", "true")
        .output()
        .map_err(|error| format!("{}: {error}", suite.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("running 0 tests") {
        return Err(format!("no test is called `{filter}`"));
    }
    // A mutation has to be noticed by the suite, not by the compiler.
    if text.contains("does not compile") {
        return Err(format!(
            "a mutation for `{filter}` does not compile:\n{text}"
        ));
    }
    Ok(output.status.success())
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", from.display());
    fs::create_dir_all(to).map_err(failed)?;
    for entry in fs::read_dir(from).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target).map_err(failed)?;
        }
    }
    Ok(())
}
