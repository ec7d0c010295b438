//! One reader per layout, and the choice between them.

mod airogs;
mod chexpert;
mod csv;
mod files;
mod folder;
mod npz;

use std::path::Path;

use super::dataset::{DataFormat, Dataset, OpenOptions};
use super::error::DataError;

/// Reads `path` with the reader that the options name or, for [`DataFormat::Auto`], that fits.
pub(super) fn read(path: &Path, options: &OpenOptions) -> Result<Dataset, DataError> {
    let meta = path.metadata().map_err(DataError::io("open", path))?;
    let format = match options.format {
        DataFormat::Auto => detect(path, meta.is_dir())?,
        given => given,
    };
    if format != DataFormat::Medmnist && !meta.is_dir() {
        return Err(DataError::Options(format!(
            "`{}` is a file: the {} layout is a folder",
            path.display(),
            format.name()
        )));
    }
    match format {
        DataFormat::Medmnist => npz::read(path),
        DataFormat::Airogs => airogs::read(path),
        DataFormat::Chexpert => chexpert::read(path, options),
        DataFormat::Crcdx => folder::read(path, Some(&["MSIH", "nonMSIH"])),
        DataFormat::Folder | DataFormat::Auto => folder::read(path, None),
    }
    .map(|set| Dataset { format, ..set })
}

fn detect(path: &Path, is_folder: bool) -> Result<DataFormat, DataError> {
    if !is_folder {
        return if path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("npz"))
        {
            Ok(DataFormat::Medmnist)
        } else {
            Err(DataError::Unrecognised {
                path: path.to_owned(),
                found: "a file that is no .npz".to_owned(),
            })
        };
    }
    if airogs::label_file(path)?.is_some() {
        return Ok(DataFormat::Airogs);
    }
    if !chexpert::label_files(path)?.is_empty() {
        return Ok(DataFormat::Chexpert);
    }
    let layout = folder::FolderLayout::of(path)?;
    if layout.classes() == ["MSIH", "nonMSIH"] {
        return Ok(DataFormat::Crcdx);
    }
    if layout.holds_images()? {
        return Ok(DataFormat::Folder);
    }
    if npz::inside(path)?.is_some() {
        return Ok(DataFormat::Medmnist);
    }
    Err(DataError::Unrecognised {
        path: path.to_owned(),
        found: layout.describe(),
    })
}
