//! Naive definitions in `f64`.

use super::{GaussianKl, GaussianKlGrad, Reparameterize, ReparameterizeGrad};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

impl ReferenceOperator for Reparameterize {
    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let mut y = inputs[0].clone();
        for (i, y) in y.data.iter_mut().enumerate() {
            *y += inputs[1].data[i].exp().sqrt() * inputs[2].data[i];
        }
        vec![y]
    }
}

impl ReferenceOperator for ReparameterizeGrad {
    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let mut dx = inputs[2].clone();
        for (i, dx) in dx.data.iter_mut().enumerate() {
            *dx *= inputs[1].data[i] * 0.5 * inputs[0].data[i].exp().sqrt();
        }
        vec![dx]
    }
}

impl ReferenceOperator for GaussianKl {
    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let pairs = inputs[0].data.iter().zip(&inputs[1].data);
        let sum: f64 = pairs.map(|(m, l)| m * m + l.exp() - 1.0 - l).sum();
        vec![Array::scalar(0.5 * sum / inputs[0].dim(0) as f64)]
    }
}

impl ReferenceOperator for GaussianKlGrad {
    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let scale = inputs[2].data[0] / inputs[0].dim(0) as f64;
        let (mut dmean, mut dlogvar) = (inputs[0].clone(), inputs[1].clone());
        dmean.data.iter_mut().for_each(|m| *m *= scale);
        let halves = dlogvar.data.iter_mut();
        halves.for_each(|l| *l = 0.5 * scale * (l.exp() - 1.0));
        vec![dmean, dlogvar]
    }
}
