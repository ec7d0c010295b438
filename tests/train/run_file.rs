//! Run files: defaults are the published settings, mistakes are named with what was meant, files come back unchanged.

use medfusion::diffusion::{BetaSchedule, Objective};
use medfusion::model::config::AttentionKind;
use medfusion::train::run_file::sections::{LrSchedule, OptimizerKind, PixelLossKind};
use medfusion::train::run_file::{
    ByteSize, ClassifierRun, DiffusionRun, Override, Run, RunFileError, VaeRun, load, parse,
    to_toml,
};

const PATH: &str = "[data]\npath = \"x\"\n";

fn set(text: &str) -> Override {
    text.parse().unwrap()
}

fn failure<R: Run>(text: &str, overrides: &[&str]) -> String {
    let overrides: Vec<Override> = overrides.iter().map(|o| set(o)).collect();
    match parse::<R>(text, &overrides) {
        Ok(_) => panic!("accepted: {text} {overrides:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn defaults_are_the_published_settings() {
    let vae: VaeRun = parse(PATH, &[]).unwrap();
    assert_eq!(
        (vae.optimizer.kind, vae.optimizer.weight_decay),
        (OptimizerKind::Adam, 0.0)
    );
    assert_eq!((vae.optimizer.lr, vae.loss.kl_weight), (1e-4, 1e-6));
    assert_eq!(
        (vae.loss.pixel, vae.model.deep_supervision),
        (PixelLossKind::Mse, 1)
    );
    let config = vae.model.config(3);
    assert_eq!(config.backbone.hidden_channels, [64, 128, 256, 512]);
    assert_eq!(config.backbone.strides, [1, 2, 2, 2]);
    assert_eq!((config.latent_channels, config.downsampling()), (8, 8));

    let run: DiffusionRun = parse(PATH, &[]).unwrap();
    assert_eq!(
        (run.optimizer.kind, run.optimizer.weight_decay),
        (OptimizerKind::AdamW, 0.01)
    );
    assert_eq!(
        (run.optimizer.betas, run.optimizer.eps),
        ([0.9, 0.999], 1e-8)
    );
    assert_eq!(run.diffusion.condition_dropout, 0.5);
    assert!(!run.ema.enabled && run.optimizer.grad_clip.is_none());
    let unet = run.model.config(8, 2, &run.diffusion);
    assert_eq!(unet.backbone.hidden_channels, [256, 256, 512, 1024]);
    assert_eq!(unet.backbone.attention, [AttentionKind::None; 4]);
    let time = unet.time_embedding.unwrap();
    assert_eq!(
        (time.dim, time.sinusoid_dim, unet.num_classes),
        (1024, 256, Some(2))
    );
    let noise = run.diffusion.noise();
    assert_eq!(noise.timesteps, 1000);
    assert_eq!(
        noise.betas,
        BetaSchedule::ScaledLinear {
            beta_start: 0.002,
            beta_end: 0.02
        }
    );
    assert_eq!(run.diffusion.objective, Objective::Noise);
}

#[test]
fn a_whole_file_with_overrides() {
    let text = r#"
        task = "diffusion"
        [data]
        path = "cells"
        image_size = [64, 64]
        format = "medmnist"
        unknown = "skip"
        [model]
        hidden_channels = [64, 64, 128]
        norm_groups = 8
        attention = ["none", "linear", "spatial"]
        variant = "legacy"
        [diffusion]
        objective = "x_0"
        schedule = "cosine"
        dropout_unit = "batch"
        [optimizer]
        lr = 1
        grad_clip = 1.0
        [device]
        memory = "6GiB"
    "#;
    let overrides = [
        "optimizer.lr=3e-4",
        "data.path = /some/where",
        "train.steps=7",
        "model.conditional=false",
        "optimizer.schedule=cosine",
        "latents.vae=runs/vae",
        "model.strides=[1, 2, 1]",
    ]
    .map(set);
    let run: DiffusionRun = parse(text, &overrides).unwrap();
    assert_eq!(run.optimizer.lr, 3e-4);
    assert_eq!(run.data.path.to_str(), Some("/some/where"));
    assert_eq!(run.device.memory, Some(ByteSize(6 << 30)));
    assert_eq!(run.model.kernel_sizes, Some(vec![3, 3, 3]));
    assert_eq!(run.model.strides, Some(vec![1, 2, 1]));
    assert_eq!(run.model.config(4, 3, &run.diffusion).num_classes, None);
    assert_eq!(run.optimizer.schedule, LrSchedule::Cosine);
    let again: DiffusionRun = parse(&to_toml(&run), &[]).unwrap();
    assert_eq!(again, run, "the resolved file says the same");
}

/// The resolved file documents every key, whether set or not, and reads back for each task.
#[test]
fn resolved_files_are_documented_and_come_back() {
    fn check<R: Run + PartialEq + std::fmt::Debug>() {
        let run: R = parse(PATH, &[]).unwrap();
        let text = to_toml(&run);
        for (section, _, keys) in R::sections() {
            assert!(text.contains(&format!("\n[{section}]\n")), "{section}");
            for key in keys {
                assert!(
                    key.doc.iter().all(|line| line.len() > 3),
                    "{section}.{} has no text",
                    key.name
                );
                let line = format!("\n{} = ", key.name);
                let unset = format!("\n# {} =\n", key.name);
                assert!(
                    text.contains(&line) || text.contains(&unset),
                    "{section}.{}",
                    key.name
                );
            }
        }
        assert_eq!(parse::<R>(&text, &[]).unwrap(), run);
    }
    check::<VaeRun>();
    check::<DiffusionRun>();
    check::<ClassifierRun>();
}

#[test]
fn unknown_keys_name_the_nearest() {
    for (text, found, nearest) in [
        (
            "[optimizer]\nweight_decy = 1",
            "optimizer.weight_decy",
            "optimizer.weight_decay",
        ),
        ("[train]\nlr = 1", "train.lr", "optimizer.lr"),
        ("[optimiser]\nlr = 1", "[optimiser]", "[optimizer]"),
        ("batch = 3", "batch", "train.batch"),
        ("[trian]", "[trian]", "[train]"),
        ("[loss]\nkl_wieght = 1", "loss.kl_wieght", "loss.kl_weight"),
    ] {
        let error = failure::<VaeRun>(&format!("{text}\n{PATH}"), &[]);
        // `batch = 3` must stand before any section, so the path comes last.
        assert!(error.contains(&format!("unknown key `{found}`")), "{error}");
        assert!(error.contains(&format!("`{nearest}`")), "{error}");
    }
    assert!(failure::<VaeRun>(PATH, &["train.stps=3"]).contains("`train.steps`"));
}

#[test]
fn wrong_types_name_the_key() {
    for (over, parts) in [
        (
            "optimizer.lr=fast",
            ["`optimizer.lr = \"fast\"`", "expected f64"],
        ),
        ("train.steps=-3", ["`train.steps = -3`", "expected u64"]),
        ("train.batch=2.5", ["`train.batch = 2.5`", "expected usize"]),
        ("data.image_size=64", ["`data.image_size = 64`", "array"]),
        (
            "data.unknown=maybe",
            [
                "`data.unknown = \"maybe\"`",
                "`negative`, `positive`, `skip`",
            ],
        ),
        (
            "device.memory=lots",
            ["`device.memory = \"lots\"`", "such as 6GiB"],
        ),
    ] {
        let error = failure::<DiffusionRun>(PATH, &[over]);
        for part in parts {
            assert!(error.contains(part), "{part} in {error}");
        }
    }
}

#[test]
fn values_that_make_no_sense() {
    for (over, part) in [
        ("data.path=\"\"", "data.path"),
        ("data.channels=4", "4 image channels"),
        ("data.image_size=[0, 5]", "image size 0 x 5"),
        (
            "optimizer.lr=0",
            "optimizer.lr = 0.0: expected a number above 0",
        ),
        ("optimizer.lr=nan", "optimizer.lr"),
        ("optimizer.betas=[0.9, 1.0]", "optimizer.betas"),
        ("optimizer.grad_clip=0", "optimizer.grad_clip"),
        ("train.batch=0", "train.batch"),
        ("train.steps=0", "train.steps"),
        ("diffusion.beta_end=2", "beta_start <= beta_end"),
        ("diffusion.condition_dropout=1.5", "0 to 1"),
        (
            "model.strides=[1, 2]",
            "model.strides has 2 values, model.hidden_channels 4",
        ),
        (
            "loss.supervision_weights=[1.0, 0.5]",
            "2 values for 1 outputs",
        ),
        ("device.device=tpu", "auto, cpu, cuda"),
        ("device.precision=f8", "f32, f16, bf16 or f16-fast"),
        ("ema.max_decay=1.0", "ema.max_decay"),
        ("data.holdout=x", "not trained on"),
    ] {
        let mut overrides = vec![over];
        if over.starts_with("data.holdout") {
            overrides.push("data.holdout_split=train");
        }
        let error = failure::<DiffusionRun>(PATH, &overrides);
        assert!(error.contains(part), "{over}: {part} in {error}");
    }
    let both = failure::<DiffusionRun>(PATH, &["train.batch=0", "optimizer.eps=0"]);
    assert!(
        both.contains("train.batch") && both.contains("optimizer.eps"),
        "all at once: {both}"
    );
    let vae = failure::<VaeRun>(PATH, &["data.image_size=[100, 128]"]);
    assert!(vae.contains("multiples of 8"), "{vae}");
    assert!(
        failure::<VaeRun>(PATH, &["model.strides=[1, 9000000000000000000, 9, 9]"])
            .contains("multiples")
    );
    let classifier = failure::<ClassifierRun>(PATH, &["model.norm_groups=7"]);
    assert!(classifier.contains("model.norm_groups"), "{classifier}");
}

#[test]
fn files_that_cannot_be_used() {
    let error = failure::<VaeRun>("task = \"diffusion\"", &[]);
    assert!(
        error.contains("`train diffusion`, not for `train vae`"),
        "{error}"
    );
    let error = failure::<VaeRun>("[data\npath = 3", &[]);
    assert!(
        error.contains("not valid TOML") && error.contains("line 1"),
        "{error}"
    );
    let missing = load::<VaeRun>(Some("no/such.toml".as_ref()), &[]).unwrap_err();
    assert!(matches!(missing, RunFileError::Read { .. }));
    for bad in [
        "lr=3",
        "optimizer.lr",
        "optimizer.lr=",
        ".lr=3",
        "a.b.c=3",
        "=3",
    ] {
        assert!(bad.parse::<Override>().is_err(), "{bad}");
    }
}

#[test]
fn learning_rates() {
    let overrides = [
        "optimizer.lr=1.0",
        "optimizer.warmup_steps=4",
        "optimizer.schedule=cosine",
        "optimizer.final_lr=0.1",
    ]
    .map(set);
    let run: VaeRun = parse(PATH, &overrides).unwrap();
    let at = |step| run.optimizer.lr_at(step, 105);
    assert_eq!([at(0), at(1), at(3)], [0.2, 0.4, 0.8]);
    assert_eq!(at(4), 1.0);
    assert!((at(54) - 0.55).abs() < 1e-12, "{}", at(54));
    assert!((at(104) - 0.1).abs() < 1e-12 && (at(500) - 0.1).abs() < 1e-12);
    assert_eq!(VaeRun::default().optimizer.lr_at(99, 100), 1e-4);
}

/// Against the reference's recorded decays.
#[test]
fn ema_decays() {
    let root = std::env::var_os("MEDFUSION_GOLDEN").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden"),
        Into::into,
    );
    let ema = DiffusionRun::default().ema;
    assert_eq!([ema.decay_at(0), ema.decay_at(1)], [0.0, 0.0]);
    assert!((ema.decay_at(2) - (1.0 - 2f64.powf(-2.0 / 3.0))).abs() < 1e-15);
    assert_eq!(ema.decay_at(u64::MAX), 0.9999);
    let path = root.join("ema_decay.safetensors");
    let Ok(bytes) = std::fs::read(&path) else {
        assert!(
            std::env::var_os("CI").is_none(),
            "{} is missing",
            path.display()
        );
        eprintln!("SKIPPED: {} is missing", path.display());
        return;
    };
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let steps = file.tensor("in.step").unwrap();
    let decays = file.tensor("out.decay").unwrap();
    let steps = steps
        .data()
        .as_chunks()
        .0
        .iter()
        .map(|&b| u64::from_le_bytes(b));
    let decays = decays
        .data()
        .as_chunks()
        .0
        .iter()
        .map(|&b| f32::from_le_bytes(b));
    assert!(steps.len() > 10);
    for (step, decay) in steps.zip(decays) {
        // Rounded to f32 in the file.
        let error = (ema.decay_at(step) - f64::from(decay)).abs();
        assert!(
            error <= 6e-8,
            "step {step}: {} for {decay}",
            ema.decay_at(step)
        );
    }
}

/// The `[data]` section opens what it says: splits, a held-out folder, and classes that must agree.
#[test]
fn data_sections_open_their_sets() {
    let dir = tempfile::TempDir::new().unwrap();
    let image = |name: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::GrayImage::new(4, 4).save(path).unwrap();
    };
    for name in [
        "split/train/a/1.png",
        "split/train/b/1.png",
        "split/test/a/2.png",
        "split/test/b/2.png",
        "whole/a/3.png",
        "whole/b/3.png",
        "whole/b/4.png",
        "other/x/1.png",
    ] {
        image(name);
    }
    let open = |path: &str, more: &[&str]| {
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let mut overrides = vec![Override::new("data.path", at(path))];
        for key in more {
            overrides.push(match key.strip_prefix("holdout=") {
                Some(name) => Override::new("data.holdout", at(name)),
                None => set(key),
            });
        }
        parse::<ClassifierRun>("", &overrides).unwrap().data
    };
    let sizes = |data: &medfusion::train::run_file::sections::Data| {
        let sets = data.open().unwrap();
        (sets.train.len(), sets.holdout.map(|h| h.len()))
    };
    assert_eq!(sizes(&open("split", &[])), (2, Some(2)));
    assert_eq!(
        sizes(&open("split", &["data.holdout_split=val"])),
        (2, None)
    );
    assert_eq!(sizes(&open("whole", &[])), (3, None));
    assert_eq!(sizes(&open("whole", &["holdout=split"])), (3, Some(2)));
    let error = open("whole", &["holdout=other"])
        .open()
        .unwrap_err()
        .to_string();
    assert!(error.contains("expected the same"), "{error}");

    let data = open(
        "split",
        &[
            "data.image_size=[8, 8]",
            "data.channels=1",
            "data.cache=1MiB",
        ],
    );
    let training = data.training_loader(3, 5).unwrap();
    assert!(
        training.balanced
            && training.shuffle
            && training.repeat
            && training.augment.flip_horizontal
    );
    assert_eq!(
        (training.cache_bytes, training.transform.len()),
        (1 << 20, 64)
    );
    let once = data.one_pass_loader(3).unwrap();
    assert!(!once.shuffle && !once.repeat && !once.augment.flip_horizontal);
}
