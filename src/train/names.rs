//! Names of a training step's inputs, state and outputs.

/// Input: learning rate of this update, a scalar.
pub const LEARNING_RATE: &str = "learning_rate";
/// Input: 1 on the first of several accumulated passes, a scalar.
pub const FIRST_PASS: &str = "first_pass";
/// Input: 1 on the pass that updates, a scalar.
pub const APPLY: &str = "apply";
/// Input: 0 where a step drops the condition of every sample, a scalar.
pub const LABELS_KEPT: &str = "labels_kept";
/// Input: images `[B, H, W, C]` in [-1, 1].
pub const IMAGES: &str = "images";
/// Input: classes `i32[B]`, -1 for none.
pub const LABELS: &str = "labels";
/// Input: diffusion time steps `i32[B]`.
pub const TIME_STEPS: &str = "t";
/// Input: mean of the latents `[B, h, w, c]`.
pub const MEAN: &str = "mean";
/// Input: log-variance of the latents.
pub const LOGVAR: &str = "logvar";
/// Input: number of each sample within the step `i32[B]`, the image index of its random numbers.
pub const SAMPLES: &str = "samples";
/// State: the two words of the seed.
pub const SEED: &str = "seed";
/// State: updates done, `i32[1]`.
pub const STEP: &str = "step";
/// State: updates of the label table.
pub const LABEL_STEP: &str = "label_step";
/// State: averages done.
pub const EMA_STEP: &str = "ema_step";
/// State: factor on the loss of an f16 step, a scalar.
pub const LOSS_SCALE: &str = "loss_scale";
/// State: steps since that factor changed, `i32[1]`.
pub const GOOD_STEPS: &str = "loss_scale.good_steps";
/// State: prefix of first moments.
pub const ADAM_M: &str = "adam.m.";
/// State: prefix of second moments.
pub const ADAM_V: &str = "adam.v.";
/// State: prefix of averaged weights.
pub const EMA: &str = "ema.";
/// State: prefix of gradients summed over passes.
pub const SUM: &str = "sum.";
/// Output: norm of the whole gradient.
pub const GRAD_NORM: &str = "grad_norm";
/// Output: norm of each gradient.
pub const GRAD_NORMS: &str = "grad_norms";
/// Output: 1 if the gradient is finite.
pub const FINITE: &str = "finite";
/// Output: 1 if the gradient overflowed because of the factor on the loss, so that the step was skipped.
pub const OVERFLOW: &str = "overflow";
/// Output: the loss.
pub const LOSS: &str = "loss";
