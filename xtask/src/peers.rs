//! `cargo xtask peers`: what other programs make of the same input, each in a throw-away Python environment. The last
//! comparison is recorded under `docs/peers`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::setup::find_python;
use crate::test::target_folder;
use crate::workspace;

/// Options of `cargo xtask peers`.
#[derive(clap::Args)]
pub struct Args {
    /// What to compare
    #[arg(value_enum)]
    peer: Peer,
}

/// A comparison.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Peer {
    /// The DICOM files that pydicom ships: pixels against pydicom's, and some of them trained on and sampled (3 minutes)
    Dicom,
}

/// What pydicom needs to read compressed pixels.
const PYDICOM: [&str; 6] = [
    "pydicom",
    "numpy",
    "pylibjpeg",
    "pylibjpeg-libjpeg",
    "pylibjpeg-openjpeg",
    "pylibjpeg-rle",
];

/// Runs the comparison and records it.
///
/// # Errors
/// If Python or its packages cannot be had, or the comparison fails; then nothing is recorded.
pub fn run(args: &Args) -> Result<(), String> {
    match args.peer {
        Peer::Dicom => dicom(),
    }
}

fn dicom() -> Result<(), String> {
    let folder = target_folder().join("peers/dicom");
    let python = environment(&folder, &PYDICOM)?;
    let made = folder.join("made");
    succeed(
        Command::new(python)
            .arg(workspace().join("xtask/peers/dicom.py"))
            .arg(&made),
    )?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["test", "--release", "--test", "data", "pydicom", "--"])
        .args(["--ignored", "--nocapture", "--test-threads", "1"])
        .env("MEDFUSION_PYDICOM", &made)
        .current_dir(workspace())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    if !output.status.success() {
        return Err("the comparison with pydicom failed".to_owned());
    }
    record(&workspace().join("docs/peers/dicom.md"), &text)
}

/// A Python with these packages in `folder`, made anew.
fn environment(folder: &Path, packages: &[&str]) -> Result<std::path::PathBuf, String> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let environment = folder.join("python");
    succeed(
        Command::new(find_python()?)
            .args(["-m", "venv"])
            .arg(&environment),
    )?;
    let python = environment.join("bin/python");
    succeed(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--no-input"])
            .args(packages),
    )?;
    Ok(python)
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{shown}: {status}")),
        Err(error) => Err(format!("{shown} does not start: {error}")),
    }
}

/// Replaces what a document says below its line `## Last output` by the Markdown that the tests printed.
fn record(document: &Path, printed: &str) -> Result<(), String> {
    const HEADING: &str = "## Last output\n";
    let text =
        fs::read_to_string(document).map_err(|error| format!("{}: {error}", document.display()))?;
    let (head, _) = text
        .split_once(HEADING)
        .ok_or_else(|| format!("{} has no line `## Last output`", document.display()))?;
    let of_the_runner = |line: &str| {
        line.starts_with("running ") || line.starts_with("test ") || line.starts_with("ok")
    };
    let body: Vec<&str> = printed
        .lines()
        .filter(|line| !of_the_runner(line))
        .collect();
    let body = body.join("\n");
    fs::write(document, format!("{head}{HEADING}\n{}\n", body.trim()))
        .map_err(|error| format!("{}: {error}", document.display()))?;
    println!("recorded in {}", document.display());
    Ok(())
}
