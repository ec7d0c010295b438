//! Naive definitions in `f64`.

use super::{LayerNorm, LayerNormInputGrad, LayerNormParamGrad};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

/// `x̂` and `1 / sqrt(variance + eps)` of a row.
fn normalise(row: &[f64], eps: f32) -> (Vec<f64>, f64) {
    let count = row.len() as f64;
    let mean = row.iter().sum::<f64>() / count;
    let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
    let rstd = 1.0 / (variance + f64::from(eps)).sqrt();
    (row.iter().map(|x| (x - mean) * rstd).collect(), rstd)
}

impl ReferenceOperator for LayerNorm {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let rows = inputs[0].data.chunks(inputs[0].channels());
        let data = rows.flat_map(|row| {
            let (hat, _) = normalise(row, self.eps);
            let affine = inputs[1].data.iter().zip(&inputs[2].data);
            hat.into_iter()
                .zip(affine)
                .map(|(x, (gamma, beta))| gamma * x + beta)
                .collect::<Vec<_>>()
        });
        vec![Array::new(outputs[0].shape.clone(), data.collect())]
    }
}

impl ReferenceOperator for LayerNormInputGrad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let channels = inputs[0].channels();
        let rows = inputs[0]
            .data
            .chunks(channels)
            .zip(inputs[2].data.chunks(channels));
        let data = rows.flat_map(|(x, dy)| {
            let (hat, rstd) = normalise(x, self.eps);
            let d: Vec<f64> = dy
                .iter()
                .zip(&inputs[1].data)
                .map(|(dy, gamma)| dy * gamma)
                .collect();
            let mean = d.iter().sum::<f64>() / channels as f64;
            let product = d.iter().zip(&hat).map(|(d, x)| d * x).sum::<f64>() / channels as f64;
            d.iter()
                .zip(&hat)
                .map(|(d, x)| (d - mean - x * product) * rstd)
                .collect::<Vec<_>>()
        });
        vec![Array::new(outputs[0].shape.clone(), data.collect())]
    }
}

impl ReferenceOperator for LayerNormParamGrad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let channels = inputs[0].channels();
        let mut sums = Array::zeros(outputs[0].shape.clone());
        for (x, dy) in inputs[0]
            .data
            .chunks(channels)
            .zip(inputs[1].data.chunks(channels))
        {
            let (hat, _) = normalise(x, self.eps);
            for (sum, (dy, x)) in sums.data.iter_mut().zip(dy.iter().zip(hat)) {
                *sum += dy * x;
            }
        }
        vec![sums]
    }
}
