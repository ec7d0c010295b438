//! A plan bound to device memory: its launches, captured and ready to replay.

use std::collections::HashMap;

use cudarc::driver::sys::{CUfunction, CUstream};

use crate::kernel::cuda::{ConstantPool, CudaCall, CudaOperand};
use super::context::{CapturedGraph, Memory};
use super::grouping::groups;
use crate::kernel::cuda::jobs::{self, Job};
use crate::kernel::cuda::launch::{DevicePtr, Launch};
use super::staging::Staging;
use super::{CudaDevice, CudaError, WORKSPACE_ALIGNMENT};
use crate::device::packing::{PackedStep, PackingPlan, Place, parameter, types};
use crate::device::{DeviceError, Executable, MemoryReport};
use crate::graph::{BindingKind, Known, Location, Plan, Step, Value};
use crate::ops::Op;
use crate::tensor::{DType, TensorMap};

/// Memory that `plan` will take.
pub(super) fn memory(device: &CudaDevice, plan: &Plan) -> MemoryReport {
    let packing = device.packing_plan(plan);
    let kept = packing.kept.iter().map(|kept| kept.size).sum();
    let (mut parameter_bytes, mut buffer_bytes) = (kept, 0);
    for (binding, &plain) in plan.bindings.iter().zip(&packing.plain) {
        if plain {
            match binding.kind {
                BindingKind::Parameter => parameter_bytes += binding.ty.bytes(),
                // Once more on its way: see `Staging`.
                BindingKind::Input => buffer_bytes += 2 * binding.ty.bytes(),
                _ => buffer_bytes += binding.ty.bytes(),
            }
        }
    }
    MemoryReport {
        arena_bytes: plan.arena_bytes,
        parameter_bytes,
        buffer_bytes,
    }
}

/// Where the values and workspaces of a plan lie.
pub(super) struct Addresses {
    pub bindings: Vec<Option<Memory>>,
    pub arena: Arena,
    /// Weights that are kept packed.
    pub kept: Vec<Option<Memory>>,
}

pub(super) enum Arena {
    Whole(Memory),
    /// One allocation for each offset that a value or workspace starts at.
    Isolated(HashMap<usize, Memory>),
}

impl Arena {
    fn at(&self, offset: usize) -> DevicePtr {
        match self {
            Self::Whole(memory) => memory.at.add(offset),
            Self::Isolated(parts) => parts
                .get(&offset)
                .map_or(DevicePtr::NULL, |memory| memory.at),
        }
    }

    fn parts(&self) -> impl Iterator<Item = &Memory> {
        let parts: Box<dyn Iterator<Item = &Memory>> = match self {
            Self::Whole(memory) => Box::new(std::iter::once(memory)),
            Self::Isolated(parts) => Box::new(parts.values()),
        };
        parts
    }
}

impl Addresses {
    fn of(&self, plan: &Plan, value: Value) -> DevicePtr {
        match plan.value(value).location {
            Location::Arena(offset) => self.arena.at(offset),
            Location::Binding(index) => self.bindings[index]
                .as_ref()
                .map_or(DevicePtr::NULL, |memory| memory.at),
            Location::Unused => unreachable!("steps only name planned values"),
        }
    }

    fn operands(&self, plan: &Plan, values: &[Value]) -> Vec<CudaOperand> {
        let operand = |&value: &Value| CudaOperand {
            at: self.of(plan, value),
            ty: plan.value(value).ty.clone(),
        };
        values.iter().map(operand).collect()
    }
}

/// Sizes of everything that starts at an offset of the arena.
fn arena_parts(plan: &Plan) -> HashMap<usize, usize> {
    let mut parts: HashMap<usize, usize> = HashMap::new();
    let mut part = |offset: usize, bytes: usize| {
        let size = parts.entry(offset).or_default();
        *size = (*size).max(bytes);
    };
    for value in &plan.values {
        if let Location::Arena(offset) = value.location {
            part(offset, value.ty.bytes());
        }
    }
    for step in &plan.steps {
        if !step.workspace.is_empty() {
            part(step.workspace.start, step.workspace.len());
        }
    }
    parts
}

/// A launch with its entry point.
pub(super) struct BoundLaunch {
    pub launch: Launch,
    pub function: CUfunction,
    pub step: Option<usize>,
}

// SAFETY: a driver handle, used through the context alone.
unsafe impl Send for BoundLaunch {}

/// A plan with its memory on a GPU.
pub struct CudaExecutable {
    // Before the memory that its launches point at, so that it goes first.
    graph: Option<CapturedGraph>,
    pub(super) device: CudaDevice,
    plan: Plan,
    pub(super) launches: Vec<BoundLaunch>,
    addresses: Addresses,
    _constants: Memory,
    by_name: HashMap<String, usize>,
    /// One per binding that is an input.
    staging: Vec<Option<Staging>>,
    memory: MemoryReport,
}

/// For each step the later one, if any, whose launches do its work as well: the first user of its results. They and its
/// inputs keep their places until then.
fn takers(plan: &Plan) -> Vec<Option<usize>> {
    let mut takers = vec![None; plan.steps.len()];
    for (index, step) in plan.steps.iter().enumerate() {
        let uses = |user: &Step| user.inputs.iter().any(|v| step.outputs.contains(v));
        let Some(distance) = plan.steps[index + 1..].iter().position(uses) else {
            continue;
        };
        let taker = index + 1 + distance;
        let user = &plan.steps[taker];
        let has_inputs = step.inputs.iter().all(|v| user.inputs.contains(v));
        // One step takes over one other.
        if has_inputs && !takers.contains(&Some(taker)) {
            let inputs = types(plan, &user.inputs);
            takers[index] = (user.op.cuda().takes_over(&step.op, &inputs)).then_some(taker);
        }
    }
    takers
}

/// Collects the launches of a plan.
pub(super) struct Lowering<'a> {
    pub device: &'a CudaDevice,
    pub plan: &'a Plan,
    pub packing: &'a PackingPlan,
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
    pub fn run(&mut self) -> Result<(), DeviceError> {
        self.kept();
        self.owners.resize(self.each.len(), None);
        let takers = takers(self.plan);
        let mut taken_over = vec![None; self.plan.steps.len()];
        for group in groups(self.plan, self.device.options.group) {
            let owner = group[0];
            let alike = self.plan.steps[owner].op.cuda().common_inputs().is_some();
            if group.len() > 1 && alike {
                self.together(&group)?;
            } else {
                let mut jobs = Vec::new();
                for index in group {
                    let step = &self.plan.steps[index];
                    match takers[index] {
                        Some(taker) => taken_over[taker] = Some(&step.op),
                        None => self.step(index, step, taken_over[index], &mut jobs)?,
                    }
                }
                let launches = jobs::launches(jobs, &mut self.constants);
                self.each.extend(launches);
            }
            self.owners.resize(self.each.len(), Some(owner));
        }
        Ok(())
    }

    /// Packs what is kept: when the plan is loaded, or first thing in each run.
    fn kept(&mut self) {
        let (mut at_load, mut at_start) = (Vec::new(), Vec::new());
        for kept in &self.packing.kept {
            let packed = self.packed(kept.step);
            let (launches, jobs) = match kept.known {
                Known::SinceLoad => (&mut self.once, &mut at_load),
                _ => (&mut self.each, &mut at_start),
            };
            let step = &self.plan.steps[kept.step];
            let mut call = CudaCall {
                name: step.op.operator().name(),
                taken_over: None,
                inputs: &self.addresses.operands(self.plan, &step.inputs),
                outputs: &self.addresses.operands(self.plan, &step.outputs),
                workspace: DevicePtr::NULL,
                packed,
                target: &self.device.target,
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
        match self.packing.steps[index].map(|packed| packed.place) {
            Some(Place::Kept(kept)) => self.addresses.kept[kept]
                .as_ref()
                .map_or(DevicePtr::NULL, |memory| memory.at),
            Some(Place::Workspace) => {
                let (inputs, outputs) = (
                    types(self.plan, &step.inputs),
                    types(self.plan, &step.outputs),
                );
                let target = &self.device.target;
                let own = step.op.cuda().workspace_bytes(&inputs, &outputs, target);
                let workspace = self.addresses.arena.at(step.workspace.start);
                workspace.add(own.next_multiple_of(WORKSPACE_ALIGNMENT))
            }
            None => DevicePtr::NULL,
        }
    }

    /// Steps that one launch computes.
    fn together(&mut self, group: &[usize]) -> Result<(), DeviceError> {
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
            taken_over: None,
            target: &self.device.target,
            constants: &mut self.constants,
            launches: &mut self.each,
            jobs: &mut Vec::new(),
        };
        Ok(first.op.cuda().launch_together(&mut call, &inputs)?)
    }

    /// Adds the launches and jobs of a step.
    fn step(
        &mut self,
        index: usize,
        step: &Step,
        taken_over: Option<&Op>,
        jobs: &mut Vec<Job>,
    ) -> Result<(), DeviceError> {
        let (plan, target) = (self.plan, &self.device.target);
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
            taken_over,
            inputs: &inputs,
            outputs: &outputs,
            workspace,
            packed,
            target,
            constants: &mut self.constants,
            launches: &mut self.each,
            jobs,
        };
        let in_workspace = |packed: PackedStep| packed.place == Place::Workspace;
        if self.packing.steps[index].is_some_and(in_workspace) {
            cuda.pack(&mut call);
            let launches = jobs::launches(std::mem::take(call.jobs), call.constants);
            call.launches.extend(launches);
        }
        Ok(cuda.launch(&mut call)?)
    }
}

impl CudaDevice {
    /// Binds `plan` to memory, fills its parameters from `parameters`, compiles its programs and captures its launches.
    ///
    /// # Errors
    /// If a parameter is missing or does not fit, the memory is not there, or no kernel takes a step.
    pub fn load(&self, plan: Plan, parameters: &TensorMap) -> Result<CudaExecutable, DeviceError> {
        let context = &self.context;
        let packing = self.packing_plan(&plan);
        let memory = memory(self, &plan);
        let mut bindings = Vec::with_capacity(plan.bindings.len());
        let mut by_name = HashMap::new();
        // Weights that are only read packed are here while they are packed.
        let mut passing = Vec::new();
        for (index, (binding, &plain)) in plan.bindings.iter().zip(&packing.plain).enumerate() {
            by_name.insert(binding.name.clone(), index);
            let buffer = context.allocate(&binding.name, binding.ty.bytes())?;
            match &binding.kind {
                BindingKind::Parameter => {
                    context.upload(buffer.at, &parameter(binding, parameters)?)?
                }
                BindingKind::Constant(values) => context.upload(buffer.at, values)?,
                BindingKind::Input | BindingKind::State => {
                    context.fill(buffer.at, 0, buffer.bytes)?
                }
            }
            if !plain {
                passing.push(index);
            }
            bindings.push(Some(buffer));
        }
        let staging = plan
            .bindings
            .iter()
            .map(|binding| match binding.kind {
                BindingKind::Input => Staging::new(context, binding.ty.bytes()).map(Some),
                _ => Ok(None),
            })
            .collect::<Result<_, CudaError>>()?;
        let arena = match self.options.isolate {
            false => Arena::Whole(context.allocate("activations", plan.arena_bytes)?),
            true => Arena::Isolated(
                arena_parts(&plan)
                    .into_iter()
                    .map(|(offset, bytes)| Ok((offset, context.allocate("activations", bytes)?)))
                    .collect::<Result<_, CudaError>>()?,
            ),
        };
        let kept = packing
            .kept
            .iter()
            .map(|kept| context.allocate("packed weights", kept.size).map(Some))
            .collect::<Result<_, CudaError>>()?;
        let mut addresses = Addresses {
            bindings,
            arena,
            kept,
        };

        // The tables' place is known once their size is, so the launches are collected twice.
        let mut base = DevicePtr::NULL;
        let mut constants = None;
        let (once, each, owners) = loop {
            let mut lowering = Lowering {
                device: self,
                plan: &plan,
                packing: &packing,
                addresses: &addresses,
                constants: ConstantPool {
                    base,
                    bytes: Vec::new(),
                },
                once: Vec::new(),
                each: Vec::new(),
                owners: Vec::new(),
            };
            lowering.run()?;
            if constants.is_none() {
                let pool = context.allocate("tables", lowering.constants.bytes.len())?;
                base = pool.at;
                constants = Some(pool);
                if !lowering.constants.bytes.is_empty() {
                    continue;
                }
            }
            context.upload(base, &lowering.constants.bytes)?;
            break (lowering.once, lowering.each, lowering.owners);
        };

        context.prepare(&once)?;
        context.prepare(&each)?;
        let bind = |(launch, step): (Launch, Option<usize>)| -> Result<BoundLaunch, CudaError> {
            let function = context.function(&launch.kernel, launch.shared_bytes)?;
            Ok(BoundLaunch {
                launch,
                function,
                step,
            })
        };
        for launch in once {
            let bound = bind((launch, None))?;
            // SAFETY: its operands live until the synchronisation below.
            unsafe { context.launch(context.stream(), bound.function, &bound.launch)? };
        }
        context.synchronize()?;
        for index in passing {
            addresses.bindings[index] = None;
        }
        let each = each.into_iter().zip(owners);
        let launches: Vec<BoundLaunch> = each.map(bind).collect::<Result<_, _>>()?;
        let mut executable = CudaExecutable {
            graph: None,
            device: self.clone(),
            plan,
            launches,
            addresses,
            _constants: constants.expect("the loop allocates it"),
            by_name,
            staging,
            memory,
        };
        if self.options.capture && !executable.launches.is_empty() {
            executable.graph = Some(context.capture(|stream| executable.enqueue(stream))?);
        }
        Ok(executable)
    }
}

impl CudaExecutable {
    fn enqueue(&self, stream: CUstream) -> Result<(), CudaError> {
        for bound in &self.launches {
            // SAFETY: all addresses lead into memory that this executable owns.
            unsafe {
                self.device
                    .context
                    .launch(stream, bound.function, &bound.launch)?
            };
        }
        Ok(())
    }

    /// Hands what was written to inputs to the next run.
    pub(super) fn deliver(&mut self) -> Result<(), CudaError> {
        let context = &self.device.context;
        for (staging, binding) in self.staging.iter_mut().zip(&self.addresses.bindings) {
            if let (Some(staging), Some(binding)) = (staging, binding) {
                staging.deliver(context, binding.at)?;
            }
        }
        Ok(())
    }

    /// Number of kernel launches of one run.
    pub fn launch_count(&self) -> usize {
        self.launches.len()
    }

    /// The index and address of a binding of this type and, if given, length.
    fn binding(
        &self,
        name: &str,
        dtype: DType,
        found: Option<usize>,
    ) -> Result<(usize, DevicePtr), DeviceError> {
        let missing = || DeviceError::NoSuchBuffer {
            kind: "input, state or parameter",
            name: name.to_owned(),
        };
        let &index = self.by_name.get(name).ok_or_else(missing)?;
        let ty = &self.plan.bindings[index].ty;
        let memory = self.addresses.bindings[index]
            .as_ref()
            .ok_or_else(missing)?;
        if ty.dtype != dtype || found.is_some_and(|found| found != ty.len()) {
            return Err(DeviceError::Length {
                name: name.to_owned(),
                dtype: ty.dtype,
                expected: ty.len(),
                found: found.unwrap_or(ty.len()),
            });
        }
        Ok((index, memory.at))
    }

    fn send(
        &mut self,
        name: &str,
        dtype: DType,
        len: usize,
        bytes: &[u8],
    ) -> Result<(), DeviceError> {
        let (index, at) = self.binding(name, dtype, Some(len))?;
        let context = &self.device.context;
        match &mut self.staging[index] {
            Some(staging) => staging.write(context, bytes)?,
            None => context.upload(at, bytes)?,
        }
        Ok(())
    }

    fn fetch<T: bytemuck::Pod>(&self, name: &str, dtype: DType) -> Result<Vec<T>, DeviceError> {
        let (index, at) = self.binding(name, dtype, None)?;
        let pending = match &self.staging[index] {
            Some(staging) => staging.pending()?,
            None => None,
        };
        let len = self.plan.bindings[index].ty.len();
        Ok(self.device.context.download(pending.unwrap_or(at), len)?)
    }
}

impl Executable for CudaExecutable {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn memory(&self) -> MemoryReport {
        self.memory
    }

    fn has(&self, name: &str) -> bool {
        self.by_name
            .get(name)
            .is_some_and(|&index| self.addresses.bindings[index].is_some())
    }

    fn write(&mut self, name: &str, values: &[f32]) -> Result<(), DeviceError> {
        self.send(name, DType::F32, values.len(), bytemuck::cast_slice(values))
    }

    fn write_i32(&mut self, name: &str, values: &[i32]) -> Result<(), DeviceError> {
        self.send(name, DType::I32, values.len(), bytemuck::cast_slice(values))
    }

    fn run(&mut self) -> Result<(), DeviceError> {
        self.deliver()?;
        match &self.graph {
            Some(graph) => graph.replay()?,
            None => self.enqueue(self.device.context.stream())?,
        }
        Ok(())
    }

    fn poison(&mut self) -> Result<(), DeviceError> {
        for part in self.addresses.arena.parts() {
            self.device.context.fill(part.at, 0xff, part.bytes)?;
        }
        // Each run packs these anew.
        let packing = self.device.packing_plan(&self.plan);
        for (kept, memory) in packing.kept.iter().zip(&self.addresses.kept) {
            if let (Known::SinceStart, Some(memory)) = (kept.known, memory) {
                self.device.context.fill(memory.at, 0xff, memory.bytes)?;
            }
        }
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Vec<f32>, DeviceError> {
        self.fetch(name, DType::F32)
    }

    fn read_i32(&self, name: &str) -> Result<Vec<i32>, DeviceError> {
        self.fetch(name, DType::I32)
    }

    fn output(&self, name: &str) -> Result<Vec<f32>, DeviceError> {
        let missing = || DeviceError::NoSuchBuffer {
            kind: "output",
            name: name.to_owned(),
        };
        let &(_, value) = self
            .plan
            .outputs
            .iter()
            .find(|(output, _)| output == name)
            .ok_or_else(missing)?;
        let planned = self.plan.value(value);
        if planned.ty.dtype != DType::F32 || planned.location == Location::Unused {
            return Err(missing());
        }
        let at = self.addresses.of(&self.plan, value);
        Ok(self.device.context.download(at, planned.ty.len())?)
    }
}
