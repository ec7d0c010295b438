//! Launches `kernels/optimizer.cu`: one launch for all weights that share a learning rate, a counter and a gate.

use super::{Adam, Ema};
use crate::kernel::Unsupported;
use crate::kernel::cuda::{
    Chunks, CudaCall, CudaOperand, CudaOperator, DevicePtr, Kernel, LaunchWork,
    params::{AdamParams, EmaParams},
};

const THREADS: usize = 256;
/// Arrays of a step: weight, gradient and two moments; average and weight.
const ADAM_ARRAYS: usize = 4;
const EMA_ARRAYS: usize = 2;

/// The table of the first `arrays` inputs of every step, and its number of rows.
pub(crate) fn table(
    call: &mut CudaCall<'_>,
    steps: &[Vec<CudaOperand>],
    arrays: usize,
) -> (DevicePtr, usize) {
    let entries: Vec<(Vec<DevicePtr>, usize)> = steps
        .iter()
        .map(|inputs| {
            let addresses = inputs[..arrays].iter().map(|operand| operand.at).collect();
            (addresses, inputs[0].ty.len())
        })
        .collect();
    let chunks = Chunks::new(&entries, call.target());
    (call.table(&chunks.words), chunks.rows())
}

/// What a launch of `rows` blocks does that reads the first `arrays` arrays of each step and writes `written` of them.
pub(in crate::ops) fn updates(
    steps: &[Vec<CudaOperand>],
    rows: usize,
    arrays: usize,
    written: usize,
) -> LaunchWork {
    let types = |count: usize| {
        steps
            .iter()
            .flat_map(move |inputs| inputs[..count].iter().map(|operand| &operand.ty))
    };
    LaunchWork::of_operands(rows as u64, types(arrays), types(written))
}

impl CudaOperator for Adam {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let step = call.inputs().to_vec();
        self.launch_multi_tensor(call, &[step])
    }

    fn shared_inputs(&self) -> Option<Vec<usize>> {
        let scalars = 2 + usize::from(self.clipped) + usize::from(self.gated);
        Some((ADAM_ARRAYS..ADAM_ARRAYS + scalars).collect())
    }

    fn launch_multi_tensor(
        &self,
        call: &mut CudaCall<'_>,
        steps: &[Vec<CudaOperand>],
    ) -> Result<(), Unsupported> {
        let (chunks, rows) = table(call, steps, ADAM_ARRAYS);
        let params = AdamParams {
            chunks,
            learning_rate: call.input(4),
            step: call.input(5),
            clip: match self.clipped {
                true => call.input(6),
                false => DevicePtr::NULL,
            },
            gate: match self.gated {
                true => call.input(call.input_count() - 1),
                false => DevicePtr::NULL,
            },
            beta1: self.config.beta1,
            beta2: self.config.beta2,
            weight_decay: self.config.weight_decay,
            eps: self.config.eps as f32,
            decoupled: self.config.decoupled.into(),
        };
        let kernel = Kernel::new("optimizer.cu", "adam");
        // All but the gradient are written.
        call.launch(kernel, [rows, 1, 1], [THREADS, 1, 1], 0, &params)
            .doing(|| updates(steps, rows, ADAM_ARRAYS, ADAM_ARRAYS - 1));
        Ok(())
    }
}

impl CudaOperator for Ema {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let step = call.inputs().to_vec();
        self.launch_multi_tensor(call, &[step])
    }

    fn shared_inputs(&self) -> Option<Vec<usize>> {
        Some((EMA_ARRAYS..EMA_ARRAYS + 1 + usize::from(self.gated)).collect())
    }

    fn launch_multi_tensor(
        &self,
        call: &mut CudaCall<'_>,
        steps: &[Vec<CudaOperand>],
    ) -> Result<(), Unsupported> {
        let (chunks, rows) = table(call, steps, EMA_ARRAYS);
        let params = EmaParams {
            chunks,
            step: call.input(2),
            gate: match self.gated {
                true => call.input(3),
                false => DevicePtr::NULL,
            },
            max_decay: self.max_decay,
            power: self.power,
        };
        let kernel = Kernel::new("optimizer.cu", "ema");
        call.launch(kernel, [rows, 1, 1], [THREADS, 1, 1], 0, &params)
            .doing(|| updates(steps, rows, EMA_ARRAYS, 1));
        Ok(())
    }
}
