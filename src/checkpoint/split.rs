//! A state dict split into the parts of a pipeline.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Problem;
use super::facts::{Parts, Weights};
use super::foreign::is_of_a_network;
use super::state::StateDict;
use super::wrappers::{PIPELINE, unwrap};
use crate::tensor::TensorMap;

/// What a state dict is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    Pipeline,
    Unet,
    Vae,
}

/// Which part a tensor belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    RawUnet,
    AveragedUnet,
    Vae,
    Noise,
    Other,
}

const UNET_PREFIX: &str = "noise_estimator.";
const AVERAGED_PREFIX: &str = "ema_model.averaged_model.";
const VAE_PREFIX: &str = "latent_embedder.";
const NOISE_PREFIX: &str = "noise_scheduler.";

/// Splits a state dict into parts: a Lightning pipeline, or a bare UNet or VAE; whatever wraps it is taken off.
///
/// # Errors
/// If the tensors are of no network this project knows, or the wanted weights are not there.
pub fn split(state: TensorMap, hyper: Option<&Value>, weights: Weights) -> Result<Parts, Problem> {
    let state = StateDict {
        tensors: state,
        ..StateDict::default()
    };
    split_state(state, hyper, weights)
}

/// As [`split`]; tensors that cannot be read are an error where a network needs them.
pub(super) fn split_state(
    state: StateDict,
    hyper: Option<&Value>,
    weights: Weights,
) -> Result<Parts, Problem> {
    let state = unwrap(state)?;
    let layout = Layout::of(&state)?;
    let mut parts = Parts::default();
    let (mut raw, mut averaged) = (TensorMap::new(), TensorMap::new());
    for (name, tensor) in state.tensors {
        let (place, rest) = layout.place(&name);
        let part = match place {
            Place::RawUnet => &mut raw,
            Place::AveragedUnet => &mut averaged,
            Place::Vae => &mut parts.vae,
            Place::Noise => &mut parts.noise,
            Place::Other => &mut parts.other,
        };
        part.insert(rest.to_owned(), tensor);
    }
    let wants_ema = hyper
        .and_then(|hyper| hyper.get("use_ema"))
        .and_then(Value::as_bool)
        .unwrap_or(true);
    let has_averaged = state
        .unreadable
        .keys()
        .any(|name| layout.place(name).0 == Place::AveragedUnet)
        || !averaged.is_empty();
    parts.ema = match weights {
        Weights::Raw => false,
        Weights::Ema if !has_averaged => return Err(Problem::NoAverage),
        Weights::Ema => true,
        Weights::Auto => wants_ema && has_averaged,
    };
    parts.unet = if parts.ema { averaged } else { raw };
    if layout == Layout::Pipeline {
        parts.unet_prefix = if parts.ema {
            AVERAGED_PREFIX
        } else {
            UNET_PREFIX
        };
        parts.vae_prefix = VAE_PREFIX;
    }
    parts.unreadable = unneeded(state.unreadable, layout, parts.ema)?;
    Ok(parts)
}

/// What remains of the tensors that cannot be read without those of the networks.
fn unneeded(
    unreadable: BTreeMap<String, String>,
    layout: Layout,
    ema: bool,
) -> Result<BTreeMap<String, String>, Problem> {
    for (name, why) in &unreadable {
        let (place, rest) = layout.place(name);
        let is_needed = match place {
            Place::RawUnet => !ema && is_of_a_network(rest),
            Place::AveragedUnet => ema && is_of_a_network(rest),
            Place::Vae => is_of_a_network(rest),
            Place::Noise => rest == "betas",
            Place::Other => false,
        };
        if is_needed {
            return Err(Problem::tensor(name, why));
        }
    }
    Ok(unreadable)
}

impl Layout {
    fn of(state: &StateDict) -> Result<Self, Problem> {
        let has = |first: &str| state.names().any(|name| first_component(name) == first);
        if PIPELINE.iter().any(|part| has(part)) {
            Ok(Self::Pipeline)
        } else if has("inc_dec") || has("out_enc") {
            Ok(Self::Vae)
        } else if has("in_conv") || has("inc") {
            Ok(Self::Unet)
        } else {
            let some: Vec<&str> = state.names().take(3).collect();
            Err(Problem::Foreign {
                found: format!(
                    "its {} tensors are of no Medfusion network (the first: {})",
                    state.len(),
                    some.join(", ")
                ),
            })
        }
    }

    /// The part of a tensor and its name in there.
    fn place(self, name: &str) -> (Place, &str) {
        match self {
            Self::Unet => (Place::RawUnet, name),
            // The perceptual network of training.
            Self::Vae if name.starts_with("perceiver.") => (Place::Other, name),
            Self::Vae => (Place::Vae, name),
            Self::Pipeline => {
                let places = [
                    (UNET_PREFIX, Place::RawUnet),
                    (AVERAGED_PREFIX, Place::AveragedUnet),
                    (VAE_PREFIX, Place::Vae),
                    (NOISE_PREFIX, Place::Noise),
                ];
                let found = places.iter().find_map(|&(prefix, place)| {
                    let rest = name.strip_prefix(prefix)?;
                    (!rest.starts_with("perceiver.")).then_some((place, rest))
                });
                found.unwrap_or((Place::Other, name))
            }
        }
    }
}

fn first_component(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}
