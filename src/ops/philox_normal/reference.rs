//! Naive definition in `f64`: Box–Muller of the generator's words with the library's functions.

use std::f64::consts::TAU;

use super::PhiloxNormal;
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};
use crate::tensor::philox::{philox4x32_10, stream_counter, stream_key, uniform_positive};

impl ReferenceOperator for PhiloxNormal {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let word = |v: f64| v as i32 as u32;
        let seed = &inputs[0].data;
        let seed = u64::from(word(seed[0])) | u64::from(word(seed[1])) << 32;
        let key = stream_key(seed, self.purpose);
        let step = word(inputs[2].data[0]);
        let len: usize = self.shape.iter().product();
        let mut data = Vec::with_capacity(outputs[0].len());
        for &image in &inputs[1].data {
            for e in 0..len {
                let counter = stream_counter(u64::from(word(image)), step, (e / 4) as u32);
                let words = philox4x32_10(key, counter);
                let pair = e % 4 / 2 * 2;
                let radius = (-2.0 * f64::from(uniform_positive(words[pair])).ln()).sqrt();
                let angle = TAU * f64::from(words[pair + 1]) / 2f64.powi(32);
                data.push(radius * if e % 2 == 0 { angle.cos() } else { angle.sin() });
            }
        }
        vec![Array::new(outputs[0].shape.clone(), data)]
    }
}
