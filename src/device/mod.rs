//! Devices run plans. They know ops, never models.

pub mod cpu;
pub mod cuda;
mod error;
mod executable;
mod parameters;
pub mod reference;

use std::fmt;
use std::str::FromStr;

pub use cpu::memory::available_memory_bytes;
pub use error::DeviceError;
pub use executable::Executable;

pub use crate::compile::{Compiled, MemoryReport, OverBudget, PassReport};
use crate::compile::{Precision, compile, compile_within};
use crate::graph::Graph;
use crate::tensor::TensorMap;
use cpu::CpuDevice;
use cuda::{CudaDevice, CudaOptions};

/// What a user asks for with `--device`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A CUDA device where one answers, else the CPU.
    #[default]
    Auto,
    /// The GPU of this number, counted from 0.
    Cuda(usize),
    /// The emulated RTX 3090.
    Emulated,
    /// The CPU.
    Cpu,
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "emulated" => Ok(Self::Emulated),
            other => other
                .strip_prefix("cuda:")
                .and_then(|ordinal| ordinal.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| DeviceError::UnknownDevice(other.to_owned())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Emulated => f.write_str("emulated"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

/// A device that runs plans.
#[derive(Clone, Debug)]
pub enum Device {
    Cpu(CpuDevice),
    Cuda(CudaDevice),
}

impl Device {
    /// Opens a device; `threads` is for the CPU, one per core if `None`.
    ///
    /// # Errors
    /// If the device cannot be had.
    pub fn open(choice: DeviceChoice, threads: Option<usize>) -> Result<Self, DeviceError> {
        match choice {
            DeviceChoice::Auto => match CudaDevice::open(0, CudaOptions::default()) {
                Ok(device) => Ok(Self::Cuda(device)),
                Err(error) => {
                    tracing::debug!("auto takes the CPU: {error}");
                    Ok(Self::Cpu(CpuDevice::new(threads)?))
                }
            },
            DeviceChoice::Cpu => Ok(Self::Cpu(CpuDevice::new(threads)?)),
            DeviceChoice::Cuda(ordinal) => Ok(Self::Cuda(CudaDevice::open(
                ordinal,
                CudaOptions::default(),
            )?)),
            DeviceChoice::Emulated => Ok(Self::Cuda(CudaDevice::emulated(CudaOptions::default())?)),
        }
    }

    /// The same device with activations in `precision`, and with results that do not depend on the batch, to the bit,
    /// if `deterministic`.
    ///
    /// # Errors
    /// If the device does not compute in `precision`.
    pub fn with_precision(
        self,
        precision: Precision,
        deterministic: bool,
    ) -> Result<Self, DeviceError> {
        match self {
            Self::Cpu(device) if precision == Precision::F32 => Ok(Self::Cpu(device)),
            Self::Cpu(_) => Err(DeviceError::CpuPrecision(precision)),
            Self::Cuda(device) => Ok(Self::Cuda(device.with(CudaOptions {
                precision,
                deterministic,
                ..device.options()
            }))),
        }
    }

    /// Bytes of memory that plans can still take here, if that can be told.
    pub fn available_bytes(&self) -> Option<usize> {
        match self {
            Self::Cpu(_) => available_memory_bytes(),
            Self::Cuda(device) => device.available_bytes(),
        }
    }

    /// Fuses `graph` and lays it out for this device. Nothing is allocated yet.
    pub fn compile(&self, graph: &Graph) -> Compiled {
        match self {
            Self::Cpu(device) => device.compile(graph),
            Self::Cuda(device) => compile(graph, &device.backend()),
        }
    }

    /// As [`Device::compile`], within `budget_bytes` of memory: activations of the first `forward_nodes` nodes are
    /// computed again for the backward pass where they do not fit.
    ///
    /// # Errors
    /// If the budget is too small for any plan that was found; the error says by how much.
    pub fn compile_within(
        &self,
        graph: &Graph,
        forward_nodes: usize,
        budget_bytes: usize,
    ) -> Result<Compiled, OverBudget> {
        match self {
            Self::Cpu(device) => device.compile_within(graph, forward_nodes, budget_bytes),
            Self::Cuda(device) => {
                compile_within(graph, &device.backend(), forward_nodes, budget_bytes)
            }
        }
    }

    /// Gives a plan its memory and weights.
    ///
    /// # Errors
    /// If the plan needs more memory than is free, or a parameter is missing or does not fit.
    pub fn load(
        &self,
        compiled: Compiled,
        parameters: &TensorMap,
    ) -> Result<Box<dyn Executable>, DeviceError> {
        if let Some(available_bytes) = self.available_bytes()
            && compiled.memory.total_bytes() > available_bytes
        {
            return Err(DeviceError::OutOfMemory {
                needed: compiled.memory,
                available_bytes,
            });
        }
        Ok(match self {
            Self::Cpu(device) => Box::new(device.load(compiled.plan, parameters)?),
            Self::Cuda(device) => Box::new(device.load(compiled.plan, parameters)?),
        })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(device) => write!(f, "cpu with {} threads", device.threads()),
            Self::Cuda(device) => write!(f, "{device}"),
        }
    }
}
