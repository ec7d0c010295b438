//! Lookup in a conditioning table: one entry per sample for step and label, cut into several arrays. The entries are what
//! the network's blocks add for time and class; the table saves computing them at each step.

mod cuda;
#[cfg(test)]
mod tests;

use super::Operator;
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};
use crate::kernel::cpu::{CpuCall, CpuOperator};
use crate::kernel::reference::{Array, ReferenceOperator};
use crate::tensor::DType;

/// `y_i[n] = table[clamp(counter, 0, rows - 1), label[n] + 1, columns of i]`; the results' columns follow each other.
///
/// Inputs: table `[rows, labels + 1, sum of widths]` of `f32`, counter `i32[1]`, label `i32[N]`, where -1 stands for no
/// label; the host refuses a label outside the table; here it gives NaN. Results: one `[N, width]` for each width.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableGather {
    /// Columns of each result.
    pub widths: Vec<usize>,
}

impl TableGather {
    fn width(&self) -> usize {
        self.widths.iter().sum()
    }
}

impl Operator for TableGather {
    fn name(&self) -> &'static str {
        "table_gather"
    }

    fn describe(&self) -> String {
        format!("table_gather into {}", self.widths.len())
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [table, counter, label]
                if matches!(table.shape[..], [rows, entries, width] if rows > 0 && entries > 0 && width == self.width())
                    && table.dtype == DType::F32
                    && *counter == TensorType::new([1], DType::I32)
                    && label.dtype == DType::I32
                    && label.shape.len() == 1 =>
            {
                let result = |&width: &usize| TensorType::f32([label.len(), width]);
                Ok(self.widths.iter().map(result).collect())
            }
            _ => Err(Mismatch::inputs(
                format!(
                    "a table f32[rows, labels + 1, {}], a counter i32[1] and labels i32[N]",
                    self.width()
                ),
                inputs,
            )),
        }
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> u64 {
        0
    }

    fn bytes(&self, _: &[TensorType], outputs: &[TensorType]) -> u64 {
        2 * outputs.iter().map(TensorType::bytes).sum::<usize>() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }

    fn rounds(&self) -> bool {
        true
    }
}

impl Graph {
    /// See [`TableGather`].
    ///
    /// # Errors
    /// If the inputs have other types.
    pub fn table_gather(
        &mut self,
        table: Value,
        counter: Value,
        label: Value,
        widths: Vec<usize>,
    ) -> Result<Vec<Value>, GraphError> {
        self.node(TableGather { widths }, &[table, counter, label])
    }
}

/// First element of sample `label`'s entry, if the table has it.
fn entry(table: &[usize], counter: i64, label: i64) -> Option<usize> {
    let [rows, entries, width] = table[..] else {
        unreachable!("checked when the graph was built")
    };
    let row = counter.clamp(0, rows as i64 - 1) as usize;
    let label = usize::try_from(label + 1)
        .ok()
        .filter(|&label| label < entries)?;
    Some((row * entries + label) * width)
}

impl ReferenceOperator for TableGather {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let [table, counter, labels] = inputs else {
            unreachable!("checked when the graph was built")
        };
        let mut first = 0;
        let mut results = Vec::new();
        for (&width, ty) in self.widths.iter().zip(outputs) {
            let mut data = Vec::with_capacity(ty.len());
            for &label in &labels.data {
                match entry(&table.shape, counter.data[0] as i64, label as i64) {
                    Some(at) => data.extend_from_slice(&table.data[at + first..][..width]),
                    None => data.resize(data.len() + width, f64::NAN),
                }
            }
            results.push(Array::new(ty.shape.clone(), data));
            first += width;
        }
        results
    }
}

impl CpuOperator for TableGather {
    fn run(&self, call: &CpuCall<'_>) {
        let (table, counter, labels) = (call.f32(0), call.i32(1)[0], call.i32(2));
        let mut first = 0;
        for (index, &width) in self.widths.iter().enumerate() {
            let result = call.out(index);
            for (&label, y) in labels.iter().zip(result.chunks_exact_mut(width.max(1))) {
                match entry(&call.in_type(0).shape, i64::from(counter), i64::from(label)) {
                    Some(at) => y.copy_from_slice(&table[at + first..][..width]),
                    None => y.fill(f32::NAN),
                }
            }
            first += width;
        }
    }
}
