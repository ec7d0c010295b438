//! PyTorch checkpoints (`.ckpt`, `.pt`, `.pth`): the zip archive and the older stream, read as data.

mod legacy;
mod storages;
mod tensors;
mod zip;

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use serde_json::Value;

use self::storages::Storages;
use self::tensors::{TensorProblem, TensorReader, key_text};
use super::map::{SharedBytes, map_file};
use super::pickle::{Id, Pickle, PickleNode};
use super::state::StateDict;
use super::{CheckpointError, Problem};
use crate::tensor::{Tensor, TensorMap};

/// Which container a PyTorch checkpoint uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TorchFormat {
    /// A zip archive with `data.pkl` and one member per storage (PyTorch 1.6 and later).
    Zip,
    /// Pickles followed by raw storages (before 1.6).
    Legacy,
}

impl fmt::Display for TorchFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TorchFormat::Zip => "PyTorch checkpoint (zip)",
            TorchFormat::Legacy => "PyTorch checkpoint (legacy stream)",
        })
    }
}

/// An opened PyTorch checkpoint. Tensors are read on demand: contiguous ones as windows into the mapped file, others
/// copied into row-major order.
pub struct TorchFile {
    format: TorchFormat,
    pickle: Pickle,
    storages: Box<dyn Storages>,
    file_len: usize,
}

impl TorchFile {
    /// Opens the checkpoint at `path`, telling the container by its content.
    ///
    /// # Errors
    /// If the file cannot be read, is no PyTorch checkpoint, is damaged, or names something dangerous.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        map_file(path)
            .and_then(Self::parse)
            .map_err(|problem| problem.at(path))
    }

    /// Reads a checkpoint that is already in memory.
    ///
    /// # Errors
    /// As [`TorchFile::open`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Problem> {
        if bytes.is_empty() {
            return Err(Problem::Foreign {
                found: "the file is empty".to_owned(),
            });
        }
        Self::parse(std::sync::Arc::new(bytes))
    }

    pub(super) fn parse(bytes: SharedBytes) -> Result<Self, Problem> {
        let content = (*bytes).as_ref();
        let file_len = content.len();
        if content.starts_with(b"PK") {
            let (pickle, storages) = zip::open(bytes)?;
            return Ok(Self {
                format: TorchFormat::Zip,
                pickle,
                storages: Box::new(storages),
                file_len,
            });
        }
        let (pickle, storages) = legacy::open(bytes)?;
        Ok(Self {
            format: TorchFormat::Legacy,
            pickle,
            storages: Box::new(storages),
            file_len,
        })
    }

    /// The container.
    pub fn format(&self) -> TorchFormat {
        self.format
    }

    /// The unpickled values.
    pub fn pickle(&self) -> &Pickle {
        &self.pickle
    }

    /// Keys of the outermost dict, such as Lightning's `epoch`, `state_dict`, `hyper_parameters`.
    pub fn top_level_keys(&self) -> Vec<String> {
        let items = self.pickle.items(self.pickle.root()).unwrap_or_default();
        items
            .iter()
            .map(|&(key, _)| match self.pickle.str(key) {
                Some(text) => text.to_owned(),
                None => self.pickle.repr(key),
            })
            .collect()
    }

    /// Lightning's `hyper_parameters` as JSON; classes are texts such as `<class 'torch.optim.adamw.AdamW'>`.
    pub fn hyper_parameters(&self) -> Option<Value> {
        let found = self.wrappers().into_iter().find_map(|dict| {
            let id = self.pickle.get(dict, "hyper_parameters")?;
            self.pickle.items(id).is_some().then_some(id)
        });
        found.map(|id| self.pickle.json(id))
    }

    /// The state dict: Lightning's `state_dict`, DeepSpeed's `module` and a few other customary names, also one in the
    /// other; or every tensor of the outermost value, nested names joined by dots.
    ///
    /// # Errors
    /// If there is no tensor, or one cannot be read; the error names it.
    pub fn state_dict(&self) -> Result<TensorMap, Problem> {
        self.state()?.into_tensors()
    }

    /// As [`TorchFile::state_dict`], with tensors of types and kinds that are not read as such.
    ///
    /// # Errors
    /// If there is no tensor, or the file is damaged.
    pub fn state(&self) -> Result<StateDict, Problem> {
        let mut reader = TensorReader::new(&self.pickle, self.storages.as_ref(), self.file_len);
        let wrappers = self.wrappers();
        let (root, inside) = wrappers
            .split_first()
            .map_or((self.pickle.root(), &[][..]), |(root, inside)| {
                (*root, inside)
            });
        let holds_tensors = |dict: &Id| {
            let items = self.pickle.items(*dict).unwrap_or_default();
            items.iter().any(|&(_, value)| reader.is_tensor(value))
        };
        let named = inside.iter().copied().find(holds_tensors);
        // A state dict of nested dicts, or an empty one, which is an error that names the file's keys.
        let named = named.or_else(|| inside.first().copied());
        let state = self.flatten(named.unwrap_or(root), named.is_some(), &mut reader)?;
        if state.is_empty() {
            return Err(Problem::unsupported(self.describe_root()));
        }
        Ok(state)
    }

    /// Members of the archive that carry no checksum, of how many; `None` for a container that has none at all.
    pub fn without_checksum(&self) -> Option<(usize, usize)> {
        self.storages.without_checksum()
    }

    /// The outermost dict, and those inside of it that stand for a state dict or hold one, from the outside in.
    fn wrappers(&self) -> Vec<Id> {
        const KEYS: [&str; 4] = ["state_dict", "model_state_dict", "module", "model"];
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let mut next = vec![self.pickle.root()];
        while !next.is_empty() {
            // A dict may contain itself.
            next.retain(|&id| self.pickle.items(id).is_some() && seen.insert(id));
            found.extend_from_slice(&next);
            let inside = |&dict: &Id| {
                KEYS.iter()
                    .filter_map(move |key| self.pickle.get(dict, key))
            };
            next = next.iter().flat_map(inside).collect();
        }
        found
    }

    /// The tensor at `id`, row-major.
    ///
    /// # Errors
    /// If the value is no tensor, or one that cannot be read.
    pub fn tensor(&self, id: Id) -> Result<Tensor, Problem> {
        TensorReader::new(&self.pickle, self.storages.as_ref(), self.file_len)
            .tensor(id)
            .map_err(|problem| Problem::tensor("", problem))
    }

    /// Walks dicts and lists from `root` without recursion. In a state dict (`strict`) an object that is no tensor is
    /// an unreadable one, since it stands where one was expected; around it, optimizers and counters are passed by.
    fn flatten(
        &self,
        root: Id,
        strict: bool,
        reader: &mut TensorReader<'_>,
    ) -> Result<StateDict, Problem> {
        /// Nested containers visited at most; a shared container counts each time it is reached.
        const MAX_VISITS: usize = 1_000_000;
        const MAX_DEPTH: usize = 32;
        let mut state = StateDict::default();
        let mut pending = vec![(String::new(), root, 0)];
        let mut visits = 0;
        while let Some((name, id, depth)) = pending.pop() {
            visits += 1;
            if visits > MAX_VISITS || depth > MAX_DEPTH {
                return Err(Problem::damaged(
                    "the state dict nests without end, which no checkpoint does",
                ));
            }
            let join = |key: &str| match name.as_str() {
                "" => key.to_owned(),
                name => format!("{name}.{key}"),
            };
            if let Some(items) = self.pickle.items(id) {
                // The stack is worked on last in, first out; of equal keys the last has to win.
                for &(key, value) in items {
                    if let Some(key) = key_text(&self.pickle, key) {
                        pending.push((join(&key), value, depth + 1));
                    }
                }
                continue;
            }
            match self.pickle.node(id) {
                PickleNode::List(elements) => {
                    for (index, &value) in elements.iter().enumerate() {
                        pending.push((join(&index.to_string()), value, depth + 1));
                    }
                }
                PickleNode::Tuple(elements) => {
                    for (index, &value) in elements.iter().enumerate() {
                        pending.push((join(&index.to_string()), value, depth + 1));
                    }
                }
                PickleNode::Call(_) if strict || reader.is_tensor(id) => {
                    let name = if name.is_empty() { "tensor" } else { &name };
                    let StateDict {
                        tensors,
                        unreadable,
                    } = &mut state;
                    if tensors.contains_key(name) || unreadable.contains_key(name) {
                        continue;
                    }
                    match reader.tensor(id) {
                        Ok(tensor) => drop(tensors.insert(name.to_owned(), tensor)),
                        Err(TensorProblem::Kind(why)) => {
                            unreadable.insert(name.to_owned(), why);
                        }
                        Err(broken) => return Err(Problem::tensor(name, broken)),
                    }
                }
                _ => {}
            }
        }
        Ok(state)
    }

    fn describe_root(&self) -> String {
        let root = self.pickle.root();
        match self.pickle.node(root) {
            PickleNode::Call(call) => {
                let class = self
                    .pickle
                    .class_name(call.callable)
                    .unwrap_or_else(|| "unknown".to_owned());
                format!(
                    "the file holds a pickled object of class `{class}`, not a state dict; \
                     load it in Python and save `model.state_dict()`"
                )
            }
            PickleNode::Dict(_) => format!(
                "the checkpoint holds no tensors (its keys: {})",
                self.top_level_keys().join(", ")
            ),
            _ => "the checkpoint holds no tensors".to_owned(),
        }
    }
}
