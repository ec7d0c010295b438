//! Every tile against the `f64` oracle, and which tile and split-K are chosen.

use std::collections::HashMap;

use super::super::tile::{FORCED, clocks};
use super::*;
use crate::compile::{PlanOptions, Precision};
use crate::device::Executable;
use crate::device::cuda::CudaOptions;
use crate::device::reference::{Array, Evaluation};
use crate::graph::Graph;
use crate::kernel::cuda::Target;
use crate::ops::cast::rounded as round;
use crate::ops::conv2d::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad, ConvGeometry};
use crate::tensor::{DType, Tensor, TensorMap};
use crate::testing::{emulated_gpu, hashed, relative_error};

#[derive(Clone, Copy, Debug)]
struct Case {
    x: [usize; 4],
    outputs: usize,
    kernel: [usize; 2],
    stride: usize,
    padding: [usize; 2],
    upsample: bool,
}

const fn case(
    x: [usize; 4],
    outputs: usize,
    kernel: [usize; 2],
    stride: usize,
    padding: [usize; 2],
) -> Case {
    Case {
        x,
        outputs,
        kernel,
        stride,
        padding,
        upsample: false,
    }
}

fn target(deterministic: bool) -> Target {
    Target {
        multiprocessors: 82,
        capability: (8, 6),
        shared_bytes_per_block: 99 << 10,
        fast_accumulate: false,
        deterministic,
    }
}

fn layer(batch: usize, side: usize, channels: [usize; 2], deterministic: bool) -> Gemm {
    let geometry = ConvGeometry {
        batch,
        height: side,
        width: side,
        in_channels: channels[0],
        out_channels: channels[1],
        kernel: [3, 3],
        stride: 1,
        padding: [1, 1],
        upsample: false,
    };
    let problem = Problem {
        geometry,
        dtype: DType::F16,
        bias: true,
        residual: false,
        concat_channels: 0,
        stats: None,
        target: target(deterministic),
    };
    Gemm::new(&problem, Direction::Forward).unwrap()
}

const PAPER_LAYERS: [(usize, [usize; 2]); 7] = [
    (32, [256, 256]),
    (32, [512, 256]),
    (16, [512, 512]),
    (16, [1024, 512]),
    (8, [512, 1024]),
    (8, [1024, 1024]),
    (8, [2048, 1024]),
];

#[test]
fn splits_do_not_depend_on_the_batch_if_bits_may_not() {
    for (side, channels) in PAPER_LAYERS {
        let splits = |batch| layer(batch, side, channels, true).split_k;
        assert_eq!(splits(1), splits(3), "{side} {channels:?}");
        assert_eq!(splits(1), splits(8), "{side} {channels:?}");
    }
}

#[test]
fn moments_do_not_depend_on_the_batch_if_bits_may_not() {
    for (side, channels, groups) in [(64, 256, 8), (128, 128, 8), (256, 64, 8), (32, 512, 32)] {
        let tile = |batch| {
            let alone = layer(batch, side, [channels, channels], true);
            let stats = GroupNormStats { groups, eps: 1e-5 };
            let problem = Problem {
                stats: Some(stats),
                ..alone.problem
            };
            let gemm = Gemm::new(&problem, Direction::Forward).unwrap();
            (gemm.tile, gemm.split_k, gemm.stats.is_some())
        };
        assert_eq!(tile(1), tile(3), "{side} {channels}");
        assert_eq!(tile(1), tile(8), "{side} {channels}");
    }
}

/// The products of the paper's layers alone take at least half the clocks that a choice is expected to take.
#[test]
fn the_papers_layers_fill_the_gpu() {
    let target = target(false);
    for (side, channels) in PAPER_LAYERS {
        for (batch, least) in [(1, 0.5), (8, 0.7)] {
            let gemm = layer(batch, side, channels, false);
            let product = GemmExtents {
                m: batch * side * side,
                n: channels[1],
                k: 9 * channels[0],
            };
            let products = product.m * product.n * product.k;
            let least_clocks = products / 256 / target.multiprocessors as usize;
            let share =
                least_clocks as f64 / clocks(&gemm.tile, gemm.split_k, &[product], &target) as f64;
            assert!(
                share >= least,
                "batch {batch}, {side}x{side}, {channels:?}: {share:.2} by {:?} and {} splits",
                gemm.tile,
                gemm.split_k
            );
        }
    }
}

/// Runs the convolution and both gradients, in memory of their own, and compares them with the `f64` oracle: within
/// twice what the oracle loses by rounding activations and filter, and for sums in f16 two of the roundings to 2^-11
/// that each of a chunk's four products may add.
fn check(case: &Case, precision: Precision) {
    let Some(gpu) = emulated_gpu() else { return };
    let device = gpu.with(CudaOptions {
        precision,
        capture: false,
        isolate: true,
        ..CudaOptions::default()
    });
    let Case {
        x,
        outputs,
        kernel,
        stride,
        padding,
        upsample,
    } = *case;
    let mut graph = Graph::new();
    let op = Conv2d {
        stride,
        padding,
        upsample,
        bias: true,
        residual: true,
        concat: false,
        stats: None,
    };
    let y = op.windows().output([x[1], x[2]], kernel).unwrap();
    let y = [x[0], y[0], y[1], outputs];
    let w_shape = [outputs, x[3], kernel[0], kernel[1]];
    let leaf = |graph: &mut Graph, name: &str, shape: &[usize]| {
        graph.parameter(name, shape.to_vec()).unwrap()
    };
    let input = leaf(&mut graph, "x", &x);
    let w = leaf(&mut graph, "w", &w_shape);
    let bias = leaf(&mut graph, "bias", &[outputs]);
    let dy = leaf(&mut graph, "dy", &y);
    let result = graph.apply(op, &[input, w, bias, dy]).unwrap();
    graph.output("y", result);
    let input_grad = Conv2dInputGrad {
        stride,
        padding,
        upsample,
        height: x[1],
        width: x[2],
        residual: true,
    };
    let dx = graph.apply(input_grad, &[dy, w, input]).unwrap();
    graph.output("dx", dx);
    let weight_grad = Conv2dWeightGrad {
        stride,
        padding,
        upsample,
        kernel,
    };
    let dw = graph.apply(weight_grad, &[input, dy]).unwrap();
    graph.output("dw", dw);

    let mut arrays = HashMap::new();
    let mut tensors = TensorMap::new();
    for (name, value) in graph.parameters() {
        let (shape, values) = (
            graph.shape(value).to_vec(),
            hashed(name, graph.ty(value).len()),
        );
        let narrow: Vec<f32> = values.iter().map(|&v| v as f32).collect();
        tensors.insert(name.to_owned(), Tensor::from_f32(shape.clone(), &narrow));
        arrays.insert(name.to_owned(), Array::new(shape, values));
    }
    let oracle = Evaluation::run(&graph, &arrays);
    let lowered = device.lower(&graph);
    let mut packed = arrays.clone();
    let filter = packed.get_mut("w").expect("the filter");
    for value in &mut filter.data {
        *value = round(*value, precision.storage());
    }
    let rounded = Evaluation::run(&lowered, &packed);
    let plan = device.plan(
        &lowered,
        PlanOptions {
            reuse: false,
            in_place: false,
        },
    );
    let mut executable = device.load(plan, &tensors).unwrap();
    // Twice, because counters of splits have to be ready again.
    for _ in 0..2 {
        executable
            .run()
            .unwrap_or_else(|error| panic!("{case:?} {precision}: {error}"));
        for ((name, value), (_, lowered)) in graph.outputs().iter().zip(lowered.outputs()) {
            let got = executable.output(name).unwrap();
            let got: Vec<f64> = got.iter().map(|&v| f64::from(v)).collect();
            let want = &oracle.get(*value).data;
            let error = relative_error(&got, want);
            let fast = match precision {
                Precision::F16Fast => 2.0 * 2f64.powi(-11),
                _ => 0.0,
            };
            let bound = 1e-5 + fast + 2.0 * relative_error(&rounded.get(*lowered).data, want);
            assert!(
                error <= bound,
                "{name} of {case:?} in {precision} by {:?} differs from f64 by {error:e}, allowed {bound:e}",
                FORCED.get()
            );
        }
        executable.poison().unwrap();
    }
}

fn check_all(cases: &[Case], precisions: &[Precision], forced: Option<(Tile, usize)>) {
    FORCED.set(forced);
    for case in cases {
        for &precision in precisions {
            check(case, precision);
        }
    }
    FORCED.set(None);
}

#[test]
fn awkward_shapes() {
    let up = |case: Case| Case {
        upsample: true,
        ..case
    };
    let cases = [
        case([1, 1, 1, 8], 8, [1, 1], 1, [0, 0]),
        case([1, 1, 1, 8], 16, [3, 3], 1, [1, 1]),
        case([3, 5, 7, 16], 24, [3, 3], 1, [1, 1]),
        case([1, 5, 6, 72], 40, [3, 3], 1, [1, 1]),
        case([2, 4, 5, 40], 8, [1, 1], 1, [0, 0]),
        case([2, 7, 6, 16], 8, [3, 3], 2, [1, 1]),
        case([1, 8, 9, 8], 16, [3, 3], 2, [0, 0]),
        case([1, 6, 5, 8], 8, [1, 1], 2, [0, 0]),
        case([1, 8, 6, 8], 8, [4, 4], 2, [1, 1]),
        case([1, 6, 9, 8], 16, [1, 7], 1, [0, 3]),
        case([1, 9, 5, 16], 8, [7, 1], 1, [3, 0]),
        case([1, 5, 5, 8], 8, [5, 5], 1, [2, 2]),
        up(case([2, 3, 4, 16], 24, [3, 3], 1, [1, 1])),
        up(case([1, 1, 1, 8], 8, [3, 3], 1, [1, 1])),
        // One phase through an even stride, and the two of its input gradient.
        up(case([2, 5, 4, 8], 16, [3, 3], 2, [1, 1])),
        up(case([1, 5, 6, 8], 8, [4, 3], 4, [2, 1])),
    ];
    check_all(
        &cases,
        &[Precision::F16, Precision::BF16, Precision::F16Fast],
        None,
    );
}

#[test]
fn every_tile_with_and_without_splits() {
    let cases = [
        case([3, 7, 9, 24], 136, [3, 3], 1, [1, 1]),
        case([1, 5, 7, 72], 24, [1, 1], 1, [0, 0]),
        case([2, 9, 7, 16], 40, [3, 3], 2, [1, 1]),
    ];
    for tile in TILES {
        for splits in [1, 3] {
            let precisions = [Precision::F16, Precision::F16Fast];
            check_all(&cases, &precisions, Some((tile, splits)));
        }
    }
}
