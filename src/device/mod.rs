//! Devices run plans. They know ops, never models.

pub mod cpu;
pub mod cuda;
mod error;
mod executable;
mod parameters;
mod progress;
pub mod reference;

use std::fmt;
use std::str::FromStr;

pub use crate::bytes::available_memory_bytes;
pub use error::DeviceError;
pub use executable::Executable;
pub use progress::{Observer, Progress, Stage};

pub use crate::compile::{Compiled, MemoryReport, OverBudget, PassReport};
use crate::compile::{DeviceKind, Precision, PrecisionChoice, Purpose, compile, compile_within};
use crate::graph::Graph;
use crate::tensor::TensorMap;
use cpu::CpuDevice;
use cuda::{CudaDevice, CudaError, CudaOptions};

/// The device that a user asks for.
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
    /// A processor.
    Cpu(CpuDevice),
    /// A GPU, emulated or not.
    Cuda(CudaDevice),
}

/// How a [`Device`] is opened; begun by [`Device::builder`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct DeviceBuilder {
    choice: DeviceChoice,
    precision: PrecisionChoice,
    purpose: Purpose,
    deterministic: bool,
    threads: Option<usize>,
    observer: Option<Observer>,
}

impl DeviceBuilder {
    /// Which device; [`DeviceChoice::Auto`] unless said otherwise.
    pub fn choice(mut self, choice: DeviceChoice) -> Self {
        self.choice = choice;
        self
    }

    /// Type of activations and of the operands of products; what [`Precision::default_for`] says unless named.
    pub fn precision(mut self, precision: impl Into<PrecisionChoice>) -> Self {
        self.precision = precision.into();
        self
    }

    /// What the device is for, where no precision is named; [`Purpose::Inference`] unless said otherwise.
    pub fn purpose(mut self, purpose: Purpose) -> Self {
        self.purpose = purpose;
        self
    }

    /// Whether the result of one sample is to be the same in any batch, to the bit.
    pub fn deterministic(mut self, deterministic: bool) -> Self {
        self.deterministic = deterministic;
        self
    }

    /// Threads of the CPU; one per core unless said otherwise.
    pub fn threads(mut self, threads: impl Into<Option<usize>>) -> Self {
        self.threads = threads.into();
        self
    }

    /// Who is told how far the compilation of kernels is.
    pub fn observe(mut self, observe: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.observer = Some(Observer::new(observe));
        self
    }

    /// Opens the device.
    ///
    /// # Errors
    /// If the device cannot be had, or does not compute in the precision.
    pub fn open(self) -> Result<Device, DeviceError> {
        match self.choice {
            DeviceChoice::Auto => match self.usable_gpu() {
                Ok(device) => Ok(self.cuda(device)),
                Err(CudaError::NoDriver) => self.cpu(),
                Err(error) => {
                    tracing::warn!("computing on the CPU, for the GPU cannot be used: {error}");
                    self.cpu()
                }
            },
            DeviceChoice::Cpu => self.cpu(),
            DeviceChoice::Cuda(ordinal) => {
                let device = CudaDevice::open(ordinal, self.cuda_options())?;
                Ok(self.cuda(device))
            }
            DeviceChoice::Emulated => {
                let device = CudaDevice::emulated(self.cuda_options())?;
                Ok(self.cuda(device))
            }
        }
    }

    /// The first GPU, if kernels can be compiled for it.
    fn usable_gpu(&self) -> Result<CudaDevice, CudaError> {
        let device = CudaDevice::open(0, self.cuda_options())?;
        device.check_compiler()?;
        Ok(device)
    }

    fn cpu(&self) -> Result<Device, DeviceError> {
        match self.precision.resolve(DeviceKind::Cpu, self.purpose) {
            Precision::F32 => Ok(Device::Cpu(CpuDevice::new(self.threads)?)),
            asked => Err(DeviceError::Precision {
                device: DeviceKind::Cpu,
                asked,
            }),
        }
    }

    fn cuda_options(&self) -> CudaOptions {
        CudaOptions {
            precision: self.precision.resolve(DeviceKind::Gpu, self.purpose),
            deterministic: self.deterministic,
            ..CudaOptions::default()
        }
    }

    fn cuda(self, device: CudaDevice) -> Device {
        Device::Cuda(match self.observer {
            Some(observer) => device.observed_by(observer),
            None => device,
        })
    }
}

impl Device {
    /// A GPU where one answers, else the CPU, in the precision of [`Precision::default_for`] for inference.
    ///
    /// # Errors
    /// If the device cannot be had.
    pub fn open() -> Result<Self, DeviceError> {
        Self::builder().open()
    }

    /// Begins to say which device is wanted, and how it computes.
    pub fn builder() -> DeviceBuilder {
        DeviceBuilder::default()
    }

    /// Which kind of device this is.
    pub fn kind(&self) -> DeviceKind {
        match self {
            Self::Cpu(_) => DeviceKind::Cpu,
            Self::Cuda(_) => DeviceKind::Gpu,
        }
    }

    /// The precision that plans are compiled for.
    pub fn precision(&self) -> Precision {
        match self {
            Self::Cpu(_) => Precision::F32,
            Self::Cuda(device) => device.options().precision,
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
            Self::Cpu(device) => write!(f, "cpu with {} threads, f32", device.threads()),
            Self::Cuda(device) => write!(f, "{device}"),
        }
    }
}
