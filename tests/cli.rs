//! The binary as a person runs it: images out, and one clear error for every kind of bad input,
//! with nothing half-written left behind.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use medfusion::checkpoint::{Facts, Model, StoredModel, save_folder, write_safetensors};
use medfusion::data::Pixels;
use medfusion::device::{Device, DeviceChoice};
use medfusion::diffusion::{Method, TimestepSpacing};
use medfusion::image::png::{Image8, read_text, write};
use medfusion::pipeline::Sampler;
use medfusion::tensor::{Tensor, TensorMap};
use shared::shared;

#[path = "common/shared.rs"]
mod shared;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn medfusion(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_medfusion"));
    command
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    medfusion(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeed(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        stderr(&output)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A clone stays small: all weights that ship take less than 20 MB.
#[test]
fn shipped_weights_stay_small() {
    let mut bytes = 0;
    let mut models = 0;
    for folder in std::fs::read_dir(root().join("weights")).unwrap() {
        let folder = folder.unwrap().path();
        if folder.is_dir() {
            models += 1;
            for file in std::fs::read_dir(folder).unwrap() {
                bytes += file.unwrap().metadata().unwrap().len();
            }
        }
    }
    assert!(models > 0);
    assert!(bytes < 20_000_000, "{models} models of {bytes} bytes");
}

/// Runs a command that has to fail: exit code not zero, exactly one line that starts with
/// `error:`, naming each of `mentions`, and no panic.
fn fail(arguments: &[&str], mentions: &[&str]) {
    let output = run(arguments);
    let text = stderr(&output);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    assert!(
        output.status.code().is_some(),
        "{arguments:?} died of a signal: {text}"
    );
    assert!(!text.contains("panicked"), "{arguments:?}: {text}");
    let errors = text
        .lines()
        .filter(|line| line.starts_with("error:"))
        .count();
    assert_eq!(errors, 1, "{arguments:?}: {text}");
    for mention in mentions {
        assert!(
            text.contains(mention),
            "{arguments:?} does not mention '{mention}': {text}"
        );
    }
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn pixels(path: &Path) -> Pixels {
    Pixels::decode(&std::fs::read(path).unwrap()).unwrap()
}

fn rgb(path: &Path) -> image::RgbImage {
    image::open(path).unwrap().to_rgb8()
}

#[test]
fn a_grid_says_how_it_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let grid = folder.path().join("grid.png");
    let out = grid.to_str().unwrap();
    let printed = succeed(&[
        "sample", "--count", "2", "--steps", "3", "--seed", "7", "--out", out,
    ]);
    assert!(printed.contains("6 images of 3 steps"), "{printed}");
    assert_eq!(files(folder.path()), ["grid.png"]);
    let text = read_text(&grid).unwrap();
    let get = |key: &str| &text.iter().find(|(k, _)| k == key).unwrap().1;
    assert_eq!(get("seed"), "7");
    assert_eq!(get("steps"), "3");
    assert_eq!(get("guidance"), "1");
    assert_eq!(get("class"), "platelets,rbc,wbc");
    assert_eq!(get("model_hash").len(), 16);
    pixels(&grid);
}

#[test]
fn an_image_does_not_depend_on_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let common = [
        "sample",
        "--class",
        "wbc",
        "--steps",
        "4",
        "--guidance",
        "2",
        "--seed",
        "3",
    ];
    let sample = |name: &str, more: &[&str]| -> PathBuf {
        let out = folder.path().join(name);
        let arguments = [&common[..], more, &["--out", out.to_str().unwrap()]].concat();
        succeed(&arguments);
        out
    };
    let one = sample("one", &["--count", "3", "--batch", "1"]);
    let three = sample("three", &["--count", "3", "--batch", "3"]);
    let two = sample("two", &["--count", "3", "--batch", "2"]);
    let rest = sample("rest", &["--count", "1", "--first", "2", "--batch", "1"]);
    assert_eq!(
        files(&one),
        ["00000000_wbc.png", "00000001_wbc.png", "00000002_wbc.png"]
    );
    for name in files(&one) {
        let want = std::fs::read(one.join(&name)).unwrap();
        for other in [&two, &three] {
            assert!(
                std::fs::read(other.join(&name)).unwrap() == want,
                "{name} depends on the batch"
            );
        }
    }
    let name = "00000002_wbc.png";
    assert!(std::fs::read(rest.join(name)).unwrap() == std::fs::read(one.join(name)).unwrap());
    let text = read_text(&one.join(name)).unwrap();
    assert!(
        text.contains(&("index".to_owned(), "2".to_owned())),
        "{text:?}"
    );
}

#[test]
fn the_plan_is_explained() {
    let text = succeed(&["sample", "--explain", "--count", "1", "--class", "0"]);
    for part in [
        "conv2d",
        "group_norm",
        "swish",
        "in_blocks.0.0",
        // What depends on step and label alone is looked up.
        "table_gather",
        // Each pass with what it did.
        "group_norm + swish",
        "schedule",
        "packing",
        "memory",
        "arena",
    ] {
        assert!(text.contains(part), "no '{part}' in\n{text}");
    }
}

#[test]
fn a_checkpoint_is_inspected_converted_and_sampled() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let copy = copy.to_str().unwrap();
    succeed(&["convert", "weights/cells64", copy, "--dtype", "bf16"]);
    let text = succeed(&["inspect", copy, "--tensors"]);
    assert!(
        text.contains("bf16") && text.contains("in_conv.conv.weight"),
        "{text}"
    );
    let grid = folder.path().join("g.png");
    let out = grid.to_str().unwrap();
    succeed(&[
        "sample", "--model", copy, "--count", "1", "--steps", "2", "--out", out,
    ]);
    assert!(succeed(&["doctor"]).contains("cpu"));
}

/// Checkpoints with wrappers, foreign tensors, a bound method and without checksums are inspected, converted and sampled;
/// what was left out is one line.
#[test]
fn checkpoints_as_people_have_them_work_and_say_what_was_left_out() {
    let (Some(inputs), Some(golden)) = (shared("inputs"), shared("golden")) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let vae = golden.join("checkpoint_vae.zip.ckpt");
    let vae = vae.to_str().unwrap();
    let file = |name: &str| inputs.join(name).to_str().unwrap().to_owned();
    let note = "left out 2 tensors that are no part of the model: lpips (1), val_fid (1)";
    let whole = succeed(&[
        "inspect",
        golden
            .join("checkpoint_pipeline.zip.ckpt")
            .to_str()
            .unwrap(),
        "--vae",
        vae,
    ]);
    let hash = whole.lines().find(|line| line.contains("hash")).unwrap();
    for (name, expected) in [
        ("metrics-inside.ckpt", note),
        ("no-crc.ckpt", "without a checksum"),
        ("compiled-ddp.ckpt", "no note"),
        ("compiled-submodules.ckpt", "no note"),
        ("bound-method.ckpt", "no note"),
    ] {
        let path = file(name);
        let text = succeed(&["inspect", &path, "--vae", vae]);
        assert!(text.contains(hash), "{name}: {text}");
        // Whatever the names in the file begin with.
        assert!(text.contains("\n  noise_estimator  "), "{name}: {text}");
        let notes: Vec<&str> = text.lines().filter(|l| l.contains("  note  ")).collect();
        match expected {
            "no note" => assert!(notes.is_empty(), "{notes:?}"),
            _ => assert!(notes.len() == 1 && notes[0].contains(expected), "{notes:?}"),
        }

        let copy = folder.path().join(name);
        let copy = copy.to_str().unwrap();
        let output = run(&["convert", &path, copy, "--vae", vae, "--size", "16"]);
        let text = stderr(&output);
        assert!(output.status.success(), "{name}: {text}");
        assert_eq!(text.contains(expected), expected != "no note", "{text}");

        let sample = |model: &str, vae: &[&str], out: &str| {
            let out = folder.path().join(out);
            let common = ["sample", "--steps", "2", "--count", "1", "--size", "16"];
            let place = ["--model", model, "--out", out.to_str().unwrap()];
            let output = run(&[&common[..], &place, vae].concat());
            let text = stderr(&output);
            assert!(output.status.success(), "{name}: {text}");
            (rgb(&out), text)
        };
        let (direct, text) = sample(&path, &["--vae", vae], "direct.png");
        assert_eq!(text.contains(expected), expected != "no note", "{text}");
        let (converted, text) = sample(copy, &[], "converted.png");
        assert!(!text.contains("left out"), "{text}");
        assert!(direct == converted, "{name}");
    }
}

/// How much darker the middle of an image is than its border, in levels of 256: much for a white cell, nothing for noise.
fn contrast(level: impl Fn(u32, u32) -> f64, side: u32) -> f64 {
    let (mut middle, mut border) = ((0.0, 0), (0.0, 0));
    let is_middle = |at: u32| (side * 3 / 8..side * 5 / 8).contains(&at);
    let is_border = |at: u32| at < side / 8 || at >= side - side / 8;
    for (x, y) in (0..side).flat_map(|x| (0..side).map(move |y| (x, y))) {
        let sum = match (is_middle(x) && is_middle(y), is_border(x) || is_border(y)) {
            (true, _) => &mut middle,
            (_, true) => &mut border,
            _ => continue,
        };
        *sum = (sum.0 + level(x, y), sum.1 + 1);
    }
    border.0 / f64::from(border.1) - middle.0 / f64::from(middle.1)
}

/// One step begins at the last time step, and so do few ancestral steps: a white cell is dark in its middle. The reference's
/// time steps leave the noise as it is.
#[test]
fn few_steps_begin_with_noise_and_end_with_an_image() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::open(root().join("weights/cells64")).unwrap();
    let device = Device::builder().choice(DeviceChoice::Cpu).open().unwrap();
    for (flags, method, steps) in [
        (&["--steps", "1"][..], Method::default(), 1),
        (&["--steps", "1", "--ancestral"], Method::Ancestral, 1),
        (&["--steps", "30", "--ancestral"], Method::Ancestral, 30),
    ] {
        let out = folder.path().join(flags.join(""));
        let common = [
            "sample", "--class", "wbc", "--count", "4", "--device", "cpu",
        ];
        succeed(&[&common[..], flags, &["--out", out.to_str().unwrap()]].concat());
        let files = files(&out);
        let contrasts = files.iter().map(|file| {
            let image = rgb(&out.join(file));
            let level = |x, y| {
                image
                    .get_pixel(x, y)
                    .0
                    .iter()
                    .map(|&v| f64::from(v))
                    .sum::<f64>()
                    / 3.0
            };
            contrast(level, image.width())
        });
        let even = contrasts.sum::<f64>() / files.len() as f64;

        let sampler = Sampler::new(&model)
            .class("wbc")
            .count(4)
            .steps(steps)
            .method(method);
        let sampler = sampler.spacing(TimestepSpacing::Reference);
        let images = sampler.prepare(&device).unwrap();
        let contrasts = images.map(|image| {
            let image = image.unwrap();
            let [_, width, channels] = image.shape;
            let level = |x: u32, y: u32| {
                let at = (y as usize * width + x as usize) * channels;
                let sum: f32 = image.pixels[at..at + channels].iter().sum();
                f64::from(sum) / channels as f64 * 127.5
            };
            contrast(level, width as u32)
        });
        let reference = contrasts.sum::<f64>() / 4.0;
        println!("{flags:?}: {even:.1} levels, at the reference's time steps {reference:.1}");
        assert!(even > 20.0, "{flags:?}: {even} levels");
        assert!(reference.abs() < 10.0, "{flags:?}: {reference} levels");
    }
}

/// Wherever the program is and is started, it finds the model that ships with it, or says where it looked.
#[test]
fn the_model_that_ships_is_found_from_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().join("here");
    let program = folder.path().join("bin/medfusion");
    let share = folder.path().join("share/medfusion/weights");
    for made in [&here, &folder.path().join("bin"), &share] {
        std::fs::create_dir_all(made).unwrap();
    }
    std::fs::copy(env!("CARGO_BIN_EXE_medfusion"), &program).unwrap();
    let explain = |weights: Option<&Path>| {
        let mut command = Command::new(&program);
        command.args(["sample", "--explain", "--count", "1", "--unconditional"]);
        command.current_dir(&here).env_remove("MEDFUSION_WEIGHTS");
        if let Some(weights) = weights {
            command.env("MEDFUSION_WEIGHTS", weights);
        }
        let output = command.output().unwrap();
        (output.status.success(), stderr(&output))
    };
    // Where it was built.
    let (ok, text) = explain(None);
    let built = root().join("weights/cells64");
    assert!(ok && text.contains(built.to_str().unwrap()), "{text}");
    // Where it was installed.
    let xray = share.join("xray32");
    std::fs::create_dir(&xray).unwrap();
    for file in files(&root().join("weights/xray32")) {
        let from = root().join("weights/xray32").join(&file);
        std::fs::copy(from, xray.join(file)).unwrap();
    }
    let (ok, text) = explain(None);
    assert!(ok && text.contains(xray.to_str().unwrap()), "{text}");
    // Where the environment says, and nowhere else.
    let weights = root().join("weights");
    let (ok, text) = explain(Some(&weights));
    assert!(ok && text.contains("weights/cells64"), "{text}");
    let (ok, text) = explain(Some(&here));
    assert!(!ok, "{text}");
    for mention in [
        "cells64",
        "xray32",
        here.to_str().unwrap(),
        "--model",
        "MEDFUSION_WEIGHTS",
    ] {
        assert!(text.contains(mention), "{mention} in {text}");
    }
}

/// A folder of another kind is answered with the command that makes one file of it.
#[test]
fn sharded_checkpoints_are_one_error_with_a_command() {
    let folder = tempfile::tempdir().unwrap();
    for (name, files, mentions) in [
        (
            "dcp",
            &[".metadata", "__0_0.distcp"][..],
            &["torch.distributed", "dcp_to_torch", "model.pt"][..],
        ),
        (
            "deepspeed",
            &["zero_to_fp32.py", "latest"],
            &["DeepSpeed", "python zero_to_fp32.py . model.ckpt"],
        ),
        (
            "shards",
            &["a.safetensors.index.json"],
            &["sharded", "save_file", "model.safetensors"],
        ),
    ] {
        let place = folder.path().join(name);
        std::fs::create_dir(&place).unwrap();
        for file in files {
            std::fs::write(place.join(file), "x").unwrap();
        }
        let place = place.to_str().unwrap();
        fail(&["inspect", place], mentions);
        fail(&["sample", "--model", place], mentions);
    }
}

#[test]
fn images_are_reconstructed() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    let images = images.to_str().unwrap();
    succeed(&["sample", "--count", "1", "--steps", "5", "--out", images]);
    let grid = folder.path().join("pairs.png");
    let text = succeed(&[
        "reconstruct",
        images,
        "--each",
        "--out",
        grid.to_str().unwrap(),
    ]);
    assert!(text.contains("psnr") && text.contains("3 images"), "{text}");
    pixels(&grid);
}

/// A mirrored copy of a training image is at distance 0 from it once mirrored images are searched too, and the
/// distance of two images that differ by 51 of 255 everywhere is 0.2, whatever their size.
#[test]
fn copies_of_training_images_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let image = |name: &str, value: &dyn Fn(usize, usize) -> u8| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let values = (0..8 * 8).map(|i| value(i % 8, i / 8)).collect();
        let image = Image8 {
            width: 8,
            height: 8,
            channels: 1,
            values,
        };
        write(&path, &image, &[]).unwrap();
    };
    let ramp = |x: usize, y: usize| (20 * x + 3 * y) as u8;
    image("train/a/ramp.png", &ramp);
    image("train/b/grey.png", &|_, _| 100);
    image("samples/a/mirrored.png", &|x, y| ramp(7 - x, y));
    image("samples/b/brighter.png", &|_, _| 151);
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (samples, train, out) = (path("samples"), path("train"), path("pairs.png"));
    let nearest = |more: &[&str]| {
        let arguments = [
            "nearest", &samples, "--data", &train, "--out", &out, "--each",
        ];
        succeed(&[&arguments[..], more].concat())
    };
    let turned = nearest(&["--turned"]);
    assert!(turned.contains("a/mirrored  0.0000  a/ramp"), "{turned}");
    assert!(turned.contains("b/brighter  0.2000  b/grey"), "{turned}");
    let upright = nearest(&[]);
    assert!(!upright.contains("a/mirrored  0.0000"), "{upright}");
    pixels(folder.path().join("pairs.png").as_path());
    fail(&["nearest", &samples, "--data", "no/such"], &["no/such"]);
}

#[test]
fn settings_out_of_range_are_one_error() {
    let folder = tempfile::tempdir().unwrap();
    let grid = folder.path().join("grid.png");
    let images = folder.path().join("images");
    let (grid, images) = (grid.to_str().unwrap(), images.to_str().unwrap());
    let sample = |more: &[&str], mentions: &[&str]| {
        fail(&[&["sample", "--out", grid], more].concat(), mentions);
    };
    sample(&["--steps", "0"], &["steps"]);
    sample(&["--steps", "1001"], &["1000", "1001"]);
    sample(&["--count", "0"], &["--count"]);
    sample(&["--count", "1000000000"], &["folder"]);
    sample(&["--count", "18446744073709551615"], &["images"]);
    fail(
        &["sample", "--count", "1000000000", "--out", images],
        &["disk", "--count"],
    );
    sample(&["--class", "3"], &["3", "0 to 2"]);
    sample(&["--class", "neutrophil"], &["neutrophil", "rbc"]);
    sample(&["--opposite-class", "9"], &["9"]);
    sample(&["--eta", "2"], &["eta"]);
    sample(&["--guidance", "NaN"], &["guidance"]);
    sample(&["--batch", "0"], &["--batch"]);
    sample(&["--size", "63"], &["63", "multiples"]);
    sample(&["--model", "no/such/model"], &["no/such/model"]);
    sample(&["--model", "README.md"], &["README.md"]);
    fail(
        &[
            "sample", "--batch", "100000", "--count", "100000", "--class", "0", "--out", images,
        ],
        &["largest batch that fits"],
    );
    fail(
        &["reconstruct", "no/such/image.png"],
        &["no/such/image.png"],
    );
    fail(&["reconstruct", "src"], &["no images"]);
    fail(&["reconstruct", "README.md", "--out", grid], &["README.md"]);
    fail(&["inspect", "Cargo.toml"], &["Cargo.toml"]);
    let jpeg = folder.path().join("grid.jpg");
    fail(
        &["sample", "--out", jpeg.to_str().unwrap()],
        &["grid.jpg", "PNG"],
    );
    // Not even a folder for images that were never made.
    assert_eq!(files(folder.path()), Vec::<String>::new());
}

#[test]
fn outputs_that_cannot_be_written_are_one_error() {
    let folder = tempfile::tempdir().unwrap();
    fail(
        &[
            "sample",
            "--steps",
            "1",
            "--count",
            "1",
            "--out",
            "/proc/none/grid.png",
        ],
        &["--out", "/proc/none"],
    );
    let file = folder.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    fail(
        &[
            "sample",
            "--steps",
            "1",
            "--out",
            file.join("x").to_str().unwrap(),
        ],
        &["--out"],
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "in the way");
}

/// A file-size limit fails writes as a full disk does, without needing one.
#[test]
fn a_full_disk_leaves_nothing_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let grid = folder.path().join("grid.png");
    std::fs::write(&grid, "the old grid").unwrap();
    let binary = env!("CARGO_BIN_EXE_medfusion");
    let script = format!(
        "trap '' XFSZ; ulimit -f 2; exec '{binary}' sample --steps 1 --count 4 --out '{}'",
        grid.display()
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(root())
        .output()
        .unwrap();
    let text = stderr(&output);
    assert!(!output.status.success(), "{text}");
    assert!(!text.contains('\x1b'), "colours for a file: {text:?}");
    assert!(
        text.contains("grid.png") && text.contains("error:"),
        "{text}"
    );
    assert!(!text.contains("panicked"), "{text}");
    assert_eq!(files(folder.path()), ["grid.png"]);
    assert_eq!(std::fs::read_to_string(&grid).unwrap(), "the old grid");
}

#[test]
fn damaged_models_are_one_error() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::open_with(root().join("weights/cells64"), &Facts::default()).unwrap();
    let out = folder.path().join("grid.png");
    let out = out.to_str().unwrap();
    let sample = |path: &Path, mentions: &[&str]| {
        fail(
            &[
                "sample",
                "--steps",
                "1",
                "--model",
                path.to_str().unwrap(),
                "--out",
                out,
            ],
            mentions,
        );
    };
    let copy = |name: &str| -> PathBuf {
        let path = folder.path().join(name);
        save_folder(&path, &model.to_model(), None).unwrap();
        path
    };

    let truncated = copy("truncated");
    let file = truncated.join("unet.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    sample(&truncated, &["unet.safetensors"]);

    let flipped = copy("flipped");
    let file = flipped.join("unet.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    sample(&flipped, &["unet.safetensors"]);

    let edit = |name: &str, edit: &dyn Fn(&mut TensorMap)| -> PathBuf {
        let path = folder.path().join(name);
        let stored: StoredModel = model.to_model();
        save_folder(&path, &stored, None).unwrap();
        let mut unet = stored.unet;
        edit(&mut unet);
        write_safetensors(path.join("unet.safetensors"), &unet, &Default::default()).unwrap();
        // Without digests the folder has to notice by looking at the tensors.
        let json = path.join("model.json");
        let text = std::fs::read_to_string(&json).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        config.as_object_mut().unwrap().remove("files");
        std::fs::write(&json, config.to_string()).unwrap();
        path
    };
    let weight = "in_conv.conv.weight";
    let nan = edit("not-finite", &|unet| {
        let shape = unet[weight].shape().to_vec();
        let mut values = unet[weight].to_f32().unwrap().into_owned();
        values[5] = f32::NAN;
        unet.insert(weight.to_owned(), Tensor::from_f32(shape, &values));
    });
    sample(&nan, &[weight, "NaN"]);
    let shape = edit("shape", &|unet| {
        unet.insert(weight.to_owned(), Tensor::from_f32([3], &[0.0; 3]));
    });
    sample(&shape, &[weight]);
    let missing = edit("missing", &|unet| {
        unet.remove(weight);
    });
    sample(&missing, &[weight]);

    // A pickle that names os.system.
    let pickle = folder.path().join("evil.pt");
    std::fs::write(
        &pickle,
        b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.",
    )
    .unwrap();
    sample(&pickle, &["posix", "system"]);
    assert!(!Path::new(out).exists());
}

/// Ctrl-C ends a run within a step, with the shell's exit code and no grid.
#[test]
fn ctrl_c_ends_a_run_cleanly() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("grid.png");
    let mut child = medfusion(&["sample", "--steps", "1000", "--count", "100"])
        .args(["--out", out.to_str().unwrap()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The handler is installed once the memory was reported; wait for that line.
    let mut reader = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut seen = String::new();
    while !seen.contains("memory:") {
        let read = std::io::BufRead::read_line(&mut reader, &mut seen).unwrap();
        assert!(read > 0, "the run ended early: {seen}");
    }
    std::thread::sleep(Duration::from_millis(300));
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "still running");
        std::thread::sleep(Duration::from_millis(20));
    };
    std::io::Read::read_to_string(&mut reader, &mut seen).unwrap();
    assert_eq!(status.code(), Some(130), "{seen}");
    assert!(seen.contains("interrupted"), "{seen}");
    assert!(
        files(folder.path()).is_empty(),
        "{:?}",
        files(folder.path())
    );
}

/// A profile of the published networks: what the program wrote with `--json`.
fn profiles(folder: &Path, name: &str, arguments: &[&str]) -> Vec<serde_json::Value> {
    let path = folder.join(name);
    let mut all = vec![
        "profile",
        "sample",
        "--published",
        "--json",
        path.to_str().unwrap(),
    ];
    all.extend(arguments);
    succeed(&all);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_profile_is_predicted_layer_by_layer() {
    let text = succeed(&[
        "profile",
        "sample",
        "--published",
        "--batch",
        "8",
        "--top",
        "1000",
    ]);
    for part in [
        "predicted for NVIDIA GeForce RTX 3090",
        "whose mean error is",
        "nothing was measured",
        "conv2d_tensor",
        "in_blocks.3.0.block_seq.1.basic_block.conv",
        "tensor, f32 sums",
        "images/s",
    ] {
        assert!(text.contains(part), "no '{part}' in {text}");
    }
    // Sums over kernels and over layers are the same time.
    let sum = |title: &str| -> f64 {
        let table = text.split(&format!("\n{title} ")).nth(1).unwrap();
        let rows = table.lines().skip(1).take_while(|line| !line.is_empty());
        let micros = |row: &str| {
            let words: Vec<&str> = row.split_whitespace().collect();
            words[words.len() - 5].parse::<f64>().unwrap()
        };
        rows.map(micros).sum()
    };
    let [kernels, layers, bounds] = ["kernel", "layer", "bound"].map(sum);
    assert!(kernels > 5000.0, "{kernels}");
    assert!((layers / kernels - 1.0).abs() < 0.002, "{layers} {kernels}");
    assert!((bounds / kernels - 1.0).abs() < 0.002, "{bounds} {kernels}");

    let report = succeed(&["profile", "check"]);
    assert!(
        report.contains("HGEMM") && report.contains("MISSED"),
        "{report}"
    );
}

#[test]
fn profiles_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let both = ["--batch", "1,8", "--precision", "f16,f16-fast"];
    let old = profiles(folder.path(), "old.json", &both);
    assert_eq!(old.len(), 4);
    let launches = old[0]["launches"].as_array().unwrap();
    assert_eq!(launches.len(), 88);
    assert!(
        launches
            .iter()
            .all(|launch| launch["seconds"].as_f64() > Some(0.0))
    );
    let path = folder.path().join("old.json");
    let path = path.to_str().unwrap();
    let again = [
        "profile",
        "sample",
        "--published",
        "--batch",
        "8",
        "--compare",
        path,
    ];
    let same = succeed(&again);
    assert!(
        same.contains("batch 8, f16") && same.contains(": same"),
        "{same}"
    );
    // A tile that no one would choose.
    let worse = medfusion(&again)
        .env("MEDFUSION_TILE", "64x16")
        .output()
        .unwrap();
    assert!(worse.status.success(), "{}", stderr(&worse));
    let worse = String::from_utf8_lossy(&worse.stdout).into_owned();
    assert!(
        worse.contains(": slower") && worse.contains("  conv2d_tensor: "),
        "{worse}"
    );
    let odd = medfusion(&again)
        .env("MEDFUSION_TILE", "64")
        .output()
        .unwrap();
    assert!(
        stderr(&odd).contains("MEDFUSION_TILE is ignored"),
        "{}",
        stderr(&odd)
    );

    // What cannot be compared is refused.
    let compare = |arguments: &[&str], mentions: &[&str]| {
        let mut all = vec!["profile", "sample", "--compare", path];
        all.extend(arguments);
        fail(&all, mentions);
    };
    compare(&["--published", "--batch", "2"], &["old.json", "batch 2"]);
    compare(&["--batch", "8"], &["old.json", "the model that ships"]);
    compare(
        &["--published", "--batch", "8", "--gpu", "a100"],
        &["old.json", "A100"],
    );
    let text = std::fs::read_to_string(path).unwrap();
    for (damaged, mention) in [
        (
            text.replace("\"version\": 1", "\"version\": 7"),
            "version 1, found 7",
        ),
        ("{}".to_owned(), "not a list of profiles"),
        ("[{}]".to_owned(), "found none"),
    ] {
        std::fs::write(path, damaged).unwrap();
        compare(&["--published", "--batch", "8"], &["old.json", mention]);
    }
    std::fs::remove_file(path).unwrap();
    compare(
        &["--published", "--batch", "8"],
        &["old.json", "No such file"],
    );
}

#[test]
fn a_trace_has_every_launch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let trace = [
        "profile",
        "decode",
        "--published",
        "--trace",
        path.to_str().unwrap(),
    ];
    succeed(&[&trace[..], &["--batch", "2"]].concat());
    let text = std::fs::read(&path).unwrap();
    let trace_file: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let events = trace_file["traceEvents"].as_array().unwrap();
    let spans = |row: u64| {
        events
            .iter()
            .filter(move |e| e["ph"] == "X" && e["tid"] == row)
    };
    assert!(spans(1).count() > 20 && spans(2).count() > 5);
    assert!(spans(1).all(|span| span["dur"].as_f64() > Some(0.0)));
    fail(
        &[&trace[..], &["--batch", "1,2"]].concat(),
        &["--trace", "there are 2"],
    );
}

#[test]
fn plans_are_made_for_any_batch_and_memory() {
    let text = succeed(&["plan", "--published", "--batch", "1,8"]);
    for part in [
        "RTX 3090, planned",
        "24.0 GiB may be taken",
        "as it is",
        "largest batch",
    ] {
        assert!(text.contains(part), "no '{part}' in {text}");
    }
    // A budget below what a step takes as it is: activations are computed twice, or nothing fits.
    let tight = succeed(&[
        "plan",
        "--published",
        "--batch",
        "64",
        "--memory",
        "5000MiB",
    ]);
    assert!(tight.contains("% work") && tight.contains(" !"), "{tight}");
    let none = succeed(&["plan", "--published", "--batch", "8", "--memory", "1MiB"]);
    assert!(
        none.contains("does not fit") && none.contains("none sampling"),
        "{none}"
    );
    fail(
        &["plan", "--published", "--gpu", "gtx970"],
        &["`gtx970`", "rtx3090"],
    );
}

#[test]
fn what_cannot_be_profiled_is_refused() {
    fail(
        &["profile", "sample", "--published", "--gpu", "rtx5090"],
        &["`rtx5090`", "rtx3090"],
    );
    fail(
        &["profile", "decode", "--published", "--size", "100"],
        &["--size 100x100", "multiples of 32"],
    );
    for batch in ["0", "1000000", "x"] {
        let output = run(&["profile", "sample", "--published", "--batch", batch]);
        // clap's exit code for a bad value.
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("--batch"), "{}", stderr(&output));
    }
    // A plan that the GPU has no room for is predicted all the same, and the table says so.
    let large = succeed(&[
        "profile",
        "train",
        "--published",
        "--batch",
        "4096",
        "--precision",
        "f32",
    ]);
    assert!(large.contains("does not fit into the 24 GiB"), "{large}");
}
