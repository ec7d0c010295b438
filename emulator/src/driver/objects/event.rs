//! Events: marks in streams, and the times at which they were reached.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::super::abi::Handle;

/// A point in a stream, reached once the stream has completed `number` pieces of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The stream.
    pub stream: Handle,
    /// How much of its work has to be done.
    pub number: u64,
}

/// One recording of an event.
pub struct Recording {
    /// The point in its stream.
    pub mark: Mark,
    /// When the stream reached it.
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
    /// Set if it was recorded in a capture: which one, and the nodes that a wait for the event depends on.
    pub captured: Option<(u64, Vec<Handle>)>,
}
