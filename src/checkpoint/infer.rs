//! The architecture of a checkpoint, from the shapes of its tensors and its hyper-parameters.
//!
//! Shapes tell channels, kernels, blocks per level, the kind of block, attention, embeddings and vertical outputs.
//! They do not tell strides, norm groups, the objective or the noise schedule: these come from Lightning's
//! hyper-parameters, from [`Facts`], or the error lists each fact that is missing.

use serde_json::Value;

use super::config::{MODEL_FORMAT, ModelConfig};
use super::error::{Problem, Undetermined};
use super::facts::{Fact, Facts, Network, Parts};
use super::names::Shapes;
use super::schedule;
use crate::diffusion::Objective;
use crate::model::config::{
    AttentionKind, Backbone, TimeEmbedding, UnetConfig, UnetVariant, VaeConfig,
};

/// The configuration of a checkpoint's parts. `hyper` is Lightning's `hyper_parameters`; `vae` the configuration of
/// the autoencoder where the caller knows it from elsewhere.
///
/// # Errors
/// If a fact is missing (all of them are listed), contradictory or unsupported.
pub fn infer_model(
    parts: &Parts,
    hyper: Option<&Value>,
    vae: Option<VaeConfig>,
    facts: &Facts,
) -> Result<ModelConfig, Problem> {
    let mut missing = Vec::new();
    let pipeline = hyper.filter(|hyper| hyper.get("noise_estimator_kwargs").is_some());
    let vae = match vae {
        Some(vae) => Some(vae),
        None if parts.vae.is_empty() => None,
        None => {
            let kwargs = match pipeline {
                Some(pipeline) => pipeline.get("latent_embedder_kwargs"),
                None => hyper.filter(|hyper| hyper.get("emb_channels").is_some()),
            };
            // What a person passed may be an object that stays opaque, which says nothing.
            let kwargs = kwargs.filter(|kwargs| kwargs.is_object());
            let shapes = super::names::shapes_of(&parts.vae);
            Some(vae_config(&shapes, kwargs, facts, &mut missing)?)
        }
    };
    let mut config = ModelConfig {
        format: MODEL_FORMAT,
        unet: None,
        vae,
        noise: None,
        objective: Objective::default(),
        clip_x0: false,
        input_centering: false,
        image_size: facts.image_size,
        class_names: facts.class_names.clone().unwrap_or_default(),
    };
    if !parts.unet.is_empty() {
        let shapes = super::names::shapes_of(&parts.unet);
        let kwargs = pipeline.and_then(|pipeline| {
            let kwargs = pipeline.get("noise_estimator_kwargs")?;
            let mut kwargs = kwargs.is_object().then(|| kwargs.clone())?;
            // The pipeline hands its own settings down to the network.
            for key in ["estimate_variance", "use_self_conditioning"] {
                if let (Some(map), Some(value)) = (kwargs.as_object_mut(), pipeline.get(key)) {
                    map.entry(key).or_insert_with(|| value.clone());
                }
            }
            Some(kwargs)
        });
        let latent = config.vae.as_ref().map(|vae| vae.latent_channels);
        let unet = unet_config(&shapes, kwargs.as_ref(), latent, facts, &mut missing)?;
        if config.vae.is_none()
            && pipeline.is_some_and(|pipeline| !pipeline["latent_embedder"].is_null())
        {
            missing.push(Fact::Autoencoder);
        }
        config.objective = objective(pipeline, facts, &mut missing)?;
        config.noise = schedule::infer(parts, pipeline, facts, &mut missing)?;
        let setting = |key: &str| {
            pipeline
                .and_then(|pipeline| pipeline.get(key))
                .and_then(Value::as_bool)
        };
        config.clip_x0 = facts.clip_x0.or(setting("clip_x0")).unwrap_or(false);
        config.input_centering = facts
            .input_centering
            .or(setting("do_input_centering"))
            .unwrap_or(false);
        config.unet = Some(unet);
    }
    if !missing.is_empty() {
        return Err(Undetermined { missing }.into());
    }
    config.validate()?;
    Ok(config)
}

/// The configuration of a UNet from its shapes and, where known, the reference's keyword arguments as JSON.
///
/// # Errors
/// As [`infer_model`].
pub fn infer_unet(
    shapes: &Shapes,
    kwargs: Option<&Value>,
    facts: &Facts,
) -> Result<UnetConfig, Problem> {
    let mut missing = Vec::new();
    let config = unet_config(shapes, kwargs, None, facts, &mut missing)?;
    if !missing.is_empty() {
        return Err(Undetermined { missing }.into());
    }
    config.validate()?;
    Ok(config)
}

/// The configuration of a VAE from its shapes and, where known, the reference's keyword arguments as JSON.
///
/// # Errors
/// As [`infer_model`].
pub fn infer_vae(
    shapes: &Shapes,
    kwargs: Option<&Value>,
    facts: &Facts,
) -> Result<VaeConfig, Problem> {
    let mut missing = Vec::new();
    let config = vae_config(shapes, kwargs, facts, &mut missing)?;
    if !missing.is_empty() {
        return Err(Undetermined { missing }.into());
    }
    config.validate()?;
    Ok(config)
}

fn objective(
    pipeline: Option<&Value>,
    facts: &Facts,
    missing: &mut Vec<Fact>,
) -> Result<Objective, Problem> {
    if let Some(objective) = facts.objective {
        return Ok(objective);
    }
    match pipeline.map(|pipeline| &pipeline["estimator_objective"]) {
        Some(Value::String(text)) if text == "x_T" => Ok(Objective::Noise),
        Some(Value::String(text)) if text == "x_0" => Ok(Objective::Sample),
        Some(Value::Null) => Ok(Objective::Noise),
        Some(other) => Err(Problem::unsupported(format!(
            "the estimator's objective is {other}, expected \"x_T\" or \"x_0\""
        ))),
        None => {
            if !facts.published {
                missing.push(Fact::Objective);
            }
            Ok(Objective::Noise)
        }
    }
}

/// What shapes cannot tell about a backbone.
struct Unseen<'a> {
    norm_groups: Option<usize>,
    strides: Option<&'a [usize]>,
    network: Network,
    /// The reference's default number of groups.
    default_groups: usize,
    published: bool,
}

impl Unseen<'_> {
    fn norm_groups(
        &self,
        kwargs: Option<&Value>,
        missing: &mut Vec<Fact>,
    ) -> Result<usize, Problem> {
        if let Some(groups) = self.norm_groups {
            return Ok(groups);
        }
        if let Some(kwargs) = kwargs {
            return match kwargs.get("norm_name") {
                None => Ok(self.default_groups),
                Some(norm) => group_count(norm).ok_or_else(|| {
                    Problem::unsupported(format!(
                        "the {} normalises with {norm}; this project does group norm with scale and shift",
                        self.network
                    ))
                }),
            };
        }
        if !self.published {
            missing.push(Fact::NormGroups {
                network: self.network,
                usual: self.default_groups,
            });
        }
        Ok(self.default_groups)
    }

    fn strides(
        &self,
        depth: usize,
        kwargs: Option<&Value>,
        missing: &mut Vec<Fact>,
    ) -> Result<Vec<usize>, Problem> {
        if let Some(strides) = self.strides {
            return Ok(strides.to_vec());
        }
        let usual: Vec<usize> = (0..depth).map(|i| if i == 0 { 1 } else { 2 }).collect();
        match kwargs.map(|kwargs| kwargs.get("strides")) {
            Some(Some(strides)) => {
                return integers(strides).ok_or_else(|| {
                    Problem::unsupported(format!(
                        "the {} has strides {strides}, expected a list of numbers",
                        self.network
                    ))
                });
            }
            // The reference's default is for four levels.
            Some(None) if depth == 4 => return Ok(usual),
            _ => {}
        }
        if !self.published {
            missing.push(Fact::Strides {
                network: self.network,
                usual: usual.clone(),
            });
        }
        Ok(usual)
    }
}

/// The group count of `["GROUP", {"num_groups": 8, "affine": true}]`.
fn group_count(norm: &Value) -> Option<usize> {
    let name = norm.get(0)?.as_str()?;
    let settings = norm.get(1)?;
    if !name.eq_ignore_ascii_case("group") || settings.get("affine") == Some(&Value::Bool(false)) {
        return None;
    }
    usize::try_from(settings.get("num_groups")?.as_u64()?).ok()
}

/// A list of numbers; a pair of equal numbers counts as one.
fn integers(list: &Value) -> Option<Vec<usize>> {
    let number = |value: &Value| match value {
        Value::Array(pair) if !pair.is_empty() && pair.iter().all(|v| v == &pair[0]) => {
            pair[0].as_u64()
        }
        value => value.as_u64(),
    };
    list.as_array()?
        .iter()
        .map(|value| usize::try_from(number(value)?).ok())
        .collect()
}

fn check_kwargs(network: Network, kwargs: Option<&Value>) -> Result<(), Problem> {
    let Some(kwargs) = kwargs else { return Ok(()) };
    let dimensions = kwargs.get("spatial_dims").and_then(Value::as_u64);
    if dimensions.is_some_and(|dimensions| dimensions != 2) {
        return Err(Problem::unsupported(format!(
            "the {network} has {} spatial dimensions; this project does 2",
            dimensions.unwrap_or_default()
        )));
    }
    let activation = kwargs.get("act_name").map(|act| match act {
        Value::Array(name_and_settings) => name_and_settings.first().unwrap_or(act),
        name => name,
    });
    let is_swish = |act: &Value| {
        act.as_str()
            .is_some_and(|name| ["swish", "silu"].contains(&name.to_ascii_lowercase().as_str()))
    };
    if let Some(activation) = activation.filter(|act| !is_swish(act)) {
        return Err(Problem::unsupported(format!(
            "the {network} has the activation {activation}; this project does Swish"
        )));
    }
    Ok(())
}

fn unet_config(
    shapes: &Shapes,
    kwargs: Option<&Value>,
    latent: Option<usize>,
    facts: &Facts,
    missing: &mut Vec<Fact>,
) -> Result<UnetConfig, Problem> {
    check_kwargs(Network::Unet, kwargs)?;
    let seen = Seen { shapes };
    let unseen = Unseen {
        norm_groups: facts.norm_groups,
        strides: facts.strides.as_deref(),
        network: Network::Unet,
        default_groups: 32,
        published: facts.published,
    };
    let (variant, mut backbone, num_res_blocks, stem) =
        if shapes.contains_key("in_conv.conv.weight") {
            let (backbone, repeats) = seen.exported_backbone()?;
            (
                UnetVariant::Unet,
                backbone,
                repeats,
                "in_conv.conv.weight".to_owned(),
            )
        } else {
            let backbone = seen.level_backbone()?;
            let stem = seen.first_conv("inc", backbone.residual_blocks);
            (UnetVariant::Legacy, backbone, 1, stem)
        };
    backbone.norm_groups = unseen.norm_groups(kwargs, missing)?;
    backbone.strides = unseen.strides(backbone.depth(), kwargs, missing)?;
    let time_embedding = match shapes.get("time_embedder.time_emb.1.weight") {
        Some(shape) => match shape[..] {
            [dim, sinusoid_dim] => Some(TimeEmbedding { dim, sinusoid_dim }),
            _ => return Err(seen.unclear("time_embedder.time_emb.1.weight")),
        },
        None => None,
    };
    let (in_channels, out_channels, self_conditioning, learned_variance) = channels(
        seen.dim(&stem, 1)?,
        seen.dim("outc.conv.conv.weight", 0)?,
        shapes
            .get("outc_ver.0.conv.conv.weight")
            .and_then(|shape| shape.first().copied()),
        latent,
        kwargs,
        facts,
        missing,
    )?;
    Ok(UnetConfig {
        variant,
        in_channels,
        out_channels,
        backbone,
        num_res_blocks,
        time_embedding,
        num_classes: shapes
            .get("cond_embedder.embedding.weight")
            .and_then(|shape| shape.first().copied()),
        learned_variance,
        self_conditioning,
    })
}

/// Splits the widths of the first and last convolution (`inputs`, `outputs`) into channels and doublings.
fn channels(
    inputs: usize,
    outputs: usize,
    vertical: Option<usize>,
    latent: Option<usize>,
    kwargs: Option<&Value>,
    facts: &Facts,
    missing: &mut Vec<Fact>,
) -> Result<(usize, usize, bool, bool), Problem> {
    // A width that was stated tells as much as the setting itself.
    let stated = |setting: &str, width: usize, channels: &str| {
        let kwargs = kwargs?;
        let single = kwargs.get(channels).and_then(Value::as_u64);
        kwargs
            .get(setting)
            .and_then(Value::as_bool)
            .or_else(|| doubled(width, usize::try_from(single?).ok()?))
    };
    let self_conditioning = facts
        .self_conditioning
        .or_else(|| stated("use_self_conditioning", inputs, "in_ch"))
        .or_else(|| doubled(inputs, latent?));
    let learned_variance = facts
        .learned_variance
        .or_else(|| stated("estimate_variance", outputs, "out_ch"))
        .or_else(|| doubled(outputs, vertical?))
        .or_else(|| doubled(outputs, latent?));
    let half = |width: usize, halve: bool| if halve { width / 2 } else { width };
    // What comes out is what went in: one side tells the other.
    let (self_conditioning, learned_variance) = match (self_conditioning, learned_variance) {
        (Some(input), None) => (Some(input), doubled(outputs, half(inputs, input))),
        (None, Some(output)) => (doubled(inputs, half(outputs, output)), Some(output)),
        (None, None) if inputs == outputs => (Some(false), Some(false)),
        (None, None) if doubled(inputs, outputs).is_some() => (Some(true), Some(false)),
        (None, None) if doubled(outputs, inputs).is_some() => (Some(false), Some(true)),
        both => both,
    };
    if self_conditioning.is_none() {
        missing.push(Fact::SelfConditioning {
            input_channels: inputs,
        });
    }
    if learned_variance.is_none() {
        missing.push(Fact::LearnedVariance {
            output_channels: outputs,
        });
    }
    let (input, output) = (
        self_conditioning.unwrap_or(false),
        learned_variance.unwrap_or(false),
    );
    for (halve, width, what) in [
        (
            input,
            inputs,
            "self-conditioning needs an even number of input channels",
        ),
        (
            output,
            outputs,
            "a learned variance needs an even number of output channels",
        ),
    ] {
        if halve && width % 2 != 0 {
            return Err(Problem::unsupported(format!(
                "{what}, the UNet has {width}"
            )));
        }
    }
    Ok((half(inputs, input), half(outputs, output), input, output))
}

/// Whether `width` is twice `single`; `None` if it is neither that nor equal.
fn doubled(width: usize, single: usize) -> Option<bool> {
    if width == single {
        Some(false)
    } else if width.is_multiple_of(2) && width / 2 == single {
        Some(true)
    } else {
        None
    }
}

fn vae_config(
    shapes: &Shapes,
    kwargs: Option<&Value>,
    facts: &Facts,
    missing: &mut Vec<Fact>,
) -> Result<VaeConfig, Problem> {
    check_kwargs(Network::Autoencoder, kwargs)?;
    let seen = Seen { shapes };
    let unseen = Unseen {
        norm_groups: facts.vae_norm_groups,
        strides: facts.vae_strides.as_deref(),
        network: Network::Autoencoder,
        default_groups: 8,
        published: facts.published,
    };
    let mut backbone = seen.level_backbone()?;
    backbone.norm_groups = unseen.norm_groups(kwargs, missing)?;
    backbone.strides = unseen.strides(backbone.depth(), kwargs, missing)?;
    let residual = backbone.residual_blocks;
    Ok(VaeConfig {
        in_channels: seen.dim(&seen.first_conv("inc", residual), 1)?,
        out_channels: seen.dim("outc.conv.weight", 0)?,
        latent_channels: seen.dim(&seen.first_conv("inc_dec", residual), 1)?,
        backbone,
    })
}

/// What shapes tell.
struct Seen<'a> {
    shapes: &'a Shapes,
}

impl Seen<'_> {
    fn unclear(&self, name: &str) -> Problem {
        match self.shapes.get(name) {
            Some(shape) => Problem::tensor(
                name,
                format!("has shape {shape:?}, which no Medfusion network has"),
            ),
            None => Problem::tensor(
                name,
                "is missing, so the architecture cannot be told; is this a whole Medfusion network?",
            ),
        }
    }

    fn dim(&self, name: &str, axis: usize) -> Result<usize, Problem> {
        self.shapes
            .get(name)
            .and_then(|shape| shape.get(axis).copied())
            .ok_or_else(|| self.unclear(name))
    }

    /// Name of the first convolution of the block `name`.
    fn first_conv(&self, name: &str, residual: bool) -> String {
        match residual {
            true => format!("{name}.block_seq.0.basic_block.conv.weight"),
            false => format!("{name}.block_seq.0.conv.weight"),
        }
    }

    /// Names under `prefix`, which ends with a dot.
    fn under(&self, prefix: &str) -> impl Iterator<Item = &str> {
        self.shapes
            .range(prefix.to_owned()..)
            .map(|(name, _)| name.as_str())
            .take_while(move |name| name.starts_with(prefix))
    }

    fn any_under(&self, prefix: &str) -> bool {
        self.shapes
            .range(prefix.to_owned()..)
            .next()
            .is_some_and(|(name, _)| name.starts_with(prefix))
    }

    /// One more than the largest index right after `list.`
    fn entries(&self, list: &str) -> Result<usize, Problem> {
        /// Networks have a few dozen blocks.
        const MAX_ENTRIES: usize = 4096;
        let prefix = format!("{list}.");
        let mut entries = 0;
        for name in self.under(&prefix) {
            let index = name[prefix.len()..].split('.').next().unwrap_or_default();
            match index.parse::<usize>() {
                Ok(index) if index < MAX_ENTRIES => entries = entries.max(index + 1),
                _ => return Err(self.unclear(name)),
            }
        }
        Ok(entries)
    }

    /// True for residual blocks, told by the block `name`.
    fn residual(&self, name: &str) -> Result<bool, Problem> {
        if self.shapes.contains_key(&self.first_conv(name, true)) {
            return Ok(true);
        }
        let plain = self.first_conv(name, false);
        match self.shapes.contains_key(&plain) {
            true => Ok(false),
            false => Err(self.unclear(&self.first_conv(name, true))),
        }
    }

    fn attention(&self, name: &str) -> AttentionKind {
        if self.any_under(&format!("{name}.proj_in.")) {
            AttentionKind::Spatial
        } else if self.any_under(&format!("{name}.to_q.")) {
            AttentionKind::Linear
        } else {
            AttentionKind::None
        }
    }

    fn backbone(
        &self,
        residual_blocks: bool,
        learnable_resampling: bool,
    ) -> Result<Backbone, Problem> {
        Ok(Backbone {
            hidden_channels: Vec::new(),
            kernel_sizes: Vec::new(),
            strides: Vec::new(),
            norm_groups: 1,
            residual_blocks,
            learnable_resampling,
            attention: Vec::new(),
            deep_supervision: self.entries("outc_ver")?,
        })
    }

    /// The exported UNet: in `in_blocks` every entry without a convolution block ends a level.
    fn exported_backbone(&self) -> Result<(Backbone, usize), Problem> {
        let stem = "in_conv.conv.weight";
        let residual = self.residual("in_blocks.0.0")?;
        let entries = self.entries("in_blocks")?;
        let mut backbone = self.backbone(residual, true)?;
        backbone.hidden_channels.push(self.dim(stem, 0)?);
        backbone.kernel_sizes.push(self.dim(stem, 2)?);
        // Entry 0 is never used.
        backbone.attention.push(AttentionKind::None);
        let mut repeats = Vec::new();
        let mut level_starts = true;
        for entry in 0..entries {
            let name = format!("in_blocks.{entry}");
            if !self.any_under(&format!("{name}.0.")) {
                level_starts = true;
                backbone.learnable_resampling = self.any_under(&format!("{name}.down_op."));
                continue;
            }
            if level_starts {
                level_starts = false;
                let conv = self.first_conv(&format!("{name}.0"), residual);
                backbone.hidden_channels.push(self.dim(&conv, 0)?);
                backbone.kernel_sizes.push(self.dim(&conv, 2)?);
                backbone
                    .attention
                    .push(self.attention(&format!("{name}.1.attention")));
                repeats.push(0);
            }
            if let Some(last) = repeats.last_mut() {
                *last += 1;
            }
        }
        let num_res_blocks = repeats.first().copied().unwrap_or(0);
        if repeats.iter().any(|&count| count != num_res_blocks) {
            return Err(Problem::unsupported(format!(
                "the UNet has {repeats:?} blocks per level, expected the same number in each"
            )));
        }
        Ok((backbone, num_res_blocks))
    }

    /// VAE and legacy UNet: `encoders.i` leads from level i to i + 1 and `decoders.i` back.
    fn level_backbone(&self) -> Result<Backbone, Problem> {
        let residual = self.residual("inc")?;
        let stem = self.first_conv("inc", residual);
        let levels = self.entries("encoders")?;
        let learnable = self.any_under("encoders.0.down_op.");
        let mut backbone = self.backbone(residual, learnable)?;
        backbone.hidden_channels.push(self.dim(&stem, 0)?);
        backbone.kernel_sizes.push(self.dim(&stem, 2)?);
        backbone
            .attention
            .push(self.attention("decoders.0.attention.attention"));
        for i in 0..levels {
            let conv = self.first_conv(&format!("encoders.{i}.conv_block"), residual);
            backbone.hidden_channels.push(self.dim(&conv, 0)?);
            backbone.kernel_sizes.push(self.dim(&conv, 2)?);
            backbone
                .attention
                .push(self.attention(&format!("encoders.{i}.attention.attention")));
        }
        Ok(backbone)
    }
}
