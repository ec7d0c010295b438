//! Naive definition in `f64`.

use super::TableRow;
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

impl ReferenceOperator for TableRow {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let rows = inputs[0].dim(0);
        let row = (inputs[1].data[0].max(0.0) as usize).min(rows - 1);
        let len = inputs[0].data.len() / rows;
        let row = &inputs[0].data[row * len..][..len];
        let data = row.repeat(self.repeat.unwrap_or(1));
        vec![Array::new(outputs[0].shape.clone(), data)]
    }
}
