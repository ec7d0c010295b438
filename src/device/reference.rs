//! The oracle: evaluates a graph node by node in `f64` with the naive definition of every op.
//!
//! It runs the graph itself, not a plan, so it shares neither fusion nor memory layout nor
//! kernels with the devices it judges.

use std::collections::HashMap;

use crate::graph::{Graph, Source, Value, live_nodes};
pub use crate::kernel::reference::Array;
use crate::ops::cast::rounded;
use crate::tensor::TensorType;

/// Values of every live node of a graph, given its leaves.
pub struct Evaluation {
    values: HashMap<Value, Array>,
    updated: HashMap<Value, Array>,
}

impl Evaluation {
    /// Evaluates all nodes in order. Leaves are looked up by name.
    ///
    /// # Panics
    /// If a leaf that a node needs is missing or has the wrong shape: this is a test oracle.
    pub fn run(graph: &Graph, leaves: &HashMap<String, Array>) -> Self {
        Self::run_nodes(graph, leaves, graph.nodes().len())
    }

    /// As [`Evaluation::run`], but stops once `last` is computed.
    ///
    /// # Panics
    /// As [`Evaluation::run`].
    pub fn run_to(graph: &Graph, leaves: &HashMap<String, Array>, last: Value) -> Self {
        let count = match graph.info(last).source {
            Source::Node { node, .. } => node + 1,
            _ => 0,
        };
        Self::run_nodes(graph, leaves, count)
    }

    fn run_nodes(graph: &Graph, leaves: &HashMap<String, Array>, count: usize) -> Self {
        let mut values: HashMap<Value, Array> = HashMap::new();
        for value in graph.values() {
            let info = graph.info(value);
            let array = match &info.source {
                Source::Node { .. } => continue,
                Source::Constant(data) => Array::new(
                    info.ty.shape.clone(),
                    data.iter().map(|&v| f64::from(v)).collect(),
                ),
                _ => match leaves.get(&info.name) {
                    Some(array) => array.clone(),
                    None => continue,
                },
            };
            assert_eq!(array.shape, info.ty.shape, "leaf '{}'", info.name);
            values.insert(value, array);
        }
        let mut updated = HashMap::new();
        let live = live_nodes(graph);
        for (node, live) in graph.nodes()[..count].iter().zip(live) {
            // Nodes that fusion left behind may read what nobody computes before them any more.
            if !live && node.inputs.iter().any(|v| !values.contains_key(v)) {
                continue;
            }
            let inputs: Vec<&Array> = node
                .inputs
                .iter()
                .map(|v| {
                    values.get(v).unwrap_or_else(|| {
                        panic!(
                            "{} at '{}' lacks '{}'",
                            node.op,
                            node.path,
                            graph.info(*v).name
                        )
                    })
                })
                .collect();
            let types: Vec<TensorType> =
                node.outputs.iter().map(|&v| graph.ty(v).clone()).collect();
            let mut results = node.op.reference().reference(&inputs, &types).into_iter();
            for (&output, ty) in node.outputs.iter().zip(&types) {
                let array = results.next().expect("one array per result");
                assert_eq!(array.shape, ty.shape, "{}", node.op);
                // What is stored in reduced precision is rounded once.
                let Array { shape, mut data } = array;
                data.iter_mut().for_each(|v| *v = rounded(*v, ty.dtype));
                values.insert(output, Array { shape, data });
            }
            for &position in node.op.operator().updates() {
                // Nodes that follow see the new value, as they do on a device.
                let array = results.next().expect("one array per update");
                let leaf = node.inputs[position];
                values.insert(leaf, array.clone());
                updated.insert(leaf, array);
            }
        }
        Self { values, updated }
    }

    /// The array computed for `value`; for a leaf that an op updated, its last value.
    ///
    /// # Panics
    /// If `value` is not of the evaluated graph.
    pub fn get(&self, value: Value) -> &Array {
        &self.values[&value]
    }

    /// What an update op left in a leaf, if one wrote it.
    pub fn updated(&self, leaf: Value) -> Option<&Array> {
        self.updated.get(&leaf)
    }
}
