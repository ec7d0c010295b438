//! Naive definitions in `f64`.

use super::{EPSILON, FeatureDistance, FeatureDistanceGrad};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

fn norm(pixel: &[f64]) -> f64 {
    pixel.iter().map(|v| v * v).sum::<f64>().sqrt()
}

fn normalised(pixel: &[f64]) -> Vec<f64> {
    pixel.iter().map(|v| v / (norm(pixel) + EPSILON)).collect()
}

impl ReferenceOperator for FeatureDistance {
    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let (n, channels) = (inputs[0].dim(0), inputs[0].channels());
        let pixels = inputs[0].dim(1) * inputs[0].dim(2);
        let mut y = Array::zeros([n]);
        let pairs = inputs[0]
            .data
            .chunks(channels)
            .zip(inputs[1].data.chunks(channels));
        for (i, (a, b)) in pairs.enumerate() {
            for (a, b) in normalised(a).into_iter().zip(normalised(b)) {
                y.data[i / pixels] += (a - b).powi(2) / pixels as f64;
            }
        }
        vec![y]
    }
}

impl ReferenceOperator for FeatureDistanceGrad {
    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let channels = inputs[0].channels();
        let pixels = inputs[0].dim(1) * inputs[0].dim(2);
        let mut da = inputs[0].clone();
        for (i, da) in da.data.chunks_mut(channels).enumerate() {
            let a = &inputs[0].data[i * channels..][..channels];
            let b = &inputs[1].data[i * channels..][..channels];
            let (na, nb) = (normalised(a), normalised(b));
            let scale = 2.0 * inputs[2].data[i / pixels] / pixels as f64;
            let r = norm(a);
            for c in 0..channels {
                // d na_k / d a_c = [k = c] / (r + eps) - a_k a_c / (r (r + eps)²)
                let mut sum = 0.0;
                for k in 0..channels {
                    let mut derivative = f64::from(u8::from(k == c)) / (r + EPSILON);
                    if r > 0.0 {
                        derivative -= a[k] * a[c] / (r * (r + EPSILON).powi(2));
                    }
                    sum += (na[k] - nb[k]) * derivative;
                }
                da[c] = scale * sum;
            }
        }
        vec![da]
    }
}
