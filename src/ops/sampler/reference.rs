//! Naive definition in `f64`.

use super::{COEFFICIENTS, Coefficient, FreshNoise, Prediction, SamplerStep};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};
use crate::ops::PhiloxNormal;

impl ReferenceOperator for SamplerStep {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let (x, prediction, table) = (inputs[0], inputs[1], inputs[2]);
        let row = (inputs[3].data[0].max(0.0) as usize).min(table.dim(0) - 1);
        let at = |c: Coefficient| table.data[row * COEFFICIENTS + c as usize];
        let (channels, wide) = (x.channels(), prediction.channels());
        let half = prediction.data.len() / 2;
        let clip = |v: f64| if self.clip { v.clamp(-1.0, 1.0) } else { v };
        let z = match self.noise {
            FreshNoise::None => None,
            FreshNoise::Given => Some(inputs[4].clone()),
            FreshNoise::Philox(purpose) => {
                let normal = PhiloxNormal {
                    purpose,
                    shape: x.shape[1..].to_vec(),
                };
                normal
                    .reference(&[inputs[4], inputs[5], inputs[3]], &outputs[..1])
                    .pop()
            }
        };
        let mut results = [(); 3].map(|()| Array::zeros(outputs[0].shape.clone()));
        for i in 0..x.data.len() {
            let j = i / channels * wide + i % channels;
            let mut p = prediction.data[j];
            if self.guidance {
                let without = prediction.data[half + j];
                p = without + at(Coefficient::Guidance) * (p - without);
            }
            let (recip, recip_m1) = (at(Coefficient::Recip), at(Coefficient::RecipM1));
            let (x_0, eps) = match self.prediction {
                Prediction::Noise => (clip(recip * x.data[i] - recip_m1 * p), p),
                Prediction::Sample => (clip(p), (recip * x.data[i] - clip(p)) / recip_m1),
            };
            let mut std = at(Coefficient::Noise);
            if self.learned_variance && at(Coefficient::Learned) != 0.0 {
                let v = 0.5 * (prediction.data[j + channels] + 1.0);
                let log = v * at(Coefficient::LogBeta) + (1.0 - v) * at(Coefficient::LogPosterior);
                std += at(Coefficient::Learned) * log.exp().sqrt();
            }
            let mut next = at(Coefficient::Sample) * x_0
                + at(Coefficient::Direction) * eps
                + at(Coefficient::Keep) * x.data[i];
            if let Some(z) = &z {
                next += std * z.data[i];
            }
            results[0].data[i] = x_0;
            results[1].data[i] = eps;
            results[2].data[i] = next;
        }
        let mut results = Vec::from(results);
        results.push(Array::new([1], vec![inputs[3].data[0] + 1.0]));
        results
    }
}
