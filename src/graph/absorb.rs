//! Lets convolutions do work beside their product, where the kernels of a device can.
//!
//! The last rewrite of a graph, after autodiff, fusion and the choice of types, so that what it makes needs no gradient.

use std::collections::HashMap;

use super::{Graph, Node, Source, TensorType, Value};
use crate::ops::{Concat, Conv2d, Op};

/// What the convolutions of a device can do.
pub trait ConvolutionModel {
    /// Whether `conv`, which has the statistics of its result as a second result, is better than the same without them
    /// and a pass over the result.
    fn leaves_statistics(&self, conv: &Conv2d, inputs: &[TensorType]) -> bool;

    /// Whether `conv`, whose `x` is joined of two inputs, reads them where they are.
    fn reads_joined(&self, conv: &Conv2d, inputs: &[TensorType]) -> bool;
}

/// `graph` with what `device` is better so: convolutions that read the operands of a concatenation, if they are all that
/// reads its result, and convolutions with the statistics of their result as a result of their own.
pub fn absorb(graph: &Graph, device: &dyn ConvolutionModel) -> Graph {
    statistics(&concatenations(graph, device), device)
}

/// Gives convolutions the operands of the concatenations that they read.
fn concatenations(graph: &Graph, device: &dyn ConvolutionModel) -> Graph {
    let mut users: HashMap<Value, Vec<usize>> = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        for &input in &node.inputs {
            users.entry(input).or_default().push(index);
        }
    }
    let mut nodes = graph.nodes.clone();
    for node in &graph.nodes {
        let (Op::Concat(Concat { axis: 3 }), &[first, last]) = (&node.op, &node.inputs[..]) else {
            continue;
        };
        let joined = node.outputs[0];
        let Some(readers) = users.get(&joined) else {
            continue;
        };
        let join = |&index: &usize| -> Option<(usize, Node)> {
            let reader = &graph.nodes[index];
            let Op::Conv2d(conv @ Conv2d { joined: false, .. }) = reader.op else {
                return None;
            };
            let conv = Conv2d {
                joined: true,
                ..conv
            };
            let mut inputs = reader.inputs.clone();
            if inputs[0] != joined || inputs[1..].contains(&joined) {
                return None;
            }
            inputs[0] = first;
            inputs.push(last);
            let reader = Node {
                op: conv.into(),
                inputs,
                ..reader.clone()
            };
            device
                .reads_joined(&conv, &graph.types(&reader))
                .then_some((index, reader))
        };
        let is_output = graph.outputs.iter().any(|&(_, value)| value == joined);
        let readers: Option<Vec<(usize, Node)>> = readers.iter().map(join).collect();
        if let Some(readers) = readers.filter(|_| !is_output) {
            for (index, reader) in readers {
                nodes[index] = reader;
            }
        }
    }
    graph.clone().with_nodes(nodes)
}

/// Makes the statistics of convolutions' results their second results.
fn statistics(graph: &Graph, device: &dyn ConvolutionModel) -> Graph {
    let mut taken: HashMap<usize, (Conv2d, Value)> = HashMap::new();
    for node in &graph.nodes {
        let Op::GroupNormStats(stats) = node.op else {
            continue;
        };
        let Source::Node { node: index, .. } = graph.info(node.inputs[0]).source else {
            continue;
        };
        let producer = &graph.nodes[index];
        let Op::Conv2d(conv) = producer.op else {
            continue;
        };
        let conv = Conv2d {
            stats: Some(stats),
            ..conv
        };
        // Two normalisations of one map are two statistics: the first is taken.
        if !taken.contains_key(&index) && device.leaves_statistics(&conv, &graph.types(producer)) {
            taken.insert(index, (conv, node.outputs[0]));
        }
    }
    let moved: Vec<Value> = taken.values().map(|&(_, stats)| stats).collect();
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for (index, node) in graph.nodes.iter().enumerate() {
        let mut node = node.clone();
        if let Some(&(conv, stats)) = taken.get(&index) {
            node.op = conv.into();
            node.outputs.push(stats);
        } else if node.outputs.iter().any(|v| moved.contains(v)) {
            continue;
        }
        nodes.push(node);
    }
    graph.clone().with_nodes(nodes)
}

impl Graph {
    /// Types of what `node` reads.
    fn types(&self, node: &Node) -> Vec<TensorType> {
        node.inputs.iter().map(|&v| self.ty(v).clone()).collect()
    }

    /// The same values, computed by other nodes.
    fn with_nodes(mut self, nodes: Vec<Node>) -> Self {
        for (number, node) in nodes.iter().enumerate() {
            for (index, output) in node.outputs.iter().enumerate() {
                self.values[output.index()].source = Source::Node {
                    node: number,
                    index,
                };
            }
        }
        self.nodes = nodes;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::GroupNormStats;

    /// Whose convolutions do all.
    struct Able;

    impl ConvolutionModel for Able {
        fn leaves_statistics(&self, _: &Conv2d, _: &[TensorType]) -> bool {
            true
        }

        fn reads_joined(&self, _: &Conv2d, _: &[TensorType]) -> bool {
            true
        }
    }

    fn ops(graph: &Graph) -> Vec<String> {
        graph.nodes().iter().map(|n| n.op.to_string()).collect()
    }

    /// Two arrays, joined and convolved twice.
    fn decoder() -> (Graph, Value) {
        let mut g = Graph::new();
        let a = g.parameter("a", [1, 4, 4, 8]).unwrap();
        let b = g.parameter("b", [1, 4, 4, 16]).unwrap();
        let x = g.concat(&[a, b]).unwrap();
        for (name, kernel) in [("w", 3), ("v", 1)] {
            let w = g.parameter(name, [8, 24, kernel, kernel]).unwrap();
            let y = g.conv2d(x, w, None, 1, kernel / 2).unwrap();
            g.output(name, y);
        }
        (g, x)
    }

    #[test]
    fn a_concatenation_is_read_by_its_convolutions() {
        let (graph, _) = decoder();
        let absorbed = absorb(&graph, &Able);
        let joined = |padding| format!("conv2d stride 1 padding {padding} +joined");
        assert_eq!(
            ops(&absorbed),
            ["concat axis 3".into(), joined(1), joined(0)]
        );
        assert_eq!(absorbed.nodes()[1].inputs.len(), 3);
    }

    #[test]
    fn a_concatenation_that_others_read_stays() {
        let (mut graph, x) = decoder();
        graph.swish(x).unwrap();
        assert_eq!(ops(&absorb(&graph, &Able)), ops(&graph));
        let (mut graph, x) = decoder();
        graph.output("x", x);
        assert_eq!(ops(&absorb(&graph, &Able)), ops(&graph));
    }

    #[test]
    fn statistics_become_a_result_of_their_convolution() {
        let mut g = Graph::new();
        let x = g.parameter("x", [1, 4, 4, 8]).unwrap();
        let w = g.parameter("w", [8, 8, 3, 3]).unwrap();
        let y = g.conv2d(x, w, None, 1, 1).unwrap();
        let stats = |groups| GroupNormStats { groups, eps: 1e-5 };
        for groups in [2, 4] {
            let stats = g.apply(stats(groups), &[y]).unwrap();
            g.output(&groups.to_string(), stats);
        }
        let absorbed = absorb(&g, &Able);
        assert_eq!(
            ops(&absorbed),
            ["conv2d stride 1 padding 1 +stats", "group_norm_stats 4"]
        );
        let outputs = |g: &Graph| g.outputs().to_vec();
        assert_eq!(outputs(&absorbed), outputs(&g));
        assert_eq!(
            absorbed.producer(g.outputs()[0].1).unwrap().op,
            absorbed.nodes()[0].op
        );
    }
}
