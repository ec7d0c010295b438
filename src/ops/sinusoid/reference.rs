//! Naive definition in `f64`.

use super::Sinusoid;
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

impl ReferenceOperator for Sinusoid {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let half = self.dim / 2;
        let rows = inputs[0].data.iter().flat_map(|t| {
            let angles = (0..half).map(move |k| {
                let exponent = -(k as f64) * 10_000f64.ln() / (half - 1) as f64;
                t * exponent.exp()
            });
            let sines = angles.clone().map(f64::sin);
            sines
                .chain(angles.map(f64::cos))
                .chain((self.dim % 2 == 1).then_some(0.0))
        });
        vec![Array::new(outputs[0].shape.clone(), rows.collect())]
    }
}
