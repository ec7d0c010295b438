use std::collections::HashMap;

use super::{GroupNorm, GroupNormGradSums, GroupNormInputGrad, GroupNormStats};
use crate::device::Executable;
use crate::device::reference::{Array, Evaluation};
use crate::graph::{Graph, GraphError, Source, Value};
use crate::tensor::{DType, TensorMap};
use crate::testing::{check, check_cuda, check_nan_shows, check_with, emulated_gpu, hashed};

fn fused(
    g: &mut Graph,
    shape: &[usize],
    op: GroupNorm,
    in_place: bool,
) -> Result<Value, GraphError> {
    let mut x = g.parameter("x", shape)?;
    if in_place {
        // A value of the arena that dies here, unlike a parameter.
        x = g.scale(x, 2.0)?;
    }
    let (groups, eps) = (op.groups, 1e-5);
    let stats = g.apply(GroupNormStats { groups, eps }, &[x])?;
    let channels = *shape.last().unwrap();
    let mut inputs = vec![
        x,
        stats,
        g.parameter("gamma", [channels])?,
        g.parameter("beta", [channels])?,
    ];
    if op.residual {
        let residual = g.parameter("residual", shape)?;
        inputs.push(if in_place {
            g.scale(residual, 0.5)?
        } else {
            residual
        });
    }
    if op.embed {
        inputs.push(g.parameter("embed", [shape[0], channels])?);
    }
    g.apply(op, &inputs)
}

#[test]
fn values_and_gradients_with_every_epilogue() {
    for (index, (shape, groups)) in [
        (vec![1, 1, 1, 8], 1),
        (vec![3, 1, 1, 32], 8),
        (vec![2, 5, 7, 3], 1),
        (vec![3, 3, 5, 8], 8),
        (vec![1, 4, 4, 20], 4),
        (vec![2, 6, 5, 33], 3),
        (vec![2, 3, 4, 96], 32),
        (vec![2, 9, 40], 8),
        (vec![1, 2, 2, 64], 32),
    ]
    .into_iter()
    .enumerate()
    {
        for flags in 0..8 {
            let op = GroupNorm {
                groups,
                swish: flags & 1 != 0,
                residual: flags & 2 != 0,
                embed: flags & 4 != 0,
                stats: None,
            };
            check(|g| fused(g, &shape, op, (index + flags) % 2 == 0));
        }
    }
}

#[test]
fn several_pieces_and_wide_rows() {
    for swish in [false, true] {
        check(|g| {
            let op = GroupNorm {
                groups: 8,
                swish,
                residual: false,
                embed: false,
                stats: None,
            };
            fused(g, &[1, 33, 64, 32], op, false)
        });
    }
}

#[test]
fn a_large_mean_costs_no_digits() {
    let shape = vec![2, 33, 17, 24];
    let len = shape.iter().product();
    // 4096 + v/4 is exact in f32 for v of 12 bits after the point.
    let coarse = |v: f64| 4096.0 + (v * 1024.0).round() / 2048.0;
    let x: Vec<f64> = hashed("x", len).into_iter().map(coarse).collect();
    let leaves = HashMap::from([("x".to_owned(), Array::new(shape.clone(), x))]);
    let build = |g: &mut Graph| {
        let x = g.parameter("x", shape.clone())?;
        g.apply(
            GroupNormStats {
                groups: 3,
                eps: 1e-5,
            },
            &[x],
        )
    };
    let mut graph = Graph::new();
    let stats = build(&mut graph).unwrap();
    graph.output("stats", stats);
    let oracle = crate::device::reference::Evaluation::run(&graph, &leaves);
    let device = crate::device::cpu::CpuDevice::new(Some(2)).unwrap();
    let plan = device.plan(&graph, crate::compile::PlanOptions::default());
    let values: Vec<f32> = leaves["x"].data.iter().map(|&v| v as f32).collect();
    let parameters = [(
        "x".to_owned(),
        crate::tensor::Tensor::from_f32(shape.clone(), &values),
    )]
    .into();
    let mut executable = device.load(plan, &parameters).unwrap();
    executable.run();
    let compare = |got: &[f32]| {
        for (got, want) in got.iter().zip(&oracle.get(stats).data) {
            let error = (f64::from(*got) - want).abs() / want.abs();
            assert!(error < 1e-6, "{got} instead of {want}");
        }
    };
    compare(executable.output("stats").unwrap());
    if let Some(gpu) = emulated_gpu() {
        let plan = gpu.plan(&graph, crate::compile::PlanOptions::default());
        let mut executable = gpu.load(plan, &parameters).unwrap();
        executable.run().unwrap();
        compare(&executable.output("stats").unwrap());
    }
}

/// Shapes for which the kernels cut positions into slabs, groups into parts, or take single channels: forward and
/// backward ops alone.
#[test]
fn every_way_to_share_out_a_map_on_cuda() {
    for (shape, groups) in [
        (vec![2, 53, 41, 16], 2),
        (vec![1, 3, 2, 1000], 8),
        (vec![3, 5, 1000], 1),
        (vec![1, 2, 3, 2056], 1),
        (vec![2, 2200, 1], 1),
        (vec![2, 1, 1, 96], 32),
        (vec![1, 8, 8, 256], 32),
    ] {
        let mut graph = Graph::new();
        let channels = *shape.last().unwrap();
        let mut input = |name: &str, shape: &[usize]| graph.input(name, shape, DType::F32).unwrap();
        let (x, dy) = (input("x", &shape), input("dy", &shape));
        let (gamma, beta) = (input("gamma", &[channels]), input("beta", &[channels]));
        let (residual, embed) = (
            input("residual", &shape),
            input("embed", &[shape[0], channels]),
        );
        let (eps, swish) = (1e-5, true);
        let stats = graph.apply(GroupNormStats { groups, eps }, &[x]).unwrap();
        let op = GroupNorm {
            groups,
            swish,
            residual: true,
            embed: true,
            stats: None,
        };
        let y = graph
            .apply(op, &[x, stats, gamma, beta, residual, embed])
            .unwrap();
        // The first user of the statistics may compute them; this one takes them as they are.
        let plain = GroupNorm {
            groups,
            swish: false,
            residual: false,
            embed: false,
            stats: None,
        };
        let again = graph.apply(plain, &[x, stats, gamma, beta]).unwrap();
        let mut inputs = vec![x, stats, gamma, beta, dy];
        let sums = graph
            .node(GroupNormGradSums { groups, swish }, &inputs)
            .unwrap();
        inputs.extend(&sums);
        let dx = graph
            .apply(GroupNormInputGrad { groups, swish }, &inputs)
            .unwrap();
        for (name, value) in [
            ("stats", stats),
            ("y", y),
            ("again", again),
            ("plain", sums[0]),
            ("scaled", sums[1]),
            ("dx", dx),
        ] {
            graph.output(name, value);
        }
        let arrays: HashMap<String, Array> = graph
            .values()
            .filter(|&value| matches!(graph.info(value).source, Source::Input))
            .map(|value| {
                let info = graph.info(value);
                let data = hashed(&info.name, info.ty.len());
                (info.name.clone(), Array::new(info.ty.shape.clone(), data))
            })
            .collect();
        let oracle = Evaluation::run(&graph, &arrays);
        check_cuda(&graph, &arrays, &TensorMap::new(), &oracle, 1e-5);
    }
}

#[test]
fn the_builder_normalises_and_its_errors_say_what_is_wrong() {
    check_with(
        |g| {
            let x = g.parameter("x", [2, 3, 3, 12])?;
            let (gamma, beta) = (g.parameter("gamma", [12])?, g.parameter("beta", [12])?);
            g.group_norm(x, gamma, beta, 4, 1e-5)
        },
        &HashMap::new(),
        1e-5,
    );
    let mut g = Graph::new();
    let x = g.parameter("x", [2, 3, 3, 12]).unwrap();
    let gamma = g.parameter("gamma", [11]).unwrap();
    assert_eq!(
        g.group_norm(x, gamma, gamma, 5, 1e-5)
            .unwrap_err()
            .to_string(),
        "group_norm_stats at '' expects x [N,…,C] with C divisible by 5, found f32[2, 3, 3, 12]"
    );
    assert!(g.group_norm(x, gamma, gamma, 0, 1e-5).is_err());
    assert!(g.group_norm(x, gamma, gamma, 4, 1e-5).is_err());
}

#[test]
fn nan_is_not_hidden() {
    for swish in [false, true] {
        let op = GroupNorm {
            groups: 4,
            swish,
            residual: true,
            embed: true,
            stats: None,
        };
        check_nan_shows(|g| fused(g, &[2, 3, 5, 20], op, true));
    }
}

/// Gradients of samples are added up last, whether all uses have the same number of samples or not.
#[test]
fn weights_that_several_norms_share() {
    for samples in [[3, 3], [2, 3], [1, 3]] {
        check(|g| {
            let [gamma, beta] = [g.parameter("gamma", [8])?, g.parameter("beta", [8])?];
            let mut sums = Vec::new();
            for (name, n) in ["a", "b"].into_iter().zip(samples) {
                let x = g.parameter(name, [n, 2, 3, 8])?;
                let y = g.group_norm(x, gamma, beta, 2, 1e-5)?;
                let squares = g.mul(y, x)?;
                sums.push(g.sum_to(squares, &[8])?);
            }
            g.add(sums[0], sums[1])
        });
    }
}
