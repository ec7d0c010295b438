//! CheXpert: `train.csv` / `valid.csv` / `test.csv` over `CheXpert-v1.0/train/patientN/studyN/viewN_frontal.jpg`.
//!
//! Frontal views only. One finding column becomes the class: `No <finding>` (0) or `<finding>` (1). A finding of -1
//! (uncertain) or without an entry is unknown and follows the [`UnknownPolicy`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::csv::{csv_error, csv_header};
use super::files::{images_below, list, name_of, stem_of};
use crate::data::dataset::{Dataset, Format, OpenOptions, Sample, Source, UnknownPolicy};
use crate::data::error::{DataError, Problem};
use crate::data::split::Split;

const VIEW: &str = "Frontal/Lateral";

/// CheXpert's label files in `root` with their splits.
pub(super) fn label_files(root: &Path) -> Result<Vec<(Split, PathBuf)>, DataError> {
    let mut files = Vec::new();
    for path in list(root)?.others {
        if !path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("csv"))
        {
            continue;
        }
        let split = match stem_of(&path).to_ascii_lowercase().as_str() {
            "train" => Split::Train,
            "valid" | "val" => Split::Val,
            "test" => Split::Test,
            _ => continue,
        };
        let header = csv_header(&path)?;
        if header.iter().any(|h| h == "Path") && header.iter().any(|h| h == VIEW) {
            files.push((split, path));
        }
    }
    files.sort();
    Ok(files)
}

pub(super) fn read(root: &Path, options: &OpenOptions) -> Result<Dataset, DataError> {
    let tables = label_files(root)?;
    if tables.is_empty() {
        return Err(DataError::malformed(
            root,
            None,
            format!("no train.csv, valid.csv or test.csv with the columns `Path` and `{VIEW}`"),
        ));
    }
    let mut found = Found::default();
    for (split, table) in &tables {
        found.read_table(root, *split, table, options)?;
    }
    found.find_unlabelled()?;
    let mut notes = Vec::new();
    if found.lateral > 0 {
        notes.push(format!("{} lateral views were left out", found.lateral));
    }
    if found.unknown > 0 {
        let outcome = match options.unknown {
            UnknownPolicy::Negative => "count as negative",
            UnknownPolicy::Positive => "count as positive",
            UnknownPolicy::Skip => "were left out",
        };
        notes.push(format!("{} unknown findings {outcome}", found.unknown));
    }
    found
        .samples
        .sort_by(|a, b| (a.split, a.class, &a.id).cmp(&(b.split, b.class, &b.id)));
    Ok(Dataset {
        root: root.to_owned(),
        format: Format::Chexpert,
        classes: vec![format!("No {}", options.finding), options.finding.clone()],
        samples: found.samples,
        problems: found.problems,
        notes,
    })
}

#[derive(Default)]
struct Found {
    samples: Vec<Sample>,
    problems: Vec<Problem>,
    /// Labelled paths as resolved, and where they were labelled.
    labelled: BTreeMap<PathBuf, String>,
    /// Folders whose images ought to be labelled: those right above the patients.
    folders: BTreeSet<PathBuf>,
    lateral: usize,
    unknown: usize,
}

impl Found {
    fn read_table(
        &mut self,
        root: &Path,
        split: Split,
        table: &Path,
        options: &OpenOptions,
    ) -> Result<(), DataError> {
        let header = csv_header(table)?;
        let column = |name: &str| {
            header.iter().position(|h| h == name).ok_or_else(|| {
                let message = format!("no column `{name}`; the columns are {}", header.join(", "));
                DataError::malformed(table, Some(1), message)
            })
        };
        let (path_column, view_column) = (column("Path")?, column(VIEW)?);
        let finding_column = column(&options.finding)?;
        let mut reader = ::csv::Reader::from_path(table).map_err(|e| csv_error(table, &e))?;
        for record in reader.records() {
            let record = record.map_err(|e| csv_error(table, &e))?;
            let line = record.position().map_or(0, ::csv::Position::line);
            let relative = record[path_column].trim();
            let place = format!("{} line {line}", name_of(table));
            let path = resolve(root, relative);
            if let Some(path) = &path
                && let Some(first) = self.labelled.insert(path.clone(), place.clone())
            {
                self.problems.push(Problem::DuplicateId {
                    id: relative.to_owned(),
                    places: format!("{first} and {place}"),
                });
                continue;
            }
            if !record[view_column].trim().eq_ignore_ascii_case("frontal") {
                self.lateral += 1;
                continue;
            }
            let class = match record[finding_column].trim() {
                "1.0" | "1" => 1,
                "0.0" | "0" => 0,
                "" | "-1.0" | "-1" => {
                    self.unknown += 1;
                    match options.unknown {
                        UnknownPolicy::Negative => 0,
                        UnknownPolicy::Positive => 1,
                        UnknownPolicy::Skip => continue,
                    }
                }
                other => {
                    self.problems.push(Problem::UnknownClass {
                        id: relative.to_owned(),
                        class: other.to_owned(),
                        line,
                        known: "1.0, 0.0, -1.0 or nothing".to_owned(),
                    });
                    continue;
                }
            };
            let Some(path) = path else {
                let id = relative.to_owned();
                self.problems.push(Problem::MissingImage { id, line });
                continue;
            };
            // view, study, patient
            let folder = path.ancestors().nth(3).filter(|f| f.starts_with(root));
            self.folders.extend(folder.map(Path::to_owned));
            self.samples.push(Sample {
                id: Path::new(relative).with_extension("").display().to_string(),
                source: Source::File(path),
                class,
                split: Some(split),
            });
        }
        Ok(())
    }

    fn find_unlabelled(&mut self) -> Result<(), DataError> {
        for folder in &self.folders {
            for path in images_below(folder)?.0 {
                if stem_of(&path).ends_with("frontal") && !self.labelled.contains_key(&path) {
                    self.problems.push(Problem::Unlabelled { path });
                }
            }
        }
        Ok(())
    }
}

/// The file that a `Path` entry means: the csv lies beside the folder that the path starts with, or inside it (which
/// may then have any name, as in the downscaled release).
fn resolve(root: &Path, relative: &str) -> Option<PathBuf> {
    let below: PathBuf = Path::new(relative).components().skip(1).collect();
    [root.join(relative), root.join(below)]
        .into_iter()
        .find(|path| path.is_file())
}
