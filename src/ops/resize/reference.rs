//! Naive definitions in `f64`.

use super::{ResizeNearest, ResizeNearestGrad, Upsample, UpsampleGrad};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

/// Index, in an image of shape `from`, of the element that is copied to index `at` of an image of shape `to`.
fn source(from: &[usize], to: &[usize], at: usize) -> usize {
    let (channel, pixel) = (at % to[3], at / to[3]);
    let (x, y, n) = (pixel % to[2], pixel / to[2] % to[1], pixel / to[2] / to[1]);
    let nearest =
        |i: usize, from: usize, to: usize| ((i as f64 + 0.5) * from as f64 / to as f64) as usize;
    let (y, x) = (nearest(y, from[1], to[1]), nearest(x, from[2], to[2]));
    ((n * from[1] + y) * from[2] + x) * from[3] + channel
}

fn gather(inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
    let shape = &outputs[0].shape;
    let data = (0..outputs[0].len()).map(|at| inputs[0].data[source(&inputs[0].shape, shape, at)]);
    vec![Array::new(shape.clone(), data.collect())]
}

fn scatter(inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
    let shape = &outputs[0].shape;
    let mut dx = Array::zeros(shape.clone());
    for (at, dy) in inputs[0].data.iter().enumerate() {
        dx.data[source(shape, &inputs[0].shape, at)] += dy;
    }
    vec![dx]
}

impl ReferenceOperator for Upsample {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        gather(inputs, outputs)
    }
}

impl ReferenceOperator for UpsampleGrad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        scatter(inputs, outputs)
    }
}

impl ReferenceOperator for ResizeNearest {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        gather(inputs, outputs)
    }
}

impl ReferenceOperator for ResizeNearestGrad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        scatter(inputs, outputs)
    }
}
