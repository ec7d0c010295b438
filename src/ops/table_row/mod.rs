//! Lookup of one row of a table at a device counter: time steps, recorded noise.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::Operator;
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};
use crate::tensor::DType;

/// Row `clamp(counter, 0, rows - 1)` of a table `[rows, …]` of floats or integers.
///
/// Inputs: table, counter `i32[1]`. The result has the shape of a row, or that of `repeat` copies
/// of it along a new outermost axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRow {
    /// Number of copies along a new outermost axis; `None` for the row itself.
    pub repeat: Option<usize>,
}

impl Operator for TableRow {
    fn name(&self) -> &'static str {
        "table_row"
    }

    fn describe(&self) -> String {
        match self.repeat {
            Some(repeat) => format!("table_row x{repeat}"),
            None => "table_row".to_owned(),
        }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [table, counter]
                if matches!(table.dtype, DType::F32 | DType::I32)
                    && table.shape.first().is_some_and(|&rows| rows > 0)
                    && *counter == TensorType::new([1], DType::I32) =>
            {
                let row = table.shape[1..].iter().copied();
                let shape: Vec<usize> = self.repeat.into_iter().chain(row).collect();
                Ok(vec![TensorType::new(shape, table.dtype)])
            }
            _ => Err(Mismatch::inputs(
                "a table [rows, …] of f32 or i32 and a counter i32[1]",
                inputs,
            )),
        }
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> u64 {
        0
    }

    fn bytes(&self, _: &[TensorType], outputs: &[TensorType]) -> u64 {
        2 * outputs[0].bytes() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }
}

impl Graph {
    /// Row `clamp(counter, 0, rows - 1)` of `table` `[rows, …]`.
    ///
    /// # Errors
    /// If the table has no rows or `counter` is not `i32[1]`.
    pub fn table_row(&mut self, table: Value, counter: Value) -> Result<Value, GraphError> {
        self.apply(TableRow { repeat: None }, &[table, counter])
    }

    /// `repeat` copies of a row, `[repeat, …]`: one time step for a whole batch.
    ///
    /// # Errors
    /// As [`Graph::table_row`].
    pub fn table_row_repeated(
        &mut self,
        table: Value,
        counter: Value,
        repeat: usize,
    ) -> Result<Value, GraphError> {
        let repeat = Some(repeat);
        self.apply(TableRow { repeat }, &[table, counter])
    }
}
