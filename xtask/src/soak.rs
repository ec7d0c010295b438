//! `cargo xtask soak`: tests that take too long for every change. Each is a named command whose last output is recorded.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::{setup, test, workspace};

/// Options of `cargo xtask soak`.
#[derive(clap::Args)]
pub struct Args {
    /// Only soaks whose name contains this
    #[arg(value_name = "NAME")]
    only: Option<String>,
    /// Say what there is, and run nothing
    #[arg(long)]
    list: bool,
}

/// One long test.
struct Soak {
    name: &'static str,
    /// What it proves and about how long it takes on two cores.
    about: &'static str,
    /// Arguments of `cargo test --release`.
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

const SOAKS: [Soak; 9] = [
    Soak {
        name: "paper-size",
        about: "the 194 M-parameter UNet on the emulated GPU against the CPU: one evaluation, one training step \
                (10 minutes, 20 GB)",
        arguments: &[
            "--test",
            "cuda",
            "paper_size::",
            "--",
            "--ignored",
            "--nocapture",
            "--test-threads",
            "1",
        ],
        environment: &[],
    },
    Soak {
        name: "trajectories",
        about: "all 150 sampling steps of the shipped cells model on the emulated GPU against the CPU, in every precision \
                (10 minutes)",
        arguments: &[
            "--test",
            "cuda",
            "sampling::",
            "--",
            "--ignored",
            "--nocapture",
        ],
        environment: &[("CUDA_EMULATOR_CHECKS", "none")],
    },
    Soak {
        name: "counters",
        about: "what the emulator counts on the paper's layers; writes kernels/COUNTERS.md (5 minutes)",
        arguments: &[
            "--test",
            "kernel_counters",
            "--",
            "--ignored",
            "--nocapture",
            "--test-threads",
            "1",
        ],
        environment: &[],
    },
    Soak {
        name: "pytorch",
        about: "everything that the reference implementation recorded: the whole golden set in ../shared or MEDFUSION_GOLDEN \
                (2 minutes)",
        arguments: &["--test", "golden_suite", "--test", "checkpoint"],
        environment: &[],
    },
    Soak {
        name: "plans",
        about: "random graphs, fused and not, with and without memory reuse: 2000 instead of 48 (10 minutes)",
        arguments: &["--test", "plan_properties", "--", "--nocapture"],
        environment: &[("PROPTEST_CASES", "2000")],
    },
    Soak {
        name: "hostile-driver",
        about: "damaged PTX, hostile launches and random driver calls on the emulator: 20000 instead of 100 (15 minutes)",
        arguments: &[
            "--package",
            "cuda-emulator",
            "--test",
            "driver",
            "hostile::",
            "--",
            "--nocapture",
        ],
        environment: &[("PROPTEST_CASES", "20000")],
    },
    Soak {
        name: "data",
        about: "damaged images, TIFF pages, arrays and label tables: 100000 of each instead of a few hundred (10 minutes)",
        arguments: &["--test", "data", "hostile::", "--", "--nocapture"],
        environment: &[("MEDFUSION_FUZZ_ROUNDS", "100000")],
    },
    Soak {
        name: "checkpoints",
        about: "damaged checkpoints, pickles, safetensors, names and folders: 20 times as many (10 minutes)",
        arguments: &["--test", "checkpoint", "fuzz::", "--", "--nocapture"],
        environment: &[("MEDFUSION_FUZZ_FACTOR", "20")],
    },
    Soak {
        name: "ptx-frontend",
        about: "random PTX through the emulator's lexer, parser and lowering: 50000 instead of 300 (5 minutes)",
        arguments: &[
            "--package",
            "cuda-emulator",
            "--test",
            "machine",
            "frontend::",
            "--",
            "--nocapture",
        ],
        environment: &[("PROPTEST_CASES", "50000")],
    },
];

/// Runs the soaks that are asked for and records the output of each in `docs/soak/NAME.txt`.
///
/// # Errors
/// If the set-up fails, no soak has the name, or one of them fails; the others run all the same.
pub fn run(args: &Args) -> Result<(), String> {
    let wanted: Vec<&Soak> = SOAKS
        .iter()
        .filter(|soak| {
            args.only
                .as_ref()
                .is_none_or(|only| soak.name.contains(only.as_str()))
        })
        .collect();
    if wanted.is_empty() {
        return Err("no soak has this name: `cargo xtask soak --list`".to_owned());
    }
    if args.list {
        for soak in wanted {
            println!("{:<15} {}", soak.name, soak.about);
        }
        return Ok(());
    }
    setup::run(&setup::Args::default())?;
    let folder = workspace().join("docs/soak");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut failed = Vec::new();
    for soak in wanted {
        let (text, passed) = record(soak)?;
        let path = folder.join(format!("{}.txt", soak.name));
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        println!(
            "{} {}: {}",
            if passed { "passed" } else { "FAILED" },
            soak.name,
            path.display()
        );
        if !passed {
            failed.push(soak.name);
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!("failed: {}", failed.join(", "))),
    }
}

/// The command and its output, and whether it passed. Cargo's own messages go to this terminal.
fn record(soak: &Soak) -> Result<(String, bool), String> {
    let mut text = String::from("$ ");
    for (name, value) in soak.environment {
        write!(text, "{name}={value} ").expect("a string");
    }
    writeln!(text, "cargo test --release {}", soak.arguments.join(" ")).expect("a string");
    print!("{text}");
    let start = Instant::now();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["test", "--release"])
        .args(soak.arguments)
        .envs(soak.environment.iter().copied())
        .env("MEDFUSION_CACHE", test::kernel_cache())
        .current_dir(workspace())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    text += String::from_utf8_lossy(&output.stdout).trim_end();
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    writeln!(text, "\n{}, {minutes:.1} minutes", output.status).expect("a string");
    Ok((text, output.status.success()))
}
