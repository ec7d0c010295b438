//! What a handle stands for: plain data below the tables that hold it.
//!
//! | module | what |
//! |---|---|
//! | `memory` | allocations, host memory, pools, memory of graphs |
//! | `module` | loaded modules and their functions |
//! | `event`, `stream` | marks in streams; queues of work |
//! | `work`, `graph` | pieces of work; the graphs that they are nodes of |

mod event;
mod graph;
mod memory;
mod module;
mod stream;
mod work;

pub use event::{Event, Mark, Recording};
pub use graph::{Capture, Graph, GraphExec, Node};
pub use memory::{DeviceAllocation, GraphMemory, HostRange, Pool, Purpose};
pub use module::{FunctionSettings, LoadedFunction, LoadedModule, virtual_architecture};
pub use stream::{NON_BLOCKING, Queued, Stream, StreamCapture};
pub use work::{CopyEnd, CopyWork, ExecNode, FillWork, HostCall, KernelWork, Work};
