//! The 194 M-parameter UNet and its VAE with hashed weights at 256×256: memory as planned.
//!
//! One test alone in its process, because it measures the process.

use medfusion::checkpoint::{StoredModel, save_folder};
use medfusion::checkpoint::{hashed_parameters, unet_parameters, vae_parameters};
use medfusion::device::{Device, DeviceChoice};
use medfusion::model::config::{
    Attention, Backbone, BetaSchedule, MODEL_FORMAT, ModelConfig, NoiseConfig, Objective,
    TimeEmbedding, UnetConfig, UnetVariant, VaeConfig,
};
use medfusion::{Model, Sampler};

fn backbone(hidden: [usize; 4], groups: usize, heads: usize) -> Backbone {
    Backbone {
        hidden_channels: hidden.to_vec(),
        kernel_sizes: vec![3; 4],
        strides: vec![1, 2, 2, 2],
        norm_groups: groups,
        residual_blocks: true,
        learnable_resampling: true,
        attention: vec![Attention::None; 4],
        deep_supervision: heads,
    }
}

fn paper() -> ModelConfig {
    ModelConfig {
        format: MODEL_FORMAT,
        unet: Some(UnetConfig {
            variant: UnetVariant::Unet,
            in_channels: 8,
            out_channels: 8,
            backbone: backbone([256, 256, 512, 1024], 32, 0),
            num_res_blocks: 2,
            time_embedding: Some(TimeEmbedding {
                dim: 1024,
                sinusoid_dim: 256,
            }),
            num_classes: Some(2),
            learned_variance: false,
            self_conditioning: false,
        }),
        vae: Some(VaeConfig {
            in_channels: 3,
            out_channels: 3,
            latent_channels: 8,
            backbone: backbone([64, 128, 256, 512], 8, 1),
        }),
        noise: Some(NoiseConfig {
            timesteps: 1000,
            betas: BetaSchedule::ScaledLinear {
                beta_start: 0.002,
                beta_end: 0.02,
            },
        }),
        objective: Objective::Noise,
        clip_x0: false,
        input_centering: false,
        image_size: Some([256, 256]),
        class_names: Vec::new(),
    }
}

/// A field of `/proc/self/status` in bytes.
fn status(field: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap();
    let kib: usize = line
        .trim_start_matches(':')
        .trim()
        .trim_end_matches("kB")
        .trim()
        .parse()
        .unwrap();
    kib * 1024
}

/// Memory that the process holds for itself: what files map is the kernel's to drop.
fn resident() -> usize {
    status("RssAnon")
}

#[test]
fn sampling_takes_the_memory_that_the_plan_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("paper");
    {
        let config = paper();
        let model = StoredModel {
            unet: hashed_parameters(&unet_parameters(config.unet.as_ref().unwrap()), 0.8),
            vae: hashed_parameters(&vae_parameters(config.vae.as_ref().unwrap()), 0.8),
            config,
        };
        save_folder(&path, &model, None).unwrap();
    }
    let before = resident();
    let model = Model::open(&path).unwrap();
    let device = Device::open(DeviceChoice::Cpu, Some(2)).unwrap();
    let mut samples = Sampler::new(&model)
        .class(1)
        .count(1)
        .steps(2)
        .batch(1)
        .prepare(&device)
        .unwrap();
    let planned = samples.memory().total_bytes();
    // The weights' files are mapped; dropping the model unmaps them.
    drop(model);
    let image = samples.next_image().unwrap().unwrap();
    assert_eq!(image.shape, [256, 256, 3]);
    let used = resident() - before;
    let peak = status("VmHWM");
    let gib = |bytes: usize| bytes as f64 / f64::from(1 << 30);
    println!(
        "planned {:.3} GiB, used {:.3} GiB, peak resident of the process {:.3} GiB",
        gib(planned),
        gib(used),
        gib(peak)
    );
    let ratio = used as f64 / planned as f64;
    assert!(
        (0.9..=1.1).contains(&ratio),
        "the plan says {planned} bytes, the process uses {used}"
    );
    assert!(used < 3_000_000_000, "{used} bytes");
}
