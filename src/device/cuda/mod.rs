//! CUDA devices: NVIDIA's, and the emulated RTX 3090, which differs in nothing but the driver library.
//!
//! A plan becomes a list of launches with every address decided. Its programs are compiled by NVRTC before the first
//! launch, and the whole list is captured once into a CUDA graph that each run replays.

mod cache;
mod context;
mod doctor;
mod driver;
mod error;
mod executable;
mod grouping;
mod listing;
mod nvrtc;
mod packing;
mod profile;
mod staging;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

pub use doctor::{Finding, diagnose};
pub use error::CudaError;
pub use executable::CudaExecutable;
pub use listing::PlannedLaunch;
pub use profile::TimedLaunch;

use crate::kernel::cuda::{Target, WORKSPACE_ALIGNMENT};

use super::{DeviceError, MemoryReport};
use crate::graph::{
    ConvolutionModel, Graph, Known, Plan, TensorType, WorkspaceModel, absorb, lower,
};
use crate::ops::{Conv2d, Op};
use crate::tensor::DType;
use context::Context;
use driver::Driver;

/// Element type of activations and of the operands of products. Statistics, losses, master weights and optimizer state
/// are f32 in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Precision {
    /// The exact reference, on plain kernels.
    #[default]
    F32,
    /// f16 with f32 accumulation on tensor cores.
    F16,
    /// bf16 with f32 accumulation on tensor cores.
    BF16,
    /// f16 with f16 accumulation over short chunks, which are summed in f32.
    F16Fast,
}

impl Precision {
    /// Type that activations are stored in.
    pub fn storage(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 | Self::F16Fast => DType::F16,
            Self::BF16 => DType::BF16,
        }
    }
}

impl FromStr for Precision {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::BF16),
            "f16-fast" => Ok(Self::F16Fast),
            other => Err(DeviceError::UnknownPrecision(other.to_owned())),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F16Fast => "f16-fast",
        })
    }
}

/// How plans run on a device.
#[derive(Clone, Copy, Debug)]
pub struct CudaOptions {
    pub precision: Precision,
    /// The result of one sample does not depend on how many are in the batch, to the bit.
    pub deterministic: bool,
    /// Capture each plan into a graph and replay it; otherwise every run launches its kernels one by one.
    pub capture: bool,
    /// Launch the packing and the updates of many weights together.
    pub group: bool,
    /// Give every value of a plan its own allocation, so that a checker sees an access beyond it. For tests.
    pub isolate: bool,
}

impl Default for CudaOptions {
    fn default() -> Self {
        Self {
            precision: Precision::F32,
            deterministic: false,
            capture: true,
            group: true,
            isolate: false,
        }
    }
}

/// A GPU that runs plans.
#[derive(Clone, Debug)]
pub struct CudaDevice {
    context: Arc<Context>,
    options: CudaOptions,
    target: Target,
}

impl CudaDevice {
    /// GPU `ordinal` of NVIDIA's driver.
    ///
    /// # Errors
    /// If there is no driver, no GPU, or none of this number.
    pub fn open(ordinal: usize, options: CudaOptions) -> Result<Self, CudaError> {
        Ok(Self::new(Context::open(Driver::Nvidia, ordinal)?, options))
    }

    /// The emulated RTX 3090.
    ///
    /// # Errors
    /// If the emulator's library is not there.
    pub fn emulated(options: CudaOptions) -> Result<Self, CudaError> {
        Ok(Self::new(Context::open(Driver::Emulated, 0)?, options))
    }

    fn new(context: Context, options: CudaOptions) -> Self {
        let target = *context.target();
        Self {
            context: Arc::new(context),
            options,
            target,
        }
        .with(options)
    }

    /// The same GPU with other options.
    pub fn with(&self, options: CudaOptions) -> Self {
        let target = Target {
            fast_accumulate: options.precision == Precision::F16Fast,
            deterministic: options.deterministic,
            ..self.target
        };
        Self {
            context: self.context.clone(),
            options,
            target,
        }
    }

    /// Waits until all work is done.
    ///
    /// # Errors
    /// What any of it failed with.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.context.synchronize()
    }

    /// How plans run here.
    pub fn options(&self) -> CudaOptions {
        self.options
    }

    /// Bytes that can still be allocated.
    pub fn available_bytes(&self) -> Option<usize> {
        self.context.memory_info().ok().map(|(free, _)| free)
    }

    /// `graph` with activations in this device's precision, and with what its convolutions do beside their product.
    pub fn lower(&self, graph: &Graph) -> Graph {
        match self.options.precision.storage() {
            DType::F32 => graph.clone(),
            reduced => absorb(&lower(graph, reduced), self),
        }
    }

    /// The input, if any, that the kernels of `op` read in a packed form.
    #[cfg(test)]
    pub(crate) fn packed_input(
        &self,
        op: &Op,
        inputs: &[TensorType],
        outputs: &[TensorType],
    ) -> Option<usize> {
        Some(
            op.cuda()
                .packed_operand(inputs, outputs, &self.target)?
                .index,
        )
    }

    /// Memory that `plan` will take.
    pub fn memory(&self, plan: &Plan) -> MemoryReport {
        executable::memory(self, plan)
    }
}

impl fmt::Display for CudaDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target {
            multiprocessors,
            capability: (major, minor),
            ..
        } = self.target;
        write!(
            f,
            "{}, compute capability {major}.{minor}, {multiprocessors} multiprocessors, {}",
            self.context.name(),
            self.options.precision
        )
    }
}

impl ConvolutionModel for CudaDevice {
    fn leaves_statistics(&self, conv: &Conv2d, inputs: &[TensorType]) -> bool {
        conv.leaves_statistics(inputs, &self.target)
    }

    fn reads_joined(&self, conv: &Conv2d, inputs: &[TensorType]) -> bool {
        conv.reads_joined(inputs, &self.target)
    }
}

impl WorkspaceModel for CudaDevice {
    fn workspace_bytes(
        &self,
        op: &Op,
        inputs: &[TensorType],
        outputs: &[TensorType],
        known: &[Known],
    ) -> usize {
        self.scratch_bytes(op, inputs, outputs, known)
    }
}
