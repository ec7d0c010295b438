//! Glob patterns over the paths of a data set.

use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::error::DataError;

/// Patterns such as `*_mask.png` (any folder) or `train/**/*.png` (below the root). `*` does not cross folders; upper
/// and lower case are the same.
#[derive(Clone, Debug)]
pub(super) struct Patterns {
    set: GlobSet,
}

impl Patterns {
    /// Compiles the patterns of the run file's key `key`.
    ///
    /// # Errors
    /// If one is no pattern.
    pub fn new(key: &str, patterns: &[String]) -> Result<Self, DataError> {
        let error = |e: &globset::Error| DataError::Options(format!("{key}: {e}"));
        let mut builder = GlobSetBuilder::new();
        for pattern in patterns {
            let anywhere = if pattern.contains('/') {
                pattern.trim_start_matches("./").to_owned()
            } else {
                format!("**/{pattern}")
            };
            let glob = GlobBuilder::new(&anywhere)
                .literal_separator(true)
                .case_insensitive(true)
                .build()
                .map_err(|e| error(&e))?;
            builder.add(glob);
        }
        let set = builder.build().map_err(|e| error(&e))?;
        Ok(Self { set })
    }

    /// True if there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// True if one of the patterns fits `path`, which is below the root.
    pub fn matches(&self, path: &Path) -> bool {
        self.set.is_match(path)
    }
}
