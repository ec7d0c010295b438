//! The emulator's own controls as calls: options, fault texts, leaks and counters (`cuEmu…`).

use std::ffi::{CStr, c_char};

use super::abi::{Out, Text};
use super::entry::api;
use super::error::{CudaError, Result};
use super::process::{Driver, write_counters_at_exit};
use super::settings::to_c;
use crate::report::CounterLog;

/// Gives a text to the caller: how many bytes it takes with its NUL, and the text if there is a buffer.
fn give(text: &CStr, buffer: Out<c_char>, bytes: usize, needed: Out<usize>) -> Result<()> {
    needed.set_if_wanted(text.count_bytes() + 1);
    if buffer.is_null() {
        return Ok(());
    }
    buffer.set_text(&text.to_string_lossy(), bytes)
}

api! {
    /// Sets an option by name: `checks`, `seed`, `threads`, `counters`, `idle_ms`, `watchdog`; values as in the
    /// environment variables. Applies to launches that run from now on.
    fn cuEmuSetOption(name: Text, value: Text) {
        let driver = Driver::get()?;
        let mut state = driver.lock();
        state.settings.set(name.str()?, value.str()?).map_err(|error| {
            eprintln!("cuda-emulator: cuEmuSetOption: {error}");
            CudaError::INVALID_VALUE
        })?;
        if state.settings.writes_counters() {
            write_counters_at_exit();
        }
        Ok(())
    }

    /// The report of the last fault in this process. `NOT_FOUND` if there was none.
    fn cuEmuGetLastFault(buffer: Out<c_char>, bytes: usize, needed: Out<usize>) {
        let state = Driver::get()?.lock();
        let (_, text) = state.settings.last_fault.as_ref().ok_or(CudaError::NOT_FOUND)?;
        give(text, buffer, bytes, needed)
    }

    /// The kind of the last fault (`race`, `oob`, …). `NOT_FOUND` if there was none.
    fn cuEmuGetLastFaultKind(buffer: Out<c_char>, bytes: usize, needed: Out<usize>) {
        let state = Driver::get()?.lock();
        let (kind, _) = state.settings.last_fault.as_ref().ok_or(CudaError::NOT_FOUND)?;
        give(kind, buffer, bytes, needed)
    }

    /// Forgets the last fault.
    fn cuEmuClearLastFault() {
        Driver::get()?.lock().settings.last_fault = None;
        Ok(())
    }

    /// What the last destroyed context had not freed, one allocation per line; empty if nothing.
    fn cuEmuGetLastLeaks(buffer: Out<c_char>, bytes: usize, needed: Out<usize>) {
        let state = Driver::get()?.lock();
        give(&state.settings.last_leaks, buffer, bytes, needed)
    }

    /// The counters of all launches since the start or the last reset, as JSON.
    fn cuEmuGetCounters(buffer: Out<c_char>, bytes: usize, needed: Out<usize>) {
        let json = Driver::get()?.lock().settings.counters.to_json();
        give(&to_c(&json), buffer, bytes, needed)
    }

    /// Forgets the counters.
    fn cuEmuResetCounters() {
        Driver::get()?.lock().settings.counters = CounterLog::default();
        Ok(())
    }
}
