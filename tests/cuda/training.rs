//! Training on the emulated GPU: 20 steps of both phases follow the CPU's losses and weights.

use std::ops::ControlFlow;
use std::path::Path;

use medfusion::Model;
use medfusion::device::cuda::diagnose;
use medfusion::tensor::TensorMap;
use medfusion::train::run_file::{DiffusionRun, Override, Run, VaeRun, parse};
use medfusion::train::{Event, diffusion, vae};

const VAE: &str = "
    [model]
    latent_channels = 4
    hidden_channels = [8, 16]
    norm_groups = 4
    [optimizer]
    lr = 3e-4
    [train]
    batch = 4
    steps = 20
    validate_every = 0
    sample_every = 0
    checkpoint_every = 100
";

const DIFFUSION: &str = "
    [model]
    hidden_channels = [8, 16, 16]
    norm_groups = 4
    embedding_dim = 16
    [diffusion]
    timesteps = 50
    [optimizer]
    lr = 3e-4
    grad_clip = 1.0
    [ema]
    enabled = true
    [train]
    batch = 4
    steps = 20
    validate_every = 0
    sample_every = 0
    checkpoint_every = 100
";

fn run<R: Run>(text: &str, data: &Path, device: &str, precision: &str) -> R {
    let mut overrides = vec![
        Override::new("data.path", data.display().to_string()),
        Override::new("device.device", device.to_owned()),
        Override::new("device.precision", precision.to_owned()),
    ];
    for text in ["data.image_size=[16, 16]", "device.threads=2"] {
        overrides.push(text.parse().unwrap());
    }
    parse(text, &overrides).unwrap()
}

/// Losses of all steps.
fn losses(train: impl FnOnce(&mut dyn FnMut(&Event) -> ControlFlow<()>)) -> Vec<f32> {
    let mut losses = Vec::new();
    train(&mut |event| {
        if let Event::Step(step) = event {
            losses.push(step.loss);
        }
        ControlFlow::Continue(())
    });
    losses
}

fn emulated() -> bool {
    let found = diagnose();
    let ready = found
        .iter()
        .filter(|finding| ["NVRTC", "emulated GPU"].contains(&finding.subject))
        .all(|finding| finding.found);
    let ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(ready || !ci, "CI must not skip this test: {found:?}");
    if !ready {
        eprintln!("NOT TESTED: {found:?}");
    }
    ready
}

/// Norm-wise relative difference of two sets of weights.
fn distance(a: &TensorMap, b: &TensorMap) -> f64 {
    let (mut difference, mut scale) = (0.0f64, 0.0f64);
    for (name, a) in a {
        let (a, b) = (a.to_f32().unwrap(), b[name].to_f32().unwrap());
        for (&a, &b) in a.iter().zip(b.iter()) {
            difference += f64::from(a - b).powi(2);
            scale += f64::from(a).powi(2);
        }
    }
    (difference / scale).sqrt()
}

/// Compares a run with the CPU's: each loss within `loss` of its value, weights within `weights` of their norm.
fn follows(what: &str, [want, got]: [(&[f32], &TensorMap); 2], loss: f32, weights: f64) {
    let worst = want
        .0
        .iter()
        .zip(got.0)
        .map(|(a, b)| ((a - b) / a).abs())
        .fold(0.0, f32::max);
    let moved = distance(want.1, got.1);
    println!("{what}: losses differ by up to {worst:.1e}, weights by {moved:.1e}");
    assert_eq!(want.0.len(), got.0.len());
    assert!(worst <= loss, "{what}: losses {:?} and {:?}", want.0, got.0);
    assert!(moved <= weights, "{what}: weights differ by {moved:.1e}");
}

/// Per precision: what a loss and the weights may differ by after 20 steps.
///
/// f32 differs in the order of sums. In reduced precision activations and their gradients are off by 2^-11 (f16) or 2^-9
/// (bf16) at each of some 20 layers; Adam divides by the gradient's own size, so that a step moves near-zero entries by up
/// to the learning rate however small the error: 20 steps of 3e-4 on weights of about 0.2, in a direction that is right
/// for most.
const BOUNDS: [(&str, f32, f64); 3] = [
    ("f32", 1e-3, 1e-3),
    ("f16", 1e-2, 2e-2),
    ("bf16", 5e-2, 4e-2),
];

/// The autoencoder's loss is a sum over pixels, some 800: in f16 the loss scale overflows at first and halves until it
/// fits, and those steps update nothing. Measured: 7 of the 20, by which the loss stays behind.
const SCALE_SETTLES: (f32, f64) = (0.3, 4e-2);

#[test]
fn both_phases_follow_the_cpu() {
    if !emulated() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    crate::made_up::images(&data, 12);
    let train_vae = |device: &str, precision: &str| {
        let out = folder.path().join(format!("vae-{device}-{precision}"));
        let run: VaeRun = run(VAE, &data, device, precision);
        let losses = losses(|watch| vae::train(&run, &out, false, watch).unwrap());
        (losses, Model::open(out.join("model")).unwrap().vae)
    };
    let (want_losses, want) = train_vae("cpu", "f32");
    assert_eq!(want_losses.len(), 20);
    for (precision, loss, weights) in BOUNDS {
        let (loss, weights) = if precision == "f16" {
            SCALE_SETTLES
        } else {
            (loss, weights)
        };
        let (got_losses, got) = train_vae("emulated", precision);
        let runs = [(&want_losses[..], &want), (&got_losses[..], &got)];
        follows(&format!("vae {precision}"), runs, loss, weights);
    }

    let train_unet = |device: &str, precision: &str| {
        let out = folder.path().join(format!("unet-{device}-{precision}"));
        let mut run: DiffusionRun = run(DIFFUSION, &data, device, precision);
        run.latents.vae = Some(folder.path().join("vae-cpu-f32/model"));
        let losses = losses(|watch| diffusion::train(&run, &out, false, watch).unwrap());
        (losses, Model::open(out.join("model")).unwrap().unet)
    };
    let (want_losses, want) = train_unet("cpu", "f32");
    for (precision, loss, weights) in BOUNDS {
        let (got_losses, got) = train_unet("emulated", precision);
        let runs = [(&want_losses[..], &want), (&got_losses[..], &got)];
        follows(&format!("diffusion {precision}"), runs, loss, weights);
    }
}
