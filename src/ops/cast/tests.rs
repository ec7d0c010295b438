use std::collections::HashMap;

use super::Cast;
use crate::device::reference::{Array, Evaluation};
use crate::graph::Graph;
use crate::tensor::{DType, TensorMap};
use crate::testing::{check_cuda, hashed};

#[test]
fn there_and_back_rounds_once() {
    for (to, len) in [
        (DType::F16, 1),
        (DType::BF16, 3),
        (DType::F16, 1027),
        (DType::BF16, 4096),
    ] {
        let mut graph = Graph::new();
        let x = graph.input("x", [len], DType::F32).unwrap();
        let reduced = graph.apply(Cast { to }, &[x]).unwrap();
        let back = graph.apply(Cast { to: DType::F32 }, &[reduced]).unwrap();
        graph.output("y", back);
        let arrays = HashMap::from([("x".to_owned(), Array::new([len], hashed("x", len)))]);
        let oracle = Evaluation::run(&graph, &arrays);
        assert_ne!(oracle.get(back), &arrays["x"]);
        check_cuda(&graph, &arrays, &TensorMap::new(), &oracle, 0.0);
    }
}
