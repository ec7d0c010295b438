//! Runs every example of the library on inputs that take seconds.

use std::fs;

use crate::test::{cargo, target_folder};
use crate::workspace;

/// Name of an example and its arguments; `OUT` is replaced by an empty folder.
const EXAMPLES: [(&str, &[&str]); 5] = [
    ("sample_to_png", &["weights/xray32", "OUT/samples.png", "2"]),
    (
        "reconstruct_folder",
        &["weights/xray32", "tests/made_up/images", "OUT/pairs.png"],
    ),
    ("train_on_folder", &["tests/made_up/images", "OUT/run", "2"]),
    ("custom_graph", &[]),
    ("own_op", &[]),
];

/// Builds and runs each, and fails for an example that is not listed here.
///
/// # Errors
/// The first that fails.
pub fn run() -> Result<(), String> {
    let root = workspace();
    let folder = root.join("examples");
    let entries =
        fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        if !EXAMPLES.iter().any(|(listed, _)| *listed == name) {
            return Err(format!(
                "no command runs the example {name}: add it to xtask/src/examples.rs"
            ));
        }
    }
    let out = target_folder().join("examples-out");
    for (name, arguments) in EXAMPLES {
        let _ = fs::remove_dir_all(&out);
        fs::create_dir_all(&out).map_err(|error| format!("{}: {error}", out.display()))?;
        let arguments: Vec<String> = arguments
            .iter()
            .map(|argument| argument.replace("OUT", &out.display().to_string()))
            .collect();
        cargo(
            &[
                "run",
                "--release",
                "--package",
                "medfusion",
                "--example",
                name,
                "--",
            ],
            &arguments,
        )?;
    }
    Ok(())
}
