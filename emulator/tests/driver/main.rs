//! The driver as a program meets it: the API, its limits, cudarc on top of it, hostile calls.

#[macro_use]
mod common;
mod api;
mod cudarc;
mod hostile;
mod limits;
