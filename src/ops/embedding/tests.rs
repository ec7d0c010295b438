use std::collections::HashMap;

use crate::graph::Graph;
use crate::kernel::reference::Array;
use crate::tensor::DType;
use crate::testing::check_with;

#[test]
fn rows_repeat_and_may_be_absent() {
    for (index, channels) in [
        (vec![2.0, 0.0, 2.0, -1.0, 1.0], 5),
        (vec![-1.0], 8),
        (vec![3.0], 33),
    ] {
        let count = index.len();
        let leaves = HashMap::from([("index".to_owned(), Array::new([count], index))]);
        let build = |g: &mut Graph| {
            let table = g.parameter("table", [4, channels])?;
            let index = g.input("index", [count], DType::I32)?;
            g.embedding(table, index)
        };
        check_with(build, &leaves, 0.0);
    }
}

#[test]
fn mismatches_are_named() {
    let mut g = Graph::new();
    let table = g.parameter("table", [4, 5]).unwrap();
    let index = g.input("index", [3], DType::F32).unwrap();
    assert_eq!(
        g.embedding(table, index).unwrap_err().to_string(),
        "embedding at '' expects table [K,E] and i32 index [N], found f32[4, 5], f32[3]"
    );
}
