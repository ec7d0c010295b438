//! The product in a few types: a [`Model`], a [`Sampler`] that makes images with it, and
//! [`Reconstructor`], which sends images through its autoencoder.
//!
//! ```
//! use medfusion::{Device, DeviceChoice, Model, Sampler};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = Model::open("weights/cells64")?;
//! let device = Device::open(DeviceChoice::Auto, None)?;
//! let mut images = Sampler::new(&model).class(2).count(2).steps(3).seed(7).prepare(&device)?;
//! while let Some(image) = images.next_image()? {
//!     println!("image {} of class {:?}", image.index, image.class);
//! }
//! # Ok(())
//! # }
//! ```

mod reconstruct;
mod sampler;

pub use reconstruct::{ReconstructError, Reconstruction, Reconstructor, psnr_db};
pub use sampler::{
    Progress, SampleError, Sampled, Sampler, Samples, sampler_graph, sampling_graph,
};

pub use crate::checkpoint::LoadedModel as Model;
