//! What the compiler learns of the CPU's kernels. Scratch memory depends on the number of threads, so a plan is compiled
//! inside the pool that will run it.

use super::backend::{Backend, Packed};
use super::plan::Available;
use crate::graph::Op;
use crate::tensor::{DType, TensorType};

/// The CPU with the threads of the current rayon pool.
#[derive(Clone, Copy, Debug)]
pub struct CpuBackend;

impl Backend for CpuBackend {
    type Form = (Op, Vec<TensorType>);

    fn storage(&self) -> DType {
        DType::F32
    }

    fn workspace_bytes(
        &self,
        op: &Op,
        inputs: &[TensorType],
        outputs: &[TensorType],
        available: &[Available],
    ) -> usize {
        let own = op.cpu().workspace_len(inputs, outputs) * size_of::<f32>();
        match self.packed(op, inputs, outputs, available) {
            Some(packed) if !packed.prepacked => own + packed.bytes,
            _ => own,
        }
    }

    fn packed(
        &self,
        op: &Op,
        inputs: &[TensorType],
        _: &[TensorType],
        available: &[Available],
    ) -> Option<Packed<Self::Form>> {
        let packed = op.cpu().packed_operand(inputs)?;
        Some(Packed {
            index: packed.index,
            bytes: packed.len * size_of::<f32>(),
            form: (op.clone(), inputs.to_vec()),
            // A weight that is updated would take a second copy of the weights.
            prepacked: available[packed.index] == Available::AtLoad,
        })
    }
}
