//! What readers of label tables share.

use std::path::Path;

use crate::data::error::DataError;

/// The bytes of a csv file's header, split; empty where it cannot be read as csv.
pub(super) fn csv_header(path: &Path) -> Result<Vec<String>, DataError> {
    let mut reader = ::csv::ReaderBuilder::new()
        .from_path(path)
        .map_err(|e| csv_error(path, &e))?;
    let header = reader.headers().map_err(|e| csv_error(path, &e))?;
    Ok(header
        .iter()
        .map(|name| name.trim_start_matches('\u{feff}').trim().to_owned())
        .collect())
}

pub(super) fn csv_error(path: &Path, error: &::csv::Error) -> DataError {
    let line = error.position().map(::csv::Position::line);
    DataError::malformed(path, line, error.to_string())
}
