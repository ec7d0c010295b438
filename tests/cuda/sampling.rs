//! The shipped model on the emulated GPU: the CPU's images, the same bits in every run, in any batch and capture mode.
//!
//! Few steps, because an emulated GPU is a few thousand times slower than one. All 150 of them, some minutes, where asked
//! for; `kernels/README.md` has the last output:
//!
//! ```sh
//! cargo xtask soak trajectories
//! ```

use medfusion::compile::Precision;
use medfusion::device::cuda::{CudaDevice, CudaOptions};
use medfusion::device::{Device, DeviceChoice};
use medfusion::{Model, Sampler};

const STEPS: usize = 3;

fn emulated(options: CudaOptions) -> Option<Device> {
    match CudaDevice::emulated(options) {
        Ok(device) => Some(Device::Cuda(device)),
        Err(error) => {
            assert!(
                std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                "CI must not skip this test: {error}"
            );
            eprintln!("NOT TESTED: {error}");
            None
        }
    }
}

fn options(precision: Precision) -> CudaOptions {
    CudaOptions {
        precision,
        ..CudaOptions::default()
    }
}

/// `count` images of class 1, `batch` at a time, from noise that depends on seed and index alone.
fn images(device: &Device, count: u64, batch: usize) -> Vec<Vec<f32>> {
    images_in(STEPS, device, count, batch)
}

fn images_in(steps: usize, device: &Device, count: u64, batch: usize) -> Vec<Vec<f32>> {
    let model = Model::open("weights/cells64").unwrap();
    let samples = Sampler::new(&model)
        .class(1)
        .count(count)
        .steps(steps)
        .guidance(2.0)
        .seed(11)
        .batch(batch)
        .prepare(device)
        .unwrap();
    samples.map(|image| image.unwrap().pixels).collect()
}

fn mean_square(a: &[f32], b: &[f32]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    sum / a.len() as f64
}

#[test]
fn f32_gives_the_images_of_the_cpu() {
    let Some(gpu) = emulated(options(Precision::F32)) else {
        return;
    };
    let cpu = Device::builder().choice(DeviceChoice::Cpu).open().unwrap();
    let (got, want) = (images(&gpu, 1, 1), images(&cpu, 1, 1));
    for (got, want) in got.iter().zip(&want) {
        let worst = got
            .iter()
            .zip(want)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        println!("largest difference {:.2e} of a range of 2", worst);
        // Pixels are in [-1, 1], so one grey level of 255 is 2/255.
        assert!(worst <= 2.0 / 255.0, "{worst}");
    }
}

#[test]
fn reduced_precision_gives_nearly_the_images_of_the_cpu() {
    let cpu = Device::builder().choice(DeviceChoice::Cpu).open().unwrap();
    let want = images(&cpu, 1, 1);
    // bf16 has 3 bits less than f16, 18 dB.
    for (precision, least_db) in [
        (Precision::F16, 45.0),
        (Precision::F16Fast, 45.0),
        (Precision::BF16, 30.0),
    ] {
        let Some(gpu) = emulated(options(precision)) else {
            return;
        };
        for (got, want) in images(&gpu, 1, 1).iter().zip(&want) {
            // On [0, 1], as everywhere.
            let psnr = -10.0 * (mean_square(got, want) / 4.0).log10();
            println!("{precision}: {psnr:.1} dB");
            assert!(psnr >= least_db, "{precision}: {psnr:.1} dB");
        }
    }
}

#[test]
#[ignore = "minutes: see the head of this file"]
fn a_whole_walk_gives_the_images_of_the_cpu() {
    let cpu = Device::builder().choice(DeviceChoice::Cpu).open().unwrap();
    let want = &images_in(150, &cpu, 1, 1)[0];
    for (precision, least_db) in [
        // 1/255 everywhere.
        (Precision::F32, 48.1),
        (Precision::F16, 45.0),
        (Precision::F16Fast, 45.0),
        (Precision::BF16, 45.0),
    ] {
        let gpu = emulated(options(precision)).expect("an emulator");
        let got = &images_in(150, &gpu, 1, 1)[0];
        let psnr = -10.0 * (mean_square(got, want) / 4.0).log10();
        let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs());
        // In grey levels of 255, which are 2/255 of [-1, 1].
        let worst = worst.fold(0.0, f32::max) * 127.5;
        println!("{precision}: {psnr:.1} dB, at most {worst:.3} of 255 levels off");
        assert!(psnr >= least_db, "{precision}: {psnr:.1} dB");
        assert!(precision != Precision::F32 || worst <= 1.0, "{worst}");
    }
}

#[test]
fn runs_and_capture_modes_give_the_same_bits() {
    for precision in [Precision::F32, Precision::F16] {
        let Some(captured) = emulated(options(precision)) else {
            return;
        };
        let eager = emulated(CudaOptions {
            capture: false,
            ..options(precision)
        })
        .unwrap();
        let first = images(&captured, 1, 1);
        assert_eq!(first, images(&captured, 1, 1), "{precision}, again");
        assert_eq!(
            first,
            images(&eager, 1, 1),
            "{precision}, launched one by one"
        );
    }
}

#[test]
fn deterministic_images_do_not_depend_on_the_batch() {
    let Some(gpu) = emulated(CudaOptions {
        deterministic: true,
        ..options(Precision::F16)
    }) else {
        return;
    };
    let one_by_one = images(&gpu, 3, 1);
    assert_eq!(one_by_one, images(&gpu, 3, 3));
    // The first three of a batch of eight.
    assert_eq!(one_by_one[..], images(&gpu, 8, 8)[..3]);
}
