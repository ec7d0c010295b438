//! Affine maps of the innermost axis and their gradients.

pub mod cpu;
mod cuda;
mod kernel;
mod reference;
#[cfg(test)]
mod tests;

use super::{Operator, PrecisionRule};
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};

/// `y[…,o] = sum_i x[…,i] w[o,i] (+ bias[o]) (+ residual[…,o])`.
///
/// Inputs: `x` `[…,I]`, `w` `[O,I]` or, as 1-wide convolutions store it, `[O,I,1]` or `[O,I,1,1]`;
/// then `bias` `[O]` and `residual` of the result's shape where their flags are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// Whether input 2 is a bias.
    pub bias: bool,
    /// Whether the last input is added to the result.
    pub residual: bool,
}

/// Gradient of [`Linear`] with respect to its input `(+ residual)`. Inputs: `dy` `[…,O]`, `w` `[O,I]`, then `residual`
/// of the result's shape if its flag is set; result `[…,I]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearInputGrad {
    /// Whether the last input is added to the result.
    pub residual: bool,
}

/// Gradient of [`Linear`] with respect to its matrix. Inputs: `x` `[…,I]`, `dy` `[…,O]`; result
/// `[O,I]` followed by `ones` axes of extent 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearWeightGrad {
    /// Trailing axes of extent 1 in the matrix's shape, 0 to 2.
    pub ones: usize,
}

/// Most rows of a gradient that is kept in memory until it is summed with those of other layers.
const FEW_ROWS: usize = 32;

/// Extents `[O, I]` of a matrix.
fn matrix(ty: &TensorType) -> Option<[usize; 2]> {
    match ty.shape[..] {
        [o, i] | [o, i, 1] | [o, i, 1, 1] if ty.dtype.is_float() && !ty.is_empty() => Some([o, i]),
        _ => None,
    }
}

/// `x` with another innermost extent.
fn with_channels(x: &TensorType, channels: usize) -> Option<TensorType> {
    let mut ty = x.clone();
    *ty.shape.last_mut()? = channels;
    x.dtype.is_float().then_some(ty)
}

impl Linear {
    /// Position of the residual among the inputs, if there is one.
    fn residual_input(&self) -> Option<usize> {
        self.residual.then_some(2 + usize::from(self.bias))
    }
}

impl Operator for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn describe(&self) -> String {
        let flags = [(self.bias, " +bias"), (self.residual, " +residual")];
        let flags = flags
            .into_iter()
            .filter_map(|(flag, name)| flag.then_some(name));
        std::iter::once("linear").chain(flags).collect()
    }

    /// Matrix and bias stay f32.
    fn precision_rule(&self) -> PrecisionRule {
        let residual = self.residual_input().map_or(0, |index| 1 << index);
        PrecisionRule::Reduced {
            inputs: 1 | residual,
            results: 1,
        }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let y = || {
            let [x, w, rest @ ..] = inputs else {
                return None;
            };
            let [o, i] = matrix(w)?;
            let y = with_channels(x, o)?;
            let bias = TensorType::new([o], w.dtype);
            let expected: Vec<&TensorType> = [(self.bias, &bias), (self.residual, &y)]
                .into_iter()
                .filter_map(|(flag, ty)| flag.then_some(ty))
                .collect();
            (x.channels() == i && rest.iter().eq(expected)).then_some(vec![y])
        };
        y().ok_or_else(|| {
            let bias = if self.bias { ", bias [O]" } else { "" };
            let residual = if self.residual {
                ", residual like the result"
            } else {
                ""
            };
            Mismatch::inputs(format!("x […,I], weight [O,I]{bias}{residual}"), inputs)
        })
    }

    fn flops(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        2 * (outputs[0].len() * inputs[0].channels()) as u64
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let (x, w, dy) = (cx.inputs[0], cx.inputs[1], cx.dy());
        let g = &mut *cx.graph;
        let mut grads = vec![None; cx.inputs.len()];
        if cx.wanted[0] {
            grads[0] = Some(g.apply(LinearInputGrad { residual: false }, &[dy, w])?);
        }
        if cx.wanted[1] {
            let ones = g.shape(w).len() - 2;
            grads[1] = Some(g.apply(LinearWeightGrad { ones }, &[x, dy])?);
        }
        if self.bias && cx.wanted[2] {
            let shape = g.shape(cx.inputs[2]).to_vec();
            // A gradient of few rows can wait to be summed in one launch with those of other layers.
            let few = g.ty(dy).rows() <= FEW_ROWS;
            grads[2] = Some(if few { dy } else { g.sum_to(dy, &shape)? });
        }
        if let Some(residual) = self.residual_input() {
            grads[residual] = Some(dy);
        }
        Ok(Some(grads))
    }
}

impl LinearInputGrad {
    /// Position of the residual among the inputs.
    const RESIDUAL: usize = 2;
}

impl Operator for LinearInputGrad {
    fn name(&self) -> &'static str {
        "linear_input_grad"
    }

    fn describe(&self) -> String {
        let residual = if self.residual { " +residual" } else { "" };
        format!("linear_input_grad{residual}")
    }

    /// The matrix stays f32.
    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::Reduced {
            inputs: 1 | u64::from(self.residual) << Self::RESIDUAL,
            results: 1,
        }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let dx = || {
            let [dy, w, rest @ ..] = inputs else {
                return None;
            };
            let [o, i] = matrix(w)?;
            let dx = with_channels(dy, i)?;
            let residual = self.residual.then_some(&dx);
            (dy.channels() == o && rest.iter().eq(residual)).then_some(vec![dx])
        };
        dx().ok_or_else(|| {
            let residual = match self.residual {
                true => ", residual like the result",
                false => "",
            };
            Mismatch::inputs(format!("dy […,O], weight [O,I]{residual}"), inputs)
        })
    }

    fn flops(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        2 * (outputs[0].len() * inputs[0].channels()) as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }
}

impl Operator for LinearWeightGrad {
    fn name(&self) -> &'static str {
        "linear_weight_grad"
    }

    /// The matrix's gradient stays f32.
    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::Reduced {
            inputs: 0b11,
            results: 0,
        }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let outer = |ty: &TensorType| ty.shape[..ty.shape.len() - 1].to_vec();
        match inputs {
            [x, dy]
                if !x.shape.is_empty()
                    && !dy.shape.is_empty()
                    && outer(x) == outer(dy)
                    && x.dtype == dy.dtype
                    && x.dtype.is_float() =>
            {
                let mut shape = vec![dy.channels(), x.channels()];
                shape.resize(2 + self.ones, 1);
                Ok(vec![TensorType::new(shape, x.dtype)])
            }
            _ => Err(Mismatch::inputs("x […,I] and dy […,O]", inputs)),
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        2 * (inputs[0].len() * inputs[1].channels()) as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }
}

impl Graph {
    /// `x wᵀ + bias` over the innermost axis: `x` `[…,I]`, `w` `[O,I]`, `[O,I,1]` or `[O,I,1,1]`,
    /// optional `bias` `[O]`, result `[…,O]`.
    ///
    /// # Errors
    /// If the channels differ.
    pub fn linear(&mut self, x: Value, w: Value, bias: Option<Value>) -> Result<Value, GraphError> {
        let op = Linear {
            bias: bias.is_some(),
            residual: false,
        };
        let inputs: Vec<Value> = [x, w].into_iter().chain(bias).collect();
        self.apply(op, &inputs)
    }
}
