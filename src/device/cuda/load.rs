//! Gives a plan its memory, weights and programs on a GPU.

use std::collections::HashMap;

use super::addresses::{Addresses, Arena, arena_parts};
use super::device::CudaDevice;
use super::error::CudaError;
use super::executable::{BoundLaunch, CudaExecutable};
use super::lower::Lowering;
use super::staging::Staging;
use crate::compile::{BindingKind, Plan};
use crate::device::DeviceError;
use crate::device::parameters::parameter;
use crate::kernel::cuda::launch::Launch;
use crate::kernel::cuda::{ConstantPool, DevicePtr};
use crate::tensor::TensorMap;

impl CudaDevice {
    /// Binds `plan` to memory, fills its parameters from `parameters`, compiles its programs and captures its launches.
    ///
    /// # Errors
    /// If a parameter is missing or does not fit, the memory is not there, or no kernel takes a step.
    pub fn load(&self, plan: Plan, parameters: &TensorMap) -> Result<CudaExecutable, DeviceError> {
        let context = &self.context;
        let memory = plan.memory(&self.backend());
        let packing = &plan.packing;
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
        let arena = match self.options().isolate {
            false => Arena::Whole(context.allocate("activations", plan.arena_bytes)?),
            true => Arena::Isolated(
                arena_parts(&plan)
                    .into_iter()
                    .map(|(offset, bytes)| Ok((offset, context.allocate("activations", bytes)?)))
                    .collect::<Result<_, CudaError>>()?,
            ),
        };
        let prepacked = packing
            .prepacked
            .iter()
            .map(|weight| context.allocate("packed weights", weight.bytes).map(Some))
            .collect::<Result<_, CudaError>>()?;
        let mut addresses = Addresses {
            bindings,
            arena,
            prepacked,
        };

        // The tables' place is known once their size is, so the launches are collected twice.
        let mut base = DevicePtr::NULL;
        let mut constants = None;
        let (once, each, owners) = loop {
            let mut lowering = Lowering {
                target: &self.target,
                plan: &plan,
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

        context.prepare(&once, self.observer.as_ref())?;
        context.prepare(&each, self.observer.as_ref())?;
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
        if self.options().capture && !executable.launches.is_empty() {
            executable.graph = Some(context.capture(|stream| executable.enqueue(stream))?);
        }
        Ok(executable)
    }
}
