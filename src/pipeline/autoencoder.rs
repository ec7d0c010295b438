//! Images through a model's autoencoder: there, back, or there and back.

use thiserror::Error;

use super::overflow::{WeightOverflow, check_weights};
use crate::checkpoint::{Model, ModelConfig};
use crate::device::{Compiled, Device, DeviceError, Executable, MemoryReport};
use crate::graph::{Graph, GraphError};
use crate::model::{build_decoder, build_encoder};
use crate::ops::Unary;
use crate::tensor::DType;

/// Why an autoencoder cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AutoencoderError {
    /// The model works on pixels.
    #[error("the model has no autoencoder: it works on pixels")]
    NoAutoencoder,
    /// It was planned to do something else.
    #[error("this autoencoder was planned to {planned}, not to {asked}")]
    AutoencoderPart {
        /// What it does.
        planned: &'static str,
        /// What was asked of it.
        asked: &'static str,
    },
    /// A weight is infinite in the device's precision.
    #[error(transparent)]
    WeightOverflow(#[from] WeightOverflow),
    /// The size does not fit the network.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// One image and its reconstruction.
#[derive(Clone, Debug)]
pub struct Reconstruction {
    /// `[H, W, C]` decoded from the posterior mean, clamped to [-1, 1].
    pub pixels: Vec<f32>,
    /// `[h, w, latent channels]`: the posterior mean.
    pub mean: Vec<f32>,
    /// Mean squared error of the images mapped to [0, 1].
    pub mse: f64,
}

impl Reconstruction {
    /// Peak signal-to-noise ratio in dB on [0, 1].
    pub fn psnr_db(&self) -> f64 {
        psnr_db(self.mse)
    }
}

/// `-10 log10(mse)` for images in [0, 1].
pub fn psnr_db(mse: f64) -> f64 {
    -10.0 * mse.log10()
}

/// What an autoencoder is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AutoencoderPart {
    /// Image to the moments of its latent and back to an image.
    RoundTrip,
    /// Image to moments.
    Encode,
    /// Latent to image; `centred` latents were brought to `2z - 1` by training.
    Decode { centred: bool },
}

impl AutoencoderPart {
    fn name(self) -> &'static str {
        match self {
            Self::RoundTrip => "reconstruct",
            Self::Encode => "encode",
            Self::Decode { .. } => "decode",
        }
    }
}

/// The plan of an autoencoder, before anything is loaded.
pub(super) struct PlannedAutoencoder {
    compiled: Compiled,
    direction: AutoencoderPart,
    batch: usize,
    image: [usize; 3],
    latent: [usize; 3],
}

impl PlannedAutoencoder {
    pub fn memory(&self) -> MemoryReport {
        self.compiled.memory
    }

    pub fn compiled(&self) -> &Compiled {
        &self.compiled
    }

    pub fn load(self, model: &Model, device: &Device) -> Result<Autoencoder, AutoencoderError> {
        check_weights(&model.vae, device.precision())?;
        Ok(Autoencoder {
            executable: device.load(self.compiled, &model.vae)?,
            direction: self.direction,
            batch: self.batch,
            image: self.image,
            latent: self.latent,
        })
    }
}

/// The autoencoder of a model, planned and loaded for one direction, image size and batch.
pub struct Autoencoder {
    executable: Box<dyn Executable>,
    direction: AutoencoderPart,
    batch: usize,
    image: [usize; 3],
    latent: [usize; 3],
}

impl Autoencoder {
    /// Encoder and decoder in one plan, for [`Autoencoder::reconstruct`]: `batch` images of height and width `size`.
    ///
    /// # Errors
    /// If the model has no autoencoder, or the size or the memory does not fit.
    pub fn round_trip(
        model: &Model,
        device: &Device,
        batch: usize,
        size: [usize; 2],
    ) -> Result<Self, AutoencoderError> {
        Self::plan(
            AutoencoderPart::RoundTrip,
            &model.config,
            device,
            batch,
            size,
        )?
        .load(model, device)
    }

    /// The encoder alone, for [`Autoencoder::encode`].
    ///
    /// # Errors
    /// As [`Autoencoder::round_trip`].
    pub fn encoder(
        model: &Model,
        device: &Device,
        batch: usize,
        size: [usize; 2],
    ) -> Result<Self, AutoencoderError> {
        Self::plan(AutoencoderPart::Encode, &model.config, device, batch, size)?.load(model, device)
    }

    /// The decoder alone, for [`Autoencoder::decode`]; `size` is that of the image.
    ///
    /// # Errors
    /// As [`Autoencoder::round_trip`].
    pub fn decoder(
        model: &Model,
        device: &Device,
        batch: usize,
        size: [usize; 2],
    ) -> Result<Self, AutoencoderError> {
        let direction = AutoencoderPart::Decode { centred: false };
        Self::plan(direction, &model.config, device, batch, size)?.load(model, device)
    }

    pub(super) fn plan(
        direction: AutoencoderPart,
        config: &ModelConfig,
        device: &Device,
        batch: usize,
        [height, width]: [usize; 2],
    ) -> Result<PlannedAutoencoder, AutoencoderError> {
        let vae = config.vae.as_ref().ok_or(AutoencoderError::NoAutoencoder)?;
        let factor = vae.downsampling().max(1);
        let latent = [height / factor, width / factor, vae.latent_channels];
        let [h, w, c] = latent;
        let mut graph = Graph::new();
        let channels = match direction {
            AutoencoderPart::RoundTrip | AutoencoderPart::Encode => {
                let x = graph.input("x", [batch, height, width, vae.in_channels], DType::F32)?;
                let moments = build_encoder(&mut graph, vae, x)?;
                if direction == AutoencoderPart::RoundTrip {
                    let decoded = build_decoder(&mut graph, vae, moments.mean)?;
                    graph.output("mean", moments.mean);
                    graph.output("y", decoded.y);
                } else {
                    graph.output("mean", moments.mean);
                    graph.output("logvar", moments.logvar);
                }
                vae.in_channels
            }
            AutoencoderPart::Decode { centred } => {
                let mut z = graph.input("z", [batch, h, w, c], DType::F32)?;
                if centred {
                    let uncentre = Unary::Affine {
                        scale: 0.5,
                        shift: 0.5,
                    };
                    z = graph.apply(uncentre, &[z])?;
                }
                let decoded = build_decoder(&mut graph, vae, z)?;
                graph.output("image", decoded.y);
                vae.out_channels
            }
        };
        Ok(PlannedAutoencoder {
            compiled: device.compile(&graph),
            direction,
            batch,
            image: [height, width, channels],
            latent,
        })
    }

    /// Height, width and channels of its images.
    pub fn image_shape(&self) -> [usize; 3] {
        self.image
    }

    /// Height, width and channels of its latents.
    pub fn latent_shape(&self) -> [usize; 3] {
        self.latent
    }

    /// Memory of the plan.
    pub fn memory(&self) -> MemoryReport {
        self.executable.memory()
    }

    fn expect(&self, asked: AutoencoderPart) -> Result<(), AutoencoderError> {
        let (planned, asked) = (self.direction.name(), asked.name());
        match planned == asked {
            true => Ok(()),
            false => Err(AutoencoderError::AutoencoderPart { planned, asked }),
        }
    }

    /// Reconstructs at most a batch of images `[H, W, C]` in [-1, 1], through the mean of the
    /// posterior: nothing is sampled.
    ///
    /// # Errors
    /// If it was not planned for round trips or the device fails.
    ///
    /// # Panics
    /// If there are more images than the batch holds, or one has another length.
    pub fn reconstruct(
        &mut self,
        images: &[&[f32]],
    ) -> Result<Vec<Reconstruction>, AutoencoderError> {
        self.expect(AutoencoderPart::RoundTrip)?;
        assert!(images.len() <= self.batch);
        let len: usize = self.image.iter().product();
        let mut x = vec![0.0; self.batch * len];
        for (slot, image) in x.chunks_exact_mut(len).zip(images) {
            slot.copy_from_slice(image);
        }
        self.executable.write("x", &x)?;
        self.executable.run()?;
        let (y, mean) = (
            self.executable.output("y")?,
            self.executable.output("mean")?,
        );
        let latent_len = self.latent.iter().product();
        let results = y.chunks_exact(len).zip(mean.chunks_exact(latent_len));
        Ok(results
            .zip(images)
            .map(|((y, mean), x)| {
                let pixels: Vec<f32> = y.iter().map(|v| v.clamp(-1.0, 1.0)).collect();
                let squares = pixels.iter().zip(*x).map(|(&y, &x)| {
                    // Half the distance: images in [-1, 1] are compared on [0, 1].
                    (0.5 * (f64::from(y) - f64::from(x))).powi(2)
                });
                Reconstruction {
                    mse: squares.sum::<f64>() / len as f64,
                    mean: mean.to_vec(),
                    pixels,
                }
            })
            .collect())
    }

    /// Mean and log-variance of any number of images in [-1, 1], one after the other: `[n, 2, h, w, c]` from
    /// `[n, H, W, C]`.
    ///
    /// # Errors
    /// If it was not planned to encode or the device fails.
    pub fn encode(&mut self, images: &[f32]) -> Result<Vec<f32>, AutoencoderError> {
        self.expect(AutoencoderPart::Encode)?;
        let len: usize = self.latent.iter().product();
        let image_len: usize = self.image.iter().product();
        let mut moments = Vec::with_capacity(images.len() / image_len * 2 * len);
        for chunk in images.chunks(self.batch * image_len) {
            let mut x = chunk.to_vec();
            x.resize(self.batch * image_len, 0.0);
            self.executable.write("x", &x)?;
            self.executable.run()?;
            let (mean, logvar) = (
                self.executable.output("mean")?,
                self.executable.output("logvar")?,
            );
            for index in 0..chunk.len() / image_len {
                let range = index * len..(index + 1) * len;
                moments.extend_from_slice(&mean[range.clone()]);
                moments.extend_from_slice(&logvar[range]);
            }
        }
        Ok(moments)
    }

    /// Images `[B, H, W, C]`, nominally in [-1, 1], of a whole batch of latents `[B, h, w, c]`.
    ///
    /// # Errors
    /// If it was not planned to decode, the latents are not a batch or the device fails.
    pub fn decode(&mut self, latents: &[f32]) -> Result<Vec<f32>, AutoencoderError> {
        self.expect(AutoencoderPart::Decode { centred: false })?;
        self.executable.write("z", latents)?;
        self.executable.run()?;
        Ok(self.executable.output("image")?)
    }
}
