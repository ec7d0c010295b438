//! Files that appear whole or not at all: written beside, flushed to disk, renamed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Replaces `path` with what `write` produces, or leaves it exactly as it was.
///
/// The content goes to a hidden temporary file in the same folder, is flushed to the disk, and takes the name in one
/// rename; on any error (a full disk included) the temporary file is removed.
///
/// # Errors
/// What `write` or the operating system reports.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let folder = parent_of(path);
    let mut file = tempfile::Builder::new()
        .prefix(".medfusion-")
        .suffix(".tmp")
        .permissions(default_permissions())
        .tempfile_in(folder)?;
    {
        let mut buffered = io::BufWriter::with_capacity(1 << 16, file.as_file_mut());
        write(&mut buffered)?;
        buffered.flush()?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    sync_folder(folder)
}

/// [`write_atomically`] of bytes at hand.
///
/// # Errors
/// What the operating system reports.
pub fn write_bytes_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_atomically(path, |out| out.write_all(bytes))
}

/// Makes renames and removals inside `folder` durable.
///
/// # Errors
/// What the operating system reports.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes a folder so that no reader meets it half empty: it is renamed out of sight first.
///
/// # Errors
/// What the operating system reports.
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    let mut hidden = std::ffi::OsString::from(".trash-");
    hidden.push(folder.file_name().unwrap_or_default());
    let trash = parent_of(folder).join(hidden);
    if trash.exists() {
        fs::remove_dir_all(&trash)?;
    }
    fs::rename(folder, &trash)?;
    fs::remove_dir_all(&trash)
}

/// The folder that holds `path`; `.` for a bare name.
pub fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Output files are for sharing: temporary files are private by default, which a rename would keep.
fn default_permissions() -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    fs::Permissions::from_mode(0o666)
}
