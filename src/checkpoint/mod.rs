//! Models in files: safetensors, PyTorch checkpoints, and the project's own model folder.
//!
//! [`Model::open`] takes any of them; its tensors are exactly those its configuration needs.
//! [`save_folder`] writes the project's own format, [`convert`] does both, [`inspect`] reports.
//!
//! ```
//! use medfusion::Model;
//!
//! let model = Model::open("weights/cells64")?;
//! assert_eq!(model.classes(), ["platelets", "rbc", "wbc"]);
//! let stem = &model.unet["in_conv.conv.weight"];
//! assert_eq!(stem.shape(), [96, 8, 3, 3]);
//! # Ok::<(), medfusion::checkpoint::CheckpointError>(())
//! ```
//!
//! Nothing in a file is ever executed, and no input makes this module panic: every problem is a [`CheckpointError`]
//! that says what was expected and what was found.

mod config;
mod digest;
mod error;
mod facts;
mod folder;
mod foreign;
mod hashed;
mod infer;
mod inspect;
mod map;
mod model;
mod names;
mod notes;
mod open;
pub mod pickle;
mod safetensors;
mod schedule;
mod sharded;
mod split;
mod state;
mod torch;
mod wrappers;

pub use config::{MODEL_FORMAT, MODEL_JSON, ModelConfig, ModelConfigError};
pub use error::{CheckpointError, Problem, Undetermined};
pub use facts::{Fact, Facts, Network, Parts, Weights};
pub use folder::{StoredModel, UNET_FILE, VAE_FILE, load_folder, save_folder};
pub use hashed::{hashed_parameter, hashed_parameters, name_hash, uniform};
pub use infer::{infer_model, infer_unet, infer_vae};
pub use inspect::{Converted, Inspection, PartReport, convert, inspect};
pub(crate) use map::map_file;
pub use model::{Class, Model, ModelFormat, ModelSource, UnknownClass};
pub use names::{ParameterMismatch, Shapes, shapes_of, unet_parameters, vae_parameters};
pub use notes::{LeftOut, Note};
pub use safetensors::{SafetensorsFile, read_safetensors, write_safetensors};
pub use schedule::recognise_betas;
pub use sharded::FolderKind;
pub use split::split;
pub use state::StateDict;
pub use torch::{TorchFile, TorchFormat};
