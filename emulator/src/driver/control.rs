//! The emulator's own controls: settings from the environment or `cuEmu…` calls, fault texts, leaks and counters.

use std::ffi::{CStr, CString, c_char};
use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::abi::{Out, Text};
use super::api;
use super::error::{CudaError, Result};
use super::state::Driver;
use crate::check::{Checks, Fault};
use crate::counters::LaunchCounters;
use crate::exec::Options;
use crate::report::CounterLog;

/// Pause in the driver calls after which pending work runs by itself.
const DEFAULT_IDLE: Duration = Duration::from_millis(100);
/// Prefix of the environment variables; `checks` is `CUDA_EMULATOR_CHECKS`.
const PREFIX: &str = "CUDA_EMULATOR_";
const NAMES: [&str; 6] = [
    "checks", "seed", "threads", "counters", "idle_ms", "watchdog",
];

/// What a program or its environment may set.
pub struct Settings {
    checks: Checks,
    seed: u64,
    threads: usize,
    counting: bool,
    counters_file: Option<PathBuf>,
    /// Pause after which pending work runs by itself; `None` for never.
    pub idle: Option<Duration>,
    watchdog: u64,
    counters: CounterLog,
    /// Kind and text of the last fault.
    last_fault: Option<(CString, CString)>,
    /// What the last destroyed context had not freed, one per line.
    last_leaks: CString,
}

impl Settings {
    /// The defaults, changed by the environment. A value that cannot be read is reported and left at its default.
    pub fn from_environment() -> Settings {
        let mut settings = Settings {
            checks: Checks::ALL,
            seed: 0,
            threads: 0,
            counting: false,
            counters_file: None,
            idle: Some(DEFAULT_IDLE),
            watchdog: 0,
            counters: CounterLog::default(),
            last_fault: None,
            last_leaks: CString::default(),
        };
        for name in NAMES {
            let variable = format!("{PREFIX}{}", name.to_ascii_uppercase());
            if let Ok(value) = std::env::var(&variable)
                && let Err(error) = settings.set(name, value.trim())
            {
                eprintln!("cuda-emulator: {variable}={value}: {error}; the default stays");
            }
        }
        settings
    }

    fn set(&mut self, name: &str, value: &str) -> std::result::Result<(), String> {
        let number = |text: &str| {
            text.parse::<u64>()
                .map_err(|_| format!("expected a number, found `{text}`"))
        };
        match name {
            "checks" => self.checks = parse_checks(value)?,
            "seed" if value == "random" => {
                self.seed = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .map_or(0, |t| t.as_nanos() as u64);
                eprintln!("cuda-emulator: seed {}", self.seed);
            }
            "seed" => self.seed = number(value)?,
            "threads" => self.threads = number(value)? as usize,
            "watchdog" => self.watchdog = number(value)?,
            "idle_ms" if value == "never" => self.idle = None,
            "idle_ms" => self.idle = Some(Duration::from_millis(number(value)?)),
            "counters" => match value {
                "off" | "0" | "" => (self.counting, self.counters_file) = (false, None),
                "on" | "1" => self.counting = true,
                file => {
                    (self.counting, self.counters_file) = (true, Some(PathBuf::from(file)));
                    write_at_exit();
                }
            },
            _ => return Err(format!("no such option; there are {}", NAMES.join(", "))),
        }
        Ok(())
    }

    /// The seed of the schedules.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How launches run.
    pub fn options(&self) -> Options {
        Options {
            checks: self.checks,
            seed: self.seed,
            threads: self.threads,
            counters: self.counting,
            max_warp_instructions_per_block: self.watchdog,
        }
    }

    /// Adds the counters of a launch.
    pub fn count(&mut self, ptx: &Arc<str>, counters: LaunchCounters) {
        self.counters.add(ptx, counters);
    }

    /// Prints a fault and keeps it for `cuEmuGetLastFault`.
    pub fn report_fault(&mut self, fault: &Fault) {
        let text = fault.to_string();
        eprintln!(
            "cuda-emulator: {text}\n  (seed {}; the context is unusable from here on)",
            fault.seed
        );
        self.last_fault = Some((to_c(fault.kind.name()), to_c(&text)));
    }

    /// Prints what a context had not freed when it ended.
    pub fn report_leaks(&mut self, leaks: &[String]) {
        self.last_leaks = to_c(&leaks.join("\n"));
        if leaks.is_empty() {
            return;
        }
        eprintln!(
            "cuda-emulator: {} allocations were never freed before their context ended:",
            leaks.len()
        );
        for leak in leaks {
            eprintln!("  {leak}");
        }
    }

    /// Writes the counters file, if one was asked for.
    pub fn write_counters(&self) {
        if let Some(path) = &self.counters_file
            && let Err(error) = self.counters.write(path)
        {
            eprintln!(
                "cuda-emulator: could not write counters to {}: {error}",
                path.display()
            );
        }
    }
}

/// Reads `all`, `none` or a list of checkers.
///
/// # Errors
/// Names the word that is none of them.
pub fn parse_checks(text: &str) -> std::result::Result<Checks, String> {
    match text {
        "all" | "on" | "1" => return Ok(Checks::ALL),
        "none" | "off" | "0" => return Ok(Checks::NONE),
        _ => {}
    }
    let mut checks = Checks::NONE;
    for word in text.split(',').map(str::trim) {
        match word {
            "race" => checks.race = true,
            "uninit" => checks.uninit = true,
            "async_hazard" => checks.async_hazard = true,
            _ => {
                return Err(format!(
                    "expected all, none or a list of race, uninit, async_hazard; found `{word}`"
                ));
            }
        }
    }
    Ok(checks)
}

/// Texts of reports hold no NUL; one that does loses what follows it.
fn to_c(text: &str) -> CString {
    let text = text.split('\0').next().unwrap_or_default();
    CString::new(text).unwrap_or_default()
}

fn write_at_exit() {
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
        })
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
