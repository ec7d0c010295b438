//! Naive definitions in `f64`.

use super::geometry::ConvWindows;
use super::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};
use crate::ops::Concat;
use crate::ops::cast::rounded;

/// Calls `visit(y index, x index, w index)` for every product of the sum that defines `y`.
fn products(
    windows: ConvWindows,
    x: &[usize],
    w: &[usize],
    y: &[usize],
    mut visit: impl FnMut(usize, usize, usize),
) {
    let geometry = windows.geometry(x, w);
    let source = |o: usize, k: usize, axis: usize| geometry.source(axis, o, k);
    for n in 0..y[0] {
        for oy in 0..y[1] {
            for ox in 0..y[2] {
                for ky in 0..w[2] {
                    for kx in 0..w[3] {
                        let (Some(iy), Some(ix)) = (source(oy, ky, 0), source(ox, kx, 1)) else {
                            continue;
                        };
                        for o in 0..w[0] {
                            for i in 0..w[1] {
                                visit(
                                    ((n * y[1] + oy) * y[2] + ox) * y[3] + o,
                                    ((n * x[1] + iy) * x[2] + ix) * x[3] + i,
                                    ((o * w[1] + i) * w[2] + ky) * w[3] + kx,
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

impl ReferenceOperator for Conv2d {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let (mut x, w) = (inputs[0].clone(), inputs[1]);
        if let Some(index) = self.concat_input() {
            let ty = TensorType::f32([x.dim(0), x.dim(1), x.dim(2), w.dim(1)]);
            let parts = [inputs[0], inputs[index]];
            x = Concat { axis: 3 }.reference(&parts, &[ty]).remove(0);
        }
        let mut y = Array::zeros(outputs[0].shape.clone());
        products(
            self.windows(),
            &x.shape,
            &w.shape,
            &outputs[0].shape,
            |at, i, k| {
                y.data[at] += x.data[i] * w.data[k];
            },
        );
        let channels = y.channels();
        for (at, value) in y.data.iter_mut().enumerate() {
            if self.bias {
                *value += inputs[2].data[at % channels];
            }
            if let Some(residual) = self.residual_input() {
                *value += inputs[residual].data[at];
            }
        }
        let Some(stats) = self.stats else {
            return vec![y];
        };
        let dtype = outputs[0].dtype;
        let stored = y.data.iter().map(|&v| rounded(v, dtype)).collect();
        let stored = Array::new(y.shape.clone(), stored);
        let mut results = stats.reference(&[&stored], &outputs[1..]);
        results.insert(0, y);
        results
    }
}

impl ReferenceOperator for Conv2dInputGrad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let (dy, w) = (inputs[0], inputs[1]);
        let mut dx = match self.residual {
            true => inputs[Self::RESIDUAL].clone(),
            false => Array::zeros(outputs[0].shape.clone()),
        };
        products(
            self.windows(),
            &outputs[0].shape,
            &w.shape,
            &dy.shape,
            |at, i, k| {
                dx.data[i] += dy.data[at] * w.data[k];
            },
        );
        vec![dx]
    }
}

impl ReferenceOperator for Conv2dWeightGrad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let (x, dy) = (inputs[0], inputs[1]);
        let mut dw = Array::zeros(outputs[0].shape.clone());
        products(
            self.windows(),
            &x.shape,
            &outputs[0].shape,
            &dy.shape,
            |at, i, k| {
                dw.data[k] += dy.data[at] * x.data[i];
            },
        );
        vec![dw]
    }
}
