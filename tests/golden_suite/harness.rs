//! Cases, comparison and reporting of the golden suite.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use libtest_mimic::Failed;
use medfusion::checkpoint::{hashed_parameter, read_safetensors};
use medfusion::compile::Precision;
use medfusion::compile::{fuse, verify_disjoint};
use medfusion::device::cuda::CudaDevice;
use medfusion::device::reference::{Array, Evaluation};
use medfusion::device::{Device, DeviceChoice, Executable};
use medfusion::graph::{Graph, Value};
use medfusion::ops::cast;
use medfusion::tensor::{DType, Tensor, TensorMap, nchw_to_nhwc, nhwc_to_nchw};
use serde_json::Value as Json;

/// Norm-wise relative tolerance of outputs and activations.
pub const OUTPUT: f64 = 1e-4;
/// Norm-wise relative tolerance of gradients.
pub const GRADIENT: f64 = 1e-3;
/// Gradients below this fraction of the norm of all gradients are zero in exact arithmetic (a bias
/// before a norm of one channel per group, keys under a softmax): one rounding of that norm. The
/// largest such value in the reference's own files is 3.6e-8 of the norm.
pub const GRADIENT_NOISE: f64 = 6e-8;
/// What an SSIM below it is measured against. The SSIM of unrelated images is the mean of a map whose values, 0.1 to 0.2
/// of either sign, cancel; in `f32` the reference's own mean is 1e-7 to 4e-7 from that in `f64`, whatever is left of it.
pub const SSIM_SCALE: f64 = 1e-2;
/// Norm-wise relative tolerance of whole sampling trajectories.
pub const TRAJECTORY: f64 = 1e-3;
/// Tolerance of tables that are computed in `f64` and stored as `f32`.
pub const TABLE: f64 = 1e-6;

/// One golden file with the JSON beside it.
pub struct Case {
    pub name: String,
    pub folder: PathBuf,
    pub tensors: TensorMap,
    pub json: Json,
}

impl Case {
    /// Reads `NAME.safetensors` and, if there is one, `NAME.json`.
    pub fn open(folder: &Path, name: &str) -> Result<Self, Failed> {
        let path = folder.join(format!("{name}.safetensors"));
        // Vectors that fit into JSON stand there alone.
        let tensors = match path.exists() || !folder.join(format!("{name}.json")).exists() {
            true => read_safetensors(path)?.tensors,
            false => TensorMap::new(),
        };
        let json = match std::fs::read(folder.join(format!("{name}.json"))) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(_) => Json::Null,
        };
        Ok(Self {
            name: name.to_owned(),
            folder: folder.to_owned(),
            tensors,
            json,
        })
    }

    /// The tensor `key`.
    pub fn tensor(&self, key: &str) -> Result<&Tensor, Failed> {
        self.tensors
            .get(key)
            .ok_or_else(|| format!("{} lacks '{key}'", self.name).into())
    }

    /// The float tensor `key`.
    pub fn floats(&self, key: &str) -> Result<Vec<f32>, Failed> {
        Ok(self.tensor(key)?.to_f32()?.into_owned())
    }

    /// The single float `key`.
    pub fn scalar(&self, key: &str) -> Result<f32, Failed> {
        Ok(self.floats(key)?[0])
    }

    /// The integer tensor `key`.
    pub fn ints(&self, key: &str) -> Result<Vec<i32>, Failed> {
        Ok(self
            .tensor(key)?
            .to_i64()?
            .iter()
            .map(|&v| v as i32)
            .collect())
    }

    /// The image-like tensor `key` in `NHWC`, with its shape.
    pub fn nhwc(&self, key: &str) -> Result<([usize; 4], Vec<f32>), Failed> {
        let tensor = self.tensor(key)?;
        let &[n, c, h, w] = tensor.shape() else {
            return Err(format!("'{key}' is no image: {:?}", tensor.shape()).into());
        };
        Ok(([n, h, w, c], nchw_to_nhwc(&tensor.to_f32()?, [n, c, h, w])))
    }

    /// The tensors under `prefix`, without it.
    pub fn under(&self, prefix: &str) -> TensorMap {
        self.tensors
            .iter()
            .filter_map(|(key, tensor)| {
                Some((key.strip_prefix(prefix)?.to_owned(), tensor.clone()))
            })
            .collect()
    }

    /// The network's weights: stored, or hashed from the names, shapes and gain in the JSON.
    pub fn weights(&self) -> Result<TensorMap, Failed> {
        let stored = self.under("weights.");
        if !stored.is_empty() {
            return Ok(stored);
        }
        let gain = self.json["gain"]
            .as_f64()
            .ok_or("neither weights nor a gain for hashed ones")?;
        let shapes = self.json["shapes"]
            .as_object()
            .ok_or("no shapes for hashed weights")?;
        Ok(shapes
            .iter()
            .map(|(name, shape)| {
                let shape: Vec<usize> = serde_json::from_value(shape.clone()).expect("a shape");
                (name.clone(), hashed_parameter(name, &shape, gain))
            })
            .collect())
    }
}

/// Largest error per group of tensors, and what failed.
pub struct Report {
    case: String,
    groups: BTreeMap<String, (f64, String, usize)>,
    failures: Vec<String>,
}

impl Report {
    /// An empty report of a case.
    pub fn new(case: &Case) -> Self {
        Self {
            case: case.name.clone(),
            groups: BTreeMap::new(),
            failures: Vec::new(),
        }
    }

    /// Compares norm-wise: `|got - want| <= tolerance * |want|`. Where the expected tensor is
    /// itself below `floor`, both are rounding noise of a zero, and any noise below it passes.
    pub fn compare_with_floor(
        &mut self,
        group: &str,
        name: &str,
        got: &[f32],
        want: &[f32],
        tolerance: f64,
        floor: f64,
    ) {
        self.compare_with([floor, 0.0], [group, name], [got, want], tolerance);
    }

    /// Compares similarities, which reach from -1 to 1: `|got - want| <= OUTPUT * max(|want|, SSIM_SCALE)`.
    pub fn compare_ssim(&mut self, group: &str, name: &str, got: &[f32], want: &[f32]) {
        let least = SSIM_SCALE * (want.len() as f64).sqrt();
        self.compare_with([0.0, least], [group, name], [got, want], OUTPUT);
    }

    /// `least` is the smallest norm that a difference is taken relative to.
    fn compare_with(
        &mut self,
        [floor, least]: [f64; 2],
        [group, name]: [&str; 2],
        [got, want]: [&[f32]; 2],
        tolerance: f64,
    ) {
        let gradient = group.starts_with("grad");
        let tolerance = tolerance + rounding(gradient);
        // What is zero in exact arithmetic is noise of the precision that it was computed in.
        let floor = floor * (1.0 + rounding(true) / GRADIENT_NOISE);
        if got.len() != want.len() {
            self.failures.push(format!(
                "{group} {name}: {} elements, expected {}",
                got.len(),
                want.len()
            ));
            return;
        }
        let (mut difference, mut scale) = (0.0f64, 0.0f64);
        for (&a, &b) in got.iter().zip(want) {
            difference += (f64::from(a) - f64::from(b)).powi(2);
            scale += f64::from(b).powi(2);
        }
        let (difference, scale) = (difference.sqrt(), scale.sqrt());
        let noise = scale <= floor && difference <= floor;
        let scale = scale.max(least);
        // NaN compares false and therefore fails.
        let passes = difference <= tolerance * scale || noise;
        let error = if noise || difference == 0.0 {
            0.0
        } else {
            difference / scale.max(f64::MIN_POSITIVE)
        };
        let entry = self
            .groups
            .entry(group.to_owned())
            .or_insert((0.0, String::new(), 0));
        entry.2 += 1;
        if error.is_nan() || error > entry.0 {
            (entry.0, entry.1) = (error, name.to_owned());
        }
        if !passes {
            self.failures.push(format!(
                "{group} {name}: relative error {error:.2e} > {tolerance:e}"
            ));
        }
    }

    /// Compares norm-wise: `|got - want| <= tolerance * |want|`.
    pub fn compare(&mut self, group: &str, name: &str, got: &[f32], want: &[f32], tolerance: f64) {
        self.compare_with_floor(group, name, got, want, tolerance, 0.0);
    }

    /// Records a failure that is no comparison.
    pub fn check(&mut self, holds: bool, what: impl Into<String>) {
        if !holds {
            self.failures.push(what.into());
        }
    }

    /// Prints `case → max relative error` per group; an error lists what failed.
    pub fn finish(self) -> Result<(), Failed> {
        let groups: Vec<String> = self
            .groups
            .iter()
            .map(|(group, (error, name, count))| {
                let worst = if *error > 0.0 {
                    format!(" at {name}")
                } else {
                    String::new()
                };
                format!("{group} {error:.1e} ({count} tensors{worst})")
            })
            .collect();
        println!("{} → {}", self.case, groups.join(", "));
        if self.groups.is_empty() {
            return Err("the case compared nothing".into());
        }
        if self.failures.is_empty() {
            Ok(())
        } else {
            Err(self.failures.join("\n").into())
        }
    }
}

/// Values for the inputs of a graph.
#[derive(Clone)]
pub enum Input {
    F32(Vec<f32>),
    I32(Vec<i32>),
}

/// Where and how precisely cases run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    pub device: DeviceChoice,
    pub precision: Precision,
}

impl Mode {
    pub const CPU: Self = Self {
        device: DeviceChoice::Cpu,
        precision: Precision::F32,
    };

    pub const fn emulated(precision: Precision) -> Self {
        Self {
            device: DeviceChoice::Emulated,
            precision,
        }
    }

    /// What a trial's name starts with.
    pub fn prefix(self) -> String {
        match self.device {
            DeviceChoice::Cpu => String::new(),
            _ => format!("cuda {} ", self.precision),
        }
    }
}

thread_local! {
    static MODE: Cell<Mode> = const { Cell::new(Mode::CPU) };
}

/// Runs `case` in `mode`; a case runs on one thread.
pub fn in_mode<T>(mode: Mode, case: impl FnOnce() -> T) -> T {
    MODE.set(mode);
    ALLOWED.set([0.0; 2]);
    case()
}

thread_local! {
    /// Largest relative errors, of activations and of gradients, that the run's precision is allowed.
    static ALLOWED: Cell<[f64; 2]> = const { Cell::new([0.0; 2]) };
}

/// What the mode's precision adds to a relative tolerance: what [`against_oracle`] found for the last run.
fn rounding(gradient: bool) -> f64 {
    ALLOWED.get()[usize::from(gradient)]
}

/// The rule for reduced precision: an output may differ from exact arithmetic by twice what the same graph loses in `f64`
/// when every value that is stored in the reduced type, and the weights of products, are rounded once (and by one
/// rounding where a tensor of few elements was lucky).
fn against_oracle(
    graph: &Graph,
    device: &CudaDevice,
    weights: &TensorMap,
    inputs: &[(&str, Input)],
    results: &HashMap<String, Vec<f32>>,
) -> Result<(), Failed> {
    let reduced = device.options().precision.storage();
    let lowered = device.lower(&fuse(graph).0);
    let array = |name: &str, values: Vec<f64>| {
        let leaf = graph.leaf_named(name)?;
        Some((
            name.to_owned(),
            Array::new(graph.shape(leaf).to_vec(), values),
        ))
    };
    let mut exact = HashMap::new();
    for (name, values) in inputs {
        let values: Vec<f64> = match values {
            Input::F32(values) => values.iter().map(|&v| f64::from(v)).collect(),
            Input::I32(values) => values.iter().map(|&v| f64::from(v)).collect(),
        };
        exact.extend(array(name, values));
    }
    let mut rounded = exact.clone();
    for (name, tensor) in weights {
        let values: Vec<f64> = tensor.to_f32()?.iter().map(|&v| f64::from(v)).collect();
        exact.extend(array(name, values.clone()));
        let product = tensor.shape().len() >= 2;
        let once = |v: f64| {
            if product {
                cast::rounded(v, reduced)
            } else {
                v
            }
        };
        rounded.extend(array(name, values.into_iter().map(once).collect()));
    }
    let exact = Evaluation::run(graph, &exact);
    let rounded = Evaluation::run(&lowered, &rounded);
    let unit = match reduced {
        DType::F16 => 2f64.powi(-11),
        _ => 2f64.powi(-9),
    };
    let error = |got: &[f64], want: &[f64]| {
        let norm =
            |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
        norm(&mut got.iter().zip(want).map(|(a, b)| a - b))
            / norm(&mut want.iter().copied()).max(1e-30)
    };
    let gradients = |name: &str| name.starts_with("grad");
    let names = graph.outputs().iter().filter(|(name, _)| gradients(name));
    let total: f64 = names
        .flat_map(|(_, v)| &exact.get(*v).data)
        .map(|v| v * v)
        .sum::<f64>()
        .sqrt();
    let (mut allowed, mut wrong) = ([0.0f64; 2], Vec::new());
    for ((name, value), (_, lowered)) in graph.outputs().iter().zip(lowered.outputs()) {
        let (want, rounded) = (&exact.get(*value).data, &rounded.get(*lowered).data);
        let once = unit / (want.len().max(1) as f64).sqrt();
        let bound = 2.0 * error(rounded, want).max(once);
        let values = &results[name];
        let got = to_file_layout(
            graph,
            name,
            *value,
            &want.iter().map(|&v| v as f32).collect::<Vec<_>>(),
        );
        let difference = |a: &[f32], b: &[f32]| -> f64 {
            a.iter()
                .zip(b)
                .map(|(a, b)| f64::from(a - b).powi(2))
                .sum::<f64>()
                .sqrt()
        };
        let size = want.iter().map(|v| v * v).sum::<f64>().sqrt();
        let found = difference(values, &got);
        // What is zero in exact arithmetic, beside the whole gradient, is noise.
        let noise = gradients(name) && size < unit * total;
        if !noise {
            let kind = &mut allowed[usize::from(gradients(name))];
            *kind = kind.max(bound);
            let tolerance = if gradients(name) { GRADIENT } else { OUTPUT };
            if found.is_nan() || found > (bound + tolerance) * size {
                wrong.push(format!(
                    "{name}: off by {:.1e} of itself, allowed {bound:.1e}",
                    found / size
                ));
            }
        }
    }
    ALLOWED.set(allowed);
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n").into()),
    }
}

/// The device of the case that runs on this thread.
pub fn device() -> Result<Device, Failed> {
    let mode = MODE.get();
    Ok(Device::builder()
        .choice(mode.device)
        .precision(mode.precision)
        .open()?)
}

/// Fuses, plans and loads `graph`.
pub fn load(graph: &Graph, weights: &TensorMap) -> Result<Box<dyn Executable>, Failed> {
    let device = device()?;
    let compiled = device.compile(graph);
    verify_disjoint(&compiled.plan)?;
    Ok(device.load(compiled, weights)?)
}

/// Runs `graph` once and returns its outputs by name, image-like ones in `NCHW`.
pub fn run(
    graph: &Graph,
    weights: &TensorMap,
    inputs: &[(&str, Input)],
) -> Result<HashMap<String, Vec<f32>>, Failed> {
    let mut executable = load(graph, weights)?;
    ALLOWED.set([0.0; 2]);
    for (name, values) in inputs {
        if !executable.has(name) {
            continue;
        }
        match values {
            Input::F32(values) => executable.write(name, values)?,
            Input::I32(values) => executable.write_i32(name, values)?,
        }
    }
    executable.poison()?;
    executable.run()?;
    let results = graph
        .outputs()
        .iter()
        .map(|(name, value)| {
            let values = executable.output(name)?;
            Ok((name.clone(), to_file_layout(graph, name, *value, &values)))
        })
        .collect::<Result<_, Failed>>()?;
    if let Device::Cuda(gpu) = device()?
        && gpu.options().precision != Precision::F32
    {
        against_oracle(graph, &gpu, weights, inputs, &results)?;
    }
    Ok(results)
}

/// The elements of output `name` in the channel order of files: maps are `NCHW` there, filters
/// and their gradients have one layout everywhere.
fn to_file_layout(graph: &Graph, name: &str, value: Value, values: &[f32]) -> Vec<f32> {
    match *graph.shape(value) {
        [n, h, w, c] if !name.ends_with(".weight") => nhwc_to_nchw(values, [n, h, w, c]),
        _ => values.to_vec(),
    }
}

/// Marks the labelled values whose golden activations `act.<path>[.corner|.mean_hw]` exist as
/// outputs `act.<path>`; a path that the graph does not label is a failure.
pub fn output_activations(graph: &mut Graph, case: &Case, report: &mut Report) {
    let mut paths: Vec<&str> = case
        .tensors
        .keys()
        .filter_map(|key| key.strip_prefix("act."))
        .map(|path| {
            path.trim_end_matches(".corner")
                .trim_end_matches(".mean_hw")
        })
        .collect();
    paths.dedup();
    for path in paths {
        match graph.labelled(path) {
            Some(value) => graph.output(&format!("act.{path}"), value),
            None => report.check(false, format!("the graph has no module '{path}'")),
        }
    }
}

/// Compares the activations that [`output_activations`] marked.
pub fn compare_activations(
    graph: &Graph,
    case: &Case,
    results: &HashMap<String, Vec<f32>>,
    report: &mut Report,
) -> Result<(), Failed> {
    for (key, want) in case
        .tensors
        .iter()
        .filter(|(key, _)| key.starts_with("act."))
    {
        let path = key.trim_end_matches(".corner").trim_end_matches(".mean_hw");
        let Some(values) = results.get(path) else {
            continue;
        };
        let want = want.to_f32()?;
        let value = graph
            .outputs()
            .iter()
            .find(|(name, _)| name == path)
            .map(|&(_, value)| value)
            .ok_or("no such output")?;
        let got = if key.ends_with(".corner") || key.ends_with(".mean_hw") {
            let &[n, h, w, c] = graph.shape(value) else {
                return Err(format!("'{path}' is no map").into());
            };
            if key.ends_with(".mean_hw") {
                (0..n * c)
                    .map(|i| {
                        let map = &values[i * h * w..][..h * w];
                        (map.iter().map(|&v| f64::from(v)).sum::<f64>() / (h * w) as f64) as f32
                    })
                    .collect()
            } else {
                (0..c.min(16) * h.min(4) * w.min(4))
                    .map(|i| {
                        let (x, y, z) = (
                            i % w.min(4),
                            i / w.min(4) % h.min(4),
                            i / w.min(4) / h.min(4),
                        );
                        values[(z * h + y) * w + x]
                    })
                    .collect()
            }
        } else {
            values.clone()
        };
        report.compare("act", key, &got, &want, OUTPUT);
    }
    Ok(())
}

/// Norm over all tensors, the scale below which a gradient is rounding noise.
pub fn global_norm<'a>(tensors: impl Iterator<Item = &'a [f32]>) -> f64 {
    tensors
        .flatten()
        .map(|&v| f64::from(v).powi(2))
        .sum::<f64>()
        .sqrt()
}
