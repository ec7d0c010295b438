//! A plan bound to memory, ready to run on the CPU.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use super::buffer::Buffer;
use crate::compile::plan::packed::PackedPlace;
use crate::compile::{
    Binding, BindingKind, Compiled, CpuBackend, Location, MemoryReport, OverBudget, Plan,
    PlanOptions, compile, compile_within,
};
use crate::device::parameters::parameter;
use crate::device::{DeviceError, Executable};
use crate::graph::{Graph, Op, TensorType, Value};
use crate::kernel::cpu::call::{CpuCall, Operand};
use crate::tensor::{DType, TensorMap};

/// Threads that run plans.
#[derive(Clone, Debug)]
pub struct CpuDevice {
    pool: Arc<rayon::ThreadPool>,
}

/// How the packed operand of a step comes to be.
enum Packing {
    None,
    /// Packed when the plan was loaded, to this length; steps may share it.
    Once(Arc<Buffer>, usize),
    /// Operand of this index, packed to this length at the end of the workspace before each
    /// execution, because it changes between runs.
    EachRun(usize, usize),
}

struct BoundStep {
    op: Op,
    inputs: Vec<Operand>,
    outputs: Vec<Operand>,
    input_types: Vec<TensorType>,
    workspace: (*mut f32, usize),
    packing: Packing,
}

// SAFETY: the pointers lead into buffers of the executable that owns the step; it runs one step
// at a time, and kernels partition what they write over threads.
unsafe impl Send for BoundStep {}
// SAFETY: as above.
unsafe impl Sync for BoundStep {}

/// A plan with its memory.
pub struct CpuExecutable {
    device: CpuDevice,
    plan: Plan,
    steps: Vec<BoundStep>,
    arena: Buffer,
    /// One per binding; `None` if the binding is only read in packed form.
    bindings: Vec<Option<Buffer>>,
    by_name: HashMap<String, usize>,
    memory: MemoryReport,
}

impl CpuDevice {
    /// A device with `threads` threads, or one per core.
    ///
    /// # Errors
    /// If the operating system refuses the threads.
    pub fn new(threads: Option<usize>) -> Result<Self, DeviceError> {
        let threads = threads.unwrap_or(0);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("cpu-{index}"))
            .build()
            .map_err(|source| DeviceError::Threads { threads, source })?;
        Ok(Self {
            pool: Arc::new(pool),
        })
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Compiles inside the threads that will run the plan: scratch memory depends on their number.
    pub fn compile(&self, graph: &Graph) -> Compiled {
        self.pool.install(|| compile(graph, &CpuBackend))
    }

    /// As [`CpuDevice::compile`], within a budget: see [`compile_within`].
    ///
    /// # Errors
    /// If the budget is too small for any plan that was found.
    pub fn compile_within(
        &self,
        graph: &Graph,
        forward_nodes: usize,
        budget_bytes: usize,
    ) -> Result<Compiled, OverBudget> {
        self.pool
            .install(|| compile_within(graph, &CpuBackend, forward_nodes, budget_bytes))
    }

    /// Lays out a graph as it is, without fusion.
    pub fn plan(&self, graph: &Graph, options: PlanOptions) -> Plan {
        self.pool.install(|| Plan::new(graph, &CpuBackend, options))
    }

    /// Binds `plan` to memory and fills its parameters from `parameters`, converted to `f32`.
    /// Weights whose every reader takes the packed form are prepacked here; their plain form is not stored.
    ///
    /// # Errors
    /// If a parameter is missing, not of a float type or of another shape.
    pub fn load(&self, plan: Plan, parameters: &TensorMap) -> Result<CpuExecutable, DeviceError> {
        let packing = &plan.packing;
        let memory = plan.memory(&CpuBackend);
        let arena = Buffer::zeroed(plan.arena_bytes);
        let mut bindings = Vec::with_capacity(plan.bindings.len());
        let mut by_name = HashMap::new();
        for (index, (binding, &plain)) in plan.bindings.iter().zip(&packing.plain).enumerate() {
            by_name.insert(binding.name.clone(), index);
            let buffer = plain.then(|| Buffer::zeroed(binding.ty.bytes()));
            match (&binding.kind, &buffer) {
                (BindingKind::Parameter, Some(buffer)) => {
                    fill(buffer, &parameter(binding, parameters)?);
                    parameters[&binding.name].release();
                }
                (BindingKind::Constant(values), Some(buffer)) => fill(buffer, values),
                _ => {}
            }
            bindings.push(buffer);
        }

        let mut prepacked = Vec::with_capacity(packing.prepacked.len());
        for packed in &packing.prepacked {
            let step = &plan.steps[packed.step];
            let operand = packing.steps[packed.step].expect("the step packs it");
            let buffer = Buffer::zeroed(packed.bytes);
            let len = packed.bytes / size_of::<f32>();
            let Location::Binding(binding) = plan.value(step.inputs[operand.index]).location else {
                unreachable!("only bindings are packed once")
            };
            let binding = &plan.bindings[binding];
            let values = parameter(binding, parameters)?;
            // SAFETY: the buffer holds as many f32s and nobody else knows it yet.
            let target = unsafe { std::slice::from_raw_parts_mut(buffer.at(0).cast::<f32>(), len) };
            let inputs = plan.types(&step.inputs);
            self.pool
                .install(|| step.op.cpu().pack(&inputs, &values, target));
            parameters[&binding.name].release();
            prepacked.push(Arc::new(buffer));
        }
        let mut steps = Vec::with_capacity(plan.steps.len());
        for (step, packed) in plan.steps.iter().zip(&packing.steps) {
            let operand = |value: Value| Operand {
                start: match plan.value(value).location {
                    Location::Arena(offset) => arena.at(offset),
                    Location::Binding(index) => bindings[index]
                        .as_ref()
                        .map_or(std::ptr::NonNull::<f32>::dangling().as_ptr().cast(), |b| {
                            b.at(0)
                        }),
                    Location::Unused => unreachable!("steps only name planned values"),
                },
                ty: plan.value(value).ty.clone(),
            };
            let input_types = plan.types(&step.inputs);
            let packing = match *packed {
                None => Packing::None,
                Some(packed) => {
                    let len = packed.bytes / size_of::<f32>();
                    match packed.place {
                        PackedPlace::Prepacked(index) => {
                            Packing::Once(prepacked[index].clone(), len)
                        }
                        PackedPlace::Workspace => Packing::EachRun(packed.index, len),
                    }
                }
            };
            steps.push(BoundStep {
                op: step.op.clone(),
                inputs: step.inputs.iter().map(|&v| operand(v)).collect(),
                outputs: step.outputs.iter().map(|&v| operand(v)).collect(),
                input_types,
                workspace: (
                    arena.at(step.workspace.start).cast(),
                    step.workspace.len() / size_of::<f32>(),
                ),
                packing,
            });
        }
        Ok(CpuExecutable {
            device: self.clone(),
            plan,
            steps,
            arena,
            bindings,
            by_name,
            memory,
        })
    }
}

fn fill(buffer: &Buffer, values: &[f32]) {
    assert!(size_of_val(values) <= buffer.len());
    // SAFETY: the buffer is at least as long as `values` and newly allocated.
    unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), buffer.at(0).cast(), values.len()) }
}

impl CpuExecutable {
    /// The plan that runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Memory in use.
    pub fn memory(&self) -> MemoryReport {
        self.memory
    }

    /// Executes all steps.
    pub fn run(&mut self) {
        let steps = &self.steps;
        self.device.pool.install(|| {
            for step in steps {
                run_step(step);
            }
        });
    }

    /// Executes all steps and reports each step's time: `observe(step index, seconds)`.
    pub fn run_timed(&mut self, mut observe: impl FnMut(usize, f64) + Send) {
        let steps = &self.steps;
        self.device.pool.install(|| {
            for (index, step) in steps.iter().enumerate() {
                let start = std::time::Instant::now();
                run_step(step);
                observe(index, start.elapsed().as_secs_f64());
            }
        });
    }

    /// Fills the arena with NaN, so that a step that reads what nothing wrote shows.
    pub fn poison(&mut self) {
        let len = self.plan.arena_bytes / size_of::<u32>();
        // SAFETY: the arena holds at least `len` u32s; no step is running.
        let words = unsafe { std::slice::from_raw_parts_mut(self.arena.at(0).cast::<u32>(), len) };
        words.fill(0x7fc0_dead);
    }

    fn binding(
        &self,
        name: &str,
        dtype: DType,
        found: Option<usize>,
    ) -> Result<(&Binding, *mut u8), DeviceError> {
        let missing = || DeviceError::NoSuchBuffer {
            kind: "input, state or parameter",
            name: name.to_owned(),
        };
        let &index = self.by_name.get(name).ok_or_else(missing)?;
        let binding = &self.plan.bindings[index];
        let buffer = self.bindings[index].as_ref().ok_or_else(missing)?;
        let expected = binding.ty.len();
        if binding.ty.dtype != dtype || found.is_some_and(|found| found != expected) {
            return Err(DeviceError::Length {
                name: name.to_owned(),
                dtype: binding.ty.dtype,
                expected,
                found: found.unwrap_or(expected),
            });
        }
        Ok((binding, buffer.at(0)))
    }

    /// True if the plan reads or writes a binding of this name in plain form.
    pub fn has(&self, name: &str) -> bool {
        self.by_name
            .get(name)
            .is_some_and(|&index| self.bindings[index].is_some())
    }

    /// Writes an `f32` input, state or parameter.
    ///
    /// # Errors
    /// If there is none of this name, type and length.
    pub fn write(&mut self, name: &str, values: &[f32]) -> Result<(), DeviceError> {
        let (_, start) = self.binding(name, DType::F32, Some(values.len()))?;
        // SAFETY: the length was checked and `&mut self` excludes a running step.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), start.cast(), values.len()) };
        Ok(())
    }

    /// Writes an `i32` input or state.
    ///
    /// # Errors
    /// If there is none of this name, type and length.
    pub fn write_i32(&mut self, name: &str, values: &[i32]) -> Result<(), DeviceError> {
        let (_, start) = self.binding(name, DType::I32, Some(values.len()))?;
        // SAFETY: as in `write`.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), start.cast(), values.len()) };
        Ok(())
    }

    /// Reads an `f32` input, state or parameter.
    ///
    /// # Errors
    /// If there is none of this name and type.
    pub fn read(&self, name: &str) -> Result<&[f32], DeviceError> {
        let (binding, start) = self.binding(name, DType::F32, None)?;
        // SAFETY: the binding's buffer holds this many f32s; writing needs `&mut self`.
        Ok(unsafe { std::slice::from_raw_parts(start.cast(), binding.ty.len()) })
    }

    /// Reads an `i32` input or state.
    ///
    /// # Errors
    /// If there is none of this name and type.
    pub fn read_i32(&self, name: &str) -> Result<&[i32], DeviceError> {
        let (binding, start) = self.binding(name, DType::I32, None)?;
        // SAFETY: as in `read`.
        Ok(unsafe { std::slice::from_raw_parts(start.cast(), binding.ty.len()) })
    }

    /// The result named `name` of the last run.
    ///
    /// # Errors
    /// If the plan has no such `f32` output.
    pub fn output(&self, name: &str) -> Result<&[f32], DeviceError> {
        let missing = || DeviceError::NoSuchBuffer {
            kind: "output",
            name: name.to_owned(),
        };
        let value = self
            .plan
            .outputs
            .iter()
            .find(|(output, _)| output == name)
            .map(|&(_, value)| self.plan.value(value))
            .filter(|value| value.ty.dtype == DType::F32)
            .ok_or_else(missing)?;
        let start = match value.location {
            Location::Arena(offset) => self.arena.at(offset),
            Location::Binding(index) => self.bindings[index].as_ref().ok_or_else(missing)?.at(0),
            Location::Unused => return Err(missing()),
        };
        // SAFETY: outputs stay alive to the end of the plan, and running needs `&mut self`.
        Ok(unsafe { std::slice::from_raw_parts(start.cast(), value.ty.len()) })
    }
}

fn run_step(step: &BoundStep) {
    let (workspace, len) = step.workspace;
    let (packed, workspace) = match &step.packing {
        Packing::None => (
            (std::ptr::NonNull::dangling().as_ptr() as *const f32, 0),
            (workspace, len),
        ),
        Packing::Once(buffer, packed) => ((buffer.at(0) as *const f32, *packed), (workspace, len)),
        Packing::EachRun(index, packed) => {
            let operand = &step.inputs[*index];
            let own = len - packed;
            let target = workspace.wrapping_add(own);
            // SAFETY: the operand is initialised and not written while the step runs; the
            // planner sized the workspace for the kernel's scratch and the packed operand.
            let (values, slice) = unsafe {
                (
                    std::slice::from_raw_parts(operand.start as *const f32, operand.ty.len()),
                    std::slice::from_raw_parts_mut(target, *packed),
                )
            };
            step.op.cpu().pack(&step.input_types, values, slice);
            ((target as *const f32, *packed), (workspace, own))
        }
    };
    step.op.cpu().run(&CpuCall {
        inputs: &step.inputs,
        outputs: &step.outputs,
        workspace,
        packed,
        taken: Cell::new(0),
    });
}

impl Executable for CpuExecutable {
    fn plan(&self) -> &Plan {
        CpuExecutable::plan(self)
    }

    fn memory(&self) -> MemoryReport {
        CpuExecutable::memory(self)
    }

    fn has(&self, name: &str) -> bool {
        CpuExecutable::has(self, name)
    }

    fn write(&mut self, name: &str, values: &[f32]) -> Result<(), DeviceError> {
        CpuExecutable::write(self, name, values)
    }

    fn write_i32(&mut self, name: &str, values: &[i32]) -> Result<(), DeviceError> {
        CpuExecutable::write_i32(self, name, values)
    }

    fn run(&mut self) -> Result<(), DeviceError> {
        CpuExecutable::run(self);
        Ok(())
    }

    fn poison(&mut self) -> Result<(), DeviceError> {
        CpuExecutable::poison(self);
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Vec<f32>, DeviceError> {
        Ok(CpuExecutable::read(self, name)?.to_vec())
    }

    fn read_i32(&self, name: &str) -> Result<Vec<i32>, DeviceError> {
        Ok(CpuExecutable::read_i32(self, name)?.to_vec())
    }

    fn output(&self, name: &str) -> Result<Vec<f32>, DeviceError> {
        Ok(CpuExecutable::output(self, name)?.to_vec())
    }
}
