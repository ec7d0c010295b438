//! Training state: exact return, rotation, damage, full disks, and kills at random moments.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use medfusion::data::Position;
use medfusion::tensor::philox::{RandomStream, fill_normal, stream_key};
use medfusion::tensor::{DType, Tensor, TensorMap};
use medfusion::train::state::{
    CheckpointFolder, RunProgress, StateError, TrainState, load, newest,
};
use tempfile::TempDir;

/// A state whose every value follows from `step`, so that a mixture of two states cannot pass for one.
fn state(step: u64, elements: usize) -> TrainState {
    let part = |purpose: RandomStream| {
        let mut values = vec![0.0; elements];
        fill_normal(stream_key(step, purpose), 0, 0, &mut values);
        TensorMap::from([
            (
                "block.0.weight".to_owned(),
                Tensor::from_f32([elements], &values),
            ),
            (
                "block.0.bias".to_owned(),
                Tensor::from_f32([], &[step as f32]),
            ),
        ])
    };
    let labels = Tensor::from_i64([2], &[step as i64, -1]);
    let half = Tensor::from_f32([2], &[0.5, f32::NAN])
        .cast(DType::F16)
        .unwrap();
    TrainState {
        progress: RunProgress {
            step,
            seed: u64::MAX,
            position: Position {
                epoch: step / 3,
                offset: step,
            },
            ema_updates: step,
            images: 8 * step,
            elapsed_s: 0.1 * step as f64,
            best: Some((0.123_456_789_012_345_67 / (step + 1) as f64, step)),
        },
        parts: BTreeMap::from([
            ("weights".to_owned(), part(RandomStream::Weights)),
            ("adam-m".to_owned(), part(RandomStream::TrainingNoise)),
            (
                "misc".to_owned(),
                TensorMap::from([("labels".to_owned(), labels), ("half".to_owned(), half)]),
            ),
        ]),
        extra: serde_json::json!({ "run": "hash", "curve": [0.1, 0.2, 1e-300] }),
    }
}

fn steps(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "lock")
        .collect();
    names.sort();
    names
}

#[test]
fn a_state_comes_back_to_the_bit() {
    let dir = TempDir::new().unwrap();
    let checkpoints = CheckpointFolder::open(&dir.path().join("a/b"), 2).unwrap();
    assert!(checkpoints.newest().unwrap().is_none());
    let saved = state(7, 1000);
    let folder = checkpoints.save(&saved, false).unwrap();
    let (found, loaded) = checkpoints.newest().unwrap().unwrap();
    assert_eq!(found, folder);
    assert_eq!(loaded, saved);
    assert_eq!(
        load(&dir.path().join("a/b/last")).unwrap(),
        saved,
        "the link works"
    );
    let weights = &loaded.parts["weights"]["block.0.weight"];
    assert!(
        matches!(weights.to_f32().unwrap(), std::borrow::Cow::Borrowed(_)),
        "aligned in the file"
    );
}

#[test]
fn the_newest_and_the_best_are_kept() {
    let dir = TempDir::new().unwrap();
    let checkpoints = CheckpointFolder::open(dir.path(), 2).unwrap();
    for (step, is_best) in [
        (1, true),
        (2, true),
        (3, false),
        (4, false),
        (1_000_000_000, false),
    ] {
        checkpoints.save(&state(step, 10), is_best).unwrap();
    }
    let kept = [
        "best",
        "last",
        "step-000000002",
        "step-000000004",
        "step-1000000000",
    ];
    assert_eq!(steps(dir.path()), kept);
    assert_eq!(load(&checkpoints.best().unwrap()).unwrap().progress.step, 2);
    assert_eq!(
        checkpoints.newest().unwrap().unwrap().1.progress.step,
        1_000_000_000
    );
}

#[test]
fn saving_a_step_again_replaces_it() {
    let dir = TempDir::new().unwrap();
    let checkpoints = CheckpointFolder::open(dir.path(), 2).unwrap();
    checkpoints.save(&state(5, 10), true).unwrap();
    let mut other = state(5, 10);
    other.progress.images = 1;
    checkpoints.save(&other, false).unwrap();
    assert_eq!(steps(dir.path()), ["best", "last", "step-000000005"]);
    assert_eq!(checkpoints.newest().unwrap().unwrap().1, other);

    // Killed between the two renames of a replacement: the old one takes its name back.
    drop(checkpoints);
    let old = dir.path().join("step-000000005.old");
    fs::rename(dir.path().join("step-000000005"), &old).unwrap();
    assert_eq!(newest(dir.path()).unwrap().unwrap().0, old);
    let checkpoints = CheckpointFolder::open(dir.path(), 2).unwrap();
    assert_eq!(load(&checkpoints.best().unwrap()).unwrap(), other);
}

#[test]
fn one_run_at_a_time() {
    let dir = TempDir::new().unwrap();
    let first = CheckpointFolder::open(dir.path(), 2).unwrap();
    let error = CheckpointFolder::open(dir.path(), 2).unwrap_err();
    assert!(matches!(error, StateError::InUse(_)), "{error}");
    drop(first);
    CheckpointFolder::open(dir.path(), 2).unwrap();
}

/// Something that happens to a checkpoint folder.
type Damage = fn(&Path);

/// Every kind of damage to the newest checkpoint leads to the one before it; damage to all is one clear error.
#[test]
fn damaged_checkpoints_are_passed_over() {
    let damage: [(&str, Damage); 7] = [
        ("a flipped bit", |f| {
            let path = f.join("weights.safetensors");
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
            fs::write(path, bytes).unwrap();
        }),
        ("a truncated part", |f| {
            let path = f.join("adam-m.safetensors");
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
        }),
        ("a missing part", |f| {
            fs::remove_file(f.join("misc.safetensors")).unwrap()
        }),
        ("no checksums", |f| {
            fs::remove_file(f.join("CHECKSUMS")).unwrap()
        }),
        ("empty checksums", |f| {
            fs::write(f.join("CHECKSUMS"), "").unwrap()
        }),
        ("a path that leads out", |f| {
            fs::write(f.join("CHECKSUMS"), "00  ../x\n").unwrap()
        }),
        ("an edited counter", |f| {
            let path = f.join("state.json");
            let text = fs::read_to_string(&path)
                .unwrap()
                .replace("\"step\": 2", "\"step\": 9");
            fs::write(path, text).unwrap();
        }),
    ];
    for (what, damage) in damage {
        let dir = TempDir::new().unwrap();
        let checkpoints = CheckpointFolder::open(dir.path(), 3).unwrap();
        checkpoints.save(&state(1, 50), false).unwrap();
        let newest = checkpoints.save(&state(2, 50), false).unwrap();
        damage(&newest);
        assert!(
            matches!(load(&newest), Err(StateError::Damaged { .. })),
            "{what}"
        );
        assert_eq!(
            checkpoints.newest().unwrap().unwrap().1,
            state(1, 50),
            "{what}"
        );
        damage_all(dir.path());
        let error = checkpoints.newest().unwrap_err().to_string();
        assert!(error.contains("none of the checkpoints"), "{what}: {error}");
    }
}

fn damage_all(folder: &Path) {
    for name in steps(folder) {
        if name.starts_with("step-") {
            fs::write(folder.join(name).join("state.json"), "{}").unwrap();
        }
    }
}

#[test]
fn parts_with_strange_names_are_refused() {
    let dir = TempDir::new().unwrap();
    let checkpoints = CheckpointFolder::open(dir.path(), 2).unwrap();
    for name in ["", "../x", "a b", "state.json"] {
        let mut bad = state(1, 4);
        bad.parts.insert(name.to_owned(), TensorMap::new());
        assert!(
            matches!(
                checkpoints.save(&bad, false),
                Err(StateError::Unstorable(_))
            ),
            "{name}"
        );
    }
    assert!(steps(dir.path()).is_empty(), "{:?}", steps(dir.path()));
}

const CHILD_FOLDER: &str = "MEDFUSION_TEST_CHECKPOINTS";

/// The child half of the tests below: saves checkpoints until it is killed, or prints why it cannot.
#[test]
fn child_saves_forever() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else {
        return;
    };
    let checkpoints = CheckpointFolder::open(Path::new(&folder), 2).unwrap();
    let mut step = match checkpoints.newest().unwrap() {
        None => 0,
        Some((_, found)) => {
            assert_eq!(
                found,
                state(found.progress.step, 100_000),
                "resumed from a mixture"
            );
            found.progress.step
        }
    };
    loop {
        step += 1;
        // Every third step is saved twice, as after a resumption.
        for again in 0..=u64::from(step % 3 == 0) {
            if let Err(error) = checkpoints.save(&state(step, 100_000), step % 4 == 0 && again == 0)
            {
                println!("REFUSED {error}");
                return;
            }
        }
    }
}

fn child(folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "state::child_saves_forever", "--nocapture"])
        .env(CHILD_FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Kill -9 at a random moment of saving, twenty times over, each time resumed by the next: the newest state is always
/// there, whole, and no older than the one before the kill.
#[test]
fn kills_at_random_moments_lose_nothing() {
    let dir = TempDir::new().unwrap();
    let mut seen = 0;
    let mut words = [0.0; 20];
    // The moments differ from run to run: a fixed list would test the same twenty interleavings for ever.
    let seed = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_nanos() as u64;
    medfusion::tensor::philox::fill_uniform(stream_key(seed, RandomStream::Test), 0, 0, &mut words);
    for word in words {
        let mut process = child(dir.path()).spawn().unwrap();
        // Let it save at least once more, then strike within the next few saves.
        let began = Instant::now();
        let latest = |dir: &Path| {
            newest(dir)
                .ok()
                .flatten()
                .map_or(0, |(_, s)| s.progress.step)
        };
        while latest(dir.path()) <= seen && began.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_micros((word * 60_000.0) as u64));
        process.kill().unwrap();
        assert!(
            !process.wait().unwrap().success(),
            "the child ended by itself (seed {seed})"
        );
        let (folder, found) = newest(dir.path()).unwrap().unwrap();
        assert!(
            found.progress.step > seen,
            "step {} after {seen}",
            found.progress.step
        );
        assert_eq!(
            found,
            state(found.progress.step, 100_000),
            "{} (seed {seed})",
            folder.display()
        );
        seen = found.progress.step;
    }
    let checkpoints = CheckpointFolder::open(dir.path(), 2).unwrap();
    assert!(
        steps(dir.path()).iter().all(|name| !name.starts_with('.')),
        "leftovers are removed"
    );
    assert!(load(&checkpoints.best().unwrap()).is_ok());
}

/// A process that may write 256 KiB per file stands in for a full disk: the save fails in the middle of a part, the
/// earlier checkpoint stays, and nothing half-written is left.
#[test]
fn a_full_disk_keeps_the_earlier_checkpoint() {
    let dir = TempDir::new().unwrap();
    let earlier = state(41, 100_000);
    CheckpointFolder::open(dir.path(), 2)
        .unwrap()
        .save(&earlier, true)
        .unwrap();
    let before = steps(dir.path());
    let program: PathBuf = std::env::current_exe().unwrap();
    let output = Command::new("bash")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 256; exec \"$0\" --exact state::child_saves_forever --nocapture",
        ])
        .arg(program)
        .env(CHILD_FOLDER, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("REFUSED cannot write") && text.contains("safetensors"),
        "{text}"
    );
    assert_eq!(steps(dir.path()), before);
    assert_eq!(newest(dir.path()).unwrap().unwrap().1, earlier);
}
