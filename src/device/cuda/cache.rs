//! Compiled programs on disk, so that only the first run of a plan waits for the compiler.
//!
//! A file holds the BLAKE3 of its code in front of the code, so that a truncated or damaged one is compiled anew; it is
//! written beside and renamed, so that processes that share the folder never see half a file. A cache that cannot be
//! written is said once and done without.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Once;

use super::code::Code;
use super::error::CudaError;
use super::nvrtc;
use crate::bytes::mib;
use crate::kernel::cuda::launch::{Program, sources};

/// The cache's folder: `MEDFUSION_CACHE`, else `medfusion` under `XDG_CACHE_HOME` or `~/.cache`.
pub(super) fn folder() -> Option<PathBuf> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    variable("MEDFUSION_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("medfusion")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/medfusion")))
}

/// The folder, how many programs it holds and how large they are.
///
/// # Errors
/// If it cannot be written; says why and what to do.
pub(super) fn state() -> Result<String, String> {
    let folder =
        folder().ok_or("no HOME and no XDG_CACHE_HOME: name a folder in MEDFUSION_CACHE")?;
    let named = |error: std::io::Error| {
        format!(
            "{} cannot be written ({error}): kernels are compiled at every start; MEDFUSION_CACHE names another folder",
            folder.display()
        )
    };
    fs::create_dir_all(&folder).map_err(named)?;
    tempfile::tempfile_in(&folder).map_err(named)?;
    let sizes: Vec<usize> = fs::read_dir(&folder)
        .map_err(named)?
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .map(|metadata| metadata.len() as usize)
        .collect();
    Ok(format!(
        "{} ({} programs, {:.1} MiB)",
        folder.display(),
        sizes.len(),
        mib(sizes.iter().sum())
    ))
}

/// A program compiled to `code`, from the cache or the compiler.
///
/// # Errors
/// If NVRTC is missing or refuses the program.
pub(super) fn compiled(program: &Program, code: Code) -> Result<Vec<u8>, CudaError> {
    let version = nvrtc::nvrtc()?.version();
    let path = folder().map(|folder| folder.join(file_name(program, code, version)));
    if let Some(bytes) = path.as_ref().and_then(read) {
        return Ok(bytes);
    }
    let bytes = nvrtc::compile(program, code)?;
    if let Some(path) = path {
        write(&path, &bytes);
    }
    Ok(bytes)
}

/// Named by everything the code depends on.
fn file_name(program: &Program, code: Code, version: (i32, i32)) -> String {
    let mut hash = blake3::Hasher::new();
    let mut add = |text: &str| {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    add(&format!("nvrtc {}.{}", version.0, version.1));
    nvrtc::options(program, code)
        .iter()
        .for_each(|option| add(option));
    add(&nvrtc::program_text(program).unwrap_or_default());
    for (name, text) in sources().iter().filter(|(name, _)| name.ends_with(".cuh")) {
        add(name);
        add(text);
    }
    format!("{}.{}", hash.finalize().to_hex(), code.extension())
}

fn read(path: &PathBuf) -> Option<Vec<u8>> {
    let bytes = fs::read(path).ok()?;
    let (digest, code) = bytes.split_at_checked(blake3::OUT_LEN)?;
    (blake3::hash(code).as_bytes() == digest).then(|| code.to_vec())
}

fn write(path: &PathBuf, code: &[u8]) {
    let store = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(path);
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(blake3::hash(code).as_bytes())?;
        file.write_all(code)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    if let Err(error) = store() {
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            let folder = path.parent().unwrap_or(path).display();
            tracing::warn!("kernels are compiled at every start: {folder} cannot be written ({error}); MEDFUSION_CACHE names another folder");
        });
    }
}
