//! The pieces of work that streams and graphs are made of, and running one of them.

use std::collections::HashMap;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::abi::{DevicePtr, Handle, HostFn, StreamCallback};
use super::error::{CudaError, Result};
use super::graph::ExecNode;
use super::launch::{self, KernelWork};
use super::memory::GraphMemory;
use super::state::{Driver, in_callback};
use super::stream::Recording;

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
    /// An event's time is now.
    Record(Arc<Recording>),
    /// Memory from a stream-ordered allocation goes back.
    Free(DevicePtr),
    /// A graph's allocation: its bytes are unwritten again.
    GraphAlloc(Arc<GraphMemory>),
    /// A graph's allocation ends; the memory stays with the graph.
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
pub enum Place {
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
    pub to: Place,
    pub from: Place,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
    /// Bytes from row to row and from slice to slice at the destination.
    pub to_pitch: [usize; 2],
    /// Bytes from row to row and from slice to slice at the source.
    pub from_pitch: [usize; 2],
}

impl CopyWork {
    /// A copy of `bytes` contiguous bytes.
    pub fn linear(to: Place, from: Place, bytes: usize) -> CopyWork {
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
    pub to: DevicePtr,
    pub pitch: usize,
    pub value: u32,
    /// Bytes of an element: 1, 2 or 4.
    pub element: usize,
    pub width: usize,
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
    Plain { function: HostFn, data: usize },
    /// `cuStreamAddCallback`: also told the stream and its status.
    WithStatus {
        callback: StreamCallback,
        stream: Handle,
        data: usize,
    },
}

/// Runs a piece of work on this thread.
///
/// # Errors
/// The error that stays with the context: a fault of a kernel, or an address that is not allocated any more.
pub fn run(driver: &'static Driver, work: &Work) -> Result<()> {
    catch_unwind(AssertUnwindSafe(|| run_unguarded(driver, work))).unwrap_or_else(|_| {
        eprintln!("cuda-emulator: internal error while running stream work; the context is lost");
        Err(CudaError::UNKNOWN)
    })
}

fn run_unguarded(driver: &'static Driver, work: &Work) -> Result<()> {
    match work {
        Work::Empty | Work::RecordNode(_) | Work::WaitNode(_) | Work::GraphFree(_) => Ok(()),
        Work::Kernel(kernel) => launch::run(driver, kernel),
        Work::Copy(copy) => run_copy(driver, copy),
        Work::Fill(fill) => run_fill(driver, fill),
        Work::Host(call) => {
            run_host(*call);
            Ok(())
        }
        Work::Record(recording) => {
            let _ = recording.time.set(Instant::now());
            Ok(())
        }
        Work::Free(address) => lost(driver.memory.free(*address)),
        Work::GraphAlloc(memory) => lost(
            driver
                .memory
                .mark_uninit(memory.address, memory.bytes as u64),
        ),
        Work::Child(nodes) => run_graph(driver, nodes, &HashMap::new(), 0),
        Work::Graph(nodes, recordings, seed) => run_graph(driver, nodes, recordings, *seed),
        Work::WriteValue(address, value, bytes) => {
            let bytes = usize::from(*bytes).min(8);
            lost(driver.memory.write(*address, &value.to_le_bytes()[..bytes]))
        }
    }
}

/// An address that was allocated when the work was submitted and is not any more.
fn lost<T, E: std::fmt::Display>(result: std::result::Result<T, E>) -> Result<()> {
    result.map(|_| ()).map_err(|error| {
        eprintln!("cuda-emulator: a copy, fill or free ran after its memory was gone: {error}");
        CudaError::ILLEGAL_ADDRESS
    })
}

fn run_copy(driver: &Driver, copy: &CopyWork) -> Result<()> {
    let mut row_bytes = Vec::new();
    for slice in 0..copy.depth {
        for row in 0..copy.height {
            let to_offset = slice * copy.to_pitch[1] + row * copy.to_pitch[0];
            let from_offset = slice * copy.from_pitch[1] + row * copy.from_pitch[0];
            match (&copy.to, &copy.from) {
                (Place::Device(to), Place::Device(from)) => lost(driver.memory.copy(
                    to + to_offset as u64,
                    from + from_offset as u64,
                    copy.width as u64,
                ))?,
                (Place::Device(to), Place::Staged(bytes)) => {
                    let bytes = bytes
                        .get(from_offset..from_offset + copy.width)
                        .ok_or(CudaError::INVALID_VALUE)?;
                    lost(driver.memory.write(to + to_offset as u64, bytes))?;
                }
                (Place::Device(to), Place::Host(from)) => {
                    row_bytes.resize(copy.width, 0);
                    read_host(from + from_offset, &mut row_bytes);
                    lost(driver.memory.write(to + to_offset as u64, &row_bytes))?;
                }
                (Place::Host(to), Place::Device(from)) => {
                    row_bytes.resize(copy.width, 0);
                    lost(
                        driver
                            .memory
                            .read(from + from_offset as u64, &mut row_bytes),
                    )?;
                    write_host(to + to_offset, &row_bytes);
                }
                (Place::Host(to), Place::Host(from)) => {
                    row_bytes.resize(copy.width, 0);
                    read_host(from + from_offset, &mut row_bytes);
                    write_host(to + to_offset, &row_bytes);
                }
                (Place::Host(to), Place::Staged(bytes)) => {
                    let bytes = bytes
                        .get(from_offset..from_offset + copy.width)
                        .ok_or(CudaError::INVALID_VALUE)?;
                    write_host(to + to_offset, bytes);
                }
                (Place::Staged(_), _) => return Err(CudaError::INVALID_VALUE),
            }
        }
    }
    Ok(())
}

/// Takes bytes from host memory.
pub fn read_host(address: usize, bytes: &mut [u8]) {
    // SAFETY: a copy's host range is promised by the caller of the driver API to be readable until the copy is done;
    // null was refused when the copy was submitted. `bytes` is a separate buffer.
    unsafe { std::ptr::copy(address as *const u8, bytes.as_mut_ptr(), bytes.len()) };
}

fn write_host(address: usize, bytes: &[u8]) {
    // SAFETY: as in `read_host`, for writing.
    unsafe { std::ptr::copy(bytes.as_ptr(), address as *mut u8, bytes.len()) };
}

fn run_fill(driver: &Driver, fill: &FillWork) -> Result<()> {
    let pattern = fill.value.to_le_bytes();
    for row in 0..fill.height {
        lost(driver.memory.fill(
            fill.to + (row * fill.pitch) as u64,
            &pattern[..fill.element],
            fill.width as u64,
        ))?;
    }
    Ok(())
}

fn run_host(call: HostCall) {
    in_callback(|| match call {
        HostCall::Plain { function, data } => {
            // SAFETY: the program handed over the function to be called with this data.
            unsafe { function(data as *mut c_void) };
        }
        HostCall::WithStatus {
            callback,
            stream,
            data,
        } => {
            // SAFETY: as above.
            unsafe { callback(stream, 0, data as *mut c_void) };
        }
    });
}

/// Runs the nodes in an order that respects the edges and is otherwise drawn from the seed, so that a missing edge shows.
fn run_graph(
    driver: &'static Driver,
    nodes: &[ExecNode],
    recordings: &HashMap<Handle, Arc<Recording>>,
    seed: u64,
) -> Result<()> {
    let mut missing: Vec<usize> = nodes.iter().map(|node| node.after.len()).collect();
    let mut ready: Vec<usize> = (0..nodes.len()).filter(|&i| missing[i] == 0).collect();
    let mut random = seed;
    while !ready.is_empty() {
        random = random
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        let node = ready.swap_remove((random >> 33) as usize % ready.len());
        if nodes[node].enabled {
            match &nodes[node].work {
                Work::RecordNode(_) => {
                    if let Some(recording) = recordings.get(&nodes[node].source) {
                        let _ = recording.time.set(Instant::now());
                    }
                }
                work => run_unguarded(driver, work)?,
            }
        }
        for (next, follower) in nodes.iter().enumerate() {
            let edges = follower
                .after
                .iter()
                .filter(|&&after| after == node)
                .count();
            if edges > 0 {
                missing[next] -= edges;
                if missing[next] == 0 {
                    ready.push(next);
                }
            }
        }
    }
    Ok(())
}
