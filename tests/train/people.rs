//! Runs on data as people have it, through the binary: what is decided for them is said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image::{GrayImage, Luma, Rgb, RgbImage};
use tempfile::TempDir;

use crate::shared::shared;

const SMALL: &str = "
[model]
hidden_channels = [4, 8]
norm_groups = 4
num_res_blocks = 1
[train]
batch = 4
steps = 4
validate_every = 2
[device]
device = \"cpu\"
";

fn train(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_medfusion"))
        .args(["train", "classifier"])
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder with `data` (classes `dark` and `light` below each of `splits`) and `run.toml` beside it.
fn folder(splits: &[&str], data_keys: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    for split in splits {
        for (class, level) in [("dark", 40), ("light", 180)] {
            let images = dir.path().join("data").join(split).join(class);
            fs::create_dir_all(&images).unwrap();
            for i in 0..6u32 {
                let seed = u32::from(split.bytes().map(u16::from).sum::<u16>()) + i;
                let image = GrayImage::from_fn(16, 16, |x, y| {
                    Luma([(level + (x * y + seed * 7) % 50) as u8])
                });
                image.save(images.join(format!("{i}.png"))).unwrap();
            }
        }
    }
    let text = format!("[data]\npath = \"data\"\nimage_size = [16, 16]\n{data_keys}\n{SMALL}");
    fs::write(dir.path().join("my-run.toml"), text).unwrap();
    dir
}

#[test]
fn grey_images_take_one_channel_and_val_is_measured_on() {
    let dir = folder(&["train", "val"], "");
    let output = train(dir.path(), &["--run", "my-run.toml", "--out", "run"]);
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("all images are grey: one channel"), "{text}");
    assert!(text.contains("held out: 12 val images"), "{text}");
    assert!(dir.path().join("run/best").exists());
    let resolved = fs::read_to_string(dir.path().join("run/run.toml")).unwrap();
    assert!(resolved.contains("\nchannels = 1\n"), "{resolved}");
    // Colour where it was asked for.
    let output = train(
        dir.path(),
        &[
            "--run",
            "my-run.toml",
            "--out",
            "rgb",
            "--set",
            "data.channels=3",
        ],
    );
    assert!(!stderr(&output).contains("one channel"));
    let resolved = fs::read_to_string(dir.path().join("rgb/run.toml")).unwrap();
    assert!(resolved.contains("\nchannels = 3\n"));
}

#[test]
fn a_run_goes_on_from_any_directory() {
    let dir = folder(&["train", "test"], "");
    let elsewhere = TempDir::new().unwrap();
    let file = dir.path().join("my-run.toml").display().to_string();
    let out = dir.path().join("run").display().to_string();
    let first = train(
        elsewhere.path(),
        &["--run", &file, "--out", &out, "--set", "train.steps=2"],
    );
    assert!(first.status.success(), "{}", stderr(&first));
    let resumed = train(
        Path::new("/"),
        &["--out", &out, "--resume", "--set", "train.steps=4"],
    );
    let text = stderr(&resumed);
    assert!(resumed.status.success(), "{text}");
    assert!(text.contains("step 2 of 4"), "{text}");
    assert!(!text.contains("not what the run began with"), "{text}");
}

#[test]
fn a_part_is_held_out_on_request() {
    let dir = folder(&[""], "holdout_fraction = 0.3");
    let output = train(dir.path(), &["--run", "my-run.toml", "--out", "run"]);
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("held out: 4 test images"), "{text}");
    let by_patient = [
        "--run",
        "my-run.toml",
        "--out",
        "other",
        "--set",
        "data.group_by=patient",
    ];
    let output = train(dir.path(), &by_patient);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("does not say whose image"),
        "{}",
        stderr(&output)
    );
    let nothing = train(
        dir.path(),
        &["--data", "data", "--out", "third", "--set", "train.steps=1"],
    );
    assert!(
        stderr(&nothing).contains("nothing is held out"),
        "{}",
        stderr(&nothing)
    );
}

#[test]
fn a_class_without_a_readable_image_stops_the_run() {
    let dir = folder(&[""], "");
    for i in 0..6 {
        fs::write(dir.path().join(format!("data/light/{i}.png")), "no image").unwrap();
    }
    let output = train(dir.path(), &["--run", "my-run.toml", "--out", "run"]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("none of the 6 images of class `light`"),
        "{text}"
    );
    assert!(!text.contains("panicked"), "{text}");
}

/// The shared examples through `medfusion data`.
#[test]
fn the_report_says_what_became_of_each_kind_of_input() {
    let Some(root) = shared("inputs") else {
        return;
    };
    let kinds: [(&str, &[&str], &str); 10] = [
        ("masks", &[], "6 segmentation masks"),
        (
            "masks",
            &["--include", "*_mask.png"],
            "6 images in 2 classes",
        ),
        ("parts", &[], "RG            3"),
        ("twelve-bit", &[], "set data.bits = 12"),
        ("twelve-bit", &["--bits", "12"], "windowed (6)"),
        ("chexpert-batches", &[], "2 images in 2 classes (chexpert)"),
        (
            "chexpert",
            &["--uncertain", "positive"],
            "1 uncertain finding (-1) counts as positive",
        ),
        (
            "pages",
            &[],
            "1 file holds several pages or frames, 3 images in total",
        ),
        ("ghosts", &[], "2 folders of an operating system"),
        ("train-val-grey", &[], "held out: the val images"),
    ];
    for (name, args, expected) in kinds {
        let output = Command::new(env!("CARGO_BIN_EXE_medfusion"))
            .args(["data", "--no-sheet"])
            .args(args)
            .arg(root.join(name))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && text.contains(expected),
            "{name}: {expected} in {text}"
        );
    }
}

#[test]
fn bad_flags_of_data_are_one_error() {
    let dir = TempDir::new().unwrap();
    let path: PathBuf = dir.path().join("a/1.png");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(4, 4, Rgb([1, 2, 3]))
        .save(&path)
        .unwrap();
    for (args, expected) in [
        (&["--window", "5", "5"][..], "below a white one"),
        (&["--include", "a["][..], "data.include"),
        (&["--labels", "missing.csv"][..], "missing.csv"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_medfusion"))
            .arg("data")
            .arg(dir.path())
            .args(args)
            .current_dir(dir.path())
            .output()
            .unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
        assert!(
            text.contains(expected) && !text.contains("panicked"),
            "{args:?}: {text}"
        );
    }
}
