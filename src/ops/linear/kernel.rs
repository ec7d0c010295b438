//! What the planner asks of the CPU kernels in [`super::cpu`].

use super::cpu::{
    LinearGeometry, forward, input_grad, input_grad_workspace_len, weight_grad,
    weight_grad_workspace_len,
};
use super::{Linear, LinearInputGrad, LinearWeightGrad};
use crate::graph::TensorType;
use crate::kernel::cpu::simd::vectorised;
use crate::kernel::cpu::{CpuCall, CpuOperator, Shared, parallel_ranges};

/// The layer with activations `x` and results `y`.
fn geometry(x: &TensorType, y: &TensorType) -> LinearGeometry {
    LinearGeometry {
        rows: x.rows(),
        inputs: x.channels(),
        outputs: y.channels(),
    }
}

impl CpuOperator for Linear {
    fn run(&self, call: &CpuCall<'_>) {
        let geometry = geometry(call.in_type(0), call.out_type(0));
        let bias = self.bias.then(|| call.f32(2));
        let y = call.out(0);
        forward(&geometry, call.f32(0), call.f32(1), bias, y);
        if let Some(index) = self.residual_input() {
            add(y, call.f32(index));
        }
    }
}

/// `y += residual`.
fn add(y: &mut [f32], residual: &[f32]) {
    let y = Shared::new(y);
    parallel_ranges(y.len, |range| {
        // SAFETY: ranges of different threads are disjoint.
        let y = unsafe { y.slice_mut(range.clone()) };
        let residual = &residual[range];
        vectorised(
            #[inline(always)]
            || {
                for (y, r) in y.iter_mut().zip(residual) {
                    *y += r;
                }
            },
        );
    });
}

impl CpuOperator for LinearInputGrad {
    fn workspace_len(&self, inputs: &[TensorType], outputs: &[TensorType]) -> usize {
        input_grad_workspace_len(&geometry(&outputs[0], &inputs[0]))
    }

    fn run(&self, call: &CpuCall<'_>) {
        let geometry = geometry(call.out_type(0), call.in_type(0));
        let dx = call.out(0);
        input_grad(&geometry, call.f32(1), call.f32(0), dx, call.workspace());
        if self.residual {
            add(dx, call.f32(Self::RESIDUAL));
        }
    }
}

impl CpuOperator for LinearWeightGrad {
    fn workspace_len(&self, inputs: &[TensorType], _: &[TensorType]) -> usize {
        weight_grad_workspace_len(&geometry(&inputs[0], &inputs[1]))
    }

    fn run(&self, call: &CpuCall<'_>) {
        let geometry = geometry(call.in_type(0), call.in_type(1));
        weight_grad(
            &geometry,
            call.f32(0),
            call.f32(1),
            call.out(0),
            call.workspace(),
        );
    }
}
