use std::collections::HashMap;

use crate::compile::{CudaBackend, Plan, PlanOptions, Precision};
use crate::device::Executable;
use crate::device::cuda::CudaOptions;
use crate::graph::{Graph, GraphError, Value};
use crate::kernel::cuda::Target;
use crate::kernel::reference::Array;
use crate::ops::optimizer::{AdamConfig, AdamOperands};
use crate::tensor::{DType, Tensor, TensorMap};
use crate::testing::{check_updates, emulated_gpu, hashed};

/// What the updates of a training step share.
struct Shared {
    learning_rate: Value,
    step: Value,
}

impl Shared {
    fn new(g: &mut Graph) -> Result<Self, GraphError> {
        Ok(Self {
            learning_rate: g.input("lr", [], DType::F32)?,
            step: g.state("step", [1], DType::I32)?,
        })
    }

    fn adam(
        &self,
        g: &mut Graph,
        parameter: Value,
        grad: Value,
        name: &str,
    ) -> Result<(), GraphError> {
        let shape = g.shape(parameter).to_vec();
        let operands = AdamOperands {
            parameter,
            grad,
            moments: [
                g.state(&format!("m.{name}"), shape.clone(), DType::F32)?,
                g.state(&format!("v.{name}"), shape, DType::F32)?,
            ],
            learning_rate: self.learning_rate,
            step: self.step,
            clip: None,
            gate: None,
        };
        g.adam(AdamConfig::ADAMW, operands)
    }
}

const LENGTHS: [usize; 5] = [1, 3, 1024, 5000, 70_001];

/// Accumulation, norm, and for each parameter Adam and its average, one after the other as a training step has them.
fn many_parameters(g: &mut Graph) -> Result<(), GraphError> {
    let shared = Shared::new(g)?;
    let keep = g.input("keep", [], DType::F32)?;
    let (mut parameters, mut sums) = (Vec::new(), Vec::new());
    for (k, &len) in LENGTHS.iter().enumerate() {
        parameters.push(g.parameter(&format!("p.{k}"), [len])?);
        let grad = g.input(&format!("grad.{k}"), [len], DType::F32)?;
        let sum = g.state(&format!("sum.{k}"), [len], DType::F32)?;
        g.accumulate(sum, grad, keep, 0.5)?;
        sums.push(sum);
    }
    let norms = g.global_norm(&sums, 1.0)?;
    g.output("norm", norms.total);
    for (k, (&parameter, &sum)) in parameters.iter().zip(&sums).enumerate() {
        shared.adam(g, parameter, sum, &k.to_string())?;
        let average = g.state(&format!("ema.{k}"), [LENGTHS[k]], DType::F32)?;
        g.ema(average, parameter, shared.step, None)?;
    }
    Ok(())
}

fn values(name: &str, len: usize) -> Vec<f32> {
    let values = hashed(name, len);
    let squared = name.starts_with("v.");
    values
        .iter()
        .map(|&v| if squared { v * v } else { v } as f32)
        .collect()
}

/// What the plan leaves, by name.
type Values = Vec<(String, Vec<f32>)>;

/// Launches of a run, and every state after three of them.
fn run(graph: &Graph, group: bool) -> Option<(usize, Values)> {
    let device = emulated_gpu()?.with(CudaOptions {
        group,
        ..CudaOptions::default()
    });
    let plan = device.plan(graph, PlanOptions::default());
    let weights: TensorMap = graph
        .parameters()
        .map(|(name, value)| {
            let len = graph.ty(value).len();
            (name.to_owned(), Tensor::from_f32([len], &values(name, len)))
        })
        .collect();
    let bindings = plan.bindings.clone();
    let mut executable = device.load(plan, &weights).unwrap();
    for binding in &bindings {
        match binding.ty.dtype {
            DType::I32 => executable.write_i32(&binding.name, &[4]).unwrap(),
            _ => executable
                .write(&binding.name, &values(&binding.name, binding.ty.len()))
                .unwrap(),
        }
    }
    for _ in 0..3 {
        executable.run().unwrap();
    }
    let updated = bindings
        .iter()
        .filter(|b| b.updated && b.ty.dtype == DType::F32);
    let states = updated.map(|b| (b.name.clone(), executable.read(&b.name).unwrap()));
    let states = states.collect();
    Some((executable.launch_count(), states))
}

#[test]
fn updates_of_many_weights_are_a_few_launches() {
    let mut graph = Graph::new();
    many_parameters(&mut graph).unwrap();
    let Some((grouped, together)) = run(&graph, true) else {
        return;
    };
    let (single, apart) = run(&graph, false).unwrap();
    // The norm takes two.
    assert_eq!((grouped, single), (1 + 2 + 1 + 1, 2 + 3 * LENGTHS.len()));
    assert_eq!(together.len(), 5 * LENGTHS.len());
    for ((name, a), (_, b)) in together.iter().zip(&apart) {
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(a), bits(b), "{name}");
    }
}

#[test]
fn updates_of_many_weights_are_right() {
    let mut leaves = HashMap::from([("step".to_owned(), Array::new([1], vec![4.0]))]);
    for (k, &len) in LENGTHS.iter().enumerate() {
        let name = format!("v.{k}");
        let data = values(&name, len).iter().map(|&v| v.into()).collect();
        leaves.insert(name, Array::new([len], data));
    }
    check_updates(many_parameters, &leaves, 1e-6);
}

/// The groups of a graph as names of ops.
fn grouped(graph: &Graph) -> Vec<Vec<&'static str>> {
    let backend = CudaBackend {
        target: Target::RTX_3090,
        precision: Precision::F32,
        group: true,
    };
    let plan = Plan::new(graph, &backend, PlanOptions::default());
    let name = |&index: &usize| plan.steps[index].op.operator().name();
    plan.groups
        .iter()
        .map(|group| group.iter().map(name).collect())
        .collect()
}

/// A gradient that is made from a weight that was just updated: its update cannot come before it.
#[test]
fn nothing_moves_before_what_it_reads() {
    let mut g = Graph::new();
    let shared = Shared::new(&mut g).unwrap();
    let [a, b] = ["a", "b"].map(|name| g.parameter(name, [100]).unwrap());
    let grad = g.input("grad", [100], DType::F32).unwrap();
    shared.adam(&mut g, a, grad, "a").unwrap();
    let product = g.mul(a, grad).unwrap();
    shared.adam(&mut g, b, product, "b").unwrap();
    assert_eq!(
        grouped(&g),
        [["adamw"], ["mul"], ["adamw"]].map(|names| names.to_vec())
    );
    if let (Some((_, together)), Some((_, apart))) = (run(&g, true), run(&g, false)) {
        assert_eq!(together, apart);
    }
}

/// A step between that reads the weight before its update, or shares nothing.
#[test]
fn nothing_moves_before_what_reads_it() {
    for (reads, expected) in [
        (true, vec![vec!["adamw"], vec!["mul"], vec!["adamw"]]),
        (false, vec![vec!["adamw", "adamw"], vec!["mul"]]),
    ] {
        let mut g = Graph::new();
        let shared = Shared::new(&mut g).unwrap();
        let [a, b] = ["a", "b"].map(|name| g.parameter(name, [100]).unwrap());
        let grad = g.input("grad", [100], DType::F32).unwrap();
        shared.adam(&mut g, a, grad, "a").unwrap();
        let product = g.mul(if reads { b } else { a }, grad).unwrap();
        g.output("product", product);
        shared.adam(&mut g, b, grad, "b").unwrap();
        assert_eq!(grouped(&g), expected);
        if let (Some((_, together)), Some((_, apart))) = (run(&g, true), run(&g, false)) {
            assert_eq!(together, apart);
        }
    }
}

/// Two updates of one state are two launches, and so are updates of different factors.
#[test]
fn only_independent_steps_of_a_kind_join() {
    let mut g = Graph::new();
    let keep = g.input("keep", [], DType::F32).unwrap();
    let x = g.input("x", [100], DType::F32).unwrap();
    let [a, b] = ["a", "b"].map(|name| g.state(name, [100], DType::F32).unwrap());
    g.accumulate(a, x, keep, 0.5).unwrap();
    g.accumulate(a, x, keep, 0.5).unwrap();
    g.accumulate(b, x, keep, 0.25).unwrap();
    g.accumulate(b, a, keep, 0.5).unwrap();
    assert_eq!(grouped(&g).len(), 4);
}

/// The sums over samples of every norm's gradients, whatever their channels.
#[test]
fn sums_over_samples_are_one_launch() {
    let Some(gpu) = emulated_gpu() else { return };
    let mut g = Graph::new();
    let mut x = g.input("x", [3, 4, 4, 8], DType::F32).unwrap();
    let mut weights = Vec::new();
    for (k, channels) in [8, 24, 40].into_iter().enumerate() {
        let mut leaf = |g: &mut Graph, kind: &str, shape: &[usize]| {
            let value = g.parameter(&format!("{kind}.{k}"), shape).unwrap();
            weights.push(value);
            value
        };
        let last = g.shape(x)[3];
        let w = leaf(&mut g, "w", &[channels, last, 1, 1]);
        let gamma = leaf(&mut g, "gamma", &[channels]);
        let beta = leaf(&mut g, "beta", &[channels]);
        x = g.conv2d(x, w, None, 1, 0).unwrap();
        x = g.group_norm(x, gamma, beta, 4, 1e-5).unwrap();
    }
    let loss = g.sum_to(x, &[]).unwrap();
    let grads = g.gradients(loss, &weights).unwrap();
    for (k, grad) in grads.into_iter().enumerate() {
        g.output(&format!("grad.{k}"), grad.unwrap());
    }
    let sums = |group| {
        let device = gpu.with(CudaOptions {
            group,
            ..CudaOptions::default()
        });
        // With memory of their own: where one's result lies in what another has read, they take turns.
        let options = PlanOptions {
            reuse: false,
            in_place: false,
        };
        let plan = device.plan(&g, options);
        let launches = device.launches(&plan).unwrap();
        let sums = launches.iter().filter(|l| l.entry() == "sum_few_rows");
        sums.count()
    };
    assert_eq!((sums(true), sums(false)), (1, 6));
}
