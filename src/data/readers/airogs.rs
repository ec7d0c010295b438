//! AIROGS: `train_labels.csv` (`challenge_id,class`) and `<challenge_id>.jpg` files in or below the same folder.
//!
//! Classes are `NRG` (no referable glaucoma, 0) and `RG` (referable glaucoma, 1).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::csv::{csv_error, csv_header};
use super::files::{images_below, list, stem_of};
use crate::data::dataset::{Dataset, Format, Sample, Source};
use crate::data::error::{DataError, Problem};

const CLASSES: [&str; 2] = ["NRG", "RG"];

/// The csv file with AIROGS' columns in `root`, if there is one.
pub(super) fn label_file(root: &Path) -> Result<Option<PathBuf>, DataError> {
    for path in list(root)?.others {
        if path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("csv"))
        {
            let header = csv_header(&path)?;
            let has = |name| header.iter().any(|h| h == name);
            if has("challenge_id") && has("class") {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

pub(super) fn read(root: &Path) -> Result<Dataset, DataError> {
    let labels = label_file(root)?.ok_or_else(|| {
        DataError::malformed(
            root,
            None,
            "no csv file with the columns `challenge_id` and `class`",
        )
    })?;
    let mut problems = Vec::new();
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    for path in images_below(root)?.0 {
        let id = stem_of(&path);
        if let Some(first) = files.get(&id) {
            let places = format!("`{}` and `{}`", first.display(), path.display());
            problems.push(Problem::DuplicateId { id, places });
        } else {
            files.insert(id, path);
        }
    }

    let mut reader = ::csv::Reader::from_path(&labels).map_err(|e| csv_error(&labels, &e))?;
    let header = csv_header(&labels)?;
    let column = |name: &str| header.iter().position(|h| h == name).unwrap_or_default();
    let (id_column, class_column) = (column("challenge_id"), column("class"));
    let mut lines: BTreeMap<String, u64> = BTreeMap::new();
    let mut samples = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| csv_error(&labels, &e))?;
        let line = record.position().map_or(0, ::csv::Position::line);
        let id = record[id_column].trim().to_owned();
        let label = record[class_column].trim();
        if let Some(first) = lines.insert(id.clone(), line) {
            let places = format!("lines {first} and {line}");
            problems.push(Problem::DuplicateId { id, places });
            continue;
        }
        let Some(class) = CLASSES.iter().position(|c| *c == label) else {
            problems.push(Problem::UnknownClass {
                id,
                class: label.to_owned(),
                line,
                known: "NRG or RG".to_owned(),
            });
            continue;
        };
        match files.get(&id) {
            Some(path) => samples.push(Sample {
                id,
                source: Source::File(path.clone()),
                class,
                split: None,
            }),
            None => problems.push(Problem::MissingImage { id, line }),
        }
    }
    for (id, path) in files {
        if !lines.contains_key(&id) {
            problems.push(Problem::Unlabelled { path });
        }
    }
    samples.sort_by(|a, b| (a.class, &a.id).cmp(&(b.class, &b.id)));
    Ok(Dataset {
        root: root.to_owned(),
        format: Format::Airogs,
        classes: CLASSES.map(str::to_owned).to_vec(),
        samples,
        problems,
        notes: Vec::new(),
    })
}
