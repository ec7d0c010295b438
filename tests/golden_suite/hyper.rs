//! The reference's hyper-parameters, as the golden JSON files store them.

use libtest_mimic::Failed;
use medfusion::diffusion::{BetaSchedule, NoiseConfig};
use medfusion::model::config::{
    AttentionKind, Backbone, TimeEmbedding, UnetConfig, UnetVariant, VaeConfig,
};
use serde_json::Value as Json;

fn list(json: &Json) -> Option<Vec<usize>> {
    serde_json::from_value(json.clone()).ok()
}

fn attention(json: &Json, depth: usize) -> Result<Vec<AttentionKind>, Failed> {
    let one = |json: &Json| match json.as_str() {
        Some("none") | None => Ok(AttentionKind::None),
        Some("linear") => Ok(AttentionKind::Linear),
        Some("spatial") => Ok(AttentionKind::Spatial),
        Some(other) => Err(Failed::from(format!("unknown attention '{other}'"))),
    };
    match json {
        Json::Array(kinds) => kinds.iter().map(one).collect(),
        kind => Ok(vec![one(kind)?; depth]),
    }
}

/// `default` and `all` are the numbers of heads for an absent value and for `true`.
fn backbone(hyper: &Json, groups: usize, default: usize, all: usize) -> Result<Backbone, Failed> {
    let hidden_channels = list(&hyper["hid_chs"]).ok_or("no hid_chs")?;
    let depth = hidden_channels.len();
    let deep_supervision = match &hyper["deep_supervision"] {
        Json::Bool(true) => all,
        Json::Bool(false) => 0,
        Json::Null => default,
        count => count.as_u64().ok_or("deep_supervision is no number")? as usize,
    };
    let norm_groups = hyper["norm_name"][1]["num_groups"]
        .as_u64()
        .or_else(|| hyper["num_groups"].as_u64())
        .map_or(groups, |groups| groups as usize);
    let mut strides = vec![2; depth];
    strides[0] = 1;
    Ok(Backbone {
        kernel_sizes: list(&hyper["kernel_sizes"]).unwrap_or_else(|| vec![3; depth]),
        strides: list(&hyper["strides"]).unwrap_or(strides),
        norm_groups,
        residual_blocks: hyper["use_res_block"].as_bool().unwrap_or(true),
        learnable_resampling: hyper["learnable_interpolation"].as_bool().unwrap_or(true),
        attention: attention(&hyper["use_attention"], depth)?,
        deep_supervision,
        hidden_channels,
    })
}

/// The noise estimator of `hyper`; `class` tells the legacy class from the exported one.
pub fn unet(hyper: &Json, class: &str) -> Result<UnetConfig, Failed> {
    let depth = list(&hyper["hid_chs"]).ok_or("no hid_chs")?.len();
    let legacy = class.contains("legacy");
    let time = &hyper["time_embedder_kwargs"];
    let dim = time["emb_dim"].as_u64().unwrap_or(64) as usize;
    Ok(UnetConfig {
        variant: if legacy {
            UnetVariant::Legacy
        } else {
            UnetVariant::Unet
        },
        in_channels: hyper["in_ch"].as_u64().ok_or("no in_ch")? as usize,
        out_channels: hyper["out_ch"].as_u64().ok_or("no out_ch")? as usize,
        // True means every head: D - 2 of the exported class, D - 1 of the legacy one.
        backbone: backbone(hyper, 32, 0, if legacy { depth - 1 } else { depth - 2 })?,
        num_res_blocks: hyper["num_res_blocks"].as_u64().unwrap_or(2) as usize,
        time_embedding: (!hyper["time_embedder"].is_null()).then(|| TimeEmbedding {
            dim,
            sinusoid_dim: time["sinusoidal_dim"]
                .as_u64()
                .map_or(dim / 4, |s| s as usize),
        }),
        num_classes: hyper["cond_embedder_kwargs"]["num_classes"]
            .as_u64()
            .map(|n| n as usize),
        learned_variance: hyper["estimate_variance"].as_bool().unwrap_or(false),
        self_conditioning: hyper["use_self_conditioning"].as_bool().unwrap_or(false),
    })
}

/// The autoencoder of `hyper`.
pub fn vae(hyper: &Json) -> Result<VaeConfig, Failed> {
    let depth = list(&hyper["hid_chs"]).ok_or("no hid_chs")?.len();
    let channels = |key: &str, default: u64| hyper[key].as_u64().unwrap_or(default) as usize;
    Ok(VaeConfig {
        in_channels: channels("in_channels", 3),
        out_channels: channels("out_channels", 3),
        latent_channels: channels("emb_channels", 4),
        backbone: backbone(hyper, 8, 0, depth - 1)?,
    })
}

/// The forward process of `scheduler`.
pub fn noise(scheduler: &Json) -> Result<NoiseConfig, Failed> {
    let number = |key: &str| scheduler[key].as_f64();
    let (beta_start, beta_end) = (
        number("beta_start").unwrap_or(0.002),
        number("beta_end").unwrap_or(0.02),
    );
    Ok(NoiseConfig {
        timesteps: scheduler["timesteps"].as_u64().unwrap_or(1000) as usize,
        betas: match scheduler["schedule_strategy"].as_str() {
            Some("linear") => BetaSchedule::Linear {
                beta_start,
                beta_end,
            },
            Some("scaled_linear") => BetaSchedule::ScaledLinear {
                beta_start,
                beta_end,
            },
            Some("cosine") => BetaSchedule::Cosine,
            other => return Err(format!("unknown schedule {other:?}").into()),
        },
    })
}
