//! CPU kernels.

use super::{Distance, PixelLoss, PixelLossGrad};
use crate::graph::TensorType;
use crate::kernel::cpu::parallel::{sum_blocks, sum_blocks_len, sum_pairs};
use crate::kernel::cpu::{CpuCall, CpuOperator};

impl CpuOperator for PixelLoss {
    fn workspace_len(&self, inputs: &[TensorType], _: &[TensorType]) -> usize {
        sum_blocks_len(inputs[0].len())
    }

    fn run(&self, call: &CpuCall<'_>) {
        let (a, b) = (call.f32(0), call.f32(1));
        let sum = sum_blocks(call.workspace(), a.len(), |range| {
            let (a, b) = (&a[range.clone()], &b[range]);
            match self.distance {
                Distance::L1 => sum_pairs(a, b, |a, b| (a - b).abs()),
                Distance::L2 => sum_pairs(a, b, |a, b| (a - b) * (a - b)),
            }
        });
        call.out(0)[0] = (f64::from(self.factor) * sum) as f32;
    }
}

impl CpuOperator for PixelLossGrad {
    fn run(&self, call: &CpuCall<'_>) {
        let scale = self.of.factor * call.f32(2)[0];
        match self.of.distance {
            Distance::L1 => call.binary(0, 1, 0, |a, b| {
                let difference = a - b;
                if difference > 0.0 {
                    scale
                } else if difference < 0.0 {
                    -scale
                } else {
                    // 0 where equal, NaN where one is.
                    difference * scale
                }
            }),
            Distance::L2 => call.binary(0, 1, 0, |a, b| 2.0 * scale * (a - b)),
        }
    }
}
