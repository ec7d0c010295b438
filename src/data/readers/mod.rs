//! One reader per layout, and the choice between them.

mod chexpert;
mod files;
mod folder;
mod labels;
mod masks;
mod npz;
mod paths;
mod resolve;
mod table;

use std::path::Path;

use super::dataset::{DataFormat, Dataset, OpenOptions};
use super::error::DataError;
use files::{Folder, Tree};
use paths::extension_of;

/// Reads `path` with the reader that the options name or, for [`DataFormat::Auto`], that fits.
pub(super) fn read(path: &Path, options: &OpenOptions) -> Result<Dataset, DataError> {
    let meta = path.metadata().map_err(DataError::io("open", path))?;
    if !meta.is_dir() {
        return match options.format {
            DataFormat::Medmnist => npz::read(path),
            DataFormat::Auto if extension_of(path) == "npz" => npz::read(path),
            DataFormat::Auto => Err(DataError::Unrecognised {
                path: path.to_owned(),
                found: "a file that is no .npz".to_owned(),
            }),
            given => Err(DataError::Options(format!(
                "`{}` is a file: the {} layout is a folder",
                path.display(),
                given.name()
            ))),
        };
    }
    let tree = Tree::walk(path, options)?;
    match options.format {
        DataFormat::Auto => read_what_fits(path, &tree, options),
        DataFormat::Medmnist => npz::read(&npz::inside(&tree.top)?),
        DataFormat::Chexpert => chexpert::read(
            &tree,
            only_folder_with_tables(&tree)?.unwrap_or(&tree.top),
            options,
        ),
        DataFormat::Airogs | DataFormat::Labels => match labels::find(&tree, options)? {
            Some(files) => labels::read(&tree, &files, options),
            None => Err(DataError::malformed(
                path,
                None,
                "no table (.csv, .tsv) with a column for the file and one for the label",
            )),
        },
        DataFormat::Crcdx => folder::read(&tree, Some(&folder::CRCDX_CLASSES)),
        DataFormat::Folder => folder::read(&tree, None),
    }
    .map(|set| match options.format {
        DataFormat::Auto => set,
        format => Dataset { format, ..set },
    })
}

fn read_what_fits(path: &Path, tree: &Tree, options: &OpenOptions) -> Result<Dataset, DataError> {
    if options.labels.is_none()
        && let Some(folder) = only_folder_with_tables(tree)?
    {
        return chexpert::read(tree, folder, options);
    }
    if let Some(files) = labels::find(tree, options)? {
        return labels::read(tree, &files, options);
    }
    let layout = folder::FolderLayout::of(tree);
    if layout.classes() == folder::CRCDX_CLASSES {
        let set = folder::read(tree, Some(&folder::CRCDX_CLASSES))?;
        return Ok(Dataset {
            format: DataFormat::Crcdx,
            ..set
        });
    }
    if tree.top.holds_images() {
        return folder::read(tree, None);
    }
    if tree.top.with_extension("npz").count() == 1 {
        return npz::read(&npz::inside(&tree.top)?);
    }
    Err(DataError::Unrecognised {
        path: path.to_owned(),
        found: layout.describe(&tree.left_out(&[])),
    })
}

/// The folder with CheXpert's tables: the top one, or the only one of those below it that has them.
fn only_folder_with_tables(tree: &Tree) -> Result<Option<&Folder>, DataError> {
    if !chexpert::label_files(&tree.top)?.is_empty() {
        return Ok(Some(&tree.top));
    }
    let mut found = None;
    for folder in &tree.top.folders {
        if !chexpert::label_files(folder)?.is_empty() && found.replace(folder).is_some() {
            return Ok(None);
        }
    }
    Ok(found)
}
