//! What the planner asks of the CPU kernels in [`super::cpu`].

use super::cpu::{Forward, InputGrad, WeightGrad};
use super::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad};
use crate::graph::TensorType;
use crate::kernel::cpu::{CpuCall, CpuOperator, PackedOperand};

impl Conv2d {
    fn forward(&self, inputs: &[TensorType]) -> Forward {
        Forward::new(&self.windows().geometry(&inputs[0].shape, &inputs[1].shape))
    }

    /// Floats of all channels of `x` together, where they are two inputs, up to a whole cache line.
    fn concat_len(&self, inputs: &[TensorType]) -> usize {
        let both = |index: usize| inputs[0].len() + inputs[index].len();
        self.concat_input().map_or(0, both).next_multiple_of(16)
    }
}

impl Conv2dInputGrad {
    fn input_grad(&self, inputs: &[TensorType]) -> InputGrad {
        let image = [inputs[0].shape[0], self.height, self.width];
        InputGrad::new(&self.windows().geometry(&image, &inputs[1].shape))
    }
}

impl Conv2dWeightGrad {
    fn weight_grad(&self, inputs: &[TensorType], outputs: &[TensorType]) -> WeightGrad {
        WeightGrad::new(&self.windows().geometry(&inputs[0].shape, &outputs[0].shape))
    }
}

impl CpuOperator for Conv2d {
    /// The channels of two inputs come together in front; the statistics come after the convolution, in the same memory.
    fn workspace_len(&self, inputs: &[TensorType], outputs: &[TensorType]) -> usize {
        let stats = self.stats.map(|s| s.workspace_len(outputs, &outputs[1..]));
        let behind = self.forward(inputs).workspace_len().max(stats.unwrap_or(0));
        self.concat_len(inputs) + behind
    }

    fn packed_operand(&self, inputs: &[TensorType]) -> Option<PackedOperand> {
        Some(PackedOperand {
            index: 1,
            len: self.forward(inputs).packed_len(),
        })
    }

    fn pack(&self, inputs: &[TensorType], operand: &[f32], packed: &mut [f32]) {
        self.forward(inputs).pack(operand, packed);
    }

    fn run(&self, call: &CpuCall<'_>) {
        let bias = self.bias.then(|| call.f32(2));
        let residual = self.residual_input().map(|index| call.f32(index));
        let (packed, mut x, y) = (call.packed(), call.f32(0), call.out(0));
        let geometry = self
            .windows()
            .geometry(&call.in_type(0).shape, &call.in_type(1).shape);
        let mut workspace = call.workspace();
        if let Some(index) = self.concat_input() {
            let types = [0, index].map(|input| call.in_type(input));
            let len = types[0].len() + types[1].len();
            let (concat, rest) = workspace.split_at_mut(len.next_multiple_of(16));
            let concat = &mut concat[..len];
            let rows = x.chunks_exact(types[0].channels());
            let rows = rows.zip(call.f32(index).chunks_exact(types[1].channels()));
            for (row, (first, last)) in concat.chunks_exact_mut(geometry.in_channels).zip(rows) {
                row[..first.len()].copy_from_slice(first);
                row[first.len()..].copy_from_slice(last);
            }
            (x, workspace) = (concat, rest);
        }
        Forward::new(&geometry).run(packed, x, bias, residual, y, workspace);
        if let Some(stats) = self.stats {
            stats.compute(y, call.out_type(0), call.out(1), workspace);
        }
    }
}

impl CpuOperator for Conv2dInputGrad {
    fn workspace_len(&self, inputs: &[TensorType], _: &[TensorType]) -> usize {
        self.input_grad(inputs).workspace_len()
    }

    fn packed_operand(&self, inputs: &[TensorType]) -> Option<PackedOperand> {
        Some(PackedOperand {
            index: 1,
            len: self.input_grad(inputs).packed_len(),
        })
    }

    fn pack(&self, inputs: &[TensorType], operand: &[f32], packed: &mut [f32]) {
        self.input_grad(inputs).pack(operand, packed);
    }

    fn run(&self, call: &CpuCall<'_>) {
        let residual = self.residual.then(|| call.f32(Self::RESIDUAL));
        let (packed, dy, dx, workspace) =
            (call.packed(), call.f32(0), call.out(0), call.workspace());
        let geometry = self
            .windows()
            .geometry(&call.out_type(0).shape, &call.in_type(1).shape);
        InputGrad::new(&geometry).run(packed, dy, residual, dx, workspace);
    }
}

impl CpuOperator for Conv2dWeightGrad {
    fn workspace_len(&self, inputs: &[TensorType], outputs: &[TensorType]) -> usize {
        self.weight_grad(inputs, outputs).workspace_len()
    }

    fn run(&self, call: &CpuCall<'_>) {
        let (x, dy, dw, workspace) = (call.f32(0), call.f32(1), call.out(0), call.workspace());
        let geometry = self
            .windows()
            .geometry(&call.in_type(0).shape, &call.out_type(0).shape);
        WeightGrad::new(&geometry).run(x, dy, dw, workspace);
    }
}
