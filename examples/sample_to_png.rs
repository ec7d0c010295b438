//! Images of every class of a model, one PNG each.
//!
//! ```sh
//! cargo run --release --example sample_to_png -- weights/xray32 samples 4 150
//! ```
//! Arguments: model, folder for the images (one folder per class in it), images per class, steps.

use std::error::Error;
use std::path::PathBuf;

use medfusion::image::{Image8, png};
use medfusion::{Device, Model, Sampler};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, out, count, steps] = &arguments[..] else {
        return Err("usage: sample_to_png MODEL FOLDER IMAGES_PER_CLASS STEPS".into());
    };
    let model = Model::open(model)?;
    let device = Device::open()?;
    println!("{} on {device}", model.classes().join(", "));

    let images = Sampler::new(&model)
        .classes(model.classes().iter().map(String::as_str))
        .count(count.parse()?)
        .steps(steps.parse()?)
        .seed(7)
        .prepare(&device)?;
    for image in images {
        let image = image?;
        let class = image.class_name.as_deref().unwrap_or("any");
        let folder = PathBuf::from(out).join(class);
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{:03}.png", image.index));
        let text = [("seed", image.seed.to_string())];
        png::write(&path, &Image8::from_f32(&image.pixels, image.shape), &text)?;
        println!("{}", path.display());
    }
    Ok(())
}
