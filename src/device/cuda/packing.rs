//! Which weights of a plan CUDA keeps packed: what no step updates, and what tensor cores read of the others.

use crate::kernel::cuda::{ConstantPool, CudaCall, CudaOperand};
use crate::kernel::cuda::jobs::Job;
use crate::kernel::cuda::launch::{DevicePtr, Launch};
use super::{CudaDevice, WORKSPACE_ALIGNMENT};
use crate::device::packing::{Packed, PackingPlan, types};
use crate::graph::{Known, Plan, TensorType};
use crate::ops::Op;

/// What packs an operand, with null for all addresses: packed forms are equal if it is.
#[derive(PartialEq, Eq)]
pub(super) struct Form {
    jobs: Vec<Job>,
    launches: Vec<Launch>,
}

impl CudaDevice {
    /// The operand that `op` reads packed, and in which form. Sizes are bytes.
    fn packed(
        &self,
        op: &Op,
        inputs: &[TensorType],
        outputs: &[TensorType],
        known: &[Known],
    ) -> Option<Packed<Form>> {
        let operand = op.cuda().packed_operand(inputs, outputs, &self.target)?;
        let nowhere = |types: &[TensorType]| -> Vec<CudaOperand> {
            let operand = |ty: &TensorType| CudaOperand {
                at: DevicePtr::NULL,
                ty: ty.clone(),
            };
            types.iter().map(operand).collect()
        };
        let mut form = Form {
            jobs: Vec::new(),
            launches: Vec::new(),
        };
        op.cuda().pack(&mut CudaCall {
            name: op.operator().name(),
            taken_over: None,
            inputs: &nowhere(inputs),
            outputs: &nowhere(outputs),
            workspace: DevicePtr::NULL,
            packed: DevicePtr::NULL,
            target: &self.target,
            constants: &mut ConstantPool::default(),
            launches: &mut form.launches,
            jobs: &mut form.jobs,
        });
        let kept = match known[operand.index] {
            Known::SinceLoad => true,
            // The f32 filters of plain kernels would be another whole copy of the weights to save a launch each, beside
            // products that take far longer than those of tensor cores.
            Known::SinceStart => self.options.group && form.launches.is_empty(),
            Known::SinceStep => false,
        };
        Some(Packed {
            index: operand.index,
            size: operand.bytes,
            form,
            kept,
        })
    }

    /// What is packed in a plan.
    pub(super) fn packing_plan(&self, plan: &Plan) -> PackingPlan {
        PackingPlan::new(plan, |step| {
            let (inputs, outputs) = (types(plan, &step.inputs), types(plan, &step.outputs));
            self.packed(&step.op, &inputs, &outputs, &step.known)
        })
    }

    /// Scratch memory of a step: its own, and behind it the operand that is packed before each execution.
    pub(super) fn scratch_bytes(
        &self,
        op: &Op,
        inputs: &[TensorType],
        outputs: &[TensorType],
        known: &[Known],
    ) -> usize {
        let own = op.cuda().workspace_bytes(inputs, outputs, &self.target);
        match self.packed(op, inputs, outputs, known) {
            Some(packed) if !packed.kept => own.next_multiple_of(WORKSPACE_ALIGNMENT) + packed.size,
            _ => own,
        }
    }
}

#[cfg(test)]
mod tests;
