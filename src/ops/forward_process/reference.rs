//! Naive definitions in `f64`.

use super::{AddNoise, MIN_VARIANCE, VarianceLoss, VarianceLossGrad};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

impl ReferenceOperator for AddNoise {
    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let (table, t) = (inputs[2], inputs[3]);
        let mut x = inputs[0].clone();
        let len = x.data.len() / x.dim(0);
        for (i, x) in x.data.iter_mut().enumerate() {
            let (t, noise) = (t.data[i / len], inputs[1].data[i]);
            if t >= table.dim(0) as f64 {
                *x = noise;
            } else if t >= 0.0 {
                let row = 2 * t as usize;
                *x = table.data[row] * *x + table.data[row + 1] * noise;
            }
        }
        vec![x]
    }
}

/// Per element: loss, derivative with respect to the variance output, and to the estimate.
fn terms(inputs: &[&Array]) -> Vec<[f64; 3]> {
    let [variance, x_0, estimate, table, t] = inputs[..5] else {
        panic!("five inputs")
    };
    let len = variance.data.len() / variance.dim(0);
    let term = |i: usize| {
        let t = t.data[i / len];
        let [low, high, coef1] = table.data[3 * t as usize..][..3] else {
            panic!("three columns")
        };
        let v = 0.5 * (variance.data[i] + 1.0);
        let logvar = v * high + (1.0 - v) * low;
        let by_output = 0.5 * (high - low);
        let difference = estimate.data[i] - x_0.data[i];
        if t == 0.0 {
            let s = logvar.exp().max(MIN_VARIANCE);
            let by_s = 0.5 * (1.0 / s - difference.powi(2) / s.powi(2));
            return [
                0.5 * (s.ln() + difference.powi(2) / s),
                by_s * logvar.exp() * by_output,
                difference / s,
            ];
        }
        let mean = (coef1 * difference).powi(2) * (-logvar).exp();
        let ratio = (low - logvar).exp();
        [
            0.5 * (logvar - low + ratio + mean - 1.0),
            0.5 * (1.0 - ratio - mean) * by_output,
            0.0,
        ]
    };
    (0..variance.data.len()).map(term).collect()
}

impl ReferenceOperator for VarianceLoss {
    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let terms = terms(inputs);
        let sum: f64 = terms.iter().map(|[loss, ..]| loss).sum();
        vec![Array::scalar(sum / terms.len() as f64)]
    }
}

impl ReferenceOperator for VarianceLossGrad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let terms = terms(inputs);
        let scale = inputs[5].data[0] / terms.len() as f64;
        let grad = |k: usize| {
            let data = terms.iter().map(|term| scale * term[k]).collect();
            Array::new(outputs[0].shape.clone(), data)
        };
        vec![grad(1), grad(2)]
    }
}
