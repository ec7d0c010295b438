//! Producer fusion: an op does the work of the op that makes its operand, where the kernels of a device prefer that.
//!
//! The last rewrite of a graph, after autodiff, fusion and the choice of types, so that what it makes needs no gradient.
//! In order:
//! - a convolution reads the two operands of a concatenation where they are, if convolutions are all that reads it;
//! - a convolution leaves the statistics of its result behind, for the group normalisation that follows;
//! - a group normalisation takes its own statistics.

use std::collections::{HashMap, HashSet};

use crate::compile::backend::Backend;
use crate::compile::report::PassReport;
use crate::graph::{Graph, Node, Op, Source, Value, live_nodes};
use crate::ops::{Concat, Conv2d, GroupNorm, GroupNormStats};

/// `graph` with the producer fusions that `backend` [prefers](Backend::prefers).
pub fn fuse_for_device<B: Backend>(graph: &Graph, backend: &B) -> (Graph, PassReport) {
    let mut report = PassReport::new("fuse_for_device");
    let fused = concatenations(graph, backend, &mut report);
    let fused = convolution_statistics(&fused, backend, &mut report);
    let fused = own_statistics(&fused, backend, &mut report);
    report.compare(graph, &fused);
    (fused, report)
}

/// Gives convolutions the operands of the concatenations that they read.
fn concatenations<B: Backend>(graph: &Graph, backend: &B, report: &mut PassReport) -> Graph {
    let mut users: HashMap<Value, Vec<usize>> = HashMap::new();
    for (index, node) in graph.nodes().iter().enumerate() {
        for &input in &node.inputs {
            users.entry(input).or_default().push(index);
        }
    }
    let mut nodes = graph.nodes().to_vec();
    for node in graph.nodes() {
        let (true, &[first, last]) = (node.op == Concat { axis: 3 }, &node.inputs[..]) else {
            continue;
        };
        let concat = node.outputs[0];
        let Some(readers) = users.get(&concat) else {
            continue;
        };
        let join = |&index: &usize| -> Option<(usize, Node)> {
            let reader = &graph.nodes()[index];
            let conv = reader.op.get::<Conv2d>().filter(|conv| !conv.concat)?;
            let conv = Conv2d {
                concat: true,
                ..*conv
            };
            let mut inputs = reader.inputs.clone();
            if inputs[0] != concat || inputs[1..].contains(&concat) {
                return None;
            }
            inputs[0] = first;
            inputs.push(last);
            let reader = Node {
                op: conv.into(),
                inputs,
                ..reader.clone()
            };
            let types = graph.input_types(&reader);
            backend
                .prefers(&reader.op, &types)
                .then_some((index, reader))
        };
        let is_output = graph.outputs().iter().any(|&(_, value)| value == concat);
        let readers: Option<Vec<(usize, Node)>> = readers.iter().map(join).collect();
        if let Some(readers) = readers.filter(|_| !is_output) {
            report.count("concat + conv2d", readers.len());
            for (index, reader) in readers {
                nodes[index] = reader;
            }
        }
    }
    graph.with_nodes(nodes)
}

/// Makes the statistics of convolutions' results their second results.
fn convolution_statistics<B: Backend>(
    graph: &Graph,
    backend: &B,
    report: &mut PassReport,
) -> Graph {
    // By producer: the convolution with statistics, and their value.
    let mut fused: HashMap<usize, (Op, Value)> = HashMap::new();
    for node in graph.nodes() {
        let Some(&stats) = node.op.get::<GroupNormStats>() else {
            continue;
        };
        let Source::Node { node: index, .. } = graph.info(node.inputs[0]).source else {
            continue;
        };
        let producer = &graph.nodes()[index];
        let Some(conv) = producer.op.get::<Conv2d>() else {
            continue;
        };
        let conv = Op::from(Conv2d {
            stats: Some(stats),
            ..*conv
        });
        // Two normalisations of one map are two statistics: the first is fused.
        if !fused.contains_key(&index) && backend.prefers(&conv, &graph.input_types(producer)) {
            fused.insert(index, (conv, node.outputs[0]));
        }
    }
    report.count("conv2d + group_norm_stats", fused.len());
    with_second_results(graph, &fused)
}

/// Lets group normalisations take the statistics of what they read, if they are the first to read these.
fn own_statistics<B: Backend>(graph: &Graph, backend: &B, report: &mut PassReport) -> Graph {
    let live = live_nodes(graph);
    let mut fused: HashMap<usize, (Op, Value)> = HashMap::new();
    for (index, node) in graph.nodes().iter().enumerate().filter(|(at, _)| live[*at]) {
        let Some(&stats) = node.op.get::<GroupNormStats>() else {
            continue;
        };
        let value = node.outputs[0];
        let mut later = (index + 1..graph.nodes().len()).filter(|&at| live[at]);
        let Some(at) = later.find(|&at| graph.nodes()[at].inputs.contains(&value)) else {
            continue;
        };
        let reader = &graph.nodes()[at];
        let Some(norm) = reader.op.get::<GroupNorm>() else {
            continue;
        };
        let fits = reader.inputs[0] == node.inputs[0] && reader.inputs[1] == value;
        if !fits || norm.stats.is_some() || norm.groups != stats.groups || fused.contains_key(&at) {
            continue;
        }
        let norm = Op::from(GroupNorm {
            stats: Some(stats),
            ..*norm
        });
        if backend.prefers(&norm, &graph.input_types(reader)) {
            fused.insert(at, (norm, value));
        }
    }
    report.count("group_norm_stats + group_norm", fused.len());
    with_second_results(graph, &fused)
}

/// `graph` where the nodes of these indices have these ops and these values as second results, which other nodes
/// computed before; an op that computes an operand itself reads it no more.
fn with_second_results(graph: &Graph, fused: &HashMap<usize, (Op, Value)>) -> Graph {
    let moved: HashSet<Value> = fused.values().map(|&(_, value)| value).collect();
    let mut nodes = Vec::with_capacity(graph.nodes().len());
    for (index, node) in graph.nodes().iter().enumerate() {
        let mut node = node.clone();
        if let Some((op, value)) = fused.get(&index) {
            node.op = op.clone();
            node.inputs.retain(|input| input != value);
            node.outputs.push(*value);
        } else if node.outputs.iter().any(|v| moved.contains(v)) {
            continue;
        }
        nodes.push(node);
    }
    graph.with_nodes(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::backend::Packed;
    use crate::compile::plan::Available;
    use crate::tensor::{DType, TensorType};

    /// A backend that prefers every fusion.
    struct Able;

    impl Backend for Able {
        type Form = ();

        fn storage(&self) -> DType {
            DType::F32
        }

        fn workspace_bytes(
            &self,
            _: &Op,
            _: &[TensorType],
            _: &[TensorType],
            _: &[Available],
        ) -> usize {
            0
        }

        fn packed(
            &self,
            _: &Op,
            _: &[TensorType],
            _: &[TensorType],
            _: &[Available],
        ) -> Option<Packed<()>> {
            None
        }

        fn prefers(&self, _: &Op, _: &[TensorType]) -> bool {
            true
        }
    }

    fn ops(graph: &Graph) -> Vec<String> {
        graph.nodes().iter().map(|n| n.op.to_string()).collect()
    }

    /// Two arrays, concatenated and convolved twice.
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
        let fused = fuse_for_device(&graph, &Able).0;
        let concat = |padding| format!("conv2d stride 1 padding {padding} +concat");
        assert_eq!(ops(&fused), ["concat axis 3".into(), concat(1), concat(0)]);
        assert_eq!(fused.nodes()[1].inputs.len(), 3);
    }

    #[test]
    fn a_concatenation_that_others_read_stays() {
        let (mut graph, x) = decoder();
        graph.swish(x).unwrap();
        assert_eq!(ops(&fuse_for_device(&graph, &Able).0), ops(&graph));
        let (mut graph, x) = decoder();
        graph.output("x", x);
        assert_eq!(ops(&fuse_for_device(&graph, &Able).0), ops(&graph));
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
        let fused = fuse_for_device(&g, &Able).0;
        assert_eq!(
            ops(&fused),
            ["conv2d stride 1 padding 1 +stats", "group_norm_stats 4"]
        );
        let outputs = |g: &Graph| g.outputs().to_vec();
        assert_eq!(outputs(&fused), outputs(&g));
        assert_eq!(
            fused.producer(g.outputs()[0].1).unwrap().op,
            fused.nodes()[0].op
        );
    }

    #[test]
    fn a_group_norm_takes_its_own_statistics() {
        let mut g = Graph::new();
        let x = g.parameter("x", [1, 4, 4, 8]).unwrap();
        let [gamma, beta] = ["gamma", "beta"].map(|name| g.parameter(name, [8]).unwrap());
        let y = g.group_norm(x, gamma, beta, 2, 1e-5).unwrap();
        g.output("y", y);
        let (fused, report) = fuse_for_device(&g, &Able);
        assert_eq!(ops(&fused), ["group_norm 2 +stats"]);
        assert_eq!(fused.nodes()[0].inputs, [x, gamma, beta]);
        assert_eq!(report.rewrites["group_norm_stats + group_norm"], 1);
    }
}
