//! Weights before the first step.
//!
//! As the reference initialises them: kernels, matrices and their biases uniform within `1 / sqrt(fan_in)`, norms 1
//! and 0, label tables standard normal, and zeros in what ends a residual branch (the second convolution of every
//! block, output heads, the output projections of attention), so that blocks begin as their skips.

use crate::checkpoint::name_hash;
use crate::tensor::philox::{Purpose, fill_normal, fill_uniform, stream_key};
use crate::tensor::{Tensor, TensorMap};

/// Modules that begin with zeros, by their path without `.weight` or `.bias`.
fn is_zero(module: &str) -> bool {
    const ENDS: [&str; 4] = [
        "block_seq.1.basic_block.conv",
        "block_seq.1.conv",
        "to_out.0",
        "proj_out",
    ];
    let head = module.starts_with("outc.") || module.starts_with("outc_ver.");
    head || ENDS.iter().any(|end| {
        module
            .strip_suffix(end)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// Values for `parameters` (name and shape), a function of the seed and the names alone.
pub fn initial_weights(parameters: &[(String, Vec<usize>)], seed: u64) -> TensorMap {
    let key = stream_key(seed, Purpose::Weights);
    // A bias has the range of its kernel.
    let fan_in = |module: &str| -> Option<usize> {
        let weight = format!("{module}.weight");
        let (_, shape) = parameters.iter().find(|(name, _)| *name == weight)?;
        (shape.len() >= 2).then(|| shape[1..].iter().product())
    };
    parameters
        .iter()
        .map(|(name, shape)| {
            let (module, kind) = name.rsplit_once('.').unwrap_or((name, ""));
            let mut values = vec![0.0; shape.iter().product()];
            let stream = name_hash(name);
            match fan_in(module) {
                _ if is_zero(module) => {}
                _ if module.ends_with("embedding") => fill_normal(key, stream, 0, &mut values),
                Some(fan_in) => {
                    fill_uniform(key, stream, 0, &mut values);
                    let bound = 1.0 / (fan_in.max(1) as f32).sqrt();
                    values
                        .iter_mut()
                        .for_each(|v| *v = (2.0 * *v - 1.0) * bound);
                }
                None if kind == "weight" => values.fill(1.0),
                None => {}
            }
            (name.clone(), Tensor::from_f32(shape.clone(), &values))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{unet_parameters, vae_parameters};
    use crate::train::run_file::sections::{Diffusion, UnetModel, VaeModel};

    #[test]
    fn weights_follow_their_kind() {
        let unet = UnetModel {
            hidden_channels: vec![16, 32, 32],
            norm_groups: 8,
            embedding_dim: 32,
            ..UnetModel::default()
        };
        let parameters = unet_parameters(&unet.config(4, 3, &Diffusion::default()));
        let weights = initial_weights(&parameters, 7);
        assert_eq!(weights.len(), parameters.len());
        let get = |name: &str| weights[name].to_f32().unwrap().into_owned();
        let kernel = get("in_blocks.0.0.block_seq.0.basic_block.conv.weight");
        let bound = 1.0 / (16.0f32 * 9.0).sqrt();
        let largest = kernel.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        assert!(largest <= bound && largest > 0.95 * bound, "{largest}");
        let mean = kernel.iter().sum::<f32>() / kernel.len() as f32;
        assert!(mean.abs() < 0.05 * bound);
        let bias = get("in_blocks.0.0.block_seq.0.basic_block.conv.bias");
        assert!(bias.iter().any(|v| *v != 0.0) && bias.iter().all(|v| v.abs() <= bound));
        for zero in [
            "in_blocks.0.0.block_seq.1.basic_block.conv.weight",
            "in_blocks.0.0.block_seq.1.basic_block.conv.bias",
            "outc.conv.conv.weight",
            "in_blocks.0.0.block_seq.0.basic_block.norm.bias",
        ] {
            assert!(get(zero).iter().all(|v| *v == 0.0), "{zero}");
        }
        assert!(
            get("in_blocks.0.0.block_seq.0.basic_block.norm.weight")
                .iter()
                .all(|v| *v == 1.0)
        );
        let table = get("cond_embedder.embedding.weight");
        assert!(table.iter().any(|v| v.abs() > 1.0));
        assert_eq!(weights, initial_weights(&parameters, 7));
        assert_ne!(weights, initial_weights(&parameters, 8));
        // An autoencoder's names fall into the same kinds.
        let vae = vae_parameters(&VaeModel::default().config(1));
        let weights = initial_weights(&vae, 7);
        assert!(
            weights["outc.conv.weight"]
                .to_f32()
                .unwrap()
                .iter()
                .all(|v| *v == 0.0)
        );
    }
}
