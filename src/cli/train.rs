//! `medfusion train vae|diffusion|classifier`: a thin shell over the library's training loops.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};

use super::error::CliError;
use super::options::show_notes;
use super::process::{interrupt_flag, print};
use crate::checkpoint::Model;
use crate::compile::PrecisionChoice;
use crate::device::DeviceChoice;
use crate::train::run_file::{
    ByteSize, ClassifierRun, DiffusionRun, Override, Run, Task, VaeRun, load,
};
use crate::train::{Event, RUN_FILE, StepReport, TrainError, Trainer};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    task: TaskArgs,
}

#[derive(Debug, Subcommand)]
enum TaskArgs {
    /// Train the image autoencoder
    Vae(Common),
    /// Train the noise estimator, on the latents of an autoencoder or on pixels
    Diffusion {
        #[command(flatten)]
        common: Common,
        /// The autoencoder: the folder of its run, a model folder or a checkpoint (latents.vae); without one the
        /// network works on pixels
        #[arg(long, value_name = "PATH")]
        vae: Option<PathBuf>,
    },
    /// Train a classifier, to measure what images are worth
    Classifier(Common),
}

#[derive(Debug, clap::Args)]
struct Common {
    /// The images (data.path): a folder with a folder per class, a MedMNIST .npz, or AIROGS, CheXpert, CRCDX
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// The folder of the run: run.toml, checkpoints, TensorBoard events, model
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A run file; what it leaves out has its documented default
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    run: Option<PathBuf>,
    /// Set a key of the run file, such as train.steps=5000; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    overrides: Vec<String>,
    /// Go on where the run in --out stopped, with its run.toml
    #[arg(long)]
    resume: bool,
    /// Memory that a step may use, such as 6GiB; activations are computed twice where they do not fit (device.memory)
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// Where to train (device.device): auto, cpu, cuda, cuda:N or emulated
    #[arg(long)]
    device: Option<DeviceChoice>,
    /// Activations and products in f32, f16, bf16 or f16-fast; auto is bf16 on a GPU and f32 on the CPU (device.precision)
    #[arg(long)]
    precision: Option<PrecisionChoice>,
    /// Print the plan of a step and stop
    #[arg(long)]
    explain: bool,
}

impl Common {
    /// The run file with the command line's settings; flags of their own come before `--set`.
    fn load<R: Run>(&self, mut overrides: Vec<Override>) -> Result<R, CliError> {
        let resumed = self.out.join(RUN_FILE);
        let path = match self.resume {
            true if !resumed.exists() => {
                return Err(TrainError::NothingToResume {
                    path: self.out.clone(),
                    why: format!("there is no {RUN_FILE}"),
                }
                .into());
            }
            true => Some(resumed.as_path()),
            false => self.run.as_deref(),
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        if let Some(data) = &self.data {
            overrides.push(Override::new("data.path", text(data)));
        }
        if let Some(memory) = self.memory {
            overrides.push(Override::new("device.memory", memory.to_string()));
        }
        if let Some(device) = self.device {
            overrides.push(Override::new("device.device", device.to_string()));
        }
        if let Some(precision) = self.precision {
            overrides.push(Override::new("device.precision", precision.to_string()));
        }
        for text in &self.overrides {
            overrides.push(text.parse()?);
        }
        Ok(load(path, &overrides)?)
    }

    /// Whether the user says a key, in the run file or with `--set`.
    fn says(&self, key: &str) -> bool {
        let in_file = self.run.as_ref().is_some_and(|path| {
            let table = std::fs::read_to_string(path)
                .ok()
                .and_then(|text| text.parse::<toml::Table>().ok());
            let (section, key) = key.split_once('.').unwrap_or((key, ""));
            table.is_some_and(|t| t.get(section).is_some_and(|s| s.get(key).is_some()))
        });
        let set = self.overrides.iter();
        in_file
            || set
                .filter_map(|text| text.split_once('='))
                .any(|(name, _)| name.trim() == key)
    }

    /// Runs a task: plan only, or the loop with progress.
    fn train(&self, task: Task, trainer: Trainer<'_>) -> Result<(), CliError> {
        if self.explain {
            return print(trainer.plan()?);
        }
        let mut display = Display::new(task, interrupt_flag()?);
        let trainer = trainer.resume(self.resume);
        let result = trainer.on_event(|event| display.show(event)).run();
        display.bar.finish_and_clear();
        match result {
            Ok(()) => {
                for line in display.last {
                    print(line)?;
                }
                print(format!("{}: done", self.out.display()))
            }
            Err(TrainError::Interrupted { step }) => Err(CliError::Interrupted(match step {
                0 => "before the first step".to_owned(),
                step => format!("saved at step {step}; the same command with --resume goes on"),
            })),
            Err(error) => Err(error.into()),
        }
    }
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    match &args.task {
        TaskArgs::Vae(common) => {
            let run: VaeRun = common.load(Vec::new())?;
            common.train(Task::Vae, Trainer::vae(&run, &common.out))
        }
        TaskArgs::Diffusion { common, vae } => {
            let mut overrides = Vec::new();
            if let Some(path) = vae {
                let path = &model_of_run(path);
                let text = path.to_string_lossy().into_owned();
                overrides.push(Override::new("latents.vae", text));
                overrides.extend(settings_of_vae(common, path)?);
            }
            let run: DiffusionRun = common.load(overrides)?;
            common.train(Task::Diffusion, Trainer::diffusion(&run, &common.out))
        }
        TaskArgs::Classifier(common) => {
            let run: ClassifierRun = common.load(Vec::new())?;
            common.train(Task::Classifier, Trainer::classifier(&run, &common.out))
        }
    }
}

/// The model of a run's folder: the best one where the run measured, else the last one. Other paths stay as they are.
fn model_of_run(path: &Path) -> PathBuf {
    let models = ["best", "model"].map(|name| path.join(name));
    match path.join(RUN_FILE).exists() {
        true => models.into_iter().find(|folder| folder.exists()),
        false => None,
    }
    .unwrap_or_else(|| path.to_owned())
}

/// Image size and channels that an autoencoder was trained with, unless the user says others.
fn settings_of_vae(common: &Common, path: &Path) -> Result<Vec<Override>, CliError> {
    if common.resume {
        return Ok(Vec::new());
    }
    let model = Model::open(path)?;
    show_notes(&model);
    let mut overrides = Vec::new();
    if let Some(size) = model.config.image_size
        && !common.says("data.image_size")
    {
        let size: Vec<toml::Value> = size.iter().map(|&side| (side as i64).into()).collect();
        overrides.push(Override::new("data.image_size", size));
    }
    if let Some(vae) = &model.config.vae
        && !common.says("data.channels")
    {
        overrides.push(Override::new("data.channels", vae.in_channels as i64));
    }
    Ok(overrides)
}

/// Progress as a bar on a terminal, as lines elsewhere.
struct Display {
    task: Task,
    bar: ProgressBar,
    interrupted: Arc<AtomicBool>,
    lines: bool,
    last_line: Instant,
    /// What to say at the end.
    last: Vec<String>,
}

/// Between lines of progress where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

impl Display {
    fn new(task: Task, interrupted: Arc<AtomicBool>) -> Self {
        let style = ProgressStyle::with_template(
            "{bar:25} {percent:>3}%  {pos}/{len}  {msg}  {elapsed} elapsed",
        )
        .expect("a valid template");
        Self {
            task,
            bar: ProgressBar::new(0).with_style(style),
            interrupted,
            lines: !std::io::stderr().is_terminal(),
            last_line: Instant::now(),
            last: Vec::new(),
        }
    }

    fn say(&self, text: &str) {
        self.bar.suspend(|| tracing::info!("{text}"));
    }

    fn show(&mut self, event: &Event) -> ControlFlow<()> {
        match event {
            Event::Preparing { what, done, total } => {
                self.bar.set_length(*total);
                self.bar.set_position(*done);
                self.bar.set_message(*what);
            }
            Event::Started {
                step,
                steps,
                memory,
            } => {
                self.say(&format!(
                    "{}: step {step} of {steps}, memory {memory}",
                    self.task
                ));
                self.bar.set_length(*steps);
                self.bar.set_position(*step);
            }
            Event::Step(step) => self.step(step),
            Event::Measured { step, values, best } => {
                let values: Vec<String> = values
                    .iter()
                    .map(|(name, value)| format!("{name} {value:.5}"))
                    .collect();
                let best = if *best { " (best so far)" } else { "" };
                let text = format!("step {step}, held out: {}{best}", values.join(", "));
                self.say(&text);
                self.last.retain(|line| !line.contains("held out"));
                self.last.push(text);
            }
            Event::Saved { step, folder } => {
                tracing::debug!("step {step}: saved {}", folder.display());
            }
            Event::Exported { folder } => {
                let text = format!("model: {}", folder.display());
                if !self.last.contains(&text) {
                    self.last.push(text);
                }
            }
        }
        match self.interrupted.load(Ordering::SeqCst) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn step(&mut self, event: &StepReport) {
        let left = (event.steps - event.step) as f64 / event.steps_per_s.max(1e-9);
        let text = format!(
            "loss {:.5}  {:.2} steps/s  {:.1} images/s  {} left",
            event.loss,
            event.steps_per_s,
            event.images_per_s,
            duration(left)
        );
        self.bar.set_position(event.step);
        if self.lines && (self.last_line.elapsed() >= LINE_EVERY || event.step == event.steps) {
            self.last_line = Instant::now();
            tracing::info!("step {}/{}  {text}", event.step, event.steps);
        }
        self.bar.set_message(text);
    }
}

/// `45 s`, `12 min`, `3 h 20 min`.
fn duration(seconds: f64) -> String {
    match seconds as u64 {
        s if s < 90 => format!("{s} s"),
        s if s < 5400 => format!("{} min", (s + 30) / 60),
        s => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}
