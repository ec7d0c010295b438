//! Naive definitions in `f64`.

use super::{AdaptiveAvgPool, AdaptiveAvgPoolGrad, AvgPool, AvgPoolGrad, MaxPool, MaxPoolGrad};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

/// Calls `visit(result index, its pixels as indices in row-major order)` for every result.
fn each_window(
    image: &[usize],
    result: &[usize],
    [rows, columns]: [Span; 2],
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
        for y in rows.positions(oy).filter(|y| y < h) {
            for x in columns.positions(ox).filter(|x| x < w) {
                members.push(((n * h + y) * w + x) * c + channel);
            }
        }
        visit(at, &members);
    }
}

/// What results cover along one axis.
#[derive(Clone, Copy)]
enum Span {
    Fixed {
        kernel: usize,
        stride: usize,
        padding: usize,
    },
    /// Pixels per result.
    Region(f64),
}

impl Span {
    /// The positions that result `o` covers; those before the image wrap to huge numbers.
    fn positions(self, o: usize) -> impl Iterator<Item = usize> {
        let (range, padding) = match self {
            Span::Fixed {
                kernel,
                stride,
                padding,
            } => (o * stride..o * stride + kernel, padding),
            Span::Region(ratio) => {
                // A hair against 1/3 * 3 > 1.
                let (start, end) = (o as f64 * ratio + 1e-9, (o + 1) as f64 * ratio - 1e-9);
                (start.floor() as usize..end.ceil() as usize, 0)
            }
        };
        range.map(move |position| position.wrapping_sub(padding))
    }

    /// Windows of a fixed size, alike along both axes.
    fn fixed(kernel: usize, stride: usize, padding: usize) -> [Self; 2] {
        [Span::Fixed {
            kernel,
            stride,
            padding,
        }; 2]
    }

    /// Regions that cover an image `[N,H,W,C]`, one for each result `[N,OH,OW,C]`.
    fn regions(image: &[usize], result: &[usize]) -> [Self; 2] {
        [1, 2].map(|axis| Span::Region(image[axis] as f64 / result[axis] as f64))
    }
}

/// Means of `x`; the divisor is each window's count of pixels if it is not the same for all.
fn mean(x: &Array, y: &TensorType, spans: [Span; 2], divisor: Option<usize>) -> Vec<Array> {
    let mut y = Array::zeros(y.shape.clone());
    let shape = y.shape.clone();
    each_window(&x.shape, &shape, spans, |at, members| {
        let sum: f64 = members.iter().map(|&m| x.data[m]).sum();
        y.data[at] = sum / divisor.unwrap_or(members.len()) as f64;
    });
    vec![y]
}

/// The gradient of [`mean`].
fn mean_grad(dy: &Array, dx: &TensorType, spans: [Span; 2], divisor: Option<usize>) -> Vec<Array> {
    let mut dx = Array::zeros(dx.shape.clone());
    let shape = dx.shape.clone();
    each_window(&shape, &dy.shape, spans, |at, members| {
        for &m in members {
            dx.data[m] += dy.data[at] / divisor.unwrap_or(members.len()) as f64;
        }
    });
    vec![dx]
}

impl AvgPool {
    fn spans(&self) -> [Span; 2] {
        Span::fixed(self.kernel, self.stride, self.padding)
    }
}

impl MaxPool {
    fn spans(&self) -> [Span; 2] {
        Span::fixed(self.kernel, self.stride, self.padding)
    }
}

impl ReferenceOperator for AvgPool {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        mean(inputs[0], &outputs[0], self.spans(), self.divisor())
    }
}

impl ReferenceOperator for AvgPoolGrad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let pool = &self.pool;
        mean_grad(inputs[0], &outputs[0], pool.spans(), pool.divisor())
    }
}

impl ReferenceOperator for AdaptiveAvgPool {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let spans = Span::regions(&inputs[0].shape, &outputs[0].shape);
        mean(inputs[0], &outputs[0], spans, None)
    }
}

impl ReferenceOperator for AdaptiveAvgPoolGrad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let spans = Span::regions(&outputs[0].shape, &inputs[0].shape);
        mean_grad(inputs[0], &outputs[0], spans, None)
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
        let (x, mut y) = (inputs[0], Array::zeros(outputs[0].shape.clone()));
        each_window(&x.shape, &outputs[0].shape, self.spans(), |at, members| {
            y.data[at] = x.data[first_largest(x, members)];
        });
        vec![y]
    }
}

impl ReferenceOperator for MaxPoolGrad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let (x, dy) = (inputs[0], inputs[1]);
        let mut dx = Array::zeros(outputs[0].shape.clone());
        each_window(&x.shape, &dy.shape, self.pool.spans(), |at, members| {
            dx.data[first_largest(x, members)] += dy.data[at];
        });
        vec![dx]
    }
}
