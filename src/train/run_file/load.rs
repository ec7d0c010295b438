//! From TOML text and overrides to a checked run, and back.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use strsim::levenshtein;
use toml::{Table, Value};

use super::sections::KeyDoc;
use super::{Run, RunFileError};

/// One `section.key=value` that wins over the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// `section.key`.
    pub key: String,
    /// The value as TOML.
    pub value: Value,
}

impl Override {
    /// An override with a value of a known type, for command-line flags of their own.
    pub fn new(key: &str, value: impl Into<Value>) -> Self {
        Self {
            key: key.to_owned(),
            value: value.into(),
        }
    }
}

impl FromStr for Override {
    type Err = RunFileError;

    /// The value is read as TOML where it is TOML (`3`, `1e-4`, `true`, `[1, 2]`, `"text"`), else as text.
    fn from_str(text: &str) -> Result<Self, RunFileError> {
        let bad = || RunFileError::BadOverride(text.to_owned());
        let (key, value) = text.split_once('=').ok_or_else(bad)?;
        let (key, value) = (key.trim(), value.trim());
        if key.split('.').count() != 2 || key.split('.').any(str::is_empty) || value.is_empty() {
            return Err(bad());
        }
        let parsed = toml::from_str::<Table>(&format!("value = {value}"))
            .ok()
            .filter(|table| table.len() == 1)
            .and_then(|mut table| table.remove("value"));
        Ok(Self {
            key: key.to_owned(),
            value: parsed.unwrap_or_else(|| Value::String(value.to_owned())),
        })
    }
}

/// [`parse`] of a file; without one, of nothing but defaults and overrides. Relative paths in the file are relative to
/// it, or to the current directory where nothing is there; those of overrides are relative to the current directory.
///
/// # Errors
/// If the file cannot be read, and as [`parse`].
pub fn load<R: Run>(path: Option<&Path>, overrides: &[Override]) -> Result<R, RunFileError> {
    let mut given = match path {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|source| RunFileError::Read {
                path: path.display().to_string(),
                source,
            })?;
            table_of(&text)?
        }
        None => Table::new(),
    };
    let folder = path.and_then(Path::parent).unwrap_or(Path::new(""));
    for (section, key) in PATHS {
        if let Some(Value::String(text)) = given.get_mut(section).and_then(|s| s.get_mut(key)) {
            *text = anchored(text, folder);
        }
    }
    let mut overrides = overrides.to_vec();
    for given in &mut overrides {
        let is_path = |(section, key): &(&str, &str)| given.key == format!("{section}.{key}");
        if PATHS.iter().any(is_path)
            && let Value::String(text) = &mut given.value
        {
            *text = anchored(text, Path::new(""));
        }
    }
    parse_table(given, &overrides)
}

/// Keys that name files or folders, which a run file gives relative to itself.
const PATHS: [(&str, &str); 5] = [
    ("data", "path"),
    ("data", "holdout"),
    ("data", "labels"),
    ("latents", "vae"),
    ("loss", "lpips_weights"),
];

/// The absolute path of what `path` names below `folder`, or else below the current directory; if it is in neither,
/// the path as given, so that the error says what was asked for.
fn anchored(path: &str, folder: &Path) -> String {
    let found = [folder.join(path), PathBuf::from(path)]
        .into_iter()
        .find(|candidate| candidate.exists());
    match found.and_then(|found| std::path::absolute(found).ok()) {
        // TOML holds no path that is not UTF-8.
        Some(found) => found
            .to_str()
            .map_or_else(|| path.to_owned(), str::to_owned),
        None => path.to_owned(),
    }
}

fn table_of(text: &str) -> Result<Table, RunFileError> {
    toml::from_str(text).map_err(|e| RunFileError::Syntax(e.to_string()))
}

/// Reads TOML text, applies the overrides in order, fills in defaults and checks the result.
///
/// # Errors
/// If the text is not TOML, names an unknown section or key, gives a value of the wrong type or one that makes no
/// sense, or is for another task.
pub fn parse<R: Run>(text: &str, overrides: &[Override]) -> Result<R, RunFileError> {
    parse_table(table_of(text)?, overrides)
}

fn parse_table<R: Run>(mut given: Table, overrides: &[Override]) -> Result<R, RunFileError> {
    if let Some(task) = given.remove("task")
        && task.as_str() != Some(R::TASK.name())
    {
        return Err(RunFileError::WrongTask {
            expected: R::TASK,
            found: task
                .as_str()
                .map_or_else(|| task.to_string(), str::to_owned),
        });
    }
    let mut keys: Vec<(String, Value)> = Vec::new();
    for (section, content) in given {
        match content {
            Value::Table(table) => {
                for (key, value) in table {
                    keys.push((format!("{section}.{key}"), value));
                }
                // An empty section of a wrong name is wrong too.
                known_section::<R>(&section)?;
            }
            _ => return Err(unknown::<R>(&section)),
        }
    }
    keys.extend(overrides.iter().map(|o| (o.key.clone(), o.value.clone())));

    let defaults = to_table(&R::default());
    let mut table = defaults.clone();
    for (path, value) in &keys {
        let (section, key) = path.split_once('.').unwrap_or((path, ""));
        let known = R::sections()
            .iter()
            .any(|(name, _, keys)| *name == section && keys.iter().any(|k| k.name == key));
        if !known {
            return Err(unknown::<R>(path));
        }
        // Each value alone first, so that an error can name its key.
        let mut alone = defaults.clone();
        set(&mut alone, section, key, value.clone());
        if let Err(error) = alone.try_into::<R>() {
            return Err(RunFileError::BadValue {
                key: path.clone(),
                value: value.to_string(),
                problem: error.message().trim().to_owned(),
            });
        }
        set(&mut table, section, key, value.clone());
    }
    let mut run: R = table
        .try_into()
        .map_err(|e: toml::de::Error| RunFileError::Syntax(e.to_string()))?;
    run.resolve();
    run.validate()?;
    Ok(run)
}

/// The resolved run file: every section and key with its documentation. Keys without a value are commented out.
pub fn to_toml<R: Run>(run: &R) -> String {
    let table = to_table(run);
    let mut text = format!(
        "# Run file of `medfusion train {0}`.\ntask = \"{0}\"\n",
        R::TASK
    );
    for (section, about, keys) in R::sections() {
        text += "\n";
        for line in about {
            text += &format!("#{line}\n");
        }
        text += &format!("[{section}]\n");
        for KeyDoc { name, doc } in keys {
            for line in *doc {
                text += &format!("#{line}\n");
            }
            match table.get(section).and_then(|s| s.get(*name)) {
                Some(value) => text += &format!("{name} = {value}\n"),
                None => text += &format!("# {name} =\n"),
            }
        }
    }
    text
}

fn to_table<R: Run>(run: &R) -> Table {
    Table::try_from(run).expect("run files consist of TOML types")
}

fn set(table: &mut Table, section: &str, key: &str, value: Value) {
    let section = table
        .entry(section)
        .or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(section) = section {
        section.insert(key.to_owned(), value);
    }
}

fn known_section<R: Run>(section: &str) -> Result<(), RunFileError> {
    if R::sections().iter().any(|(name, ..)| *name == section) {
        return Ok(());
    }
    let nearest = R::sections()
        .iter()
        .map(|(name, ..)| *name)
        .min_by_key(|name| levenshtein(name, section))
        .unwrap_or_default();
    Err(RunFileError::UnknownKey {
        key: format!("[{section}]"),
        nearest: format!("[{nearest}]"),
    })
}

/// The error for an unknown key, with the key that is most like it: by the key's own name first, so that a key in the
/// wrong section is found in the right one.
fn unknown<R: Run>(path: &str) -> RunFileError {
    let (section, key) = path.split_once('.').unwrap_or(("", path));
    let nearest = R::sections()
        .iter()
        .flat_map(|(name, _, keys)| keys.iter().map(move |k| (*name, k.name)))
        .min_by_key(|(s, k)| (levenshtein(k, key), levenshtein(s, section)))
        .map(|(s, k)| format!("{s}.{k}"))
        .unwrap_or_default();
    RunFileError::UnknownKey {
        key: path.to_owned(),
        nearest,
    }
}
