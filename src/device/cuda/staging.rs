//! Inputs on their way to the GPU while it still computes: pinned memory, a second stream, and a copy that the plan
//! does not read.
//!
//! ```text
//! host      write ─▶ pinned ─(copy stream)─▶ shadow ─(plan's stream, before a run)─▶ binding
//! ```
//!
//! Writing the next batch therefore neither waits for the run in flight nor changes what it reads.

use std::sync::Arc;

use super::context::{Context, GpuEvent, Memory, Pinned};
use super::error::CudaError;
use crate::kernel::cuda::launch::DevicePtr;

/// The way of one input.
pub(super) struct Staging {
    pinned: Pinned,
    shadow: Memory,
    /// The copy stream is done with `pinned`, and `shadow` is complete.
    arrived: GpuEvent,
    /// The plan's stream has taken `shadow` over.
    taken: GpuEvent,
    /// `shadow` is newer than the binding.
    fresh: bool,
}

impl Staging {
    /// For an input of `bytes` bytes.
    pub fn new(context: &Arc<Context>, bytes: usize) -> Result<Self, CudaError> {
        Ok(Self {
            pinned: context.pinned(bytes)?,
            shadow: context.allocate("inputs on their way", bytes)?,
            arrived: context.event()?,
            taken: context.event()?,
            fresh: false,
        })
    }

    /// Sends `bytes`; they may change after the call.
    pub fn write(&mut self, context: &Context, bytes: &[u8]) -> Result<(), CudaError> {
        // Only the copy before, not the run in flight.
        self.arrived.synchronize()?;
        self.pinned.fill(bytes);
        context.wait(context.copy_stream(), &self.taken)?;
        // SAFETY: the pinned memory is not touched before `arrived`, and the shadow has its size.
        unsafe { context.upload_pinned(self.shadow.at, &self.pinned)? };
        self.arrived.record(context.copy_stream())?;
        self.fresh = true;
        Ok(())
    }

    /// Moves what was written last into `binding`, in front of what the plan's stream is given next.
    pub fn deliver(&mut self, context: &Context, binding: DevicePtr) -> Result<(), CudaError> {
        if !self.fresh {
            return Ok(());
        }
        context.wait(context.stream(), &self.arrived)?;
        context.copy(binding, self.shadow.at, self.shadow.bytes)?;
        self.taken.record(context.stream())?;
        self.fresh = false;
        Ok(())
    }

    /// Where the value that was written last lies, if no run has taken it yet; waits until it is there.
    pub fn pending(&self) -> Result<Option<DevicePtr>, CudaError> {
        if !self.fresh {
            return Ok(None);
        }
        self.arrived.synchronize()?;
        Ok(Some(self.shadow.at))
    }
}
