use std::collections::HashMap;

use crate::compile::PlanOptions;
use crate::device::cpu::CpuDevice;
use crate::graph::Graph;
use crate::kernel::reference::Array;
use crate::tensor::{DType, TensorMap};
use crate::testing::check_with;

#[test]
fn loss_and_gradient() {
    for (n, k, scale) in [(1, 1, 1.0), (3, 2, 1.0), (5, 8, 30.0), (64, 33, 3.0)] {
        let labels = (0..n).map(|i| (i * 7 % k) as f64).collect();
        let leaves = HashMap::from([("labels".to_owned(), Array::new([n], labels))]);
        check_with(
            |g| {
                let z = g.parameter("z", [n, k])?;
                let z = g.scale(z, scale)?;
                let labels = g.input("labels", [n], DType::I32)?;
                g.cross_entropy(z, labels)
            },
            &leaves,
            1e-5,
        );
    }
}

#[test]
fn huge_scores_do_not_overflow_and_wrong_labels_show() {
    let mut g = Graph::new();
    let z = g.input("z", [2, 3], DType::F32).unwrap();
    let labels = g.input("labels", [2], DType::I32).unwrap();
    let loss = g.cross_entropy(z, labels).unwrap();
    g.output("loss", loss);
    let device = CpuDevice::new(Some(1)).unwrap();
    let plan = device.plan(&g, PlanOptions::default());
    let mut exe = device.load(plan, &TensorMap::new()).unwrap();
    exe.write("z", &[1e4, -1e4, 0.0, 1e4, 1e4, -1e30]).unwrap();
    exe.write_i32("labels", &[0, 1]).unwrap();
    exe.run();
    // The second row is a tie of two: ln 2 over two rows.
    let loss = exe.output("loss").unwrap()[0];
    assert!((loss - 0.5 * std::f32::consts::LN_2).abs() < 1e-6, "{loss}");
    for wrong in [-1, 3] {
        exe.write_i32("labels", &[0, wrong]).unwrap();
        exe.run();
        assert!(exe.output("loss").unwrap()[0].is_nan());
    }
}
