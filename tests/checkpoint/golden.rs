//! PyTorch files written by a real training run read exactly as Python reads them.

use crate::support::{golden, json, name, stem, torch_files};
use medfusion::checkpoint::{
    TorchFile, hashed_parameter, name_hash, read_safetensors, uniform, write_safetensors,
};

#[test]
fn every_tensor_of_every_container_is_exact() {
    for path in torch_files() {
        let expected = golden().join(format!("{}_expected.safetensors", stem(&path)));
        let expected = read_safetensors(&expected).unwrap().tensors;
        let found = TorchFile::open(&path)
            .unwrap_or_else(|error| panic!("{error}"))
            .state_dict()
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let names =
            |map: &medfusion::tensor::TensorMap| -> Vec<String> { map.keys().cloned().collect() };
        assert_eq!(names(&found), names(&expected), "{}", name(&path));
        for (key, tensor) in &expected {
            assert_eq!(found[key].dtype(), tensor.dtype(), "{} {key}", name(&path));
            assert_eq!(found[key].shape(), tensor.shape(), "{} {key}", name(&path));
            assert!(
                found[key] == *tensor,
                "{} {key}: values differ",
                name(&path)
            );
        }
        println!("{} → {} tensors, exact", name(&path), found.len());
    }
}

#[test]
fn hyper_parameters_and_keys_are_those_python_sees() {
    for path in torch_files() {
        let expected = json(&golden().join(format!("{}_expected.json", stem(&path))));
        let Some(keys) = expected["top_level_keys"].as_array() else {
            continue;
        };
        let file = TorchFile::open(&path).unwrap();
        assert_eq!(
            serde_json::json!(file.top_level_keys()),
            serde_json::json!(keys)
        );
        let pickle = file.pickle();
        let hyper = pickle.get(pickle.root(), "hyper_parameters").unwrap();
        let expected_hyper = expected["hyper_parameters"].as_object().unwrap();
        assert_eq!(pickle.items(hyper).unwrap().len(), expected_hyper.len());
        for (key, repr) in expected_hyper {
            let value = pickle.get(hyper, key).unwrap();
            assert_eq!(
                pickle.repr(value),
                repr.as_str().unwrap(),
                "{} {key}",
                name(&path)
            );
        }
        for key in ["epoch", "global_step"] {
            let value = pickle.get(pickle.root(), key).unwrap();
            assert_eq!(pickle.int(value), expected[key].as_i64());
        }
    }
}

#[test]
fn plain_values_beside_the_tensors_are_kept() {
    for path in torch_files() {
        if stem(&path) != "pickle_torture" {
            continue;
        }
        let file = TorchFile::open(&path).unwrap();
        let pickle = file.pickle();
        if let Some(meta) = pickle.get(pickle.root(), "meta") {
            let big = pickle.get(meta, "big").map(|big| pickle.repr(big));
            assert_eq!(big.as_deref(), Some("1180591620717411303424"), "2**70");
            let list = pickle.get(meta, "b").unwrap();
            assert_eq!(pickle.repr(list), "[1, 2.5, None, True, 'x', (1, 2)]");
        }
    }
}

#[test]
fn contiguous_tensors_are_windows_into_the_file() {
    // A window costs no memory: two tensors of one storage have the same bytes at the same address.
    for path in torch_files() {
        let file = TorchFile::open(&path).unwrap();
        let (first, second) = (file.state_dict().unwrap(), file.state_dict().unwrap());
        let windows = first
            .iter()
            .filter(|(name, tensor)| tensor.bytes().as_ptr() == second[*name].bytes().as_ptr())
            .count();
        assert!(
            windows * 2 > first.len(),
            "{}: {windows} of {}",
            name(&path),
            first.len()
        );
    }
}

#[test]
fn hashed_parameters_follow_the_recipe() {
    let vectors = json(&golden().join("hash_recipe_vectors.json"));
    for (name, hash) in vectors["fnv1a64"].as_object().unwrap() {
        let expected = u64::from_str_radix(&hash.as_str().unwrap()[2..], 16).unwrap();
        assert_eq!(name_hash(name), expected);
    }
    for (name, values) in vectors["uniform_first6"].as_object().unwrap() {
        for (index, value) in values.as_array().unwrap().iter().enumerate() {
            let expected = value.as_f64().unwrap();
            assert_eq!(f64::from(uniform(name_hash(name), index as u64)), expected);
        }
    }
    let mut checked = 0;
    for (description, values) in vectors["examples"].as_object().unwrap() {
        // "encoder.conv.weight shape [4,3,3,3] gain sqrt(2) first 4"
        let (name, rest) = description.split_once(" shape ").unwrap();
        let (shape, rest) = rest.split_once(']').unwrap();
        let shape: Vec<usize> = serde_json::from_str(&format!("{shape}]")).unwrap();
        let gain = if rest.contains("sqrt(2)") {
            2f64.sqrt()
        } else {
            1.0
        };
        let tensor = hashed_parameter(name, &shape, gain);
        let found = tensor.to_f32().unwrap();
        for (value, found) in values.as_array().unwrap().iter().zip(&*found) {
            assert_eq!(f64::from(*found), value.as_f64().unwrap(), "{description}");
            checked += 1;
        }
    }
    assert!(checked >= 12);
}

#[test]
fn safetensors_written_twice_are_equal_bytes_and_read_back_equal() {
    let folder = tempfile::tempdir().unwrap();
    for path in crate::support::cases(|name| {
        name.starts_with("pickle_torture") && name.ends_with("_expected.safetensors")
    }) {
        let file = read_safetensors(&path).unwrap();
        let metadata = [("made by", "a test"), ("a", "\"quoted\"")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        write_safetensors(&a, &file.tensors, &metadata).unwrap();
        let again = read_safetensors(&a).unwrap();
        assert_eq!(again.tensors, file.tensors);
        assert_eq!(again.metadata, metadata);
        write_safetensors(&b, &again.tensors, &again.metadata).unwrap();
        assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
    }
}
