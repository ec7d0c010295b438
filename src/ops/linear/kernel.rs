//! CPU kernels: plain loop nests over channels as lanes.

use rayon::prelude::*;

use super::{Linear, LinearInputGrad, LinearWeightGrad};
use crate::device::cpu::simd::vectorised;
use crate::device::cpu::{CpuCall, CpuOperator, PackedOperand};
use crate::graph::TensorType;

impl CpuOperator for Linear {
    fn packed_operand(&self, inputs: &[TensorType]) -> Option<PackedOperand> {
        Some(PackedOperand {
            index: 1,
            len: inputs[1].len(),
        })
    }

    /// To `[I,O]`.
    fn pack(&self, inputs: &[TensorType], w: &[f32], packed: &mut [f32]) {
        let (results, channels) = (inputs[1].shape[0], inputs[1].shape[1]);
        for (at, &value) in w.iter().enumerate() {
            packed[at % channels * results + at / channels] = value;
        }
    }

    fn run(&self, call: &CpuCall<'_>) {
        let (x, w, y) = (call.f32(0), call.packed(), call.out(0));
        let (channels, results) = (call.in_type(0).channels(), call.out_type(0).channels());
        let bias = self.bias.then(|| call.f32(2));
        let residual = self.residual_input().map(|index| call.f32(index));
        y.par_chunks_mut(results).enumerate().for_each(|(row, y)| {
            vectorised(|| {
                match bias {
                    Some(bias) => y.copy_from_slice(bias),
                    None => y.fill(0.0),
                }
                let x = &x[row * channels..][..channels];
                for (x, w) in x.iter().zip(w.chunks_exact(results)) {
                    y.iter_mut().zip(w).for_each(|(y, w)| *y += x * w);
                }
                if let Some(residual) = residual {
                    let residual = &residual[row * results..];
                    y.iter_mut().zip(residual).for_each(|(y, r)| *y += r);
                }
            });
        });
    }
}

impl CpuOperator for LinearInputGrad {
    fn run(&self, call: &CpuCall<'_>) {
        let (dy, w, dx) = (call.f32(0), call.f32(1), call.out(0));
        let (results, channels) = (call.in_type(0).channels(), call.out_type(0).channels());
        dx.par_chunks_mut(channels).enumerate().for_each(|(row, dx)| {
            vectorised(|| {
                dx.fill(0.0);
                let dy = &dy[row * results..][..results];
                for (dy, w) in dy.iter().zip(w.chunks_exact(channels)) {
                    dx.iter_mut().zip(w).for_each(|(dx, w)| *dx += dy * w);
                }
            });
        });
    }
}

impl CpuOperator for LinearWeightGrad {
    fn run(&self, call: &CpuCall<'_>) {
        let (x, dy, dw) = (call.f32(0), call.f32(1), call.out(0));
        let (channels, results) = (call.in_type(0).channels(), call.in_type(1).channels());
        dw.par_chunks_mut(channels).enumerate().for_each(|(o, dw)| {
            vectorised(|| {
                dw.fill(0.0);
                for (x, dy) in x.chunks_exact(channels).zip(dy.chunks_exact(results)) {
                    let dy = dy[o];
                    dw.iter_mut().zip(x).for_each(|(dw, x)| *dw += dy * x);
                }
            });
        });
    }
}
