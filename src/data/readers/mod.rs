//! One reader per layout, and the choice between them.

mod airogs;
mod chexpert;
mod csv;
mod files;
mod folder;
mod npz;

use std::path::Path;

use super::dataset::{Dataset, Format, OpenOptions};
use super::error::DataError;

/// Reads `path` with the reader that the options name or, for [`Format::Auto`], that fits.
pub(super) fn read(path: &Path, options: &OpenOptions) -> Result<Dataset, DataError> {
    let meta = path.metadata().map_err(DataError::io("open", path))?;
    let format = match options.format {
        Format::Auto => detect(path, meta.is_dir())?,
        given => given,
    };
    if format != Format::Medmnist && !meta.is_dir() {
        return Err(DataError::Options(format!(
            "`{}` is a file: the {} layout is a folder",
            path.display(),
            format.name()
        )));
    }
    match format {
        Format::Medmnist => npz::read(path),
        Format::Airogs => airogs::read(path),
        Format::Chexpert => chexpert::read(path, options),
        Format::Crcdx => folder::read(path, Some(&["MSIH", "nonMSIH"])),
        Format::Folder | Format::Auto => folder::read(path, None),
    }
    .map(|set| Dataset { format, ..set })
}

fn detect(path: &Path, is_folder: bool) -> Result<Format, DataError> {
    if !is_folder {
        return if path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("npz"))
        {
            Ok(Format::Medmnist)
        } else {
            Err(DataError::Unrecognised {
                path: path.to_owned(),
                found: "a file that is no .npz".to_owned(),
            })
        };
    }
    if airogs::label_file(path)?.is_some() {
        return Ok(Format::Airogs);
    }
    if !chexpert::label_files(path)?.is_empty() {
        return Ok(Format::Chexpert);
    }
    let layout = folder::Layout::of(path)?;
    if layout.classes() == ["MSIH", "nonMSIH"] {
        return Ok(Format::Crcdx);
    }
    if layout.holds_images()? {
        return Ok(Format::Folder);
    }
    if npz::inside(path)?.is_some() {
        return Ok(Format::Medmnist);
    }
    Err(DataError::Unrecognised {
        path: path.to_owned(),
        found: layout.describe(),
    })
}
