//! What black and white mean: from stored values to the full range of the pixel type.

use std::fmt;

use crate::data::pixels::{PixelValues, Pixels};

/// Which stored values are black and white. DICOM values count after rescale slope and intercept.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ValueRange {
    /// What the file says: the whole range of its integer type, 0 to 1 for floating point, the window of a DICOM file.
    #[default]
    Stored,
    /// 0 to `2^bits - 1` where files have more bits than that: 12-bit values in 16-bit files. Others are as stored.
    Bits(u32),
    /// From black to white; what lies outside is clipped.
    Window([f64; 2]),
}

impl ValueRange {
    /// The range that a window or a number of bits asks for; the window wins.
    pub fn of(window: Option<[f64; 2]>, bits: Option<u32>) -> Self {
        match (window, bits) {
            (Some(limits), _) => Self::Window(limits),
            (None, Some(bits)) => Self::Bits(bits),
            (None, None) => Self::Stored,
        }
    }

    /// Black and white of values of this kind, where they are given.
    pub fn limits(self, kind: ValueKind) -> Option<[f64; 2]> {
        match (self, kind) {
            (Self::Bits(bits), ValueKind::Bits(stored)) if stored > bits => {
                Some([0.0, 2f64.powi(bits as i32) - 1.0])
            }
            (Self::Stored | Self::Bits(_), _) => None,
            (Self::Window(limits), _) => Some(limits),
        }
    }
}

/// An image and what the decoder saw of it.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodedImage {
    /// Values from black to white.
    pub pixels: Pixels,
    /// The image as it was stored.
    pub facts: ImageFacts,
}

/// What the decoder saw of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageFacts {
    /// How a value is stored.
    pub kind: ValueKind,
    /// 1 (grey) or 3 (RGB) as stored.
    pub channels: usize,
    /// Smallest and largest value as stored; DICOM after rescale.
    pub range: [f64; 2],
    /// True if an orientation that the file names was applied.
    pub turned: bool,
    /// True if black and white were given, by the file (DICOM) or by a [`ValueRange`].
    pub windowed: bool,
}

/// How a channel value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ValueKind {
    /// Unsigned or signed integers of so many bits.
    Bits(u32),
    /// Floating point of so many bits.
    Float(u32),
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bits(bits) => write!(f, "{bits} bit"),
            Self::Float(bits) => write!(f, "{bits} bit float"),
        }
    }
}

/// A warning where the values of images leave most of their range unused, so that they would be nearly black.
pub(in crate::data) fn range_warning(kind: ValueKind, [low, high]: [f64; 2]) -> Option<String> {
    let ValueKind::Bits(bits @ 9..) = kind else {
        return None;
    };
    let used = (high.max(0.0) + 1.0).log2().ceil() as u32;
    (low >= 0.0 && used < bits).then(|| {
        format!(
            "values from {low} to {high} in {bits} bit leave images dark; if they have {used} bits, set data.bits = {used}, \
             else data.window = [black, white]"
        )
    })
}

/// Smallest and largest of finite values.
///
/// # Errors
/// If one is not finite: NaN is no brightness.
pub(in crate::data) fn range(values: impl Iterator<Item = f64>) -> Result<[f64; 2], String> {
    let mut range = [f64::INFINITY, f64::NEG_INFINITY];
    for value in values {
        if !value.is_finite() {
            return Err(format!("a value is {value}, expected finite numbers"));
        }
        range = [range[0].min(value), range[1].max(value)];
    }
    Ok(range)
}

/// Black and white of values of `kind` in `range`, where they are not the ends of an integer type: as given, else 0 and 1.
///
/// # Errors
/// If nothing is given, and the values do not lie between 0 and 1 or are integers of a kind without such ends.
pub(in crate::data) fn ends(
    given: Option<[f64; 2]>,
    kind: ValueKind,
    [low, high]: [f64; 2],
) -> Result<[f64; 2], String> {
    match (given, kind) {
        (Some(limits), _) => Ok(limits),
        (None, ValueKind::Bits(1)) => Ok([0.0, 1.0]),
        (None, ValueKind::Float(_)) if low >= 0.0 && high <= 1.0 => Ok([0.0, 1.0]),
        (None, ValueKind::Float(_)) => Err(format!(
            "floating-point values from {low} to {high}: without a window they are taken to lie between 0 (black) and 1 \
             (white)"
        )),
        (None, ValueKind::Bits(bits)) => Err(format!(
            "{bits} bit integers from {low} to {high}: black and white cannot be told without a window"
        )),
    }
}

/// Values between black and white as 16-bit values, rounded to nearest.
pub(in crate::data) fn windowed(
    values: impl Iterator<Item = f64>,
    [black, white]: [f64; 2],
) -> PixelValues {
    let scale = 65_535.0 / (white - black);
    let values = values.map(|value| ((value - black) * scale).clamp(0.0, 65_535.0).round() as u16);
    PixelValues::U16(values.collect())
}
