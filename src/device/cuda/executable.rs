//! A plan bound to device memory: its launches, captured and ready to replay.

use std::collections::HashMap;

use cudarc::driver::sys::{CUfunction, CUstream};

use super::addresses::Addresses;
use super::context::{CapturedGraph, Memory};
use super::device::CudaDevice;
use super::error::CudaError;
use super::staging::Staging;
use crate::compile::{Available, Location, MemoryReport, Plan};
use crate::device::{DeviceError, Executable};
use crate::kernel::cuda::DevicePtr;
use crate::kernel::cuda::launch::Launch;
use crate::tensor::DType;

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
    pub(super) graph: Option<CapturedGraph>,
    pub(super) device: CudaDevice,
    pub(super) plan: Plan,
    pub(super) launches: Vec<BoundLaunch>,
    pub(super) addresses: Addresses,
    pub(super) _constants: Memory,
    pub(super) by_name: HashMap<String, usize>,
    /// One per binding that is an input.
    pub(super) staging: Vec<Option<Staging>>,
    pub(super) memory: MemoryReport,
}

impl CudaExecutable {
    pub(super) fn enqueue(&self, stream: CUstream) -> Result<(), CudaError> {
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
        let prepacked = self.plan.packing.prepacked.iter();
        for (weight, memory) in prepacked.zip(&self.addresses.prepacked) {
            if let (Available::AtStart, Some(memory)) = (weight.available, memory) {
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
