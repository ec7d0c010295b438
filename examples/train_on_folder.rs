//! Both phases of training on a folder with one folder of images per class: the autoencoder, then the noise estimator.
//!
//! ```sh
//! cargo run --release --example train_on_folder -- cells runs 64 20000
//! ```
//! Arguments: folder of images, folder for the runs, pixels of a side, steps of each phase. The networks are small, for a CPU;
//! every key of a run file is explained in the `run.toml` that a run leaves.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;

use medfusion::Trainer;
use medfusion::train::run_file::{DiffusionRun, Override, VaeRun, parse};

const VAE: &str = "
    [model]
    latent_channels = 4
    hidden_channels = [16, 32]
    norm_groups = 4
    [train]
    batch = 4
";

const DIFFUSION: &str = "
    [model]
    hidden_channels = [16, 32]
    norm_groups = 4
    embedding_dim = 64
    [ema]
    enabled = true
    [train]
    batch = 4
";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [data, out, side, steps] = &arguments[..] else {
        return Err("usage: train_on_folder IMAGES RUNS SIDE STEPS".into());
    };
    let (vae_folder, unet_folder) = (Path::new(out).join("vae"), Path::new(out).join("unet"));
    let mut overrides = vec![
        Override::new("data.path", data.clone()),
        format!("train.steps={steps}").parse()?,
    ];

    let mut vae_overrides = overrides.clone();
    vae_overrides.push(format!("data.image_size=[{side},{side}]").parse()?);
    let run: VaeRun = parse(VAE, &vae_overrides)?;
    train("autoencoder", Trainer::vae(&run, &vae_folder))?;

    // The second phase takes image size and channels from the autoencoder.
    let vae = vae_folder.join("model").display().to_string();
    overrides.push(Override::new("latents.vae", vae));
    let run: DiffusionRun = parse(DIFFUSION, &overrides)?;
    train("noise estimator", Trainer::diffusion(&run, &unet_folder))?;
    println!("the model is in {}", unet_folder.join("model").display());
    Ok(())
}

/// Runs to the last step and prints a loss now and then.
fn train(what: &str, trainer: Trainer<'_>) -> Result<(), Box<dyn Error>> {
    trainer
        .on_step(|step| {
            if step.step == 1 || step.step % 100 == 0 || step.step == step.steps {
                println!("{what}, step {}: loss {:.4}", step.step, step.loss);
            }
            ControlFlow::Continue(())
        })
        .run()?;
    Ok(())
}
