//! The pieces of work that streams and graphs are made of.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::abi::{DevicePtr, Handle, HostFn, In, KernelNodeParams, StreamCallback};
use super::event::Recording;
use super::memory::GraphMemory;
use super::module::LoadedFunction;

/// One piece of work.
#[derive(Clone)]
pub enum Work {
    /// Nothing: a wait, or a node that only orders others.
    Empty,
    /// A kernel.
    Kernel(Arc<KernelWork>),
    /// A copy.
    Copy(CopyWork),
    /// A fill with a repeated value.
    Fill(FillWork),
    /// A function of the host program.
    Host(HostCall),
    /// Takes an event's time.
    Record(Arc<Recording>),
    /// Frees memory in stream order.
    Free(DevicePtr),
    /// A graph's allocation node: its bytes count as never written.
    GraphAlloc(Arc<GraphMemory>),
    /// A graph's free node: the memory stays with the graph.
    GraphFree(DevicePtr),
    /// A graph's record node before the graph is launched; then it becomes a [`Work::Record`].
    RecordNode(Handle),
    /// A graph's wait node; the launch of the graph waits for the event.
    WaitNode(Handle),
    /// A graph inside a graph.
    Child(Arc<Vec<ExecNode>>),
    /// A launched graph: its nodes, the recordings of its record nodes, and the seed of its order.
    Graph(
        Arc<Vec<ExecNode>>,
        Arc<HashMap<Handle, Arc<Recording>>>,
        u64,
    ),
    /// A value written to device memory (4 or 8 bytes).
    WriteValue(DevicePtr, u64, u8),
}

/// One end of a copy.
#[derive(Clone)]
pub enum CopyEnd {
    /// Device memory.
    Device(DevicePtr),
    /// Host memory at this address, touched when the copy runs.
    Host(usize),
    /// Host bytes that were taken when the copy was submitted.
    Staged(Arc<Vec<u8>>),
}

/// A copy of `depth` slices of `height` rows of `width` bytes.
#[derive(Clone)]
pub struct CopyWork {
    /// The destination.
    pub to: CopyEnd,
    /// The source.
    pub from: CopyEnd,
    /// Bytes of a row.
    pub width: usize,
    /// Rows of a slice.
    pub height: usize,
    /// Slices.
    pub depth: usize,
    /// Bytes from row to row and from slice to slice at the destination.
    pub to_pitch: [usize; 2],
    /// Bytes from row to row and from slice to slice at the source.
    pub from_pitch: [usize; 2],
}

impl CopyWork {
    /// A copy of `bytes` contiguous bytes.
    pub fn linear(to: CopyEnd, from: CopyEnd, bytes: usize) -> CopyWork {
        CopyWork {
            to,
            from,
            width: bytes,
            height: 1,
            depth: 1,
            to_pitch: [bytes; 2],
            from_pitch: [bytes; 2],
        }
    }

    /// Bytes from the first to the last byte touched at an end with this pitch; `None` if that overflows.
    pub fn span(&self, pitch: [usize; 2]) -> Option<usize> {
        if self.width == 0 || self.height == 0 || self.depth == 0 {
            return Some(0);
        }
        let rows = pitch[0].checked_mul(self.height - 1)?;
        let slices = pitch[1].checked_mul(self.depth - 1)?;
        rows.checked_add(slices)?.checked_add(self.width)
    }
}

/// A fill of `height` rows of `width` elements.
#[derive(Clone)]
pub struct FillWork {
    /// The first element.
    pub to: DevicePtr,
    /// Bytes from row to row.
    pub pitch: usize,
    /// The value, in its lowest bytes.
    pub value: u32,
    /// Bytes of an element: 1, 2 or 4.
    pub element: usize,
    /// Elements of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl FillWork {
    /// Bytes from the first to the last byte written; `None` if that overflows.
    pub fn span(&self) -> Option<usize> {
        if self.width == 0 || self.height == 0 {
            return Some(0);
        }
        let row = self.width.checked_mul(self.element)?;
        self.pitch.checked_mul(self.height - 1)?.checked_add(row)
    }
}

/// A call of a host function. The data pointers belong to the program, which keeps them valid until the call.
#[derive(Clone, Copy)]
pub enum HostCall {
    /// `cuLaunchHostFunc`.
    Plain {
        /// The program's function.
        function: HostFn,
        /// Address of its argument.
        data: usize,
    },
    /// `cuStreamAddCallback`: also told the stream and its status.
    WithStatus {
        /// The program's function.
        callback: StreamCallback,
        /// The stream that it is told.
        stream: Handle,
        /// Address of its argument.
        data: usize,
    },
}

/// A node of an instantiated graph.
#[derive(Clone)]
pub struct ExecNode {
    /// The node of the graph that it was made from.
    pub source: Handle,
    /// Indices of the nodes that must be done before.
    pub after: Vec<usize>,
    /// What it does.
    pub work: Work,
    /// `cuGraphNodeSetEnabled`: a disabled node only orders others.
    pub enabled: bool,
}

/// A launch that was accepted.
pub struct KernelWork {
    /// The kernel.
    pub function: Arc<LoadedFunction>,
    /// The handle that the launch named it by.
    pub handle: Handle,
    /// Blocks per axis.
    pub grid: [u32; 3],
    /// Threads of a block per axis.
    pub block: [u32; 3],
    /// Dynamic shared memory in bytes.
    pub shared_bytes: u32,
    /// The parameter buffer.
    pub params: Vec<u8>,
    /// Addresses of the parameters in `params`, for the queries that give them back.
    pub param_addresses: Vec<In<u8>>,
    /// Whether all blocks must be resident at once.
    pub cooperative: bool,
}

// SAFETY: the pointers in `param_addresses` point into `params`, which is never changed, and are only given to the
// program; nothing here follows them.
unsafe impl Send for KernelWork {}
// SAFETY: as above.
unsafe impl Sync for KernelWork {}

impl KernelWork {
    /// The kernel's name.
    pub fn name(&self) -> &str {
        &self.function.kernel().name
    }

    /// The launch as `cuGraphKernelNodeGetParams` reports it.
    pub fn node_params(&self) -> KernelNodeParams {
        KernelNodeParams {
            func: self.handle,
            grid: self.grid,
            block: self.block,
            shared_bytes: self.shared_bytes,
            kernel_params: In::to(&self.param_addresses),
            extra: In::null(),
        }
    }
}
