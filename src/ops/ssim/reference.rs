//! Naive definitions in `f64`: every window summed in two dimensions.

use super::{C1, C2, Ssim, SsimGrad, SsimWindow};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

/// Moments under one window.
struct WindowMoments {
    a: f64,
    b: f64,
    var_a: f64,
    var_b: f64,
    cov: f64,
}

impl WindowMoments {
    fn similarity(&self) -> f64 {
        (2.0 * self.a * self.b + C1) * (2.0 * self.cov + C2)
            / ((self.a * self.a + self.b * self.b + C1) * (self.var_a + self.var_b + C2))
    }
}

struct Images<'a> {
    a: &'a Array,
    b: &'a Array,
    vertical: SsimWindow,
    horizontal: SsimWindow,
    clamp: bool,
}

impl<'a> Images<'a> {
    fn new(op: Ssim, inputs: &[&'a Array]) -> Self {
        Self {
            a: inputs[0],
            b: inputs[1],
            vertical: SsimWindow::along(inputs[0].dim(1)),
            horizontal: SsimWindow::along(inputs[0].dim(2)),
            clamp: !op.metric,
        }
    }

    fn index(&self, n: usize, y: usize, x: usize, c: usize) -> usize {
        ((n * self.a.dim(1) + y) * self.a.dim(2) + x) * self.a.dim(3) + c
    }

    fn pixel(&self, i: usize) -> (f64, f64) {
        let a = (self.a.data[i] + 1.0) / 2.0;
        let a = if self.clamp { a.clamp(0.0, 1.0) } else { a };
        (a, (self.b.data[i] + 1.0) / 2.0)
    }

    fn positions(&self) -> (usize, usize) {
        (
            self.vertical.positions(self.a.dim(1)),
            self.horizontal.positions(self.a.dim(2)),
        )
    }

    /// (weight, flat index) of the pixels under the window at (y, x).
    fn window(&self, n: usize, y: usize, x: usize, c: usize) -> impl Iterator<Item = (f64, usize)> {
        self.vertical
            .taps()
            .iter()
            .enumerate()
            .flat_map(move |(i, v)| {
                let taps = self.horizontal.taps().iter().enumerate();
                taps.map(move |(j, h)| (v * h, self.index(n, y + i, x + j, c)))
            })
    }

    fn moments(&self, n: usize, y: usize, x: usize, c: usize) -> WindowMoments {
        let mean = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
            self.window(n, y, x, c)
                .map(|(w, i)| {
                    let (a, b) = self.pixel(i);
                    w * f(a, b)
                })
                .sum()
        };
        let (ma, mb) = (mean(&|a, _| a), mean(&|_, b| b));
        WindowMoments {
            a: ma,
            b: mb,
            var_a: mean(&|a, _| (a - ma).powi(2)),
            var_b: mean(&|_, b| (b - mb).powi(2)),
            cov: mean(&|a, b| (a - ma) * (b - mb)),
        }
    }

    fn channel_mean(&self, n: usize, c: usize) -> f64 {
        let (rows, columns) = self.positions();
        let mut sum = 0.0;
        for y in 0..rows {
            for x in 0..columns {
                sum += self.moments(n, y, x, c).similarity();
            }
        }
        sum / (rows * columns) as f64
    }
}

impl ReferenceOperator for Ssim {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let images = Images::new(*self, inputs);
        let channels = inputs[0].channels();
        let mut y = Array::zeros(outputs[0].shape.clone());
        for (n, y) in y.data.iter_mut().enumerate() {
            for c in 0..channels {
                let mean = images.channel_mean(n, c);
                let mean = if self.metric { mean } else { mean.max(0.0) };
                *y += mean / channels as f64;
            }
        }
        vec![y]
    }
}

impl ReferenceOperator for SsimGrad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let images = Images::new(self.of, inputs);
        let channels = inputs[0].channels();
        let (rows, columns) = images.positions();
        let mut dx = Array::zeros(outputs[0].shape.clone());
        for (n, dy) in inputs[2].data.iter().enumerate() {
            for c in 0..channels {
                if !self.of.metric && images.channel_mean(n, c) <= 0.0 {
                    continue;
                }
                let scale = dy / (channels * rows * columns) as f64;
                for y in 0..rows {
                    for x in 0..columns {
                        let m = images.moments(n, y, x, c);
                        let s = m.similarity();
                        let (num1, num2) = (2.0 * m.a * m.b + C1, 2.0 * m.cov + C2);
                        let (den1, den2) = (m.a * m.a + m.b * m.b + C1, m.var_a + m.var_b + C2);
                        for (w, i) in images.window(n, y, x, c) {
                            let (a, b) = images.pixel(i);
                            // Wang's eq. 13 by the quotient rule, pixel by pixel.
                            let derivative = s
                                * w
                                * (2.0 * m.b / num1 - 2.0 * m.a / den1 + 2.0 * (b - m.b) / num2
                                    - 2.0 * (a - m.a) / den2);
                            dx.data[i] += scale * derivative;
                        }
                    }
                }
            }
        }
        for (dx, x) in dx.data.iter_mut().zip(&inputs[0].data) {
            let inside = self.of.metric || (-1.0..=1.0).contains(x);
            *dx *= if inside { 0.5 } else { 0.0 };
        }
        vec![dx]
    }
}
