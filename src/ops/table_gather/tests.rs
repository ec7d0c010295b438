use std::collections::HashMap;

use crate::compile::{fuse, reduce};
use crate::device::reference::{Array, Evaluation};
use crate::graph::Graph;
use crate::tensor::{DType, Tensor, TensorMap};
use crate::testing::{check_cuda, hashed};

fn arrays(counter: f64) -> HashMap<String, Array> {
    HashMap::from([
        (
            "table".to_owned(),
            Array::new([4, 3, 300], hashed("table", 3600)),
        ),
        ("counter".to_owned(), Array::new([1], vec![counter])),
        (
            "label".to_owned(),
            Array::new([5], vec![1.0, -1.0, 0.0, 1.0, 0.0]),
        ),
    ])
}

fn graph() -> Graph {
    let mut g = Graph::new();
    let table = g.input("table", [4, 3, 300], DType::F32).unwrap();
    let counter = g.input("counter", [1], DType::I32).unwrap();
    let label = g.input("label", [5], DType::I32).unwrap();
    let parts = g
        .table_gather(table, counter, label, vec![1, 291, 8])
        .unwrap();
    for (index, part) in parts.into_iter().enumerate() {
        g.output(&format!("part {index}"), part);
    }
    g
}

#[test]
fn entries_are_cut_and_counters_clamped() {
    let g = graph();
    // Row 2, label 1, second column of the entry.
    let oracle = Evaluation::run(&g, &arrays(2.0));
    let (_, wide) = &g.outputs()[1];
    assert_eq!(
        oracle.get(*wide).data[0],
        arrays(2.0)["table"].data[(2 * 3 + 2) * 300 + 1]
    );
    for counter in [-3.0, 0.0, 2.0, 9.0] {
        let arrays = arrays(counter);
        let oracle = Evaluation::run(&g, &arrays);
        check_cuda(&g, &arrays, &TensorMap::new(), &oracle, 0.0);
        let device = crate::device::Device::builder()
            .choice(crate::device::DeviceChoice::Cpu)
            .threads(1)
            .open()
            .unwrap();
        let mut executable = device.load(device.compile(&g), &TensorMap::new()).unwrap();
        let table: Vec<f32> = arrays["table"].data.iter().map(|&v| v as f32).collect();
        executable.write("table", &table).unwrap();
        executable.write_i32("counter", &[counter as i32]).unwrap();
        executable.write_i32("label", &[1, -1, 0, 1, 0]).unwrap();
        executable.run().unwrap();
        for (name, value) in g.outputs() {
            let want: Vec<f32> = oracle.get(*value).data.iter().map(|&v| v as f32).collect();
            assert_eq!(executable.output(name).unwrap(), want);
        }
    }
}

/// Results that only a kernel in reduced precision reads, and one that the host reads.
#[test]
fn cuda_rounds_what_group_norms_add() {
    let mut g = graph();
    let [table, counter, label] =
        ["table", "counter", "label"].map(|name| g.leaf_named(name).unwrap());
    let parts = g
        .table_gather(table, counter, label, vec![200, 8, 92])
        .unwrap();
    let x = g.input("x", [5, 3, 2, 8], DType::F32).unwrap();
    let [gamma, beta] = ["gamma", "beta"].map(|name| g.parameter(name, [8]).unwrap());
    let y = g.group_norm(x, gamma, beta, 2, 1e-5).unwrap();
    let y = g.add_channels(y, parts[1]).unwrap();
    g.output("y", y);
    g.output("wide", parts[2]);
    let (g, _) = fuse(&g);
    let mut arrays = arrays(1.0);
    for name in ["x", "gamma", "beta"] {
        let shape = g.shape(g.leaf_named(name).unwrap()).to_vec();
        let values = hashed(name, shape.iter().product());
        arrays.insert(name.to_owned(), Array::new(shape, values));
    }
    let weights: TensorMap = g
        .parameters()
        .map(|(name, _)| {
            let values: Vec<f32> = arrays[name].data.iter().map(|&v| v as f32).collect();
            (name.to_owned(), Tensor::from_f32([8], &values))
        })
        .collect();
    let oracle = Evaluation::run(&g, &arrays);
    check_cuda(&g, &arrays, &weights, &oracle, 1e-5);
    let (lowered, _) = reduce(&g, DType::F16);
    assert_eq!(lowered.ty(parts[1]).dtype, DType::F16);
    assert_eq!(lowered.ty(parts[2]).dtype, DType::F32);
}

#[test]
fn errors_say_what_is_expected() {
    let mut g = Graph::new();
    let table = g.input("table", [4, 3, 300], DType::F32).unwrap();
    let counter = g.input("counter", [1], DType::I32).unwrap();
    let label = g.input("label", [5], DType::I32).unwrap();
    let error = g
        .table_gather(table, counter, label, vec![300, 1])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "table_gather at '' expects a table f32[rows, labels + 1, 301], a counter i32[1] and labels i32[N], \
         found f32[4, 3, 300], i32[1], i32[5]"
    );
}
