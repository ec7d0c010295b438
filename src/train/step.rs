//! One training step as a plan: forward, loss, gradients, clipping, update, moving average, counters.
//!
//! Weights, moments, averages and counters are state of the executable and are read and written by name, so a step
//! costs the host nothing but its inputs. Any device that runs plans trains.
//!
//! ```text
//! inputs   what the loss reads, learning_rate, [first_pass, apply] with accumulation, [labels_kept]
//! state    weights, adam.m.*, adam.v.*, [ema.*], [sum.*] with accumulation, step, [label_step], [ema_step],
//!          [loss_scale, loss_scale.good_steps] with loss scaling
//! outputs  what the loss says, grad_norm, grad_norms, finite, [overflow] with loss scaling
//! ```
//!
//! If a gradient is not finite, nothing is updated: the state stays that of the step before. With loss scaling, for
//! activations in f16, the backward pass starts at a power of two that is taken off the gradients before anything else is
//! done with them; a step whose gradient overflows lowers it and is skipped, without the host.

use std::collections::BTreeMap;

use thiserror::Error;

use super::names;
use crate::device::{Compiled, Device, DeviceError, Executable, MemoryReport, OverBudget};
use crate::graph::{Graph, GraphError, Value};
use crate::ops::LossScale;
use crate::ops::optimizer::{AdamConfig, AdamOperands};
use crate::tensor::{DType, Tensor, TensorMap};

/// The update rule and what surrounds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOptions {
    /// The update rule.
    pub adam: AdamConfig,
    /// Largest norm of the whole gradient; infinity for no limit.
    pub max_norm: f32,
    /// The moving average of the weights, if one is kept.
    pub ema: Option<EmaOptions>,
    /// Passes whose gradients are averaged into one update.
    pub accumulate: usize,
    /// Keep gradients in the range of f16 by a factor on the loss that adapts, see [`LossScale`].
    pub loss_scaling: bool,
}

/// See [`crate::ops::Ema`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmaOptions {
    /// Largest weight of the old average.
    pub max_decay: f64,
    /// Exponent of the warm-up: the weight after `t` updates is `1 - (1 + t)^-power`.
    pub power: f64,
}

/// A loss with its gradients and updates, ready to be planned.
#[derive(Clone, Debug)]
pub struct TrainingGraph {
    /// Loss, gradients, updates and averages.
    pub graph: Graph,
    /// Nodes of the forward pass, which come first.
    pub forward_nodes: usize,
    /// Trained parameters with the gradient of this pass.
    pub gradients: Vec<(String, Value)>,
    options: StepOptions,
}

impl TrainingGraph {
    /// Completes a graph that computes the scalar `loss`. Every parameter that the loss depends on is trained, save
    /// those that their network declares frozen.
    ///
    /// # Errors
    /// If an op on the way has no gradient.
    pub fn new(mut g: Graph, loss: Value, options: StepOptions) -> Result<Self, GraphError> {
        let forward_nodes = g.nodes().len();
        let parameters: Vec<(String, Value)> = g
            .parameters()
            .filter(|&(_, value)| g.facts(value).trained)
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let values: Vec<Value> = parameters.iter().map(|&(_, value)| value).collect();
        let scale = match options.loss_scaling {
            true => Some(g.state(names::LOSS_SCALE, [], DType::F32)?),
            false => None,
        };
        let scaled_loss = match scale {
            Some(scale) => g.mul(loss, scale)?,
            None => loss,
        };
        let grads = g.gradients(scaled_loss, &values)?;
        let (mut trained, mut gradients) = (Vec::new(), Vec::new());
        for ((name, parameter), grad) in parameters.into_iter().zip(grads) {
            if let Some(grad) = grad {
                trained.push(parameter);
                gradients.push((name, grad));
            }
        }

        let accumulates = options.accumulate > 1;
        let mut grads: Vec<Value> = gradients.iter().map(|&(_, grad)| grad).collect();
        if accumulates {
            let first = g.input(names::FIRST_PASS, [], DType::F32)?;
            // 1 on the first pass, so that the sum starts again.
            let keep = g.apply(
                crate::ops::Unary::Affine {
                    scale: -1.0,
                    shift: 1.0,
                },
                &[first],
            )?;
            let factor = 1.0 / options.accumulate as f32;
            for ((name, _), grad) in gradients.iter().zip(&mut grads) {
                let shape = g.shape(*grad).to_vec();
                let sum = g.state(&format!("{}{name}", names::SUM), shape, DType::F32)?;
                g.accumulate(sum, *grad, keep, factor)?;
                *grad = sum;
            }
        }
        let norms = match scale {
            Some(scale) => g.scaled_global_norm(&grads, scale, options.max_norm)?,
            None => g.global_norm(&grads, options.max_norm)?,
        };
        g.output(names::GRAD_NORM, norms.total);
        g.output(names::GRAD_NORMS, norms.each);
        g.output(names::FINITE, norms.finite);
        let mut gate = norms.finite;
        let mut last_pass = None;
        if accumulates {
            let apply = g.input(names::APPLY, [], DType::F32)?;
            gate = g.mul(gate, apply)?;
            last_pass = Some(apply);
        }
        let has_factor = scale.is_some() || options.max_norm.is_finite();

        let learning_rate = g.input(names::LEARNING_RATE, [], DType::F32)?;
        let step = g.state(names::STEP, [1], DType::I32)?;
        let ema_step = match options.ema {
            Some(_) => Some(g.state(names::EMA_STEP, [1], DType::I32)?),
            None => None,
        };
        let mut label_step = None;
        for (((name, _), &parameter), &grad) in gradients.iter().zip(&trained).zip(&grads) {
            let shape = g.shape(parameter).to_vec();
            let mut moment =
                |prefix: &str| g.state(&format!("{prefix}{name}"), shape.clone(), DType::F32);
            let moments = [moment(names::ADAM_M)?, moment(names::ADAM_V)?];
            let (step, own_gate) = match (g.facts(parameter).conditional, label_step) {
                (true, Some(known)) => known,
                (true, None) => {
                    // Where a step drops every condition, it has no gradient and is left as it is.
                    let kept = g.input(names::LABELS_KEPT, [], DType::F32)?;
                    let own_gate = g.mul(gate, kept)?;
                    let counter = g.state(names::LABEL_STEP, [1], DType::I32)?;
                    label_step = Some((counter, own_gate));
                    (counter, own_gate)
                }
                (false, _) => (step, gate),
            };
            let operands = AdamOperands {
                parameter,
                grad,
                moments,
                learning_rate,
                step,
                clip: has_factor.then_some(norms.clip_factor),
                gate: Some(own_gate),
            };
            g.adam(options.adam, operands)?;
            if let (Some(ema), Some(counter)) = (options.ema, ema_step) {
                let average = g.state(&format!("{}{name}", names::EMA), shape, DType::F32)?;
                let gate = Some(gate);
                g.ema_with(ema.max_decay, ema.power, average, parameter, counter, gate)?;
            }
        }
        g.increment_if(step, gate)?;
        if let Some((counter, own_gate)) = label_step {
            g.increment_if(counter, own_gate)?;
        }
        if let Some(counter) = ema_step {
            g.increment_if(counter, gate)?;
        }
        if let Some(scale) = scale {
            let good = g.state(names::GOOD_STEPS, [1], DType::I32)?;
            let overflow = g.loss_scale(scale, good, norms.finite, last_pass)?;
            g.output(names::OVERFLOW, overflow);
        }
        Ok(Self {
            graph: g,
            forward_nodes,
            gradients,
            options,
        })
    }

    /// Plans the step for a device; `budget_bytes` bounds its memory by computing activations again where they do not
    /// fit.
    ///
    /// # Errors
    /// If the budget is too small; the error says by how much.
    pub fn compile(
        &self,
        device: &Device,
        budget_bytes: Option<usize>,
    ) -> Result<Compiled, OverBudget> {
        match budget_bytes {
            Some(budget) => device.compile_within(&self.graph, self.forward_nodes, budget),
            None => Ok(device.compile(&self.graph)),
        }
    }

    /// Gives the step its memory and initial weights; moments start at 0, averages at the weights.
    ///
    /// # Errors
    /// If the memory is not there or a weight is missing.
    pub fn load(
        &self,
        device: &Device,
        compiled: Compiled,
        weights: &TensorMap,
    ) -> Result<LoadedStep, StepError> {
        let executable = device.load(compiled, weights)?;
        let parameters = self
            .gradients
            .iter()
            .map(|(name, grad)| (name.clone(), self.graph.shape(*grad).to_vec()))
            .collect();
        let mut trainer = LoadedStep {
            executable,
            parameters,
            options: self.options,
        };
        if self.options.loss_scaling {
            let first = [LossScale::FIRST];
            trainer.executable.write(names::LOSS_SCALE, &first)?;
        }
        if self.options.ema.is_some() {
            for (name, _) in trainer.parameters.clone() {
                let values = trainer.executable.read(&name)?;
                trainer
                    .executable
                    .write(&format!("{}{name}", names::EMA), &values)?;
            }
        }
        Ok(trainer)
    }
}

/// Why a step cannot be made or its state not restored.
#[derive(Debug, Error)]
pub enum StepError {
    /// The graph does not fit together.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The device fails.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A state has no tensor of this name.
    #[error("the checkpoint has no `{0}`; it belongs to another run")]
    Missing(String),
    /// A tensor of a state has another shape.
    #[error("`{name}` of the checkpoint has shape {found:?}, this run needs {expected:?}")]
    Shape {
        /// Name of the tensor.
        name: String,
        /// Shape by the network.
        expected: Vec<usize>,
        /// Shape in the state.
        found: Vec<usize>,
    },
    /// A tensor of a state is not of a float type.
    #[error("`{name}` of the checkpoint: {source}")]
    Type {
        /// Name of the tensor.
        name: String,
        /// What its type is.
        source: crate::tensor::TensorError,
    },
}

/// What a step did.
#[derive(Clone, Debug, PartialEq)]
pub struct StepOutcome {
    /// Norm of the whole gradient before clipping.
    pub grad_norm: f32,
    /// The first parameter whose gradient is not finite, if that is no overflow.
    pub not_finite: Option<String>,
    /// The gradient overflowed because of the factor on the loss. The factor is lower now and the update was skipped.
    pub overflow: bool,
}

/// A training step with its memory: weights, moments, averages, counters.
pub struct LoadedStep {
    executable: Box<dyn Executable>,
    parameters: Vec<(String, Vec<usize>)>,
    options: StepOptions,
}

/// The parts of a checkpoint and the prefixes of their state; weights have none.
const PARTS: [(&str, &str); 4] = [
    ("weights", ""),
    ("adam-m", names::ADAM_M),
    ("adam-v", names::ADAM_V),
    ("ema", names::EMA),
];

/// Counters of the device.
const COUNTERS: [&str; 3] = [names::STEP, names::LABEL_STEP, names::EMA_STEP];

impl LoadedStep {
    /// The plan with its memory, for inputs and outputs.
    pub fn executable(&mut self) -> &mut dyn Executable {
        &mut *self.executable
    }

    /// Memory in use.
    pub fn memory(&self) -> MemoryReport {
        self.executable.memory()
    }

    /// Updates done.
    ///
    /// # Errors
    /// If the device fails.
    pub fn step(&self) -> Result<u64, DeviceError> {
        Ok(self.executable.read_i32(names::STEP)?[0] as u64)
    }

    /// Runs pass `pass` of the step, with the inputs written before; the last pass updates the weights.
    /// `labels_kept` says whether any sample of any pass has its condition.
    ///
    /// # Errors
    /// If the device fails.
    pub fn run_pass(
        &mut self,
        pass: usize,
        learning_rate: f64,
        labels_kept: bool,
    ) -> Result<(), DeviceError> {
        let flag = |holds: bool| [f32::from(u8::from(holds))];
        let inputs = [
            (names::LEARNING_RATE, [learning_rate as f32]),
            (names::FIRST_PASS, flag(pass == 0)),
            (names::APPLY, flag(pass + 1 == self.options.accumulate)),
            (names::LABELS_KEPT, flag(labels_kept)),
        ];
        for (name, value) in inputs {
            if self.executable.has(name) {
                self.executable.write(name, &value)?;
            }
        }
        self.executable.run()
    }

    /// What the last pass did.
    ///
    /// # Errors
    /// If the device fails.
    pub fn report(&self) -> Result<StepOutcome, DeviceError> {
        let grad_norm = self.executable.output(names::GRAD_NORM)?[0];
        let overflow =
            self.options.loss_scaling && self.executable.output(names::OVERFLOW)?[0] != 0.0;
        let not_finite = if grad_norm.is_finite() || overflow {
            None
        } else {
            let each = self.executable.output(names::GRAD_NORMS)?;
            let position = each.iter().position(|norm| !norm.is_finite());
            position.map(|index| self.parameters[index].0.clone())
        };
        Ok(StepOutcome {
            grad_norm,
            not_finite,
            overflow,
        })
    }

    fn part(&self, prefix: &str) -> Result<TensorMap, DeviceError> {
        self.parameters
            .iter()
            .map(|(name, shape)| {
                let values = self.executable.read(&format!("{prefix}{name}"))?;
                Ok((name.clone(), Tensor::from_f32(shape.clone(), &values)))
            })
            .collect()
    }

    /// The trained weights.
    ///
    /// # Errors
    /// If the device fails.
    pub fn weights(&self) -> Result<TensorMap, DeviceError> {
        self.part("")
    }

    /// The weights to use: their moving average where one is kept.
    ///
    /// # Errors
    /// If the device fails.
    pub fn best_weights(&self) -> Result<TensorMap, DeviceError> {
        self.part(match self.options.ema {
            Some(_) => names::EMA,
            None => "",
        })
    }

    /// The tensors that the next step depends on, by part. A part is copied when the iterator comes to it: together they
    /// are as large as the step's own state.
    ///
    /// # Errors
    /// If the device fails.
    pub fn parts(&self) -> impl Iterator<Item = Result<(&'static str, TensorMap), DeviceError>> {
        let kept = PARTS
            .into_iter()
            .filter(|(_, prefix)| *prefix != names::EMA || self.options.ema.is_some());
        kept.map(|(part, prefix)| Ok((part, self.part(prefix)?)))
    }

    /// The counters that the next step depends on, by name.
    ///
    /// # Errors
    /// If the device fails.
    pub fn counters(&self) -> Result<Vec<(String, i64)>, DeviceError> {
        let mut counters = Vec::new();
        for name in COUNTERS {
            if self.executable.has(name) {
                let value = i64::from(self.executable.read_i32(name)?[0]);
                counters.push((name.to_owned(), value));
            }
        }
        if self.options.loss_scaling {
            // Powers of two from 1 to 2^24.
            let scale = self.executable.read(names::LOSS_SCALE)?[0] as i64;
            let good = i64::from(self.executable.read_i32(names::GOOD_STEPS)?[0]);
            counters.push((names::LOSS_SCALE.to_owned(), scale));
            counters.push((names::GOOD_STEPS.to_owned(), good));
        }
        Ok(counters)
    }

    /// Puts back what [`LoadedStep::parts`] and [`LoadedStep::counters`] gave.
    ///
    /// # Errors
    /// If a tensor or counter is missing or of another shape.
    pub fn restore(
        &mut self,
        parts: &BTreeMap<String, TensorMap>,
        counter: impl Fn(&str) -> Option<i64>,
    ) -> Result<(), StepError> {
        for (part, prefix) in PARTS {
            if prefix == names::EMA && self.options.ema.is_none() {
                continue;
            }
            let tensors = parts
                .get(part)
                .ok_or_else(|| StepError::Missing(part.to_owned()))?;
            for (name, shape) in &self.parameters {
                let tensor = tensors
                    .get(name)
                    .ok_or_else(|| StepError::Missing(format!("{part}/{name}")))?;
                if tensor.shape() != shape {
                    return Err(StepError::Shape {
                        name: name.clone(),
                        expected: shape.clone(),
                        found: tensor.shape().to_vec(),
                    });
                }
                let values = tensor.to_f32().map_err(|source| StepError::Type {
                    name: name.clone(),
                    source,
                })?;
                self.executable.write(&format!("{prefix}{name}"), &values)?;
                tensor.release();
            }
        }
        for name in COUNTERS {
            if self.executable.has(name) {
                let value = counter(name)
                    .and_then(|value| i32::try_from(value).ok())
                    .ok_or_else(|| StepError::Missing(name.to_owned()))?;
                self.executable.write_i32(name, &[value])?;
            }
        }
        // A run that had no scale finds its own.
        if self.options.loss_scaling
            && let (Some(scale), Some(good)) =
                (counter(names::LOSS_SCALE), counter(names::GOOD_STEPS))
        {
            let missing = |_| StepError::Missing(names::GOOD_STEPS.to_owned());
            let good = i32::try_from(good).map_err(missing)?;
            self.executable.write(names::LOSS_SCALE, &[scale as f32])?;
            self.executable.write_i32(names::GOOD_STEPS, &[good])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
