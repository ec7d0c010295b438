//! Compiled programs on disk, so that only the first run of a plan waits for the compiler.
//!
//! A file holds the BLAKE3 of its text in front of the text, so that a truncated or damaged one is compiled anew; it is
//! written beside and renamed, so that processes that share the folder never see half a file. A cache that cannot be
//! written is said once and done without.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Once;

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

/// PTX of a program, from the cache or the compiler.
///
/// # Errors
/// If NVRTC is missing or refuses the program.
pub(super) fn ptx(program: &Program, capability: (u32, u32)) -> Result<String, CudaError> {
    let version = nvrtc::nvrtc()?.version();
    let path = folder().map(|folder| folder.join(file_name(program, capability, version)));
    if let Some(text) = path.as_ref().and_then(read) {
        return Ok(text);
    }
    let text = nvrtc::compile(program, capability)?;
    if let Some(path) = path {
        write(&path, &text);
    }
    Ok(text)
}

/// Named by everything the text depends on.
fn file_name(program: &Program, capability: (u32, u32), version: (i32, i32)) -> String {
    let mut hash = blake3::Hasher::new();
    let mut add = |text: &str| {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    add(&format!("nvrtc {}.{}", version.0, version.1));
    nvrtc::options(program, capability)
        .iter()
        .for_each(|option| add(option));
    add(&nvrtc::program_text(program).unwrap_or_default());
    for (name, text) in sources().iter().filter(|(name, _)| name.ends_with(".cuh")) {
        add(name);
        add(text);
    }
    format!("{}.ptx", hash.finalize().to_hex())
}

fn read(path: &PathBuf) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let (digest, text) = bytes.split_at_checked(blake3::OUT_LEN)?;
    (blake3::hash(text).as_bytes() == digest).then(|| String::from_utf8(text.to_vec()).ok())?
}

fn write(path: &PathBuf, text: &str) {
    let store = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(path);
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(blake3::hash(text.as_bytes()).as_bytes())?;
        file.write_all(text.as_bytes())?;
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
