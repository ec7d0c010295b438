//! A table of labels beside images: any folder with `labels.csv`, AIROGS, HAM10000 and the like.
//!
//! A row names a file and its class, and may name its split and its patient. Files are found by path or by name alone,
//! wherever they lie below the root.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::files::Tree;
use super::folder::split_named;
use super::paths::{extension_of, name_of, stem_of, without_image_extension};
use super::resolve::{ImageIndex, Resolved};
use super::table::{TABLE_EXTENSIONS, Table, find_column};
use crate::data::dataset::{DataFormat, Dataset, LabelColumns, OpenOptions, PixelSource, Sample};
use crate::data::error::{DataError, DataProblem};
use crate::data::split::Split;

const FILE_COLUMNS: [&str; 14] = [
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "path",
    "image",
    "image_id",
    "image_name",
    "image_path",
    "imageid",
    "image index",
    "img",
    "id",
];
const LABEL_COLUMNS: [&str; 9] = [
    "label",
    "class",
    "labels",
    "dx",
    "diagnosis",
    "target",
    "category",
    "finding",
    "finding labels",
];
const SPLIT_COLUMNS: [&str; 4] = ["split", "set", "subset", "partition"];
const PATIENT_COLUMNS: [&str; 9] = [
    "patient",
    "patient_id",
    "patientid",
    "patient id",
    "subject",
    "subject_id",
    "case",
    "case_id",
    "lesion_id",
];

/// AIROGS: its column of files, and its classes (no referable glaucoma, referable glaucoma).
const AIROGS_FILE: &str = "challenge_id";
const AIROGS_CLASSES: [&str; 2] = ["NRG", "RG"];

/// Where the columns of a table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Columns {
    file: usize,
    label: usize,
    split: Option<usize>,
    patient: Option<usize>,
}

impl Columns {
    /// The columns of a header, or which of `file` and `label` is missing.
    fn of(header: &[String], names: &LabelColumns) -> Result<Self, &'static str> {
        let column = |given: &Option<String>, known: &[&str]| match given {
            Some(name) => find_column(header, &[name]),
            None => find_column(header, known),
        };
        let mut files = vec![AIROGS_FILE];
        files.extend(FILE_COLUMNS);
        Ok(Self {
            file: column(&names.file, &files).ok_or("file")?,
            label: column(&names.label, &LABEL_COLUMNS).ok_or("label")?,
            split: column(&names.split, &SPLIT_COLUMNS),
            patient: column(&names.patient, &PATIENT_COLUMNS),
        })
    }
}

/// The label tables of a data set and how they are read.
pub(super) struct LabelFiles {
    pub format: DataFormat,
    /// With the split that a table is for, where its name says that.
    tables: Vec<(Option<Split>, PathBuf)>,
}

/// Finds the label tables at the top of `tree`: the one that the options name, or those that have the columns.
///
/// # Errors
/// If a table looks like one of labels but has not got the columns, or there are several and their names tell no splits.
pub(super) fn find(tree: &Tree, options: &OpenOptions) -> Result<Option<LabelFiles>, DataError> {
    if let Some(given) = &options.labels {
        let below = tree.top.path.join(given);
        let path = if below.exists() { below } else { given.clone() };
        let header = Table::header_of(&path)?;
        Columns::of(&header, &options.columns).map_err(|what| lacks(&path, &header, what))?;
        return Ok(Some(LabelFiles {
            format: format_of(&header),
            tables: vec![(None, path)],
        }));
    }
    let mut found = Vec::new();
    let mut not_understood = None;
    let is_table = |path: &&PathBuf| TABLE_EXTENSIONS.contains(&extension_of(path).as_str());
    for path in tree.top.others.iter().filter(is_table) {
        let header = Table::header_of(path)?;
        match Columns::of(&header, &options.columns) {
            Ok(_) => found.push((header, path.clone())),
            Err(what) => {
                let named = stem_of(path).to_lowercase();
                let looks_like_labels = ["label", "groundtruth", "ground_truth"];
                if looks_like_labels.iter().any(|word| named.contains(word)) {
                    not_understood.get_or_insert_with(|| lacks(path, &header, what));
                }
            }
        }
    }
    if let Some(at) = found.iter().position(|(_, path)| stem_of(path) == "labels") {
        found = vec![found.swap_remove(at)];
    }
    match (&found[..], not_understood) {
        ([], Some(error)) => Err(error),
        ([], None) => Ok(None),
        ([(header, path)], _) => Ok(Some(LabelFiles {
            format: format_of(header),
            tables: vec![(None, path.clone())],
        })),
        ([(header, _), ..], _) => {
            let named = found
                .iter()
                .map(|(_, path)| (split_in(&stem_of(path)), path.clone()));
            let tables: Vec<(Option<Split>, PathBuf)> = named.collect();
            let splits: BTreeSet<_> = tables.iter().map(|(split, _)| *split).collect();
            if splits.len() < tables.len() || splits.contains(&None) {
                let names: Vec<String> = found.iter().map(|(_, path)| name_of(path)).collect();
                return Err(DataError::Options(format!(
                    "`{}` holds several tables of labels: {}; name one in `data.labels`",
                    tree.top.path.display(),
                    names.join(", ")
                )));
            }
            let format = format_of(header);
            Ok(Some(LabelFiles { format, tables }))
        }
    }
}

/// The split that the name of a table contains as a word, as in `train_labels`.
fn split_in(stem: &str) -> Option<Split> {
    stem.split(['_', '-', ' ', '.']).find_map(split_named)
}

fn format_of(header: &[String]) -> DataFormat {
    match find_column(header, &[AIROGS_FILE]) {
        Some(_) => DataFormat::Airogs,
        None => DataFormat::Labels,
    }
}

/// The error for a table that lacks a column.
fn lacks(path: &Path, header: &[String], what: &str) -> DataError {
    let known = match what {
        "file" => FILE_COLUMNS.join(", "),
        _ => LABEL_COLUMNS.join(", "),
    };
    let message = format!(
        "a table of labels needs a column for the {what}, such as {known}; the columns are {}. Name it in \
         `data.{what}_column`, or set `data.format = \"folder\"` to take folders as classes",
        header.join(", ")
    );
    DataError::malformed(path, Some(1), message)
}

/// Reads the images that `files` label.
pub(super) fn read(
    tree: &Tree,
    files: &LabelFiles,
    options: &OpenOptions,
) -> Result<Dataset, DataError> {
    let fixed = (files.format == DataFormat::Airogs).then_some(&AIROGS_CLASSES[..]);
    let mut labelled = Labelled {
        index: ImageIndex::new(&tree.top.path, tree.top.images_below()),
        several_tables: files.tables.len() > 1,
        lines: BTreeMap::new(),
        files: BTreeMap::new(),
        rows: Vec::new(),
        problems: Vec::new(),
    };
    for (split, path) in &files.tables {
        labelled.read_table(&Table::read(path)?, *split, options)?;
    }
    for path in tree.top.images_below() {
        if !labelled.files.contains_key(path.as_path()) {
            let path = path.clone();
            labelled.problems.push(DataProblem::Unlabelled { path });
        }
    }
    let classes = match fixed {
        Some(names) => names.iter().map(|&name| name.to_owned()).collect(),
        None => class_names(labelled.rows.iter().map(|row| row.label.as_str())),
    };
    let mut samples = Vec::new();
    for row in labelled.rows {
        match classes.iter().position(|class| *class == row.label) {
            Some(class) => samples.push(Sample {
                id: row.id,
                source: PixelSource::file(row.path),
                class,
                split: row.split,
                group: row.patient,
            }),
            None => labelled.problems.push(DataProblem::UnknownClass {
                id: row.id,
                class: row.label,
                line: row.line,
                known: classes.join(" or "),
            }),
        }
    }
    samples.sort_by(|a, b| (a.split, a.class, &a.id).cmp(&(b.split, b.class, &b.id)));
    // In the order of the table, whatever kind they are.
    labelled.problems.sort_by_key(DataProblem::line);
    let used: Vec<PathBuf> = files.tables.iter().map(|(_, path)| path.clone()).collect();
    Ok(Dataset {
        classes,
        samples,
        problems: labelled.problems,
        left_out: tree.left_out(&used),
        notes: vec![format!("labels are from {}", names(&used))],
        ..Dataset::empty(&tree.top.path, files.format)
    })
}

fn names(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths
        .iter()
        .map(|path| format!("`{}`", name_of(path)))
        .collect();
    names.join(" and ")
}

/// The distinct labels: numbers in numerical order, others in that of their letters.
fn class_names<'a>(labels: impl Iterator<Item = &'a str>) -> Vec<String> {
    let distinct: BTreeSet<&str> = labels.collect();
    let mut names: Vec<String> = distinct.into_iter().map(str::to_owned).collect();
    if names.iter().all(|name| name.parse::<f64>().is_ok()) {
        let number = |name: &String| name.parse::<f64>().unwrap_or_default();
        names.sort_by(|a, b| number(a).total_cmp(&number(b)));
    }
    names
}

/// A row whose file exists.
struct LabelledRow {
    id: String,
    path: PathBuf,
    label: String,
    split: Option<Split>,
    patient: Option<String>,
    line: u64,
}

struct Labelled<'a> {
    index: ImageIndex<'a>,
    several_tables: bool,
    /// Where each name was labelled.
    lines: BTreeMap<String, String>,
    /// Where each file was labelled.
    files: BTreeMap<&'a Path, String>,
    rows: Vec<LabelledRow>,
    problems: Vec<DataProblem>,
}

impl Labelled<'_> {
    fn read_table(
        &mut self,
        table: &Table,
        split: Option<Split>,
        options: &OpenOptions,
    ) -> Result<(), DataError> {
        let columns = Columns::of(&table.header, &options.columns)
            .map_err(|what| lacks(&table.path, &table.header, what))?;
        for row in &table.rows {
            let name = row.field(columns.file);
            let line = row.line;
            let id = without_image_extension(Path::new(name))
                .display()
                .to_string();
            let place = if self.several_tables {
                format!("{} line {line}", name_of(&table.path))
            } else {
                line.to_string()
            };
            let twice = |first: &str| {
                let places = if self.several_tables {
                    format!("{first} and {place}")
                } else {
                    format!("lines {first} and {place}")
                };
                DataProblem::DuplicateId {
                    id: id.clone(),
                    places,
                }
            };
            if let Some(first) = self.lines.get(name) {
                self.problems.push(twice(first));
                continue;
            }
            let path = match self.index.resolve(name) {
                Resolved::File(path) => path,
                Resolved::Missing => {
                    self.lines.insert(name.to_owned(), place);
                    self.problems.push(DataProblem::MissingImage { id, line });
                    continue;
                }
                Resolved::Ambiguous(first, second) => {
                    let places = format!("`{}` and `{}`", first.display(), second.display());
                    self.problems.push(DataProblem::DuplicateId { id, places });
                    self.files.insert(first, place.clone());
                    self.files.insert(second, place);
                    continue;
                }
            };
            if let Some(first) = self.files.get(path) {
                self.problems.push(twice(first));
                continue;
            }
            self.lines.insert(name.to_owned(), place.clone());
            self.files.insert(path, place);
            let label = row.field(columns.label).to_owned();
            if label.is_empty() {
                self.problems.push(DataProblem::NoLabel { id, line });
                continue;
            }
            let split = match columns.split.map(|column| row.field(column)) {
                None | Some("") => split,
                Some(name) => match split_named(name) {
                    Some(split) => Some(split),
                    None => {
                        let split = name.to_owned();
                        self.problems
                            .push(DataProblem::UnknownSplit { id, split, line });
                        continue;
                    }
                },
            };
            let patient = columns.patient.map(|column| row.field(column).to_owned());
            self.rows.push(LabelledRow {
                id,
                path: path.to_owned(),
                label,
                split,
                patient: patient.filter(|patient| !patient.is_empty()),
                line,
            });
        }
        Ok(())
    }
}
