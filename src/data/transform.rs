//! From decoded pixels to what a network reads: channels, size, orientation, range.

use rand::{Rng, RngExt};

use super::error::DataError;
use super::pixels::{PixelValues, Pixels};

/// Size and channels that images are brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transform {
    /// Height and width in pixels.
    pub size: [usize; 2],
    /// 1 (grey) or 3 (RGB).
    pub channels: usize,
}

/// Random orientations to draw from; each with probability one half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Augment {
    /// Left and right exchanged.
    pub flip_horizontal: bool,
    /// Top and bottom exchanged.
    pub flip_vertical: bool,
    /// Rows and columns exchanged (square images only); with both flips all eight orientations of a square.
    pub transpose: bool,
}

/// One orientation: transposed first, then flipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orientation {
    /// Left and right exchanged.
    pub flip_horizontal: bool,
    /// Top and bottom exchanged.
    pub flip_vertical: bool,
    /// Rows and columns exchanged, before the flips.
    pub transpose: bool,
}

impl Augment {
    /// A random orientation: three coins, whichever of them count.
    pub fn draw(&self, rng: &mut impl Rng) -> Orientation {
        let [horizontal, vertical, transpose] = rng.random();
        Orientation {
            flip_horizontal: self.flip_horizontal && horizontal,
            flip_vertical: self.flip_vertical && vertical,
            transpose: self.transpose && transpose,
        }
    }
}

impl Transform {
    /// # Errors
    /// If a side is 0 or beyond 16384, or the channels are neither 1 nor 3.
    pub fn new(size: [usize; 2], channels: usize) -> Result<Self, DataError> {
        if size.iter().any(|side| !(1..=16_384).contains(side)) {
            return Err(DataError::Options(format!(
                "image size {} x {}: expected sides between 1 and 16384 pixels",
                size[0], size[1]
            )));
        }
        if channels != 1 && channels != 3 {
            return Err(DataError::Options(format!(
                "{channels} image channels: expected 1 (grey) or 3 (RGB)"
            )));
        }
        Ok(Self { size, channels })
    }

    /// Elements of one transformed image: height * width * channels.
    pub fn len(&self) -> usize {
        self.size[0] * self.size[1] * self.channels
    }

    /// Never: sides are at least 1.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The image at the target size: resized with a triangle filter whose width grows with the reduction
    /// (antialiased) until it just covers the target, then cropped about its centre. RGB becomes grey by
    /// `0.299 R + 0.587 G + 0.114 B` where grey is wanted; grey stays grey, [`Transform::finish`] replicates it.
    /// The bit depth is kept, as an 8-bit pipeline would.
    pub fn prepare(&self, pixels: Pixels) -> Pixels {
        let pixels = if self.channels == 1 && pixels.channels == 3 {
            to_grey(&pixels)
        } else {
            pixels
        };
        let [height, width] = self.size;
        if [pixels.height, pixels.width] == self.size {
            return pixels;
        }
        let (h, w) = (pixels.height, pixels.width);
        // The side that has to shrink least decides; the other is at least the target after truncation.
        let covered = if width * h <= height * w {
            [height, (w * height / h).max(width)]
        } else {
            [(h * width / w).max(height), width]
        };
        match pixels.samples {
            PixelValues::U8(ref v) => {
                let v = resize_crop(v, [h, w, pixels.channels], covered, self.size, |x| {
                    (x + 0.5).clamp(0.0, 255.0) as u8
                });
                self.sized(pixels.channels, PixelValues::U8(v))
            }
            PixelValues::U16(ref v) => {
                let v = resize_crop(v, [h, w, pixels.channels], covered, self.size, |x| {
                    (x + 0.5).clamp(0.0, 65_535.0) as u16
                });
                self.sized(pixels.channels, PixelValues::U16(v))
            }
        }
    }

    fn sized(&self, channels: usize, samples: PixelValues) -> Pixels {
        Pixels {
            height: self.size[0],
            width: self.size[1],
            channels,
            samples,
        }
    }

    /// Writes a prepared image as `[H, W, C]` in [-1, 1], `(v / max - 0.5) / 0.5`, in the given orientation.
    ///
    /// # Panics
    /// If `pixels` is not what [`Transform::prepare`] returns or `out` does not hold [`Transform::len`] values.
    pub fn finish(&self, pixels: &Pixels, orientation: Orientation, out: &mut [f32]) {
        assert_eq!([pixels.height, pixels.width], self.size);
        assert_eq!(out.len(), self.len());
        match &pixels.samples {
            PixelValues::U8(v) => {
                let table: [f32; 256] = std::array::from_fn(|i| (i as f32 / 255.0 - 0.5) / 0.5);
                self.orient(v, pixels.channels, orientation, out, |x| {
                    table[usize::from(x)]
                });
            }
            PixelValues::U16(v) => self.orient(v, pixels.channels, orientation, out, |x| {
                (f32::from(x) / 65_535.0 - 0.5) / 0.5
            }),
        }
    }

    fn orient<T: Copy>(
        &self,
        values: &[T],
        channels: usize,
        orientation: Orientation,
        out: &mut [f32],
        value: impl Fn(T) -> f32,
    ) {
        let [height, width] = self.size;
        for (y, row) in out.chunks_exact_mut(width * self.channels).enumerate() {
            let y = if orientation.flip_vertical {
                height - 1 - y
            } else {
                y
            };
            for (x, pixel) in row.chunks_exact_mut(self.channels).enumerate() {
                let x = if orientation.flip_horizontal {
                    width - 1 - x
                } else {
                    x
                };
                let source = if orientation.transpose {
                    x * width + y
                } else {
                    y * width + x
                };
                let from = &values[source * channels..][..channels];
                for (c, to) in pixel.iter_mut().enumerate() {
                    *to = value(from[c % channels]);
                }
            }
        }
    }

    /// [`Transform::prepare`] and [`Transform::finish`] in one, upright: `[H, W, C]` in [-1, 1].
    pub fn apply(&self, pixels: Pixels) -> Vec<f32> {
        let mut out = vec![0.0; self.len()];
        self.finish(&self.prepare(pixels), Orientation::default(), &mut out);
        out
    }
}

fn to_grey(pixels: &Pixels) -> Pixels {
    // Integer weights of 1000 round to nearest and keep grey exactly grey.
    let luma = |p: &[u64]| (299 * p[0] + 587 * p[1] + 114 * p[2] + 500) / 1000;
    let samples = match &pixels.samples {
        PixelValues::U8(v) => PixelValues::U8(
            v.chunks_exact(3)
                .map(|p| luma(&[u64::from(p[0]), u64::from(p[1]), u64::from(p[2])]) as u8)
                .collect(),
        ),
        PixelValues::U16(v) => PixelValues::U16(
            v.chunks_exact(3)
                .map(|p| luma(&[u64::from(p[0]), u64::from(p[1]), u64::from(p[2])]) as u16)
                .collect(),
        ),
    };
    Pixels {
        channels: 1,
        samples,
        ..*pixels
    }
}

/// Resizes `[h, w, c]` to `covered` and returns the centre `size` of it; only the rows and columns that survive the
/// crop are computed.
fn resize_crop<T: Copy + Into<f32>, U>(
    values: &[T],
    [h, w, c]: [usize; 3],
    covered: [usize; 2],
    size: [usize; 2],
    round: impl Fn(f32) -> U,
) -> Vec<U> {
    let rows = taps(h, covered[0], size[0]);
    let columns = taps(w, covered[1], size[1]);
    let mut narrow = vec![0.0f32; h * size[1] * c]; // [h, width, c]
    for (y, line) in narrow.chunks_exact_mut(size[1] * c).enumerate() {
        let source = &values[y * w * c..][..w * c];
        for (pixel, (start, weights)) in line.chunks_exact_mut(c).zip(&columns) {
            for (x, weight) in (*start..).zip(weights) {
                for (channel, to) in pixel.iter_mut().enumerate() {
                    *to += weight * source[x * c + channel].into();
                }
            }
        }
    }
    let mut out = Vec::with_capacity(size[0] * size[1] * c);
    let mut line = vec![0.0f32; size[1] * c];
    for (start, weights) in &rows {
        line.fill(0.0);
        for (y, weight) in (*start..).zip(weights) {
            for (to, from) in line
                .iter_mut()
                .zip(&narrow[y * size[1] * c..][..size[1] * c])
            {
                *to += weight * from;
            }
        }
        out.extend(line.iter().map(|&v| round(v)));
    }
    out
}

/// First source index and weights (sum 1) for each of the `kept` central outputs of a resize from `from` to `to`.
fn taps(from: usize, to: usize, kept: usize) -> Vec<(usize, Vec<f32>)> {
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    let first = (to - kept) / 2;
    (first..first + kept)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            let start = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(from).max(start + 1);
            let raw: Vec<f64> = (start..end)
                .map(|x| (1.0 - ((x as f64 + 0.5 - centre) / support).abs()).max(0.0))
                .collect();
            let sum: f64 = raw.iter().sum();
            (start, raw.iter().map(|v| (v / sum) as f32).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::philox::{Philox, RandomStream, philox4x32_10, stream_counter, stream_key};

    /// A run that goes on turns its images as before: by the topmost bits of the first three words.
    #[test]
    fn an_orientation_is_drawn_from_three_words() {
        let key = stream_key(1, RandomStream::Augmentation);
        let all = Augment {
            flip_horizontal: true,
            flip_vertical: true,
            transpose: true,
        };
        for sample in 0..32 {
            let words = philox4x32_10(key, stream_counter(sample, 4, 0));
            let drawn = all.draw(&mut Philox::new(key, sample, 4));
            let coins = [drawn.flip_horizontal, drawn.flip_vertical, drawn.transpose];
            assert_eq!(coins, [words[0], words[1], words[2]].map(|w| w >> 31 == 1));
            let none = Augment::default().draw(&mut Philox::new(key, sample, 4));
            assert_eq!(none, Orientation::default());
        }
    }

    fn grey(width: usize, height: usize, values: Vec<u8>) -> Pixels {
        Pixels {
            width,
            height,
            channels: 1,
            samples: PixelValues::U8(values),
        }
    }

    /// Halving by the triangle filter weighs four neighbours 1/8, 3/8, 3/8, 1/8.
    #[test]
    fn halving_is_antialiased() {
        let row: Vec<u8> = vec![0, 0, 0, 240, 0, 0, 0, 0];
        let t = Transform::new([1, 4], 1).unwrap();
        let image = t.prepare(grey(8, 2, [row.clone(), row].concat()));
        assert_eq!(image.samples, PixelValues::U8(vec![0, 90, 30, 0]));
    }

    /// Against Pillow 12's bilinear resize and centre crop of `(7 x² + 31 y + 5 x y) mod 256`, 13 x 11 pixels. Pillow
    /// rounds to 8 bits between its passes and uses fixed-point weights, hence one grey level of tolerance.
    #[test]
    fn resizing_agrees_with_pillow() {
        let values =
            (0..11).flat_map(|y| (0..13).map(move |x| (x * x * 7 + y * 31 + x * y * 5) as u8));
        let image = grey(13, 11, values.collect());
        let rows = |size: [usize; 2]| {
            let PixelValues::U8(values) = Transform::new(size, 1)
                .unwrap()
                .prepare(image.clone())
                .samples
            else {
                panic!("the depth changed");
            };
            values
                .chunks(size[1])
                .map(<[u8]>::to_vec)
                .collect::<Vec<_>>()
        };
        let close = |found: &[u8], expected: &[u8]| {
            assert!(
                found.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= 1),
                "{found:?} for {expected:?}"
            );
        };
        let smaller = [
            [55, 122, 138, 110, 133],
            [139, 136, 134, 119, 122],
            [135, 123, 142, 150, 144],
            [100, 121, 132, 148, 142],
        ];
        for (found, expected) in rows([4, 5]).iter().zip(smaller) {
            close(found, &expected);
        }
        let larger = rows([20, 16]);
        close(
            &larger[0],
            &[
                17, 30, 49, 72, 99, 131, 167, 208, 252, 159, 101, 160, 156, 79, 107, 182,
            ],
        );
        close(
            &larger[7],
            &[
                156, 179, 209, 197, 90, 66, 111, 163, 217, 134, 86, 156, 162, 95, 71, 66,
            ],
        );
        close(
            &larger[14],
            &[
                48, 81, 123, 145, 125, 105, 86, 132, 196, 124, 87, 167, 185, 129, 131, 158,
            ],
        );
    }

    #[test]
    fn a_constant_stays_constant_at_any_size() {
        for (w, h) in [(7, 13), (64, 3), (5, 5), (1, 1), (200, 31)] {
            for size in [[8, 8], [5, 9], [31, 7]] {
                let t = Transform::new(size, 1).unwrap();
                let image = t.prepare(grey(w, h, vec![77; w * h]));
                assert_eq!(
                    image.samples,
                    PixelValues::U8(vec![77; t.len()]),
                    "{w} x {h} to {size:?}"
                );
            }
        }
    }

    #[test]
    fn the_centre_is_kept() {
        let values: Vec<u8> = (0..4).flat_map(|_| [0, 0, 10, 20, 30, 40, 0, 0]).collect();
        let t = Transform::new([4, 4], 1).unwrap();
        let image = t.prepare(grey(8, 4, values));
        assert_eq!(image.samples, PixelValues::U8([10, 20, 30, 40].repeat(4)));
    }

    #[test]
    fn range_depth_and_channels() {
        let t = Transform::new([1, 2], 3).unwrap();
        let deep = Pixels {
            width: 2,
            height: 1,
            channels: 1,
            samples: PixelValues::U16(vec![0, 65_535]),
        };
        assert_eq!(t.apply(deep), [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0]);
        let colour = Pixels {
            width: 2,
            height: 1,
            channels: 3,
            samples: PixelValues::U8(vec![200, 200, 200, 255, 0, 0]),
        };
        let t = Transform::new([1, 2], 1).unwrap();
        assert_eq!(t.prepare(colour).samples, PixelValues::U8(vec![200, 76]));
        assert!(Transform::new([8, 8], 4).is_err());
        assert!(Transform::new([0, 8], 3).is_err());
    }

    #[test]
    fn orientations() {
        let t = Transform::new([2, 2], 1).unwrap();
        let image = grey(2, 2, vec![0, 1, 2, 3]);
        let seen = |orientation| {
            let mut out = [0.0; 4];
            t.finish(&image, orientation, &mut out);
            out.map(|v| ((v + 1.0) / 2.0 * 255.0).round() as u8)
        };
        let upright = Orientation::default();
        assert_eq!(seen(upright), [0, 1, 2, 3]);
        assert_eq!(
            seen(Orientation {
                flip_horizontal: true,
                ..upright
            }),
            [1, 0, 3, 2]
        );
        assert_eq!(
            seen(Orientation {
                flip_vertical: true,
                ..upright
            }),
            [2, 3, 0, 1]
        );
        assert_eq!(
            seen(Orientation {
                transpose: true,
                ..upright
            }),
            [0, 2, 1, 3]
        );
    }
}
