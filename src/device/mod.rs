//! Devices run plans. They know ops, never models.

pub mod cpu;
pub mod cuda;
mod error;
mod memory;
pub(crate) mod packing;
pub mod reference;

use std::fmt;
use std::str::FromStr;

pub use error::{DeviceError, OverBudget};
pub use memory::{MemoryReport, available_memory_bytes};

use crate::graph::{FusionReport, Graph, Plan, PlanOptions, fuse, recompute};
use crate::tensor::TensorMap;
use cpu::CpuDevice;
use cuda::{CudaDevice, CudaOptions, Precision};

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

/// A fused and planned graph, with the memory it will take.
#[derive(Clone, Debug)]
pub struct Compiled {
    pub plan: Plan,
    pub fusion: FusionReport,
    pub memory: MemoryReport,
}

impl fmt::Display for Compiled {
    /// The table behind `--explain`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}\nmemory {}\n", self.plan, self.fusion, self.memory)
    }
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

    /// Lays a fused graph out for this device.
    fn plan(&self, graph: &Graph) -> (Plan, MemoryReport) {
        match self {
            Self::Cpu(device) => {
                let plan = Plan::new(graph, device, PlanOptions::default());
                let memory = device.memory(&plan);
                (plan, memory)
            }
            Self::Cuda(device) => {
                let plan = Plan::new(&device.lower(graph), device, PlanOptions::default());
                let memory = device.memory(&plan);
                (plan, memory)
            }
        }
    }

    /// Fuses `graph` and lays it out for this device. Nothing is allocated yet.
    pub fn compile(&self, graph: &Graph) -> Compiled {
        let (graph, fusion) = fuse(graph);
        let (plan, memory) = self.plan(&graph);
        Compiled {
            plan,
            fusion,
            memory,
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
        let (graph, fusion) = fuse(graph);
        let fitted = recompute::fit(&graph, forward_nodes, budget_bytes, |graph| {
            self.plan(graph).1.total_bytes()
        })
        .map_err(|needed_bytes| OverBudget {
            needed_bytes,
            budget_bytes,
        })?;
        let (plan, memory) = self.plan(&fitted.graph);
        if fitted.recomputed > 0 {
            tracing::info!(
                "memory: {} nodes are computed twice to fit the budget, {:+.0} % work",
                fitted.recomputed,
                100.0 * fitted.flops as f64 / (plan.flops() - fitted.flops).max(1) as f64
            );
        }
        Ok(Compiled {
            plan,
            fusion,
            memory,
        })
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

/// A plan with its memory, on any device. Buffers are addressed by the names that the graph gave
/// its inputs, parameters, state and outputs.
pub trait Executable: Send {
    /// The plan that runs.
    fn plan(&self) -> &Plan;

    /// Memory in use.
    fn memory(&self) -> MemoryReport;

    /// True if the plan reads or writes an input, parameter or state of this name.
    fn has(&self, name: &str) -> bool;

    /// Writes an `f32` input, state or parameter.
    ///
    /// # Errors
    /// If there is none of this name, type and length.
    fn write(&mut self, name: &str, values: &[f32]) -> Result<(), DeviceError>;

    /// Writes an `i32` input or state.
    ///
    /// # Errors
    /// If there is none of this name, type and length.
    fn write_i32(&mut self, name: &str, values: &[i32]) -> Result<(), DeviceError>;

    /// Executes all steps.
    ///
    /// # Errors
    /// If the device fails.
    fn run(&mut self) -> Result<(), DeviceError>;

    /// Fills the activations with NaN, so that a step that reads what nothing wrote shows. For tests.
    ///
    /// # Errors
    /// If the device fails.
    fn poison(&mut self) -> Result<(), DeviceError>;

    /// Copies an `f32` input, state or parameter to the host.
    ///
    /// # Errors
    /// If there is none of this name and type.
    fn read(&self, name: &str) -> Result<Vec<f32>, DeviceError>;

    /// Copies an `i32` input or state to the host.
    ///
    /// # Errors
    /// If there is none of this name and type.
    fn read_i32(&self, name: &str) -> Result<Vec<i32>, DeviceError>;

    /// Copies the output `name` of the last run to the host.
    ///
    /// # Errors
    /// If the plan has no such `f32` output.
    fn output(&self, name: &str) -> Result<Vec<f32>, DeviceError>;
}
