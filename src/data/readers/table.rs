//! Tables of labels as people save them: comma, semicolon or tab, with or without a byte order mark, any line ends.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::data::error::DataError;

/// What separates fields, in order of preference.
const DELIMITERS: [u8; 3] = [b',', b';', b'\t'];

/// Extensions of tables, in lower case.
pub(super) const TABLE_EXTENSIONS: [&str; 3] = ["csv", "tsv", "tab"];

/// Larger files are no label tables; they are not read into memory.
const MAX_BYTES: u64 = 1 << 30;

/// Bytes in which the header of a table ends.
const MAX_HEADER_BYTES: u64 = 64 << 10;

/// A table with a header, read whole.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub path: PathBuf,
    /// Names of the columns.
    pub header: Vec<String>,
    pub rows: Vec<LabelRow>,
}

/// A row of a table.
#[derive(Clone, Debug)]
pub(super) struct LabelRow {
    /// Line of the file, from 1.
    pub line: u64,
    /// As many as there are columns, without spaces around them.
    fields: Vec<String>,
}

impl LabelRow {
    /// The field in column `index`.
    pub fn field(&self, index: usize) -> &str {
        self.fields.get(index).map_or("", String::as_str)
    }
}

impl Table {
    /// Reads the table at `path`.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let text = text_of(path)?;
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter_of(&text))
            .trim(csv::Trim::All)
            .from_reader(text.as_bytes());
        let error = |e: csv::Error| {
            let line = e.position().map(csv::Position::line);
            DataError::malformed(path, line, e.to_string())
        };
        let header = reader.headers().map_err(error)?;
        let header = header.iter().map(str::to_owned).collect();
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(error)?;
            rows.push(LabelRow {
                line: record.position().map_or(0, csv::Position::line),
                fields: record.iter().map(str::to_owned).collect(),
            });
        }
        Ok(Self {
            path: path.to_owned(),
            header,
            rows,
        })
    }

    /// The names of the columns of the table at `path`; empty where it is no text. Reads no more than its beginning.
    pub fn header_of(path: &Path) -> Result<Vec<String>, DataError> {
        let mut beginning = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_HEADER_BYTES).read_to_end(&mut beginning))
            .map_err(DataError::io("read", path))?;
        let Ok(text) = decoded(path, &beginning) else {
            return Ok(Vec::new());
        };
        let first = text.lines().next().unwrap_or_default();
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter_of(first))
            .trim(csv::Trim::All)
            .from_reader(first.as_bytes());
        let header = reader
            .headers()
            .map_err(|e| DataError::malformed(path, Some(1), e.to_string()))?;
        Ok(header.iter().map(str::to_owned).collect())
    }

    /// The column of this name.
    ///
    /// # Errors
    /// If there is none; the error lists the columns that there are.
    pub fn column(&self, name: &str) -> Result<usize, DataError> {
        find_column(&self.header, &[name]).ok_or_else(|| {
            let columns = self.header.join(", ");
            let message = format!("no column `{name}`; the columns are {columns}");
            DataError::malformed(&self.path, Some(1), message)
        })
    }
}

/// The first of `names` that is a column: by its exact name, else without regard to upper and lower case.
pub(super) fn find_column(header: &[String], names: &[&str]) -> Option<usize> {
    let exact = |name: &&str| header.iter().position(|column| column == name);
    let alike = |name: &&str| {
        header
            .iter()
            .position(|column| column.eq_ignore_ascii_case(name))
    };
    names
        .iter()
        .find_map(exact)
        .or_else(|| names.iter().find_map(alike))
}

/// The text of a whole file.
fn text_of(path: &Path) -> Result<String, DataError> {
    let size = path.metadata().map_err(DataError::io("read", path))?.len();
    if size > MAX_BYTES {
        let message = format!("{size} bytes are too many for a table of labels");
        return Err(DataError::malformed(path, None, message));
    }
    let bytes = fs::read(path).map_err(DataError::io("read", path))?;
    decoded(path, &bytes)
}

/// The text that `bytes` of the file at `path` encode, without a byte order mark.
fn decoded(path: &Path, bytes: &[u8]) -> Result<String, DataError> {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|b| unit([b[0], b[1]])).collect();
        String::from_utf16(&units)
    };
    let text = match *bytes {
        [0xef, 0xbb, 0xbf, ref text @ ..] => String::from_utf8_lossy(text).into_owned(),
        // Spreadsheets save "Unicode text" in this form.
        [0xff, 0xfe, ref text @ ..] => {
            utf16(text, u16::from_le_bytes).map_err(|e| not_text(path, &e.to_string()))?
        }
        [0xfe, 0xff, ref text @ ..] => {
            utf16(text, u16::from_be_bytes).map_err(|e| not_text(path, &e.to_string()))?
        }
        ref text if text.contains(&0) => return Err(not_text(path, "it contains zero bytes")),
        // Older spreadsheets write Latin-1; names of files and classes are mostly ASCII all the same.
        ref text => String::from_utf8_lossy(text).into_owned(),
    };
    Ok(text)
}

fn not_text(path: &Path, reason: &str) -> DataError {
    DataError::malformed(
        path,
        None,
        format!("expected a table in text form: {reason}"),
    )
}

/// The separator that makes most columns of the first line.
fn delimiter_of(text: &str) -> u8 {
    let first = text.lines().next().unwrap_or_default();
    let count = |delimiter: u8| {
        let mut quoted = false;
        first
            .bytes()
            .filter(|&byte| {
                quoted ^= byte == b'"';
                byte == delimiter && !quoted
            })
            .count()
    };
    // Of equal counts the last is taken by `max_by_key`, so that the preferred ones come last.
    let preferred = DELIMITERS.into_iter().rev();
    preferred.max_by_key(|&d| count(d)).unwrap_or(b',')
}
