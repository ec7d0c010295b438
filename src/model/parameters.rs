//! Which parameters a network has: what its graph declares.

use super::config::{ConfigError, UnetConfig, VaeConfig};
use super::unet::{NetworkInputs, build_unet};
use super::vae::{build_decoder, build_encoder};
use crate::graph::{Declared, Graph, GraphError};
use crate::tensor::DType;

/// Every parameter of a noise estimator, in the order in which it is built.
///
/// # Errors
/// If the configuration is not valid, or describes a network that cannot be built.
pub fn unet_parameters(config: &UnetConfig) -> Result<Vec<Declared>, ConfigError> {
    config.validate()?;
    let mut g = Graph::new();
    let side = config.downsampling();
    let mut build = || -> Result<(), GraphError> {
        let inputs = NetworkInputs {
            x: g.input("x", [1, side, side, config.in_channels], DType::F32)?,
            t: g.input("t", [1], DType::I32)?,
            labels: match config.num_classes {
                Some(_) => Some(g.input("labels", [1], DType::I32)?),
                None => None,
            },
            self_condition: None,
        };
        build_unet(&mut g, config, inputs).map(|_| ())
    };
    build().map_err(|error| cannot_be_built("unet", &error))?;
    Ok(g.declared_parameters().to_vec())
}

/// Every parameter of an autoencoder, encoder first.
///
/// # Errors
/// As [`unet_parameters`].
pub fn vae_parameters(config: &VaeConfig) -> Result<Vec<Declared>, ConfigError> {
    config.validate()?;
    let mut g = Graph::new();
    let side = config.downsampling();
    let mut build = || -> Result<(), GraphError> {
        let x = g.input("x", [1, side, side, config.in_channels], DType::F32)?;
        let moments = build_encoder(&mut g, config, x)?;
        build_decoder(&mut g, config, moments.mean).map(|_| ())
    };
    build().map_err(|error| cannot_be_built("vae", &error))?;
    Ok(g.declared_parameters().to_vec())
}

fn cannot_be_built(part: &str, error: &GraphError) -> ConfigError {
    ConfigError::new(part, format!("the network cannot be built: {error}"))
}
