//! Devices run plans. They know ops, never models.

pub mod cpu;
mod error;
mod memory;
pub mod reference;

use std::fmt;
use std::str::FromStr;

pub use error::DeviceError;
pub use memory::{MemoryReport, available_memory_bytes};

use crate::graph::{FusionReport, Graph, Plan, PlanOptions, fuse};
use crate::tensor::TensorMap;
use cpu::CpuDevice;

/// What a user asks for with `--device`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best device that answers: at present the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            other => Err(DeviceError::UnknownDevice(other.to_owned())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
        })
    }
}

/// A device that runs plans.
#[derive(Clone, Debug)]
pub enum Device {
    Cpu(CpuDevice),
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
            DeviceChoice::Auto | DeviceChoice::Cpu => Ok(Self::Cpu(CpuDevice::new(threads)?)),
        }
    }

    /// Fuses `graph` and lays it out for this device. Nothing is allocated yet.
    pub fn compile(&self, graph: &Graph) -> Compiled {
        let (graph, fusion) = fuse(graph);
        match self {
            Self::Cpu(device) => {
                let plan = Plan::new(&graph, device, PlanOptions::default());
                let memory = device.memory(&plan);
                Compiled {
                    plan,
                    fusion,
                    memory,
                }
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
        match self {
            Self::Cpu(device) => {
                if let Some(available_bytes) = available_memory_bytes()
                    && compiled.memory.total_bytes() > available_bytes
                {
                    return Err(DeviceError::OutOfMemory {
                        needed: compiled.memory,
                        available_bytes,
                    });
                }
                Ok(Box::new(device.load(compiled.plan, parameters)?))
            }
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(device) => write!(f, "cpu with {} threads", device.threads()),
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

    /// Copies an `f32` input, state or parameter to the host.
    ///
    /// # Errors
    /// If there is none of this name and type.
    fn read(&self, name: &str) -> Result<Vec<f32>, DeviceError>;

    /// Copies the output `name` of the last run to the host.
    ///
    /// # Errors
    /// If the plan has no such `f32` output.
    fn output(&self, name: &str) -> Result<Vec<f32>, DeviceError>;
}
