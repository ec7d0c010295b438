//! Names and shapes of the parameters that a configuration needs, exactly as the reference's state dict has them.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use crate::model::config::{Attention, Backbone, UnetConfig, UnetVariant, VaeConfig};
use crate::tensor::TensorMap;

/// Heads of every attention layer; the width of a head is `channels / 8`.
const HEADS: usize = 8;

/// Every parameter of a UNet with its shape, in the order of the reference's modules.
pub fn unet_parameters(config: &UnetConfig) -> Vec<(String, Vec<usize>)> {
    let mut list = List::default();
    let backbone = &config.backbone;
    let hidden = &backbone.hidden_channels;
    let depth = backbone.depth();
    let embedding = config.time_embedding.map(|time| time.dim);
    if let Some(time) = config.time_embedding {
        list.linear("time_embedder.time_emb.1", time.sinusoid_dim, time.dim);
        list.linear("time_embedder.time_emb.3", time.dim, time.dim);
        if let Some(classes) = config.num_classes {
            list.add("cond_embedder.embedding.weight", [classes, time.dim]);
        }
    }
    let inputs = config.in_channels * if config.self_conditioning { 2 } else { 1 };
    let outputs = config.out_channels * if config.learned_variance { 2 } else { 1 };
    match config.variant {
        UnetVariant::Unet => {
            list.conv("in_conv.conv", inputs, hidden[0], backbone.kernel_sizes[0]);
            exported_unet(&mut list, config, embedding);
            for m in 0..backbone.deep_supervision {
                let name = format!("outc_ver.{m}.conv.conv");
                list.conv(&name, hidden[m + 2] + hidden[m + 1], config.out_channels, 1);
            }
        }
        UnetVariant::Legacy => {
            let kernel = backbone.kernel_sizes[0];
            list.conv_block("inc", backbone, inputs, hidden[0], kernel, embedding);
            for i in 0..depth - 1 {
                list.down_block(i, backbone, embedding);
            }
            for i in 0..depth - 1 {
                list.up_block(i, backbone, embedding, !backbone.learnable_resampling);
            }
            for m in 0..backbone.deep_supervision {
                let name = format!("outc_ver.{m}.conv.conv");
                list.conv(&name, hidden[m + 1], config.out_channels, 1);
            }
        }
    }
    list.conv("outc.conv.conv", hidden[0], outputs, 1);
    list.parameters
}

fn exported_unet(list: &mut List, config: &UnetConfig, embedding: Option<usize>) {
    let backbone = &config.backbone;
    let hidden = &backbone.hidden_channels;
    let depth = backbone.depth();
    let repeats = config.num_res_blocks;
    let mut entry = 0;
    for i in 1..depth {
        let kernel = backbone.kernel_sizes[i];
        for k in 0..repeats {
            let inputs = hidden[if k == 0 { i - 1 } else { i }];
            let name = format!("in_blocks.{entry}");
            list.conv_block(
                &format!("{name}.0"),
                backbone,
                inputs,
                hidden[i],
                kernel,
                embedding,
            );
            list.attention(
                &format!("{name}.1.attention"),
                backbone.attention[i],
                hidden[i],
                embedding,
            );
            entry += 1;
        }
        if i < depth - 1 {
            if backbone.learnable_resampling {
                list.conv(
                    &format!("in_blocks.{entry}.down_op"),
                    hidden[i],
                    hidden[i],
                    kernel,
                );
            }
            entry += 1;
        }
    }
    let (last, kernel) = (hidden[depth - 1], backbone.kernel_sizes[depth - 1]);
    list.conv_block("middle_block.0", backbone, last, last, kernel, embedding);
    list.attention(
        "middle_block.1.attention",
        backbone.attention[depth - 1],
        last,
        embedding,
    );
    list.conv_block("middle_block.2", backbone, last, last, kernel, embedding);
    for i in 1..depth {
        let kernel = backbone.kernel_sizes[i];
        for k in 0..=repeats {
            let outputs = hidden[if k == 0 { i - 1 } else { i }];
            let inputs = hidden[i] + outputs;
            let name = format!("out_blocks.{}", (i - 1) * (repeats + 1) + k);
            list.conv_block(
                &format!("{name}.0"),
                backbone,
                inputs,
                outputs,
                kernel,
                embedding,
            );
            list.attention(
                &format!("{name}.1.attention"),
                backbone.attention[i],
                outputs,
                embedding,
            );
            if k == 0 && i > 1 && backbone.learnable_resampling {
                list.conv(&format!("{name}.2.up_op"), outputs, outputs, 3);
            }
        }
    }
}

/// Every parameter of a VAE with its shape, in the order of the reference's modules.
pub fn vae_parameters(config: &VaeConfig) -> Vec<(String, Vec<usize>)> {
    let mut list = List::default();
    let backbone = &config.backbone;
    let hidden = &backbone.hidden_channels;
    let depth = backbone.depth();
    let kernel = backbone.kernel_sizes[0];
    list.conv_block("inc", backbone, config.in_channels, hidden[0], kernel, None);
    for i in 0..depth - 1 {
        list.down_block(i, backbone, None);
    }
    let moments = 2 * config.latent_channels;
    list.conv("out_enc.0.conv", hidden[depth - 1], moments, 3);
    list.conv("out_enc.1.conv", moments, moments, 1);
    list.conv_block(
        "inc_dec",
        backbone,
        config.latent_channels,
        hidden[depth - 1],
        3,
        None,
    );
    for i in 0..depth - 1 {
        list.up_block(i, backbone, None, false);
    }
    list.conv("outc.conv", hidden[0], config.out_channels, 1);
    for m in 0..backbone.deep_supervision {
        list.conv(
            &format!("outc_ver.{m}.conv"),
            hidden[m + 1],
            config.out_channels,
            1,
        );
    }
    list.parameters
}

#[derive(Default)]
struct List {
    parameters: Vec<(String, Vec<usize>)>,
}

impl List {
    fn add(&mut self, name: impl Into<String>, shape: impl Into<Vec<usize>>) {
        self.parameters.push((name.into(), shape.into()));
    }

    fn weight_and_bias(&mut self, name: &str, weight: impl Into<Vec<usize>>) {
        let weight = weight.into();
        let bias = [weight[0]];
        self.add(format!("{name}.weight"), weight);
        self.add(format!("{name}.bias"), bias);
    }

    fn conv(&mut self, name: &str, inputs: usize, outputs: usize, kernel: usize) {
        self.weight_and_bias(name, [outputs, inputs, kernel, kernel]);
    }

    fn linear(&mut self, name: &str, inputs: usize, outputs: usize) {
        self.weight_and_bias(name, [outputs, inputs]);
    }

    /// Scale and shift of a GroupNorm or LayerNorm.
    fn norm(&mut self, name: &str, channels: usize) {
        self.weight_and_bias(name, [channels]);
    }

    /// Two convolutions with their norms, residual or plain, and the projection of the embedding.
    fn conv_block(
        &mut self,
        name: &str,
        backbone: &Backbone,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        embedding: Option<usize>,
    ) {
        for (i, inputs) in [inputs, outputs].into_iter().enumerate() {
            let residual = format!("{name}.block_seq.{i}");
            let plain = match backbone.residual_blocks {
                true => format!("{residual}.basic_block"),
                false => residual.clone(),
            };
            self.conv(&format!("{plain}.conv"), inputs, outputs, kernel);
            self.norm(&format!("{plain}.norm"), outputs);
            if backbone.residual_blocks && inputs != outputs {
                self.conv(&format!("{residual}.conv_res"), inputs, outputs, 1);
            }
        }
        if let Some(embedding) = embedding {
            self.linear(&format!("{name}.local_embedder.1"), embedding, outputs);
        }
    }

    fn attention(
        &mut self,
        name: &str,
        kind: Attention,
        channels: usize,
        embedding: Option<usize>,
    ) {
        let inner = channels / HEADS * HEADS;
        match kind {
            Attention::None => {}
            Attention::Linear => {
                self.attention_layer(name, channels, inner, embedding.unwrap_or(channels));
            }
            Attention::Spatial => {
                self.norm(&format!("{name}.norm"), channels);
                self.conv(&format!("{name}.proj_in"), channels, inner, 1);
                let block = format!("{name}.transformer_blocks.0");
                self.attention_layer(&format!("{block}.self_atn"), inner, inner, inner);
                if let Some(embedding) = embedding {
                    self.attention_layer(&format!("{block}.cros_atn"), inner, inner, embedding);
                }
                self.norm(&format!("{block}.proj_out.0.norm"), inner);
                self.linear(&format!("{block}.proj_out.0.proj"), inner, 8 * inner);
                self.conv(&format!("{block}.proj_out.2"), 4 * inner, inner, 1);
                self.conv(&format!("{name}.proj_out"), inner, channels, 1);
            }
        }
    }

    /// Projections are 1-wide convolutions, `[out, in, 1]`.
    fn attention_layer(&mut self, name: &str, channels: usize, inner: usize, context: usize) {
        self.norm(&format!("{name}.norm_x"), channels);
        self.weight_and_bias(&format!("{name}.to_q"), [inner, channels, 1]);
        self.weight_and_bias(&format!("{name}.to_k"), [inner, context, 1]);
        self.weight_and_bias(&format!("{name}.to_v"), [inner, context, 1]);
        self.weight_and_bias(&format!("{name}.to_out.0"), [channels, inner, 1]);
    }

    /// `encoders.i`: from level i to i + 1; resampling, attention, convolution block.
    fn down_block(&mut self, i: usize, backbone: &Backbone, embedding: Option<usize>) {
        let (from, to) = (backbone.hidden_channels[i], backbone.hidden_channels[i + 1]);
        let kernel = backbone.kernel_sizes[i + 1];
        let name = format!("encoders.{i}");
        let resampled = if backbone.learnable_resampling {
            self.conv(&format!("{name}.down_op.down_op"), from, to, kernel);
            to
        } else {
            from
        };
        let kind = backbone.attention[i + 1];
        self.attention(
            &format!("{name}.attention.attention"),
            kind,
            resampled,
            embedding,
        );
        self.conv_block(
            &format!("{name}.conv_block"),
            backbone,
            resampled,
            to,
            kernel,
            embedding,
        );
    }

    /// `decoders.i`: from level i + 1 to i; resampling, skip (added, or concatenated), attention, convolution block.
    fn up_block(&mut self, i: usize, backbone: &Backbone, embedding: Option<usize>, concat: bool) {
        let (from, to) = (backbone.hidden_channels[i + 1], backbone.hidden_channels[i]);
        let kernel = backbone.kernel_sizes[i + 1];
        let name = format!("decoders.{i}");
        let mut inputs = from;
        if backbone.learnable_resampling {
            self.conv(&format!("{name}.up_op.up_op"), from, to, 3);
            inputs = to;
        }
        if concat {
            inputs += to;
        }
        let kind = backbone.attention[i];
        self.attention(
            &format!("{name}.attention.attention"),
            kind,
            inputs,
            embedding,
        );
        self.conv_block(
            &format!("{name}.conv_block"),
            backbone,
            inputs,
            to,
            kernel,
            embedding,
        );
    }
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
pub struct Mismatch {
    /// `unet` or `vae`.
    pub part: String,
    /// Needed, but not there: name and shape.
    pub missing: Vec<(String, Vec<usize>)>,
    /// There, but not needed: name and shape.
    pub unexpected: Vec<(String, Vec<usize>)>,
    /// There with another shape: name, needed and found shape.
    pub wrong_shape: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl Mismatch {
    /// Compares what is needed with what was found.
    ///
    /// # Errors
    /// The differences, if there are any.
    pub fn check(
        part: &str,
        needed: &[(String, Vec<usize>)],
        found: &Shapes,
    ) -> Result<(), Mismatch> {
        let mut mismatch = Mismatch {
            part: part.to_owned(),
            ..Mismatch::default()
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

impl fmt::Display for Mismatch {
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
