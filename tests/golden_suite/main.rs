//! The golden suite: everything that the reference implementation recorded, compared with the
//! engine on the CPU and, kernel for kernel, on the emulated GPU.
//!
//! Cases are found by listing the folder (`MEDFUSION_GOLDEN`, else `../shared/golden`, else the
//! part of it under `tests/golden`) and dispatched on the family in the file name, so a folder
//! with other seeds, shapes and step counts works unchanged. Each case prints its largest
//! relative error per group of tensors.

mod containers;
mod ddim;
mod harness;
mod hyper;
mod lpips;
mod ops;
mod scheduler;
mod train;
mod unet;
mod vae;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use harness::{Case, Mode, in_mode};
use libtest_mimic::{Arguments, Failed, Trial};
use medfusion::compile::Precision;

type Run = fn(&Case) -> Result<(), Failed>;

/// Families by the start of the file name; the first that fits counts.
const FAMILIES: &[(&str, Run)] = &[
    ("checkpoint_", containers::run_case),
    ("hash_recipe_", containers::run_hash_recipe),
    ("ops", ops::run_case),
    ("pickle_", containers::run_case),
    ("unet_", unet::run_case),
    ("lpips_", lpips::run_case),
    ("scheduler_", scheduler::run_case),
    ("ddim", ddim::run_case),
    ("ema_decay", train::run_ema_decay),
    ("train_", train::run_case),
    ("vae_", vae::run_case),
];

/// Which families run where. On the emulated GPU: what runs kernels, in sizes that it has done in seconds.
const MODES: &[(Mode, &[&str])] = &[
    (Mode::CPU, &[""]),
    (
        Mode::emulated(Precision::F32),
        &[
            "ddim",
            "ema_decay",
            "lpips_",
            "ops",
            "train_",
            "unet_",
            "vae_",
        ],
    ),
    (Mode::emulated(Precision::F16), REDUCED),
    (Mode::emulated(Precision::BF16), REDUCED),
];

/// Of each kind of noise estimator one, because each is also evaluated in `f64`, twice. The autoencoder's gradients of an
/// L1 loss are signs, which rounding flips; its training in reduced precision is compared in `tests/cuda/training.rs`.
const REDUCED: &[&str] = &["unet_small_g8", "unet_attn_linear", "unet_legacy_small"];

/// Whether a case of the full size, minutes on an emulated GPU, runs there: only where it is asked for.
fn too_large(mode: Mode, name: &str) -> bool {
    mode != Mode::CPU
        && name.contains("_full")
        && std::env::var_os("MEDFUSION_TEST_FULL_SIZE").is_none()
}

/// Families of parts that are not built yet.
const NOT_COVERED: &[&str] = &["metrics_", "inception_", "sd_autoencoder_"];

/// The folder, and whether it is the whole golden set.
fn folder() -> Result<(PathBuf, bool), String> {
    if let Some(folder) = std::env::var_os("MEDFUSION_GOLDEN") {
        return Ok((folder.into(), true));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let whole = root.join("../shared/golden");
    if whole.is_dir() {
        return Ok((whole, true));
    }
    if std::env::var_os("CI").is_some() {
        return Err(format!(
            "{} is missing; CI runs the whole golden set",
            whole.display()
        ));
    }
    Ok((root.join("tests/golden"), false))
}

/// The names of cases: file names without `.safetensors`. A container or a JSON file that no such file accounts for is a
/// case of its own, so that nothing in the folder goes unread.
fn case_names(folder: &Path) -> Result<BTreeSet<String>, String> {
    let entries = std::fs::read_dir(folder)
        .map_err(|error| format!("{}: cannot list: {error}", folder.display()))?;
    let files: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let mut names: BTreeSet<String> = files
        .iter()
        .filter_map(|name| Some(name.strip_suffix(".safetensors")?.to_owned()))
        .collect();
    let containers = files.iter().filter(|name| {
        [".ckpt", ".pt", ".pth"]
            .iter()
            .any(|ending| name.ends_with(ending))
    });
    for name in containers {
        let stem = name.split('.').next().unwrap_or_default();
        names.insert(format!("{stem}_expected"));
    }
    let described = files.iter().filter_map(|name| name.strip_suffix(".json"));
    names.extend(described.map(str::to_owned));
    Ok(names)
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let (folder, whole) = match folder() {
        Ok(found) => found,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::FAILURE;
        }
    };
    if !whole {
        eprintln!(
            "SKIPPED: {} has only a part of the golden set; set MEDFUSION_GOLDEN to the whole one",
            folder.display()
        );
    }
    let names = match case_names(&folder) {
        Ok(names) => names,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::FAILURE;
        }
    };
    let trials = MODES
        .iter()
        .flat_map(|&(mode, families)| names.iter().map(move |name| (mode, families, name.clone())))
        .filter(|(mode, families, name)| {
            families.iter().any(|family| name.starts_with(family)) && !too_large(*mode, name)
        })
        .map(|(mode, _, name)| {
            if NOT_COVERED.iter().any(|family| name.starts_with(family)) {
                eprintln!("not covered yet: {name}");
                return Trial::test(name, || Ok(())).with_ignored_flag(true);
            }
            let run = FAMILIES.iter().find(|(family, _)| name.starts_with(family));
            let folder = folder.clone();
            Trial::test(format!("{}{name}", mode.prefix()), move || {
                let (_, run) = run.ok_or("unknown family: add it to the golden suite")?;
                in_mode(mode, || run(&Case::open(&folder, &name)?))
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
