//! Small labelled images that a few steps can learn something from.

use std::fs;
use std::path::Path;

use medfusion::image::png::{Image8, write};
use medfusion::tensor::philox::{RandomStream, fill_uniform, stream_key};

/// Pixels of a side.
pub const SIDE: usize = 16;

/// Class folders `bright` and `dark` below `train/` and `test/`: a blob of either kind on noise.
pub fn images(folder: &Path, per_class: usize) {
    let key = stream_key(3, RandomStream::Test);
    for (split, offset) in [("train", 0), ("test", 1000)] {
        for (class, level) in [("bright", 220.0), ("dark", 40.0)] {
            let target = folder.join(split).join(class);
            fs::create_dir_all(&target).unwrap();
            for k in 0..per_class {
                let mut noise = vec![0.0; SIDE * SIDE * 3];
                let number = (offset + k) as u64 + if class == "dark" { 500 } else { 0 };
                fill_uniform(key, number, 0, &mut noise);
                let values = noise
                    .iter()
                    .enumerate()
                    .map(|(i, v)| {
                        let (y, x) = (i / 3 / SIDE, i / 3 % SIDE);
                        let inside = y.abs_diff(SIDE / 2) + x.abs_diff(4 + k % 8) < 6;
                        let value = if inside { level } else { 128.0 };
                        (value + 20.0 * (v - 0.5)) as u8
                    })
                    .collect();
                let image = Image8 {
                    width: SIDE,
                    height: SIDE,
                    channels: 3,
                    values,
                };
                write(&target.join(format!("{k:03}.png")), &image, &[]).unwrap();
            }
        }
    }
}
