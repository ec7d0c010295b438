//! Reduced precision: activations become f16 or bf16 where an op takes them so; everything else stays f32.
//!
//! The rewrite comes after autodiff and fusion. Weights stay f32 values (a device packs them into the operand type of
//! its kernels), and so do losses, statistics, gradients of weights, optimizer state and whatever crosses to the host.

use std::collections::HashMap;

use super::plan::live_nodes;
use super::{Graph, Node, Source, TensorType, Value};
use crate::ops::{Cast, Op};
use crate::tensor::DType;

/// Which operands of an op may be stored in reduced precision; bit `i` is operand `i`. Operands outside are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// None.
    #[default]
    Full,
    /// These inputs and results are.
    Reduced { inputs: u64, results: u64 },
    /// These inputs and results are if any of the inputs already is: ops that move or combine values.
    Follows { inputs: u64, results: u64 },
}

impl Storage {
    /// All operands follow.
    pub const FOLLOWS: Self = Self::Follows {
        inputs: u64::MAX,
        results: u64::MAX,
    };
}

/// `graph` with activations of type `reduced`, and casts where an operand has another type than its op takes.
pub fn lower(graph: &Graph, reduced: DType) -> Graph {
    rewrite(graph, reduced, false)
}

/// As [`lower`], but ops that follow their operands are reduced whatever those are, so that a test of such an op alone
/// reaches its kernels.
#[cfg(test)]
pub(crate) fn lower_all(graph: &Graph, reduced: DType) -> Graph {
    rewrite(graph, reduced, true)
}

fn rewrite(graph: &Graph, reduced: DType, all: bool) -> Graph {
    let mut lowered = Lowering {
        graph: graph.clone(),
        casts: HashMap::new(),
        nodes: Vec::with_capacity(graph.nodes.len()),
        reduced,
        all,
    };
    for node in &graph.nodes {
        lowered.node(node);
    }
    let outputs = graph.outputs.clone();
    lowered.graph.outputs = outputs
        .into_iter()
        .map(|(name, value)| (name, lowered.as_type(value, false)))
        .collect();
    lowered.graph.nodes = lowered.nodes;
    rounded_by_producers(&lowered.graph)
}

/// `graph` without the casts whose operand nobody else reads and whose producer can
/// [round](crate::ops::Operator::rounds) as well.
fn rounded_by_producers(graph: &Graph) -> Graph {
    let mut uses = vec![0; graph.values.len()];
    // Fusion leaves nodes behind that nobody needs.
    let needed = graph.nodes.iter().zip(live_nodes(graph));
    let needed = needed.filter_map(|(node, live)| live.then_some(node));
    let read = needed.flat_map(|node| &node.inputs);
    for value in read.chain(graph.outputs.iter().map(|(_, value)| value)) {
        uses[value.index()] += 1;
    }
    let rounds = |value: Value| {
        let producer = graph.producer(value);
        uses[value.index()] == 1 && producer.is_some_and(|node| node.op.operator().rounds())
    };
    let mut result = Lowering {
        graph: graph.clone(),
        casts: HashMap::new(),
        nodes: Vec::with_capacity(graph.nodes.len()),
        reduced: DType::F32,
        all: false,
    };
    for node in &graph.nodes {
        if let Op::Cast(Cast { to }) = node.op
            && to != DType::F32
            && rounds(node.inputs[0])
        {
            let (cast, rounded) = (node.outputs[0], node.inputs[0]);
            result.graph.values[rounded.index()].ty.dtype = to;
            result.casts.insert(cast, rounded);
            // Nobody reads it any more, but every value has a source.
            let source = result.graph.values[rounded.index()].source.clone();
            result.graph.values[cast.index()].source = source;
            continue;
        }
        let uncast = |value: &Value| *result.casts.get(value).unwrap_or(value);
        let inputs = node.inputs.iter().map(uncast).collect();
        result.push(Node {
            inputs,
            ..node.clone()
        });
    }
    result.graph.nodes = result.nodes;
    result.graph
}

struct Lowering {
    graph: Graph,
    casts: HashMap<Value, Value>,
    nodes: Vec<Node>,
    reduced: DType,
    /// Ops that follow need not wait for a reduced operand.
    all: bool,
}

fn in_mask(mask: u64, position: usize) -> bool {
    // Ops with many operands treat those past the mask's end as its last bit says.
    mask >> position.min(63) & 1 == 1
}

impl Lowering {
    fn is_reduced(&self, value: Value) -> bool {
        self.graph.ty(value).dtype == self.reduced
    }

    fn node(&mut self, node: &Node) {
        let (inputs, results) = match node.op.operator().storage() {
            Storage::Full => (0, 0),
            Storage::Reduced { inputs, results } => (inputs, results),
            Storage::Follows { inputs, results } => {
                let follows = self.all
                    || node
                        .inputs
                        .iter()
                        .enumerate()
                        .any(|(i, &v)| in_mask(inputs, i) && self.is_reduced(v));
                if follows { (inputs, results) } else { (0, 0) }
            }
        };
        let operands = node
            .inputs
            .iter()
            .enumerate()
            .map(|(i, &value)| self.as_type(value, in_mask(inputs, i)))
            .collect();
        for (i, &result) in node.outputs.iter().enumerate() {
            let info = &mut self.graph.values[result.index()];
            if in_mask(results, i) && info.ty.dtype == DType::F32 {
                info.ty.dtype = self.reduced;
            }
        }
        self.push(Node {
            inputs: operands,
            ..node.clone()
        });
    }

    fn push(&mut self, node: Node) {
        for (index, &output) in node.outputs.iter().enumerate() {
            self.graph.values[output.index()].source = Source::Node {
                node: self.nodes.len(),
                index,
            };
        }
        self.nodes.push(node);
    }

    /// `value` itself if its type is the wanted one or no float, else its cast, made once.
    fn as_type(&mut self, value: Value, reduced: bool) -> Value {
        let ty = self.graph.ty(value);
        let from_float = matches!(ty.dtype, DType::F32) || ty.dtype == self.reduced;
        if !from_float || self.is_reduced(value) == reduced {
            return value;
        }
        if let Some(&cast) = self.casts.get(&value) {
            return cast;
        }
        let to = if reduced { self.reduced } else { DType::F32 };
        let ty = TensorType::new(ty.shape.clone(), to);
        let cast = self.graph.push(ty, Source::Input, String::new());
        let path = self.graph.producer_path(&self.nodes, value);
        self.push(Node {
            op: Cast { to }.into(),
            inputs: vec![value],
            outputs: vec![cast],
            path,
        });
        self.casts.insert(value, cast);
        cast
    }
}

impl Graph {
    fn producer_path(&self, nodes: &[Node], value: Value) -> String {
        match self.values[value.index()].source {
            Source::Node { node, .. } => {
                nodes.get(node).map_or_else(String::new, |n| n.path.clone())
            }
            _ => String::new(),
        }
    }
}
