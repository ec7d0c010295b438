//! The sections of run files: each key with its type, default and documentation, stated once.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::bytes::ByteSize;
use crate::data::{DataFormat, OnCorrupt, OnMismatch, OpenOptions, Split, UnknownPolicy};
use crate::diffusion::{BetaSchedule, NoiseConfig, Objective};
use crate::model::config::{
    AttentionKind, Backbone, TimeEmbedding, UnetConfig, UnetVariant, VaeConfig,
};

/// A key of a section: its name and its documentation, line by line.
#[derive(Clone, Copy, Debug)]
pub struct KeyDoc {
    /// The key without its section.
    pub name: &'static str,
    /// Its documentation, line by line.
    pub doc: &'static [&'static str],
}

/// A section of a run file.
pub trait Section: Default {
    /// Documentation, line by line.
    const DOC: &'static [&'static str];
    /// The keys in file order.
    const KEYS: &'static [KeyDoc];

    /// Fills in the keys whose default follows from others.
    fn resolve(&mut self) {}
}

/// Declares a section: a struct, its defaults, and the documentation of its keys for files and messages.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $name:ident { $($(#[doc = $doc:literal])+ $key:ident : $ty:ty = $default:expr,)+ }
        $($resolve:item)?
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $key: $ty,)+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }

        impl Section for $name {
            const DOC: &'static [&'static str] = &[$($about),+];
            const KEYS: &'static [KeyDoc] =
                &[$(KeyDoc { name: stringify!($key), doc: &[$($doc),+] },)+];
            $($resolve)?
        }
    };
}

/// What keeps images on one side of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupBy {
    /// The patient whose images they are.
    Patient,
}

section! {
    /// What to train on.
    Data {
        /// An image folder (class/*.png, optionally below train/ and test/), a folder with a table of labels, an .npz, or
        /// the folder of AIROGS, CheXpert or CRCDX. Relative to this file.
        path: PathBuf = PathBuf::new(),
        /// auto, folder, labels, medmnist (.npz), airogs, chexpert or crcdx.
        format: DataFormat = DataFormat::Auto,
        /// Glob patterns of the images to take, such as "*_dx.png" or "train/**". Empty: all but masks beside pictures.
        include: Vec<String> = Vec::new(),
        /// Glob patterns of images to leave out.
        exclude: Vec<String> = Vec::new(),
        /// The table of labels (.csv, .tsv), below the data set or anywhere. Not set: told by its columns.
        labels: Option<PathBuf> = None,
        /// Its column of file names or paths. Not set: file, filename, image, image_id, path, ...
        file_column: Option<String> = None,
        /// Its column of labels. Not set: label, class, dx, diagnosis, target, ...
        label_column: Option<String> = None,
        /// Its column of splits. Not set: split, set, subset, partition, where there is one.
        split_column: Option<String> = None,
        /// Its column of patients. Not set: patient, patient_id, subject, case, lesion_id, where there is one.
        patient_column: Option<String> = None,
        /// Bits that values use, where they are fewer than the files have: 12 for 12-bit values in 16-bit PNG.
        bits: Option<u32> = None,
        /// The values that are black and white, such as [-1000, 400]; others are clipped. DICOM: after rescale.
        window: Option<[f64; 2]> = None,
        /// Which part of a set that is split: train, val or test.
        split: Split = Split::Train,
        /// A set to measure on, never trained on. Not set: the held-out split of `path`, where it has one.
        holdout: Option<PathBuf> = None,
        /// Which part of the held-out set. Not set: test, or else val.
        holdout_split: Option<Split> = None,
        /// Where nothing is held out: the part of each class that is, chosen by a hash of the images' names.
        holdout_fraction: Option<f64> = None,
        /// With holdout_fraction: "patient" keeps the images of a patient on one side.
        group_by: Option<GroupBy> = None,
        /// Height and width that images are brought to: short side resized (antialiased), centre cropped.
        image_size: [usize; 2] = [256, 256],
        /// 1 (grey) or 3 (RGB); other images are converted. Not set: 1 where all images are grey, else 3.
        channels: Option<usize> = None,
        /// Exchange left and right at random.
        flip_horizontal: bool = true,
        /// Exchange top and bottom at random.
        flip_vertical: bool = false,
        /// Exchange rows and columns at random (square images).
        transpose: bool = false,
        /// Draw all classes equally often, whatever their sizes.
        balanced: bool = false,
        /// CheXpert: the finding that becomes the class.
        finding: String = OpenOptions::default().finding,
        /// CheXpert: what uncertain (-1) and empty findings count as: negative (as in the paper), positive or skip.
        unknown: UnknownPolicy = UnknownPolicy::Negative,
        /// CheXpert: what uncertain findings (-1) count as. Not set: as unknown.
        uncertain: Option<UnknownPolicy> = None,
        /// CheXpert: what findings that are not mentioned (empty) count as. Not set: as unknown.
        not_mentioned: Option<UnknownPolicy> = None,
        /// When labels and images disagree: fail, or skip the samples concerned.
        on_mismatch: OnMismatch = OnMismatch::Fail,
        /// When an image cannot be decoded: skip (named and counted), or fail.
        on_corrupt: OnCorrupt = OnCorrupt::Skip,
        /// Decoding threads.
        threads: usize = 2,
        /// Memory for decoded images.
        cache: ByteSize = ByteSize(1 << 30),
    }
}

section! {
    /// Architecture of the autoencoder.
    VaeModel {
        /// Channels of the latent.
        latent_channels: usize = 8,
        /// Channels per level, highest resolution first; each level after the first halves the image (see strides).
        hidden_channels: Vec<usize> = vec![64, 128, 256, 512],
        /// Kernel sizes, one per level. Not set: 3.
        kernel_sizes: Option<Vec<usize>> = None,
        /// Strides, one per level. Not set: 1, then 2.
        strides: Option<Vec<usize>> = None,
        /// Groups of GroupNorm; divides every number of channels.
        norm_groups: usize = 8,
        /// Residual blocks, or plain ones.
        residual_blocks: bool = true,
        /// Convolutions resample, or pooling and pixel repetition.
        learnable_resampling: bool = true,
        /// Attention per level: none, linear or spatial. Not set: none.
        attention: Option<Vec<AttentionKind>> = None,
        /// Additional outputs at lower resolutions that are trained too.
        deep_supervision: usize = 1,
    }
    fn resolve(&mut self) {
        let depth = self.hidden_channels.len();
        fill(depth, &mut self.kernel_sizes, &mut self.strides, &mut self.attention);
    }
}

impl VaeModel {
    /// The architecture for images with `channels` channels.
    pub fn config(&self, channels: usize) -> VaeConfig {
        let mut resolved = self.clone();
        resolved.resolve();
        VaeConfig {
            in_channels: channels,
            out_channels: channels,
            latent_channels: self.latent_channels,
            backbone: Backbone {
                hidden_channels: resolved.hidden_channels,
                kernel_sizes: resolved.kernel_sizes.unwrap_or_default(),
                strides: resolved.strides.unwrap_or_default(),
                norm_groups: self.norm_groups,
                residual_blocks: self.residual_blocks,
                learnable_resampling: self.learnable_resampling,
                attention: resolved.attention.unwrap_or_default(),
                deep_supervision: self.deep_supervision,
            },
        }
    }
}

section! {
    /// Architecture of the noise estimator.
    UnetModel {
        /// unet (skips from every block, concatenated), or legacy (one skip per level).
        variant: UnetVariant = UnetVariant::Unet,
        /// Channels per level, highest resolution first.
        hidden_channels: Vec<usize> = vec![256, 256, 512, 1024],
        /// Kernel sizes, one per level. Not set: 3.
        kernel_sizes: Option<Vec<usize>> = None,
        /// Strides, one per level. Not set: 1, then 2.
        strides: Option<Vec<usize>> = None,
        /// Groups of GroupNorm; divides every number of channels.
        norm_groups: usize = 32,
        /// Residual blocks per level (unet only).
        num_res_blocks: usize = 2,
        /// Residual blocks, or plain ones.
        residual_blocks: bool = true,
        /// Convolutions resample, or pooling and pixel repetition.
        learnable_resampling: bool = true,
        /// Attention per level: none, linear or spatial. Not set: none.
        attention: Option<Vec<AttentionKind>> = None,
        /// Additional outputs at lower resolutions that are trained too.
        deep_supervision: usize = 0,
        /// Width of the time and label embedding.
        embedding_dim: usize = 1024,
        /// Width of the sinusoid under the time embedding. Not set: a quarter of embedding_dim.
        sinusoid_dim: Option<usize> = None,
        /// Condition on the class.
        conditional: bool = true,
    }
    fn resolve(&mut self) {
        let depth = self.hidden_channels.len();
        fill(depth, &mut self.kernel_sizes, &mut self.strides, &mut self.attention);
        self.sinusoid_dim.get_or_insert(self.embedding_dim / 4);
    }
}

impl UnetModel {
    /// The architecture for inputs with `channels` channels and `classes` classes.
    pub fn config(&self, channels: usize, classes: usize, diffusion: &Diffusion) -> UnetConfig {
        let mut resolved = self.clone();
        resolved.resolve();
        UnetConfig {
            variant: self.variant,
            in_channels: channels,
            out_channels: channels,
            backbone: Backbone {
                hidden_channels: resolved.hidden_channels,
                kernel_sizes: resolved.kernel_sizes.unwrap_or_default(),
                strides: resolved.strides.unwrap_or_default(),
                norm_groups: self.norm_groups,
                residual_blocks: self.residual_blocks,
                learnable_resampling: self.learnable_resampling,
                attention: resolved.attention.unwrap_or_default(),
                deep_supervision: self.deep_supervision,
            },
            num_res_blocks: self.num_res_blocks,
            time_embedding: Some(TimeEmbedding {
                dim: self.embedding_dim,
                sinusoid_dim: resolved.sinusoid_dim.unwrap_or_default(),
            }),
            num_classes: self.conditional.then_some(classes),
            learned_variance: diffusion.learned_variance,
            self_conditioning: diffusion.self_conditioning,
        }
    }
}

/// Per-level lists that were left out.
fn fill(
    depth: usize,
    kernel_sizes: &mut Option<Vec<usize>>,
    strides: &mut Option<Vec<usize>>,
    attention: &mut Option<Vec<AttentionKind>>,
) {
    kernel_sizes.get_or_insert_with(|| vec![3; depth]);
    strides.get_or_insert_with(|| {
        (0..depth)
            .map(|level| if level == 0 { 1 } else { 2 })
            .collect()
    });
    attention.get_or_insert_with(|| vec![AttentionKind::None; depth]);
}

section! {
    /// Architecture of the classifier: a stem, levels of residual blocks that each halve the image, global average,
    /// one linear layer.
    ClassifierModel {
        /// Channels per level, highest resolution first.
        hidden_channels: Vec<usize> = vec![32, 64, 128],
        /// Residual blocks per level.
        num_res_blocks: usize = 2,
        /// Groups of GroupNorm; divides every number of channels.
        norm_groups: usize = 8,
    }
}

/// Distance between an image and its reconstruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PixelLossKind {
    /// Absolute difference.
    L1,
    /// Squared difference.
    Mse,
}

section! {
    /// What the autoencoder minimises: sum over pixels of pixel + perceptual + (1 - SSIM), plus kl_weight * KL.
    VaeLoss {
        /// l1 or mse.
        pixel: PixelLossKind = PixelLossKind::Mse,
        /// Add 1 - SSIM.
        ssim: bool = true,
        /// VGG16 weights (safetensors) for the perceptual loss. Not set: no perceptual loss.
        lpips_weights: Option<PathBuf> = None,
        /// Weight of the Kullback-Leibler divergence of the latents.
        kl_weight: f64 = 1e-6,
        /// Weights of the outputs of deep supervision, highest resolution first. Not set: 1.
        supervision_weights: Option<Vec<f64>> = None,
    }
}

section! {
    /// The latents that the diffusion model learns.
    Latents {
        /// Model folder or file of a trained autoencoder. Not set: diffusion on pixels.
        vae: Option<PathBuf> = None,
        /// Keep mean and log-variance of every training image on disk instead of encoding each time.
        cache: bool = true,
    }
}

/// How the betas of the forward process grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaScheduleKind {
    /// Linearly from the first beta to the last.
    Linear,
    /// Linearly in the square root of beta.
    ScaledLinear,
    /// So that alphas_cumprod follows a squared cosine (Nichol, Dhariwal, ICML 2021, eq. 17).
    Cosine,
}

/// What is dropped at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DropoutUnit {
    /// The class of each sample on its own.
    Sample,
    /// The classes of a whole batch.
    Batch,
}

section! {
    /// The diffusion process and what the network learns about it.
    Diffusion {
        /// Number of time steps.
        timesteps: usize = 1000,
        /// linear, scaled_linear or cosine.
        schedule: BetaScheduleKind = BetaScheduleKind::ScaledLinear,
        /// First beta (not for cosine).
        beta_start: f64 = 0.002,
        /// Last beta (not for cosine).
        beta_end: f64 = 0.02,
        /// What the network predicts: x_T (the noise) or x_0 (the clean sample).
        objective: Objective = Objective::Noise,
        /// Learn the variance of the reverse process too.
        learned_variance: bool = false,
        /// Let the network see its own estimate.
        self_conditioning: bool = false,
        /// Clamp estimates of x_0 to [-1, 1] while sampling.
        clip_x0: bool = false,
        /// Work on 2x - 1.
        input_centering: bool = false,
        /// Probability of dropping the class, which guidance needs.
        condition_dropout: f64 = 0.5,
        /// Drop the class of each sample or of whole batches; the reference drops batches.
        dropout_unit: DropoutUnit = DropoutUnit::Sample,
    }
}

impl Diffusion {
    /// The forward process.
    pub fn noise(&self) -> NoiseConfig {
        let (beta_start, beta_end) = (self.beta_start, self.beta_end);
        NoiseConfig {
            timesteps: self.timesteps,
            betas: match self.schedule {
                BetaScheduleKind::Linear => BetaSchedule::Linear {
                    beta_start,
                    beta_end,
                },
                BetaScheduleKind::ScaledLinear => BetaSchedule::ScaledLinear {
                    beta_start,
                    beta_end,
                },
                BetaScheduleKind::Cosine => BetaSchedule::Cosine,
            },
        }
    }
}

section! {
    /// What the noise estimator minimises.
    DiffusionLoss {
        /// l1 or mse between the prediction and its target.
        pixel: PixelLossKind = PixelLossKind::L1,
        /// Weights of the outputs, full resolution first; they are scaled to sum 1. Not set: 1, 1/2, 1/4 and so on.
        supervision_weights: Option<Vec<f64>> = None,
    }
}

/// Which update rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Weight decay as part of the gradient.
    Adam,
    /// Weight decay apart from the gradient.
    AdamW,
}

/// How the learning rate goes on after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LrSchedule {
    /// It stays as it is.
    Constant,
    /// It falls along half a cosine to its final value.
    Cosine,
}

section! {
    /// The update rule.
    Optimizer {
        /// adam or adamw.
        kind: OptimizerKind = OptimizerKind::AdamW,
        /// Learning rate.
        lr: f64 = 1e-4,
        /// Decay of the running means of gradient and squared gradient.
        betas: [f64; 2] = [0.9, 0.999],
        /// Added to the root of the squared gradient's mean.
        eps: f64 = 1e-8,
        /// Decay of all weights per unit of learning rate.
        weight_decay: f64 = 0.01,
        /// Largest norm of the whole gradient; longer ones are scaled down. Not set: no limit.
        grad_clip: Option<f64> = None,
        /// Steps over which the learning rate grows linearly from 0.
        warmup_steps: u64 = 0,
        /// After the warm-up: constant, or cosine (down to final_lr at the last step).
        schedule: LrSchedule = LrSchedule::Constant,
        /// Learning rate at the end of the cosine.
        final_lr: f64 = 0.0,
    }
}

impl Optimizer {
    /// The learning rate of step `step` (the first is 0) of `steps`: `lr (step + 1) / (warmup + 1)` during the warm-up,
    /// then `lr` or `final + (lr - final) (1 + cos(π x)) / 2` with `x` from 0 to 1.
    pub fn lr_at(&self, step: u64, steps: u64) -> f64 {
        if step < self.warmup_steps {
            return self.lr * (step + 1) as f64 / (self.warmup_steps + 1) as f64;
        }
        match self.schedule {
            LrSchedule::Constant => self.lr,
            LrSchedule::Cosine => {
                let span = steps.saturating_sub(self.warmup_steps + 1).max(1);
                let x = ((step - self.warmup_steps) as f64 / span as f64).min(1.0);
                let share = (1.0 + (std::f64::consts::PI * x).cos()) / 2.0;
                self.final_lr + (self.lr - self.final_lr) * share
            }
        }
    }
}

section! {
    /// The moving average of the weights that is used for sampling.
    Ema {
        /// Keep an average.
        enabled: bool = false,
        /// Largest decay.
        max_decay: f64 = 0.9999,
        /// Warm-up: after n updates the decay is 1 - n^-power.
        power: f64 = 2.0 / 3.0,
    }
}

impl Ema {
    /// The decay of the update that follows `updates` earlier ones, as the reference counts: with
    /// `s = max(0, updates - 1)`, 0 if `s` is 0, else `1 - (1 + s)^-power` up to `max_decay`.
    pub fn decay_at(&self, updates: u64) -> f64 {
        match updates.saturating_sub(1) {
            0 => 0.0,
            s => (1.0 - (1.0 + s as f64).powf(-self.power)).clamp(0.0, self.max_decay),
        }
    }
}

section! {
    /// The loop.
    Train {
        /// Images per step and pass.
        batch: usize = 32,
        /// Passes whose gradients are averaged into one step.
        accumulate: usize = 1,
        /// Optimizer steps. (The reference counts 1000 epochs instead.)
        steps: u64 = 100_000,
        /// Seed of weights, data order, augmentation and noise.
        seed: u64 = 0,
        /// Steps between checkpoints.
        checkpoint_every: u64 = 1000,
        /// Checkpoints kept besides the best.
        keep: usize = 2,
        /// Steps between images for looking at (reconstructions or samples); 0: none.
        sample_every: u64 = 1000,
        /// Steps between measurements on the held-out set; 0: none.
        validate_every: u64 = 1000,
        /// Steps between lines of progress and TensorBoard scalars.
        log_every: u64 = 10,
    }
}

section! {
    /// Where it runs.
    Device {
        /// auto, cpu, cuda, cuda:N or emulated.
        device: String = "auto".to_owned(),
        /// Precision of activations and products: f32, f16, bf16 or f16-fast (master weights are f32); auto is bf16 on a
        /// GPU and f32 on the CPU.
        precision: String = "auto".to_owned(),
        /// Memory that the step may use; activations are recomputed to fit. Not set: what the device has.
        memory: Option<ByteSize> = None,
        /// CPU threads. Not set: all.
        threads: Option<usize> = None,
    }
}
