//! Naive definitions in `f64`.

use std::f64::consts::{FRAC_1_SQRT_2, TAU};

use super::{Geglu, GegluGrad};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * FRAC_1_SQRT_2)
}

impl ReferenceOperator for Geglu {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let channels = outputs[0].channels();
        let mut y = Array::zeros(outputs[0].shape.clone());
        for (i, y) in y.data.iter_mut().enumerate() {
            let at = i / channels * 2 * channels + i % channels;
            let (a, b) = (inputs[0].data[at], inputs[0].data[at + channels]);
            *y = a * b * normal_cdf(b);
        }
        vec![y]
    }
}

impl ReferenceOperator for GegluGrad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let channels = inputs[1].channels();
        let mut dx = Array::zeros(outputs[0].shape.clone());
        for (i, dy) in inputs[1].data.iter().enumerate() {
            let at = i / channels * 2 * channels + i % channels;
            let (a, b) = (inputs[0].data[at], inputs[0].data[at + channels]);
            let density = (-0.5 * b * b).exp() / TAU.sqrt();
            dx.data[at] = dy * b * normal_cdf(b);
            dx.data[at + channels] = dy * a * (normal_cdf(b) + b * density);
        }
        vec![dx]
    }
}
