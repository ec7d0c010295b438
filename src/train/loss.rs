//! What training minimises, as graph-building code: the autoencoder's loss, the diffusion loss, the classifier's.
//!
//! Sources: Müller-Franzes et al., "A Multimodal Comparison of Latent Denoising Diffusion Probabilistic Models and
//! Generative Adversarial Networks for Medical Image Synthesis", 2023, and its code for the weights of the terms; Ho,
//! Jain, Abbeel, NeurIPS 2020, eq. 14; Nichol, Dhariwal, ICML 2021, eq. 16.

use crate::diffusion::NoiseSchedule;
use crate::diffusion::Objective;
use crate::graph::{Graph, GraphError, Value};
use crate::model::config::UnetConfig;
use crate::model::{Decoded, Moments, NetworkInputs, build_unet, lpips};
use crate::ops::Unary;
pub use crate::ops::pixel_loss::Distance;

/// How the autoencoder's loss is put together.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeLossOptions {
    /// Distance of pixels.
    pub pixel: Distance,
    /// Add `1 - SSIM`.
    pub ssim: bool,
    /// Add LPIPS; its VGG16 weights are parameters under [`lpips::PATH`].
    pub perceptual: bool,
    /// Weight of the divergence of the latents; the reference's is 1e-6.
    pub kl_weight: f64,
    /// Weights of the outputs of deep supervision, highest resolution first; 1 where the list ends.
    pub supervision_weights: Vec<f64>,
}

/// The terms of one output, each as it enters the sum.
#[derive(Clone, Copy, Debug)]
pub struct OutputTerms {
    /// `sum(pixel distance) / B`.
    pub pixel: Value,
    /// `C H W mean_b(1 - ssim_b)`, and `ssim_b` `[B]`.
    pub ssim: Option<[Value; 2]>,
    /// `C H W mean_b(lpips_b)`, and `lpips_b` `[B]`.
    pub perceptual: Option<[Value; 2]>,
}

/// The autoencoder's loss and its parts, all scalars unless said otherwise.
#[derive(Clone, Debug)]
pub struct VaeLoss {
    /// `reconstruction + kl_weight kl`.
    pub total: Value,
    /// All terms of all outputs.
    pub reconstruction: Value,
    /// Divergence of the latents in nats per sample, without its weight.
    pub kl: Value,
    /// The full-size output first, then those of deep supervision, highest resolution first.
    pub outputs: Vec<OutputTerms>,
}

fn sum(g: &mut Graph, terms: impl IntoIterator<Item = Value>) -> Result<Value, GraphError> {
    let mut terms = terms.into_iter();
    let first = terms.next().expect("at least one term");
    terms.try_fold(first, |total, term| g.add(total, term))
}

/// Adds the loss of a reconstruction of `target` `[B, H, W, C]` in [-1, 1].
///
/// SSIM and LPIPS are per sample and are broadcast over the pixels before the sum, so each counts `C H W` times. The
/// target of an output of lower resolution is `target` at the nearest pixels.
///
/// # Errors
/// If the shapes do not fit; LPIPS takes RGB or grey images with sides of at least 16 pixels.
pub fn vae_loss(
    g: &mut Graph,
    options: &VaeLossOptions,
    moments: Moments,
    decoded: &Decoded,
    target: Value,
) -> Result<VaeLoss, GraphError> {
    let mut outputs = Vec::new();
    let mut weighted = Vec::new();
    for (index, &prediction) in std::iter::once(&decoded.y)
        .chain(&decoded.vertical)
        .enumerate()
    {
        let &[_, height, width, _] = g.shape(prediction) else {
            return Err(GraphError::Model(format!(
                "the loss takes images [B, H, W, C], found {}",
                g.ty(prediction)
            )));
        };
        let target = match index {
            0 => target,
            _ => g.resize_nearest(target, height, width)?,
        };
        let terms = output_terms(g, options, prediction, target)?;
        let parts = [
            Some(terms.pixel),
            terms.ssim.map(|[term, _]| term),
            terms.perceptual.map(|[term, _]| term),
        ];
        let total = sum(g, parts.into_iter().flatten())?;
        let weight = match index {
            0 => 1.0,
            _ => *options.supervision_weights.get(index - 1).unwrap_or(&1.0),
        };
        weighted.push(if weight == 1.0 {
            total
        } else {
            g.scale(total, weight as f32)?
        });
        outputs.push(terms);
    }
    let reconstruction = sum(g, weighted)?;
    let kl = g.gaussian_kl(moments.mean, moments.logvar)?;
    let weighted_kl = g.scale(kl, options.kl_weight as f32)?;
    let total = g.add(reconstruction, weighted_kl)?;
    Ok(VaeLoss {
        total,
        reconstruction,
        kl,
        outputs,
    })
}

fn output_terms(
    g: &mut Graph,
    options: &VaeLossOptions,
    prediction: Value,
    target: Value,
) -> Result<OutputTerms, GraphError> {
    let shape = g.shape(prediction).to_vec();
    let (batch, pixels) = (shape[0], shape[1..].iter().product::<usize>());
    let pixel = g.pixel_loss(options.pixel, prediction, target, 1.0 / batch as f32)?;
    let per_sample = pixels as f32 / batch as f32;
    let ssim = match options.ssim {
        true => {
            let each = g.ssim(prediction, target)?;
            let total = g.sum_to(each, &[])?;
            let term = g.apply(
                Unary::Affine {
                    scale: -per_sample,
                    shift: pixels as f32,
                },
                &[total],
            )?;
            Some([term, each])
        }
        false => None,
    };
    let perceptual = match options.perceptual {
        true => {
            let (prediction, target) = (rgb(g, prediction)?, rgb(g, target)?);
            let each = g.block(lpips::PATH, |g| lpips::lpips(g, prediction, target))?;
            let total = g.sum_to(each, &[])?;
            Some([g.scale(total, per_sample)?, each])
        }
        false => None,
    };
    Ok(OutputTerms {
        pixel,
        ssim,
        perceptual,
    })
}

/// Grey images as RGB, for the network behind LPIPS.
fn rgb(g: &mut Graph, x: Value) -> Result<Value, GraphError> {
    match g.ty(x).channels() {
        1 => g.concat(&[x, x, x]),
        _ => Ok(x),
    }
}

/// How the diffusion loss is put together.
#[derive(Clone, Debug, PartialEq)]
pub struct DiffusionLossOptions {
    /// What the network predicts.
    pub objective: Objective,
    /// Distance of prediction and target, averaged over all elements.
    pub distance: Distance,
    /// Weights of the outputs, full resolution first; they are scaled to sum 1. Empty: 1, 1/2, 1/4, ….
    pub supervision_weights: Vec<f64>,
    /// The diffusion works on `2 x - 1`.
    pub input_centering: bool,
}

/// What a diffusion training step is given.
#[derive(Clone, Copy, Debug)]
pub struct DiffusionInputs {
    /// Clean samples `[B, H, W, C]`.
    pub x_0: Value,
    /// Standard normals, shaped as `x_0`.
    pub noise: Value,
    /// Time steps `i32[B]` in `0..T`.
    pub t: Value,
    /// Classes `i32[B]`, -1 where the condition is dropped; `None` for an unconditional step.
    pub labels: Option<Value>,
}

/// The diffusion loss and its parts, scalars.
#[derive(Clone, Debug)]
pub struct DiffusionLoss {
    /// `prediction + variance`.
    pub total: Value,
    /// Weighted distance of predictions and targets.
    pub prediction: Value,
    /// Loss of the learned variance.
    pub variance: Option<Value>,
}

/// Adds a noise estimator and its loss: `x_t` from `x_0` and noise, the network, the mean distance of its prediction
/// to the noise or the clean sample.
///
/// - Deep supervision compares the outputs of lower resolution with targets averaged over areas.
/// - A learned variance adds its divergence ([`Graph::variance_loss`]). For the noise objective its estimate of `x_0`
///   comes from the true noise, so that the term trains the variance alone.
/// - Self-conditioning concatenates `x_t` itself, as the reference does whatever estimate it is given.
///
/// # Errors
/// If the inputs do not fit the network.
pub fn diffusion_loss(
    g: &mut Graph,
    unet: &UnetConfig,
    schedule: &NoiseSchedule,
    options: &DiffusionLossOptions,
    inputs: DiffusionInputs,
) -> Result<DiffusionLoss, GraphError> {
    let x_0 = match options.input_centering {
        true => g.apply(
            Unary::Affine {
                scale: 2.0,
                shift: -1.0,
            },
            &[inputs.x_0],
        )?,
        false => inputs.x_0,
    };
    let forward = table(
        g,
        [
            &schedule.sqrt_alphas_cumprod,
            &schedule.sqrt_one_minus_alphas_cumprod,
        ],
    )?;
    let x_t = g.add_noise(x_0, inputs.noise, forward, inputs.t)?;
    let network = NetworkInputs {
        x: x_t,
        t: inputs.t,
        labels: inputs.labels,
        self_condition: unet.self_conditioning.then_some(x_t),
    };
    let predicted = build_unet(g, unet, network)?;
    let target = match options.objective {
        Objective::Noise => inputs.noise,
        Objective::Sample => x_0,
    };

    let outputs = 1 + predicted.vertical.len();
    let mut terms = Vec::with_capacity(outputs);
    for (weight, &y) in supervision_weights(&options.supervision_weights, outputs)
        .into_iter()
        .zip(std::iter::once(&predicted.y).chain(&predicted.vertical))
    {
        let &[_, height, width, _] = g.shape(y) else {
            unreachable!("the network's outputs are maps")
        };
        let target = match g.shape(y) == g.shape(target) {
            true => target,
            false => g.resize_area(target, height, width)?,
        };
        let factor = weight / g.ty(y).len() as f64;
        terms.push(g.pixel_loss(options.distance, y, target, factor as f32)?);
    }
    let prediction = sum(g, terms)?;

    let variance = match predicted.variance {
        Some(variance) => {
            let estimate = match options.objective {
                Objective::Noise => {
                    let negative: Vec<f32> = schedule
                        .sqrt_recipm1_alphas_cumprod
                        .iter()
                        .map(|v| -v)
                        .collect();
                    let back = table(g, [&schedule.sqrt_recip_alphas_cumprod, &negative])?;
                    g.add_noise(x_t, inputs.noise, back, inputs.t)?
                }
                Objective::Sample => predicted.y,
            };
            let steps = 0..schedule.timesteps();
            let low: Vec<f32> = steps
                .clone()
                .map(|t| schedule.log_posterior_variance(t))
                .collect();
            let high: Vec<f32> = steps.map(|t| schedule.log_beta(t)).collect();
            let posterior = table(g, [&low, &high, &schedule.posterior_mean_coef1])?;
            Some(g.variance_loss(variance, x_0, estimate, posterior, inputs.t)?)
        }
        None => None,
    };
    let total = match variance {
        Some(variance) => g.add(prediction, variance)?,
        None => prediction,
    };
    Ok(DiffusionLoss {
        total,
        prediction,
        variance,
    })
}

/// Columns side by side as `[T, K]`.
fn table<const K: usize>(g: &mut Graph, columns: [&[f32]; K]) -> Result<Value, GraphError> {
    let rows = columns[0].len();
    let values: Vec<f32> = (0..rows)
        .flat_map(|row| columns.map(|column| column[row]))
        .collect();
    g.constant([rows, K], &values)
}

/// One weight per output, summing to 1.
fn supervision_weights(given: &[f64], outputs: usize) -> Vec<f64> {
    let weights: Vec<f64> = (0..outputs)
        .map(|i| match given.is_empty() {
            true => 0.5f64.powi(i as i32),
            false => given.get(i).copied().unwrap_or(0.0),
        })
        .collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / total).collect()
}
