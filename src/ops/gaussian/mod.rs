//! Diagonal Gaussians given by mean and log-variance: sampling and the divergence from the
//! standard normal.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::{Binary, Operator, Unary};
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};

/// `mean + exp(logvar / 2) noise`. Inputs mean, logvar, noise of one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reparameterize;

/// `dy noise exp(logvar / 2) / 2`, the gradient of [`Reparameterize`] with respect to `logvar`.
/// Inputs logvar, noise, dy of one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReparameterizeGrad;

/// `sum(mean² + exp(logvar) - 1 - logvar) / (2 N)`: the Kullback–Leibler divergence from the
/// standard normal, summed over a sample and averaged over the batch, in nats. Inputs mean,
/// logvar `[N, …]`; scalar result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GaussianKl;

/// Gradients of [`GaussianKl`]: inputs mean, logvar, scalar dy; results
/// `dy mean / N` and `dy (exp(logvar) - 1) / (2 N)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GaussianKlGrad;

/// All inputs of one `f32` type.
fn same<const K: usize>(what: &str, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
    match inputs {
        [first, ..]
            if inputs.len() == K
                && *first == TensorType::f32(first.shape.clone())
                && inputs.iter().all(|ty| ty == first) =>
        {
            Ok(vec![first.clone()])
        }
        _ => Err(Mismatch::inputs(format!("{what} of one f32 type"), inputs)),
    }
}

impl Operator for Reparameterize {
    fn name(&self) -> &'static str {
        "reparameterize"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        same::<3>("mean, logvar and noise", inputs)
    }

    fn flops(&self, _: &[TensorType], outputs: &[TensorType]) -> u64 {
        4 * outputs[0].len() as u64
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let dy = cx.dy();
        let &[_, logvar, noise] = cx.inputs else {
            unreachable!("checked by infer")
        };
        let dlogvar = match cx.wanted[1] {
            true => Some(cx.graph.apply(ReparameterizeGrad, &[logvar, noise, dy])?),
            false => None,
        };
        let dnoise = match cx.wanted[2] {
            true => {
                let half = cx.graph.scale(logvar, 0.5)?;
                let std = cx.graph.apply(Unary::Exp, &[half])?;
                Some(cx.graph.apply(Binary::Mul, &[std, dy])?)
            }
            false => None,
        };
        Ok(Some(vec![Some(dy), dlogvar, dnoise]))
    }
}

impl Operator for ReparameterizeGrad {
    fn name(&self) -> &'static str {
        "reparameterize_grad"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        same::<3>("logvar, noise and dy", inputs)
    }

    fn flops(&self, _: &[TensorType], outputs: &[TensorType]) -> u64 {
        4 * outputs[0].len() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }
}

impl Operator for GaussianKl {
    fn name(&self) -> &'static str {
        "gaussian_kl"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let ty = same::<2>("mean and logvar [N, …]", inputs)?;
        if ty[0].shape.is_empty() {
            return Err(Mismatch::inputs("mean and logvar [N, …]", inputs));
        }
        Ok(vec![TensorType::f32([])])
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        6 * inputs[0].len() as u64
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let inputs = [cx.inputs[0], cx.inputs[1], cx.dy()];
        let grads = cx.graph.node(GaussianKlGrad, &inputs)?;
        Ok(Some(grads.into_iter().map(Some).collect()))
    }
}

impl Operator for GaussianKlGrad {
    fn name(&self) -> &'static str {
        "gaussian_kl_grad"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [mean, logvar, dy] if mean == logvar && *dy == TensorType::f32([]) => {
                Ok(vec![mean.clone(), mean.clone()])
            }
            _ => Err(Mismatch::inputs("mean, logvar and a scalar dy", inputs)),
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        4 * inputs[0].len() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }
}

impl Graph {
    /// A sample `mean + exp(logvar / 2) noise`, all of one shape.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn reparameterize(
        &mut self,
        mean: Value,
        logvar: Value,
        noise: Value,
    ) -> Result<Value, GraphError> {
        self.apply(Reparameterize, &[mean, logvar, noise])
    }

    /// `sum(mean² + exp(logvar) - 1 - logvar) / (2 N)` of `[N, …]`, a scalar.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn gaussian_kl(&mut self, mean: Value, logvar: Value) -> Result<Value, GraphError> {
        self.apply(GaussianKl, &[mean, logvar])
    }
}
