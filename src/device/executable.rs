//! What runs: a plan with its memory, on any device.

use super::error::DeviceError;
use crate::compile::{MemoryReport, Plan};

/// A plan with its memory, on any device. Buffers are addressed by the names that the graph gave
/// its inputs, parameters, state and outputs.
pub trait Executable: Send {
    /// The plan that runs.
    fn plan(&self) -> &Plan;

    /// Memory in use.
    fn memory(&self) -> MemoryReport;

    /// True if the plan reads or writes an input, parameter or state of this name.
    fn has(&self, name: &str) -> bool;

    /// Writes an `f32` input, state or parameter.
    ///
    /// # Errors
    /// If there is none of this name, type and length.
    fn write(&mut self, name: &str, values: &[f32]) -> Result<(), DeviceError>;

    /// Writes an `i32` input or state.
    ///
    /// # Errors
    /// If there is none of this name, type and length.
    fn write_i32(&mut self, name: &str, values: &[i32]) -> Result<(), DeviceError>;

    /// Executes all steps.
    ///
    /// # Errors
    /// If the device fails.
    fn run(&mut self) -> Result<(), DeviceError>;

    /// Fills the activations with NaN, so that a step that reads what nothing wrote shows. For tests.
    ///
    /// # Errors
    /// If the device fails.
    fn poison(&mut self) -> Result<(), DeviceError>;

    /// Copies an `f32` input, state or parameter to the host.
    ///
    /// # Errors
    /// If there is none of this name and type.
    fn read(&self, name: &str) -> Result<Vec<f32>, DeviceError>;

    /// Copies an `i32` input or state to the host.
    ///
    /// # Errors
    /// If there is none of this name and type.
    fn read_i32(&self, name: &str) -> Result<Vec<i32>, DeviceError>;

    /// Copies the output `name` of the last run to the host.
    ///
    /// # Errors
    /// If the plan has no such `f32` output.
    fn output(&self, name: &str) -> Result<Vec<f32>, DeviceError>;
}
