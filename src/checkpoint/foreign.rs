//! What is in a file beside its model: named, counted and left out.

use std::collections::BTreeMap;

use super::Problem;
use super::facts::Parts;
use super::names::{ParameterMismatch, shapes_of};
use super::notes::{LeftOut, Note};
use crate::tensor::{Tensor, TensorMap};

/// First modules of the networks, whatever their configuration. An unexpected tensor under one of these means that the
/// network computes something else than the configuration says, and is never left out.
const MODULES: [&str; 14] = [
    "cond_embedder",
    "decoders",
    "encoders",
    "in_blocks",
    "in_conv",
    "inc",
    "inc_dec",
    "middle_block",
    "out_blocks",
    "out_enc",
    "outc",
    "outc_ver",
    // A vector quantiser makes another autoencoder of it.
    "quantizer",
    "time_embedder",
];

/// Last components of what tools leave behind on every module: counts of operations, states that are no tensors.
const MARKS: [&str; 3] = ["total_ops", "total_params", "_extra_state"];

/// Words in the names of what measures or trains a model, and may well be larger than it.
const HELPERS: [&str; 17] = [
    "discriminator",
    "fid",
    "inception",
    "kid",
    "lpips",
    "metric",
    "metrics",
    "optim",
    "optimizer",
    "optimizers",
    "perceiver",
    "perceptual",
    "psnr",
    "ssim",
    "vgg",
    "vgg16",
    "vgg19",
];

/// True if `name`, a tensor's name within a network, is one that the network may need.
pub(super) fn is_of_a_network(name: &str) -> bool {
    let first = name.split('.').next().unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or(name);
    MODULES.contains(&first) && !MARKS.contains(&last)
}

/// Takes what does not belong to the network out of `tensors`, if the network is complete without: where a tensor is missing
/// or of another shape, whatever is unexpected helps to see why.
pub(super) fn take_foreign(
    part: &str,
    needed: &[(String, Vec<usize>)],
    tensors: &mut TensorMap,
) -> TensorMap {
    let foreign = match ParameterMismatch::check(part, needed, &shapes_of(tensors)) {
        Err(mismatch) if mismatch.missing.is_empty() && mismatch.wrong_shape.is_empty() => {
            mismatch.unexpected
        }
        _ => return TensorMap::new(),
    };
    let foreign = foreign
        .into_iter()
        .filter(|(name, _)| !is_of_a_network(name));
    foreign
        .filter_map(|(name, _)| tensors.remove_entry(&name))
        .collect()
}

/// The note on everything in `parts` that belongs to no network, where there is something: `unet` and `vae` were taken out of
/// these parts, `file_bytes` is the size of all tensors of the file.
///
/// # Errors
/// If more than half of the file's bytes are something else: then it is another model's file, whatever else is in it. Bytes
/// and not tensors are counted, since a metric may have hundreds of tiny ones; and what is known to measure or train a model
/// counts for nothing, since a perceptual network may be larger than an autoencoder.
pub(super) fn left_out(
    parts: &Parts,
    unet: &TensorMap,
    vae: &TensorMap,
    file_bytes: usize,
) -> Result<Option<Note>, Problem> {
    let mut groups = Groups::default();
    for (name, tensor) in &parts.other {
        groups.add("", name, Some(tensor));
    }
    for (prefix, tensors) in [(parts.unet_prefix, unet), (parts.vae_prefix, vae)] {
        for (name, tensor) in tensors {
            groups.add(prefix, name, Some(tensor));
        }
    }
    for name in parts.unreadable.keys() {
        groups.add("", name, None);
    }
    if groups.0.is_empty() {
        return Ok(None);
    }
    let groups: Vec<LeftOut> = groups.0.into_values().collect();
    let strange = groups.iter().filter(|group| !is_helper(&group.name));
    let bytes: usize = strange.map(|group| group.bytes).sum();
    if bytes > file_bytes / 2 {
        return Err(Problem::MostlyForeign {
            groups,
            bytes,
            file_bytes,
        });
    }
    Ok(Some(Note::LeftOut(groups)))
}

fn is_helper(group: &str) -> bool {
    let mut words = group.split(['.', '_']);
    words.any(|word| HELPERS.contains(&word.to_ascii_lowercase().as_str()))
}

/// Tensors by the first component of their name, or the first two where the first is a part of a pipeline.
#[derive(Default)]
struct Groups(BTreeMap<String, LeftOut>);

impl Groups {
    fn add(&mut self, prefix: &str, name: &str, tensor: Option<&Tensor>) {
        let full = format!("{prefix}{name}");
        let mut parts = full.split('.');
        let first = parts.next().unwrap_or_default();
        let name = match parts.next() {
            Some(second) if super::wrappers::PIPELINE.contains(&first) => {
                format!("{first}.{second}")
            }
            _ => first.to_owned(),
        };
        let group = self.0.entry(name.clone()).or_insert(LeftOut {
            name,
            tensors: 0,
            bytes: 0,
        });
        group.tensors += 1;
        group.bytes += tensor.map_or(0, |tensor| tensor.bytes().len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{ModelConfig, unet_parameters, vae_parameters};
    use crate::model::config::UnetVariant;

    #[test]
    fn every_parameter_of_every_network_is_under_a_known_module() {
        let published = ModelConfig::published(2);
        let mut unet = published.unet.unwrap();
        let mut vae = published.vae.unwrap();
        unet.backbone.deep_supervision = 1;
        vae.backbone.deep_supervision = 1;
        let mut legacy = unet.clone();
        legacy.variant = UnetVariant::Legacy;
        let networks = [
            unet_parameters(&unet),
            unet_parameters(&legacy),
            vae_parameters(&vae),
        ];
        for network in networks {
            for (name, _) in network.unwrap() {
                assert!(is_of_a_network(&name), "{name}");
            }
        }
        assert!(!is_of_a_network("in_conv.conv.total_ops"));
        assert!(!is_of_a_network("lpips.net.weight"));
    }
}
