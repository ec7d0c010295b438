//! CPU kernel: array after array; threads share the fixed blocks of each.

use super::{EPSILON, GlobalNorm};
use crate::graph::TensorType;
use crate::kernel::cpu::parallel::{sum_blocks, sum_blocks_len};
use crate::kernel::cpu::simd::vectorised;
use crate::kernel::cpu::{CpuCall, CpuOperator};

/// Sum of squares in eight lanes. Numbers are squared in `f64`, so that gradients of 1e-25 and 1e25 count too.
fn squares(x: &[f32]) -> f64 {
    vectorised(|| {
        let (chunks, rest) = x.as_chunks::<8>();
        let mut lanes = [0.0f64; 8];
        for chunk in chunks {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(x) * f64::from(x);
            }
        }
        let rest = rest.iter().map(|&x| f64::from(x) * f64::from(x));
        lanes.into_iter().chain(rest).sum()
    })
}

impl CpuOperator for GlobalNorm {
    fn workspace_len(&self, inputs: &[TensorType], _: &[TensorType]) -> usize {
        let lens = inputs.iter().map(|ty| sum_blocks_len(ty.len()));
        lens.max().unwrap_or(0)
    }

    fn run(&self, call: &CpuCall<'_>) {
        let workspace = call.workspace();
        let scale = match self.scaled {
            true => f64::from(call.f32(call.input_count() - 1)[0]),
            false => 1.0,
        };
        let mut total = 0.0;
        for (index, norm) in call.out(3).iter_mut().enumerate() {
            let x = call.f32(index);
            let sum = sum_blocks(workspace, x.len(), |range| squares(&x[range]));
            total += sum;
            *norm = (sum.sqrt() / scale) as f32;
        }
        let norm = total.sqrt() / scale;
        let factor = f64::from(self.max_norm) / (norm + EPSILON);
        // A comparison, so that NaN stays NaN.
        let factor = if factor > 1.0 { 1.0 } else { factor };
        call.out(0)[0] = norm as f32;
        call.out(1)[0] = (factor / scale) as f32;
        call.out(2)[0] = f32::from(u8::from(norm.is_finite()));
    }
}
