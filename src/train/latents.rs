//! Latents of a frozen autoencoder: encoded once, kept on disk as mean and log-variance, sampled anew at each visit.
//!
//! The file's name is a hash of everything the moments depend on: the autoencoder's weights, the images (size and
//! time of every file), image size and channels, and which orientations are drawn. A run with other data or another
//! autoencoder therefore makes a file of its own, and an equal one finds it again.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use serde_json::json;

use super::error::TrainError;
use crate::checkpoint::{Model, read_safetensors};
use crate::data::{
    Augment, DataError, Dataset, Entry, OnCorrupt, Orientation, Position, Transform, epoch_order,
};
use crate::files::write_atomically;
use crate::pipeline::Autoencoder;
use crate::tensor::Tensor;
use crate::tensor::philox::{RandomStream, stream_key};

/// Images encoded at once.
pub(super) const BATCH: usize = 8;

/// Values of one latent.
pub(super) fn latent_len(encoder: &Autoencoder) -> usize {
    encoder.latent_shape().iter().product()
}

/// The orientations that `augment` draws from; a position in the list is the index in the cache.
fn orientations(augment: &Augment) -> Vec<Orientation> {
    let both = |wanted: bool| {
        if wanted {
            vec![false, true]
        } else {
            vec![false]
        }
    };
    let mut all = Vec::new();
    for transpose in both(augment.transpose) {
        for flip_vertical in both(augment.flip_vertical) {
            for flip_horizontal in both(augment.flip_horizontal) {
                all.push(Orientation {
                    flip_horizontal,
                    flip_vertical,
                    transpose,
                });
            }
        }
    }
    all
}

/// How the images of a set become latents.
pub(super) struct LatentSource<'a> {
    pub dataset: &'a Arc<Dataset>,
    /// What [`Dataset::fingerprint`] says, which reads every file.
    pub fingerprint: String,
    pub transform: Transform,
    pub augment: Augment,
    pub on_corrupt: OnCorrupt,
}

/// All latents of a set in all orientations.
pub(super) struct LatentCache {
    /// `[samples, orientations, 2, h, w, c]`: mean and log-variance.
    moments: Tensor,
    /// Images that could be read.
    valid: Vec<bool>,
    orientations: Vec<Orientation>,
    len: usize,
}

const MOMENTS: &str = "moments";
const VALID: &str = "valid";

impl LatentCache {
    /// The cache for `source` in `folder`, computed if it is not there; `progress(done, total)` is called in between.
    pub fn open(
        folder: &Path,
        source: &LatentSource<'_>,
        model: &Model,
        encoder: &mut Autoencoder,
        progress: &mut dyn FnMut(u64, u64) -> Result<(), TrainError>,
    ) -> Result<Self, TrainError> {
        let key = Self::key(source, model);
        let path = folder.join(format!("{key}.safetensors"));
        let variants = orientations(&source.augment);
        let [h, w, c] = encoder.latent_shape();
        let shape = [source.dataset.len(), variants.len(), 2, h, w, c];
        if path.exists() {
            match read_safetensors(&path) {
                Ok(file) => {
                    let found = (file.tensors.get(MOMENTS), file.tensors.get(VALID));
                    if let (Some(moments), Some(valid)) = found
                        && moments.shape() == shape
                        && valid.len() == source.dataset.len()
                    {
                        tracing::info!("latents: {} (cached)", path.display());
                        return Ok(Self {
                            moments: moments.clone(),
                            valid: valid.bytes().iter().map(|&b| b != 0).collect(),
                            orientations: variants,
                            len: latent_len(encoder),
                        });
                    }
                    tracing::warn!("{}: not the latents of this run, made anew", path.display());
                }
                Err(error) => tracing::warn!("{error}; the latents are made anew"),
            }
        }
        std::fs::create_dir_all(folder).map_err(TrainError::io("make", folder))?;
        Self::write(&path, source, encoder, &variants, progress)?;
        let file = read_safetensors(&path)?;
        Ok(Self {
            moments: file.tensors[MOMENTS].clone(),
            valid: file.tensors[VALID]
                .bytes()
                .iter()
                .map(|&b| b != 0)
                .collect(),
            orientations: variants,
            len: latent_len(encoder),
        })
    }

    fn key(source: &LatentSource<'_>, model: &Model) -> String {
        let augment = &source.augment;
        let mut hasher = blake3::Hasher::new();
        let text = format!(
            "latents 1 {} {} {:?} {} {} {} {}",
            model.hash,
            source.fingerprint,
            source.transform.size,
            source.transform.channels,
            augment.flip_horizontal,
            augment.flip_vertical,
            augment.transpose
        );
        hasher.update(text.as_bytes());
        hasher.finalize().to_hex()[..24].to_owned()
    }

    /// Streams the moments to disk, so that sets larger than the memory can be cached.
    fn write(
        path: &Path,
        source: &LatentSource<'_>,
        encoder: &mut Autoencoder,
        variants: &[Orientation],
        progress: &mut dyn FnMut(u64, u64) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        let samples = source.dataset.len();
        let [h, w, c] = encoder.latent_shape();
        let row_bytes = variants.len() * 2 * latent_len(encoder) * size_of::<f32>();
        let moments_bytes = samples * row_bytes;
        let header = json!({
            MOMENTS: {
                "dtype": "F32",
                "shape": [samples, variants.len(), 2, h, w, c],
                "data_offsets": [0, moments_bytes],
            },
            VALID: {
                "dtype": "U8",
                "shape": [samples],
                "data_offsets": [moments_bytes, moments_bytes + samples],
            },
        });
        let mut header = header.to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');

        // The closure returns io::Error, so other errors leave it through `failure`.
        let mut failure = None;
        let written = write_atomically(path, |out| {
            out.write_all(&(header.len() as u64).to_le_bytes())?;
            out.write_all(&header)?;
            let mut valid = Vec::with_capacity(samples);
            for start in (0..samples).step_by(BATCH) {
                let end = (start + BATCH).min(samples);
                let rows = rows(source, encoder, variants, start..end, &mut valid)
                    .and_then(|rows| progress(end as u64, samples as u64).map(|()| rows));
                match rows {
                    Ok(rows) => out.write_all(bytemuck::cast_slice(&rows))?,
                    Err(error) => {
                        failure = Some(error);
                        return Err(io::Error::other("stopped"));
                    }
                }
            }
            if valid.iter().all(|&v| v == 0) {
                failure = Some(TrainError::Data(DataError::Empty {
                    path: source.dataset.root().to_owned(),
                    what: "readable image".to_owned(),
                }));
                return Err(io::Error::other("stopped"));
            }
            let unreadable = valid.iter().filter(|&&v| v == 0).count();
            if unreadable > 0 {
                tracing::warn!("{unreadable} unreadable images were left out");
            }
            out.write_all(&valid)
        });
        match (failure, written) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => Err(TrainError::io("write the latents to", path)(error)),
            (None, Ok(())) => Ok(()),
        }
    }

    /// Mean and log-variance of a sample in an orientation; `None` if its image cannot be read.
    fn get(&self, sample: usize, orientation: Orientation) -> Option<(&[f32], &[f32])> {
        if !self.valid[sample] {
            return None;
        }
        let variant = self.orientations.iter().position(|o| *o == orientation)?;
        let row = sample * self.orientations.len() + variant;
        let bytes = 2 * self.len * size_of::<f32>();
        // Files put the data at a multiple of 8 bytes.
        let values: &[f32] = bytemuck::cast_slice(&self.moments.bytes()[row * bytes..][..bytes]);
        Some(values.split_at(self.len))
    }
}

/// The moments of samples `range` in all orientations; zeros for images that cannot be read.
fn rows(
    source: &LatentSource<'_>,
    encoder: &mut Autoencoder,
    variants: &[Orientation],
    range: std::ops::Range<usize>,
    valid: &mut Vec<u8>,
) -> Result<Vec<f32>, TrainError> {
    let len = source.transform.len();
    let decoded: Vec<Result<Vec<f32>, DataError>> = range
        .into_par_iter()
        .map(|index| {
            let pixels = source.transform.prepare(source.dataset.pixels(index)?);
            let mut images = vec![0.0; variants.len() * len];
            for (image, &orientation) in images.chunks_exact_mut(len).zip(variants) {
                source.transform.finish(&pixels, orientation, image);
            }
            Ok(images)
        })
        .collect();
    let mut images = Vec::new();
    for decoded in decoded {
        match decoded {
            Ok(decoded) => {
                images.extend(decoded);
                valid.push(1);
            }
            Err(error) if source.on_corrupt == OnCorrupt::Fail => return Err(error.into()),
            Err(error) => {
                tracing::warn!("{error}; skipped");
                images.resize(images.len() + variants.len() * len, 0.0);
                valid.push(0);
            }
        }
    }
    Ok(encoder.encode(&images)?)
}

/// A batch of moments.
pub(super) struct LatentBatch {
    /// `[B, h, w, c]`.
    pub mean: Vec<f32>,
    pub logvar: Vec<f32>,
    pub labels: Vec<i64>,
    pub next: Position,
}

/// Batches of the cache, in the order and with the orientations of [`crate::data::Loader`].
pub(super) struct LatentLoader {
    cache: LatentCache,
    classes: Vec<usize>,
    augment: Augment,
    balanced: bool,
    seed: u64,
    position: Position,
    order: (u64, Vec<Entry>),
}

impl LatentLoader {
    pub fn new(
        cache: LatentCache,
        source: &LatentSource<'_>,
        balanced: bool,
        seed: u64,
        start: Position,
    ) -> Result<Self, TrainError> {
        let classes: Vec<usize> = source.dataset.samples().iter().map(|s| s.class).collect();
        if start.offset >= classes.len() as u64 {
            return Err(TrainError::OtherRun(format!(
                "it stopped at image {} of an epoch, the data set holds {} images; is it the one the run began with?",
                start.offset,
                classes.len()
            )));
        }
        Ok(Self {
            order: (
                start.epoch,
                epoch_order(&classes, true, balanced, seed, start.epoch),
            ),
            cache,
            classes,
            augment: source.augment,
            balanced,
            seed,
            position: start,
        })
    }

    pub fn next(&mut self, batch: usize) -> LatentBatch {
        let len = self.cache.len;
        let mut result = LatentBatch {
            mean: Vec::with_capacity(batch * len),
            logvar: Vec::with_capacity(batch * len),
            labels: Vec::with_capacity(batch),
            next: self.position,
        };
        while result.labels.len() < batch {
            let Position { epoch, offset } = self.position;
            if self.order.0 != epoch {
                let order = epoch_order(&self.classes, true, self.balanced, self.seed, epoch);
                self.order = (epoch, order);
            }
            let visit = self.order.1[offset as usize];
            self.position = match offset + 1 == self.classes.len() as u64 {
                true => Position {
                    epoch: epoch + 1,
                    offset: 0,
                },
                false => Position {
                    epoch,
                    offset: offset + 1,
                },
            };
            let key = stream_key(self.seed, RandomStream::Augmentation);
            let sample = visit.sample as usize;
            let orientation = self.augment.draw(&mut visit.stream(key, epoch));
            if let Some((mean, logvar)) = self.cache.get(sample, orientation) {
                result.mean.extend_from_slice(mean);
                result.logvar.extend_from_slice(logvar);
                result.labels.push(self.classes[sample] as i64);
            }
        }
        result.next = self.position;
        result
    }
}
