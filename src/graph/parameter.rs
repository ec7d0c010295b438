//! Parameters with the facts that their network states about them, and blocks of a network.

use super::{Graph, GraphError, Source, Value};
use crate::tensor::{DType, TensorType};

/// How a parameter begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Init {
    /// All 0.
    #[default]
    Zeros,
    /// All 1.
    Ones,
    /// Uniform within `1 / sqrt(fan_in)`, the number of values that each result is a sum over.
    Uniform {
        /// That number; a bias has that of its kernel.
        fan_in: usize,
    },
    /// Standard normal.
    Normal,
}

/// What a network says about a parameter where it declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its value before the first step.
    pub init: Init,
    /// Training changes it; frozen ones keep what a file gave them.
    pub trained: bool,
    /// Read under a condition only: a step that drops the condition of every sample leaves it as it is.
    pub conditional: bool,
}

impl Default for Parameter {
    /// Trained always, beginning at 0.
    fn default() -> Self {
        Self {
            init: Init::Zeros,
            trained: true,
            conditional: false,
        }
    }
}

impl From<Init> for Parameter {
    fn from(init: Init) -> Self {
        Self {
            init,
            ..Self::default()
        }
    }
}

/// A parameter as its network declared it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// The full name.
    pub name: String,
    /// The shape.
    pub shape: Vec<usize>,
    /// What the network says about it.
    pub facts: Parameter,
}

impl Graph {
    /// The weight `name` under the current module path, with what the network says about it; asking twice gives the same
    /// value.
    ///
    /// # Errors
    /// If the name is taken by a leaf of another type, or the parameter was declared with other facts.
    pub fn parameter_with(
        &mut self,
        name: &str,
        shape: impl Into<Vec<usize>>,
        facts: impl Into<Parameter>,
    ) -> Result<Value, GraphError> {
        let (name, shape) = (self.qualified(name), shape.into());
        self.declare(name.clone(), &shape, facts.into())?;
        self.leaf(name, TensorType::new(shape, DType::F32), Source::Parameter)
    }

    /// The weight `name` under the current module path, of which nothing is said but [`Parameter::default`]; asking twice
    /// gives the same value.
    ///
    /// # Errors
    /// If the name is taken by a leaf of another type.
    pub fn parameter(
        &mut self,
        name: &str,
        shape: impl Into<Vec<usize>>,
    ) -> Result<Value, GraphError> {
        let qualified = self.qualified(name);
        let facts = self.declared(&qualified).map(|known| known.facts);
        self.parameter_with(name, shape, facts.unwrap_or_default())
    }

    /// Declares a weight that files hold and no node reads.
    ///
    /// # Errors
    /// As [`Graph::parameter_with`].
    pub fn stored_parameter(
        &mut self,
        name: &str,
        shape: impl Into<Vec<usize>>,
        facts: impl Into<Parameter>,
    ) -> Result<(), GraphError> {
        let name = self.qualified(name);
        self.declare(name, &shape.into(), facts.into())
    }

    fn declare(
        &mut self,
        name: String,
        shape: &[usize],
        facts: Parameter,
    ) -> Result<(), GraphError> {
        if let Some(known) = self.declared(&name) {
            return match known.facts == facts {
                // The type is compared where the leaf is looked up.
                true => Ok(()),
                false => Err(GraphError::Model(format!(
                    "the parameter '{name}' is declared with {facts:?}, and was with {:?}",
                    known.facts
                ))),
            };
        }
        self.declared_index
            .insert(name.clone(), self.declared.len());
        self.declared.push(Declared {
            name,
            shape: shape.to_vec(),
            facts,
        });
        Ok(())
    }

    fn declared(&self, name: &str) -> Option<&Declared> {
        let index = *self.declared_index.get(name)?;
        Some(&self.declared[index])
    }

    /// All parameters as they were declared, in that order, with those that no node reads.
    pub fn declared_parameters(&self) -> &[Declared] {
        &self.declared
    }

    /// What the network says about the parameter `value`; the default for any other value.
    pub fn facts(&self, value: Value) -> Parameter {
        let info = self.info(value);
        match info.source {
            Source::Parameter => self.declared(&info.name).map(|known| known.facts),
            _ => None,
        }
        .unwrap_or_default()
    }

    /// As [`Graph::scope`]; what `build` adds is a block, whose values recomputation may drop together and compute again.
    /// Of blocks in each other the innermost counts.
    pub fn block<T>(&mut self, segment: &str, build: impl FnOnce(&mut Self) -> T) -> T {
        self.scope(segment, |g| {
            let path = g.path();
            g.blocks.insert(path);
            build(g)
        })
    }

    /// The block that a node at `path` belongs to, by its path; empty for none.
    pub fn block_of<'p>(&self, path: &'p str) -> &'p str {
        let mut prefix = path;
        while !prefix.is_empty() && !self.blocks.contains(prefix) {
            prefix = prefix.rfind('.').map_or("", |dot| &prefix[..dot]);
        }
        prefix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_keep_their_facts() {
        let mut g = Graph::new();
        let frozen = Parameter {
            trained: false,
            ..Init::Ones.into()
        };
        let a = g
            .scope("m", |g| g.parameter_with("a", [2], frozen))
            .unwrap();
        assert_eq!(g.facts(a), frozen);
        assert_eq!(g.scope("m", |g| g.parameter("a", [2])), Ok(a));
        assert!(g.scope("m", |g| g.parameter("a", [3])).is_err());
        assert!(g.parameter_with("m.a", [2], Init::Ones).is_err());
        g.stored_parameter("b", [4], Init::Normal).unwrap();
        let names: Vec<_> = g
            .declared_parameters()
            .iter()
            .map(|d| &d.name[..])
            .collect();
        assert_eq!(names, ["m.a", "b"]);
        assert_eq!(g.parameters().count(), 1);
    }

    #[test]
    fn a_node_belongs_to_its_innermost_block() {
        let mut g = Graph::new();
        g.block("a", |g| {
            g.scope("0", |g| g.block("b", |_| ()));
        });
        assert_eq!(g.block_of("a"), "a");
        assert_eq!(g.block_of("a.0.c"), "a");
        assert_eq!(g.block_of("a.0.b.conv"), "a.0.b");
        assert_eq!(g.block_of("ab.c"), "");
        assert_eq!(g.block_of(""), "");
    }
}
