//! DICOM: files that the tests write byte by byte, and those that pydicom ships, compared with what pydicom makes of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use medfusion::data::{
    DataError, Dataset, DatasetReport, DecodedImage, OpenOptions, PixelValues, Split, ValueRange,
    decode,
};
use npyz::NpyFile;
use serde_json::Value;
use tempfile::TempDir;

/// An explicit little-endian element; values are padded to even lengths.
fn element(tag: (u16, u16), vr: &str, value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    if value.len() % 2 == 1 {
        value.push(if vr == "UI" || vr == "OB" { 0 } else { b' ' });
    }
    let mut bytes = Vec::new();
    bytes.extend(tag.0.to_le_bytes());
    bytes.extend(tag.1.to_le_bytes());
    bytes.extend(vr.as_bytes());
    if matches!(vr, "OB" | "OW" | "SQ" | "UN") {
        bytes.extend([0, 0]);
        bytes.extend((value.len() as u32).to_le_bytes());
    } else {
        bytes.extend((value.len() as u16).to_le_bytes());
    }
    bytes.extend(value);
    bytes
}

fn us(value: u16) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

const NAME: &str = "Doe^Jane";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";

/// A grey image of 2 rows and 2 columns for each four values.
struct Made {
    photometric: &'static str,
    bits: [u16; 2],
    signed: bool,
    frames: usize,
    patient: &'static str,
    /// Elements of group 28 beyond 0103, in order.
    more: Vec<Vec<u8>>,
    pixels: Vec<u8>,
}

impl Made {
    fn sixteen(values: &[i32], stored: u16, signed: bool) -> Self {
        Self {
            photometric: "MONOCHROME2",
            bits: [16, stored],
            signed,
            frames: 1,
            patient: "P1",
            more: Vec::new(),
            pixels: values
                .iter()
                .flat_map(|&v| (v as u16).to_le_bytes())
                .collect(),
        }
    }

    fn with(mut self, element: u16, vr: &str, value: &str) -> Self {
        self.more
            .push(self::element((0x28, element), vr, value.as_bytes()));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let frames = self.frames.to_string();
        let syntax = element((2, 0x10), "UI", EXPLICIT.as_bytes());
        let length = element((2, 0), "UL", &(syntax.len() as u32).to_le_bytes());
        let mut bytes = [vec![0; 128], b"DICM".to_vec(), length, syntax].concat();
        let [allocated, stored] = self.bits;
        for part in [
            element((8, 0x16), "UI", b"1.2.840.10008.5.1.4.1.1.7"),
            element((0x10, 0x10), "PN", NAME.as_bytes()),
            element((0x10, 0x20), "LO", self.patient.as_bytes()),
            element((0x28, 2), "US", &us(1)),
            element((0x28, 4), "CS", self.photometric.as_bytes()),
            element((0x28, 8), "IS", frames.as_bytes()),
            element((0x28, 0x10), "US", &us(2)),
            element((0x28, 0x11), "US", &us(2)),
            element((0x28, 0x100), "US", &us(allocated)),
            element((0x28, 0x101), "US", &us(stored)),
            element((0x28, 0x102), "US", &us(stored - 1)),
            element((0x28, 0x103), "US", &us(u16::from(self.signed))),
            self.more.concat(),
            element(
                (0x7fe0, 0x10),
                if allocated == 8 { "OB" } else { "OW" },
                &self.pixels,
            ),
        ] {
            bytes.extend(part);
        }
        bytes
    }
}

fn u16s(made: &Made, black_white: ValueRange) -> Vec<u16> {
    match decode(&made.bytes(), 0, black_white)
        .unwrap()
        .pixels
        .samples
    {
        PixelValues::U16(values) => values,
        PixelValues::U8(_) => panic!("expected 16 bits"),
    }
}

#[test]
fn stored_bits_are_the_range_where_nobody_says_another() {
    let made = Made::sixteen(&[0, 1, 2048, 4095], 12, false);
    assert_eq!(u16s(&made, ValueRange::Stored), [0, 16, 32_776, 65_535]);
    let signed = Made::sixteen(&[-2048, 0, 1, 2047], 12, true);
    assert_eq!(
        u16s(&signed, ValueRange::Stored),
        [0, 32_776, 32_792, 65_535]
    );
    let facts = decode(&signed.bytes(), 0, ValueRange::Stored)
        .unwrap()
        .facts;
    assert_eq!((facts.range, facts.windowed), ([-2048.0, 2047.0], false));
}

/// PS3.3 C.11.2.1.2.1: a linear window of centre 40 and width 400 after slope 1 and intercept -1024.
#[test]
fn the_window_of_the_file_applies_after_rescale() {
    let made = Made::sixteen(&[0, 864, 1064, 4095], 16, false)
        .with(0x1050, "DS", "40\\9")
        .with(0x1051, "DS", "400\\9")
        .with(0x1052, "DS", "-1024")
        .with(0x1053, "DS", "1");
    let expected = [-1024.0, -160.0, 40.0, 3071.0].map(|v: f64| {
        let y = (v - (40.0 - 0.5)) / (400.0 - 1.0) + 0.5;
        (y.clamp(0.0, 1.0) * 65_535.0).round() as u16
    });
    assert_eq!(u16s(&made, ValueRange::Stored), expected);
    // A window of the user's beats that of the file, in rescaled values.
    let own = u16s(&made, ValueRange::Window([-160.0, 40.0]));
    assert_eq!(own, [0, 0, 65_535, 65_535]);
}

#[test]
fn monochrome1_is_inverted_and_eight_bits_stay() {
    let made = Made {
        photometric: "MONOCHROME1",
        bits: [8, 8],
        pixels: vec![0, 10, 200, 255],
        ..Made::sixteen(&[], 16, false)
    };
    let decoded = decode(&made.bytes(), 0, ValueRange::Stored).unwrap();
    assert_eq!(
        decoded.pixels.samples,
        PixelValues::U8(vec![255, 245, 55, 0])
    );
}

#[test]
fn palettes_become_colour() {
    let table = |shift: u16| {
        (0..4)
            .flat_map(|i| us((i * 20 + shift) << 8))
            .collect::<Vec<u8>>()
    };
    let descriptor = [us(4), us(0), us(16)].concat();
    let mut made = Made {
        photometric: "PALETTE COLOR",
        bits: [8, 8],
        pixels: vec![0, 1, 2, 3],
        ..Made::sixteen(&[], 16, false)
    };
    for (at, channel) in [0x1101, 0x1102, 0x1103].into_iter().enumerate() {
        made.more
            .insert(at, element((0x28, channel), "US", &descriptor));
        made.more
            .push(element((0x28, channel + 0x100), "OW", &table(at as u16)));
    }
    let decoded = decode(&made.bytes(), 0, ValueRange::Stored).unwrap();
    assert_eq!(decoded.pixels.channels, 3);
    let PixelValues::U16(values) = decoded.pixels.samples else {
        panic!("expected 16 bits")
    };
    assert_eq!(values[..6], [0, 1 << 8, 2 << 8, 20 << 8, 21 << 8, 22 << 8]);
}

/// A folder of two classes without extensions, whose frames are images and whose patients stay together.
#[test]
fn frames_are_images_and_patients_stay_together() {
    let dir = TempDir::new().unwrap();
    for class in ["a", "b"] {
        fs::create_dir(dir.path().join(class)).unwrap();
        for (i, patient) in ["P1", "P2", "P3", "P4"].into_iter().enumerate() {
            let values: Vec<i32> = (0..8).map(|v| v * 100 + i as i32).collect();
            let made = Made {
                frames: 2,
                patient,
                ..Made::sixteen(&values, 12, false)
            };
            fs::write(
                dir.path().join(class).join(format!("1.2.840.{i}")),
                made.bytes(),
            )
            .unwrap();
        }
    }
    let set = Dataset::open(dir.path(), &OpenOptions::default()).unwrap();
    assert_eq!(set.counts(), [8, 8]);
    assert_eq!(set.samples()[1].id, "a/1.2.840.0#2");
    let split = set.hold_out(0.25, true).unwrap();
    assert_eq!(split.groups_on_both_sides(), 0);
    assert_eq!(split.select(Split::Test).unwrap().counts(), [2, 2]);
    let report = DatasetReport::new(&set).to_string();
    assert!(
        report.contains("12 bit grey from 0 to 703 (16)"),
        "{report}"
    );
    assert!(!report.contains(NAME) && !report.contains("P1"), "{report}");
}

#[test]
fn errors_say_nothing_about_a_person() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    let whole = Made::sixteen(&[1, 2, 3, 4], 12, false).bytes();
    for (i, cut) in (140..whole.len()).step_by(7).enumerate() {
        fs::write(dir.path().join(format!("a/{i}.dcm")), &whole[..cut]).unwrap();
    }
    let set = Dataset::open(dir.path(), &OpenOptions::default()).unwrap();
    for index in 0..set.len() {
        let Err(DataError::Corrupt { reason, .. }) = set.decode(index) else {
            panic!("{} was read", set.samples()[index].id);
        };
        assert!(
            !reason.contains("Doe") && !reason.contains("Jane"),
            "{reason}"
        );
    }
}

/// An image of four 12-bit values with a window.
pub fn small_dicom() -> Vec<u8> {
    Made::sixteen(&[0, 100, 2000, 4095], 12, false)
        .with(0x1050, "DS", "40")
        .with(0x1051, "DS", "400")
        .bytes()
}

/// A file and what pydicom made of it, as `xtask/peers/dicom.py` writes it.
struct Peer {
    name: String,
    path: String,
    syntax: String,
    refused: Option<String>,
    /// File of the pixels.
    pixels: Option<String>,
}

impl Peer {
    fn of(line: &str) -> Self {
        let entry: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| entry[key].as_str().map(str::to_owned);
        Self {
            name: text("name").unwrap(),
            path: text("path").unwrap(),
            syntax: text("syntax").unwrap(),
            refused: text("refused"),
            pixels: text("pixels"),
        }
    }

    /// Largest differences that decoders of this transfer syntax may have, between 0 (black) and 1 (white).
    fn tolerance(&self) -> f64 {
        // Half a step of 16 bits, and as much for values that pydicom computes in single precision.
        let exact = 1.0 / 65_535.0;
        match self.syntax.as_str() {
            // Decoders of lossy JPEG round differently and spread chroma differently.
            syntax if syntax.starts_with("JPEG Baseline") => 0.02,
            _ => exact,
        }
    }
}

fn brightness(image: &DecodedImage) -> Vec<f64> {
    match &image.pixels.samples {
        PixelValues::U8(values) => values.iter().map(|&v| f64::from(v) / 255.0).collect(),
        PixelValues::U16(values) => values.iter().map(|&v| f64::from(v) / 65_535.0).collect(),
    }
}

/// Largest difference between our images of a file and pydicom's, or why we have none.
fn difference(peer: &Peer, folder: &Path) -> Result<f64, String> {
    let bytes = fs::read(&peer.path).unwrap();
    let Some(pixels) = &peer.pixels else {
        decode(&bytes, 0, ValueRange::Stored)?;
        return Ok(0.0);
    };
    let file = NpyFile::new(fs::File::open(folder.join(pixels)).unwrap()).unwrap();
    let shape = file.shape().to_vec();
    let expected: Vec<f64> = file.into_vec().unwrap();
    let size = shape[1..].iter().product::<u64>() as usize;
    let mut most = 0f64;
    for (frame, expected) in expected.chunks_exact(size).enumerate() {
        let image = decode(&bytes, frame, ValueRange::Stored)?;
        let pixels = &image.pixels;
        let found = [pixels.height, pixels.width, pixels.channels].map(|n| n as u64);
        assert_eq!(found, shape[1..], "{}", peer.name);
        for (ours, theirs) in brightness(&image).iter().zip(expected) {
            most = most.max((ours - theirs).abs());
        }
    }
    Ok(most)
}

/// The folder that `xtask/peers/dicom.py` wrote, and the files that pydicom ships.
fn pydicom() -> (PathBuf, Vec<Peer>) {
    let folder = std::env::var("MEDFUSION_PYDICOM").expect("MEDFUSION_PYDICOM names the folder");
    let folder = PathBuf::from(folder);
    let list = fs::read_to_string(folder.join("files.jsonl")).unwrap();
    (folder, list.lines().map(Peer::of).collect())
}

#[test]
#[ignore = "run by cargo xtask peers dicom"]
fn pydicom_makes_the_same_of_its_files() {
    let (folder, peers) = pydicom();
    let (mut same, mut wrong) = (0, Vec::new());
    println!("\n| file | transfer syntax | pydicom | here |\n|---|---|---|---|");
    for peer in peers {
        let theirs = peer.refused.as_deref().unwrap_or("read");
        let ours = match difference(&peer, &folder) {
            Ok(_) if peer.pixels.is_none() => "read".to_owned(),
            Ok(most) => {
                if most <= peer.tolerance() {
                    same += 1;
                } else {
                    wrong.push(format!("{}: {most}", peer.name));
                }
                format!("differs by {most:.7} at most")
            }
            Err(reason) => reason,
        };
        println!("| {} | {} | {theirs} | {ours} |", peer.name, peer.syntax);
    }
    println!("\n{same} files are the same.");
    assert!(same > 60, "only {same} files are the same");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The magnetic resonance images, in folders of their series and without extension, as a scanner's archive gives them.
#[test]
#[ignore = "run by cargo xtask peers dicom"]
fn pydicom_files_of_one_kind_are_trained_on_and_sampled() {
    let (_, peers) = pydicom();
    let example = peers
        .iter()
        .find(|peer| peer.name.starts_with("dicomdirtests/98892003/"))
        .expect("pydicom ships them");
    let series = Path::new(&example.path).ancestors().nth(2).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data = format!("data.path={}", series.display());
    let medfusion = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_medfusion"))
            .args(args)
            .current_dir(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned() + &said
    };
    println!("\n```text\n$ medfusion data dicomdirtests/98892003");
    let report = medfusion(&["data", series.to_str().unwrap()]);
    let report = report.replace(series.to_str().unwrap(), "dicomdirtests/98892003");
    println!("{}", report.trim_end());
    assert!(report.contains("17 images"), "{report}");

    let model = "[model]\nhidden_channels = [8, 16]\nnorm_groups = 4\n";
    let run = "[train]\nbatch = 4\nsteps = 20\nvalidate_every = 20\nsample_every = 20\n[device]\ndevice = \"cpu\"\n";
    let size = "[data]\nimage_size = [16, 16]\n";
    let vae = format!("{size}{model}latent_channels = 4\n{run}");
    let unet = format!("{size}{model}embedding_dim = 16\n[diffusion]\ntimesteps = 50\n{run}");
    fs::write(folder.path().join("vae.toml"), vae).unwrap();
    fs::write(folder.path().join("unet.toml"), unet).unwrap();
    let train = |phase: &str, file: &str, more: &[&str]| {
        let mut args = vec!["train", phase, "--run", file, "--set", &data];
        args.extend(more);
        medfusion(&args)
    };
    for (phase, file, more) in [
        ("vae", "vae.toml", &["--out", "vae"][..]),
        (
            "diffusion",
            "unet.toml",
            &["--out", "unet", "--set", "latents.vae=vae/model"],
        ),
    ] {
        let said = train(phase, file, more);
        let last = said
            .lines()
            .rev()
            .find(|line| line.contains("step 20"))
            .unwrap_or(&said);
        println!("$ medfusion train {phase} --set train.steps=20 …\n{last}");
    }
    let made = medfusion(&[
        "sample",
        "--model",
        "unet/model",
        "--count",
        "3",
        "--steps",
        "5",
        "--class",
        "MR1",
        "--out",
        "made",
    ]);
    println!(
        "$ medfusion sample --class MR1 …\n{}\n```\n",
        made.trim_end()
    );
    let images: Vec<_> = fs::read_dir(folder.path().join("made")).unwrap().collect();
    assert!(images.len() >= 3, "{images:?}");
}
