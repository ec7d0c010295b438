//! Families `checkpoint_` and `pickle_`: every container beside `NAME_expected` holds exactly its
//! tensors.

use std::path::PathBuf;

use libtest_mimic::Failed;
use medfusion::checkpoint::TorchFile;

use crate::harness::Case;

/// Files `NAME.<anything>` that are not the expectation itself.
fn containers(case: &Case) -> Result<Vec<PathBuf>, Failed> {
    let stem = case
        .name
        .strip_suffix("_expected")
        .ok_or("the expected tensors are called NAME_expected")?;
    let mut found: Vec<PathBuf> = std::fs::read_dir(&case.folder)?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?;
            let rest = name.strip_prefix(stem)?;
            (rest.ends_with(".ckpt") || rest.ends_with(".pt") || rest.ends_with(".pth"))
                .then_some(rest.starts_with('.'))?
                .then(|| path.clone())
        })
        .collect();
    found.sort();
    Ok(found)
}

pub fn run_case(case: &Case) -> Result<(), Failed> {
    let containers = containers(case)?;
    if containers.is_empty() {
        return Err("no container beside the expected tensors".into());
    }
    for path in containers {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let found = TorchFile::open(&path)?
            .state_dict()
            .map_err(|error| Failed::from(format!("{name}: {error}")))?;
        if !found.keys().eq(case.tensors.keys()) {
            return Err(format!("{name}: other tensors than expected").into());
        }
        for (key, want) in &case.tensors {
            if found[key] != *want {
                return Err(format!("{name}: '{key}' is {:?}, not {want:?}", found[key]).into());
            }
        }
        println!("{name} → {} tensors, bit-equal", found.len());
    }
    Ok(())
}
