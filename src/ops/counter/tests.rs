use std::collections::HashMap;

use crate::graph::Graph;
use crate::kernel::reference::Array;
use crate::tensor::DType;
use crate::testing::check_updates;

#[test]
fn counts_unless_the_gate_is_closed() {
    for gate in [0.0, 1.0] {
        let leaves = HashMap::from([
            ("a".to_owned(), Array::new([1], vec![41.0])),
            ("b".to_owned(), Array::new([1], vec![-1.0])),
            ("gate".to_owned(), Array::scalar(gate)),
        ]);
        check_updates(
            |g| {
                let a = g.state("a", [1], DType::I32)?;
                let b = g.state("b", [1], DType::I32)?;
                let gate = g.input("gate", [], DType::F32)?;
                g.increment(a)?;
                g.increment_if(b, gate)
            },
            &leaves,
            0.0,
        );
    }
}

#[test]
fn a_counter_is_one_integer() {
    let mut g = Graph::new();
    let x = g.state("x", [1], DType::F32).unwrap();
    let error = g.increment(x).unwrap_err().to_string();
    assert_eq!(
        error,
        "increment at '' expects a counter i32[1], found f32[1]"
    );
}

/// An update writes memory that survives the run, and nothing that it reads elsewhere.
#[test]
fn only_leaves_are_updated_and_through_one_operand() {
    let mut g = Graph::new();
    let input = g.input("input", [1], DType::I32).unwrap();
    let error = g.increment(input).unwrap_err().to_string();
    assert!(
        error.contains("a parameter or state as operand 0"),
        "{error}"
    );

    let average = g.state("average", [2, 3], DType::F32).unwrap();
    let step = g.state("step", [1], DType::I32).unwrap();
    let row = g.reshape(average, [6]).unwrap();
    let view = g.reshape(row, [2, 3]).unwrap();
    let error = g.ema(average, view, step, None).unwrap_err().to_string();
    assert!(error.contains("'average' as operand 1 too"), "{error}");
    let copy = g.scale(view, 1.0).unwrap();
    g.ema(average, copy, step, None).unwrap();
}
