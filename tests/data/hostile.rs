//! Damaged and hostile files of every kind that a data set may hold: no panic, no memory that the file's size does not
//! justify. `MEDFUSION_FUZZ_ROUNDS` makes the loop longer (`cargo xtask soak data`).

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, GrayImage, ImageFormat, Luma};
use medfusion::data::{Dataset, OnMismatch, OpenOptions, ValueRange, decode};
use tempfile::TempDir;

use crate::memory::largest_allocation;
use crate::places::Places;

/// A copy with a few bytes changed, inserted, removed or repeated, or the end cut off.
fn damage(places: &mut Places, bytes: &[u8]) -> Vec<u8> {
    const TELLING: [u8; 8] = [0, 1, 0x7f, 0x80, 0xfe, 0xff, b',', b'"'];
    let mut damaged = bytes.to_vec();
    for _ in 0..1 + places.below(4) {
        let at = places.below(damaged.len());
        match places.below(6) {
            0 => damaged[at] ^= 1 << places.below(8),
            1 => damaged[at] = TELLING[places.below(TELLING.len())],
            2 => damaged.insert(at, places.below(256) as u8),
            3 => {
                damaged.remove(at);
            }
            4 => {
                let end = (at + places.below(16)).min(damaged.len());
                let piece = damaged[at..end].to_vec();
                damaged.splice(at..at, piece);
            }
            _ => damaged.truncate(at),
        }
        if damaged.is_empty() {
            damaged.push(0);
        }
    }
    damaged
}

fn rounds(default: usize) -> usize {
    let given = std::env::var("MEDFUSION_FUZZ_ROUNDS").ok();
    given.map_or(default, |text| text.parse().expect("a number of rounds"))
}

/// Runs `read` on damaged copies of `bytes` and checks the largest allocation of each.
fn attack(what: &str, bytes: &[u8], rounds: usize, mut read: impl FnMut(&[u8]) -> bool) {
    let mut places = Places(what.len() as u64);
    let (mut refused, mut largest) = (0, 0);
    for round in 0..rounds {
        let damaged = damage(&mut places, bytes);
        let used = largest_allocation(|| refused += usize::from(!read(&damaged)));
        // Deflate's best factor, a byte for each bit, 8 bytes for each value of an array, and room for small things.
        let justified = damaged.len() * 1032 * 8 * 2 + (4 << 20);
        assert!(
            used <= justified,
            "{what}, round {round}: {used} bytes for a file of {}: {}",
            damaged.len(),
            damaged.escape_ascii()
        );
        largest = largest.max(used);
    }
    println!(
        "{what}: {rounds} damaged files, {refused} refused, largest allocation {largest} bytes"
    );
}

fn picture() -> DynamicImage {
    GrayImage::from_fn(19, 11, |x, y| Luma([(x * 13 + y * 7) as u8])).into()
}

#[test]
fn image_files() {
    for format in [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::Tiff,
        ImageFormat::Bmp,
        ImageFormat::WebP,
        ImageFormat::Pnm,
    ] {
        let mut bytes = Vec::new();
        picture()
            .write_to(&mut Cursor::new(&mut bytes), format)
            .unwrap();
        for black_white in [ValueRange::Stored, ValueRange::Window([3.0, 90.0])] {
            attack(&format!("{format:?}"), &bytes, rounds(400), |damaged| {
                decode(damaged, 0, black_white).is_ok()
            });
        }
    }
}

#[test]
fn pages_of_tiff() {
    use tiff::encoder::{TiffEncoder, colortype::Gray32Float};
    let mut bytes = Vec::new();
    let mut encoder = TiffEncoder::new(Cursor::new(&mut bytes)).unwrap();
    for page in 0..3 {
        let values: Vec<f32> = (0..30).map(|i| (i + page) as f32 / 40.0).collect();
        encoder.write_image::<Gray32Float>(6, 5, &values).unwrap();
    }
    assert!(decode(&bytes, 2, ValueRange::Stored).is_ok());
    attack(
        "pages of a floating-point TIFF",
        &bytes,
        rounds(800),
        |damaged| decode(damaged, 2, ValueRange::Stored).is_ok(),
    );
}

#[test]
fn dicom_objects() {
    let bytes = super::dicom::small_dicom();
    assert!(decode(&bytes, 0, ValueRange::Stored).is_ok());
    attack("DICOM", &bytes, rounds(2000), |damaged| {
        decode(damaged, 0, ValueRange::Stored).is_ok()
    });
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a/1.dcm");
    fs::create_dir(dir.path().join("a")).unwrap();
    attack("a folder of DICOM", &bytes, rounds(500), |damaged| {
        fs::write(&path, damaged).unwrap();
        open(dir.path())
    });
}

/// Opens the data set in `folder` and decodes all of it.
fn open(folder: &Path) -> bool {
    let options = OpenOptions {
        on_mismatch: OnMismatch::Skip,
        ..OpenOptions::default()
    };
    let Ok(set) = Dataset::inspect(folder, &options) else {
        return false;
    };
    (0..set.len()).for_each(|index| drop(set.decode(index)));
    true
}

#[test]
fn arrays() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("set.npz");
    for compressed in [false, true] {
        super::inputs::small_npz(&file, compressed);
        assert!(open(&file));
        let bytes = fs::read(&file).unwrap();
        let what = if compressed { "compressed npz" } else { "npz" };
        attack(what, &bytes, rounds(600), |damaged| {
            fs::write(&file, damaged).unwrap();
            open(&file)
        });
    }
}

#[test]
fn tables_of_labels() {
    let dir = TempDir::new().unwrap();
    for name in ["a/1.png", "a/2.png", "b/3.png"] {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        picture().save(path).unwrap();
    }
    let tables = [
        (
            "labels.csv",
            "file,label,split,patient\n1,x,train,P1\n\"2\",\"y\",test,P2\n3.png,x,val,P1\n",
        ),
        (
            "train_labels.csv",
            "challenge_id;class\n1;RG\n2;NRG\n3;RG\n",
        ),
        (
            "train.csv",
            "Path,Frontal/Lateral,No Finding,Cardiomegaly\na/1.png,Frontal,,1.0\nb/3.png,Frontal,1.0,-1.0\n",
        ),
    ];
    for (name, text) in tables {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        assert!(open(dir.path()), "{name}");
        attack(name, text.as_bytes(), rounds(500), |damaged| {
            fs::write(&path, damaged).unwrap();
            open(dir.path())
        });
        fs::remove_file(path).unwrap();
    }
}
