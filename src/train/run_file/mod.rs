//! Run files: every hyper-parameter of a training run, in TOML, with a documented default for each.
//!
//! A run file names a task and sets keys in sections; what it leaves out has the default of [`sections`], which is the
//! published setting of the reference implementation unless its documentation says otherwise. An [`Override`] such as
//! `section.key=value` sets a single key. [`to_toml`] writes the resolved file, documentation included, for the run's folder.
//!
//! ```
//! use medfusion::train::run_file::{DiffusionRun, Override, parse};
//!
//! let text = "[optimizer]\nlr = 2e-4\n[data]\npath = \"cells\"";
//! let overrides = ["model.hidden_channels=[64, 64, 128]".parse::<Override>().unwrap()];
//! let run: DiffusionRun = parse(text, &overrides).unwrap();
//! assert_eq!((run.optimizer.lr, run.optimizer.weight_decay), (2e-4, 0.01));
//! assert_eq!(run.model.strides, Some(vec![1, 2, 2]));
//!
//! let error = parse::<DiffusionRun>("[optimizer]\nweight_decoy = 0", &[]).unwrap_err();
//! assert!(error.to_string().contains("did you mean `optimizer.weight_decay`?"));
//! ```

mod images;
mod load;
pub mod sections;
mod validate;

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use crate::bytes::ByteSize;
pub use images::Sets;
pub use load::{Override, load, parse, to_toml};
use sections::{
    ClassifierModel, Data, Device, Diffusion, DiffusionLoss, Ema, KeyDoc, Latents, Optimizer,
    OptimizerKind, Section, Train, UnetModel, VaeLoss, VaeModel,
};

/// What a run file can be wrong about.
#[derive(Debug, Error)]
pub enum RunFileError {
    /// The file cannot be read.
    #[error("cannot read the run file `{path}`: {source}")]
    Read {
        /// The run file.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Not TOML; the message points at the line.
    #[error("the run file is not valid TOML: {0}")]
    Syntax(String),
    /// A section or key that the task does not have.
    #[error("unknown key `{key}`; did you mean `{nearest}`?")]
    UnknownKey {
        /// `section.key` or `[section]` as given.
        key: String,
        /// The known key or section that is most like it.
        nearest: String,
    },
    /// A value of the wrong type.
    #[error("`{key} = {value}`: {problem}")]
    BadValue {
        /// `section.key`.
        key: String,
        /// The value as TOML.
        value: String,
        /// What was expected.
        problem: String,
    },
    /// An override that is not `section.key=value`.
    #[error("`{0}`: expected section.key=value")]
    BadOverride(String),
    /// The file names another task.
    #[error("the run file is for `train {found}`, not for `train {expected}`")]
    WrongTask {
        /// The task to run.
        expected: Task,
        /// The task that the file names.
        found: String,
    },
    /// Values that are each of the right type but make no sense, alone or together.
    #[error("the run file asks for what cannot be: {}", .0.join("; "))]
    Invalid(Vec<String>),
}

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// The image autoencoder.
    Vae,
    /// The noise estimator.
    Diffusion,
    /// The classifier that measures images.
    Classifier,
}

impl Task {
    /// The name as written in run files.
    pub fn name(self) -> &'static str {
        match self {
            Task::Vae => "vae",
            Task::Diffusion => "diffusion",
            Task::Classifier => "classifier",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The run file of a task: [`VaeRun`], [`DiffusionRun`] or [`ClassifierRun`].
pub trait Run: Default + Serialize + DeserializeOwned {
    /// Which task this is.
    const TASK: Task;

    /// Names, documentation and keys of the sections, in file order.
    fn sections() -> Vec<(&'static str, &'static [&'static str], &'static [KeyDoc])>;

    /// Fills in the keys whose default follows from others.
    fn resolve(&mut self);

    /// Checks values alone and together. The architecture itself is checked where the network is built.
    ///
    /// # Errors
    /// All that is wrong, as [`RunFileError::Invalid`].
    fn validate(&self) -> Result<(), RunFileError>;
}

/// Declares the run file of a task. The closure adapts the sections' own defaults to the task.
macro_rules! run {
    ($(#[doc = $doc:literal])+ $name:ident, $task:expr, { $($section:ident : $ty:ty),+ $(,)? }, $adapt:expr) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $(#[doc = concat!("`[", stringify!($section), "]`")] pub $section: $ty,)+
        }

        impl Default for $name {
            fn default() -> Self {
                let adapt: fn(&mut Self) = $adapt;
                let mut run = Self { $($section: <$ty>::default(),)+ };
                adapt(&mut run);
                run
            }
        }

        impl Run for $name {
            const TASK: Task = $task;

            fn sections() -> Vec<(&'static str, &'static [&'static str], &'static [KeyDoc])> {
                vec![$((stringify!($section), <$ty>::DOC, <$ty>::KEYS),)+]
            }

            fn resolve(&mut self) {
                $(self.$section.resolve();)+
            }

            fn validate(&self) -> Result<(), RunFileError> {
                let mut problems = Vec::new();
                $(self.$section.check(&mut problems);)+
                self.check_together(&mut problems);
                if problems.is_empty() { Ok(()) } else { Err(RunFileError::Invalid(problems)) }
            }
        }
    };
}

run! {
    /// `medfusion train vae`: the image autoencoder.
    VaeRun, Task::Vae,
    { data: Data, model: VaeModel, loss: VaeLoss, optimizer: Optimizer, ema: Ema, train: Train, device: Device },
    |run| {
        run.optimizer.kind = OptimizerKind::Adam;
        run.optimizer.weight_decay = 0.0;
        run.train.batch = 8;
    }
}

run! {
    /// `medfusion train diffusion`: the noise estimator, on the latents of a frozen VAE.
    DiffusionRun, Task::Diffusion,
    {
        data: Data, latents: Latents, model: UnetModel, diffusion: Diffusion, loss: DiffusionLoss,
        optimizer: Optimizer, ema: Ema, train: Train, device: Device,
    },
    |_| {}
}

run! {
    /// `medfusion train classifier`: a small residual network that tells the classes apart.
    ClassifierRun, Task::Classifier,
    { data: Data, model: ClassifierModel, optimizer: Optimizer, ema: Ema, train: Train, device: Device },
    |run| {
        run.data.balanced = true;
        run.optimizer.lr = 1e-3;
        run.train.batch = 64;
        run.train.steps = 3000;
    }
}
