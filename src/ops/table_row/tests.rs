use std::collections::HashMap;

use crate::compile::PlanOptions;
use crate::device::Executable;
use crate::device::cpu::CpuDevice;
use crate::graph::Graph;
use crate::kernel::reference::Array;
use crate::tensor::{DType, TensorMap};
use crate::testing::{check_updates, emulated_gpu};

#[test]
fn rows_follow_the_counter_and_stop_at_the_ends() {
    for counter in [-3.0, 0.0, 2.0, 4.0, 99.0] {
        let leaves = HashMap::from([("k".to_owned(), Array::new([1], vec![counter]))]);
        check_updates(
            |g| {
                let table = g.state("table", [5, 3, 7], DType::F32)?;
                let k = g.state("k", [1], DType::I32)?;
                let row = g.table_row(table, k)?;
                g.output("row", row);
                let rows = g.table_row_repeated(table, k, 3)?;
                g.output("rows", rows);
                Ok(())
            },
            &leaves,
            0.0,
        );
    }
}

#[test]
fn integer_rows_feed_integer_inputs() {
    let mut g = Graph::new();
    let steps = g.state("steps", [3], DType::I32).unwrap();
    let values = g.state("values", [10, 2], DType::F32).unwrap();
    let k = g.state("k", [1], DType::I32).unwrap();
    let at = g.table_row_repeated(steps, k, 1).unwrap();
    let row = g.table_row(values, at).unwrap();
    g.output("row", row);
    g.increment(k).unwrap();
    let check = |exe: &mut dyn Executable| {
        let table: Vec<f32> = (0..20).map(|v| v as f32).collect();
        exe.write("values", &table).unwrap();
        exe.write_i32("steps", &[9, 4, 0]).unwrap();
        for first in [18.0, 8.0, 0.0] {
            exe.run().unwrap();
            assert_eq!(exe.output("row").unwrap(), &[first, first + 1.0]);
        }
    };
    let device = CpuDevice::new(Some(1)).unwrap();
    let plan = device.plan(&g, PlanOptions::default());
    check(&mut device.load(plan, &TensorMap::new()).unwrap());
    if let Some(gpu) = emulated_gpu() {
        let plan = gpu.plan(&g, PlanOptions::default());
        check(&mut gpu.load(plan, &TensorMap::new()).unwrap());
    }
}
