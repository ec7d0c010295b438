//! Lets convolutions do work beside their product, where the kernels of a device can.
//!
//! The last rewrite of a graph, after autodiff, fusion and the choice of types, so that what it makes needs no gradient.

use std::collections::HashMap;

use super::{Graph, Node, Source, TensorType, Value};
use crate::ops::{Conv2d, Op};

/// What the convolutions of a device can do.
pub trait ConvolutionModel {
    /// Whether `conv`, which has the statistics of its result as a second result, is better than the same without them
    /// and a pass over the result.
    fn leaves_statistics(&self, conv: &Conv2d, inputs: &[TensorType]) -> bool;
}

/// `graph` with the statistics of a convolution's result, where `device` is better so, as a result of the convolution.
pub fn absorb(graph: &Graph, device: &dyn ConvolutionModel) -> Graph {
    let statistics = statistics(graph, device);
    let moved: Vec<Value> = statistics.values().map(|&(_, stats)| stats).collect();
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for (index, node) in graph.nodes.iter().enumerate() {
        let mut node = node.clone();
        if let Some(&(conv, stats)) = statistics.get(&index) {
            node.op = conv.into();
            node.outputs.push(stats);
        } else if node.outputs.iter().any(|v| moved.contains(v)) {
            continue;
        }
        nodes.push(node);
    }
    graph.clone().with_nodes(nodes)
}

/// For the numbers of convolutions that take the statistics of their result over: the op, and the statistics.
fn statistics(graph: &Graph, device: &dyn ConvolutionModel) -> HashMap<usize, (Conv2d, Value)> {
    let mut taken = HashMap::new();
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
    taken
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
