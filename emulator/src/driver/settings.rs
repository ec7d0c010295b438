//! Settings from the environment or by call, and what was noted for the program: faults, leaks, counters.

use std::ffi::CString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::check::{Checks, Fault, UnknownCheck};
use crate::counters::LaunchCounters;
use crate::exec::Options;
use crate::report::CounterLog;

/// Pause in the driver calls after which pending work runs by itself.
/// CUDA version that the emulated driver speaks, unless `CUDA_EMULATOR_DRIVER_VERSION` says otherwise.
pub const DRIVER_VERSION: i32 = 12_090;
const DEFAULT_IDLE: Duration = Duration::from_millis(100);
/// Prefix of the environment variables; `checks` is `CUDA_EMULATOR_CHECKS`.
const PREFIX: &str = "CUDA_EMULATOR_";
const NAMES: [&str; 7] = [
    "checks",
    "seed",
    "threads",
    "counters",
    "idle_ms",
    "watchdog",
    "driver_version",
];

/// A CUDA release as `cuDriverGetVersion` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DriverVersion {
    major: u32,
    minor: u32,
}

impl DriverVersion {
    /// As one number, such as 12020 for 12.2.
    pub fn number(self) -> i32 {
        (self.major * 1000 + self.minor * 10) as i32
    }

    /// The newest PTX that this release takes, such as 82 for 8.2 (PTX ISA, table of release notes).
    pub fn newest_ptx(self) -> u32 {
        match (self.major, self.minor) {
            (11, minor) => 70 + minor,
            (12, minor @ ..=5) => 80 + minor,
            (12, minor) => 80 + minor - 1,
            (_, minor) => 90 + minor,
        }
    }
}

impl std::str::FromStr for DriverVersion {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let version = text.split_once('.').and_then(|(major, minor)| {
            Some(DriverVersion {
                major: major.parse().ok()?,
                minor: minor.parse().ok().filter(|minor| *minor < 10)?,
            })
        });
        version
            .filter(|version| (11..=13).contains(&version.major))
            .ok_or_else(|| {
                format!("expected a CUDA release from 11.0 to 13.9, such as 12.2, found `{text}`")
            })
    }
}

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
    /// An older CUDA release that the driver is told to be of; it then refuses newer PTX. Otherwise it takes any.
    pub driver_version: Option<DriverVersion>,
    /// The counters of all launches since the start or the last reset.
    pub counters: CounterLog,
    /// Kind and text of the last fault.
    pub last_fault: Option<(CString, CString)>,
    /// What the last destroyed context had not freed, one per line.
    pub last_leaks: CString,
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
            driver_version: None,
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

    /// Sets an option by its name in lower case, without the prefix of the variables.
    ///
    /// # Errors
    /// Says what is wrong with the name or the value.
    pub fn set(&mut self, name: &str, value: &str) -> std::result::Result<(), String> {
        let number = |text: &str| {
            text.parse::<u64>()
                .map_err(|_| format!("expected a number, found `{text}`"))
        };
        match name {
            "checks" => self.checks = value.parse().map_err(|e: UnknownCheck| e.to_string())?,
            "seed" if value == "random" => {
                self.seed = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .map_or(0, |t| t.as_nanos() as u64);
                eprintln!("cuda-emulator: seed {}", self.seed);
            }
            "seed" => self.seed = number(value)?,
            "threads" => self.threads = number(value)? as usize,
            "watchdog" => self.watchdog = number(value)?,
            "driver_version" => self.driver_version = Some(value.parse()?),
            "idle_ms" if value == "never" => self.idle = None,
            "idle_ms" => self.idle = Some(Duration::from_millis(number(value)?)),
            "counters" => match value {
                "off" | "0" | "" => (self.counting, self.counters_file) = (false, None),
                "on" | "1" => self.counting = true,
                file => {
                    (self.counting, self.counters_file) = (true, Some(PathBuf::from(file)));
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

    /// As `cuDriverGetVersion` tells it.
    pub fn driver_version_number(&self) -> i32 {
        self.driver_version
            .map_or(DRIVER_VERSION, DriverVersion::number)
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

    /// Whether a counters file was asked for.
    pub fn writes_counters(&self) -> bool {
        self.counters_file.is_some()
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

/// A text for C. Reports hold no NUL; if one does, it is cut there.
pub fn to_c(text: &str) -> CString {
    let text = text.split('\0').next().unwrap_or_default();
    CString::new(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_takes_the_ptx_of_its_release() {
        let of = |text: &str| {
            text.parse()
                .map(|version: DriverVersion| (version.number(), version.newest_ptx()))
        };
        // PTX ISA 9.0, table of release notes.
        let published = [
            ("11.8", 11_080, 78),
            ("12.0", 12_000, 80),
            ("12.5", 12_050, 85),
            ("12.6", 12_060, 85),
            ("12.9", 12_090, 88),
            ("13.0", 13_000, 90),
        ];
        for (text, number, ptx) in published {
            assert_eq!(of(text), Ok((number, ptx)), "{text}");
        }
        for text in ["12", "10.2", "14.0", "12.10", "12.x", ""] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
