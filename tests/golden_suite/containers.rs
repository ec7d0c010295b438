//! Families `checkpoint_` and `pickle_`: every container beside `NAME_expected` holds exactly its
//! tensors. Family `hash_recipe_`: parameters that are not stored.

use std::path::PathBuf;

use libtest_mimic::Failed;
use medfusion::checkpoint::{TorchFile, hashed_parameter, name_hash, uniform};
use serde_json::Value as Json;

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
    if case.tensors.is_empty() {
        return Err("a container without the tensors to expect in it".into());
    }
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

/// Family `hash_recipe_`: the recipe of hashed parameters, bit for bit.
pub fn run_hash_recipe(case: &Case) -> Result<(), Failed> {
    let section = |name: &str| case.json[name].as_object().into_iter().flatten();
    let list =
        |json: &Json| -> Result<Vec<f64>, Failed> { Ok(serde_json::from_value(json.clone())?) };
    let mut checked = 0usize;
    let mut check = |holds: bool, what: &str| {
        checked += 1;
        holds
            .then_some(())
            .ok_or_else(|| Failed::from(format!("{what} differs")))
    };
    for (name, hash) in section("fnv1a64") {
        let text = hash.as_str().and_then(|text| text.strip_prefix("0x"));
        let want = u64::from_str_radix(text.ok_or("a hash is written 0x...")?, 16)?;
        check(name_hash(name) == want, name)?;
    }
    for (name, values) in section("uniform_first6") {
        for (index, want) in list(values)?.into_iter().enumerate() {
            check(
                f64::from(uniform(name_hash(name), index as u64)) == want,
                name,
            )?;
        }
    }
    for (description, values) in section("examples") {
        // "encoder.conv.weight shape [4,3,3,3] gain sqrt(2) first 4"
        let (name, rest) = description.split_once(" shape ").ok_or("no shape")?;
        let (shape, rest) = rest.split_once(']').ok_or("no shape")?;
        let shape: Vec<usize> = serde_json::from_str(&format!("{shape}]"))?;
        let gain = match rest
            .split_whitespace()
            .skip_while(|word| *word != "gain")
            .nth(1)
        {
            Some("sqrt(2)") => 2f64.sqrt(),
            Some(gain) => gain.parse()?,
            None => 1.0,
        };
        let tensor = hashed_parameter(name, &shape, gain);
        for (got, want) in tensor.to_f32()?.iter().zip(list(values)?) {
            check(f64::from(*got) == want, description)?;
        }
    }
    println!("{} → {checked} values, bit-equal", case.name);
    match checked {
        0 => Err("no values".into()),
        _ => Ok(()),
    }
}
