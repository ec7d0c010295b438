//! The 194 M-parameter UNet and its VAE with hashed weights at 256×256: memory as planned.
//!
//! One test alone in its process, because it measures the process.

use medfusion::checkpoint::ModelConfig;
use medfusion::checkpoint::{
    StoredModel, hashed_parameters, save_folder, unet_parameters, vae_parameters,
};
use medfusion::device::{Device, DeviceChoice};
use medfusion::{Model, Sampler};

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

/// All that is resident, from here on the process's peak too: mapped files count as long as their pages are mapped.
fn resident() -> usize {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    status("VmRSS")
}

#[test]
fn sampling_takes_the_memory_that_the_plan_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("paper");
    {
        let config = ModelConfig::published(2);
        let model = StoredModel {
            unet: hashed_parameters(
                &unet_parameters(config.unet.as_ref().unwrap()).unwrap(),
                0.8,
            ),
            vae: hashed_parameters(&vae_parameters(config.vae.as_ref().unwrap()).unwrap(), 0.8),
            config,
        };
        save_folder(&path, &model, None).unwrap();
    }
    let before = resident();
    let model = Model::open(&path).unwrap();
    let device = Device::builder()
        .choice(DeviceChoice::Cpu)
        .threads(2)
        .open()
        .unwrap();
    let mut samples = Sampler::new(&model)
        .class(1)
        .count(1)
        .steps(2)
        .batch(1)
        .prepare(&device)
        .unwrap();
    let planned = samples.memory().total_bytes();
    let image = samples.next().unwrap().unwrap();
    assert_eq!(image.shape, [256, 256, 3]);
    // Loading the weights is the tightest moment: what is packed of the mapped files is let go of on the way.
    let peak = status("VmHWM");
    let used = peak - before;
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
