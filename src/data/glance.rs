//! What a few images of a set tell about all of them, before a run begins.

use rayon::prelude::*;

use super::dataset::Dataset;
use super::decode::{DecodedImage, range_warning};
use super::pixels::{PixelValues, Pixels};

/// Images that are looked at, evenly spread over the set.
const MOST: usize = 64;

/// The findings of a look at a few images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Glance {
    /// All of them are grey, whether stored with one channel or with three equal ones.
    pub grey: bool,
    /// Values that leave most of their range unused, in words.
    pub range_warning: Option<String>,
}

impl Dataset {
    /// Decodes up to 64 images, evenly spread over the set. Unreadable ones tell nothing.
    pub fn glance(&self) -> Glance {
        let count = self.len().min(MOST);
        let seen: Vec<DecodedImage> = (0..count)
            .into_par_iter()
            .filter_map(|k| self.decode(k * self.len() / count).ok())
            .collect();
        let Some(first) = seen.first() else {
            return Glance::default();
        };
        let facts = || seen.iter().map(|decoded| &decoded.facts);
        let uniform = facts().all(|facts| facts.kind == first.facts.kind && !facts.windowed);
        let low = facts()
            .map(|facts| facts.range[0])
            .fold(f64::INFINITY, f64::min);
        let high = facts()
            .map(|facts| facts.range[1])
            .fold(f64::NEG_INFINITY, f64::max);
        Glance {
            grey: seen.iter().all(|decoded| is_grey(&decoded.pixels)),
            range_warning: uniform
                .then(|| range_warning(first.facts.kind, [low, high]))
                .flatten(),
        }
    }
}

/// True if all channels are equal.
pub(super) fn is_grey(pixels: &Pixels) -> bool {
    fn equal<T: PartialEq>(values: &[T], channels: usize) -> bool {
        let mut pixels = values.chunks_exact(channels);
        pixels.all(|pixel| pixel.iter().all(|value| *value == pixel[0]))
    }
    match &pixels.samples {
        PixelValues::U8(values) => equal(values, pixels.channels),
        PixelValues::U16(values) => equal(values, pixels.channels),
    }
}
