//! Reverse-mode differentiation: appends the backward ops of a scalar loss to the graph.

use std::collections::HashMap;

use crate::graph::{Gradient, Graph, GraphError, Value};
use crate::ops::Binary;

impl Graph {
    /// Gradients of the scalar `loss` with respect to each of `wrt`; `None` where the loss does
    /// not depend on it. The backward ops carry the module path of the op they belong to.
    ///
    /// # Errors
    /// If `loss` is not a scalar, or an op on the way has no gradient.
    pub fn gradients(
        &mut self,
        loss: Value,
        wrt: &[Value],
    ) -> Result<Vec<Option<Value>>, GraphError> {
        if !self.shape(loss).is_empty() {
            return Err(GraphError::LossNotScalar(self.ty(loss).clone()));
        }
        // A value needs a gradient if one of `wrt` reaches it.
        let forward_nodes = self.nodes().len();
        let mut needed = vec![false; self.value_count()];
        for &value in wrt {
            needed[value.index()] = true;
        }
        for node in self.nodes() {
            if node.inputs.iter().any(|v| needed[v.index()]) {
                for output in &node.outputs {
                    needed[output.index()] = true;
                }
            }
        }

        let mut grads: HashMap<Value, Value> = HashMap::new();
        grads.insert(loss, self.constant(Vec::new(), &[1.0])?);
        for index in (0..forward_nodes).rev() {
            let node = self.nodes()[index].clone();
            let output_grads: Vec<Option<Value>> =
                node.outputs.iter().map(|v| grads.get(v).copied()).collect();
            let wanted: Vec<bool> = node
                .inputs
                .iter()
                .map(|v| needed[v.index()] && self.ty(*v).dtype.is_float())
                .collect();
            if output_grads.iter().all(Option::is_none) || !wanted.contains(&true) {
                continue;
            }
            let saved = self.enter_path(&node.path);
            let result = node.op.operator().backward(&mut Gradient {
                graph: self,
                inputs: &node.inputs,
                outputs: &node.outputs,
                output_grads: &output_grads,
                wanted: &wanted,
            });
            let accumulated = result.and_then(|input_grads| {
                let Some(input_grads) = input_grads else {
                    return Err(GraphError::NoGradient {
                        op: node.op.operator().name(),
                        path: node.path.clone(),
                        wanted: self.path(),
                    });
                };
                for (position, grad) in input_grads.into_iter().enumerate() {
                    let Some(grad) = grad.filter(|_| wanted[position]) else {
                        continue;
                    };
                    let input = node.inputs[position];
                    let shape = self.shape(input).to_vec();
                    let is_leaf = self.producer(input).is_none();
                    let total = match grads.get(&input).copied() {
                        Some(other) if self.shape(other) == self.shape(grad) => {
                            self.apply(Binary::Add, &[other, grad])?
                        }
                        Some(other) => {
                            let pair = [self.sum_to(other, &shape)?, self.sum_to(grad, &shape)?];
                            self.apply(Binary::Add, &pair)?
                        }
                        None if is_leaf => grad,
                        None => self.sum_to(grad, &shape)?,
                    };
                    grads.insert(input, total);
                }
                Ok(())
            });
            self.leave_path(saved);
            accumulated?;
        }
        let summed = |value: &Value| {
            let Some(&grad) = grads.get(value) else {
                return Ok(None);
            };
            let shape = self.shape(*value).to_vec();
            Ok(Some(self.sum_to(grad, &shape)?))
        };
        wrt.iter().map(summed).collect()
    }
}
