//! How far something is that takes a while.

use std::fmt;
use std::sync::Arc;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Kernels compiled by NVRTC, when a plan is loaded for the first time.
    Kernels,
    /// Sampling steps of images, of all batches.
    ImageSteps,
}

/// How far a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is counted.
    pub what: Stage,
    /// How many are done.
    pub done: u64,
    /// How many there are in all.
    pub total: u64,
}

/// Who is told of progress; from any thread.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(Progress) + Send + Sync>);

impl Observer {
    /// Tells `observe`.
    pub fn new(observe: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observe))
    }

    /// Passes `progress` on.
    pub fn tell(&self, progress: Progress) {
        (self.0)(progress);
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}
