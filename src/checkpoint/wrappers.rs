//! What stands around a model in a state dict: components that wrappers put into names, and one prefix before all of them.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};

use super::Problem;
use super::state::StateDict;
use crate::tensor::TensorMap;

/// Attributes under which wrappers keep a module: data parallelism, `torch.compile`, Lightning's Fabric, fully sharded
/// data parallelism, activation checkpoints, differentially private training. No module of a Medfusion network is called so.
const WRAPPERS: [&str; 6] = [
    "module",
    "_orig_mod",
    "_forward_module",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_module",
];

/// Modules of a pipeline.
pub(super) const PIPELINE: [&str; 4] = [
    "noise_estimator",
    "noise_scheduler",
    "latent_embedder",
    "ema_model",
];

/// First modules of a UNet or an autoencoder alone.
const NETWORK: [&str; 4] = ["in_conv", "inc", "inc_dec", "out_enc"];

/// `state` with wrappers' components taken out of its names wherever they are, and without the one prefix that its model
/// lies under; what lies elsewhere keeps its name.
///
/// Two tensors that differ and get the same name cannot be read: which of them is meant cannot be told.
///
/// # Errors
/// If several models lie beside each other.
pub(super) fn unwrap(state: StateDict) -> Result<StateDict, Problem> {
    let mut tensors = TensorMap::new();
    let unreadable = state.unreadable.into_iter();
    let unreadable = unreadable.map(|(name, why)| (unwrapped(&name), why));
    let mut unreadable: BTreeMap<String, String> = unreadable.collect();
    for (name, tensor) in state.tensors {
        match tensors.entry(unwrapped(&name)) {
            Entry::Vacant(place) => drop(place.insert(tensor)),
            Entry::Occupied(other) if *other.get() == tensor => {}
            Entry::Occupied(other) => {
                let why = "is there twice, with and without a wrapper's prefix, and the two differ; save one of them alone";
                unreadable.insert(other.key().clone(), why.to_owned());
            }
        }
    }
    tensors.retain(|name, _| !unreadable.contains_key(name));
    let state = StateDict {
        tensors,
        unreadable,
    };
    Ok(match model_prefix(&state)? {
        Some(prefix) => StateDict {
            tensors: strip(state.tensors, &prefix),
            unreadable: strip(state.unreadable, &prefix),
        },
        None => state,
    })
}

/// A name without wrappers' components.
pub(super) fn unwrapped(name: &str) -> String {
    let kept = name.split('.').filter(|part| !WRAPPERS.contains(part));
    let kept: Vec<&str> = kept.collect();
    kept.join(".")
}

/// What is before the model in all of its names; `None` for nothing.
fn model_prefix(state: &StateDict) -> Result<Option<String>, Problem> {
    for marks in [PIPELINE, NETWORK] {
        let prefixes: BTreeSet<&str> = state
            .names()
            .filter_map(|name| prefix_before(name, &marks))
            .collect();
        if prefixes.contains("") {
            return Ok(None);
        }
        match prefixes.len() {
            0 => continue,
            1 => return Ok(prefixes.first().map(|&prefix| prefix.to_owned())),
            count => {
                let names: Vec<&str> = prefixes.iter().copied().take(5).collect();
                return Err(Problem::unsupported(format!(
                    "{count} models lie beside each other in the file ({}); save one of them alone",
                    names.join(", ")
                )));
            }
        }
    }
    Ok(None)
}

/// What is before the first of `marks` in a name, with its dot.
fn prefix_before<'n>(name: &'n str, marks: &[&str]) -> Option<&'n str> {
    let mut at = 0;
    for part in name.split('.') {
        let end = at + part.len();
        if marks.contains(&part) {
            return (end < name.len()).then(|| &name[..at]);
        }
        at = end + 1;
    }
    None
}

fn strip<T>(entries: BTreeMap<String, T>, prefix: &str) -> BTreeMap<String, T> {
    let bare = |(name, value): (String, T)| match name.strip_prefix(prefix) {
        Some(rest) => (rest.to_owned(), value),
        None => (name, value),
    };
    // What lies elsewhere yields to a tensor of the model that is called the same.
    let (inside, outside): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .partition(|(name, _)| name.starts_with(prefix));
    let ordered = outside.into_iter().chain(inside);
    ordered.map(bare).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Tensor;

    fn names_of(names: &[&str]) -> Result<Vec<String>, Problem> {
        let tensor = Tensor::from_f32([1], &[1.0]);
        let tensors = names
            .iter()
            .map(|name| ((*name).to_owned(), tensor.clone()));
        let state = StateDict {
            tensors: tensors.collect(),
            ..StateDict::default()
        };
        Ok(unwrap(state)?.tensors.into_keys().collect())
    }

    #[test]
    fn wrappers_are_taken_out_in_any_order_and_place() {
        for name in [
            "noise_estimator.in_conv.conv.weight",
            "module._orig_mod.noise_estimator.in_conv.conv.weight",
            "_orig_mod.module.noise_estimator.in_conv.conv.weight",
            "_forward_module.noise_estimator._orig_mod.in_conv.conv.weight",
            "noise_estimator.module.in_conv._checkpoint_wrapped_module.conv.weight",
            "model._orig_mod.noise_estimator.module.in_conv.conv.weight",
            "trainer.module.pipeline.noise_estimator.in_conv.conv.weight",
        ] {
            let found = names_of(&[name, "val_fid.real_sum"]).unwrap();
            let expected = ["noise_estimator.in_conv.conv.weight", "val_fid.real_sum"];
            assert_eq!(found, expected, "{name}");
        }
        for name in [
            "model._orig_mod.in_conv.conv.weight",
            "in_conv.module.conv.weight",
        ] {
            assert_eq!(names_of(&[name]).unwrap(), ["in_conv.conv.weight"]);
        }
        // Components are whole: `submodule` and `module2` are no wrappers.
        let other = ["a.submodule.b", "module2.c"];
        assert_eq!(names_of(&other).unwrap(), other);
    }

    #[test]
    fn several_models_are_told_apart_from_one() {
        let pair = ["student.in_conv.conv.weight", "teacher.in_conv.conv.weight"];
        let error = names_of(&pair).unwrap_err().to_string();
        assert!(error.contains("student., teacher."), "{error}");
        let beside = ["in_conv.conv.weight", "teacher.in_conv.conv.weight"];
        assert_eq!(names_of(&beside).unwrap(), beside);
        // Twice the same is once; two that differ are none.
        let twice = ["in_conv.conv.bias", "module.in_conv.conv.bias"];
        assert_eq!(names_of(&twice).unwrap(), [twice[0]]);
        let differ = [1.0, 2.0].map(|value| Tensor::from_f32([1], &[value]));
        let state = StateDict {
            tensors: twice.map(str::to_owned).into_iter().zip(differ).collect(),
            ..StateDict::default()
        };
        let state = unwrap(state).unwrap();
        assert!(state.tensors.is_empty());
        let why = &state.unreadable["in_conv.conv.bias"];
        assert!(why.contains("there twice"), "{why}");
    }
}
