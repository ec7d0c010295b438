//! The driver of this process: its tables behind one lock, and the device's memory beside them.

use std::sync::{Condvar, Mutex, MutexGuard, Once, OnceLock, PoisonError};

use super::abi::Handle;
use super::error::{CudaError, Result};
use super::settings::Settings;
use super::state::DriverState;
use crate::limits;
use crate::memory::DeviceMemory;

/// The driver of this process.
pub struct Driver {
    state: Mutex<DriverState>,
    /// Held while work runs, so that one thread at a time advances the streams.
    pub exec: Mutex<()>,
    /// Woken when work is submitted.
    pub submitted: Condvar,
    /// The device's memory.
    pub memory: DeviceMemory,
}

static DRIVER: OnceLock<Option<Driver>> = OnceLock::new();

impl Driver {
    /// Starts the driver; later calls find it running.
    ///
    /// # Errors
    /// `OPERATING_SYSTEM` if the device's address space cannot be reserved.
    pub fn init() -> Result<()> {
        let started = DRIVER.get_or_init(|| {
            let memory = DeviceMemory::new(limits::TOTAL_MEMORY - limits::DRIVER_RESERVE)
                .inspect_err(|e| {
                    eprintln!("cuda-emulator: could not reserve the device's address space: {e}")
                })
                .ok()?;
            let state = DriverState::new(Settings::from_environment());
            if state.settings.writes_counters() {
                write_counters_at_exit();
            }
            Some(Driver {
                state: Mutex::new(state),
                exec: Mutex::new(()),
                submitted: Condvar::new(),
                memory,
            })
        });
        started
            .as_ref()
            .map(|_| ())
            .ok_or(CudaError::OPERATING_SYSTEM)
    }

    /// The driver.
    ///
    /// # Errors
    /// `NOT_INITIALIZED` before `cuInit`.
    pub fn get() -> Result<&'static Driver> {
        DRIVER
            .get()
            .and_then(Option::as_ref)
            .ok_or(CudaError::NOT_INITIALIZED)
    }

    /// The tables. A panic elsewhere does not take them away: every change is made whole under the lock.
    pub fn lock(&self) -> MutexGuard<'_, DriverState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until work is submitted.
    pub fn wait_for_work<'a>(
        &'a self,
        guard: MutexGuard<'a, DriverState>,
    ) -> MutexGuard<'a, DriverState> {
        self.submitted
            .wait(guard)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tables and the current context of this thread, which every call that needs a healthy context starts with.
///
/// # Errors
/// `NOT_INITIALIZED` and those of [`DriverState::current`].
pub fn in_context() -> Result<(&'static Driver, MutexGuard<'static, DriverState>, Handle)> {
    let driver = Driver::get()?;
    let mut state = driver.lock();
    let ctx = state.current()?;
    Ok((driver, state, ctx))
}

/// The check alone.
///
/// # Errors
/// Those of [`in_context`].
pub fn check_context() -> Result<()> {
    in_context().map(|_| ())
}

/// Has the counters file written when the process ends.
pub fn write_counters_at_exit() {
    extern "C" fn write() {
        if let Ok(driver) = Driver::get() {
            driver.lock().settings.write_counters();
        }
    }
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: `write` is a plain function that stays valid until the process ends.
        let _ = unsafe { libc::atexit(write) };
    });
}
