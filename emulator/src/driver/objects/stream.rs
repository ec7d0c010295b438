//! Streams: queues of work.

use std::collections::VecDeque;

use super::super::abi::Handle;
use super::event::Mark;
use super::work::Work;

/// `CU_STREAM_NON_BLOCKING`: no implicit order with the default stream.
pub const NON_BLOCKING: u32 = 1;

/// A stream.
pub struct Stream {
    /// The context that it belongs to.
    pub ctx: Handle,
    /// `CUstream_flags`.
    pub flags: u32,
    /// Its priority: accepted and reported back.
    pub priority: i32,
    /// Whether this is its context's default stream, which blocking streams are ordered with.
    pub is_legacy: bool,
    /// The handle is invalid, but work is left in the queue.
    pub destroyed: bool,
    /// Work that was submitted and has not run.
    pub queue: VecDeque<Queued>,
    /// Pieces of work submitted so far.
    pub submitted: u64,
    /// Pieces of work completed so far.
    pub completed: u64,
    /// Set while calls on the stream are recorded instead of run.
    pub capture: Option<StreamCapture>,
}

/// A stream's part in a capture.
pub struct StreamCapture {
    /// Which capture.
    pub id: u64,
    /// Nodes that the next recorded work depends on.
    pub after: Vec<Handle>,
}

/// A piece of work in a stream's queue.
pub struct Queued {
    /// Its number in the stream, from 1.
    pub number: u64,
    /// Marks in other streams that have to be reached before.
    pub after: Vec<Mark>,
    /// What it does.
    pub work: Work,
}

impl Stream {
    /// A stream with no work.
    pub fn new(ctx: Handle, flags: u32, priority: i32, is_legacy: bool) -> Stream {
        Stream {
            ctx,
            flags,
            priority,
            is_legacy,
            destroyed: false,
            queue: VecDeque::new(),
            submitted: 0,
            completed: 0,
            capture: None,
        }
    }

    /// Whether this stream is ordered with the default stream.
    pub fn is_blocking(&self) -> bool {
        self.flags & NON_BLOCKING == 0
    }

    /// Whether all submitted work is done.
    pub fn is_idle(&self) -> bool {
        self.completed == self.submitted
    }
}
