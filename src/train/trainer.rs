//! A training run for whoever uses the library: what to train, where, and who watches.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::error::TrainError;
use super::run_file::{ClassifierRun, DiffusionRun, VaeRun, to_toml};
use super::session::{Event, StepReport};
use super::{classifier, diffusion, vae};
use crate::compile::Compiled;
use crate::files::write_bytes_atomically;

/// The resolved run file in a run's folder.
pub const RUN_FILE: &str = "run.toml";

/// A run file, where its run lives, and who watches it.
///
/// ```no_run
/// use std::ops::ControlFlow;
///
/// use medfusion::Trainer;
/// use medfusion::train::run_file::{VaeRun, parse};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let run: VaeRun = parse("[data]\npath = \"cells\"\n[train]\nsteps = 1000", &[])?;
/// Trainer::vae(&run, "runs/vae")
///     .on_step(|step| {
///         println!("step {}: loss {}", step.step, step.loss);
///         match step.loss < 0.01 {
///             true => ControlFlow::Break(()),
///             false => ControlFlow::Continue(()),
///         }
///     })
///     .run()?;
/// # Ok(())
/// # }
/// ```
pub struct Trainer<'a> {
    run: AnyRun,
    out: PathBuf,
    resume: bool,
    watchers: Vec<Watcher<'a>>,
}

type Watcher<'a> = Box<dyn FnMut(&Event) -> ControlFlow<()> + 'a>;

/// The run file of any task.
enum AnyRun {
    Vae(Box<VaeRun>),
    Diffusion(Box<DiffusionRun>),
    Classifier(Box<ClassifierRun>),
}

impl AnyRun {
    fn data(&mut self) -> &mut super::run_file::sections::Data {
        match self {
            Self::Vae(run) => &mut run.data,
            Self::Diffusion(run) => &mut run.data,
            Self::Classifier(run) => &mut run.data,
        }
    }
}

impl<'a> Trainer<'a> {
    /// Trains an autoencoder in the folder `out`.
    pub fn vae(run: &VaeRun, out: impl Into<PathBuf>) -> Self {
        Self::new(AnyRun::Vae(Box::new(run.clone())), out.into())
    }

    /// Trains a noise estimator in the folder `out`.
    pub fn diffusion(run: &DiffusionRun, out: impl Into<PathBuf>) -> Self {
        Self::new(AnyRun::Diffusion(Box::new(run.clone())), out.into())
    }

    /// Trains a classifier in the folder `out`.
    pub fn classifier(run: &ClassifierRun, out: impl Into<PathBuf>) -> Self {
        Self::new(AnyRun::Classifier(Box::new(run.clone())), out.into())
    }

    fn new(run: AnyRun, out: PathBuf) -> Self {
        Self {
            run,
            out,
            resume: false,
            watchers: Vec::new(),
        }
    }

    /// Goes on where the run in the folder stopped, instead of refusing a folder that holds one.
    #[must_use]
    pub fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// Has `watcher` called after each step. With `ControlFlow::Break` the loop saves what it has and stops with
    /// [`TrainError::Interrupted`].
    #[must_use]
    pub fn on_step(self, mut watcher: impl FnMut(&StepReport) -> ControlFlow<()> + 'a) -> Self {
        self.on_event(move |event| match event {
            Event::Step(report) => watcher(report),
            _ => ControlFlow::Continue(()),
        })
    }

    /// Has `watcher` called for everything that the run tells. `Break` is acted upon after a step, when there is
    /// something to save, and while data is prepared.
    #[must_use]
    pub fn on_event(mut self, watcher: impl FnMut(&Event) -> ControlFlow<()> + 'a) -> Self {
        self.watchers.push(Box::new(watcher));
        self
    }

    /// The plan of a step, without training.
    ///
    /// # Errors
    /// If the device or the data cannot be opened, the architecture does not fit or the memory budget is too small.
    pub fn plan(mut self) -> Result<Compiled, TrainError> {
        let sets = self.run.data().settle()?;
        let classes = sets.train.classes().len();
        match &self.run {
            AnyRun::Vae(run) => Ok(vae::plan(run)?.1),
            AnyRun::Diffusion(run) => diffusion::plan(run, classes),
            AnyRun::Classifier(run) => classifier::plan(run, classes),
        }
    }

    /// Writes [`RUN_FILE`] and trains to the last step. A run that is refused before it begins leaves the folder as it
    /// was.
    ///
    /// # Errors
    /// Whatever stops it; see [`TrainError`].
    pub fn run(self) -> Result<(), TrainError> {
        let Self {
            mut run,
            out,
            resume,
            mut watchers,
        } = self;
        let sets = run.data().settle()?;
        let text = match &run {
            AnyRun::Vae(run) => to_toml::<VaeRun>(run),
            AnyRun::Diffusion(run) => to_toml::<DiffusionRun>(run),
            AnyRun::Classifier(run) => to_toml::<ClassifierRun>(run),
        };
        let kept = Kept::write(&out, &text, resume)?;
        let mut begun = false;
        let mut watch = |event: &Event| {
            begun = true;
            let mut flow = ControlFlow::Continue(());
            for watcher in &mut watchers {
                if watcher(event).is_break() {
                    flow = ControlFlow::Break(());
                }
            }
            flow
        };
        let result = match &run {
            AnyRun::Vae(run) => vae::train_on(sets, run, &out, resume, &mut watch),
            AnyRun::Diffusion(run) => diffusion::train_on(sets, run, &out, resume, &mut watch),
            AnyRun::Classifier(run) => classifier::train_on(sets, run, &out, resume, &mut watch),
        };
        let is_interrupted = matches!(result, Err(TrainError::Interrupted { .. }));
        if result.is_err() && !is_interrupted && !begun {
            kept.undo();
        }
        result
    }
}

/// The run file as it was before a run that may be refused.
struct Kept {
    path: PathBuf,
    before: Option<Vec<u8>>,
    /// Folders that were made for it, the innermost first.
    made: Vec<PathBuf>,
}

impl Kept {
    /// Writes the resolved run file beside the run.
    fn write(out: &Path, text: &str, resume: bool) -> Result<Self, TrainError> {
        let path = out.join(RUN_FILE);
        if !resume && path.exists() {
            let begun = std::fs::read_dir(out.join("checkpoints")).is_ok_and(|entries| {
                entries
                    .flatten()
                    .any(|entry| entry.file_name().to_string_lossy().starts_with("step-"))
            });
            if begun {
                return Err(TrainError::Exists(out.to_owned()));
            }
        }
        let made = out.ancestors().take_while(|folder| !folder.exists());
        let kept = Self {
            made: made.map(Path::to_owned).collect(),
            before: std::fs::read(&path).ok(),
            path,
        };
        std::fs::create_dir_all(out).map_err(TrainError::io("make", out))?;
        write_bytes_atomically(&kept.path, text.as_bytes())
            .map_err(TrainError::io("write", &kept.path))?;
        Ok(kept)
    }

    /// Leaves the folder as it was found, as far as nothing else is in it. A failure here would hide the error that
    /// refused the run, which is the one to tell.
    fn undo(self) {
        let _ = match &self.before {
            Some(bytes) => write_bytes_atomically(&self.path, bytes),
            None => std::fs::remove_file(&self.path),
        };
        if let Some(out) = self.path.parent() {
            let _ = std::fs::remove_dir(out.join("checkpoints"));
        }
        for folder in &self.made {
            let _ = std::fs::remove_dir(folder);
        }
    }
}
