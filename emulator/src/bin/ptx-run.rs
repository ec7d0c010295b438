//! Runs kernel test cases on the emulated GPU: `ptx-run CASE.json …`, one line per case.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use cuda_emulator::case::Case;
use cuda_emulator::case::run::{Passed, run};
use cuda_emulator::report::CounterLog;
use cuda_emulator::{Checks, Options};

/// Run kernel test cases on the emulated RTX 3090. The case format is described in the emulator's README.
#[derive(Parser)]
#[command(name = "ptx-run", version)]
struct Cli {
    /// Case files
    #[arg(required = true, value_name = "CASE.json")]
    cases: Vec<PathBuf>,
    /// Which checkers watch: all, none, or a list of race, uninit, async_hazard
    #[arg(long, default_value = "all")]
    checks: Checks,
    /// Count, and write the counters of all kernels to this file as JSON
    #[arg(long, value_name = "FILE.json")]
    counters: Option<PathBuf>,
    /// Seed of the warps' adversarial schedule
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Worker threads (0: one per core)
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let options = Options {
        checks: cli.checks,
        seed: cli.seed,
        threads: cli.threads,
        counters: cli.counters.is_some(),
        ..Options::default()
    };
    let mut log = CounterLog::default();
    let mut failed = 0;
    for path in &cli.cases {
        match run_case(path, &options) {
            Ok(passed) => {
                println!("pass {}: {}", path.display(), describe(&passed));
                if let Some((ptx, counters)) = passed.counters {
                    log.add(&ptx, counters);
                }
            }
            Err(reason) => {
                failed += 1;
                println!("FAIL {}: {reason}", path.display());
            }
        }
    }
    println!("{} passed, {failed} failed", cli.cases.len() - failed);
    if let Some(path) = &cli.counters
        && let Err(error) = log.write(path)
    {
        eprintln!("error: could not write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run_case(path: &Path, options: &Options) -> Result<Passed, String> {
    let case = Case::read(path)?;
    catch_unwind(AssertUnwindSafe(|| run(&case, options)))
        .unwrap_or_else(|_| Err("internal error of the emulator (its message is above)".into()))
        // One line per case: the compiler's messages are the only ones with several.
        .map_err(|reason| reason.replace('\n', " | "))
}

fn describe(passed: &Passed) -> String {
    let time = passed.time.as_secs_f64() * 1e3;
    match &passed.fault {
        Some(fault) => format!("reported as expected: {fault}, {time:.1} ms"),
        None => format!("largest error {:.3e}, {time:.1} ms", passed.largest_error),
    }
}
