//! Resumable training state: checkpoints that are whole or not there, and the choice of the newest whole one.
//!
//! ```text
//! checkpoints/
//!   lock                     held by the running process
//!   step-000001000/          one checkpoint
//!     weights.safetensors    one file per part: weights, ema, optimizer moments, …
//!     state.json             counters, data position, whatever else the run needs to go on
//!     CHECKSUMS              BLAKE3 of every other file, one per line (in the format of `b3sum`)
//!   last -> step-000002000   for people and tools; the loader does not trust it
//!   best -> step-000001000
//! ```
//!
//! A checkpoint is written to a hidden folder, every file flushed to the disk, and then renamed. A process killed at
//! any moment, or a full disk, leaves the earlier checkpoints as they were and at most a hidden folder, which the next
//! run removes. A checkpoint whose checksums do not hold is passed over for the one before it.

mod part;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::checkpoint::map_file;
use crate::data::Position;
use crate::files::{remove_folder, sync_folder};
use crate::tensor::TensorMap;

/// What can go wrong with checkpoints.
#[derive(Debug, Error)]
pub enum StateError {
    /// The operating system refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as in "cannot write".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another process trains in the same folder.
    #[error(
        "`{}` is in use by another run; stop it or choose another output folder",
        .0.display()
    )]
    InUse(PathBuf),
    /// A checkpoint that is not what its checksums say.
    #[error("the checkpoint `{}` is damaged: {problem}", path.display())]
    Damaged {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The first file that is wrong, and how.
        problem: String,
    },
    /// There are checkpoints, and none can be used.
    #[error("none of the checkpoints in `{}` can be read; the newest: {newest}", path.display())]
    NoneIntact {
        /// The folder of the checkpoints.
        path: PathBuf,
        /// Why the newest one cannot be read.
        newest: Box<StateError>,
    },
    /// A state that cannot be stored.
    #[error("cannot store the state: {0}")]
    Unstorable(String),
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io {
        action,
        path,
        source,
    }
}

/// Counters that every training run resumes with.
///
/// Random numbers need no state of their own: they are a function of `seed` and `step`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunProgress {
    /// Optimizer steps that are done.
    pub step: u64,
    /// Seed that the run began with.
    pub seed: u64,
    /// Where the data goes on.
    pub position: Position,
    /// EMA updates that are done.
    pub ema_updates: u64,
    /// Images that went through the network.
    pub images: u64,
    /// Training time so far, over all resumptions.
    pub elapsed_s: f64,
    /// Best value of the metric that decides on `best`, and its step.
    pub best: Option<(f64, u64)>,
}

/// Everything that a run needs to go on as if it had never stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainState {
    /// Counters of the run.
    pub progress: RunProgress,
    /// Tensors by part; a part becomes a file, so its name is made of letters, digits, `_` and `-`.
    pub parts: BTreeMap<String, TensorMap>,
    /// Whatever else the task keeps: counters of its own, a hash of the run file, curves.
    pub extra: serde_json::Value,
}

#[derive(Serialize, Deserialize)]
struct StateFile {
    format: u32,
    progress: RunProgress,
    extra: serde_json::Value,
}

const FORMAT: u32 = 1;
const STATE: &str = "state.json";
const CHECKSUMS: &str = "CHECKSUMS";

/// The checkpoints of one run.
#[derive(Debug)]
pub struct CheckpointFolder {
    path: PathBuf,
    keep: usize,
    /// Held for as long as the run lives; the operating system releases it at any death.
    _lock: File,
}

impl CheckpointFolder {
    /// Takes the folder for a run, making it if need be, and clears away what a killed run left half-written.
    /// [`CheckpointFolder::save`] will keep the newest `keep` checkpoints (at least 1) and the best.
    ///
    /// # Errors
    /// If another process holds it, or the operating system refuses.
    pub fn open(path: &Path, keep: usize) -> Result<Self, StateError> {
        fs::create_dir_all(path).map_err(io_error("make", path))?;
        let lock_path = path.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(io_error("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(StateError::InUse(path.to_owned())),
            Err(fs::TryLockError::Error(e)) => return Err(io_error("lock", &lock_path)(e)),
        }
        for entry in fs::read_dir(path).map_err(io_error("list", path))? {
            let entry = entry.map_err(io_error("list", path))?.path();
            let name = name_of(&entry);
            if name.starts_with(".tmp-") || name.starts_with(".trash-") {
                let removed = if entry.is_dir() && !entry.is_symlink() {
                    fs::remove_dir_all(&entry)
                } else {
                    fs::remove_file(&entry)
                };
                removed.map_err(io_error("remove", &entry))?;
            }
            // Killed between the two renames of a replacement.
            let original = entry.with_extension("");
            if name.starts_with("step-") && name.ends_with(".old") && !original.exists() {
                fs::rename(&entry, &original).map_err(io_error("rename", &entry))?;
            }
        }
        Ok(Self {
            path: path.to_owned(),
            keep: keep.max(1),
            _lock: lock,
        })
    }

    /// Writes a checkpoint for `state.progress.step`, points `last` (and `best`, if `is_best`) at it, and removes
    /// checkpoints that are neither among the newest nor the best. Returns its folder.
    ///
    /// # Errors
    /// If the state cannot be stored or the disk refuses; earlier checkpoints are then as they were.
    pub fn save(&self, state: &TrainState, is_best: bool) -> Result<PathBuf, StateError> {
        let parts = state.parts.iter();
        let parts = parts.map(|(name, tensors)| Ok((name.clone(), Cow::Borrowed(tensors))));
        self.save_parts(&state.progress, &state.extra, parts, is_best)
    }

    /// [`CheckpointFolder::save`] of a state whose parts are fetched one after the other: each is written and let go of
    /// before the next, so that saving takes the memory of one part.
    ///
    /// # Errors
    /// As [`CheckpointFolder::save`], or what `parts` fails with.
    pub fn save_parts<'a>(
        &self,
        progress: &RunProgress,
        extra: &serde_json::Value,
        parts: impl Iterator<Item = Result<(String, Cow<'a, TensorMap>), StateError>>,
        is_best: bool,
    ) -> Result<PathBuf, StateError> {
        let name = format!("step-{:09}", progress.step);
        let target = self.path.join(&name);
        let temporary = self.path.join(format!(".tmp-{name}"));
        if temporary.exists() {
            fs::remove_dir_all(&temporary).map_err(io_error("remove", &temporary))?;
        }
        if let Err(error) = write_checkpoint(&temporary, progress, extra, parts) {
            // What cannot be removed now is removed when the folder is next opened.
            let _ = fs::remove_dir_all(&temporary);
            return Err(error);
        }
        // A step that was saved before stays readable under another name until the new one is in place.
        let replaced = self.path.join(format!("{name}.old"));
        if target.exists() {
            if replaced.exists() {
                remove_folder(&replaced).map_err(io_error("remove", &replaced))?;
            }
            fs::rename(&target, &replaced).map_err(io_error("rename", &target))?;
        }
        fs::rename(&temporary, &target).map_err(io_error("rename", &temporary))?;
        sync_folder(&self.path).map_err(io_error("flush", &self.path))?;
        self.point("last", &name)?;
        if is_best {
            self.point("best", &name)?;
        }
        self.rotate()?;
        Ok(target)
    }

    /// The newest checkpoint that is whole, with its folder; `None` if there is none at all. Damaged ones are named in
    /// the log.
    ///
    /// # Errors
    /// If there are checkpoints but none can be read.
    pub fn newest(&self) -> Result<Option<(PathBuf, TrainState)>, StateError> {
        newest(&self.path)
    }

    /// The best checkpoint so far, if one was marked.
    pub fn best(&self) -> Option<PathBuf> {
        let target = fs::read_link(self.path.join("best")).ok()?;
        let folder = self.path.join(target);
        folder.is_dir().then_some(folder)
    }

    /// Replaces a link in one rename.
    fn point(&self, link: &str, target: &str) -> Result<(), StateError> {
        let path = self.path.join(link);
        let temporary = self.path.join(format!(".tmp-{link}"));
        if temporary.is_symlink() {
            fs::remove_file(&temporary).map_err(io_error("remove", &temporary))?;
        }
        std::os::unix::fs::symlink(target, &temporary).map_err(io_error("make", &temporary))?;
        fs::rename(&temporary, &path).map_err(io_error("rename", &temporary))?;
        sync_folder(&self.path).map_err(io_error("flush", &self.path))
    }

    fn rotate(&self) -> Result<(), StateError> {
        let best = self.best();
        for (rank, (_, folder)) in candidates(&self.path)?.into_iter().enumerate() {
            let is_replaced = folder.extension().is_some();
            if is_replaced || (rank >= self.keep && best.as_ref() != Some(&folder)) {
                remove_folder(&folder).map_err(io_error("remove", &folder))?;
            }
        }
        Ok(())
    }
}

/// The newest whole checkpoint below `path`, as [`CheckpointFolder::newest`], without taking the folder for a run.
///
/// # Errors
/// If there are checkpoints but none can be read.
pub fn newest(path: &Path) -> Result<Option<(PathBuf, TrainState)>, StateError> {
    let mut first_error = None;
    for (_, folder) in candidates(path)? {
        match load(&folder) {
            Ok(state) => return Ok(Some((folder, state))),
            Err(error) => {
                tracing::warn!("{error}; trying the one before it");
                first_error.get_or_insert(error);
            }
        }
    }
    match first_error {
        None => Ok(None),
        Some(newest) => Err(StateError::NoneIntact {
            path: path.to_owned(),
            newest: Box::new(newest),
        }),
    }
}

/// Checkpoint folders with their steps, newest first; one that is being replaced comes after its replacement.
fn candidates(path: &Path) -> Result<Vec<(u64, PathBuf)>, StateError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(io_error("list", path))? {
        let folder = entry.map_err(io_error("list", path))?.path();
        let name = name_of(&folder);
        let step = name
            .strip_prefix("step-")
            .map(|rest| rest.strip_suffix(".old").unwrap_or(rest))
            .and_then(|digits| digits.parse::<u64>().ok());
        if let Some(step) = step
            && folder.is_dir()
        {
            found.push((step, folder));
        }
    }
    found.sort_by(|a, b| (b.0, a.1.extension()).cmp(&(a.0, b.1.extension())));
    Ok(found)
}

/// Reads one checkpoint folder and checks every byte of it.
///
/// # Errors
/// If a file is missing or is not what the checksums say.
pub fn load(folder: &Path) -> Result<TrainState, StateError> {
    let damaged = |problem: String| StateError::Damaged {
        path: folder.to_owned(),
        problem,
    };
    let unread =
        |name: &str, error: &dyn std::fmt::Display| damaged(format!("cannot read {name}: {error}"));
    let sums = fs::read(folder.join(CHECKSUMS)).map_err(|e| unread(CHECKSUMS, &e))?;
    let sums = String::from_utf8(sums).map_err(|_| damaged(format!("{CHECKSUMS} is not text")))?;
    let mut state: Option<StateFile> = None;
    let mut parts = BTreeMap::new();
    for line in sums.lines() {
        let (sum, name) = line
            .split_once("  ")
            .ok_or_else(|| damaged(format!("{CHECKSUMS} holds the line `{line}`")))?;
        if !is_file_name(name) {
            return Err(damaged(format!("{CHECKSUMS} names the file `{name}`")));
        }
        // Mapped: a large state is not in memory a second time until its tensors are asked for.
        let bytes = map_file(&folder.join(name)).map_err(|e| unread(name, &e))?;
        let content = (*bytes).as_ref();
        let sum_found = blake3::hash(content);
        if sum_found.to_hex().as_str() != sum {
            return Err(damaged(format!("{name} does not have its checksum")));
        }
        if name == STATE {
            let parsed = serde_json::from_slice(content);
            state = Some(parsed.map_err(|e| damaged(format!("{STATE}: {e}")))?);
        } else if let Some(part) = name.strip_suffix(".safetensors") {
            bytes.release(0, content.len());
            let tensors = part::read(&bytes).map_err(|e| damaged(format!("{name}: {e}")))?;
            parts.insert(part.to_owned(), tensors);
        }
    }
    let state = state.ok_or_else(|| damaged(format!("{CHECKSUMS} does not name {STATE}")))?;
    if state.format != FORMAT {
        return Err(damaged(format!(
            "{STATE} has format {}, this version reads {FORMAT}",
            state.format
        )));
    }
    Ok(TrainState {
        progress: state.progress,
        parts,
        extra: state.extra,
    })
}

fn write_checkpoint<'a>(
    folder: &Path,
    progress: &RunProgress,
    extra: &serde_json::Value,
    parts: impl Iterator<Item = Result<(String, Cow<'a, TensorMap>), StateError>>,
) -> Result<(), StateError> {
    fs::create_dir(folder).map_err(io_error("make", folder))?;
    let mut sums = String::new();
    for part in parts {
        let (part, tensors) = part?;
        let name = format!("{part}.safetensors");
        if !is_file_name(&name) || part.is_empty() {
            return Err(StateError::Unstorable(format!(
                "`{part}` is no name for a part: expected letters, digits, `_` and `-`"
            )));
        }
        let path = folder.join(&name);
        part::write(&path, &tensors).map_err(io_error("write", &path))?;
        sums += &flush_and_sum(&path, &name)?;
    }
    let file = StateFile {
        format: FORMAT,
        progress: progress.clone(),
        extra: extra.clone(),
    };
    let json =
        serde_json::to_vec_pretty(&file).map_err(|e| StateError::Unstorable(e.to_string()))?;
    let path = folder.join(STATE);
    fs::write(&path, json).map_err(io_error("write", &path))?;
    sums += &flush_and_sum(&path, STATE)?;

    let path = folder.join(CHECKSUMS);
    let mut file = File::create(&path).map_err(io_error("write", &path))?;
    file.write_all(sums.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(io_error("write", &path))?;
    sync_folder(folder).map_err(io_error("flush", folder))
}

/// Flushes a file to the disk and returns its line of [`CHECKSUMS`], computed from what can be read back.
fn flush_and_sum(path: &Path, name: &str) -> Result<String, StateError> {
    let mut file = File::open(path).map_err(io_error("read", path))?;
    file.sync_all().map_err(io_error("flush", path))?;
    let mut hasher = blake3::Hasher::new();
    hasher
        .update_reader(&mut file)
        .map_err(io_error("read", path))?;
    Ok(format!("{}  {name}\n", hasher.finalize().to_hex()))
}

/// True for the names that this file writes: nothing that leads out of a folder.
fn is_file_name(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default();
    !stem.is_empty()
        && stem
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        && (name == STATE || name.strip_suffix(".safetensors") == Some(stem))
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
