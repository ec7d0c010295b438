//! Weights before the first step, as the networks declare them ([`Init`]).

use crate::checkpoint::name_hash;
use crate::graph::{Declared, Init};
use crate::tensor::philox::{RandomStream, fill_normal, fill_uniform, stream_key};
use crate::tensor::{Tensor, TensorMap};

/// Values for those of `parameters` that are trained, a function of the seed, their names and how they begin alone.
pub fn initial_weights(parameters: &[Declared], seed: u64) -> TensorMap {
    let key = stream_key(seed, RandomStream::Weights);
    parameters
        .iter()
        .filter(|parameter| parameter.facts.trained)
        .map(|Declared { name, shape, facts }| {
            let mut values = vec![0.0; shape.iter().product()];
            let stream = name_hash(name);
            match facts.init {
                Init::Zeros => {}
                Init::Ones => values.fill(1.0),
                Init::Normal => fill_normal(key, stream, 0, &mut values),
                Init::Uniform { fan_in } => {
                    fill_uniform(key, stream, 0, &mut values);
                    let bound = 1.0 / (fan_in.max(1) as f32).sqrt();
                    values
                        .iter_mut()
                        .for_each(|v| *v = (2.0 * *v - 1.0) * bound);
                }
            }
            (name.clone(), Tensor::from_f32(shape.clone(), &values))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{unet_parameters, vae_parameters};
    use crate::train::run_file::sections::{Diffusion, UnetModel, VaeModel};

    #[test]
    fn weights_follow_their_kind() {
        let unet = UnetModel {
            hidden_channels: vec![16, 32, 32],
            norm_groups: 8,
            embedding_dim: 32,
            ..UnetModel::default()
        };
        let parameters = unet_parameters(&unet.config(4, 3, &Diffusion::default())).unwrap();
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
        let vae = vae_parameters(&VaeModel::default().config(1)).unwrap();
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
