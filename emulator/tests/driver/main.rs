//! The driver as a program meets it: the API, its limits, cudarc on top of it, hostile calls.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "the driver's API is unsafe throughout; a test says once what it hands over"
)]

#[macro_use]
mod common;
mod api;
mod cudarc;
mod hostile;
mod limits;
