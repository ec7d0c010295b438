use std::collections::HashMap;

use crate::graph::Graph;
use crate::kernel::reference::Array;
use crate::tensor::DType;
use crate::testing::{check_updates, hashed};

#[test]
fn adds_or_starts_again() {
    let len = 40_003;
    for keep in [0.0, 1.0] {
        let leaves = HashMap::from([
            ("sum".to_owned(), Array::new([len], hashed("old", len))),
            ("keep".to_owned(), Array::scalar(keep)),
        ]);
        check_updates(
            |g| {
                let sum = g.state("sum", [len], DType::F32)?;
                let x = g.input("x", [len], DType::F32)?;
                let keep = g.input("keep", [], DType::F32)?;
                g.accumulate(sum, x, keep, 0.25)
            },
            &leaves,
            1e-6,
        );
    }
}

#[test]
fn types_are_checked() {
    let mut g = Graph::new();
    let sum = g.state("sum", [3], DType::F32).unwrap();
    let x = g.input("x", [4], DType::F32).unwrap();
    let keep = g.input("keep", [], DType::F32).unwrap();
    assert!(g.accumulate(sum, x, keep, 1.0).is_err());
}
