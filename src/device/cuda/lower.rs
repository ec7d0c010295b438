//! Plan to launches, nothing else: every step answers with its launches once its operands have addresses.

use super::addresses::Addresses;
use crate::compile::plan::packed::{PackedPlace, PackedStep};
use crate::compile::{Available, Plan};
use crate::kernel::Unsupported;
use crate::kernel::cuda::jobs::{self, Job};
use crate::kernel::cuda::launch::Launch;
use crate::kernel::cuda::{
    ConstantPool, CudaCall, CudaOperand, DevicePtr, Target, WORKSPACE_ALIGNMENT,
};

/// Collects the launches of a plan.
pub(super) struct Lowering<'a> {
    pub target: &'a Target,
    pub plan: &'a Plan,
    pub addresses: &'a Addresses,
    pub constants: ConstantPool,
    /// What runs once, when the plan is loaded.
    pub once: Vec<Launch>,
    /// What runs each time.
    pub each: Vec<Launch>,
    /// For each of these the step it belongs to, of several the first; none for what packs weights.
    pub owners: Vec<Option<usize>>,
}

impl Lowering<'_> {
    /// Collects the launches of all steps.
    pub fn run(&mut self) -> Result<(), Unsupported> {
        self.prepack();
        self.owners.resize(self.each.len(), None);
        for group in &self.plan.groups {
            let owner = group[0];
            let alike = self.plan.steps[owner].op.cuda().shared_inputs().is_some();
            if group.len() > 1 && alike {
                self.multi_tensor(group)?;
            } else {
                let mut jobs = Vec::new();
                for &index in group {
                    self.step(index, &mut jobs)?;
                }
                let launches = jobs::launches(jobs, &mut self.constants);
                self.each.extend(launches);
            }
            self.owners.resize(self.each.len(), Some(owner));
        }
        Ok(())
    }

    /// Packs the prepacked weights: when the plan is loaded, or at the start of each run.
    fn prepack(&mut self) {
        let (mut at_load, mut at_start) = (Vec::new(), Vec::new());
        for prepacked in &self.plan.packing.prepacked {
            let packed = self.packed(prepacked.step);
            let (launches, jobs) = match prepacked.available {
                Available::AtLoad => (&mut self.once, &mut at_load),
                _ => (&mut self.each, &mut at_start),
            };
            let step = &self.plan.steps[prepacked.step];
            let mut call = CudaCall {
                name: step.op.operator().name(),
                inputs: &self.addresses.operands(self.plan, &step.inputs),
                outputs: &self.addresses.operands(self.plan, &step.outputs),
                workspace: DevicePtr::NULL,
                packed,
                target: self.target,
                constants: &mut self.constants,
                launches,
                jobs,
            };
            step.op.cuda().pack(&mut call);
        }
        for (jobs, launches) in [(at_load, &mut self.once), (at_start, &mut self.each)] {
            launches.extend(jobs::launches(jobs, &mut self.constants));
        }
    }

    /// Where the packed operand of step `index` lies; null if there is none.
    fn packed(&self, index: usize) -> DevicePtr {
        let step = &self.plan.steps[index];
        match self.plan.packing.steps[index].map(|packed| packed.place) {
            Some(PackedPlace::Prepacked(index)) => self.addresses.prepacked[index]
                .as_ref()
                .map_or(DevicePtr::NULL, |memory| memory.at),
            Some(PackedPlace::Workspace) => {
                let inputs = self.plan.types(&step.inputs);
                let outputs = self.plan.types(&step.outputs);
                let own = step
                    .op
                    .cuda()
                    .workspace_bytes(&inputs, &outputs, self.target);
                let workspace = self.addresses.arena.at(step.workspace.start);
                workspace.add(own.next_multiple_of(WORKSPACE_ALIGNMENT))
            }
            None => DevicePtr::NULL,
        }
    }

    /// Steps that one launch computes.
    fn multi_tensor(&mut self, group: &[usize]) -> Result<(), Unsupported> {
        let first = &self.plan.steps[group[0]];
        let inputs: Vec<Vec<CudaOperand>> = group
            .iter()
            .map(|&index| {
                self.addresses
                    .operands(self.plan, &self.plan.steps[index].inputs)
            })
            .collect();
        let mut call = CudaCall {
            name: first.op.operator().name(),
            inputs: &inputs[0],
            outputs: &[],
            workspace: DevicePtr::NULL,
            packed: DevicePtr::NULL,
            target: self.target,
            constants: &mut self.constants,
            launches: &mut self.each,
            jobs: &mut Vec::new(),
        };
        first.op.cuda().launch_multi_tensor(&mut call, &inputs)
    }

    /// Adds the launches and jobs of a step.
    fn step(&mut self, index: usize, jobs: &mut Vec<Job>) -> Result<(), Unsupported> {
        let (plan, target) = (self.plan, self.target);
        let step = &plan.steps[index];
        let inputs = self.addresses.operands(plan, &step.inputs);
        let outputs = self.addresses.operands(plan, &step.outputs);
        let cuda = step.op.cuda();
        let workspace = match step.workspace.is_empty() {
            true => DevicePtr::NULL,
            false => self.addresses.arena.at(step.workspace.start),
        };
        let packed = self.packed(index);
        let mut call = CudaCall {
            name: step.op.operator().name(),
            inputs: &inputs,
            outputs: &outputs,
            workspace,
            packed,
            target,
            constants: &mut self.constants,
            launches: &mut self.each,
            jobs,
        };
        let in_workspace = |packed: PackedStep| packed.place == PackedPlace::Workspace;
        if self.plan.packing.steps[index].is_some_and(in_workspace) {
            cuda.pack(&mut call);
            let launches = jobs::launches(std::mem::take(call.jobs), call.constants);
            call.launches.extend(launches);
        }
        cuda.launch(&mut call)
    }
}
