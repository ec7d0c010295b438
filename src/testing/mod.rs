//! How an op is tested: its gradient against finite differences in `f64`, its CPU kernel against
//! the naive `f64` definition, forward and backward, in poisoned memory.

mod awkward;

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::compile::Precision;
use crate::compile::{PlanOptions, passes::precision::reduce_all, verify_disjoint};
use crate::device::Executable;
use crate::device::cpu::CpuDevice;
use crate::device::cuda::{CudaDevice, CudaOptions};
use crate::device::reference::{Array, Evaluation};
use crate::graph::{Graph, GraphError, Source, Value};
use crate::ops::Binary;
use crate::ops::cast::rounded;
use crate::tensor::{DType, Tensor, TensorMap};

/// Numbers in [-1, 1) that depend on name and index only (SplitMix64).
pub(crate) fn hashed(name: &str, len: usize) -> Vec<f64> {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    });
    (1..=len as u64)
        .map(|i| {
            let mut z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            // 24 bits, so that the value is exact in f32.
            2.0 * ((z >> 40) as f64 / (1u64 << 24) as f64) - 1.0
        })
        .collect()
}

/// Norm-wise relative difference of `got` from `want`.
pub(crate) fn relative_error(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut got.iter().zip(want).map(|(a, b)| a - b));
    let scale = norm(&mut want.iter().copied());
    if difference == 0.0 {
        0.0
    } else {
        difference / scale.max(1e-30)
    }
}

/// Checks an op with inputs that are `f32`-exact numbers in [-1, 1); see [`check_with`].
pub(crate) fn check(build: impl Fn(&mut Graph) -> Result<Value, GraphError>) {
    check_with(build, &HashMap::new(), 1e-5);
}

/// Builds a graph of parameters and inputs with `build`, takes the loss `sum(result * w)` with
/// fixed weights `w`, and checks
/// 1. autodiff (evaluated by the `f64` oracle) against central differences of the oracle,
/// 2. the CPU's result and gradients against the oracle, norm-wise within `tolerance`, with the
///    arena poisoned, with memory reuse and without, twice in a row.
///
/// `leaves` overrides the values of single leaves (integer inputs must be given).
pub(crate) fn check_with(
    build: impl Fn(&mut Graph) -> Result<Value, GraphError>,
    leaves: &HashMap<String, Array>,
    tolerance: f64,
) {
    let mut graph = Graph::new();
    let y = build(&mut graph).unwrap();
    let shape = graph.shape(y).to_vec();
    let weights = hashed("loss weights", graph.ty(y).len());
    let weights: Vec<f32> = weights.iter().map(|&w| w as f32).collect();
    let w = graph.constant(shape, &weights).unwrap();
    let product = graph.apply(Binary::Mul, &[y, w]).unwrap();
    let loss = graph.sum_to(product, &[]).unwrap();
    let wrt: Vec<(String, Value)> = graph.parameters().map(|(n, v)| (n.to_owned(), v)).collect();
    let parameters: Vec<Value> = wrt.iter().map(|&(_, v)| v).collect();
    let grads = graph.gradients(loss, &parameters).unwrap();
    graph.output("y", y);
    for ((name, _), grad) in wrt.iter().zip(&grads) {
        if let Some(grad) = *grad {
            graph.output(&format!("grad.{name}"), grad);
        }
    }

    let mut arrays: HashMap<String, Array> = HashMap::new();
    for value in graph.values() {
        let info = graph.info(value);
        if matches!(
            info.source,
            Source::Input | Source::Parameter | Source::State
        ) {
            let array = leaves.get(&info.name).cloned().unwrap_or_else(|| {
                assert!(info.ty.dtype.is_float(), "give values for '{}'", info.name);
                Array::new(info.ty.shape.clone(), hashed(&info.name, info.ty.len()))
            });
            arrays.insert(info.name.clone(), array);
        }
    }
    let oracle = Evaluation::run(&graph, &arrays);

    // With nothing else asked for, the CUDA tests can be run alone while kernels are worked on.
    let only_cuda = std::env::var_os("MEDFUSION_TEST_ONLY_CUDA").is_some();
    if !only_cuda {
        finite_differences(&graph, loss, &wrt, &grads, &mut arrays.clone(), &oracle);
    }

    let tensors: TensorMap = wrt
        .iter()
        .map(|(name, _)| {
            let array = &arrays[name];
            let values: Vec<f32> = array.data.iter().map(|&v| v as f32).collect();
            (name.clone(), Tensor::from_f32(array.shape.clone(), &values))
        })
        .collect();
    check_cuda(&graph, &arrays, &tensors, &oracle, tolerance);
    if only_cuda {
        return;
    }
    let device = CpuDevice::new(Some(2)).unwrap();
    for reuse in [true, false] {
        let options = PlanOptions {
            reuse,
            in_place: reuse,
        };
        let plan = device.plan(&graph, options);
        verify_disjoint(&plan).unwrap();
        let mut executable = device.load(plan, &tensors).unwrap();
        for (name, array) in &arrays {
            let Some(value) = graph.leaf_named(name) else {
                continue;
            };
            if !executable.has(name) || tensors.contains_key(name) {
                continue;
            }
            match graph.ty(value).dtype {
                DType::I32 => {
                    let values: Vec<i32> = array.data.iter().map(|&v| v as i32).collect();
                    executable.write_i32(name, &values).unwrap();
                }
                _ => {
                    let values: Vec<f32> = array.data.iter().map(|&v| v as f32).collect();
                    executable.write(name, &values).unwrap();
                }
            }
        }
        for _ in 0..2 {
            executable.poison();
            executable.run();
            for (name, value) in graph.outputs() {
                let got: Vec<f64> = executable
                    .output(name)
                    .unwrap()
                    .iter()
                    .map(|&v| f64::from(v))
                    .collect();
                let error = relative_error(&got, &oracle.get(*value).data);
                assert!(
                    error <= tolerance,
                    "{name}: CPU differs from f64 by {error:e}"
                );
            }
        }
    }
}

/// The emulated GPU that the tests of a process share. `None`, said on stderr, where its library or NVRTC is missing;
/// in CI that is a failure.
pub(crate) fn emulated_gpu() -> Option<&'static CudaDevice> {
    static GPU: OnceLock<Option<CudaDevice>> = OnceLock::new();
    GPU.get_or_init(|| match CudaDevice::emulated(CudaOptions::default()) {
        Ok(device) => Some(device),
        Err(error) => {
            assert!(
                std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                "CI must not skip the CUDA kernels: {error}"
            );
            eprintln!("NOT TESTED on CUDA: {error}");
            None
        }
    })
    .as_ref()
}

/// Half a unit in the last place of a number of type `dtype`, relative to it; 0 for f32, which tolerances cover.
fn unit_roundoff(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 2f64.powi(-11),
        DType::BF16 => 2f64.powi(-8),
        _ => 0.0,
    }
}

/// `arrays` with the weights that ops read packed rounded to the type they are packed in.
fn rounded_weights(
    graph: &Graph,
    device: &CudaDevice,
    arrays: &HashMap<String, Array>,
    reduced: DType,
) -> HashMap<String, Array> {
    let mut arrays = arrays.clone();
    let types = |values: &[Value]| {
        values
            .iter()
            .map(|&v| graph.ty(v).clone())
            .collect::<Vec<_>>()
    };
    for node in graph.nodes() {
        let (inputs, outputs) = (types(&node.inputs), types(&node.outputs));
        if let Some(index) = device.packed_input(&node.op, &inputs, &outputs)
            && let Some(array) = arrays.get_mut(&graph.info(node.inputs[index]).name)
        {
            array
                .data
                .iter_mut()
                .for_each(|v| *v = rounded(*v, reduced));
        }
    }
    arrays
}

/// Runs `graph` on the emulated GPU, every value in an allocation of its own, and compares outputs and updated leaves
/// with the `f64` oracle: in f32 norm-wise within `tolerance`; in f16 and bf16 within twice what the oracle itself loses
/// when it rounds every value of that type, and the weights of products, once. In f32 also as a captured graph in a reused arena, run twice.
pub(crate) fn check_cuda(
    graph: &Graph,
    arrays: &HashMap<String, Array>,
    tensors: &TensorMap,
    oracle: &Evaluation,
    tolerance: f64,
) {
    let Some(gpu) = emulated_gpu() else { return };
    let isolated = |precision| CudaOptions {
        precision,
        capture: false,
        isolate: true,
        ..CudaOptions::default()
    };
    let modes = [
        (isolated(Precision::F32), false),
        (CudaOptions::default(), true),
        (isolated(Precision::F16), false),
        (isolated(Precision::BF16), false),
    ];
    for (options, reuse) in modes {
        let device = gpu.with(options);
        let lowered = match options.precision.storage() {
            DType::F32 => graph.clone(),
            reduced => reduce_all(graph, reduced),
        };
        let reduced = options.precision.storage();
        let rounded = Evaluation::run(
            &lowered,
            &rounded_weights(&lowered, &device, arrays, reduced),
        );
        let plan_options = PlanOptions {
            reuse,
            in_place: reuse,
        };
        let plan = device.plan(&lowered, plan_options);
        verify_disjoint(&plan).unwrap();
        let mut executable = device
            .load(plan, tensors)
            .unwrap_or_else(|error| panic!("{error}"));
        let leaves: Vec<(&String, &Array)> = arrays
            .iter()
            .filter(|(name, _)| executable.has(name))
            .collect();
        for _ in 0..1 + usize::from(reuse) {
            for &(name, array) in &leaves {
                let Some(value) = graph.leaf_named(name) else {
                    continue;
                };
                if graph.ty(value).dtype == DType::I32 {
                    let values: Vec<i32> = array.data.iter().map(|&v| v as i32).collect();
                    executable.write_i32(name, &values).unwrap();
                } else {
                    let values: Vec<f32> = array.data.iter().map(|&v| v as f32).collect();
                    executable.write(name, &values).unwrap();
                }
            }
            executable
                .run()
                .unwrap_or_else(|error| panic!("{}: {error}", options.precision));
            let compare = |name: &str, got: Vec<f32>, want: &Array, rounded: &Array| {
                let got: Vec<f64> = got.iter().map(|&v| f64::from(v)).collect();
                let error = relative_error(&got, &want.data);
                // A few numbers may be lucky with their rounding: one rounding of each is allowed in any case.
                let once = unit_roundoff(reduced) / (want.data.len().max(1) as f64).sqrt();
                let bound = tolerance + 2.0 * relative_error(&rounded.data, &want.data).max(once);
                assert!(
                    error <= bound,
                    "{name}: CUDA in {} differs from f64 by {error:e}, allowed {bound:e}\n{:?}\n{:?}",
                    options.precision,
                    &got[..got.len().min(16)],
                    &want.data[..want.data.len().min(16)]
                );
            };
            for ((name, value), (_, lowered)) in graph.outputs().iter().zip(lowered.outputs()) {
                compare(
                    name,
                    executable.output(name).unwrap(),
                    oracle.get(*value),
                    rounded.get(*lowered),
                );
            }
            for name in arrays.keys() {
                let Some(leaf) = graph.leaf_named(name) else {
                    continue;
                };
                let (Some(want), Some(rounded)) = (oracle.updated(leaf), rounded.updated(leaf))
                else {
                    continue;
                };
                if graph.ty(leaf).dtype == DType::I32 {
                    let got = executable.read_i32(name).unwrap();
                    assert!(
                        got.iter().zip(&want.data).all(|(&a, &b)| f64::from(a) == b),
                        "{name}"
                    );
                } else {
                    compare(name, executable.read(name).unwrap(), want, rounded);
                }
            }
            executable.poison().unwrap();
        }
    }
}

/// [`check_cuda`] for a graph of float parameters alone, with numbers in [-1, 1), within 1e-5: for shapes that are too
/// large for finite differences.
pub(crate) fn check_outputs_on_cuda(graph: &Graph) {
    let (arrays, tensors) = hashed_parameters(graph);
    let oracle = Evaluation::run(graph, &arrays);
    check_cuda(graph, &arrays, &tensors, &oracle, 1e-5);
}

/// [`check_outputs_on_cuda`], and the same on the CPU: for ops without a gradient.
pub(crate) fn check_outputs(graph: &Graph) {
    check_outputs_on_cuda(graph);
    let (arrays, tensors) = hashed_parameters(graph);
    let oracle = Evaluation::run(graph, &arrays);
    let device = CpuDevice::new(Some(2)).unwrap();
    let plan = device.plan(graph, PlanOptions::default());
    let mut executable = device.load(plan, &tensors).unwrap();
    executable.poison();
    executable.run();
    for (name, value) in graph.outputs() {
        let got = executable.output(name).unwrap();
        let got: Vec<f64> = got.iter().map(|&v| f64::from(v)).collect();
        let error = relative_error(&got, &oracle.get(*value).data);
        assert!(error <= 1e-5, "{name}: CPU differs from f64 by {error:e}");
    }
}

/// Numbers in [-1, 1) for the parameters of `graph`.
fn hashed_parameters(graph: &Graph) -> (HashMap<String, Array>, TensorMap) {
    let (mut arrays, mut tensors) = (HashMap::new(), TensorMap::new());
    for (name, value) in graph.parameters() {
        let ty = graph.ty(value);
        let data = hashed(name, ty.len());
        let values: Vec<f32> = data.iter().map(|&v| v as f32).collect();
        tensors.insert(name.to_owned(), Tensor::from_f32(ty.shape.clone(), &values));
        arrays.insert(name.to_owned(), Array::new(ty.shape.clone(), data));
    }
    (arrays, tensors)
}

/// Checks that NaN in any parameter of `build` shows in the result, and that there is none without: on the CPU, and on
/// the emulated GPU in f32 and f16.
pub(crate) fn check_nan_shows(build: impl Fn(&mut Graph) -> Result<Value, GraphError>) {
    let mut graph = Graph::new();
    let y = build(&mut graph).unwrap();
    graph.output("y", y);
    let (_, tensors) = hashed_parameters(&graph);
    let cpu = CpuDevice::new(Some(2)).unwrap();
    nan_shows("the CPU", &tensors, |tensors| {
        let plan = cpu.plan(&graph, PlanOptions::default());
        Box::new(cpu.load(plan, tensors).unwrap())
    });
    let Some(gpu) = emulated_gpu() else { return };
    for precision in [Precision::F32, Precision::F16] {
        let gpu = gpu.with(CudaOptions {
            precision,
            capture: false,
            isolate: true,
            ..CudaOptions::default()
        });
        let lowered = match precision.storage() {
            DType::F32 => graph.clone(),
            reduced => reduce_all(&graph, reduced),
        };
        nan_shows(&format!("CUDA in {precision}"), &tensors, |tensors| {
            let plan = gpu.plan(&lowered, PlanOptions::default());
            Box::new(gpu.load(plan, tensors).unwrap())
        });
    }
}

/// [`check_nan_shows`] on `device`, on which `load` puts the graph with its parameters.
fn nan_shows(device: &str, tensors: &TensorMap, load: impl Fn(&TensorMap) -> Box<dyn Executable>) {
    let nan_in_result = |tensors: &TensorMap| {
        let mut executable = load(tensors);
        executable.poison().unwrap();
        executable.run().unwrap();
        executable.output("y").unwrap().iter().any(|v| v.is_nan())
    };
    assert!(!nan_in_result(tensors), "NaN from nowhere on {device}");
    for (name, tensor) in tensors {
        let mut values = tensor.to_f32().unwrap().into_owned();
        *values.last_mut().unwrap() = f32::NAN;
        let mut poisoned = tensors.clone();
        poisoned.insert(name.clone(), Tensor::from_f32(tensor.shape(), &values));
        assert!(
            nan_in_result(&poisoned),
            "NaN in '{name}' is hidden on {device}"
        );
    }
}

/// Checks ops that update leaves: builds a graph with `build`, runs it once on the CPU in a
/// poisoned arena and compares every updated leaf and every output with the `f64` oracle,
/// norm-wise within `tolerance` (integers exactly).
pub(crate) fn check_updates(
    build: impl Fn(&mut Graph) -> Result<(), GraphError>,
    leaves: &HashMap<String, Array>,
    tolerance: f64,
) {
    let mut graph = Graph::new();
    build(&mut graph).unwrap();
    let mut arrays: HashMap<String, Array> = HashMap::new();
    let mut tensors = TensorMap::new();
    for value in graph.values() {
        let info = graph.info(value);
        if !matches!(
            info.source,
            Source::Input | Source::Parameter | Source::State
        ) {
            continue;
        }
        let array = leaves.get(&info.name).cloned().unwrap_or_else(|| {
            assert!(info.ty.dtype.is_float(), "give values for '{}'", info.name);
            Array::new(info.ty.shape.clone(), hashed(&info.name, info.ty.len()))
        });
        if matches!(info.source, Source::Parameter) {
            let values: Vec<f32> = array.data.iter().map(|&v| v as f32).collect();
            let tensor = Tensor::from_f32(array.shape.clone(), &values);
            tensors.insert(info.name.clone(), tensor);
        }
        arrays.insert(info.name.clone(), array);
    }
    let oracle = Evaluation::run(&graph, &arrays);
    check_cuda(&graph, &arrays, &tensors, &oracle, tolerance);

    let device = CpuDevice::new(Some(2)).unwrap();
    let plan = device.plan(&graph, PlanOptions::default());
    verify_disjoint(&plan).unwrap();
    let mut executable = device.load(plan, &tensors).unwrap();
    for (name, array) in &arrays {
        if !executable.has(name) || tensors.contains_key(name) {
            continue;
        }
        if graph.ty(graph.leaf_named(name).unwrap()).dtype == DType::I32 {
            let values: Vec<i32> = array.data.iter().map(|&v| v as i32).collect();
            executable.write_i32(name, &values).unwrap();
        } else {
            let values: Vec<f32> = array.data.iter().map(|&v| v as f32).collect();
            executable.write(name, &values).unwrap();
        }
    }
    executable.poison();
    executable.run();
    let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|&v| f64::from(v)).collect() };
    let mut compared = 0;
    for name in arrays.keys() {
        let leaf = graph.leaf_named(name).unwrap();
        let Some(want) = oracle.updated(leaf) else {
            continue;
        };
        compared += 1;
        if graph.ty(leaf).dtype == DType::I32 {
            let got = executable.read_i32(name).unwrap().iter();
            let got: Vec<f64> = got.map(|&v| f64::from(v)).collect();
            assert_eq!(got, want.data, "{name}");
        } else {
            let error = relative_error(&wide(executable.read(name).unwrap()), &want.data);
            assert!(
                error <= tolerance,
                "{name}: CPU differs from f64 by {error:e}"
            );
        }
    }
    for (name, value) in graph.outputs() {
        compared += 1;
        let error = relative_error(
            &wide(executable.output(name).unwrap()),
            &oracle.get(*value).data,
        );
        assert!(
            error <= tolerance,
            "{name}: CPU differs from f64 by {error:e}"
        );
    }
    assert!(compared > 0, "the graph updates nothing");
}

/// At most this many elements of each parameter are perturbed.
const PERTURBED: usize = 48;

fn finite_differences(
    graph: &Graph,
    loss: Value,
    wrt: &[(String, Value)],
    grads: &[Option<Value>],
    arrays: &mut HashMap<String, Array>,
    oracle: &Evaluation,
) {
    const STEP: f64 = 1e-5;
    for ((name, _), grad) in wrt.iter().zip(grads) {
        let len = arrays[name].data.len();
        let stride = len.div_ceil(PERTURBED).max(1);
        let (mut numeric, mut analytic) = (Vec::new(), Vec::new());
        for i in (0..len).step_by(stride) {
            let original = arrays[name].data[i];
            let mut at = |x: f64| {
                arrays.get_mut(name).expect("known").data[i] = x;
                Evaluation::run_to(graph, arrays, loss).get(loss).data[0]
            };
            let difference = at(original + STEP) - at(original - STEP);
            at(original);
            numeric.push(difference / (2.0 * STEP));
            analytic.push(grad.map_or(0.0, |g| oracle.get(g).data[i]));
        }
        let norm = numeric.iter().map(|v| v * v).sum::<f64>().sqrt();
        let error = relative_error(&analytic, &numeric);
        assert!(
            error < 1e-6 || (error * norm) < 1e-8,
            "gradient of '{name}' differs from finite differences by {error:e}:\n{analytic:?}\n{numeric:?}"
        );
    }
}
