//! A model as a static graph: single-assignment values with checked shapes and types.
//!
//! Model code calls the builder methods that every op adds to [`Graph`] (`graph.conv2d(…)`,
//! `graph.group_norm(…)`); [`Graph::gradients`] appends the backward ops for a scalar loss,
//! and [`compile`](crate::compile::compile()) makes a plan of the whole, for a device that is not known here.
//!
//! Coming from candle or PyTorch: a [`Value`] is a handle and not an eager tensor, because fusion, reduced precision and
//! memory are decided over the whole graph before the first kernel runs; nothing is allocated during a run.
//!
//! A graph, its gradient, and both on the CPU:
//!
//! ```
//! use medfusion::graph::Graph;
//! use medfusion::ops::pixel_loss::Distance;
//! use medfusion::tensor::{DType, Tensor, TensorMap};
//! use medfusion::{Device, DeviceChoice};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // loss = sum((x wᵀ - target)²), for three rows of two channels.
//! let mut graph = Graph::new();
//! let x = graph.input("x", [3, 2], DType::F32)?;
//! let target = graph.input("target", [3, 1], DType::F32)?;
//! let w = graph.parameter("w", [1, 2])?;
//! let y = graph.linear(x, w, None)?;
//! let loss = graph.pixel_loss(Distance::L2, y, target, 1.0)?;
//! let dw = graph.gradients(loss, &[w])?[0].expect("the loss depends on w");
//! graph.output("loss", loss);
//! graph.output("dw", dw);
//!
//! let device = Device::builder().choice(DeviceChoice::Cpu).open()?;
//! let weights = TensorMap::from([("w".to_owned(), Tensor::from_f32([1, 2], &[1.0, -1.0]))]);
//! let mut run = device.load(device.compile(&graph), &weights)?;
//! run.write("x", &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0])?;
//! run.write("target", &[0.0; 3])?;
//! run.run()?;
//! assert_eq!(run.output("loss")?, [2.0]);
//! assert_eq!(run.output("dw")?, [2.0, -2.0]);
//! # Ok(())
//! # }
//! ```

mod error;
mod live;
mod operator;
mod parameter;
mod rewrite;
mod value;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

pub use error::{GraphError, Mismatch};
pub use live::live_nodes;
pub use operator::{Comparable, Gradient, Op, Operator, PrecisionRule};
pub use parameter::{Declared, Init, Parameter};
pub use rewrite::{Editor, Rebuild};
pub use value::Value;

pub use crate::tensor::TensorType;

use crate::tensor::DType;

/// Where a value comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Written by the host before a run.
    Input,
    /// A named weight, read-only unless an update op of the same graph writes it.
    Parameter,
    /// A named buffer that survives from run to run: optimizer moments, the sampler's `x_t`, counters.
    State,
    /// Known when the graph is built.
    Constant(Arc<[f32]>),
    /// Result `index` of node `node`.
    Node {
        /// Position among [`Graph::nodes`].
        node: usize,
        /// Position among the node's results.
        index: usize,
    },
}

/// What the graph knows of one value.
#[derive(Clone, Debug)]
pub struct ValueInfo {
    /// Shape and element type.
    pub ty: TensorType,
    /// Where it comes from.
    pub source: Source,
    /// Name of a leaf, or the module path given with [`Graph::label`]; empty if none.
    pub name: String,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// What the op reads or updates, in the op's order.
    pub inputs: Vec<Value>,
    /// Its results.
    pub outputs: Vec<Value>,
    /// Path of the module that emitted it, such as `in_blocks.3.0`.
    pub path: String,
}

/// Values and nodes in an order in which they can be executed.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    values: Vec<ValueInfo>,
    nodes: Vec<Node>,
    outputs: Vec<(String, Value)>,
    leaves: HashMap<String, Value>,
    labels: HashMap<String, Value>,
    scope: Vec<String>,
    /// Parameters as they were declared, and their places by name.
    declared: Vec<Declared>,
    declared_index: HashMap<String, usize>,
    /// Paths of blocks.
    blocks: BTreeSet<String>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `build` with `segment` appended to the module path.
    pub fn scope<T>(&mut self, segment: &str, build: impl FnOnce(&mut Self) -> T) -> T {
        self.scope.push(segment.to_owned());
        let result = build(self);
        self.scope.pop();
        result
    }

    /// Puts what is built from now on under `path`; gives what [`Graph::leave_path`] takes to go back.
    pub(crate) fn enter_path(&mut self, path: &str) -> Vec<String> {
        std::mem::replace(&mut self.scope, vec![path.to_owned()])
    }

    /// Goes back to the path before [`Graph::enter_path`].
    pub(crate) fn leave_path(&mut self, before: Vec<String>) {
        self.scope = before;
    }

    /// The module path in force.
    pub fn path(&self) -> String {
        self.scope.join(".")
    }

    fn qualified(&self, name: &str) -> String {
        match self.path() {
            path if path.is_empty() => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }

    fn leaf(&mut self, name: String, ty: TensorType, source: Source) -> Result<Value, GraphError> {
        if let Some(&value) = self.leaves.get(&name) {
            let known = &self.values[value.index()];
            let same_kind =
                std::mem::discriminant(&known.source) == std::mem::discriminant(&source);
            if known.ty == ty && same_kind {
                return Ok(value);
            }
            return Err(GraphError::Leaf {
                name,
                known: known.ty.clone(),
                asked: ty,
            });
        }
        let value = self.push(ty, source, name.clone());
        self.leaves.insert(name, value);
        Ok(value)
    }

    fn push(&mut self, ty: TensorType, source: Source, name: String) -> Value {
        let value = Value::new(self.values.len());
        self.values.push(ValueInfo { ty, source, name });
        value
    }

    /// A value that the host writes before each run. Names are global, not scoped.
    ///
    /// # Errors
    /// If the name is taken by a leaf of another type.
    pub fn input(
        &mut self,
        name: &str,
        shape: impl Into<Vec<usize>>,
        dtype: DType,
    ) -> Result<Value, GraphError> {
        self.leaf(
            name.to_owned(),
            TensorType::new(shape, dtype),
            Source::Input,
        )
    }

    /// A buffer that survives from run to run. Names are global, not scoped.
    ///
    /// # Errors
    /// If the name is taken by a leaf of another type.
    pub fn state(
        &mut self,
        name: &str,
        shape: impl Into<Vec<usize>>,
        dtype: DType,
    ) -> Result<Value, GraphError> {
        self.leaf(
            name.to_owned(),
            TensorType::new(shape, dtype),
            Source::State,
        )
    }

    /// `f32` values known when the graph is built.
    ///
    /// # Errors
    /// If `values` does not hold the product of `shape`.
    pub fn constant(
        &mut self,
        shape: impl Into<Vec<usize>>,
        values: &[f32],
    ) -> Result<Value, GraphError> {
        let ty = TensorType::new(shape, DType::F32);
        if ty.len() != values.len() {
            return Err(GraphError::op(
                "constant",
                self.path(),
                Mismatch::new(format!("{} values for {ty}", ty.len()), values.len()),
            ));
        }
        let name = format!("constant.{}", self.values.len());
        Ok(self.push(ty, Source::Constant(values.into()), name))
    }

    /// Appends a node and returns its results.
    ///
    /// # Errors
    /// If the op does not take inputs of these types; the error names the op and the module path.
    pub fn node(&mut self, op: impl Into<Op>, inputs: &[Value]) -> Result<Vec<Value>, GraphError> {
        self.node_at(op.into(), inputs, self.path())
    }

    fn node_at(
        &mut self,
        op: Op,
        inputs: &[Value],
        path: String,
    ) -> Result<Vec<Value>, GraphError> {
        let types: Vec<TensorType> = inputs.iter().map(|&v| self.ty(v).clone()).collect();
        let result = op
            .operator()
            .infer(&types)
            .and_then(|types| self.check_updates(&op, inputs).map(|()| types))
            .map_err(|mismatch| GraphError::op(op.operator().name(), path.clone(), mismatch))?;
        let node = self.nodes.len();
        let outputs: Vec<Value> = result
            .into_iter()
            .enumerate()
            .map(|(index, ty)| self.push(ty, Source::Node { node, index }, String::new()))
            .collect();
        self.nodes.push(Node {
            op,
            inputs: inputs.to_vec(),
            outputs: outputs.clone(),
            path,
        });
        Ok(outputs)
    }

    /// What an op writes in place must be a parameter or a state, and no other operand of it.
    fn check_updates(&self, op: &Op, inputs: &[Value]) -> Result<(), Mismatch> {
        for &position in op.operator().updates() {
            let updated = inputs[position];
            if !matches!(self.info(updated).source, Source::Parameter | Source::State) {
                return Err(Mismatch::new(
                    format!("a parameter or state as operand {position}, which it updates"),
                    self.ty(updated),
                ));
            }
            let others = inputs.iter().enumerate().filter(|&(i, _)| i != position);
            if let Some((other, _)) = others.into_iter().find(|&(_, &v)| self.root(v) == updated) {
                return Err(Mismatch::new(
                    format!("operand {position}, which it updates, in no other place"),
                    format!("'{}' as operand {other} too", self.info(updated).name),
                ));
            }
        }
        Ok(())
    }

    /// The value whose memory `value` renames; itself if it is no view.
    fn root(&self, mut value: Value) -> Value {
        while let Some(node) = self.producer(value)
            && node.op.operator().is_view()
        {
            value = node.inputs[0];
        }
        value
    }

    /// [`Graph::node`] for ops with one result.
    ///
    /// # Errors
    /// As [`Graph::node`].
    pub fn apply(&mut self, op: impl Into<Op>, inputs: &[Value]) -> Result<Value, GraphError> {
        Ok(self.node(op, inputs)?[0])
    }

    /// Names `value` after the current module path, so that tests and tools can ask for it.
    pub fn label(&mut self, value: Value) {
        let path = self.path();
        self.label_as(value, &path);
    }

    /// Names `value`, so that tests and tools can ask for it with [`Graph::labelled`].
    pub fn label_as(&mut self, value: Value, name: &str) {
        self.labels.insert(name.to_owned(), value);
        let info = &mut self.values[value.index()];
        if info.name.is_empty() {
            info.name = name.to_owned();
        }
    }

    /// The value named `name` by [`Graph::label`].
    pub fn labelled(&self, name: &str) -> Option<Value> {
        self.labels.get(name).copied()
    }

    /// Keeps `value` readable under `name` after a run.
    pub fn output(&mut self, name: &str, value: Value) {
        self.outputs.push((name.to_owned(), value));
    }

    /// The leaf (input, parameter or state) of this full name.
    pub fn leaf_named(&self, name: &str) -> Option<Value> {
        self.leaves.get(name).copied()
    }

    /// All parameters in the order in which they were first asked for.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, Value)> {
        self.values
            .iter()
            .enumerate()
            .filter(|(_, info)| matches!(info.source, Source::Parameter))
            .map(|(index, info)| (info.name.as_str(), Value::new(index)))
    }

    /// Type of a value.
    pub fn ty(&self, value: Value) -> &TensorType {
        &self.values[value.index()].ty
    }

    /// Shape of a value.
    pub fn shape(&self, value: Value) -> &[usize] {
        &self.ty(value).shape
    }

    /// What the graph knows of a value.
    pub fn info(&self, value: Value) -> &ValueInfo {
        &self.values[value.index()]
    }

    /// The nodes in execution order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Number of values, leaves included.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = Value> + use<> {
        (0..self.values.len()).map(Value::new)
    }

    /// Named results.
    pub fn outputs(&self) -> &[(String, Value)] {
        &self.outputs
    }

    /// The node that computes `value`, if it is not a leaf.
    pub fn producer(&self, value: Value) -> Option<&Node> {
        match self.info(value).source {
            Source::Node { node, .. } => Some(&self.nodes[node]),
            _ => None,
        }
    }
}

/// Types of `values`.
pub(crate) fn op_types(graph: &Graph, values: &[Value]) -> Vec<TensorType> {
    values.iter().map(|&v| graph.ty(v).clone()).collect()
}
