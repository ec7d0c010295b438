//! DICOM files of others: those that pydicom ships, compared with what pydicom makes of them.

use std::fs;
use std::path::Path;

use medfusion::data::{DecodedImage, PixelValues, ValueRange, decode};
use npyz::NpyFile;
use serde_json::Value;

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

    /// Largest difference that there may be, between 0 (black) and 1 (white).
    fn tolerance(&self) -> f64 {
        if self.syntax.starts_with("JPEG Baseline") {
            // Decoders of lossy JPEG round at other places and spread chroma in other ways: up to 5 of 255.
            return 5.0 / 255.0;
        }
        // A step of 16 bits: half of it is our rounding.
        1.0 / 65_535.0
    }

    /// True for kinds of compression that are refused here and that pydicom reads with native libraries.
    fn may_be_refused(&self) -> bool {
        self.syntax.contains("JPEG-LS")
            || self.syntax.starts_with("JPEG Extended")
            || (self.syntax.starts_with("RLE")
                && WITH_32_BITS.iter().any(|n| self.name.contains(n)))
    }
}

/// Files with compressed values of 32 bits.
const WITH_32_BITS: [&str; 2] = ["32bit", "rtdose"];

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

/// `cargo xtask peers dicom` runs this with the folder that its script wrote.
#[test]
#[ignore = "needs pydicom's files: cargo xtask peers dicom"]
fn pydicom_makes_the_same_of_its_files() {
    let folder = std::env::var("MEDFUSION_PYDICOM").expect("MEDFUSION_PYDICOM names the folder");
    let folder = Path::new(&folder);
    let list = fs::read_to_string(folder.join("files.jsonl")).unwrap();
    let (mut same, mut wrong) = (0, Vec::new());
    println!("| file | transfer syntax | pydicom | here |\n|---|---|---|---|");
    for peer in list.lines().map(Peer::of) {
        let theirs = peer.refused.as_deref().unwrap_or("read");
        let ours = match difference(&peer, folder) {
            Ok(_) if peer.pixels.is_none() => "read".to_owned(),
            Ok(most) => {
                if most <= peer.tolerance() {
                    same += 1;
                } else {
                    wrong.push(format!("{}: {most}", peer.name));
                }
                format!("differs by {most:.7} at most")
            }
            Err(reason) => {
                if peer.pixels.is_some() && !peer.may_be_refused() {
                    wrong.push(format!("{}: {reason}", peer.name));
                }
                reason
            }
        };
        println!("| {} | {} | {theirs} | {ours} |", peer.name, peer.syntax);
    }
    println!("\n{same} files are the same.");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(same >= 70, "pydicom 3.0.2 ships 77 such files");
}
