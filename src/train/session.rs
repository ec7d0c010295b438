//! The loop around a training step: data in, losses out, measurements, pictures, checkpoints, and the way back.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

use super::error::TrainError;
use super::names;
use super::run_file::sections::{Optimizer, Train};
use super::state::{CheckpointFolder, RunProgress, StateError, TrainState};
use super::step::{LoadedStep, TrainingGraph};
use super::tensorboard::EventWriter;
use crate::data::Position;
use crate::device::{Compiled, Device, Executable};
use crate::image::png::Image8;
use crate::tensor::TensorMap;
use crate::tensor::philox::seed_words;

/// One pass: which one of the step, and the number of its first sample within the step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    pub step: u64,
    pub index: usize,
    pub batch: usize,
}

impl Pass {
    /// Numbers of the samples within the step, as the random numbers of a step are keyed.
    pub fn samples(&self) -> Vec<i32> {
        let first = self.index * self.batch;
        (first..first + self.batch).map(|i| i as i32).collect()
    }
}

/// What a measurement on held-out images says.
pub(super) struct Measured {
    /// Name and value of everything measured.
    pub values: Vec<(&'static str, f64)>,
    /// What decides on the best checkpoint; smaller is better.
    pub metric: f64,
}

/// What differs between the training tasks.
pub(super) trait TrainingTask {
    /// Writes the inputs of a pass; true if a sample has its condition.
    fn feed(&mut self, executable: &mut dyn Executable, pass: Pass) -> Result<bool, TrainError>;

    /// Where the data goes on after the passes so far.
    fn position(&self) -> Position;

    /// Time lost waiting for data, in seconds.
    fn waited_s(&self) -> f64;

    /// Scalar outputs of the step to log beside the loss: tag and name.
    fn terms(&self) -> Vec<(String, String)>;

    /// Measures the weights on held-out images; `None` if there are none.
    fn measure(&mut self, weights: &TensorMap) -> Result<Option<Measured>, TrainError>;

    /// Pictures for looking at.
    fn pictures(&mut self, weights: &TensorMap) -> Result<Vec<(&'static str, Image8)>, TrainError>;

    /// Writes what others use: a model folder. Returns a word on what it is.
    fn export(&self, weights: &TensorMap, folder: &Path) -> Result<(), TrainError>;
}

/// What the loop tells whoever watches it.
#[derive(Clone, Debug)]
pub enum Event {
    /// Preparation that takes a while: what, and how far.
    Preparing {
        /// What is prepared, in words.
        what: &'static str,
        /// How much of it is done.
        done: u64,
        /// How much there is in all.
        total: u64,
    },
    /// The loop begins, or goes on.
    Started {
        /// Steps done so far.
        step: u64,
        /// Steps in all.
        steps: u64,
        /// The memory of the step, in words.
        memory: String,
    },
    /// A step is done.
    Step(StepReport),
    /// Something was measured on held-out images.
    Measured {
        /// The step after which it was measured.
        step: u64,
        /// What was measured, by name.
        values: Vec<(&'static str, f64)>,
        /// Whether these weights measured best so far.
        best: bool,
    },
    /// A checkpoint was written.
    Saved {
        /// The step after which it was saved.
        step: u64,
        /// The checkpoint.
        folder: PathBuf,
    },
    /// A model folder was written.
    Exported {
        /// The model folder.
        folder: PathBuf,
    },
}

/// A step that is done.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// Its number; the first is 1.
    pub step: u64,
    /// Steps done.
    pub steps: u64,
    /// Loss of the last step.
    pub loss: f32,
    /// Steps per second.
    pub steps_per_s: f64,
    /// Images per second.
    pub images_per_s: f64,
    /// Share of the time so far that the step waited for data.
    pub waiting: f64,
}

/// Who watches; `Break` lets the loop finish the step, save and stop.
pub type Watch<'a> = &'a mut dyn FnMut(&Event) -> ControlFlow<()>;

/// Where a run lives and how it goes on.
pub(super) struct Session<'a> {
    pub out: &'a Path,
    pub train: &'a Train,
    pub optimizer: &'a Optimizer,
    /// Hash of what must not change when a run goes on.
    pub identity: String,
    pub checkpoints: CheckpointFolder,
    pub resumed: Option<TrainState>,
}

/// A pass whose inputs are on the device or on their way.
struct Fed {
    labels_kept: bool,
    /// Where the data stands behind it.
    position: Position,
}

impl Fed {
    fn new(
        task: &mut dyn TrainingTask,
        trainer: &mut LoadedStep,
        pass: Pass,
    ) -> Result<Self, TrainError> {
        let labels_kept = task.feed(trainer.executable(), pass)?;
        Ok(Self {
            labels_kept,
            position: task.position(),
        })
    }
}

impl<'a> Session<'a> {
    /// Takes the output folder; with `resume` there has to be a checkpoint in it, without there must be none.
    pub fn open(
        out: &'a Path,
        train: &'a Train,
        optimizer: &'a Optimizer,
        identity: String,
        resume: bool,
    ) -> Result<Self, TrainError> {
        let checkpoints = CheckpointFolder::open(&out.join("checkpoints"), train.keep)?;
        let resumed = checkpoints.newest()?.map(|(_, state)| state);
        match (&resumed, resume) {
            (Some(_), false) => return Err(TrainError::Exists(out.to_owned())),
            (None, true) => {
                tracing::info!("no checkpoint yet: the run begins anew");
            }
            _ => {}
        }
        if let Some(state) = &resumed {
            if state.progress.seed != train.seed {
                return Err(TrainError::OtherRun(format!(
                    "it began with train.seed = {}, not {}",
                    state.progress.seed, train.seed
                )));
            }
            if state.extra["identity"].as_str() != Some(&identity) {
                tracing::warn!(
                    "the data, the batch or the autoencoder is not what the run began with; it goes on, but not as if \
                     it had never stopped"
                );
            }
        }
        Ok(Self {
            out,
            train,
            optimizer,
            identity,
            checkpoints,
            resumed,
        })
    }

    /// Where the data goes on.
    pub fn start(&self) -> Position {
        self.resumed
            .as_ref()
            .map_or_else(Position::default, |state| state.progress.position)
    }

    /// Runs the loop to its last step.
    ///
    /// # Errors
    /// Also [`TrainError::Interrupted`], after saving, if the watcher breaks.
    pub fn run(
        &mut self,
        task: &mut dyn TrainingTask,
        training: &TrainingGraph,
        compiled: Compiled,
        device: &Device,
        weights: TensorMap,
        watch: Watch<'_>,
    ) -> Result<(), TrainError> {
        let mut trainer = training.load(device, compiled, &weights)?;
        // The step has its own copy from here on.
        drop(weights);
        let mut progress = RunProgress {
            step: 0,
            seed: self.train.seed,
            position: Position::default(),
            ema_updates: 0,
            images: 0,
            elapsed_s: 0.0,
            best: None,
        };
        if let Some(state) = &mut self.resumed {
            trainer.restore(&state.parts, |name| state.extra["counters"][name].as_i64())?;
            progress = state.progress.clone();
            // The step has its own copy; mapped files that are rotated away would hold their place on the disk.
            state.parts.clear();
        }
        let executable = trainer.executable();
        if executable.has(names::SEED) {
            executable.write_i32(names::SEED, &seed_words(self.train.seed))?;
        }
        let steps = self.train.steps;
        // Breaks are acted upon after a step, when there is something to save.
        let _ = watch(&Event::Started {
            step: progress.step,
            steps,
            memory: trainer.memory().to_string(),
        });
        let folder = self.out.join("tensorboard");
        let log_error = |error| TrainError::io("write", &folder)(error);
        let mut log = EventWriter::create(&folder, progress.step).map_err(log_error)?;

        let (began, began_at, began_elapsed) = (Instant::now(), progress.step, progress.elapsed_s);
        let mut saved = self.resumed.as_ref().map(|state| state.progress.step);
        let mut fed = None;
        while progress.step < steps {
            let learning_rate = self.optimizer.lr_at(progress.step, steps);
            let (loss, position) =
                self.step(task, &mut trainer, &mut fed, progress.step, learning_rate)?;
            progress.step += 1;
            progress.images += (self.train.batch * self.train.accumulate) as u64;
            progress.position = position;
            let elapsed = began.elapsed().as_secs_f64();
            progress.elapsed_s = began_elapsed + elapsed;
            let steps_per_s = (progress.step - began_at) as f64 / elapsed.max(1e-9);
            let event = StepReport {
                step: progress.step,
                steps,
                loss,
                steps_per_s,
                images_per_s: steps_per_s * (self.train.batch * self.train.accumulate) as f64,
                waiting: task.waited_s() / elapsed.max(1e-9),
            };
            let stop = watch(&Event::Step(event)).is_break();
            let due = |every: u64| {
                every > 0 && (progress.step.is_multiple_of(every) || progress.step == steps)
            };
            if due(self.train.log_every) {
                self.log_step(task, &mut trainer, &mut log, event, learning_rate)
                    .map_err(log_error)?;
            }
            let mut improved = false;
            if due(self.train.validate_every) {
                let weights = trainer.best_weights()?;
                if let Some(measured) = task.measure(&weights)? {
                    improved = progress.best.is_none_or(|(best, _)| measured.metric < best);
                    if improved {
                        progress.best = Some((measured.metric, progress.step));
                        self.export(task, &weights, "best", watch)?;
                    }
                    for (tag, value) in &measured.values {
                        log.scalar(progress.step, &format!("holdout/{tag}"), *value as f32)
                            .map_err(log_error)?;
                    }
                    let _ = watch(&Event::Measured {
                        step: progress.step,
                        values: measured.values,
                        best: improved,
                    });
                }
            }
            if due(self.train.sample_every) {
                for (tag, image) in task.pictures(&trainer.best_weights()?)? {
                    log.image(progress.step, tag, &image).map_err(log_error)?;
                }
            }
            if improved || stop || due(self.train.checkpoint_every) {
                self.save(&trainer, &progress, improved, watch)?;
                saved = Some(progress.step);
                log.flush().map_err(log_error)?;
            }
            if stop && progress.step < steps {
                return Err(TrainError::Interrupted {
                    step: progress.step,
                });
            }
        }
        if saved != Some(progress.step) {
            self.save(&trainer, &progress, false, watch)?;
        }
        self.export(task, &trainer.best_weights()?, "model", watch)?;
        log.flush().map_err(log_error)
    }

    /// All passes of one step; the loss, averaged over them, and where the data stood when its last pass was fed.
    ///
    /// A pass is fed while the device still computes the one before: `fed` carries the pass that is ahead from call to
    /// call. Checkpoints hold the position of the step that is done, so a resumed run feeds it again.
    fn step(
        &self,
        task: &mut dyn TrainingTask,
        trainer: &mut LoadedStep,
        fed: &mut Option<Fed>,
        step: u64,
        learning_rate: f64,
    ) -> Result<(f32, Position), TrainError> {
        let (mut total, mut labels_kept) = (0.0, false);
        let mut position = task.position();
        for index in 0..self.train.accumulate {
            let pass = Pass {
                step,
                index,
                batch: self.train.batch,
            };
            let this = match fed.take() {
                Some(fed) => fed,
                None => Fed::new(task, trainer, pass)?,
            };
            labels_kept |= this.labels_kept;
            position = this.position;
            trainer.run_pass(index, learning_rate, labels_kept)?;
            let last = index + 1 == self.train.accumulate;
            let next = Pass {
                step: step + u64::from(last),
                index: if last { 0 } else { index + 1 },
                batch: self.train.batch,
            };
            if next.step < self.train.steps {
                *fed = Some(Fed::new(task, trainer, next)?);
            }
            let loss = trainer.executable().output(names::LOSS)?[0];
            let report = trainer.report()?;
            if report.overflow {
                tracing::debug!("step {}: the scaled gradient overflowed", step + 1);
            }
            if !loss.is_finite() || report.not_finite.is_some() {
                let what = match report.not_finite {
                    Some(name) => format!("the gradient of `{name}`"),
                    None => "the loss".to_owned(),
                };
                return Err(TrainError::NotFinite {
                    step: step + 1,
                    what,
                    loss,
                    grad_norm: report.grad_norm,
                });
            }
            total += f64::from(loss);
        }
        Ok(((total / self.train.accumulate as f64) as f32, position))
    }

    fn log_step(
        &self,
        task: &dyn TrainingTask,
        trainer: &mut LoadedStep,
        log: &mut EventWriter,
        event: StepReport,
        learning_rate: f64,
    ) -> std::io::Result<()> {
        let step = event.step;
        log.scalar(step, "loss/total", event.loss)?;
        for (tag, name) in task.terms() {
            let value = trainer.executable().output(&name);
            let value = value.map_err(std::io::Error::other)?[0];
            log.scalar(step, &tag, value)?;
        }
        let norm = trainer.report().map_err(std::io::Error::other)?.grad_norm;
        log.scalar(step, "optimizer/grad_norm", norm)?;
        log.scalar(step, "optimizer/learning_rate", learning_rate as f32)?;
        log.scalar(step, "speed/steps_per_s", event.steps_per_s as f32)?;
        log.scalar(step, "speed/images_per_s", event.images_per_s as f32)?;
        log.scalar(step, "speed/waiting_for_data", event.waiting as f32)?;
        log.flush()
    }

    fn save(
        &self,
        trainer: &LoadedStep,
        progress: &RunProgress,
        is_best: bool,
        watch: Watch<'_>,
    ) -> Result<(), TrainError> {
        let counters = trainer.counters()?;
        let mut progress = progress.clone();
        let counter = |name: &str| counters.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
        progress.ema_updates = counter(names::EMA_STEP).unwrap_or(0) as u64;
        let counters: serde_json::Map<String, serde_json::Value> = counters
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        let step = progress.step;
        let extra = json!({ "counters": counters, "identity": self.identity });
        let parts = trainer.parts().map(|part| match part {
            Ok((name, tensors)) => Ok((name.to_owned(), Cow::Owned(tensors))),
            Err(error) => Err(StateError::Unstorable(error.to_string())),
        });
        let folder = self
            .checkpoints
            .save_parts(&progress, &extra, parts, is_best)?;
        let _ = watch(&Event::Saved { step, folder });
        Ok(())
    }

    fn export(
        &self,
        task: &dyn TrainingTask,
        weights: &TensorMap,
        name: &str,
        watch: Watch<'_>,
    ) -> Result<(), TrainError> {
        let folder = self.out.join(name);
        task.export(weights, &folder)?;
        let _ = watch(&Event::Exported { folder });
        Ok(())
    }
}
