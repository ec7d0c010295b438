//! What a convolution does beside its product: statistics, and concatenated operands.

use super::tile::{FORCED, TILES, Tile};
use crate::compile::Precision;
use crate::compile::{PlanOptions, passes::precision::reduce_all};
use crate::device::Executable;
use crate::device::cuda::{CudaDevice, CudaOptions};
use crate::graph::{Graph, Value};
use crate::ops::{Conv2d, GroupNormStats};
use crate::tensor::{DType, Tensor, TensorMap};
use crate::testing::{emulated_gpu, hashed, relative_error};

const EPS: f32 = 1e-5;

/// A convolution of stride 1 that keeps the map, and the statistics of its result.
#[derive(Clone, Copy, Debug)]
struct Layer {
    x: [usize; 4],
    outputs: usize,
    kernel: usize,
    groups: usize,
    residual: bool,
    /// Added to every number of the result.
    mean: f32,
}

fn layer(x: [usize; 4], outputs: usize, groups: usize, kernel: usize) -> Layer {
    Layer {
        x,
        outputs,
        kernel,
        groups,
        residual: false,
        mean: 0.0,
    }
}

impl Layer {
    fn graph(&self) -> Graph {
        let mut g = Graph::new();
        let leaf = |g: &mut Graph, name: &str, shape: &[usize]| -> Value {
            g.parameter(name, shape).unwrap()
        };
        let [n, h, w, channels] = self.x;
        let kernel = self.kernel;
        let mut inputs = vec![
            leaf(&mut g, "x", &self.x),
            leaf(&mut g, "w", &[self.outputs, channels, kernel, kernel]),
            leaf(&mut g, "bias", &[self.outputs]),
        ];
        if self.residual {
            inputs.push(leaf(&mut g, "residual", &[n, h, w, self.outputs]));
        }
        let op = Conv2d {
            stride: 1,
            padding: [kernel / 2; 2],
            upsample: false,
            bias: true,
            residual: self.residual,
            concat: false,
            stats: Some(GroupNormStats {
                groups: self.groups,
                eps: EPS,
            }),
        };
        let results = g.node(op, &inputs).unwrap();
        g.output("y", results[0]);
        g.output("stats", results[1]);
        g
    }

    fn weights(&self, graph: &Graph) -> TensorMap {
        let values = |name: &str, len: usize| -> Vec<f32> {
            let mean = if name == "bias" { self.mean } else { 0.0 };
            hashed(name, len).iter().map(|&v| v as f32 + mean).collect()
        };
        graph
            .parameters()
            .map(|(name, value)| {
                let ty = graph.ty(value);
                let tensor = Tensor::from_f32(ty.shape.clone(), &values(name, ty.len()));
                (name.to_owned(), tensor)
            })
            .collect()
    }

    /// Result and statistics, and whether these took a pass of their own.
    fn run(&self, device: &CudaDevice, weights: &TensorMap) -> (Vec<f32>, Vec<f32>, bool) {
        let options = PlanOptions {
            reuse: false,
            in_place: false,
        };
        let plan = device.plan(&device.lower(&self.graph()), options);
        let launches = device.launches(&plan).unwrap();
        let own_pass = launches.iter().any(|l| l.entry() == "group_norm_stats");
        let mut executable = device.load(plan, weights).unwrap();
        executable
            .run()
            .unwrap_or_else(|error| panic!("{self:?}: {error}"));
        let [y, stats] = ["y", "stats"].map(|name| executable.output(name).unwrap());
        (y, stats, own_pass)
    }

    /// The statistics of sample `n` and group `g` of `y`, in f64.
    fn statistics_of(&self, y: &[f32], n: usize, g: usize) -> (f64, f64) {
        let size = self.outputs / self.groups;
        let sample = y.len() / self.x[0];
        let rows = y[n * sample..(n + 1) * sample].chunks(self.outputs);
        let group = |row: &[f32]| row[g * size..(g + 1) * size].to_vec();
        let values: Vec<f64> = rows.flat_map(group).map(f64::from).collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares = values.iter().map(|v| (v - mean).powi(2));
        (mean, (squares.sum::<f64>() / count).sqrt())
    }

    /// Compares the statistics with those of the result as it is stored.
    fn check(&self, device: &CudaDevice, own_pass: bool) {
        let (y, stats, passed) = self.run(device, &self.weights(&self.graph()));
        let by = FORCED.get();
        assert_eq!(passed, own_pass, "{self:?} by {by:?}");
        for (index, got) in stats.chunks_exact(2).enumerate() {
            let (n, g) = (index / self.groups, index % self.groups);
            let (mean, deviation) = self.statistics_of(&y, n, g);
            let rstd = 1.0 / (deviation.powi(2) + f64::from(EPS)).sqrt();
            let [got_mean, got_rstd] = [got[0], got[1]].map(f64::from);
            // The mean is one rounding off, and what sums of differences from a number near it lose.
            let bound = 2f64.powi(-23) * mean.abs() + 1e-6 * deviation;
            assert!(
                (got_mean - mean).abs() <= bound && (got_rstd / rstd - 1.0).abs() <= 1e-5,
                "{self:?} by {by:?}, sample {n}, group {g}: {got:?} instead of {mean} and {rstd}"
            );
        }
    }
}

fn device(precision: Precision, deterministic: bool) -> Option<CudaDevice> {
    Some(emulated_gpu()?.with(CudaOptions {
        precision,
        deterministic,
        capture: false,
        isolate: true,
        ..CudaOptions::default()
    }))
}

/// In each tile: groups narrower than a warp's columns and as wide as several tiles, a tile that the channels do not fill.
#[test]
fn statistics_are_those_of_what_is_stored() {
    let Some(device) = device(Precision::F16, false) else {
        return;
    };
    let fitting = [
        layer([1, 16, 16, 8], 64, 8, 3),
        layer([3, 8, 16, 16], 256, 32, 1),
        layer([2, 16, 8, 8], 256, 1, 3),
        layer([1, 16, 8, 24], 96, 3, 1),
        layer([2, 8, 16, 8], 256, 4, 1),
    ];
    for (index, layer) in fitting.into_iter().enumerate() {
        for tile in TILES {
            FORCED.set(Some((tile, 1)));
            let residual = index % 2 == 1;
            let layer = Layer { residual, ..layer };
            layer.check(&device, false);
            // Numbers of f16 about 1000 are half a unit apart.
            Layer {
                mean: 1000.0,
                ..layer
            }
            .check(&device, false);
        }
    }
    FORCED.set(None);
}

/// If a tile has two samples or parts of several groups, if there is split-K, or if tensor cores do not take the convolution.
#[test]
fn other_statistics_are_a_pass_within_the_step() {
    let Some(gpu) = device(Precision::F16, false) else {
        return;
    };
    let [large, tall] = [TILES[0], TILES[1]];
    let cases: [(Layer, Option<(Tile, usize)>); 6] = [
        (layer([3, 5, 7, 8], 64, 8, 3), Some((large, 1))),
        (layer([3, 8, 8, 8], 64, 8, 3), Some((tall, 1))),
        (layer([1, 16, 16, 8], 48, 2, 3), Some((tall, 1))),
        (layer([1, 16, 8, 8], 32, 8, 3), Some((large, 1))),
        (layer([1, 16, 16, 64], 64, 8, 3), Some((tall, 3))),
        (layer([1, 16, 16, 3], 64, 8, 3), None),
    ];
    for (layer, forced) in cases {
        FORCED.set(forced);
        layer.check(&gpu, true);
    }
    FORCED.set(None);
    let gpu = gpu.with(CudaOptions::default());
    layer([1, 9, 7, 16], 32, 1, 3).check(&gpu, true);
}

#[test]
fn statistics_of_every_precision() {
    let layer = Layer {
        residual: true,
        ..layer([1, 16, 16, 16], 64, 8, 3)
    };
    for precision in [Precision::BF16, Precision::F16Fast] {
        let Some(device) = device(precision, false) else {
            return;
        };
        for tile in TILES {
            FORCED.set(Some((tile, 1)));
            layer.check(&device, false);
        }
    }
    FORCED.set(None);
}

#[test]
fn an_image_has_the_same_statistics_in_any_batch() {
    let Some(device) = device(Precision::F16, true) else {
        return;
    };
    let run = |batch: usize| -> Vec<u32> {
        let layer = layer([batch, 16, 16, 16], 64, 8, 3);
        let mut weights = layer.weights(&layer.graph());
        // The last image is the same in every batch.
        let image: Vec<f32> = hashed("image", 16 * 16 * 16)
            .iter()
            .map(|&v| v as f32)
            .collect();
        let mut x = weights["x"].to_f32().unwrap().into_owned();
        let first = x.len() - image.len();
        x[first..].copy_from_slice(&image);
        weights.insert("x".to_owned(), Tensor::from_f32(layer.x, &x));
        let (_, stats, own_pass) = layer.run(&device, &weights);
        assert!(!own_pass, "batch {batch}");
        stats[stats.len() - 16..]
            .iter()
            .map(|v| v.to_bits())
            .collect()
    };
    let alone = run(1);
    for batch in [3, 8] {
        assert_eq!(run(batch), alone, "batch {batch}");
    }
}

#[test]
fn nan_shows_in_the_statistics_of_its_group_alone() {
    let Some(device) = device(Precision::F16, false) else {
        return;
    };
    let layer = layer([1, 16, 16, 8], 64, 8, 1);
    let mut weights = layer.weights(&layer.graph());
    let mut bias = weights["bias"].to_f32().unwrap().into_owned();
    bias[63] = f32::NAN;
    weights.insert("bias".to_owned(), Tensor::from_f32([64], &bias));
    let (_, stats, own_pass) = layer.run(&device, &weights);
    let (rest, last) = stats.split_at(14);
    assert!(!own_pass);
    assert!(last.iter().all(|v| v.is_nan()), "{last:?}");
    assert!(rest.iter().all(|v| v.is_finite()), "{rest:?}");
}

/// A convolution of the channels of two arrays.
#[derive(Clone, Copy, Debug)]
struct Concatenated {
    map: [usize; 3],
    channels: [usize; 2],
    outputs: usize,
    kernel: usize,
    stride: usize,
    upsample: bool,
}

fn concat(map: [usize; 3], channels: [usize; 2], outputs: usize, kernel: usize) -> Concatenated {
    Concatenated {
        map,
        channels,
        outputs,
        kernel,
        stride: 1,
        upsample: false,
    }
}

impl Concatenated {
    /// The convolution reads the two arrays, or what a concatenation makes of them.
    fn graph(&self, concat: bool) -> Graph {
        let mut g = Graph::new();
        let ([n, h, w], kernel) = (self.map, self.kernel);
        let [first, last] = self.channels.map(|channels| [n, h, w, channels]);
        let [a, b] =
            [("a", first), ("b", last)].map(|(name, shape)| g.parameter(name, shape).unwrap());
        let shape = [self.outputs, first[3] + last[3], kernel, kernel];
        let filter = g.parameter("w", shape).unwrap();
        let op = Conv2d {
            stride: self.stride,
            padding: [kernel / 2; 2],
            upsample: self.upsample,
            bias: false,
            residual: false,
            concat,
            stats: None,
        };
        let y = if concat {
            g.apply(op, &[a, filter, b])
        } else {
            let x = g.concat(&[a, b]).unwrap();
            g.apply(op, &[x, filter])
        };
        g.output("y", y.unwrap());
        g
    }

    /// Compares the two ways; `copies` says whether the one that reads two has to copy them first.
    fn check(&self, device: &CudaDevice, copies: bool) {
        let run = |concat: bool| -> (Vec<f64>, bool) {
            let graph = self.graph(concat);
            let weights = graph.parameters().map(|(name, value)| {
                let ty = graph.ty(value);
                let values: Vec<f32> = hashed(name, ty.len()).iter().map(|&v| v as f32).collect();
                (name.to_owned(), Tensor::from_f32(ty.shape.clone(), &values))
            });
            // Without the rewrite that would join the concatenation too.
            let lowered = match device.options().precision.storage() {
                DType::F32 => graph.clone(),
                reduced => reduce_all(&graph, reduced),
            };
            let options = PlanOptions {
                reuse: false,
                in_place: false,
            };
            let plan = device.plan(&lowered, options);
            let launches = device.launches(&plan).unwrap();
            let copied = launches.iter().any(|l| l.entry().starts_with("copy"));
            let mut executable = device.load(plan, &weights.collect()).unwrap();
            executable
                .run()
                .unwrap_or_else(|error| panic!("{self:?}: {error}"));
            let y = executable.output("y").unwrap();
            (y.into_iter().map(f64::from).collect(), copied)
        };
        let (got, copied) = run(true);
        let (want, _) = run(false);
        let error = relative_error(&got, &want);
        let by = FORCED.get();
        assert_eq!(copied, copies, "{self:?} by {by:?}");
        // Sums in another order are rounded to the same number or now and then its neighbour; those in f16 are off by two
        // roundings either way, as in `tensor::tests`.
        let precision = device.options().precision;
        let bound = match precision {
            Precision::BF16 => 2f64.powi(-8),
            Precision::F16Fast => 2f64.powi(-9),
            Precision::F16 | Precision::F32 => 2f64.powi(-11),
        };
        assert!(
            error <= bound,
            "{self:?} in {precision} by {by:?}: {error:e}"
        );
    }
}

#[test]
fn channels_of_two_arrays_are_read_where_they_are() {
    let Some(device) = device(Precision::F16, false) else {
        return;
    };
    let strided = Concatenated {
        stride: 2,
        ..concat([2, 9, 7], [24, 8], 40, 3)
    };
    for case in [
        concat([1, 1, 1], [8, 8], 8, 1),
        concat([3, 5, 7], [8, 120], 24, 3),
        concat([1, 6, 9], [136, 16], 72, 3),
        concat([1, 9, 8], [64, 64], 136, 1),
        concat([3, 4, 4], [40, 8], 16, 1),
        strided,
    ] {
        for tile in TILES {
            // Splits of k begin in both arrays and between them.
            for splits in [1, 3] {
                FORCED.set(Some((tile, splits)));
                case.check(&device, false);
            }
        }
    }
    FORCED.set(None);
    for precision in [Precision::BF16, Precision::F16Fast] {
        let device = device.with(CudaOptions {
            precision,
            ..device.options()
        });
        concat([1, 7, 9], [72, 24], 40, 3).check(&device, false);
    }
}

/// Channels that are not whole 16-byte copies, windows of too many taps, several phases, and plain kernels.
#[test]
fn other_arrays_are_concatenated_within_the_step() {
    let Some(gpu) = device(Precision::F16, false) else {
        return;
    };
    let upsample = Concatenated {
        upsample: true,
        ..concat([1, 5, 6], [8, 16], 24, 3)
    };
    for case in [
        concat([2, 5, 3], [12, 20], 16, 3),
        concat([1, 7, 6], [8, 8], 8, 5),
        upsample,
    ] {
        case.check(&gpu, true);
    }
    let gpu = gpu.with(CudaOptions::default());
    concat([3, 5, 7], [8, 16], 24, 3).check(&gpu, true);
}

#[test]
fn a_convolution_of_two_arrays_leaves_statistics_too() {
    let Some(device) = device(Precision::F16, false) else {
        return;
    };
    let case = concat([2, 16, 16], [16, 24], 64, 3);
    let stats = GroupNormStats {
        groups: 8,
        eps: EPS,
    };
    let both = |join: bool| -> Vec<f64> {
        let mut g = case.graph(join);
        let y = g.outputs()[0].1;
        let node = g.producer(y).expect("a convolution").clone();
        let (op, inputs) = (
            *node.op.get::<Conv2d>().expect("a convolution"),
            node.inputs,
        );
        let stats = Some(stats);
        let results = g.node(Conv2d { stats, ..op }, &inputs).unwrap();
        g.output("stats", results[1]);
        let weights = g.parameters().map(|(name, value)| {
            let ty = g.ty(value);
            let values: Vec<f32> = hashed(name, ty.len()).iter().map(|&v| v as f32).collect();
            (name.to_owned(), Tensor::from_f32(ty.shape.clone(), &values))
        });
        let plan = device.plan(&reduce_all(&g, DType::F16), PlanOptions::default());
        let mut executable = device.load(plan, &weights.collect()).unwrap();
        executable.run().unwrap();
        let stats = executable.output("stats").unwrap();
        stats.into_iter().map(f64::from).collect()
    };
    let error = relative_error(&both(true), &both(false));
    assert!(error <= 1e-4, "{error:e}");
}
