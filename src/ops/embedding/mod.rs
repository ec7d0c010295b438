//! Lookup of rows in a table, and the gradient of the table.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::Operator;
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};
use crate::tensor::DType;

/// `y[n] = table[index[n]]`. Inputs: `table` `[K,E]`, `index` `[N]` of `i32`. An index of -1 gives
/// zeros: the condition is absent. The host refuses other indices outside the table; here they give
/// NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedding;

/// Gradient of [`Embedding`] with respect to a table of `rows`. Inputs: `index` `[N]`, `dy` `[N,E]`;
/// result `[rows,E]`, zero where no index points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddingGrad {
    /// Rows of the table.
    pub rows: usize,
}

/// True for `i32[N]`.
fn is_index(ty: &TensorType) -> bool {
    ty.dtype == DType::I32 && ty.shape.len() == 1
}

impl Operator for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [table, index]
                if table.dtype.is_float() && table.shape.len() == 2 && is_index(index) =>
            {
                Ok(vec![TensorType::new(
                    [index.len(), table.channels()],
                    table.dtype,
                )])
            }
            _ => Err(Mismatch::inputs("table [K,E] and i32 index [N]", inputs)),
        }
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> u64 {
        0
    }

    /// Only the rows that are looked up are read and written.
    fn bytes(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        (2 * outputs[0].bytes() + inputs[1].bytes()) as u64
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let rows = cx.graph.shape(cx.inputs[0])[0];
        let dy = cx.dy();
        let dtable = cx
            .graph
            .apply(EmbeddingGrad { rows }, &[cx.inputs[1], dy])?;
        Ok(Some(vec![Some(dtable), None]))
    }
}

impl Operator for EmbeddingGrad {
    fn name(&self) -> &'static str {
        "embedding_grad"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [index, dy]
                if is_index(index)
                    && dy.dtype.is_float()
                    && dy.shape.len() == 2
                    && dy.shape[0] == index.len() =>
            {
                Ok(vec![TensorType::new([self.rows, dy.channels()], dy.dtype)])
            }
            _ => Err(Mismatch::inputs("i32 index [N] and dy [N,E]", inputs)),
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        inputs[1].len() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }
}

impl Graph {
    /// Rows `index` `[N]` (`i32`) of `table` `[K,E]`: `[N,E]`. Index -1 gives a row of zeros.
    ///
    /// # Errors
    /// If the inputs have other types.
    pub fn embedding(&mut self, table: Value, index: Value) -> Result<Value, GraphError> {
        self.apply(Embedding, &[table, index])
    }
}
