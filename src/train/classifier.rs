//! Training of the classifier that measures what images are worth: train on one set, test on another.

use std::path::Path;
use std::sync::Arc;

use super::error::TrainError;
use super::init::initial_weights;
use super::names;
use super::run_file::{ClassifierRun, Sets};
use super::session::{Measured, Pass, Session, TrainingTask, Watch};
use super::step::TrainingGraph;
use super::tasks::{budget_bytes, identity, next_batch, open_device, report_skipped, step_options};
use crate::data::{Dataset, Loader, Position};
use crate::device::{Compiled, Device, Executable};
use crate::graph::Graph;
use crate::image::png::Image8;
use crate::metrics::Classifier;
use crate::model::{ClassifierConfig, build_classifier};
use crate::tensor::{DType, TensorMap};

fn config(run: &ClassifierRun, classes: usize) -> ClassifierConfig {
    ClassifierConfig {
        in_channels: run.data.image_channels(),
        classes,
        hidden_channels: run.model.hidden_channels.clone(),
        num_res_blocks: run.model.num_res_blocks,
        norm_groups: run.model.norm_groups,
    }
}

fn prepare(
    run: &ClassifierRun,
    classes: usize,
) -> Result<(TrainingGraph, Compiled, Device), TrainError> {
    let device = open_device(&run.device)?;
    let batch = run.train.batch;
    let network = config(run, classes);
    let mut g = Graph::new();
    let [height, width] = run.data.image_size;
    let shape = [batch, height, width, network.in_channels];
    let images = g.input(names::IMAGES, shape, DType::F32)?;
    let logits = build_classifier(&mut g, &network, images)?;
    let labels = g.input(names::LABELS, [batch], DType::I32)?;
    let loss = g.cross_entropy(logits, labels)?;
    g.output(names::LOSS, loss);
    let options = step_options(&run.optimizer, &run.ema, &run.train, &run.device);
    let training = TrainingGraph::new(g, loss, options)?;
    let compiled = training.compile(&device, budget_bytes(&run.device))?;
    Ok((training, compiled, device))
}

/// The plan of a run's step for so many classes, to look at.
///
/// # Errors
/// If the architecture does not fit or the memory budget is too small.
pub fn plan(run: &ClassifierRun, classes: usize) -> Result<Compiled, TrainError> {
    Ok(prepare(run, classes)?.1)
}

/// Trains a classifier as `run` says, in the folder `out`; `watch` sees every step and can stop the loop.
///
/// # Errors
/// Whatever stops it; see [`TrainError`].
pub fn train(
    run: &ClassifierRun,
    out: &Path,
    resume: bool,
    watch: Watch<'_>,
) -> Result<(), TrainError> {
    train_on(run.data.open()?, run, out, resume, watch)
}

/// As [`train`], on sets that are open.
pub(super) fn train_on(
    sets: Sets,
    run: &ClassifierRun,
    out: &Path,
    resume: bool,
    watch: Watch<'_>,
) -> Result<(), TrainError> {
    let class_names = sets.train.classes().to_vec();
    if class_names.len() < 2 {
        return Err(TrainError::Setting(format!(
            "`{}` has the single class {class_names:?}; a classifier tells at least two apart",
            run.data.path.display()
        )));
    }
    let (training, compiled, device) = prepare(run, class_names.len())?;
    let identity = identity(&[
        sets.train.fingerprint(),
        format!(
            "{:?} {} {}",
            run.model, run.train.batch, run.train.accumulate
        ),
    ]);
    let mut session = Session::open(out, &run.train, &run.optimizer, identity, resume)?;
    let initial = initial_weights(training.graph.declared_parameters(), run.train.seed);
    let options = run.data.training_loader(run.train.batch, run.train.seed)?;
    let mut task = ClassifierTask {
        loader: Loader::new(sets.train.clone(), options, session.start())?,
        holdout: sets.holdout,
        run: run.clone(),
        class_names,
        device: device.clone(),
    };
    let result = session.run(&mut task, &training, compiled, &device, initial, watch);
    report_skipped(&task.loader);
    result
}

struct ClassifierTask {
    loader: Loader,
    holdout: Option<Arc<Dataset>>,
    run: ClassifierRun,
    class_names: Vec<String>,
    device: Device,
}

impl ClassifierTask {
    fn classifier(&self, weights: &TensorMap) -> Classifier {
        Classifier::new(
            config(&self.run, self.class_names.len()),
            self.run.data.image_size,
            self.class_names.clone(),
            weights.clone(),
        )
    }
}

impl TrainingTask for ClassifierTask {
    fn feed(&mut self, executable: &mut dyn Executable, _: Pass) -> Result<bool, TrainError> {
        let batch = next_batch(&mut self.loader)?;
        executable.write(names::IMAGES, &batch.images)?;
        let labels: Vec<i32> = batch.labels.iter().map(|&label| label as i32).collect();
        executable.write_i32(names::LABELS, &labels)?;
        Ok(true)
    }

    fn position(&self) -> Position {
        self.loader.next_position()
    }

    fn waited_s(&self) -> f64 {
        self.loader.waited().as_secs_f64()
    }

    fn terms(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn measure(&mut self, weights: &TensorMap) -> Result<Option<Measured>, TrainError> {
        let Some(holdout) = &self.holdout else {
            return Ok(None);
        };
        let options = self.run.data.one_pass_loader(Classifier::BATCH)?;
        let classifier = self.classifier(weights);
        let Some(scores) = classifier.measure(holdout.clone(), options, &self.device)? else {
            return Ok(None);
        };
        let mut values = vec![("accuracy", scores.accuracy), ("loss", scores.loss)];
        values.extend(scores.auroc.map(|auroc| ("auroc", auroc)));
        for (name, recall) in self.class_names.iter().zip(&scores.recall) {
            if let Some(recall) = recall {
                tracing::debug!("recall of {name}: {recall:.4}");
            }
        }
        Ok(Some(Measured {
            values,
            metric: 1.0 - scores.accuracy,
        }))
    }

    fn pictures(&mut self, _: &TensorMap) -> Result<Vec<(&'static str, Image8)>, TrainError> {
        Ok(Vec::new())
    }

    fn export(&self, weights: &TensorMap, folder: &Path) -> Result<(), TrainError> {
        Ok(self.classifier(weights).save(folder)?)
    }
}
