//! Reduced precision: activations become f16 or bf16 where an op accepts that; everything else stays f32.
//!
//! The rewrite comes after autodiff and fusion. Weights stay f32 values (a device packs them into the operand type of
//! its kernels), and so do losses, statistics, gradients of weights, optimizer state and whatever crosses to the host.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::compile::report::PassReport;
use crate::graph::{Graph, Node, PrecisionRule, Rebuild, Source, TensorType, Value, live_nodes};
use crate::ops::Cast;
use crate::tensor::DType;

/// Element type of activations and of the operands of products. Statistics, losses, master weights and optimizer state
/// are f32 in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Precision {
    /// The exact reference, on plain kernels.
    F32,
    /// f16 with f32 accumulation on tensor cores.
    F16,
    /// bf16 with f32 accumulation on tensor cores.
    BF16,
    /// f16 with f16 accumulation over short chunks, which are summed in f32.
    F16Fast,
}

impl Precision {
    /// Type that activations are stored in.
    pub fn storage(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 | Self::F16Fast => DType::F16,
            Self::BF16 => DType::BF16,
        }
    }
}

/// A text that names no precision.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown precision '{0}': the precisions are auto, f32, f16, bf16 and f16-fast")]
pub struct UnknownPrecision(pub String);

/// What a plan is for, which decides the precision where nobody names one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// Sampling, encoding, decoding.
    #[default]
    Inference,
    /// Losses, gradients and updates.
    Training,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inference => "inference",
            Self::Training => "training",
        })
    }
}

/// The kinds of device that differ in what they compute in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A processor.
    Cpu,
    /// A GPU with tensor cores, emulated or not.
    Gpu,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "the CPU",
            Self::Gpu => "a GPU",
        })
    }
}

impl Precision {
    /// The precision where nobody names one: the only such choice of the engine.
    ///
    /// - The CPU computes in f32.
    /// - A GPU samples in f16: an image of the shipped cells model is 84.8 dB from that of f32, one in bf16 66.9 dB.
    /// - A GPU trains in bf16: it runs at the rate of f16 on Ampere's tensor cores (f32 sums), and with the exponents of
    ///   f32 its gradients neither overflow nor vanish, so no step is skipped in search of a loss scale.
    pub fn default_for(kind: DeviceKind, purpose: Purpose) -> Self {
        match (kind, purpose) {
            (DeviceKind::Cpu, _) => Self::F32,
            (DeviceKind::Gpu, Purpose::Inference) => Self::F16,
            (DeviceKind::Gpu, Purpose::Training) => Self::BF16,
        }
    }
}

/// A precision, or the [default](Precision::default_for) of the device and purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrecisionChoice {
    /// What [`Precision::default_for`] says.
    #[default]
    Auto,
    /// This one.
    Named(Precision),
}

impl PrecisionChoice {
    /// The precision on a device of this kind.
    pub fn resolve(self, kind: DeviceKind, purpose: Purpose) -> Precision {
        match self {
            Self::Auto => Precision::default_for(kind, purpose),
            Self::Named(precision) => precision,
        }
    }
}

impl From<Precision> for PrecisionChoice {
    fn from(precision: Precision) -> Self {
        Self::Named(precision)
    }
}

impl FromStr for PrecisionChoice {
    type Err = UnknownPrecision;

    fn from_str(text: &str) -> Result<Self, UnknownPrecision> {
        match text {
            "auto" => Ok(Self::Auto),
            other => other.parse().map(Self::Named),
        }
    }
}

impl fmt::Display for PrecisionChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Named(precision) => precision.fmt(f),
        }
    }
}

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(text: &str) -> Result<Self, UnknownPrecision> {
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::BF16),
            "f16-fast" => Ok(Self::F16Fast),
            other => Err(UnknownPrecision(other.to_owned())),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F16Fast => "f16-fast",
        })
    }
}

/// `graph` with activations of type `reduced`, and casts where an operand has another type than its op takes.
pub fn reduce(graph: &Graph, reduced: DType) -> (Graph, PassReport) {
    let mut report = PassReport::new("precision");
    let result = rewrite(graph, reduced, false, &mut report);
    report.compare(graph, &result);
    (result, report)
}

/// As [`reduce`], but ops that follow their operands are reduced whatever those are, so that a test of such an op alone
/// reaches its kernels.
#[cfg(test)]
pub(crate) fn reduce_all(graph: &Graph, reduced: DType) -> Graph {
    rewrite(graph, reduced, true, &mut PassReport::new("precision"))
}

fn rewrite(graph: &Graph, reduced: DType, all: bool, report: &mut PassReport) -> Graph {
    let mut reducer = Reducer {
        rebuild: Rebuild::of(graph),
        casts: HashMap::new(),
        reduced,
        all,
    };
    for node in graph.nodes() {
        reducer.node(node);
    }
    for (index, &(_, value)) in graph.outputs().iter().enumerate() {
        let full = reducer.as_type(value, false);
        reducer.rebuild.set_output(index, full);
    }
    report.count("casts", reducer.casts.len());
    rounded_by_producers(&reducer.rebuild.finish(), report)
}

/// `graph` without the casts whose operand nobody else reads and whose producer can
/// [round](crate::graph::Operator::rounds) as well.
fn rounded_by_producers(graph: &Graph, report: &mut PassReport) -> Graph {
    let mut uses = vec![0; graph.value_count()];
    // Fusion leaves nodes behind that nobody needs.
    let needed = graph.nodes().iter().zip(live_nodes(graph));
    let needed = needed.filter_map(|(node, live)| live.then_some(node));
    let read = needed.flat_map(|node| &node.inputs);
    for value in read.chain(graph.outputs().iter().map(|(_, value)| value)) {
        uses[value.index()] += 1;
    }
    let rounds = |value: Value| {
        let producer = graph.producer(value);
        uses[value.index()] == 1 && producer.is_some_and(|node| node.op.operator().rounds())
    };
    let mut result = Rebuild::of(graph);
    let mut uncast: HashMap<Value, Value> = HashMap::new();
    for node in graph.nodes() {
        if let Some(&Cast { to }) = node.op.get::<Cast>()
            && to != DType::F32
            && rounds(node.inputs[0])
        {
            let (cast, rounded) = (node.outputs[0], node.inputs[0]);
            result.set_dtype(rounded, to);
            uncast.insert(cast, rounded);
            // Nobody reads it any more, but every value has a source.
            result.drop_for(cast, rounded);
            continue;
        }
        let inputs = node.inputs.iter();
        let inputs = inputs.map(|value| *uncast.get(value).unwrap_or(value));
        result.push(Node {
            inputs: inputs.collect(),
            ..node.clone()
        });
    }
    report.count("casts rounded by their producers", uncast.len());
    result.finish()
}

struct Reducer {
    rebuild: Rebuild,
    casts: HashMap<Value, Value>,
    reduced: DType,
    /// Ops that follow need not wait for a reduced operand.
    all: bool,
}

fn in_mask(mask: u64, position: usize) -> bool {
    // Ops with many operands treat those past the mask's end as its last bit says.
    mask >> position.min(63) & 1 == 1
}

impl Reducer {
    fn is_reduced(&self, value: Value) -> bool {
        self.rebuild.graph().ty(value).dtype == self.reduced
    }

    fn node(&mut self, node: &Node) {
        let (inputs, results) = match node.op.operator().precision_rule() {
            PrecisionRule::Full => (0, 0),
            PrecisionRule::Reduced { inputs, results } => (inputs, results),
            PrecisionRule::Follows { inputs, results } => {
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
            if in_mask(results, i) && self.rebuild.graph().ty(result).dtype == DType::F32 {
                self.rebuild.set_dtype(result, self.reduced);
            }
        }
        self.rebuild.push(Node {
            inputs: operands,
            ..node.clone()
        });
    }

    /// `value` itself if its type is the wanted one or no float, else its cast, made once.
    fn as_type(&mut self, value: Value, reduced: bool) -> Value {
        let ty = self.rebuild.graph().ty(value);
        let from_float = matches!(ty.dtype, DType::F32) || ty.dtype == self.reduced;
        if !from_float || self.is_reduced(value) == reduced {
            return value;
        }
        if let Some(&cast) = self.casts.get(&value) {
            return cast;
        }
        let to = if reduced { self.reduced } else { DType::F32 };
        let ty = TensorType::new(ty.shape.clone(), to);
        let cast = self.rebuild.value(ty);
        let path = self.producer_path(value);
        self.rebuild.push(Node {
            op: Cast { to }.into(),
            inputs: vec![value],
            outputs: vec![cast],
            path,
        });
        self.casts.insert(value, cast);
        cast
    }

    fn producer_path(&self, value: Value) -> String {
        let graph = self.rebuild.graph();
        match graph.info(value).source {
            Source::Node { node, .. } => {
                let node = graph.nodes().get(node);
                node.map_or_else(String::new, |n| n.path.clone())
            }
            _ => String::new(),
        }
    }
}
