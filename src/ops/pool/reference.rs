//! Naive definitions in `f64`.

use super::{AdaptiveAvgPool, AdaptiveAvgPoolGrad, AvgPool, AvgPoolGrad, MaxPool, MaxPoolGrad};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

/// Calls `visit(result index, its pixels as indices in row-major order)` for every result.
fn windows(
    image: &[usize],
    result: &[usize],
    rows: impl Fn(usize) -> Vec<usize>,
    columns: impl Fn(usize) -> Vec<usize>,
    mut visit: impl FnMut(usize, &[usize]),
) {
    let [_, h, w, c] = image else {
        unreachable!("images have four axes")
    };
    for at in 0..result.iter().product() {
        let (channel, pixel) = (at % c, at / c);
        let (ox, oy, n) = (
            pixel % result[2],
            pixel / result[2] % result[1],
            pixel / result[2] / result[1],
        );
        let mut members = Vec::new();
        for y in rows(oy).into_iter().filter(|y| y < h) {
            for x in columns(ox).into_iter().filter(|x| x < w) {
                members.push(((n * h + y) * w + x) * c + channel);
            }
        }
        visit(at, &members);
    }
}

/// Positions of a window; those before the image wrap to huge numbers.
fn fixed(kernel: usize, stride: usize, padding: usize) -> impl Fn(usize) -> Vec<usize> {
    move |o| {
        (0..kernel)
            .map(|k| (o * stride + k).wrapping_sub(padding))
            .collect()
    }
}

fn region(from: usize, to: usize) -> impl Fn(usize) -> Vec<usize> {
    move |o| {
        let ratio = from as f64 / to as f64;
        // A hair against 1/3 * 3 > 1.
        let (start, end) = (o as f64 * ratio + 1e-9, (o + 1) as f64 * ratio - 1e-9);
        (start.floor() as usize..end.ceil() as usize).collect()
    }
}

impl AvgPool {
    fn divisor(&self, members: &[usize]) -> f64 {
        let count = if self.count_padding {
            self.kernel * self.kernel
        } else {
            members.len()
        };
        count as f64
    }
}

impl ReferenceOperator for AvgPool {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let mut y = Array::zeros(outputs[0].shape.clone());
        let axis = || fixed(self.kernel, self.stride, self.padding);
        windows(
            &inputs[0].shape,
            &outputs[0].shape,
            axis(),
            axis(),
            |at, members| {
                let sum: f64 = members.iter().map(|&m| inputs[0].data[m]).sum();
                y.data[at] = sum / self.divisor(members);
            },
        );
        vec![y]
    }
}

impl ReferenceOperator for AvgPoolGrad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let mut dx = Array::zeros(outputs[0].shape.clone());
        let axis = || fixed(self.pool.kernel, self.pool.stride, self.pool.padding);
        windows(
            &outputs[0].shape,
            &inputs[0].shape,
            axis(),
            axis(),
            |at, members| {
                for &m in members {
                    dx.data[m] += inputs[0].data[at] / self.pool.divisor(members);
                }
            },
        );
        vec![dx]
    }
}

impl ReferenceOperator for AdaptiveAvgPool {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let x = inputs[0];
        let mut y = Array::zeros(outputs[0].shape.clone());
        let (rows, columns) = (region(x.dim(1), self.height), region(x.dim(2), self.width));
        windows(&x.shape, &outputs[0].shape, rows, columns, |at, members| {
            y.data[at] = members.iter().map(|&m| x.data[m]).sum::<f64>() / members.len() as f64;
        });
        vec![y]
    }
}

impl ReferenceOperator for AdaptiveAvgPoolGrad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dy = inputs[0];
        let mut dx = Array::zeros(outputs[0].shape.clone());
        let (rows, columns) = (
            region(self.height, dy.dim(1)),
            region(self.width, dy.dim(2)),
        );
        windows(
            &outputs[0].shape,
            &dy.shape,
            rows,
            columns,
            |at, members| {
                for &m in members {
                    dx.data[m] += dy.data[at] / members.len() as f64;
                }
            },
        );
        vec![dx]
    }
}

/// The first largest of `members`.
fn first_largest(x: &Array, members: &[usize]) -> usize {
    let largest = members
        .iter()
        .map(|&m| x.data[m])
        .fold(f64::NEG_INFINITY, f64::max);
    let first = members.iter().copied().find(|&m| x.data[m] == largest);
    first.expect("every window meets the image")
}

impl ReferenceOperator for MaxPool {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let mut y = Array::zeros(outputs[0].shape.clone());
        let axis = || fixed(self.kernel, self.stride, self.padding);
        windows(
            &inputs[0].shape,
            &outputs[0].shape,
            axis(),
            axis(),
            |at, members| {
                y.data[at] = inputs[0].data[first_largest(inputs[0], members)];
            },
        );
        vec![y]
    }
}

impl ReferenceOperator for MaxPoolGrad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let mut dx = Array::zeros(outputs[0].shape.clone());
        let axis = || fixed(self.pool.kernel, self.pool.stride, self.pool.padding);
        windows(
            &outputs[0].shape,
            &inputs[1].shape,
            axis(),
            axis(),
            |at, members| {
                dx.data[first_largest(inputs[0], members)] += inputs[1].data[at];
            },
        );
        vec![dx]
    }
}
