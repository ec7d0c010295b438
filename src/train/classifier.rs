//! Training of the classifier that measures what images are worth: train on one set, test on another.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::TrainError;
use super::init::initial_weights;
use super::names;
use super::run_file::ClassifierRun;
use super::scores::Scores;
use super::session::{Measured, Pass, Session, Task, Watch};
use super::step::TrainingGraph;
use super::tasks::{budget_bytes, identity, next_batch, open_device, report_skipped, step_options};
use crate::checkpoint::{read_safetensors, write_safetensors};
use crate::data::png::Image8;
use crate::data::{Dataset, Loader, LoaderOptions, Position, Transform};
use crate::device::{Compiled, Device, Executable};
use crate::files::write_bytes_atomically;
use crate::graph::Graph;
use crate::model::{ClassifierConfig, build_classifier};
use crate::tensor::{DType, TensorMap};

/// Images per pass when measuring.
const BATCH: usize = 32;

/// The files of an exported classifier.
const JSON: &str = "classifier.json";
const WEIGHTS: &str = "classifier.safetensors";
/// The version that [`ClassifierFile::format`] states.
const FORMAT: u32 = 1;

/// The content of `classifier.json`, beside `classifier.safetensors`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassifierFile {
    /// Format version, 1 so far.
    pub format: u32,
    pub network: ClassifierConfig,
    /// Height and width of the images.
    pub image_size: [usize; 2],
    /// Names of the classes by index.
    pub class_names: Vec<String>,
}

fn config(run: &ClassifierRun, classes: usize) -> ClassifierConfig {
    ClassifierConfig {
        in_channels: run.data.channels,
        classes,
        hidden_channels: run.model.hidden_channels.clone(),
        num_res_blocks: run.model.num_res_blocks,
        norm_groups: run.model.norm_groups,
    }
}

fn logits_graph(
    network: &ClassifierConfig,
    [height, width]: [usize; 2],
    batch: usize,
) -> Result<(Graph, crate::graph::Value), TrainError> {
    let mut g = Graph::new();
    let shape = [batch, height, width, network.in_channels];
    let images = g.input(names::IMAGES, shape, DType::F32)?;
    let logits = build_classifier(&mut g, network, images)?;
    Ok((g, logits))
}

/// A trained classifier, ready to be measured on labelled images.
#[derive(Clone, Debug)]
pub struct Classifier {
    file: ClassifierFile,
    weights: TensorMap,
}

impl Classifier {
    /// Opens a folder that a run exported.
    ///
    /// # Errors
    /// If a file is missing, is not what it should be, or the weights do not fit the network.
    pub fn open(folder: &Path) -> Result<Self, TrainError> {
        let path = folder.join(JSON);
        let text = std::fs::read(&path).map_err(TrainError::io("read", &path))?;
        let file: ClassifierFile = serde_json::from_slice(&text)
            .map_err(|error| TrainError::io("read", &path)(error.into()))?;
        if file.format != FORMAT || file.network.classes != file.class_names.len() {
            return Err(TrainError::Setting(format!(
                "`{}`: format {} with {} classes and {} names, expected format {FORMAT} and a name for each class",
                path.display(),
                file.format,
                file.network.classes,
                file.class_names.len()
            )));
        }
        let weights = read_safetensors(folder.join(WEIGHTS))?.tensors;
        Ok(Self { file, weights })
    }

    /// Names of the classes by index.
    pub fn class_names(&self) -> &[String] {
        &self.file.class_names
    }

    /// How well it tells the images of a labelled set apart. Unreadable images are left out with a warning.
    ///
    /// # Errors
    /// If the set has other classes or no readable image, or the weights do not fit the network.
    pub fn score(&self, set: &Dataset, device: &Device) -> Result<Scores, TrainError> {
        if set.classes() != self.class_names() {
            return Err(TrainError::Setting(format!(
                "the classifier knows the classes {:?}, `{}` has {:?}: expected the same",
                self.class_names(),
                set.root().display(),
                set.classes()
            )));
        }
        let transform = Transform::new(self.file.image_size, self.file.network.in_channels)?;
        let options = LoaderOptions::one_pass(BATCH, transform);
        score(
            &self.file,
            &self.weights,
            Arc::new(set.clone()),
            options,
            device,
        )?
        .ok_or_else(|| {
            TrainError::Setting(format!(
                "`{}` holds no readable image",
                set.root().display()
            ))
        })
    }
}

/// The scores of a classifier on a set; `None` where nothing could be read.
fn score(
    file: &ClassifierFile,
    weights: &TensorMap,
    set: Arc<Dataset>,
    options: LoaderOptions,
    device: &Device,
) -> Result<Option<Scores>, TrainError> {
    let classes = file.class_names.len();
    let (mut graph, logits) = logits_graph(&file.network, file.image_size, BATCH)?;
    graph.output("logits", logits);
    let mut executable = device.load(device.compile(&graph), weights)?;
    let len = options.transform.len();
    let (mut all, mut labels) = (Vec::new(), Vec::new());
    for batch in Loader::new(set, options, Position::default())? {
        let batch = batch?;
        let mut images = batch.images;
        images.resize(BATCH * len, 0.0);
        executable.write(names::IMAGES, &images)?;
        executable.run()?;
        let logits = executable.output("logits")?;
        all.extend_from_slice(&logits[..batch.labels.len() * classes]);
        labels.extend(batch.labels.iter().map(|&label| label as i32));
    }
    Ok((!labels.is_empty()).then(|| Scores::new(&all, &labels, classes)))
}

fn prepare(
    run: &ClassifierRun,
    classes: usize,
) -> Result<(TrainingGraph, Compiled, Device), TrainError> {
    let device = open_device(&run.device)?;
    let batch = run.train.batch;
    let (mut g, logits) = logits_graph(&config(run, classes), run.data.image_size, batch)?;
    let labels = g.input(names::LABELS, [batch], DType::I32)?;
    let loss = g.cross_entropy(logits, labels)?;
    g.output(names::LOSS, loss);
    let options = step_options(&run.optimizer, &run.ema, &run.train, &run.device);
    let training = TrainingGraph::new(g, loss, options)?;
    let compiled = training.compile(&device, budget_bytes(&run.device))?;
    Ok((training, compiled, device))
}

/// The plan of a run's step, for `--explain`.
///
/// # Errors
/// If the architecture does not fit or the memory budget is too small.
pub fn plan(run: &ClassifierRun) -> Result<Compiled, TrainError> {
    let classes = run.data.open()?.train.classes().len();
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
    let sets = run.data.open()?;
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
    let parameters: Vec<(String, Vec<usize>)> = training
        .gradients
        .iter()
        .map(|(name, grad)| (name.clone(), training.graph.shape(*grad).to_vec()))
        .collect();
    let initial = initial_weights(&parameters, run.train.seed);
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
    fn file(&self) -> ClassifierFile {
        ClassifierFile {
            format: FORMAT,
            network: config(&self.run, self.class_names.len()),
            image_size: self.run.data.image_size,
            class_names: self.class_names.clone(),
        }
    }
}

impl Task for ClassifierTask {
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
        let options = self.run.data.one_pass_loader(BATCH)?;
        let Some(scores) = score(
            &self.file(),
            weights,
            holdout.clone(),
            options,
            &self.device,
        )?
        else {
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
        std::fs::create_dir_all(folder).map_err(TrainError::io("make", folder))?;
        write_safetensors(folder.join(WEIGHTS), weights, &BTreeMap::new())?;
        let path = folder.join(JSON);
        let json = serde_json::to_vec_pretty(&self.file())
            .map_err(|error| TrainError::io("write", &path)(error.into()))?;
        write_bytes_atomically(&path, &json).map_err(TrainError::io("write", &path))
    }
}
