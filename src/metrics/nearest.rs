//! The most similar image of another set: are synthetic images copies of what the model was trained on?

use rayon::prelude::*;

use crate::data::{DataError, Dataset, Orientation, Transform};
use crate::image::grid::{GridOptions, compose};
use crate::image::png::Image8;

/// An image and the one that is most like it in another set.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// Index into the set that was asked about.
    pub image: usize,
    /// Index into the set that was searched.
    pub nearest: usize,
    /// How the nearest image is turned to be that near.
    pub orientation: Orientation,
    /// Root of the mean squared difference of the pixel values on [0, 1]: the L2 distance divided by the root of the
    /// number of values, so that it does not grow with the image.
    pub distance: f64,
}

/// Finds for each image of `images` the nearest one in `searched`, both brought to the size and channels of
/// `transform`. With `turned`, every image of `searched` is tried in all its orientations: a model that learned from
/// flipped and transposed images may copy those too. Ties go to the first image in the order of the set.
///
/// All of `searched` is held in memory, 4 bytes per value. Unreadable images are left out with a warning.
///
/// # Errors
/// If no image of one of the sets can be read.
pub fn nearest(
    images: &Dataset,
    searched: &Dataset,
    transform: &Transform,
    turned: bool,
) -> Result<Vec<Match>, DataError> {
    let orientations = orientations(transform, turned);
    let known = load(searched, transform)?;
    let asked = load(images, transform)?;
    let matches = asked.par_iter().map(|(image, values)| {
        let mut best = Match {
            image: *image,
            nearest: 0,
            orientation: Orientation::default(),
            distance: f64::INFINITY,
        };
        // Turning the one image is the inverse of turning the many: each candidate is compared as it lies in memory.
        for &orientation in &orientations {
            let view = undo(values, transform, orientation);
            for (nearest, candidate) in &known {
                let squares = squared_distance(&view, candidate, best.distance);
                if squares < best.distance {
                    best = Match {
                        image: *image,
                        nearest: *nearest,
                        orientation,
                        distance: squares,
                    };
                }
            }
        }
        // From [-1, 1] to [0, 1] halves a difference.
        best.distance = 0.5 * (best.distance / values.len() as f64).sqrt();
        best
    });
    Ok(matches.collect())
}

/// The orientations to try: upright first.
fn orientations(transform: &Transform, turned: bool) -> Vec<Orientation> {
    let square = transform.size[0] == transform.size[1];
    let count = match (turned, square) {
        (false, _) => 1,
        (true, false) => 4,
        (true, true) => 8,
    };
    (0..count)
        .map(|bits| Orientation {
            flip_horizontal: bits & 1 != 0,
            flip_vertical: bits & 2 != 0,
            transpose: bits & 4 != 0,
        })
        .collect()
}

/// Readable images with their indices, `[H, W, C]` in [-1, 1].
fn load(set: &Dataset, transform: &Transform) -> Result<Vec<(usize, Vec<f32>)>, DataError> {
    let images: Vec<_> = (0..set.len())
        .into_par_iter()
        .filter_map(|index| match set.pixels(index) {
            Ok(pixels) => Some((index, transform.apply(pixels))),
            Err(error) => {
                tracing::warn!("{error}; left out");
                None
            }
        })
        .collect();
    if images.is_empty() {
        return Err(DataError::Empty {
            path: set.root().to_owned(),
            what: "readable image".to_owned(),
        });
    }
    Ok(images)
}

/// What `values` must look like so that `orientation` turns it into `values`.
fn undo(values: &[f32], transform: &Transform, orientation: Orientation) -> Vec<f32> {
    let ([height, width], channels) = (transform.size, transform.channels);
    let mut out = vec![0.0; values.len()];
    for y in 0..height {
        for x in 0..width {
            let turned_y = match orientation.flip_vertical {
                true => height - 1 - y,
                false => y,
            };
            let turned_x = match orientation.flip_horizontal {
                true => width - 1 - x,
                false => x,
            };
            let to = match orientation.transpose {
                true => turned_x * width + turned_y,
                false => turned_y * width + turned_x,
            };
            let from = y * width + x;
            out[to * channels..][..channels]
                .copy_from_slice(&values[from * channels..][..channels]);
        }
    }
    out
}

/// The sum of squared differences; infinity as soon as it is known not to be below `limit`.
fn squared_distance(a: &[f32], b: &[f32], limit: f64) -> f64 {
    // Long enough for the vector units, short enough to give up early on most images.
    const CHUNK: usize = 512;
    let mut sum = 0.0;
    for (a, b) in a.chunks(CHUNK).zip(b.chunks(CHUNK)) {
        // Eight running sums, which the compiler keeps in one register.
        let mut lanes = [0.0f32; 8];
        let (mut left, mut right) = (a.chunks_exact(8), b.chunks_exact(8));
        for (a, b) in left.by_ref().zip(right.by_ref()) {
            for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
                *lane += (a - b) * (a - b);
            }
        }
        let rest = left.remainder().iter().zip(right.remainder());
        let rest: f32 = rest.map(|(a, b)| (a - b) * (a - b)).sum();
        sum += f64::from(lanes.iter().sum::<f32>() + rest);
        if sum >= limit {
            return f64::INFINITY;
        }
    }
    sum
}

/// The closest pairs side by side, most alike first: an image, then its nearest one turned as it was matched.
///
/// # Errors
/// If an image can no longer be read.
pub fn closest_pairs(
    images: &Dataset,
    searched: &Dataset,
    transform: &Transform,
    matches: &[Match],
    pairs: usize,
) -> Result<Image8, DataError> {
    let mut order: Vec<&Match> = matches.iter().collect();
    order.sort_by(|a, b| a.distance.total_cmp(&b.distance));
    let [height, width] = transform.size;
    let shape = [height, width, transform.channels];
    let mut tiles = Vec::new();
    for found in order.into_iter().take(pairs) {
        let image = transform.apply(images.pixels(found.image)?);
        tiles.push(Image8::from_f32(&image, shape));
        let prepared = transform.prepare(searched.pixels(found.nearest)?);
        let mut turned = vec![0.0; transform.len()];
        transform.finish(&prepared, found.orientation, &mut turned);
        tiles.push(Image8::from_f32(&turned, shape));
    }
    let options = GridOptions {
        scale: (128 / height.max(1)).clamp(1, 4),
        ..GridOptions::new(8)
    };
    Ok(compose(&tiles, &options))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Undoing an orientation and then turning by it is the identity, for each of the eight.
    #[test]
    fn undoing_an_orientation_is_its_inverse() {
        let transform = Transform::new([3, 3], 1).unwrap();
        let values: Vec<f32> = (0..9).map(|v| v as f32 / 255.0 * 2.0 - 1.0).collect();
        for orientation in orientations(&transform, true) {
            let view = Image8::from_f32(&undo(&values, &transform, orientation), [3, 3, 1]);
            let pixels = crate::data::Pixels {
                width: 3,
                height: 3,
                channels: 1,
                samples: crate::data::Samples::U8(view.values),
            };
            let mut back = vec![0.0; 9];
            transform.finish(&pixels, orientation, &mut back);
            let (back, values) = (
                Image8::from_f32(&back, [3, 3, 1]),
                Image8::from_f32(&values, [3, 3, 1]),
            );
            assert!(
                back.values
                    .iter()
                    .zip(&values.values)
                    .all(|(a, b)| a.abs_diff(*b) <= 2),
                "{orientation:?}: {back:?}"
            );
        }
    }

    #[test]
    fn a_sum_of_squares_stops_at_its_limit() {
        let (a, b) = (vec![1.0; 1030], vec![0.5; 1030]);
        assert_eq!(squared_distance(&a, &b, f64::INFINITY), 1030.0 / 4.0);
        assert_eq!(squared_distance(&a, &b, 100.0), f64::INFINITY);
    }
}
