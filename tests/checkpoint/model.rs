//! Opening, converting, saving and refusing models, as a user meets it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::shared::shared;
use crate::support::{golden, torch_files};
use medfusion::checkpoint::ModelConfig;
use medfusion::checkpoint::{
    CheckpointError, Fact, Facts, MODEL_JSON, Model, ModelFormat, Network, Problem, StoredModel,
    TorchFormat, UNET_FILE, VAE_FILE, Weights, convert, hashed_parameters, inspect, load_folder,
    read_safetensors, recognise_betas, save_folder, unet_parameters, vae_parameters,
    write_safetensors,
};
use medfusion::diffusion::{BetaSchedule, NoiseConfig, Objective};
use medfusion::files::write_atomically;
use medfusion::model::config::{
    AttentionKind, Backbone, TimeEmbedding, UnetConfig, UnetVariant, VaeConfig,
};
use medfusion::tensor::{DType, Tensor, TensorMap};

/// A small pipeline with hashed weights.
pub fn small_model() -> StoredModel {
    let backbone = |channels: &[usize]| Backbone {
        hidden_channels: channels.to_vec(),
        kernel_sizes: vec![3; channels.len()],
        strides: (0..channels.len())
            .map(|i| 1 + usize::from(i > 0))
            .collect(),
        norm_groups: 4,
        residual_blocks: true,
        learnable_resampling: true,
        attention: vec![AttentionKind::None; channels.len()],
        deep_supervision: 0,
    };
    let unet = UnetConfig {
        variant: UnetVariant::Unet,
        in_channels: 4,
        out_channels: 4,
        backbone: backbone(&[8, 8, 16]),
        num_res_blocks: 1,
        time_embedding: Some(TimeEmbedding {
            dim: 16,
            sinusoid_dim: 4,
        }),
        num_classes: Some(2),
        learned_variance: false,
        self_conditioning: false,
    };
    let vae = VaeConfig {
        in_channels: 3,
        out_channels: 3,
        latent_channels: 4,
        backbone: backbone(&[8, 16]),
    };
    StoredModel {
        unet: hashed_parameters(&unet_parameters(&unet).unwrap(), 0.8),
        vae: hashed_parameters(&vae_parameters(&vae).unwrap(), 0.8),
        config: ModelConfig {
            format: 1,
            unet: Some(unet),
            vae: Some(vae),
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
            image_size: Some([32, 32]),
            class_names: vec!["healthy".into(), "ill".into()],
        },
    }
}

/// A pipeline's state dict with the reference's prefixes.
pub fn pipeline_state(model: &StoredModel, ema: bool) -> TensorMap {
    let mut state = TensorMap::new();
    for (name, tensor) in &model.unet {
        state.insert(format!("noise_estimator.{name}"), tensor.clone());
        if ema {
            let averaged = tensor
                .to_f32()
                .unwrap()
                .iter()
                .map(|v| v * 0.5)
                .collect::<Vec<_>>();
            let averaged = Tensor::from_f32(tensor.shape(), &averaged);
            state.insert(format!("ema_model.averaged_model.{name}"), averaged);
        }
    }
    for (name, tensor) in &model.vae {
        state.insert(format!("latent_embedder.{name}"), tensor.clone());
    }
    let betas = model.config.noise.as_ref().unwrap().betas();
    let betas: Vec<f32> = betas.iter().map(|&b| b as f32).collect();
    let betas = Tensor::from_f32([betas.len()], &betas);
    state.insert("noise_scheduler.betas".into(), betas);
    let vgg = "latent_embedder.perceiver.loss_fn.net.slice1.0.weight";
    state.insert(vgg.into(), Tensor::from_f32([1], &[1.0]));
    state
}

/// What the shapes of [`pipeline_state`] do not tell.
pub fn small_overrides() -> Facts {
    Facts {
        norm_groups: Some(4),
        strides: Some(vec![1, 2, 2]),
        vae_norm_groups: Some(4),
        vae_strides: Some(vec![1, 2]),
        objective: Some(Objective::Noise),
        image_size: Some([32, 32]),
        class_names: Some(vec!["healthy".into(), "ill".into()]),
        ..Facts::default()
    }
}

fn write(folder: &Path, name: &str, state: &TensorMap) -> PathBuf {
    let path = folder.join(name);
    write_safetensors(&path, state, &Default::default()).unwrap();
    path
}

/// Names of what is in a folder, sorted.
fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn one_sentence(error: &CheckpointError, path: &Path, words: &[&str]) {
    let text = error.to_string();
    assert!(text.starts_with(&path.display().to_string()), "{text}");
    for word in words {
        assert!(text.contains(word), "expected {word:?} in: {text}");
    }
}

#[test]
fn a_folder_is_saved_and_loaded_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/er/model");
    let model = small_model();
    let hash = save_folder(&path, &model, None).unwrap();
    assert_eq!(listing(&path), [MODEL_JSON, UNET_FILE, VAE_FILE]);
    assert_eq!(
        listing(&dir.path().join("deep/er")),
        ["model"],
        "nothing temporary is left"
    );
    assert_eq!(load_folder(&path).unwrap(), model);
    let opened = Model::open_with(&path, &Facts::default()).unwrap();
    assert_eq!(opened.hash, hash);
    assert_eq!(opened.hash.len(), 16);
    assert_eq!(opened.source.format, ModelFormat::Folder);
    // The same model gives the same bytes.
    let again = dir.path().join("again");
    save_folder(&again, &model, None).unwrap();
    for file in listing(&path) {
        assert_eq!(
            fs::read(path.join(&file)).unwrap(),
            fs::read(again.join(&file)).unwrap()
        );
    }
    // A changed value or setting is another model.
    let mut other = model.clone();
    other.config.clip_x0 = true;
    assert_ne!(other.hash(), hash);
    let mut other = model.clone();
    for tensor in other.unet.values_mut().take(1) {
        *tensor = tensor.cast(DType::BF16).unwrap();
    }
    assert_ne!(other.hash(), hash);
}

#[test]
fn saving_replaces_a_model_and_keeps_its_card() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    let model = small_model();
    save_folder(&path, &model, None).unwrap();
    fs::write(path.join("README.md"), "a card").unwrap();
    save_folder(&path, &model, Some(DType::F16)).unwrap();
    assert_eq!(
        listing(&path),
        ["README.md", MODEL_JSON, UNET_FILE, VAE_FILE]
    );
    assert_eq!(
        fs::read_to_string(path.join("README.md")).unwrap(),
        "a card"
    );
    assert_eq!(listing(dir.path()), ["model"]);
    let loaded = load_folder(&path).unwrap();
    assert!(
        loaded
            .unet
            .values()
            .all(|tensor| tensor.dtype() == DType::F16)
    );
    // A model without an autoencoder leaves none behind.
    let mut bare = model.clone();
    bare.vae.clear();
    bare.config.vae = None;
    save_folder(&path, &bare, None).unwrap();
    assert_eq!(listing(&path), ["README.md", MODEL_JSON, UNET_FILE]);
}

#[test]
fn what_is_no_model_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let holiday = dir.path().join("holiday");
    fs::create_dir(&holiday).unwrap();
    fs::write(holiday.join("photo.png"), "x").unwrap();
    let error = save_folder(&holiday, &small_model(), None).unwrap_err();
    one_sentence(
        &error,
        &holiday,
        &["no model folder", "nothing was written"],
    );
    assert_eq!(listing(&holiday), ["photo.png"]);

    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let error = save_folder(&file, &small_model(), None).unwrap_err();
    one_sentence(&error, &file, &["a file is there"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "x");
    assert_eq!(listing(dir.path()), ["file", "holiday"]);
}

#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "old").unwrap();
    let error = write_atomically(&path, |out| {
        out.write_all(&[0; 3 << 20])?;
        Err(std::io::Error::from(std::io::ErrorKind::StorageFull))
    });
    assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(listing(dir.path()), ["file"]);
}

/// The kernel itself refuses to write past a limit, in a child process that this test starts of itself.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_old_model_and_nothing_else() {
    const TARGET: &str = "MEDFUSION_TEST_FULL_DISK";
    if let Some(target) = std::env::var_os(TARGET) {
        let error = save_folder(PathBuf::from(target), &small_model(), None).unwrap_err();
        assert!(error.to_string().contains("cannot write"), "{error}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    let old = {
        let mut model = small_model();
        model.config.class_names = vec!["a".into(), "b".into()];
        model
    };
    save_folder(&path, &old, None).unwrap();
    // 8 blocks of 512 bytes (1024 in some shells) are less than the tensors take; without the signal, write fails.
    let status = std::process::Command::new("sh")
        .arg("-c")
        .arg("trap '' XFSZ; ulimit -f 8; exec \"$0\" --exact model::a_full_disk_leaves_the_old_model_and_nothing_else --nocapture")
        .arg(std::env::current_exe().unwrap())
        .env(TARGET, &path)
        .output()
        .unwrap();
    assert!(
        status.status.success(),
        "{}",
        String::from_utf8_lossy(&status.stderr)
    );
    assert_eq!(load_folder(&path).unwrap(), old);
    assert_eq!(listing(dir.path()), ["model"]);
}

#[test]
fn an_unwritable_place_is_one_error() {
    // A file where a folder is needed stops even root.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let path = file.join("model");
    let error = save_folder(&path, &small_model(), None).unwrap_err();
    one_sentence(&error, &path, &["cannot"]);
    let error = write_safetensors(&path, &small_model().vae, &Default::default()).unwrap_err();
    one_sentence(&error, &path, &["cannot write"]);
    assert_eq!(listing(dir.path()), ["file"]);
}

#[test]
fn a_pipeline_is_split_into_its_parts() {
    let dir = tempfile::tempdir().unwrap();
    let model = small_model();
    let path = write(dir.path(), "pipeline.bin", &pipeline_state(&model, true));
    // The schedule is recognised in the table of betas; strides, groups and the objective are asked for.
    let error = Model::open_with(&path, &Facts::default()).unwrap_err();
    one_sentence(
        &error,
        &path,
        &[
            "norms in the UNet (the reference's default is 32)",
            "strides of the UNet, one for each of its 3 levels",
            "norms in the autoencoder (the reference's default is 8)",
            "strides of the autoencoder, one for each of its 2 levels",
            "what the UNet predicts",
        ],
    );
    assert!(!error.to_string().contains("schedule"));
    let ema = Model::open_with(&path, &small_overrides()).unwrap();
    assert!(ema.source.ema);
    assert_eq!(ema.config, model.config);
    assert_eq!(ema.vae, model.vae);
    let raw = Facts {
        weights: Weights::Raw,
        ..small_overrides()
    };
    let raw = Model::open_with(&path, &raw).unwrap();
    assert!(!raw.source.ema);
    assert_eq!(raw.unet, model.unet);
    assert_ne!(raw.unet, ema.unet);
    assert_ne!(raw.hash, ema.hash);

    let without = write(dir.path(), "raw.bin", &pipeline_state(&model, false));
    assert_eq!(
        Model::open_with(&without, &small_overrides()).unwrap().unet,
        model.unet
    );
    let wants_ema = Facts {
        weights: Weights::Ema,
        ..small_overrides()
    };
    let error = Model::open_with(&without, &wants_ema).unwrap_err();
    one_sentence(&error, &without, &["no averaged weights"]);

    // Without an autoencoder the UNet works on pixels.
    let mut pixels = pipeline_state(&model, false);
    pixels.retain(|name, _| !name.starts_with("latent_embedder."));
    let pixels = write(dir.path(), "pixels.bin", &pixels);
    let pixels = Model::open_with(&pixels, &small_overrides()).unwrap();
    assert!(pixels.config.vae.is_none() && pixels.vae.is_empty());
    assert_eq!(pixels.unet, model.unet);

    // A tensor in one of the network's modules that the network does not have makes another network of it.
    let mut strange = pipeline_state(&model, false);
    let name = "noise_estimator.in_conv.lora.weight";
    strange.insert(name.into(), Tensor::from_f32([1], &[0.0]));
    let strange = write(dir.path(), "strange.bin", &strange);
    let error = Model::open_with(&strange, &small_overrides()).unwrap_err();
    one_sentence(&error, &strange, &["unexpected   in_conv.lora.weight"]);
}

#[test]
fn bare_networks_open_alone_and_together() {
    let dir = tempfile::tempdir().unwrap();
    let model = small_model();
    let mut vae_state = model.vae.clone();
    vae_state.insert(
        "perceiver.loss_fn.scaling_layer.shift".into(),
        Tensor::from_f32([1], &[0.0]),
    );
    let vae = write(dir.path(), "vae.st", &vae_state);
    let opened = Model::open_with(&vae, &small_overrides()).unwrap();
    assert_eq!(opened.config.vae, model.config.vae);
    assert!(opened.config.unet.is_none() && opened.unet.is_empty());
    assert_eq!(opened.vae, model.vae);

    let unet = write(dir.path(), "unet.st", &model.unet);
    let error = Model::open_with(&unet, &small_overrides()).unwrap_err();
    one_sentence(&error, &unet, &["the noise schedule"]);
    let overrides = Facts {
        noise: model.config.noise.clone(),
        ..small_overrides()
    };
    let alone = Model::open_with(&unet, &overrides).unwrap();
    assert!(alone.config.vae.is_none());
    let together = Facts {
        vae: Some(vae),
        ..overrides
    };
    let together = Model::open_with(&unet, &together).unwrap();
    assert_eq!(together.to_model(), model);

    // Wrapped for several devices.
    let wrapped: TensorMap = model
        .unet
        .iter()
        .map(|(name, tensor)| (format!("module.{name}"), tensor.clone()))
        .collect();
    let wrapped = write(dir.path(), "ddp.st", &wrapped);
    let overrides = Facts {
        noise: model.config.noise.clone(),
        ..small_overrides()
    };
    assert_eq!(
        Model::open_with(&wrapped, &overrides).unwrap().unet,
        model.unet
    );
}

#[test]
fn published_settings_fill_what_is_not_said() {
    let dir = tempfile::tempdir().unwrap();
    let model = small_model();
    let path = write(dir.path(), "vae.st", &model.vae);
    let published = Facts {
        published: true,
        ..Facts::default()
    };
    let vae = Model::open_with(&path, &published)
        .unwrap()
        .config
        .vae
        .unwrap();
    assert_eq!(vae.backbone.norm_groups, 8);
    assert_eq!(vae.backbone.strides, [1, 2]);
    // 32 groups do not divide 8 channels: the published setting cannot be what this was trained with.
    let path = write(dir.path(), "unet.st", &model.unet);
    let error = Model::open_with(&path, &published).unwrap_err();
    one_sentence(&error, &path, &["32 groups do not divide 8 channels"]);
}

#[test]
fn golden_checkpoints_open_as_models() {
    for path in torch_files() {
        let name = crate::support::name(&path);
        let error = match Model::open_with(&path, &Facts::default()) {
            // A VAE checkpoint says everything.
            Ok(model) => {
                let hyper = model.source.hyper_parameters.as_ref().unwrap();
                if hyper.get("emb_channels").is_some() {
                    let vae = model.config.vae.as_ref().unwrap();
                    let groups = Some(vae.backbone.norm_groups as u64);
                    assert_eq!(groups, hyper["norm_name"][1]["num_groups"].as_u64());
                    let latent = Some(vae.latent_channels as u64);
                    assert_eq!(latent, hyper["emb_channels"].as_u64());
                }
                continue;
            }
            Err(error) => error,
        };
        match *error.problem {
            // A pipeline does not say what its autoencoder's norms and strides are.
            Problem::Undetermined(ref missing) => {
                let network = Network::Autoencoder;
                let [
                    Fact::NormGroups { network: norms, .. },
                    Fact::Strides {
                        network: strides, ..
                    },
                ] = &missing.missing[..]
                else {
                    panic!("{name}: {missing}");
                };
                assert_eq!([*norms, *strides], [network; 2], "{name}");
                let vae_file = path.with_file_name(name.replace("pipeline", "vae"));
                let told = if vae_file.is_file() && vae_file != path {
                    Facts {
                        vae: Some(vae_file),
                        ..Facts::default()
                    }
                } else {
                    Facts {
                        vae_norm_groups: Some(1),
                        published: true,
                        ..Facts::default()
                    }
                };
                let model =
                    Model::open_with(&path, &told).unwrap_or_else(|error| panic!("{error}"));
                let hyper = model.source.hyper_parameters.as_ref().unwrap();
                assert_eq!(Some(model.source.ema), hyper["use_ema"].as_bool(), "{name}");
                let stem = crate::support::stem(&path);
                let expected = golden().join(format!("{stem}_expected.safetensors"));
                let expected = read_safetensors(expected).unwrap().tensors;
                let prefix = match model.source.ema {
                    true => "ema_model.averaged_model",
                    false => "noise_estimator",
                };
                for (key, tensor) in &model.unet {
                    assert!(
                        *tensor == expected[&format!("{prefix}.{key}")],
                        "{name} {key}"
                    );
                }
                for (key, tensor) in &model.vae {
                    assert!(
                        *tensor == expected[&format!("latent_embedder.{key}")],
                        "{name} {key}"
                    );
                }
                let noise = serde_json::to_value(model.config.noise.unwrap()).unwrap();
                let told = &hyper["noise_scheduler_kwargs"];
                assert_eq!(noise["strategy"], told["schedule_strategy"], "{name}");
                for key in ["timesteps", "beta_start", "beta_end"] {
                    assert!(
                        noise[key].is_null() || noise[key] == told[key],
                        "{name} {key}"
                    );
                }
            }
            Problem::Foreign { ref found } => assert!(found.contains("no Medfusion network")),
            _ => panic!("{error}"),
        }
    }
}

#[test]
fn schedules_are_recognised_in_their_betas() {
    for path in crate::support::cases(|name| {
        name.starts_with("scheduler_") && name.ends_with(".safetensors")
    }) {
        let betas = read_safetensors(&path).unwrap().tensors["buf.betas"].clone();
        let betas = betas.to_f32().unwrap().into_owned();
        let found = recognise_betas(&betas);
        let facts = crate::support::json(&path.with_extension("json"));
        println!("{} → {found:?}", crate::support::name(&path));
        let found = serde_json::to_value(&found).unwrap();
        let told = &facts["hyper"];
        assert_eq!(found["strategy"], told["schedule_strategy"]);
        for key in ["timesteps", "beta_start", "beta_end"] {
            assert!(found[key].is_null() || found[key] == told[key], "{key}");
        }
    }
    let odd = [0.1, 0.3, 0.2];
    assert_eq!(
        recognise_betas(&odd).betas,
        BetaSchedule::Given {
            betas: odd.to_vec()
        }
    );
}

#[test]
fn the_reference_checkpoint_opens_and_converts_to_half() {
    let Some(path) = shared("reference/cells64.ckpt") else {
        return;
    };
    let overrides = Facts {
        published: true,
        image_size: Some([64, 64]),
        class_names: Some(["platelets", "rbc", "wbc"].map(String::from).to_vec()),
        ..Facts::default()
    };
    let model = Model::open_with(&path, &overrides).unwrap();
    assert_eq!(model.source.format, ModelFormat::Torch(TorchFormat::Zip));
    let unet = model.config.unet.as_ref().unwrap();
    assert_eq!(unet.variant, UnetVariant::Unet);
    assert_eq!((unet.in_channels, unet.out_channels), (4, 4));
    assert_eq!(unet.backbone.hidden_channels, [64, 64, 128, 192]);
    assert_eq!(unet.backbone.strides, [1, 2, 2, 2]);
    assert_eq!(unet.backbone.norm_groups, 8);
    assert_eq!(unet.num_res_blocks, 2);
    assert_eq!(unet.num_classes, Some(3));
    let time = unet.time_embedding.unwrap();
    assert_eq!((time.dim, time.sinusoid_dim), (256, 64));
    assert!(
        unet.backbone
            .attention
            .iter()
            .all(|&a| a == AttentionKind::None)
    );
    let vae = model.config.vae.as_ref().unwrap();
    assert_eq!(vae.backbone.hidden_channels, [32, 64, 128]);
    assert_eq!(vae.backbone.strides, [1, 2, 2]);
    assert_eq!((vae.backbone.norm_groups, vae.latent_channels), (8, 4));
    assert_eq!((vae.backbone.deep_supervision, vae.downsampling()), (1, 4));
    assert_eq!(model.config.objective, Objective::Noise);
    assert!(!model.config.clip_x0 && !model.config.input_centering);
    assert_eq!(
        model.config.noise,
        Some(NoiseConfig {
            timesteps: 1000,
            betas: BetaSchedule::ScaledLinear {
                beta_start: 0.002,
                beta_end: 0.02
            }
        })
    );

    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("cells64");
    let converted = convert(&path, &output, &overrides, Some(DType::F16)).unwrap();
    let size: u64 = [UNET_FILE, VAE_FILE]
        .map(|file| fs::metadata(output.join(file)).unwrap().len())
        .iter()
        .sum();
    assert!((18_000_000..20_000_000).contains(&size), "{size}");
    let half = Model::open_with(&output, &Facts::default()).unwrap();
    assert_eq!(half.hash, converted.hash);
    assert_eq!(half.config, model.config);
    for (name, tensor) in half.unet.iter().chain(&half.vae) {
        let full = model
            .unet
            .get(name)
            .filter(|full| full.shape() == tensor.shape());
        let full = full.or_else(|| model.vae.get(name)).unwrap();
        assert_eq!(*tensor, full.cast(DType::F16).unwrap(), "{name}");
    }
}

#[test]
fn a_safetensors_file_is_known_by_its_header_whatever_its_length() {
    let dir = tempfile::tempdir().unwrap();
    let mut first_bytes = std::collections::BTreeSet::new();
    for padding in 0..64 {
        let path = dir.path().join("file");
        let metadata = [("note".to_owned(), "x".repeat(8 * padding))].into();
        write_safetensors(&path, &small_model().vae, &metadata).unwrap();
        first_bytes.insert(fs::read(&path).unwrap()[0]);
        Model::open_with(&path, &small_overrides()).unwrap();
    }
    assert!(first_bytes.contains(&0x80), "the first byte of a pickle");
}

#[test]
fn tensors_that_do_not_fit_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = small_model();
    model.unet.remove("outc.conv.conv.bias");
    model
        .unet
        .insert("extra".into(), Tensor::from_f32([2], &[0.0; 2]));
    model.unet.insert(
        "in_blocks.0.0.block_seq.1.basic_block.norm.weight".into(),
        Tensor::from_f32([7], &[0.0; 7]),
    );
    let path = dir.path().join("model");
    let error = save_folder(&path, &model, None).unwrap_err();
    one_sentence(
        &error,
        &path,
        &[
            "1 missing, 1 unexpected, 1 of wrong shape",
            "missing      outc.conv.conv.bias",
            "unexpected   extra",
            "needs [8], found [7]",
        ],
    );
    assert!(!path.exists());
    let state = write(dir.path(), "state.st", &pipeline_state(&model, false));
    let error = Model::open_with(&state, &small_overrides()).unwrap_err();
    one_sentence(
        &error,
        &state,
        &["1 missing, 1 unexpected, 1 of wrong shape"],
    );
}

#[test]
fn values_that_are_no_numbers_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    for (bad, dtype) in [
        (f32::NAN, DType::F32),
        (f32::INFINITY, DType::F16),
        (f32::NEG_INFINITY, DType::BF16),
        (f32::NAN, DType::F64),
    ] {
        let mut model = small_model();
        let name = "in_conv.conv.weight";
        let mut values = model.unet[name].to_f32().unwrap().into_owned();
        // [8, 4, 3, 3]: element [1, 2, 0, 1]
        values[36 + 2 * 9 + 1] = bad;
        let tensor = Tensor::from_f32([8, 4, 3, 3], &values).cast(dtype).unwrap();
        model.unet.insert(name.into(), tensor);
        let error = save_folder(&path, &model, None).unwrap_err();
        one_sentence(&error, &path, &["`in_conv.conv.weight`", "[1, 2, 0, 1]"]);
    }
    let mut model = small_model();
    let bias = Tensor::from_f32([8], &[0.0, 0.0, 0.0, 1e6, 0.0, 0.0, 0.0, 0.0]);
    model.unet.insert("in_conv.conv.bias".into(), bias);
    let error = save_folder(&path, &model, Some(DType::F16)).unwrap_err();
    one_sentence(&error, &path, &["1000000 at [3] does not fit f16", "bf16"]);
    save_folder(&path, &model, Some(DType::BF16)).unwrap();
    let mut model = small_model();
    model
        .unet
        .insert("in_conv.conv.bias".into(), Tensor::from_i64([8], &[0; 8]));
    let error = save_folder(&path, &model, None).unwrap_err();
    one_sentence(&error, &path, &["expected floats"]);
}

#[test]
fn foreign_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    let cases: [(&str, &[u8], &str); 9] = [
        ("image.ckpt", png, "a PNG image"),
        ("notes.txt", b"hello\n", "a text file"),
        ("empty.pt", b"", "the file is empty"),
        ("noise", &[7, 255, 3, 1, 0, 0, 9, 9, 9, 9], "unknown kind"),
        ("pickle.pkl", b"\x80\x04K\x01.", "not a PyTorch checkpoint"),
        ("page.ckpt", b"<!DOCTYPE html><html>", "a web page"),
        (
            "lfs.ckpt",
            b"version https://git-lfs.github.com/spec/v1\n",
            "git lfs pull",
        ),
        ("model.tar.gz", b"\x1f\x8b\x08", "gzip"),
        (
            "zip",
            b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            "without a `data.pkl`",
        ),
    ];
    for (name, content, expected) in cases {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        let error = Model::open_with(&path, &Facts::default()).unwrap_err();
        one_sentence(&error, &path, &[expected]);
        assert!(inspect(&path, &Facts::default()).is_err());
    }
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let error = Model::open_with(&folder, &Facts::default()).unwrap_err();
    one_sentence(
        &error,
        &folder,
        &["a folder without a model.json", "expected a model folder"],
    );
    let nothing = dir.path().join("nothing");
    let error = Model::open_with(&nothing, &Facts::default()).unwrap_err();
    one_sentence(&error, &nothing, &["cannot open"]);
    let other = write(
        dir.path(),
        "other.st",
        &[("w".into(), Tensor::from_f32([1], &[1.0]))].into(),
    );
    let error = Model::open_with(&other, &Facts::default()).unwrap_err();
    one_sentence(&error, &other, &["no Medfusion network"]);
}

#[test]
fn a_damaged_folder_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    save_folder(&path, &small_model(), None).unwrap();
    let unet = path.join(UNET_FILE);
    let good = fs::read(&unet).unwrap();
    let data = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let mut flipped = good.clone();
    flipped[data + 1000] ^= 4;
    fs::write(&unet, &flipped).unwrap();
    let error = Model::open_with(&path, &Facts::default()).unwrap_err();
    one_sentence(&error, &unet, &["does not match the digest"]);
    fs::write(&unet, &good[..good.len() - 1]).unwrap();
    let error = Model::open_with(&path, &Facts::default()).unwrap_err();
    one_sentence(&error, &unet, &["damaged or incomplete"]);
    fs::remove_file(&unet).unwrap();
    let error = Model::open_with(&path, &Facts::default()).unwrap_err();
    one_sentence(&error, &unet, &["cannot open"]);
    fs::write(&unet, &good).unwrap();
    // One part alone is not the model.
    let error = Model::open_with(&unet, &Facts::default()).unwrap_err();
    one_sentence(&error, &unet, &["open the folder that holds it"]);

    let json = path.join(MODEL_JSON);
    let text = fs::read_to_string(&json).unwrap();
    for (from, to, expected) in [
        ("\"format\": 1", "\"format\": 2", "model format 1, found 2"),
        (
            "\"norm_groups\": 4",
            "\"norm_groups\": 3",
            "3 groups do not divide",
        ),
        ("\"timesteps\": 1000", "\"timesteps\": 0", "noise.timesteps"),
        ("\"healthy\",", "", "class_names"),
        (
            "\"in_channels\": 4",
            "\"in_channels\": 99999999999",
            "unet.in_channels",
        ),
        (
            "\"num_classes\": 2",
            "\"num_classes\": \"two\"",
            "not a valid model.json",
        ),
        ("{", "", "not a valid model.json"),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(&json, text.replacen(from, to, 1)).unwrap();
        let error = Model::open_with(&path, &Facts::default()).unwrap_err();
        one_sentence(&error, &path, &[expected]);
    }
    // What a person may well edit: names of classes.
    fs::write(&json, text.replace("healthy", "well")).unwrap();
    let model = Model::open_with(&path, &Facts::default()).unwrap();
    assert_eq!(model.config.class_names, ["well", "ill"]);
}

#[test]
fn inspection_shows_models_and_fragments() {
    let dir = tempfile::tempdir().unwrap();
    let model = small_model();
    let path = dir.path().join("model");
    let hash = save_folder(&path, &model, Some(DType::F16)).unwrap();
    let mut report = inspect(&path, &Facts::default()).unwrap();
    let text = report.to_string();
    for expected in [
        "model folder",
        &hash,
        "unet",
        "vae",
        "f16",
        "scaled_linear",
        "healthy",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains("outc.conv.conv.weight"));
    report.list_tensors = true;
    assert!(report.to_string().contains("outc.conv.conv.weight"));

    let state = write(dir.path(), "pipeline.st", &pipeline_state(&model, true));
    let text = inspect(&state, &Facts::default()).unwrap().to_string();
    for expected in [
        "no configuration",
        "strides of the autoencoder, one for each of its 2 levels",
        "ema_model",
        "noise_scheduler",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    for path in torch_files() {
        let text = inspect(&path, &Facts::default()).unwrap().to_string();
        assert!(text.contains("PyTorch checkpoint"), "{text}");
    }
    let golden = golden().join("checkpoint_vae_expected.safetensors");
    if golden.is_file() {
        inspect(&golden, &Facts::default()).unwrap();
    }
}
