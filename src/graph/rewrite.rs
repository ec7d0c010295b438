//! The ways in which a compiler pass changes a graph: node by node into a new one, or op by op in place.

use super::op_types;
use super::operator::Op;
use super::value::Value;
use super::{Graph, Node, Source};
use crate::tensor::{DType, TensorType};

/// A graph that is built anew from the nodes of another, whose values and outputs it keeps.
#[derive(Debug)]
pub struct Rebuild {
    graph: Graph,
}

impl Rebuild {
    /// The values and outputs of `graph`, without nodes.
    pub fn of(graph: &Graph) -> Self {
        let mut graph = graph.clone();
        graph.nodes.clear();
        Self { graph }
    }

    /// What has been built so far. Sources of values whose node is not pushed yet are those of the old graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Appends a node and makes it the source of its results.
    pub fn push(&mut self, node: Node) {
        for (index, &output) in node.outputs.iter().enumerate() {
            self.graph.values[output.index()].source = Source::Node {
                node: self.graph.nodes.len(),
                index,
            };
        }
        self.graph.nodes.push(node);
    }

    /// A new value without a name, to be the result of a node.
    pub fn value(&mut self, ty: TensorType) -> Value {
        self.graph.push(ty, Source::Input, String::new())
    }

    /// Gives `value` another element type.
    pub fn set_dtype(&mut self, value: Value, dtype: DType) {
        self.graph.values[value.index()].ty.dtype = dtype;
    }

    /// Drops `value`, which nobody reads any more: its source is that of `other` from now on.
    pub fn drop_for(&mut self, value: Value, other: Value) {
        let source = self.graph.values[other.index()].source.clone();
        self.graph.values[value.index()].source = source;
    }

    /// Makes `value` the output of number `index`, under the name that it has.
    pub fn set_output(&mut self, index: usize, value: Value) {
        self.graph.outputs[index].1 = value;
    }

    /// The new graph.
    pub fn finish(self) -> Graph {
        self.graph
    }
}

impl Graph {
    /// The same values, computed by other nodes.
    pub fn with_nodes(&self, nodes: impl IntoIterator<Item = Node>) -> Self {
        let mut rebuilt = Rebuild::of(self);
        for node in nodes {
            rebuilt.push(node);
        }
        rebuilt.finish()
    }

    /// Types of what `node` reads.
    pub fn input_types(&self, node: &Node) -> Vec<TensorType> {
        op_types(self, &node.inputs)
    }

    /// Types of the results of `node`.
    pub fn output_types(&self, node: &Node) -> Vec<TensorType> {
        op_types(self, &node.outputs)
    }
}

/// A graph whose nodes get other ops and operands, while their results stay. It knows who reads each value.
#[derive(Debug)]
pub struct Editor {
    graph: Graph,
    /// Nodes that read each value; [`Editor::OUTPUT`] stands for an output of the graph.
    users: Vec<Vec<usize>>,
}

impl Editor {
    /// The user that stands for an output of the graph.
    pub const OUTPUT: usize = usize::MAX;

    /// Begins to edit `graph`.
    pub fn new(graph: &Graph) -> Self {
        let mut users = vec![Vec::new(); graph.value_count()];
        for (index, node) in graph.nodes().iter().enumerate() {
            for input in &node.inputs {
                users[input.index()].push(index);
            }
        }
        for (_, value) in graph.outputs() {
            users[value.index()].push(Self::OUTPUT);
        }
        Self {
            graph: graph.clone(),
            users,
        }
    }

    /// The graph as it is now.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Node `index`.
    pub fn node(&self, index: usize) -> &Node {
        &self.graph.nodes[index]
    }

    /// The node that computes `value`, with its index.
    pub fn producer(&self, value: Value) -> Option<(usize, &Node)> {
        match self.graph.info(value).source {
            Source::Node { node, .. } => Some((node, self.node(node))),
            _ => None,
        }
    }

    /// Nodes that read `value`, once for each time they do.
    pub fn users(&self, value: Value) -> &[usize] {
        &self.users[value.index()]
    }

    /// Gives node `index` another op and operands. A producer that loses its last user through
    /// this is dead, so its own operands lose it as a user too.
    pub fn replace(&mut self, index: usize, op: Op, inputs: Vec<Value>) {
        let old = std::mem::replace(&mut self.graph.nodes[index].inputs, inputs.clone());
        self.graph.nodes[index].op = op;
        for value in inputs {
            self.users[value.index()].push(index);
        }
        for value in old {
            self.release(value, index);
        }
    }

    fn release(&mut self, value: Value, user: usize) {
        let users = &mut self.users[value.index()];
        if let Some(position) = users.iter().position(|&u| u == user) {
            users.swap_remove(position);
        }
        let Some((producer, node)) = self.producer(value) else {
            return;
        };
        let dead = node
            .outputs
            .iter()
            .all(|v| self.users[v.index()].is_empty())
            && node.op.operator().updates().is_empty();
        if dead {
            for operand in node.inputs.clone() {
                self.release(operand, producer);
            }
        }
    }

    /// The edited graph.
    pub fn finish(self) -> Graph {
        self.graph
    }
}
