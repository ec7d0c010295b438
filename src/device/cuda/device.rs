//! A GPU as plans see it, and how they run there.

use std::fmt;
use std::sync::Arc;

use super::context::Context;
use super::driver::Driver;
use super::error::CudaError;
use super::nvrtc;
use crate::compile::{CudaBackend, Plan, PlanOptions, Precision, rewrite_for};
use crate::device::progress::Observer;
use crate::graph::Graph;
#[cfg(test)]
use crate::graph::{Op, TensorType};
use crate::kernel::cuda::Target;

/// How plans run on a device.
#[derive(Clone, Copy, Debug)]
pub struct CudaOptions {
    /// Type of activations and of the operands of products.
    pub precision: Precision,
    /// The result of one sample does not depend on how many are in the batch, to the bit.
    pub deterministic: bool,
    /// Capture each plan into a graph and replay it; otherwise every run launches its kernels one by one.
    pub capture: bool,
    /// Horizontal fusion: pack many weights in one launch, and update many by multi-tensor apply.
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
    pub(super) context: Arc<Context>,
    options: CudaOptions,
    pub(super) target: Target,
    pub(super) observer: Option<Observer>,
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
            observer: None,
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
            observer: self.observer.clone(),
        }
    }

    /// The same GPU; `observer` is told how far the compilation of kernels is.
    pub fn observed_by(mut self, observer: Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Checks, before anything is built, that kernels can be compiled for this GPU.
    ///
    /// # Errors
    /// If NVRTC is missing, not whole, or compiles nothing that the GPU runs.
    pub fn check_compiler(&self) -> Result<(), CudaError> {
        nvrtc::ready(self.context.attempts()?[0])
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

    /// What the compiler asks of this device's kernels.
    pub fn backend(&self) -> CudaBackend {
        CudaBackend {
            target: self.target,
            precision: self.options.precision,
            group: self.options.group,
        }
    }

    /// `graph` with activations in this device's precision and with the producer fusions that its kernels prefer.
    pub fn lower(&self, graph: &Graph) -> Graph {
        rewrite_for(graph, &self.backend()).0
    }

    /// Lays out a graph that [`CudaDevice::lower`] rewrote.
    pub fn plan(&self, graph: &Graph, options: PlanOptions) -> Plan {
        Plan::new(graph, &self.backend(), options)
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
