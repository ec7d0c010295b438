//! Names and shapes of the parameters that a configuration needs, exactly as the reference's state dict has them.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use crate::model;
use crate::model::config::{ConfigError, UnetConfig, VaeConfig};
use crate::tensor::TensorMap;

/// Every parameter of a UNet with its shape, in the order in which the network is built.
///
/// # Errors
/// If the configuration describes no network.
pub fn unet_parameters(config: &UnetConfig) -> Result<Vec<(String, Vec<usize>)>, ConfigError> {
    Ok(names_and_shapes(model::unet_parameters(config)?))
}

/// Every parameter of a VAE with its shape, in the order in which the network is built.
///
/// # Errors
/// If the configuration describes no network.
pub fn vae_parameters(config: &VaeConfig) -> Result<Vec<(String, Vec<usize>)>, ConfigError> {
    Ok(names_and_shapes(model::vae_parameters(config)?))
}

fn names_and_shapes(
    declared: impl IntoIterator<Item = model::Declared>,
) -> Vec<(String, Vec<usize>)> {
    let declared = declared.into_iter();
    declared
        .map(|parameter| (parameter.name, parameter.shape))
        .collect()
}

/// Shapes by name.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// The shapes of a file's tensors.
pub fn shapes_of(tensors: &TensorMap) -> Shapes {
    tensors
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.shape().to_vec()))
        .collect()
}

/// How the tensors of a part differ from what its configuration needs. Displays as a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Error)]
pub struct ParameterMismatch {
    /// `unet` or `vae`.
    pub part: String,
    /// Needed, but not there: name and shape.
    pub missing: Vec<(String, Vec<usize>)>,
    /// There, but not needed: name and shape.
    pub unexpected: Vec<(String, Vec<usize>)>,
    /// There with another shape: name, needed and found shape.
    pub wrong_shape: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl ParameterMismatch {
    /// Compares what is needed with what was found.
    ///
    /// # Errors
    /// The differences, if there are any.
    pub fn check(
        part: &str,
        needed: &[(String, Vec<usize>)],
        found: &Shapes,
    ) -> Result<(), ParameterMismatch> {
        let mut mismatch = ParameterMismatch {
            part: part.to_owned(),
            ..ParameterMismatch::default()
        };
        let mut needed_names = std::collections::BTreeSet::new();
        for (name, shape) in needed {
            needed_names.insert(name);
            match found.get(name) {
                None => mismatch.missing.push((name.clone(), shape.clone())),
                Some(other) if other != shape => {
                    mismatch
                        .wrong_shape
                        .push((name.clone(), shape.clone(), other.clone()));
                }
                Some(_) => {}
            }
        }
        mismatch.unexpected = found
            .iter()
            .filter(|(name, _)| !needed_names.contains(name))
            .map(|(name, shape)| (name.clone(), shape.clone()))
            .collect();
        if mismatch.missing.is_empty()
            && mismatch.unexpected.is_empty()
            && mismatch.wrong_shape.is_empty()
        {
            return Ok(());
        }
        Err(mismatch)
    }
}

impl fmt::Display for ParameterMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Rows per kind; a wrong architecture differs in hundreds of tensors.
        const ROWS: usize = 12;
        write!(
            f,
            "the tensors of `{}` do not fit its configuration: {} missing, {} unexpected, {} of wrong shape",
            self.part,
            self.missing.len(),
            self.unexpected.len(),
            self.wrong_shape.len()
        )?;
        let missing = self
            .missing
            .iter()
            .map(|(name, shape)| ("missing", name, format!("needs {shape:?}")));
        let unexpected = self
            .unexpected
            .iter()
            .map(|(name, shape)| ("unexpected", name, format!("found {shape:?}")));
        let wrong = self.wrong_shape.iter().map(|(name, needed, found)| {
            (
                "wrong shape",
                name,
                format!("needs {needed:?}, found {found:?}"),
            )
        });
        let rows: Vec<_> = missing
            .take(ROWS)
            .chain(unexpected.take(ROWS))
            .chain(wrong.take(ROWS))
            .collect();
        let width = rows
            .iter()
            .map(|(_, name, _)| name.len())
            .max()
            .unwrap_or(0);
        for (kind, name, shapes) in rows {
            write!(f, "\n  {kind:11}  {name:width$}  {shapes}")?;
        }
        for (kind, count) in [
            ("missing", self.missing.len()),
            ("unexpected", self.unexpected.len()),
            ("wrong shape", self.wrong_shape.len()),
        ] {
            if count > ROWS {
                write!(f, "\n  {kind:11}  and {} more", count - ROWS)?;
            }
        }
        Ok(())
    }
}
