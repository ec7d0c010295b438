//! Multi-head softmax attention without a matrix of all pairs in memory, and its gradient.

mod cpu;
mod cuda;
mod product;
mod reference;
#[cfg(test)]
mod tests;

use super::{Operator, PrecisionRule};
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};

/// For every head `y_i = sum_j p_ij v_j` with `p_ij = softmax_j(scale q_i · k_j)`.
///
/// Inputs: `q` `[N,Tq,heads·d]`, `k` and `v` `[N,Tk,heads·d]`, channels ordered (head, d).
/// Results: `y` like `q`, and `log sum_j exp(scale q_i · k_j)` `[N,heads,Tq]` for the gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Heads, into which the channels divide.
    pub heads: usize,
    /// Factor of the scores `q · k`.
    pub scale: f32,
}

/// Gradient of [`Attention`]. Inputs: `q`, `k`, `v`, both results, `dy`; results `dq`, `dk`, `dv`.
/// Probabilities are recomputed from the log-sum-exp (Dao et al., FlashAttention, algorithm 4).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionGrad {
    /// Heads, into which the channels divide.
    pub heads: usize,
    /// Factor of the scores `q · k`.
    pub scale: f32,
}

/// Type of the log-sum-exp for `q`, `k`, `v` that go together.
fn log_sum_exp(q: &TensorType, k: &TensorType, v: &TensorType, heads: usize) -> Option<TensorType> {
    let ([n, tq, c], [kn, _, kc]) = (q.shape[..].try_into().ok()?, k.shape[..].try_into().ok()?);
    let divides = heads > 0 && usize::is_multiple_of(c, heads);
    let fits = n == kn && c == kc && k == v && q.dtype.is_float() && q.dtype == k.dtype;
    (divides && fits && !q.is_empty() && !k.is_empty()).then(|| TensorType::f32([n, heads, tq]))
}

fn flops_per_product(inputs: &[TensorType]) -> u64 {
    2 * (inputs[0].len() * inputs[1].shape[1]) as u64
}

impl Operator for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn describe(&self) -> String {
        format!("attention {} heads", self.heads)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let results = || match inputs {
            [q, k, v] => Some(vec![q.clone(), log_sum_exp(q, k, v, self.heads)?]),
            _ => None,
        };
        results().ok_or_else(|| {
            let expected = format!(
                "q [N,Tq,C], k and v [N,Tk,C] with C divisible by {} heads",
                self.heads
            );
            Mismatch::inputs(expected, inputs)
        })
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        2 * flops_per_product(inputs)
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let &[Some(dy), None] = cx.output_grads else {
            return Ok(None);
        };
        let Attention { heads, scale } = *self;
        let inputs = [cx.inputs, cx.outputs, &[dy]].concat();
        let grads = cx.graph.node(AttentionGrad { heads, scale }, &inputs)?;
        Ok(Some(grads.into_iter().map(Some).collect()))
    }

    /// The log-sum-exp stays f32.
    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::Reduced {
            inputs: 0b111,
            results: 1,
        }
    }
}

impl Operator for AttentionGrad {
    fn name(&self) -> &'static str {
        "attention_grad"
    }

    fn describe(&self) -> String {
        format!("attention_grad {} heads", self.heads)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let results = || {
            let [q, k, v, y, lse, dy] = inputs else {
                return None;
            };
            let expected = log_sum_exp(q, k, v, self.heads)?;
            (*lse == expected && y == q && dy == q).then(|| vec![q.clone(), k.clone(), v.clone()])
        };
        results().ok_or_else(|| {
            Mismatch::inputs(
                "q [N,Tq,C], k and v [N,Tk,C], y like q, lse [N,heads,Tq], dy like q",
                inputs,
            )
        })
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        5 * flops_per_product(inputs)
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }

    /// The log-sum-exp stays f32.
    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::Reduced {
            inputs: 0b10_1111,
            results: 0b111,
        }
    }
}

impl Graph {
    /// Multi-head attention of `q` `[N,Tq,heads·d]` over keys `k` and values `v`
    /// `[N,Tk,heads·d]`; `scale` multiplies `q · k`, usually `d^-1/2`. Result `[N,Tq,heads·d]`.
    ///
    /// # Errors
    /// If the shapes do not go together or the channels do not divide into the heads.
    pub fn attention(
        &mut self,
        q: Value,
        k: Value,
        v: Value,
        heads: usize,
        scale: f32,
    ) -> Result<Value, GraphError> {
        self.apply(Attention { heads, scale }, &[q, k, v])
    }
}
