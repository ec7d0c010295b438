//! The one thing that can go wrong when an op is asked for its kernel.

use thiserror::Error;

/// No kernel of a device takes a step.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{op} on {device}: {why}")]
pub struct Unsupported {
    /// Name of the op, such as `conv2d`.
    pub op: &'static str,
    /// The kind of device: `cuda`.
    pub device: &'static str,
    /// What the kernels take, and what was asked of them.
    pub why: String,
}
