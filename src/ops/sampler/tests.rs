use std::collections::HashMap;

use super::{COEFFICIENTS, FreshNoise, Prediction, SamplerStep};
use crate::compile::PlanOptions;
use crate::compile::Precision;
use crate::device::cuda::CudaOptions;
use crate::device::{Device, DeviceChoice, Executable};
use crate::graph::{Graph, GraphError};
use crate::kernel::reference::Array;
use crate::tensor::philox::{RandomStream, seed_words};
use crate::tensor::{DType, TensorMap};
use crate::testing::{check_updates, emulated_gpu, hashed};

const PHILOX: FreshNoise = FreshNoise::Philox(RandomStream::SamplerNoise);

/// Positive coefficients, so that the divisor stays away from zero.
fn coefficients() -> Vec<f32> {
    let values = hashed("table", 3 * COEFFICIENTS);
    values.iter().map(|v| (0.75 + 0.5 * v) as f32).collect()
}

/// Every combination of flags, each without noise, with noise from a value and with noise from the generator.
fn every_op() -> impl Iterator<Item = SamplerStep> {
    let noises = [FreshNoise::None, FreshNoise::Given, PHILOX];
    noises.into_iter().flat_map(|noise| {
        (0..16u32).map(move |flags| {
            let on = |bit: u32| flags >> bit & 1 == 1;
            SamplerStep {
                prediction: if on(0) {
                    Prediction::Sample
                } else {
                    Prediction::Noise
                },
                clip: on(1),
                guidance: on(2),
                learned_variance: on(3),
                noise,
            }
        })
    })
}

/// A step of samples of `shape`; with `apart`, an op of its own draws the generator's numbers.
fn step(g: &mut Graph, op: SamplerStep, shape: &[usize], apart: bool) -> Result<(), GraphError> {
    let mut wide = shape.to_vec();
    wide[0] *= 1 + usize::from(op.guidance);
    wide[3] *= 1 + usize::from(op.learned_variance);
    let x = g.state("x", shape, DType::F32)?;
    let p = g.input("p", wide, DType::F32)?;
    let table = g.state("table", [3, COEFFICIENTS], DType::F32)?;
    let k = g.state("k", [1], DType::I32)?;
    let mut op = op;
    let noise = match op.noise {
        FreshNoise::None => vec![],
        FreshNoise::Given => vec![g.input("z", shape, DType::F32)?],
        FreshNoise::Philox(purpose) => {
            let seed = g.input("seed", [2], DType::I32)?;
            let images = g.input("images", [shape[0]], DType::I32)?;
            match apart {
                true => {
                    op.noise = FreshNoise::Given;
                    vec![g.philox_normal(purpose, seed, images, k, &shape[1..])?]
                }
                false => vec![seed, images],
            }
        }
    };
    let estimates = g.sampler_step(op, x, p, table, k, &noise)?;
    g.output("x_0", estimates.x_0);
    g.output("eps", estimates.noise);
    Ok(())
}

/// Shapes with odd extents; in the second samples do not divide by four, but their number does.
const SHAPES: [[usize; 4]; 4] = [[1, 1, 1, 1], [4, 5, 7, 3], [3, 5, 7, 3], [2, 60, 61, 4]];

#[test]
fn steps_match_the_formula_in_f64() {
    let table: Vec<f64> = coefficients().iter().map(|&v| f64::from(v)).collect();
    for op in every_op() {
        for shape in SHAPES {
            let images = [0.0, 7.0, -1.0, 2.0][..shape[0]].to_vec();
            let leaves = HashMap::from([
                ("k".to_owned(), Array::new([1], vec![1.0])),
                (
                    "table".to_owned(),
                    Array::new([3, COEFFICIENTS], table.clone()),
                ),
                ("seed".to_owned(), Array::new([2], vec![5.0, -3.0])),
                ("images".to_owned(), Array::new([shape[0]], images)),
            ]);
            check_updates(|g| step(g, op, &shape, false), &leaves, 1e-6);
        }
    }
}

/// Three steps of a trajectory on `exe`: the sample after each, and the counter at the end.
fn walk<E: Executable + ?Sized>(exe: &mut E, op: SamplerStep, shape: &[usize]) -> (Vec<u32>, i32) {
    let len: usize = shape.iter().product();
    let values = |name: &str, len: usize| -> Vec<f32> {
        hashed(name, len).iter().map(|&v| v as f32).collect()
    };
    let predicted = len * (1 + usize::from(op.guidance)) * (1 + usize::from(op.learned_variance));
    exe.write("x", &values("x", len)).unwrap();
    exe.write("p", &values("p", predicted)).unwrap();
    exe.write("table", &coefficients()).unwrap();
    exe.write_i32("k", &[0]).unwrap();
    exe.write_i32("seed", &seed_words(0xfedc_ba98_7654_3210))
        .unwrap();
    exe.write_i32("images", &[7, -1, 2, 0x4000_0000][..shape[0]])
        .unwrap();
    let mut bits = Vec::new();
    for _ in 0..3 {
        exe.run().unwrap();
        bits.extend(exe.read("x").unwrap().iter().map(|v| v.to_bits()));
    }
    (bits, exe.read_i32("k").unwrap()[0])
}

#[test]
fn noise_made_in_the_step_has_the_bits_of_noise_made_apart() {
    let cpu = Device::builder()
        .choice(DeviceChoice::Cpu)
        .threads(2)
        .open()
        .unwrap();
    let ops: Vec<SamplerStep> = every_op().filter(|op| op.noise == PHILOX).collect();
    for shape in SHAPES {
        for &op in &ops {
            let run = |apart: bool| {
                let mut g = Graph::new();
                step(&mut g, op, &shape, apart).unwrap();
                let executable = cpu.load(cpu.compile(&g), &TensorMap::new());
                walk(&mut *executable.unwrap(), op, &shape)
            };
            let (bits, counter) = run(false);
            assert_eq!(counter, 3);
            assert!((bits, counter) == run(true), "CPU, {op:?} {shape:?}");
        }
        let Some(gpu) = emulated_gpu() else { continue };
        // Without and with a variance, which has a path of its own.
        for op in [ops[0], ops[8]] {
            for precision in [Precision::F32, Precision::F16] {
                let gpu = gpu.with(CudaOptions {
                    precision,
                    ..CudaOptions::default()
                });
                let run = |apart: bool| {
                    let mut g = Graph::new();
                    step(&mut g, op, &shape, apart).unwrap();
                    let plan = gpu.plan(&gpu.lower(&g), PlanOptions::default());
                    walk(&mut gpu.load(plan, &TensorMap::new()).unwrap(), op, &shape)
                };
                let (bits, counter) = run(false);
                assert_eq!(counter, 3);
                assert!(
                    (bits, counter) == run(true),
                    "{precision}, {op:?} {shape:?}"
                );
            }
        }
    }
}

#[test]
fn a_prediction_of_the_wrong_size_is_named() {
    let mut g = Graph::new();
    let x = g.state("x", [1, 2, 2, 4], DType::F32).unwrap();
    let p = g.input("p", [1, 2, 2, 8], DType::F32).unwrap();
    let table = g.state("table", [3, COEFFICIENTS], DType::F32).unwrap();
    let k = g.state("k", [1], DType::I32).unwrap();
    let op = SamplerStep {
        prediction: Prediction::Noise,
        clip: false,
        guidance: true,
        learned_variance: false,
        noise: FreshNoise::None,
    };
    let error = g.sampler_step(op, x, p, table, k, &[]).unwrap_err();
    assert!(
        error.to_string().contains("prediction f32[2, 2, 2, 4]"),
        "{error}"
    );
}
