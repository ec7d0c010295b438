//! A file's bytes in memory without reading them: tensors are windows into the map.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use super::Problem;
use crate::tensor::Storage;

/// A shared, read-only view of a whole file.
pub(crate) type SharedBytes = Arc<dyn Storage>;

/// A mapped file.
struct MappedFile(Mmap);

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Storage for MappedFile {
    fn release(&self, start: usize, len: usize) {
        #[cfg(unix)]
        // SAFETY: the map is read-only, so no page differs from the file's: a dropped one reads as the same bytes again.
        // The neighbours that share the range's first and last page are read again likewise. Failing to give memory back
        // changes nothing.
        unsafe {
            let _ = self
                .0
                .unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, len);
        }
    }
}

/// Maps the regular file at `path`.
pub(crate) fn map_file(path: &Path) -> Result<SharedBytes, Problem> {
    let file = File::open(path).map_err(Problem::io("open"))?;
    let metadata = file.metadata().map_err(Problem::io("read"))?;
    if !metadata.is_file() {
        return Err(Problem::Foreign {
            found: "not a regular file".to_owned(),
        });
    }
    if metadata.len() == 0 {
        return Err(Problem::Foreign {
            found: "the file is empty".to_owned(),
        });
    }
    // SAFETY: the map is read-only and private to this process. Model files are replaced by rename, never rewritten
    // in place (see `atomic`), so their bytes stay as they are while a map of the old file lives; who truncates a
    // model in place under a running program gets a bus error, as with any memory-mapped format.
    let map = unsafe { Mmap::map(&file) }.map_err(Problem::io("map"))?;
    Ok(Arc::new(MappedFile(map)))
}
