//! Many images of one size in one array, in memory or mapped, in whatever order its elements lie.

use std::ops::Range;
use std::sync::Arc;

use half::f16;
use memmap2::Mmap;

use super::decode::{DecodedImage, ImageFacts, ValueKind, ValueRange, ends, range, windowed};
use super::pixels::{PixelValues, Pixels};

/// Type of the elements of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 0 or 1.
    Bool,
    /// Unsigned integers of so many bytes: 1, 2, 4 or 8.
    Unsigned(usize),
    /// Signed integers of so many bytes: 1, 2, 4 or 8.
    Signed(usize),
    /// Floating-point numbers of so many bytes: 2, 4 or 8.
    Float(usize),
}

impl Element {
    /// Bytes of an element.
    pub fn size_bytes(self) -> usize {
        match self {
            Self::Bool => 1,
            Self::Unsigned(size) | Self::Signed(size) | Self::Float(size) => size,
        }
    }

    fn kind(self) -> ValueKind {
        let bits = 8 * self.size_bytes() as u32;
        match self {
            Self::Bool => ValueKind::Bits(1),
            Self::Float(_) => ValueKind::Float(bits),
            _ => ValueKind::Bits(bits),
        }
    }

    /// The value of an element with little-endian bytes.
    fn value(self, bytes: &[u8]) -> f64 {
        let unsigned = bytes
            .iter()
            .rev()
            .fold(0, |value, &byte| value << 8 | u64::from(byte));
        match self {
            Self::Bool | Self::Unsigned(_) => unsigned as f64,
            Self::Signed(size) => {
                let unused = 64 - 8 * size;
                ((unsigned << unused) as i64 >> unused) as f64
            }
            Self::Float(2) => f16::from_bits(unsigned as u16).to_f64(),
            Self::Float(4) => f64::from(f32::from_bits(unsigned as u32)),
            Self::Float(_) => f64::from_bits(unsigned),
        }
    }
}

/// The bytes of an array.
#[derive(Clone, Debug)]
pub(super) enum ArrayBytes {
    Owned(Vec<u8>),
    /// A part of a mapped file.
    Mapped(Arc<Mmap>, Range<usize>),
}

impl ArrayBytes {
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Mapped(map, range) => &map[range.clone()],
        }
    }

    /// The bytes from `start`.
    pub fn skip(self, start: usize) -> Self {
        match self {
            Self::Owned(mut bytes) => {
                bytes.drain(..start);
                Self::Owned(bytes)
            }
            Self::Mapped(map, range) => Self::Mapped(map, range.start + start..range.end),
        }
    }
}

/// An array of any shape, as read.
#[derive(Clone, Debug)]
pub(super) struct NumberArray {
    pub shape: Vec<usize>,
    /// Elements from one index to the next, by dimension.
    pub strides: Vec<usize>,
    pub element: Element,
    pub big_endian: bool,
    pub bytes: ArrayBytes,
}

impl NumberArray {
    /// The value at an offset in elements.
    pub fn value(&self, offset: usize) -> f64 {
        let size = self.element.size_bytes();
        let bytes = &self.bytes.as_slice()[offset * size..][..size];
        if self.big_endian {
            let mut little = [0; 8];
            for (to, from) in little.iter_mut().zip(bytes.iter().rev()) {
                *to = *from;
            }
            return self.element.value(&little[..size]);
        }
        self.element.value(bytes)
    }

    /// All values of an array `[N]` or `[N, K]`, row by row.
    pub fn rows(&self) -> impl Iterator<Item = Vec<f64>> + '_ {
        let columns = self.shape.get(1).copied().unwrap_or(1);
        let stride = self.strides.get(1).copied().unwrap_or(0);
        (0..self.shape[0]).map(move |row| {
            let columns = 0..columns;
            columns
                .map(|c| self.value(row * self.strides[0] + c * stride))
                .collect()
        })
    }
}

/// Many images of one size.
#[derive(Clone, Debug)]
pub struct ImageArray {
    array: NumberArray,
    images: usize,
    height: usize,
    width: usize,
    channels: usize,
    /// Elements between images, rows, columns, channels.
    strides: [usize; 4],
}

impl ImageArray {
    /// Takes `[N, H, W]`, `[N, H, W, C]` or `[N, C, H, W]` with `C` 1 or 3.
    ///
    /// # Errors
    /// If the array has another shape.
    pub(super) fn new(array: NumberArray) -> Result<Self, String> {
        let s = &array.strides;
        let ([images, height, width, channels], strides) = match array.shape[..] {
            [n, h, w] => ([n, h, w, 1], [s[0], s[1], s[2], 0]),
            [n, h, w, c @ (1 | 3)] => ([n, h, w, c], [s[0], s[1], s[2], s[3]]),
            [n, c @ (1 | 3), h, w] => ([n, h, w, c], [s[0], s[2], s[3], s[1]]),
            _ => {
                return Err(format!(
                    "shape {:?}, expected [N, H, W], [N, H, W, C] or [N, C, H, W] with 1 or 3 channels",
                    array.shape
                ));
            }
        };
        Ok(Self {
            array,
            images,
            height,
            width,
            channels,
            strides,
        })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.images
    }

    /// True if there is no image, or images have no pixel.
    pub fn is_empty(&self) -> bool {
        self.images * self.height * self.width == 0
    }

    /// Image `index`.
    ///
    /// # Errors
    /// If its values have no black and white: floating-point numbers outside 0 to 1, wide integers.
    pub(super) fn decode(
        &self,
        index: usize,
        black_white: ValueRange,
    ) -> Result<DecodedImage, String> {
        let element = self.array.element;
        let range = range(self.values(index))?;
        let kind = element.kind();
        let given = black_white.limits(kind);
        let samples = match (given, element) {
            (None, Element::Unsigned(1)) => {
                PixelValues::U8(self.values(index).map(|v| v as u8).collect())
            }
            (None, Element::Unsigned(2)) => {
                PixelValues::U16(self.values(index).map(|v| v as u16).collect())
            }
            _ => windowed(self.values(index), ends(given, kind, range)?),
        };
        Ok(DecodedImage {
            pixels: Pixels {
                width: self.width,
                height: self.height,
                channels: self.channels,
                samples,
            },
            facts: ImageFacts {
                kind,
                channels: self.channels,
                range,
                turned: false,
                windowed: given.is_some(),
            },
        })
    }

    /// Values of image `index`, `[height, width, channels]`.
    fn values(&self, index: usize) -> impl Iterator<Item = f64> + '_ {
        let [image, row, column, channel] = self.strides;
        (0..self.height).flat_map(move |y| {
            (0..self.width).flat_map(move |x| {
                let offset = index * image + y * row + x * column;
                (0..self.channels).map(move |c| self.array.value(offset + c * channel))
            })
        })
    }

    pub(super) fn hash(&self, hasher: &mut blake3::Hasher) {
        for dimension in [self.images, self.height, self.width, self.channels] {
            hasher.update(&(dimension as u64).to_le_bytes());
        }
        hasher.update(self.array.bytes.as_slice());
    }
}
