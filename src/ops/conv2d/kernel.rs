//! CPU kernels: plain loop nests over channels as lanes.

use rayon::prelude::*;

use super::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad, Windows};
use crate::device::cpu::simd::vectorised;
use crate::device::cpu::{CpuCall, CpuOperator, PackedOperand};
use crate::graph::TensorType;

impl Windows {
    /// Input row or column that output `o` reads under kernel index `k`, of `len`.
    fn source(self, axis: usize, o: usize, k: usize, len: usize) -> Option<usize> {
        let fold = if self.upsample { 2 } else { 1 };
        let position = (o * self.stride + k).checked_sub(self.padding[axis])?;
        (position < len * fold).then_some(position / fold)
    }
}

fn whole_filter(inputs: &[TensorType]) -> Option<PackedOperand> {
    Some(PackedOperand {
        index: 1,
        len: inputs[1].len(),
    })
}

impl CpuOperator for Conv2d {
    fn packed_operand(&self, inputs: &[TensorType]) -> Option<PackedOperand> {
        whole_filter(inputs)
    }

    /// To `[kH,kW,I,O]`.
    fn pack(&self, inputs: &[TensorType], w: &[f32], packed: &mut [f32]) {
        let shape = &inputs[1].shape;
        let (outputs, per_output) = (shape[0], shape[1] * shape[2] * shape[3]);
        let taps = shape[2] * shape[3];
        for o in 0..outputs {
            for j in 0..per_output {
                packed[((j % taps) * shape[1] + j / taps) * outputs + o] = w[o * per_output + j];
            }
        }
    }

    fn run(&self, call: &CpuCall<'_>) {
        let (x, w, y) = (call.f32(0), call.packed(), call.out(0));
        let (xs, ws, ys) = (&call.in_type(0).shape, &call.in_type(1).shape, &call.out_type(0).shape);
        let windows = self.windows();
        let bias = self.bias.then(|| call.f32(2));
        let residual = self.residual_input().map(|index| call.f32(index));
        let row_len = ys[2] * ys[3];
        y.par_chunks_mut(row_len).enumerate().for_each(|(row, y)| {
            let (n, oy) = (row / ys[1], row % ys[1]);
            vectorised(|| {
                for (ox, y) in y.chunks_exact_mut(ys[3]).enumerate() {
                    match bias {
                        Some(bias) => y.copy_from_slice(bias),
                        None => y.fill(0.0),
                    }
                    for tap in 0..ws[2] * ws[3] {
                        let source = (
                            windows.source(0, oy, tap / ws[3], xs[1]),
                            windows.source(1, ox, tap % ws[3], xs[2]),
                        );
                        let (Some(iy), Some(ix)) = source else { continue };
                        let x = &x[((n * xs[1] + iy) * xs[2] + ix) * xs[3]..][..xs[3]];
                        let w = &w[tap * xs[3] * ys[3]..];
                        for (x, w) in x.iter().zip(w.chunks_exact(ys[3])) {
                            y.iter_mut().zip(w).for_each(|(y, w)| *y += x * w);
                        }
                    }
                    if let Some(residual) = residual {
                        let residual = &residual[row * row_len + ox * ys[3]..];
                        y.iter_mut().zip(residual).for_each(|(y, r)| *y += r);
                    }
                }
            });
        });
    }
}

impl CpuOperator for Conv2dInputGrad {
    fn packed_operand(&self, inputs: &[TensorType]) -> Option<PackedOperand> {
        whole_filter(inputs)
    }

    /// To `[kH,kW,O,I]`.
    fn pack(&self, inputs: &[TensorType], w: &[f32], packed: &mut [f32]) {
        let shape = &inputs[1].shape;
        let taps = shape[2] * shape[3];
        for (at, &value) in w.iter().enumerate() {
            let (oi, tap) = (at / taps, at % taps);
            packed[tap * shape[0] * shape[1] + oi] = value;
        }
    }

    fn run(&self, call: &CpuCall<'_>) {
        let (dy, w, dx) = (call.f32(0), call.packed(), call.out(0));
        let (ys, ws, xs) = (&call.in_type(0).shape, &call.in_type(1).shape, &call.out_type(0).shape);
        let windows = self.windows();
        // One task per image: every pixel of dx gathers from several rows of dy.
        dx.par_chunks_mut(xs[1] * xs[2] * xs[3]).enumerate().for_each(|(n, dx)| {
            dx.fill(0.0);
            vectorised(|| {
                for pixel in 0..ys[1] * ys[2] {
                    let dy = &dy[(n * ys[1] * ys[2] + pixel) * ys[3]..][..ys[3]];
                    for tap in 0..ws[2] * ws[3] {
                        let source = (
                            windows.source(0, pixel / ys[2], tap / ws[3], xs[1]),
                            windows.source(1, pixel % ys[2], tap % ws[3], xs[2]),
                        );
                        let (Some(iy), Some(ix)) = source else { continue };
                        let dx = &mut dx[(iy * xs[2] + ix) * xs[3]..][..xs[3]];
                        let w = &w[tap * ys[3] * xs[3]..];
                        for (dy, w) in dy.iter().zip(w.chunks_exact(xs[3])) {
                            dx.iter_mut().zip(w).for_each(|(dx, w)| *dx += dy * w);
                        }
                    }
                }
            });
        });
    }
}

impl CpuOperator for Conv2dWeightGrad {
    /// `[O,kH,kW,I]`.
    fn workspace_len(&self, _: &[TensorType], outputs: &[TensorType]) -> usize {
        outputs[0].len()
    }

    fn run(&self, call: &CpuCall<'_>) {
        let (x, dy, dw) = (call.f32(0), call.f32(1), call.out(0));
        let (xs, ys, ws) = (&call.in_type(0).shape, &call.in_type(1).shape, &call.out_type(0).shape);
        let windows = self.windows();
        let taps = ws[2] * ws[3];
        let workspace = call.workspace();
        workspace
            .par_chunks_mut(taps * xs[3])
            .zip(dw.par_chunks_mut(taps * xs[3]))
            .enumerate()
            .for_each(|(o, (sums, dw))| {
                sums.fill(0.0);
                vectorised(|| {
                    for pixel in 0..ys[0] * ys[1] * ys[2] {
                        let (n, oy, ox) = (pixel / (ys[1] * ys[2]), pixel / ys[2] % ys[1], pixel % ys[2]);
                        let dy = dy[pixel * ys[3] + o];
                        for (tap, sums) in sums.chunks_exact_mut(xs[3]).enumerate() {
                            let source = (
                                windows.source(0, oy, tap / ws[3], xs[1]),
                                windows.source(1, ox, tap % ws[3], xs[2]),
                            );
                            let (Some(iy), Some(ix)) = source else { continue };
                            let x = &x[((n * xs[1] + iy) * xs[2] + ix) * xs[3]..][..xs[3]];
                            sums.iter_mut().zip(x).for_each(|(s, x)| *s += dy * x);
                        }
                    }
                });
                for (at, dw) in dw.iter_mut().enumerate() {
                    *dw = sums[at % taps * xs[3] + at / taps];
                }
            });
    }
}
