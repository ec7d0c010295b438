//! The published networks as graphs: what tests of kernels, counters and full-size runs share.

#![allow(dead_code, reason = "each test binary uses its part")]

use medfusion::checkpoint::ModelConfig;
use medfusion::compile::{Plan, PlanOptions, fuse};
use medfusion::device::cuda::CudaDevice;
use medfusion::diffusion::{NoiseSchedule, NoiseSource, SamplingSpec};
use medfusion::graph::Graph;
use medfusion::model::{build_decoder, build_encoder};
use medfusion::ops::optimizer::AdamConfig;
use medfusion::ops::pixel_loss::Distance;
use medfusion::pipeline::sampler_graph;
use medfusion::tensor::DType;
use medfusion::train::loss::{DiffusionInputs, DiffusionLossOptions, diffusion_loss};
use medfusion::train::names;
use medfusion::train::run_file::VaeRun;
use medfusion::train::step::{EmaOptions, StepOptions, TrainingGraph};

/// Launches of a sampling step at batch 1 and of training steps at batch 1 and 8 today, in f16. At batch 1 sums over
/// samples are views.
pub const KNOWN_LAUNCHES: [usize; 3] = [88, 459, 459];

/// Latents of 256×256 images.
pub const LATENT: [usize; 3] = [32, 32, 8];

/// The plan of `graph` as users run it on `gpu`: fused and lowered.
pub fn plan(gpu: &CudaDevice, graph: &Graph) -> Plan {
    let (fused, _) = fuse(graph);
    gpu.plan(&gpu.lower(&fused), PlanOptions::default())
}

/// One step of DDIM with its noise; with `guidance` the network sees twice the batch.
pub fn sampling(config: &ModelConfig, batch: usize, guidance: bool) -> Graph {
    let spec = SamplingSpec {
        batch,
        shape: LATENT.to_vec(),
        rows: 150,
        objective: config.objective,
        clip_x0: config.clip_x0,
        learned_variance: false,
        guidance,
        labels: true,
        noise: NoiseSource::Philox,
    };
    sampler_graph(config, &spec).expect("the published network")
}

/// Latents to images.
pub fn decode(config: &ModelConfig, batch: usize) -> Graph {
    let mut g = Graph::new();
    let [h, w, c] = LATENT;
    let z = g
        .input("z", [batch, h, w, c], DType::F32)
        .expect("a new leaf");
    let vae = config.vae.as_ref().expect("a VAE");
    let y = build_decoder(&mut g, vae, z)
        .expect("the published network")
        .y;
    g.output("y", y);
    g
}

/// Images to moments.
pub fn encode(config: &ModelConfig, batch: usize) -> Graph {
    let mut g = Graph::new();
    let x = g
        .input("x", [batch, 256, 256, 3], DType::F32)
        .expect("a new leaf");
    let vae = config.vae.as_ref().expect("a VAE");
    let moments = build_encoder(&mut g, vae, x).expect("the published network");
    g.output("mean", moments.mean);
    g.output("logvar", moments.logvar);
    g
}

/// A training step of the noise estimator: L1 on the noise, AdamW, EMA, gradient clipping; for f16 with loss scaling.
pub fn train_unet(config: &ModelConfig, batch: usize, loss_scaling: bool) -> TrainingGraph {
    let unet = config.unet.as_ref().expect("a UNet");
    let schedule = NoiseSchedule::new(config.noise.as_ref().expect("a noise schedule"))
        .expect("the published schedule");
    let mut g = Graph::new();
    let [h, w, c] = LATENT;
    let shape = [batch, h, w, c];
    let inputs = DiffusionInputs {
        x_0: g.input("x_0", shape, DType::F32).expect("a new leaf"),
        noise: g.input("noise", shape, DType::F32).expect("a new leaf"),
        t: g.input("t", [batch], DType::I32).expect("a new leaf"),
        labels: Some(g.input("labels", [batch], DType::I32).expect("a new leaf")),
    };
    let options = DiffusionLossOptions {
        objective: config.objective,
        distance: Distance::L1,
        supervision_weights: Vec::new(),
        input_centering: false,
    };
    let loss =
        diffusion_loss(&mut g, unet, &schedule, &options, inputs).expect("the published network");
    g.output(names::LOSS, loss.total);
    let options = StepOptions {
        adam: AdamConfig::ADAMW,
        max_norm: 1.0,
        ema: Some(EmaOptions {
            max_decay: 0.9999,
            power: 2.0 / 3.0,
        }),
        accumulate: 1,
        loss_scaling,
    };
    TrainingGraph::new(g, loss.total, options).expect("a differentiable loss")
}

/// A training step of the autoencoder with the published loss, without the perceptual network.
pub fn train_vae(batch: usize) -> TrainingGraph {
    let mut run = VaeRun::default();
    run.data.image_size = [256, 256];
    run.train.batch = batch;
    medfusion::train::vae::training_graph(&run).expect("the published network")
}
