//! CheXpert: `train.csv`, `valid.csv`, `test.csv` over `CheXpert-v1.0/train/patientN/studyN/viewN_frontal.jpg`.
//!
//! The archive may lie one level down, its batches may have folders of their own. Frontal views only. One finding
//! column becomes the class: 1 is positive, 0 negative; -1 (uncertain) and an empty field (not mentioned) follow an
//! [`UnknownPolicy`] each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::files::{Folder, Tree};
use super::paths::{name_of, stem_of};
use super::resolve::{ImageIndex, Resolved};
use super::table::{LabelRow, Table, find_column};
use crate::data::dataset::{DataFormat, Dataset, OpenOptions, PixelSource, Sample, UnknownPolicy};
use crate::data::error::{DataError, DataProblem};
use crate::data::split::Split;

const PATH: &str = "Path";
const VIEW: &str = "Frontal/Lateral";

/// CheXpert's label files in `folder` with their splits. The official test labels name no view.
pub(super) fn label_files(folder: &Folder) -> Result<Vec<(Split, PathBuf)>, DataError> {
    let mut files = Vec::new();
    for path in folder.with_extension("csv") {
        let split = match stem_of(path).to_ascii_lowercase().as_str() {
            "train" => Split::Train,
            "valid" | "val" => Split::Val,
            "test" | "test_labels" | "groundtruth" => Split::Test,
            _ => continue,
        };
        let header = Table::header_of(path)?;
        let has = |name| header.iter().any(|h| h == name);
        if has(PATH) && (has(VIEW) || has("No Finding")) {
            files.push((split, path.clone()));
        }
    }
    files.sort();
    Ok(files)
}

/// Reads the images that the label files in `folder`, a folder of `tree`, label.
pub(super) fn read(
    tree: &Tree,
    folder: &Folder,
    options: &OpenOptions,
) -> Result<Dataset, DataError> {
    let tables = label_files(folder)?;
    if tables.is_empty() {
        return Err(DataError::malformed(
            &folder.path,
            None,
            format!("no train.csv, valid.csv or test.csv with the columns `{PATH}` and `{VIEW}`"),
        ));
    }
    let images = folder.images_below();
    let mut found = Found::new(ImageIndex::new(&folder.path, images.clone()));
    for (split, table) in &tables {
        found.read_table(&folder.path, *split, &Table::read(table)?, options)?;
    }
    found.find_unlabelled(&images);
    found
        .samples
        .sort_by(|a, b| (a.split, a.class, &a.id).cmp(&(b.split, b.class, &b.id)));
    let notes = found.notes(options);
    let tables: Vec<PathBuf> = tables.into_iter().map(|(_, table)| table).collect();
    Ok(Dataset {
        classes: class_names(&options.finding),
        samples: found.samples,
        problems: found.problems,
        left_out: tree.left_out(&tables),
        notes,
        ..Dataset::empty(&tree.top.path, DataFormat::Chexpert)
    })
}

/// Names of the classes 0 and 1 of a finding; that of no finding is negated by leaving the negation out.
fn class_names(finding: &str) -> Vec<String> {
    let negative = match finding.strip_prefix("No ") {
        Some(rest) => rest.to_owned(),
        None => format!("No {finding}"),
    };
    vec![negative, finding.to_owned()]
}

struct Found<'a> {
    index: ImageIndex<'a>,
    samples: Vec<Sample>,
    problems: Vec<DataProblem>,
    /// Labelled files, and where they were labelled.
    labelled: BTreeMap<&'a Path, String>,
    /// Folders whose images ought to be labelled: those right above the patients.
    folders: BTreeSet<PathBuf>,
    lateral: usize,
    uncertain: usize,
    not_mentioned: usize,
}

/// What a row's finding makes of its image.
enum FindingValue {
    Class(usize),
    LeftOut,
    Unknown(String),
}

impl<'a> Found<'a> {
    fn new(index: ImageIndex<'a>) -> Self {
        Self {
            index,
            samples: Vec::new(),
            problems: Vec::new(),
            labelled: BTreeMap::new(),
            folders: BTreeSet::new(),
            lateral: 0,
            uncertain: 0,
            not_mentioned: 0,
        }
    }

    fn read_table(
        &mut self,
        root: &Path,
        split: Split,
        table: &Table,
        options: &OpenOptions,
    ) -> Result<(), DataError> {
        let path_column = table.column(PATH)?;
        let finding_column = table.column(&options.finding)?;
        let view_column = find_column(&table.header, &[VIEW]);
        for row in &table.rows {
            let line = row.line;
            let relative = row.field(path_column);
            let place = format!("{} line {line}", name_of(&table.path));
            let duplicate = |places: String| DataProblem::DuplicateId {
                id: relative.to_owned(),
                places,
            };
            let path = match self.index.resolve(relative) {
                Resolved::File(path) => Some(path),
                Resolved::Missing => None,
                Resolved::Ambiguous(first, second) => {
                    let places = format!("`{}` and `{}`", first.display(), second.display());
                    self.problems.push(duplicate(places));
                    continue;
                }
            };
            if let Some(path) = path
                && let Some(first) = self.labelled.insert(path, place.clone())
            {
                self.problems
                    .push(duplicate(format!("{first} and {place}")));
                continue;
            }
            if !is_frontal(row, view_column, relative) {
                self.lateral += 1;
                continue;
            }
            let class = match self.finding(row.field(finding_column), options) {
                FindingValue::Class(class) => class,
                FindingValue::LeftOut => continue,
                FindingValue::Unknown(class) => {
                    self.problems.push(DataProblem::UnknownClass {
                        id: relative.to_owned(),
                        class,
                        line,
                        known: "1.0, 0.0, -1.0 or nothing".to_owned(),
                    });
                    continue;
                }
            };
            let Some(path) = path else {
                let id = relative.to_owned();
                self.problems.push(DataProblem::MissingImage { id, line });
                continue;
            };
            // view, study, patient
            let folder = path.ancestors().nth(3).filter(|f| f.starts_with(root));
            self.folders.extend(folder.map(Path::to_owned));
            self.samples.push(Sample {
                id: Path::new(relative).with_extension("").display().to_string(),
                source: PixelSource::file(path.to_owned()),
                class,
                split: Some(split),
                group: patient_of(path),
            });
        }
        Ok(())
    }

    fn finding(&mut self, field: &str, options: &OpenOptions) -> FindingValue {
        let policy = match field {
            "1.0" | "1" => return FindingValue::Class(1),
            "0.0" | "0" => return FindingValue::Class(0),
            "-1.0" | "-1" => {
                self.uncertain += 1;
                options.uncertain
            }
            "" => {
                self.not_mentioned += 1;
                options.not_mentioned
            }
            other => return FindingValue::Unknown(other.to_owned()),
        };
        match policy {
            UnknownPolicy::Negative => FindingValue::Class(0),
            UnknownPolicy::Positive => FindingValue::Class(1),
            UnknownPolicy::Skip => FindingValue::LeftOut,
        }
    }

    fn find_unlabelled(&mut self, images: &[&PathBuf]) {
        for path in images {
            let expected = path
                .ancestors()
                .nth(3)
                .is_some_and(|f| self.folders.contains(f));
            let frontal = stem_of(path).ends_with("frontal");
            if expected && frontal && !self.labelled.contains_key(path.as_path()) {
                let path = PathBuf::clone(path);
                self.problems.push(DataProblem::Unlabelled { path });
            }
        }
    }

    fn notes(&self, options: &OpenOptions) -> Vec<String> {
        let outcome = |count, policy| match (policy, count) {
            (UnknownPolicy::Negative, 1) => "counts as negative",
            (UnknownPolicy::Negative, _) => "count as negative",
            (UnknownPolicy::Positive, 1) => "counts as positive",
            (UnknownPolicy::Positive, _) => "count as positive",
            (UnknownPolicy::Skip, 1) => "was left out",
            (UnknownPolicy::Skip, _) => "were left out",
        };
        let mut notes = Vec::new();
        match self.lateral {
            0 => {}
            1 => notes.push("1 lateral view was left out".to_owned()),
            n => notes.push(format!("{n} lateral views were left out")),
        }
        let policies = [
            (
                self.uncertain,
                "uncertain finding",
                "(-1)",
                options.uncertain,
            ),
            (
                self.not_mentioned,
                "empty finding",
                "(not mentioned)",
                options.not_mentioned,
            ),
        ];
        for (count, what, value, policy) in policies {
            if count > 0 {
                let plural = if count == 1 { "" } else { "s" };
                notes.push(format!(
                    "{count} {what}{plural} {value} {}",
                    outcome(count, policy)
                ));
            }
        }
        notes
    }
}

fn is_frontal(row: &LabelRow, view_column: Option<usize>, path: &str) -> bool {
    match view_column {
        Some(column) => row.field(column).eq_ignore_ascii_case("frontal"),
        None => path.to_ascii_lowercase().contains("frontal"),
    }
}

/// The patient whose image lies at `path`.
fn patient_of(path: &Path) -> Option<String> {
    let folder = path.parent()?.parent()?;
    let name = name_of(folder);
    name.starts_with("patient").then_some(name)
}
