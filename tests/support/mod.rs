//! Golden files of the reference implementation, and the comparison with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use medfusion::tensor::{DType, Tensor};
use safetensors::SafeTensors;
use serde_json::Value as Json;

/// One golden file with its JSON.
pub struct Case {
    pub name: String,
    pub tensors: BTreeMap<String, Tensor>,
    pub json: Json,
}

impl Case {
    pub fn f32(&self, name: &str) -> Vec<f32> {
        self.tensors[name].to_f32().unwrap().into_owned()
    }

    pub fn i64(&self, name: &str) -> Vec<i64> {
        self.tensors[name].to_i64().unwrap()
    }
}

fn folder() -> Option<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    match std::env::var_os("MEDFUSION_GOLDEN") {
        Some(folder) => Some(folder.into()),
        None => [
            manifest.join("../shared/golden"),
            manifest.join("tests/golden"),
        ]
        .into_iter()
        .find(|folder| folder.is_dir()),
    }
}

/// The cases whose name starts with `family`; none, said aloud, where there is no golden data.
pub fn cases(family: &str) -> Vec<Case> {
    let Some(folder) = folder() else {
        eprintln!("no golden data: set MEDFUSION_GOLDEN to its folder");
        return Vec::new();
    };
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let stem = name.strip_suffix(".safetensors")?;
            stem.starts_with(family).then(|| stem.to_owned())
        })
        .collect();
    names.sort();
    names
        .into_iter()
        .map(|name| {
            let bytes = std::fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
            let file = SafeTensors::deserialize(&bytes).unwrap();
            let tensors = file.tensors().into_iter().map(|(key, view)| {
                let dtype = match view.dtype() {
                    safetensors::Dtype::F32 => DType::F32,
                    safetensors::Dtype::F64 => DType::F64,
                    safetensors::Dtype::I64 => DType::I64,
                    other => panic!("{name}: {key} is {other:?}"),
                };
                let tensor = Tensor::from_bytes(dtype, view.shape(), view.data().to_vec());
                (key, tensor.unwrap())
            });
            let tensors = tensors.collect();
            let json = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
            let json = serde_json::from_str(&json).unwrap();
            Case {
                name,
                tensors,
                json,
            }
        })
        .collect()
}

/// Norm-wise relative error; two arrays of zeros agree.
fn relative_error(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let square = |x: f64| x * x;
    let difference: f64 = got
        .iter()
        .zip(want)
        .map(|(&a, &b)| square(f64::from(a) - f64::from(b)))
        .sum();
    let norm: f64 = want.iter().map(|&v| square(f64::from(v))).sum();
    assert!(difference.is_finite() && norm.is_finite());
    match difference {
        0.0 => 0.0,
        _ => (difference / norm.max(1e-60)).sqrt(),
    }
}

/// Remembers the worst error of a case and fails beyond `tolerance`.
pub struct Report {
    case: String,
    tolerance: f64,
    worst: (f64, String),
    compared: usize,
}

impl Report {
    pub fn new(case: &str, tolerance: f64) -> Self {
        Self {
            case: case.to_owned(),
            tolerance,
            worst: (0.0, String::new()),
            compared: 0,
        }
    }

    pub fn compare(&mut self, what: &str, got: &[f32], want: &[f32]) {
        let error = relative_error(got, want);
        assert!(
            error <= self.tolerance,
            "{} {what}: relative error {error:e}",
            self.case
        );
        self.compared += 1;
        if error >= self.worst.0 {
            self.worst = (error, what.to_owned());
        }
    }

    pub fn print(self) {
        assert!(self.compared > 0, "{}: nothing was compared", self.case);
        println!(
            "{} -> {:.1e} ({}, worst of {})",
            self.case, self.worst.0, self.worst.1, self.compared
        );
    }
}

/// A parameter made from its name, as the golden data's recipe says: bit-exact in any language.
pub fn hashed_parameter(name: &str, shape: &[usize], gain: f64) -> Vec<f32> {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let (offset, factor) = match shape {
        [_, rest @ ..] if !rest.is_empty() => {
            let fan_in: usize = rest.iter().product();
            (0.0, (gain * (3.0 / fan_in as f64).sqrt()) as f32)
        }
        _ if name.ends_with("running_var") => (1.0, 0.25),
        _ if name.ends_with("weight") => (1.0, 0.1),
        _ => (0.0, 0.1),
    };
    (1..=shape.iter().product::<usize>() as u64)
        .map(|i| {
            let z = hash.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            let z = z ^ z >> 31;
            let v = 2.0 * ((z >> 40) as f32 / 16_777_216.0) - 1.0;
            offset + factor * v
        })
        .collect()
}
