//! Naive definitions in `f64`.

use super::{Linear, LinearInputGrad, LinearWeightGrad};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

impl ReferenceOperator for Linear {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let (x, w) = (inputs[0], inputs[1]);
        let (channels, results) = (x.channels(), w.dim(0));
        let data = (0..outputs[0].len())
            .map(|at| {
                let (row, o) = (at / results, at % results);
                let products =
                    (0..channels).map(|i| x.data[row * channels + i] * w.data[o * channels + i]);
                let bias = if self.bias { inputs[2].data[o] } else { 0.0 };
                let residual = self.residual_input().map_or(0.0, |r| inputs[r].data[at]);
                products.sum::<f64>() + bias + residual
            })
            .collect();
        vec![Array::new(outputs[0].shape.clone(), data)]
    }
}

impl ReferenceOperator for LinearInputGrad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let (dy, w) = (inputs[0], inputs[1]);
        let (results, channels) = (w.dim(0), w.dim(1));
        let data = (0..outputs[0].len())
            .map(|at| {
                let (row, i) = (at / channels, at % channels);
                let products =
                    (0..results).map(|o| dy.data[row * results + o] * w.data[o * channels + i]);
                let residual = match self.residual {
                    true => inputs[Self::RESIDUAL].data[at],
                    false => 0.0,
                };
                products.sum::<f64>() + residual
            })
            .collect();
        vec![Array::new(outputs[0].shape.clone(), data)]
    }
}

impl ReferenceOperator for LinearWeightGrad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let (x, dy) = (inputs[0], inputs[1]);
        let (channels, results) = (x.channels(), dy.channels());
        let rows = x.data.len() / channels;
        let data = (0..outputs[0].len())
            .map(|at| {
                let (o, i) = (at / channels, at % channels);
                let products =
                    (0..rows).map(|row| x.data[row * channels + i] * dy.data[row * results + o]);
                products.sum()
            })
            .collect();
        vec![Array::new(outputs[0].shape.clone(), data)]
    }
}
