//! An access as the shadow sees it, and what the shadow says about it.

/// The earlier one of two accesses that race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// Linear index of the block; `None` is the same block.
    pub block: Option<u32>,
    /// Warp and lane, where they are known.
    pub thread: Option<(u32, u32)>,
    /// A write.
    pub write: bool,
}

/// What a shadow cell says about an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong.
    Fine,
    /// Nobody wrote the location.
    Uninit,
    /// The destination of a copy that wasn't waited for.
    Async,
    /// Unordered.
    Race(Earlier),
}

/// How an access takes part in synchronisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Atomic, volatile, relaxed …
    pub strong: bool,
    /// A compare-and-swap: a plain read before it, as such loops begin with, does not count as a race.
    pub swap: bool,
}
