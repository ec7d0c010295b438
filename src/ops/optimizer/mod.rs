//! Updates of weights: Adam, AdamW, and the moving average of weights.
//!
//! Sources: Kingma, Ba, "Adam", ICLR 2015, algorithm 1; Loshchilov, Hutter, "Decoupled Weight
//! Decay Regularization", ICLR 2019, algorithm 2.

mod cpu;
pub(crate) mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::Operator;
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};
use crate::tensor::DType;

/// One step of Adam on one array:
///
/// ```text
/// g  = clip grad                                     (+ weight_decay p, if not decoupled)
/// p  = p - lr weight_decay p                         (if decoupled)
/// m  = beta1 m + (1 - beta1) g
/// v  = beta2 v + (1 - beta2) g²
/// p -= lr / (1 - beta1^n) m / (sqrt(v) / sqrt(1 - beta2^n) + eps),   n = step + 1
/// ```
///
/// Inputs: p, grad, m, v of one shape (p, m and v are updated); learning rate, a scalar; step
/// `i32[1]`, the number of steps done; a scalar `clip` factor, if `clipped`; a scalar gate, if
/// `gated`: if it is 0, nothing changes. The op does not advance the step; see
/// [`Graph::increment`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Constants.
    pub config: AdamConfig,
    /// Whether a factor on the gradient follows the step.
    pub clipped: bool,
    /// Whether a gate is the last input.
    pub gated: bool,
}

/// Constants of [`Adam`]; the bias corrections and `1 - beta` are computed in `f64`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConfig {
    /// Share of the old first moment.
    pub beta1: f64,
    /// Share of the old second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Pull towards 0, per unit of learning rate.
    pub weight_decay: f64,
    /// AdamW: the decay shrinks the weights directly instead of being added to the gradient.
    pub decoupled: bool,
}

impl AdamConfig {
    /// Adam as the reference trains the VAE: betas 0.9 and 0.999, eps 1e-8, no decay.
    pub const ADAM: Self = Self {
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        decoupled: false,
    };
    /// AdamW as the reference trains the diffusion: as [`AdamConfig::ADAM`], decoupled decay 0.01.
    pub const ADAMW: Self = Self {
        weight_decay: 0.01,
        decoupled: true,
        ..Self::ADAM
    };
}

/// One step of the moving average of an array: `ema = decay ema + (1 - decay) p` with
/// `s = max(0, n - 1)` and `decay = 0` if `s = 0`, else `clamp(1 - (1 + s)^(-power), 0, max_decay)`.
///
/// Inputs: ema (updated), p, step `i32[1]`: the number `n` of averages done; a scalar gate, if
/// `gated`: if it is 0, nothing changes. The op does not advance the step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ema {
    /// Largest weight of the old average.
    pub max_decay: f64,
    /// Warm-up: after `s` averages the old one weighs `1 - (1 + s)^-power`.
    pub power: f64,
    /// Whether a gate is the last input.
    pub gated: bool,
}

impl Ema {
    /// Largest decay of the reference.
    pub const MAX_DECAY: f64 = 0.9999;

    /// Warm-up power of the reference.
    pub const POWER: f64 = 2.0 / 3.0;

    /// Weight of the old average after `done` averages.
    pub fn decay(&self, done: i32) -> f64 {
        match f64::from(done) - 1.0 {
            s if s > 0.0 => (1.0 - (1.0 + s).powf(-self.power)).clamp(0.0, self.max_decay),
            _ => 0.0,
        }
    }
}

fn is_scalar(ty: &TensorType) -> bool {
    *ty == TensorType::f32([])
}

fn is_counter(ty: &TensorType) -> bool {
    *ty == TensorType::new([1], DType::I32)
}

impl Operator for Adam {
    fn name(&self) -> &'static str {
        if self.config.decoupled {
            "adamw"
        } else {
            "adam"
        }
    }

    fn describe(&self) -> String {
        let clip = if self.clipped { " clipped" } else { "" };
        let gate = if self.gated { " gated" } else { "" };
        let decay = self.config.weight_decay;
        format!("{}{clip}{gate} decay {decay}", self.name())
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let extra = usize::from(self.clipped) + usize::from(self.gated);
        match inputs {
            [p, grad, m, v, lr, step, scalars @ ..]
                if [grad, m, v].iter().all(|ty| *ty == p)
                    && p.dtype == DType::F32
                    && is_scalar(lr)
                    && is_counter(step)
                    && scalars.len() == extra
                    && scalars.iter().all(is_scalar) =>
            {
                Ok(Vec::new())
            }
            _ => Err(Mismatch::inputs(
                format!("p, grad, m, v of one f32 type, lr f32[], step i32[1] and {extra} scalars"),
                inputs,
            )),
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        14 * inputs[0].len() as u64
    }

    fn bytes(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        // p, m and v are read and written, the gradient is read.
        7 * inputs[0].bytes() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }

    fn updates(&self) -> &'static [usize] {
        &[0, 2, 3]
    }
}

impl Operator for Ema {
    fn name(&self) -> &'static str {
        "ema"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        match inputs {
            [ema, p, step, gate @ ..]
                if ema == p
                    && p.dtype == DType::F32
                    && is_counter(step)
                    && gate.len() == usize::from(self.gated)
                    && gate.iter().all(is_scalar) =>
            {
                Ok(Vec::new())
            }
            _ => {
                let gate = if self.gated { " and a gate f32[]" } else { "" };
                Err(Mismatch::inputs(
                    format!("average and array of one f32 type, step i32[1]{gate}"),
                    inputs,
                ))
            }
        }
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        3 * inputs[0].len() as u64
    }

    fn bytes(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        3 * inputs[0].bytes() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }

    fn updates(&self) -> &'static [usize] {
        &[0]
    }
}

/// Operands of [`Graph::adam`].
#[derive(Clone, Copy, Debug)]
pub struct AdamOperands {
    /// The weight.
    pub parameter: Value,
    /// Gradient of the loss with respect to it.
    pub grad: Value,
    /// First and second moment, of the parameter's shape, initially 0.
    pub moments: [Value; 2],
    /// Learning rate, a scalar.
    pub learning_rate: Value,
    /// Steps done, `i32[1]`.
    pub step: Value,
    /// Factor on the gradient, a scalar.
    pub clip: Option<Value>,
    /// A scalar; 0 leaves everything as it is.
    pub gate: Option<Value>,
}

impl Graph {
    /// Adds an [`Adam`] step that updates the parameter and its moments.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn adam(&mut self, config: AdamConfig, operands: AdamOperands) -> Result<(), GraphError> {
        let AdamOperands {
            parameter,
            grad,
            moments: [m, v],
            learning_rate,
            step,
            clip,
            gate,
        } = operands;
        let mut inputs = vec![parameter, grad, m, v, learning_rate, step];
        inputs.extend(clip);
        inputs.extend(gate);
        let op = Adam {
            config,
            clipped: clip.is_some(),
            gated: gate.is_some(),
        };
        self.node(op, &inputs)?;
        Ok(())
    }

    /// Adds an [`Ema`] step with the reference's decay that moves `average` towards `array`; add it after the update of
    /// the array.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn ema(
        &mut self,
        average: Value,
        array: Value,
        step: Value,
        gate: Option<Value>,
    ) -> Result<(), GraphError> {
        self.ema_with(Ema::MAX_DECAY, Ema::POWER, average, array, step, gate)
    }

    /// As [`Graph::ema`] with another largest decay and warm-up power.
    ///
    /// # Errors
    /// As [`Graph::ema`].
    pub fn ema_with(
        &mut self,
        max_decay: f64,
        power: f64,
        average: Value,
        array: Value,
        step: Value,
        gate: Option<Value>,
    ) -> Result<(), GraphError> {
        let mut inputs = vec![average, array, step];
        inputs.extend(gate);
        let op = Ema {
            max_decay,
            power,
            gated: gate.is_some(),
        };
        self.node(op, &inputs)?;
        Ok(())
    }
}
