//! Events: marks in streams, and the times at which they were reached.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::super::abi::Handle;

/// A place in a stream: reached once the stream completed `number` pieces of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The stream.
    pub stream: Handle,
    /// How much of its work has to be done.
    pub number: u64,
}

/// One recording of an event.
pub struct Recording {
    /// The record's place in its stream.
    pub mark: Mark,
    /// When the stream came there.
    pub time: OnceLock<Instant>,
}

/// An event.
pub struct Event {
    /// The context that it belongs to.
    pub ctx: Handle,
    /// `CUevent_flags`.
    pub flags: u32,
    /// The last recording outside a capture.
    pub last: Option<Arc<Recording>>,
    /// Recorded in a capture: which one, and the nodes that it stands for.
    pub captured: Option<(u64, Vec<Handle>)>,
}
