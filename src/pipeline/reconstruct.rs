//! Sending images through the autoencoder.

use thiserror::Error;

use super::Model;
use crate::device::{Device, DeviceError, Executable, MemoryReport};
use crate::graph::{Graph, GraphError};
use crate::model::{build_decoder, build_encoder};
use crate::tensor::DType;

/// Why images cannot be reconstructed.
#[derive(Debug, Error)]
pub enum ReconstructError {
    #[error("the model has no autoencoder: it works on pixels")]
    NoAutoencoder,
    #[error(transparent)]
    Graph(#[from] GraphError),
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

/// The autoencoder of a model, planned and loaded for one image shape and batch.
pub struct Reconstructor {
    executable: Box<dyn Executable>,
    batch: usize,
    shape: [usize; 3],
    latent_len: usize,
}

impl Reconstructor {
    /// Plans encoder and decoder for `batch` images of `height` × `width`.
    ///
    /// # Errors
    /// If the model has no autoencoder, or the size or the memory does not fit.
    pub fn new(
        model: &Model,
        device: &Device,
        batch: usize,
        [height, width]: [usize; 2],
    ) -> Result<Self, ReconstructError> {
        let vae = model
            .config
            .vae
            .as_ref()
            .ok_or(ReconstructError::NoAutoencoder)?;
        let shape = [height, width, vae.in_channels];
        let mut graph = Graph::new();
        let x = graph.input("x", [batch, height, width, vae.in_channels], DType::F32)?;
        let moments = build_encoder(&mut graph, vae, x)?;
        let decoded = build_decoder(&mut graph, vae, moments.mean)?;
        graph.output("mean", moments.mean);
        graph.output("y", decoded.y);
        let latent_len = graph.ty(moments.mean).len() / batch.max(1);
        let executable = device.load(device.compile(&graph), &model.vae)?;
        Ok(Self {
            executable,
            batch,
            shape,
            latent_len,
        })
    }

    /// Height, width and channels of the images it takes.
    pub fn image_shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Memory of the plan.
    pub fn memory(&self) -> MemoryReport {
        self.executable.memory()
    }

    /// Reconstructs at most a batch of images `[H, W, C]` in [-1, 1], through the mean of the
    /// posterior: nothing is sampled.
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Panics
    /// If there are more images than the batch holds, or one has another length.
    pub fn run(&mut self, images: &[&[f32]]) -> Result<Vec<Reconstruction>, ReconstructError> {
        assert!(images.len() <= self.batch);
        let len: usize = self.shape.iter().product();
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
        let results = y.chunks_exact(len).zip(mean.chunks_exact(self.latent_len));
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
}
