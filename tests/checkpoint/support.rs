//! Where the golden files are, and which of them there are.

use std::path::{Path, PathBuf};

/// The folder of golden files: `MEDFUSION_GOLDEN`, the shared folder beside the checkout, or the few that ship with it.
pub fn golden() -> PathBuf {
    if let Some(folder) = std::env::var_os("MEDFUSION_GOLDEN") {
        return PathBuf::from(folder);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = root.join("../shared/golden");
    if shared.is_dir() {
        return shared;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "CI needs the golden files: {} is missing",
        shared.display()
    );
    eprintln!(
        "note: {} is missing, only the golden files of the checkout are used",
        shared.display()
    );
    root.join("tests/golden")
}

/// Files of the golden folder that `wanted` takes, by name.
pub fn cases(wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let folder = golden();
    let mut found: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| wanted(&name(path)))
        .collect();
    found.sort();
    found
}

/// True if the folder is expected to hold every family.
pub fn is_complete() -> bool {
    std::env::var_os("MEDFUSION_GOLDEN").is_none() && !golden().ends_with("tests/golden")
}

/// The name of a file.
pub fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// `checkpoint_vae` of `checkpoint_vae.zip.ckpt`.
pub fn stem(path: &Path) -> String {
    name(path).split('.').next().unwrap().to_owned()
}

/// PyTorch files of the golden folder.
pub fn torch_files() -> Vec<PathBuf> {
    let files = cases(|name| {
        (name.starts_with("checkpoint_") || name.starts_with("pickle_"))
            && [".ckpt", ".pt", ".pth"]
                .iter()
                .any(|end| name.ends_with(end))
    });
    assert!(!files.is_empty() || !is_complete(), "no PyTorch files");
    files
}

/// A JSON file.
pub fn json(path: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}
