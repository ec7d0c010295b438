//! What the CUDA side of an op sees of the step it launches kernels for.

use super::constants::ConstantPool;
use super::jobs::Job;
use super::launch::{DevicePtr, Kernel, KernelParams, Launch};
use super::target::Target;
use super::work::{LaunchWork, Launched};
use crate::kernel::error::Unsupported;
use crate::tensor::{DType, TensorType};

/// Memory of one operand.
#[derive(Clone, Debug)]
pub struct CudaOperand {
    pub at: DevicePtr,
    pub ty: TensorType,
}

/// An operand that kernels read in a packed form, such as a filter in the order of an implicit GEMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CudaPackedOperand {
    /// Position among the inputs.
    pub index: usize,
    /// Bytes of the packed form.
    pub bytes: usize,
}

/// The CUDA side of an op: which kernels run, with which tiles, grid and parameters.
///
/// Every method is a function of types and target alone, so that a plan's memory and programs are known before
/// anything is allocated.
pub trait CudaOperator {
    /// Scratch memory in bytes, without the packed operand.
    fn workspace_bytes(
        &self,
        inputs: &[TensorType],
        outputs: &[TensorType],
        target: &Target,
    ) -> usize {
        let _ = (inputs, outputs, target);
        0
    }

    /// The operand, if any, that the kernels read in a packed form. A weight that no step updates is packed once, when
    /// the plan is loaded, and one that is only updated later at the start of each run if [`CudaOperator::pack`] adds
    /// nothing but jobs; anything else before each execution of the step.
    fn packed_operand(
        &self,
        inputs: &[TensorType],
        outputs: &[TensorType],
        target: &Target,
    ) -> Option<CudaPackedOperand> {
        let _ = (inputs, outputs, target);
        None
    }

    /// Adds the jobs or launches that fill [`CudaCall::packed`] from the operand named by
    /// [`CudaOperator::packed_operand`]. Steps for which they are the same share the packed operand.
    fn pack(&self, call: &mut CudaCall<'_>) {
        let _ = call;
        unreachable!("only ops with a packed operand are asked to pack")
    }

    /// Whether this op, which does the work of another beside its own, is better than the two one by one; `inputs` are
    /// this op's. It is asked of ops that a producer fusion made.
    fn prefers_fused(&self, inputs: &[TensorType], target: &Target) -> bool {
        let _ = (inputs, target);
        false
    }

    /// Launches what computes all results, reading inputs and overwriting outputs, whatever they held.
    ///
    /// # Errors
    /// If no kernel takes these types.
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported>;

    /// Whether [`CudaOperator::launch`] adds nothing but a job, which a launch can do with those of other steps.
    fn is_job(&self, inputs: &[TensorType]) -> bool {
        let _ = inputs;
        false
    }

    /// Multi-tensor apply: the inputs that steps of this op must have in common to be launched together by
    /// [`CudaOperator::launch_multi_tensor`]; `None` for an op that is launched step by step. Only ops that have no
    /// results, workspace or packed operand say so: updates.
    fn shared_inputs(&self) -> Option<Vec<usize>> {
        None
    }

    /// Launches what computes several steps that differ in nothing but the inputs outside
    /// [`CudaOperator::shared_inputs`]; `steps` holds the inputs of each, `call` is the first.
    ///
    /// # Errors
    /// If no kernel takes these types.
    fn launch_multi_tensor(
        &self,
        call: &mut CudaCall<'_>,
        steps: &[Vec<CudaOperand>],
    ) -> Result<(), Unsupported> {
        let _ = (call, steps);
        unreachable!("only ops with shared inputs are launched together")
    }
}

/// The operands of a step, and the list its launches are added to.
pub struct CudaCall<'a> {
    pub name: &'static str,
    pub inputs: &'a [CudaOperand],
    pub outputs: &'a [CudaOperand],
    pub workspace: DevicePtr,
    pub packed: DevicePtr,
    pub target: &'a Target,
    pub constants: &'a mut ConstantPool,
    pub launches: &'a mut Vec<Launch>,
    pub jobs: &'a mut Vec<Job>,
}

impl CudaCall<'_> {
    /// Address of input `index`; also of an operand that the op updates.
    pub fn input(&self, index: usize) -> DevicePtr {
        self.inputs[index].at
    }

    /// All inputs.
    pub fn inputs(&self) -> &[CudaOperand] {
        self.inputs
    }

    /// All results.
    pub fn outputs(&self) -> &[CudaOperand] {
        self.outputs
    }

    /// Address of result `index`.
    pub fn output(&self, index: usize) -> DevicePtr {
        self.outputs[index].at
    }

    /// Type of input `index`.
    pub fn in_type(&self, index: usize) -> &TensorType {
        &self.inputs[index].ty
    }

    /// Type of result `index`.
    pub fn out_type(&self, index: usize) -> &TensorType {
        &self.outputs[index].ty
    }

    /// Types of all inputs.
    pub fn in_types(&self) -> Vec<TensorType> {
        self.inputs.iter().map(|x| x.ty.clone()).collect()
    }

    /// Types of all results.
    pub fn out_types(&self) -> Vec<TensorType> {
        self.outputs.iter().map(|y| y.ty.clone()).collect()
    }

    /// Number of inputs.
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// Scratch memory of the size that the op asked for, with undefined contents, aligned to 64 bytes.
    pub fn workspace(&self) -> DevicePtr {
        self.workspace
    }

    /// The packed form of the operand named by `packed_operand`.
    pub fn packed(&self) -> DevicePtr {
        self.packed
    }

    /// Collects the launches of another op, on other operands and scratch memory, as part of this step.
    pub fn within<R>(
        &mut self,
        inputs: &[CudaOperand],
        outputs: &[CudaOperand],
        workspace: DevicePtr,
        launch: impl FnOnce(&mut CudaCall<'_>) -> R,
    ) -> R {
        launch(&mut CudaCall {
            name: self.name,
            inputs,
            outputs,
            workspace,
            packed: self.packed,
            target: self.target,
            constants: self.constants,
            launches: self.launches,
            jobs: self.jobs,
        })
    }

    /// What launches depend on beside shapes.
    pub fn target(&self) -> &Target {
        self.target
    }

    /// Keeps `words` in device memory for the life of the plan and gives their address.
    pub fn table(&mut self, words: &[u64]) -> DevicePtr {
        self.constants.add(bytemuck::cast_slice(words))
    }

    /// `count` counters of 32 bits for the life of the plan, zero between launches.
    pub fn counters(&mut self, count: usize) -> DevicePtr {
        self.constants.add(&vec![0; 4 * count])
    }

    /// Adds a job to one launch of `kernel` for all jobs of its kind: `blocks` blocks of `threads` threads with
    /// `shared_bytes` of dynamic shared memory.
    pub fn job(
        &mut self,
        kernel: Kernel,
        blocks: usize,
        threads: usize,
        shared_bytes: usize,
        params: &impl KernelParams,
    ) -> Launched<'_> {
        let work = self.work_of_operands(blocks as u64);
        self.jobs.push(Job {
            kernel,
            blocks,
            threads,
            shared_bytes,
            params: params.bytes(),
            work,
        });
        Launched(self.jobs.last_mut().map(|job| &mut job.work))
    }

    /// Adds a launch of `grid` blocks of `block` threads with `shared_bytes` of dynamic shared memory. A grid without
    /// blocks launches nothing. What it does follows from the operands unless the result is told.
    pub fn launch(
        &mut self,
        kernel: Kernel,
        grid: [usize; 3],
        block: [usize; 3],
        shared_bytes: usize,
        params: &impl KernelParams,
    ) -> Launched<'_> {
        if grid.contains(&0) {
            return Launched(None);
        }
        let work = self.work_of_operands(grid.iter().map(|&extent| extent as u64).product());
        let narrow = |extents: [usize; 3]| {
            extents.map(|e| u32::try_from(e).expect("grids are far below 2^32 blocks"))
        };
        self.launches.push(Launch {
            kernel,
            grid: narrow(grid),
            block: narrow(block),
            shared_bytes: u32::try_from(shared_bytes).expect("shared memory is some KiB"),
            params: params.bytes(),
            work,
        });
        Launched(self.launches.last_mut().map(|launch| &mut launch.work))
    }

    /// The work of a launch that reads all inputs and writes all results.
    fn work_of_operands(&self, blocks: u64) -> LaunchWork {
        let [inputs, outputs] =
            [self.inputs, self.outputs].map(|operands| operands.iter().map(|operand| &operand.ty));
        LaunchWork::of_operands(blocks, inputs, outputs)
    }

    /// An error that says why no kernel takes this step.
    pub fn unsupported(&self, why: impl Into<String>) -> Unsupported {
        Unsupported {
            op: self.name,
            device: "cuda",
            why: why.into(),
        }
    }
}

/// The name of an element type in `kernels/common/types.cuh`: the value of `-DT`.
///
/// # Panics
/// For types that no kernel computes in.
pub fn element(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "f32",
        DType::F16 => "f16",
        DType::BF16 => "bf16",
        other => unreachable!("no kernel computes in {other}"),
    }
}
