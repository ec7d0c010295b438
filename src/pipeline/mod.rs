//! Images made: a [`Sampler`] that makes images with a model, and an [`Autoencoder`] that encodes and decodes them.
//!
//! ```
//! use medfusion::{Device, Model, Sampler};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = Model::open("weights/cells64")?;
//! let device = Device::open()?;
//! let images = Sampler::new(&model).class("wbc").count(2).steps(3).seed(7).prepare(&device)?;
//! for image in images {
//!     let image = image?;
//!     println!("image {} of class {:?}", image.index, image.class_name);
//! }
//! # Ok(())
//! # }
//! ```

mod autoencoder;
mod error;
mod overflow;
mod sampler;
mod samples;
mod shifts;
mod step;

pub use autoencoder::{Autoencoder, AutoencoderError, Reconstruction, psnr_db};
pub use error::SampleError;
pub use overflow::WeightOverflow;
pub use sampler::Sampler;
pub use samples::{Image, Samples};
pub use step::{sampler_graph, sampling_graph};
