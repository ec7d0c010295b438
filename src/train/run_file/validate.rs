//! What values a run file may hold, each alone and together.

use super::sections::{
    BetaScheduleKind, ClassifierModel, Data, Device, Diffusion, DiffusionLoss, Ema, Latents,
    Optimizer, Train, UnetModel, VaeLoss, VaeModel,
};
use super::{ClassifierRun, DiffusionRun, VaeRun};
use crate::data::Transform;

type Problems = Vec<String>;

/// Adds `key = value: expected …` unless the condition holds.
fn expect(
    problems: &mut Problems,
    holds: bool,
    key: &str,
    value: impl std::fmt::Debug,
    wanted: &str,
) {
    if !holds {
        problems.push(format!("{key} = {value:?}: expected {wanted}"));
    }
}

impl Data {
    pub(super) fn check(&self, problems: &mut Problems) {
        let named = !self.path.as_os_str().is_empty();
        expect(
            problems,
            named,
            "data.path",
            &self.path,
            "the path of a data set",
        );
        if let Err(error) = Transform::new(self.image_size, self.image_channels()) {
            problems.push(format!("data.image_size, data.channels: {error}"));
        }
        let [height, width] = self.image_size;
        if self.transpose && height != width {
            problems.push(format!(
                "data.transpose needs square images, not {height} x {width}"
            ));
        }
        expect(
            problems,
            (1..=256).contains(&self.threads),
            "data.threads",
            self.threads,
            "1 to 256",
        );
        if let Some(bits) = self.bits {
            expect(
                problems,
                (1..=32).contains(&bits),
                "data.bits",
                bits,
                "1 to 32",
            );
        }
        if let Some([black, white]) = self.window {
            let ordered = black.is_finite() && white.is_finite() && black < white;
            let wanted = "[black, white] with black below white";
            expect(problems, ordered, "data.window", [black, white], wanted);
            let alone = self.bits.is_none();
            expect(
                problems,
                alone,
                "data.window",
                [black, white],
                "no data.bits beside it",
            );
        }
        if let Some(fraction) = self.holdout_fraction {
            let inside = fraction > 0.0 && fraction < 1.0;
            expect(
                problems,
                inside,
                "data.holdout_fraction",
                fraction,
                "a number between 0 and 1",
            );
            let alone = self.holdout.is_none();
            expect(
                problems,
                alone,
                "data.holdout_fraction",
                fraction,
                "no data.holdout beside it",
            );
        }
        if let Some(group_by) = self.group_by {
            let used = self.holdout_fraction.is_some();
            expect(
                problems,
                used,
                "data.group_by",
                group_by,
                "data.holdout_fraction beside it",
            );
        }
        expect(
            problems,
            !self.finding.is_empty(),
            "data.finding",
            &self.finding,
            "a column name",
        );
    }
}

/// The per-level lists have one value per level; the networks check the rest when they are built.
fn levels(problems: &mut Problems, depth: usize, lists: [(&str, Option<usize>); 3]) {
    expect(
        problems,
        depth >= 2,
        "model.hidden_channels",
        depth,
        "at least 2 levels",
    );
    for (key, len) in lists {
        if let Some(len) = len
            && len != depth
        {
            problems.push(format!(
                "model.{key} has {len} values, model.hidden_channels {depth}: expected one per level"
            ));
        }
    }
}

impl VaeModel {
    pub(super) fn check(&self, problems: &mut Problems) {
        levels(
            problems,
            self.hidden_channels.len(),
            [
                ("kernel_sizes", self.kernel_sizes.as_ref().map(Vec::len)),
                ("strides", self.strides.as_ref().map(Vec::len)),
                ("attention", self.attention.as_ref().map(Vec::len)),
            ],
        );
        expect(
            problems,
            self.latent_channels > 0,
            "model.latent_channels",
            self.latent_channels,
            "at least 1",
        );
    }
}

impl UnetModel {
    pub(super) fn check(&self, problems: &mut Problems) {
        levels(
            problems,
            self.hidden_channels.len(),
            [
                ("kernel_sizes", self.kernel_sizes.as_ref().map(Vec::len)),
                ("strides", self.strides.as_ref().map(Vec::len)),
                ("attention", self.attention.as_ref().map(Vec::len)),
            ],
        );
    }
}

impl ClassifierModel {
    pub(super) fn check(&self, problems: &mut Problems) {
        let (channels, groups) = (&self.hidden_channels, self.norm_groups);
        let usable = !channels.is_empty() && !channels.contains(&0);
        expect(
            problems,
            usable,
            "model.hidden_channels",
            channels,
            "one number of channels per level",
        );
        let fits = groups > 0 && channels.iter().all(|c| c.is_multiple_of(groups));
        expect(
            problems,
            fits,
            "model.norm_groups",
            groups,
            "a divisor of all hidden_channels",
        );
        expect(
            problems,
            self.num_res_blocks > 0,
            "model.num_res_blocks",
            self.num_res_blocks,
            "at least 1",
        );
    }
}

/// Weights of outputs: none negative, not all zero.
fn weights(problems: &mut Problems, weights: &Option<Vec<f64>>) {
    if let Some(w) = weights {
        let usable = w.iter().all(|v| v.is_finite() && *v >= 0.0) && w.iter().any(|v| *v > 0.0);
        expect(
            problems,
            usable,
            "loss.supervision_weights",
            w,
            "weights from 0, one of them above 0",
        );
    }
}

impl VaeLoss {
    pub(super) fn check(&self, problems: &mut Problems) {
        let usable = self.kl_weight.is_finite() && self.kl_weight >= 0.0;
        expect(
            problems,
            usable,
            "loss.kl_weight",
            self.kl_weight,
            "a number from 0",
        );
        weights(problems, &self.supervision_weights);
    }
}

impl Latents {
    pub(super) fn check(&self, _: &mut Problems) {}
}

impl Diffusion {
    pub(super) fn check(&self, problems: &mut Problems) {
        let steps = self.timesteps;
        expect(
            problems,
            (2..=1_000_000).contains(&steps),
            "diffusion.timesteps",
            steps,
            "2 to 1000000",
        );
        if self.schedule != BetaScheduleKind::Cosine {
            let ordered =
                0.0 < self.beta_start && self.beta_start <= self.beta_end && self.beta_end < 1.0;
            let betas = [self.beta_start, self.beta_end];
            expect(
                problems,
                ordered,
                "diffusion.beta_start, beta_end",
                betas,
                "0 < beta_start <= beta_end < 1",
            );
        }
        let p = self.condition_dropout;
        expect(
            problems,
            (0.0..=1.0).contains(&p),
            "diffusion.condition_dropout",
            p,
            "0 to 1",
        );
    }
}

impl DiffusionLoss {
    pub(super) fn check(&self, problems: &mut Problems) {
        weights(problems, &self.supervision_weights);
    }
}

impl Optimizer {
    pub(super) fn check(&self, problems: &mut Problems) {
        let positive = |v: f64| v.is_finite() && v > 0.0;
        expect(
            problems,
            positive(self.lr),
            "optimizer.lr",
            self.lr,
            "a number above 0",
        );
        let inside = self.betas.iter().all(|b| (0.0..1.0).contains(b));
        expect(
            problems,
            inside,
            "optimizer.betas",
            self.betas,
            "two numbers of 0 <= beta < 1",
        );
        expect(
            problems,
            positive(self.eps),
            "optimizer.eps",
            self.eps,
            "a number above 0",
        );
        let decay = self.weight_decay;
        let usable = decay.is_finite() && decay >= 0.0;
        expect(
            problems,
            usable,
            "optimizer.weight_decay",
            decay,
            "a number from 0",
        );
        if let Some(clip) = self.grad_clip {
            expect(
                problems,
                positive(clip),
                "optimizer.grad_clip",
                clip,
                "a number above 0, or no such key",
            );
        }
        let end = (0.0..=self.lr.max(0.0)).contains(&self.final_lr);
        expect(
            problems,
            end,
            "optimizer.final_lr",
            self.final_lr,
            "0 to optimizer.lr",
        );
    }
}

impl Ema {
    pub(super) fn check(&self, problems: &mut Problems) {
        expect(
            problems,
            (0.0..1.0).contains(&self.max_decay),
            "ema.max_decay",
            self.max_decay,
            "0 <= decay < 1",
        );
        let usable = self.power.is_finite() && self.power > 0.0;
        expect(
            problems,
            usable,
            "ema.power",
            self.power,
            "a number above 0",
        );
    }
}

impl Train {
    pub(super) fn check(&self, problems: &mut Problems) {
        expect(
            problems,
            (1..=65_536).contains(&self.batch),
            "train.batch",
            self.batch,
            "1 to 65536",
        );
        let passes = self.accumulate;
        expect(
            problems,
            (1..=65_536).contains(&passes),
            "train.accumulate",
            passes,
            "1 to 65536",
        );
        expect(
            problems,
            self.steps > 0,
            "train.steps",
            self.steps,
            "at least 1",
        );
        expect(
            problems,
            self.checkpoint_every > 0,
            "train.checkpoint_every",
            self.checkpoint_every,
            "at least 1",
        );
        expect(
            problems,
            self.keep > 0,
            "train.keep",
            self.keep,
            "at least 1",
        );
        expect(
            problems,
            self.log_every > 0,
            "train.log_every",
            self.log_every,
            "at least 1",
        );
        // TOML has no unsigned 64-bit integers.
        let seed_fits = i64::try_from(self.seed).is_ok();
        expect(
            problems,
            seed_fits,
            "train.seed",
            self.seed,
            "at most 9223372036854775807",
        );
    }
}

impl Device {
    pub(super) fn check(&self, problems: &mut Problems) {
        let known = match self.device.split_once(':') {
            None => ["auto", "cpu", "cuda", "emulated"].contains(&self.device.as_str()),
            Some((kind, number)) => kind == "cuda" && number.parse::<u16>().is_ok(),
        };
        expect(
            problems,
            known,
            "device.device",
            &self.device,
            "auto, cpu, cuda, cuda:N or emulated",
        );
        let known = ["auto", "f32", "f16", "bf16", "f16-fast"].contains(&self.precision.as_str());
        expect(
            problems,
            known,
            "device.precision",
            &self.precision,
            "auto, f32, f16, bf16 or f16-fast",
        );
        if let Some(threads) = self.threads {
            expect(
                problems,
                (1..=1024).contains(&threads),
                "device.threads",
                threads,
                "1 to 1024",
            );
        }
    }
}

/// A held-out set that is the training set measures nothing.
fn held_out(data: &Data, problems: &mut Problems) {
    if data.holdout.as_ref() == Some(&data.path) && Some(data.split) == data.holdout_split {
        problems
            .push("data.holdout is data.path: expected images that are not trained on".to_owned());
    }
}

/// Supervision weights, one per output.
fn one_weight_per_output(weights: &Option<Vec<f64>>, outputs: usize, problems: &mut Problems) {
    if let Some(w) = weights
        && w.len() != outputs
    {
        problems.push(format!(
            "loss.supervision_weights has {} values for {outputs} outputs",
            w.len()
        ));
    }
}

impl VaeRun {
    pub(super) fn check_together(&self, problems: &mut Problems) {
        held_out(&self.data, problems);
        let heads = self.model.deep_supervision;
        one_weight_per_output(&self.loss.supervision_weights, heads, problems);
        // The encoder must be able to halve both sides down to the latent.
        let mut strides = self.model.strides.iter().flatten().skip(1);
        let factor = strides
            .try_fold(1usize, |product, &s| product.checked_mul(s))
            .unwrap_or(0);
        let [height, width] = self.data.image_size;
        if !height.is_multiple_of(factor) || !width.is_multiple_of(factor) {
            problems.push(format!(
                "data.image_size = [{height}, {width}]: the strides ask for multiples of {factor}"
            ));
        }
    }
}

impl DiffusionRun {
    pub(super) fn check_together(&self, problems: &mut Problems) {
        held_out(&self.data, problems);
        let outputs = 1 + self.model.deep_supervision;
        one_weight_per_output(&self.loss.supervision_weights, outputs, problems);
    }
}

impl ClassifierRun {
    pub(super) fn check_together(&self, problems: &mut Problems) {
        held_out(&self.data, problems);
    }
}
