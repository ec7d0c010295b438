//! Training runs on small made-up images: learning, exact resumption, accumulation, memory budgets, and what goes wrong.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use medfusion::data::{Dataset, OpenOptions, Split};
use medfusion::metrics::Classifier;
use medfusion::tensor::TensorMap;
use medfusion::tensor::philox::{RandomStream, fill_normal, stream_key};
use medfusion::train::run_file::{ClassifierRun, DiffusionRun, Override, Run, VaeRun, parse};
use medfusion::train::state::newest;
use medfusion::train::step::LoadedStep;
use medfusion::train::{Event, TrainError, Watch, classifier, diffusion, names, vae};
use medfusion::{Device, DeviceChoice, Model, Sampler};
use tempfile::TempDir;

use crate::made_up::{SIDE, images};

struct Fixture {
    _dir: TempDir,
    root: PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let root = dir.path().to_owned();
        images(&root.join("data"), 12);
        Self { _dir: dir, root }
    }

    fn run<R: Run>(&self, text: &str, overrides: &[&str]) -> R {
        let mut all = vec![
            Override::new("data.path", self.root.join("data").display().to_string()),
            "data.image_size=[16, 16]".parse().unwrap(),
            "device.threads=2".parse().unwrap(),
        ];
        all.extend(overrides.iter().map(|o| o.parse::<Override>().unwrap()));
        parse(text, &all).unwrap()
    }

    fn out(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

const VAE: &str = "
    [model]
    latent_channels = 4
    hidden_channels = [8, 16]
    norm_groups = 4
    [optimizer]
    lr = 2e-3
    [train]
    batch = 4
    steps = 8
    validate_every = 4
    sample_every = 8
    checkpoint_every = 100
";

const DIFFUSION: &str = "
    [data]
    flip_vertical = true
    balanced = true
    [model]
    hidden_channels = [8, 16]
    norm_groups = 4
    embedding_dim = 16
    [diffusion]
    timesteps = 50
    learned_variance = true
    self_conditioning = true
    [optimizer]
    lr = 1e-3
    grad_clip = 1.0
    warmup_steps = 3
    schedule = \"cosine\"
    [ema]
    enabled = true
    [train]
    batch = 4
    accumulate = 2
    steps = 8
    validate_every = 4
    sample_every = 8
    checkpoint_every = 3
";

/// Runs to the end, or until `stop` steps are done.
fn go(
    stop: Option<u64>,
    losses: &mut Vec<f32>,
    train: impl FnOnce(Watch<'_>) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    train(&mut |event| match event {
        Event::Step(step) => {
            losses.push(step.loss);
            match stop == Some(step.step) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
        _ => ControlFlow::Continue(()),
    })
}

/// Weights, moments, averages and counters after the last step, all as they are on disk.
fn last_state(out: &Path) -> (u64, Vec<(String, TensorMap)>, serde_json::Value) {
    let (_, state) = newest(&out.join("checkpoints")).unwrap().unwrap();
    (
        state.progress.step,
        state.parts.into_iter().collect(),
        state.extra["counters"].clone(),
    )
}

/// A run that stops and goes on ends in the same bits as one that does not.
fn resumes_exactly<R: Run + Clone>(
    fixture: &Fixture,
    run: &R,
    stops: &[u64],
    train: impl Fn(&R, &Path, bool, Watch<'_>) -> Result<(), TrainError>,
) {
    let (whole, parts) = (fixture.out("whole"), fixture.out("parts"));
    let (mut expected, mut found) = (Vec::new(), Vec::new());
    go(None, &mut expected, |watch| {
        train(run, &whole, false, watch)
    })
    .unwrap();
    for (index, &stop) in stops.iter().enumerate() {
        let result = go(Some(stop), &mut found, |watch| {
            train(run, &parts, index > 0, watch)
        });
        let error = result.unwrap_err();
        assert!(
            matches!(error, TrainError::Interrupted { step } if step == stop),
            "{error}"
        );
    }
    go(None, &mut found, |watch| train(run, &parts, true, watch)).unwrap();
    assert_eq!(expected, found, "losses, step by step");
    let (expected, found) = (last_state(&whole), last_state(&parts));
    assert_eq!(expected.0, found.0);
    assert_eq!(expected.2, found.2, "counters");
    for ((part, expected), (_, found)) in expected.1.iter().zip(&found.1) {
        assert!(!expected.is_empty());
        assert_eq!(expected, found, "{part}");
    }
    assert_eq!(expected.1.len(), found.1.len());
}

#[test]
fn autoencoder_then_diffusion_resume_to_the_bit_and_sample() {
    let fixture = Fixture::new();
    let run: VaeRun = fixture.run(VAE, &[]);
    resumes_exactly(&fixture, &run, &[3, 5], vae::train);
    let folder = fixture.out("whole/model");
    assert!(fixture.out("whole/best/model.json").exists());
    let autoencoder = Model::open(&folder).unwrap();
    assert_eq!(autoencoder.config.class_names, ["bright", "dark"]);
    let path = folder.display().to_string();

    let fixture2 = Fixture {
        _dir: TempDir::new().unwrap(),
        root: fixture.root.join("diffusion"),
    };
    images(&fixture2.root.join("data"), 12);
    let vae_key = format!("latents.vae={path}");
    let run: DiffusionRun = fixture2.run(DIFFUSION, &[&vae_key]);
    resumes_exactly(&fixture2, &run, &[1, 6], diffusion::train);
    let state = last_state(&fixture2.out("whole"));
    assert_eq!(state.2["step"], 8);
    assert_eq!(state.2["ema_step"], 8);
    let caches = fs::read_dir(fixture2.out("whole/latents")).unwrap().count();
    assert_eq!(caches, 1);

    let model = Model::open(fixture2.out("whole/model")).unwrap();
    let device = Device::builder()
        .choice(DeviceChoice::Cpu)
        .threads(2)
        .open()
        .unwrap();
    let mut samples = Sampler::new(&model)
        .class(1)
        .steps(5)
        .prepare(&device)
        .unwrap();
    let image = samples.next().unwrap().unwrap();
    assert_eq!(image.shape, [SIDE, SIDE, 3]);

    // Without a cache the same latents come from the encoder, step by step.
    let run: DiffusionRun = fixture2.run(
        DIFFUSION,
        &[
            &vae_key,
            "latents.cache=false",
            "train.steps=2",
            "train.sample_every=0",
        ],
    );
    let mut losses = Vec::new();
    go(None, &mut losses, |watch| {
        diffusion::train(&run, &fixture2.out("uncached"), false, watch)
    })
    .unwrap();
    let run: DiffusionRun = fixture2.run(
        DIFFUSION,
        &[&vae_key, "train.steps=2", "train.sample_every=0"],
    );
    let mut cached = Vec::new();
    go(None, &mut cached, |watch| {
        diffusion::train(&run, &fixture2.out("cached"), false, watch)
    })
    .unwrap();
    assert_eq!(losses, cached);
}

#[test]
fn an_autoencoder_learns() {
    let fixture = Fixture::new();
    let run: VaeRun = fixture.run(
        VAE,
        &[
            "train.steps=60",
            "train.validate_every=60",
            "train.sample_every=0",
            "ema.enabled=true",
        ],
    );
    let (mut losses, mut psnr) = (Vec::new(), 0.0);
    vae::train(&run, &fixture.out("run"), false, &mut |event| {
        match event {
            Event::Step(step) => losses.push(step.loss),
            Event::Measured { values, .. } => psnr = values[1].1,
            _ => {}
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    let mean = |v: &[f32]| v.iter().sum::<f32>() / v.len() as f32;
    let (first, last) = (mean(&losses[..5]), mean(&losses[55..]));
    assert!(last < 0.7 * first, "{first} to {last}");
    assert!(psnr > 12.0, "{psnr} dB");
    let again = vae::train(&run, &fixture.out("run"), false, &mut |_| {
        ControlFlow::Continue(())
    });
    assert!(matches!(again, Err(TrainError::Exists(_))), "{again:?}");
}

#[test]
fn a_classifier_tells_bright_from_dark() {
    let fixture = Fixture::new();
    let run: ClassifierRun = fixture.run(
        "[model]\nhidden_channels = [8, 16]\nnum_res_blocks = 1\nnorm_groups = 4\n\
         [train]\nbatch = 8\nsteps = 30\nvalidate_every = 30\nsample_every = 0",
        &[],
    );
    let mut measured = Vec::new();
    classifier::train(&run, &fixture.out("run"), false, &mut |event| {
        if let Event::Measured { values, .. } = event {
            measured.clone_from(values);
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    let get = |name: &str| measured.iter().find(|(n, _)| *n == name).unwrap().1;
    assert!(get("accuracy") > 0.9, "{measured:?}");
    assert!(get("auroc") > 0.95, "{measured:?}");

    // The exported classifier, opened again, does what the run measured.
    let opened = Classifier::open(&fixture.out("run/model")).unwrap();
    let device = Device::builder()
        .choice(DeviceChoice::Cpu)
        .threads(2)
        .open()
        .unwrap();
    let set = Dataset::open(&fixture.out("data"), &OpenOptions::default()).unwrap();
    let scores = opened
        .score(&set.select(Split::Test).unwrap(), &device)
        .unwrap();
    assert_eq!(scores.accuracy, get("accuracy"));
    assert_eq!(scores.auroc, Some(get("auroc")));

    fs::rename(fixture.out("data/test/dark"), fixture.out("data/test/dim")).unwrap();
    fs::rename(
        fixture.out("data/train/dark"),
        fixture.out("data/train/dim"),
    )
    .unwrap();
    let other = Dataset::open(&fixture.out("data"), &OpenOptions::default()).unwrap();
    let error = opened.score(&other, &device).unwrap_err().to_string();
    assert!(error.contains("dark") && error.contains("dim"), "{error}");
}

#[test]
fn numbers_that_are_none_stop_the_run() {
    let fixture = Fixture::new();
    let run: VaeRun = fixture.run(VAE, &["optimizer.lr=1e30", "train.checkpoint_every=1"]);
    let error = vae::train(&run, &fixture.out("run"), false, &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap_err();
    let TrainError::NotFinite { step, .. } = &error else {
        panic!("{error}")
    };
    let text = error.to_string();
    assert!(text.contains(&format!("step {step}")), "{text}");
    assert!(
        text.contains("gradient of `") || text.contains("the loss"),
        "{text}"
    );
    assert_eq!(last_state(&fixture.out("run")).0, step - 1);
}

/// One step of an autoencoder on made-up images, `passes` of `batch`, under a memory budget.
fn one_step(batch: usize, passes: usize, budget: Option<usize>) -> (LoadedStep, f32) {
    let fixture_text = format!(
        "[data]\npath = \"unused\"\nimage_size = [32, 32]\n{}",
        VAE.replace(
            "batch = 4",
            &format!("batch = {batch}\naccumulate = {passes}")
        )
    );
    let run: VaeRun = parse(&fixture_text, &[]).unwrap();
    let device = Device::builder()
        .choice(DeviceChoice::Cpu)
        .threads(2)
        .open()
        .unwrap();
    let training = vae::training_graph(&run).unwrap();
    let compiled = training.compile(&device, budget).unwrap();
    if let Some(budget) = budget {
        assert!(compiled.memory.total_bytes() <= budget);
    }
    let weights = medfusion::train::init::initial_weights(training.graph.declared_parameters(), 5);
    let mut trainer = training.load(&device, compiled, &weights).unwrap();
    let mut images = vec![0.0; 4 * 32 * 32 * 3];
    fill_normal(stream_key(9, RandomStream::Test), 0, 0, &mut images);
    let len = images.len() / passes;
    for pass in 0..passes {
        let numbers: Vec<i32> = (pass * batch..(pass + 1) * batch)
            .map(|i| i as i32)
            .collect();
        let executable = trainer.executable();
        executable
            .write(names::IMAGES, &images[pass * len..(pass + 1) * len])
            .unwrap();
        executable.write_i32(names::SAMPLES, &numbers).unwrap();
        trainer.run_pass(pass, 1e-3, true).unwrap();
    }
    let norm = trainer.report().unwrap().grad_norm;
    (trainer, norm)
}

#[test]
fn passes_add_up_to_one_batch() {
    let ((whole, norm), (parts, parts_norm)) = (one_step(4, 1, None), one_step(2, 2, None));
    assert!(
        (norm - parts_norm).abs() <= 1e-4 * norm,
        "{norm} {parts_norm}"
    );
    assert_eq!((whole.step().unwrap(), parts.step().unwrap()), (1, 1));
    // Adam's first step is the learning rate in the direction of each sign; nearly all agree.
    let (whole, parts) = (whole.weights().unwrap(), parts.weights().unwrap());
    let (mut off, mut all) = (0, 0);
    for (name, tensor) in &whole {
        let other = parts[name].to_f32().unwrap();
        for (a, b) in tensor.to_f32().unwrap().iter().zip(&*other) {
            off += usize::from((a - b).abs() > 1e-5);
            all += 1;
        }
    }
    assert!(off * 100 <= all, "{off} of {all}");
}

#[test]
fn a_memory_budget_changes_no_bit() {
    let (free, norm) = one_step(4, 1, None);
    let most = free.memory().total_bytes();
    // Halfway between all and what cannot be saved.
    let device = Device::builder()
        .choice(DeviceChoice::Cpu)
        .threads(2)
        .open()
        .unwrap();
    let text = format!("[data]\npath = \"unused\"\nimage_size = [32, 32]\n{VAE}");
    let run: VaeRun = parse(&text, &[]).unwrap();
    let training = vae::training_graph(&run).unwrap();
    let error = training.compile(&device, Some(1000)).unwrap_err();
    assert!(error.needed_bytes < most, "{error:?} {most}");
    assert!(
        error.to_string().contains("MiB more than the budget"),
        "{error}"
    );
    let budget = error.needed_bytes.midpoint(most);
    let (tight, tight_norm) = one_step(4, 1, Some(budget));
    assert!(tight.memory().total_bytes() < most);
    println!(
        "{most} bytes, {} within a budget of {budget}, at least {}",
        tight.memory().total_bytes(),
        error.needed_bytes
    );
    assert_eq!(norm.to_bits(), tight_norm.to_bits());
    assert_eq!(free.weights().unwrap(), tight.weights().unwrap());
}

#[test]
fn ctrl_c_saves_and_resume_goes_on() {
    let fixture = Fixture::new();
    let (data, out) = (fixture.out("data"), fixture.out("run"));
    let command = |extra: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_medfusion"));
        command
            .args(["train", "vae", "--out"])
            .arg(&out)
            .args(extra)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    };
    let settings = [
        "data.image_size=[16,16]",
        "model.hidden_channels=[8,16]",
        "model.norm_groups=4",
        "train.batch=4",
        "train.steps=100000000",
        "train.validate_every=0",
        "train.sample_every=0",
    ];
    let mut first = command(&["--data"]);
    first.arg(&data);
    for setting in settings {
        first.args(["--set", setting]);
    }
    let mut child = first.spawn().unwrap();
    let began = Instant::now();
    let events = out.join("tensorboard");
    while !events.exists() && began.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    let step = last_state(&out).0;
    assert!(step > 0);

    let steps = format!("train.steps={}", step + 2);
    let resumed = command(&["--resume", "--set", &steps]).output().unwrap();
    let text = String::from_utf8_lossy(&resumed.stderr).into_owned();
    assert!(resumed.status.success(), "{text}");
    assert_eq!(last_state(&out).0, step + 2);
    assert!(out.join("model/vae.safetensors").exists());
    // A folder that holds a run is not overwritten.
    let again = command(&["--data"]).arg(&data).output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("--resume"));
}

/// A run that was refused before it began leaves the disk as it was: no folder for a new one, the old run file for one
/// that was to go on.
#[test]
fn a_refused_run_leaves_nothing_behind() {
    let fixture = Fixture::new();
    let train = |out: &Path, args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_medfusion"))
            .args(["train", "classifier", "--out"])
            .arg(out)
            .args(args)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let missing = fixture.out("missing").display().to_string();
    let error = train(&fixture.out("new/run"), &["--data", &missing]);
    assert!(error.contains("missing"), "{error}");
    assert!(!fixture.out("new").exists());

    let old = fixture.out("old");
    fs::create_dir(&old).unwrap();
    fs::write(old.join("run.toml"), "[data]\npath = \"gone\"\n").unwrap();
    fs::write(old.join("notes.txt"), "mine").unwrap();
    let error = train(&old, &["--resume", "--set", "train.steps=7"]);
    assert!(error.contains("gone"), "{error}");
    let run = fs::read_to_string(old.join("run.toml")).unwrap();
    assert_eq!(run, "[data]\npath = \"gone\"\n");
    let names = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let left: Vec<_> = fs::read_dir(&old).unwrap().map(names).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

/// The README's second command names the folder of the first one's run, which has a `best` model only where something
/// was held out to measure on.
#[test]
fn the_second_phase_takes_the_folder_of_the_first_ones_run() {
    let fixture = Fixture::new();
    let data = fixture.out("data/train");
    let train = |task: &str, out: &str, more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_medfusion"))
            .args(["train", task, "--data"])
            .arg(&data)
            .arg("--out")
            .arg(fixture.out(out))
            .args(["--set", "model.hidden_channels=[8,16]"])
            .args(["--set", "model.norm_groups=4"])
            .args(["--set", "train.batch=4", "--set", "train.steps=2"])
            .args(["--set", "train.sample_every=0"])
            .args(more)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{task}: {text}");
    };
    train("vae", "vae", &["--set", "data.image_size=[16,16]"]);
    assert!(!fixture.out("vae/best").exists(), "nothing is held out");
    let vae = fixture.out("vae").display().to_string();
    train(
        "diffusion",
        "unet",
        &["--vae", &vae, "--set", "model.embedding_dim=16"],
    );
    let run = fs::read_to_string(fixture.out("unet/run.toml")).unwrap();
    assert!(run.contains("vae/model\""), "{run}");
    assert!(fixture.out("unet/model/vae.safetensors").exists());
}
