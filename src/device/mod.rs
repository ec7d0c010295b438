//! Devices run plans. They know ops, never models.

pub mod cpu;
pub mod reference;
