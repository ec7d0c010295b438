//! What a file holds by name, before any interpretation.

use std::collections::BTreeMap;

use super::Problem;
use crate::tensor::TensorMap;

/// A state dict as a file has it.
#[derive(Clone, Debug, Default)]
pub struct StateDict {
    /// The tensors that can be read.
    pub tensors: TensorMap,
    /// Why others cannot: their type or kind is none that this reader takes. They matter only where a network needs them.
    pub unreadable: BTreeMap<String, String>,
}

impl StateDict {
    /// The tensors, if all of them can be read.
    ///
    /// # Errors
    /// The first one by name that cannot.
    pub fn into_tensors(self) -> Result<TensorMap, Problem> {
        match self.unreadable.first_key_value() {
            Some((name, why)) => Err(Problem::tensor(name, why)),
            None => Ok(self.tensors),
        }
    }

    /// Number of entries, readable or not.
    pub fn len(&self) -> usize {
        self.tensors.len() + self.unreadable.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All names, readable ones first.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.tensors.keys().chain(self.unreadable.keys());
        names.map(String::as_str)
    }
}
