//! What the compiler learns of the CUDA kernels, from a `Target` alone: no driver is loaded.

use super::backend::{Backend, Packed, Sharing};
use super::passes::precision::Precision;
use super::plan::{Available, Binding, BindingKind};
use crate::graph::Op;
use crate::kernel::cuda::jobs::Job;
use crate::kernel::cuda::launch::Launch;
use crate::kernel::cuda::{
    ConstantPool, CudaCall, CudaOperand, DevicePtr, Target, WORKSPACE_ALIGNMENT,
};
use crate::ops::Conv2d;
use crate::tensor::{DType, TensorType};

/// A GPU as plans are compiled for it.
#[derive(Clone, Copy, Debug)]
pub struct CudaBackend {
    /// The GPU, and what is asked of results.
    pub target: Target,
    /// Type of activations and of the operands of products.
    pub precision: Precision,
    /// Horizontal fusion: pack many weights in one launch, and update many by multi-tensor apply.
    pub group: bool,
}

/// The launches and jobs that pack an operand, with null for all addresses. Equal launches write equal forms.
#[derive(Debug, PartialEq, Eq)]
pub struct PackingLaunches {
    jobs: Vec<Job>,
    launches: Vec<Launch>,
}

impl Backend for CudaBackend {
    type Form = PackingLaunches;

    fn storage(&self) -> DType {
        self.precision.storage()
    }

    /// The step's own scratch memory, and behind it the operand that is packed before each execution.
    fn workspace_bytes(
        &self,
        op: &Op,
        inputs: &[TensorType],
        outputs: &[TensorType],
        available: &[Available],
    ) -> usize {
        let own = op.cuda().workspace_bytes(inputs, outputs, &self.target);
        match self.packed(op, inputs, outputs, available) {
            Some(packed) if !packed.prepacked => {
                own.next_multiple_of(WORKSPACE_ALIGNMENT) + packed.bytes
            }
            _ => own,
        }
    }

    fn packed(
        &self,
        op: &Op,
        inputs: &[TensorType],
        outputs: &[TensorType],
        available: &[Available],
    ) -> Option<Packed<PackingLaunches>> {
        let operand = op.cuda().packed_operand(inputs, outputs, &self.target)?;
        let nowhere = |types: &[TensorType]| -> Vec<CudaOperand> {
            let operand = |ty: &TensorType| CudaOperand {
                at: DevicePtr::NULL,
                ty: ty.clone(),
            };
            types.iter().map(operand).collect()
        };
        let mut form = PackingLaunches {
            jobs: Vec::new(),
            launches: Vec::new(),
        };
        op.cuda().pack(&mut CudaCall {
            name: op.operator().name(),
            inputs: &nowhere(inputs),
            outputs: &nowhere(outputs),
            workspace: DevicePtr::NULL,
            packed: DevicePtr::NULL,
            target: &self.target,
            constants: &mut ConstantPool::default(),
            launches: &mut form.launches,
            jobs: &mut form.jobs,
        });
        let prepacked = match available[operand.index] {
            Available::AtLoad => true,
            // The f32 filters of plain kernels would be another whole copy of the weights to save a launch each, beside
            // products that take far longer than those of tensor cores.
            Available::AtStart => self.group && form.launches.is_empty(),
            Available::DuringRun => false,
        };
        Some(Packed {
            index: operand.index,
            bytes: operand.bytes,
            form,
            prepacked,
        })
    }

    fn prefers(&self, fused: &Op, inputs: &[TensorType]) -> bool {
        // The plain kernels of f32 do nothing beside their product.
        let plain = fused.is::<Conv2d>() && self.storage() == DType::F32;
        !plain && fused.cuda().prefers_fused(inputs, &self.target)
    }

    fn sharing(&self, op: &Op, inputs: &[TensorType]) -> Sharing {
        match op.cuda().shared_inputs() {
            _ if !self.group => Sharing::Alone,
            Some(shared) => Sharing::SharedInputs(shared),
            None if op.cuda().is_job(inputs) => Sharing::Job,
            None => Sharing::Alone,
        }
    }

    /// An input lies on the device twice, the second time where it arrives while a run still reads the one before.
    fn binding_bytes(&self, binding: &Binding) -> usize {
        match binding.kind {
            BindingKind::Input => 2 * binding.ty.bytes(),
            _ => binding.ty.bytes(),
        }
    }
}

#[cfg(test)]
mod tests;
