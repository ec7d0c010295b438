//! A folder of images through a model's autoencoder and back: what the latent keeps, in dB and as a picture.
//!
//! ```sh
//! cargo run --release --example reconstruct_folder -- weights/xray32 images pairs.png
//! ```
//! Arguments: model, folder of images (in class folders or not), a PNG of pairs: each image beside its reconstruction.

use std::error::Error;
use std::path::Path;

use medfusion::data::{Dataset, OpenOptions, Transform};
use medfusion::image::grid::{GridOptions, compose};
use medfusion::image::{Image8, png};
use medfusion::{Autoencoder, Device, Model};

/// Images at once.
const BATCH: usize = 8;
/// Pairs in the picture.
const SHOWN: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, folder, out] = &arguments[..] else {
        return Err("usage: reconstruct_folder MODEL FOLDER OUT.png".into());
    };
    let model = Model::open(model)?;
    let vae = model.config.vae.as_ref().ok_or("no autoencoder")?;
    let size = model.config.image_size.ok_or("no image size")?;
    let transform = Transform::new(size, vae.in_channels)?;
    let dataset = Dataset::open(Path::new(folder), &OpenOptions::default())?;

    let device = Device::open()?;
    let mut autoencoder = Autoencoder::round_trip(&model, &device, BATCH, size)?;
    let shape = autoencoder.image_shape();
    let mut pairs = Vec::new();
    let mut squares = 0.0;
    for first in (0..dataset.len()).step_by(BATCH) {
        let images = (first..dataset.len().min(first + BATCH))
            .map(|index| Ok(transform.apply(dataset.pixels(index)?)))
            .collect::<Result<Vec<Vec<f32>>, Box<dyn Error>>>()?;
        let views: Vec<&[f32]> = images.iter().map(Vec::as_slice).collect();
        for (image, back) in images.iter().zip(autoencoder.reconstruct(&views)?) {
            squares += back.mse;
            if pairs.len() < 2 * SHOWN {
                pairs.push(Image8::from_f32(image, shape));
                pairs.push(Image8::from_f32(&back.pixels, shape));
            }
        }
    }
    let psnr = -10.0 * (squares / dataset.len() as f64).log10();
    println!("{} images, PSNR {psnr:.2} dB", dataset.len());
    png::write(Path::new(out), &compose(&pairs, &GridOptions::new(2)), &[])?;
    Ok(())
}
