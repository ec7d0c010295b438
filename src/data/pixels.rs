//! Decoded pixels before any transform: grey or RGB, 8 or 16 bit.

/// Channel values of an image, `[height, width, channels]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PixelValues {
    /// 8 bits per channel, 0 to 255.
    U8(Vec<u8>),
    /// 16 bits per channel, 0 to 65535.
    U16(Vec<u16>),
}

/// A decoded image with 1 (grey) or 3 (RGB) channels. Alpha is dropped, palettes are expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 1 or 3.
    pub channels: usize,
    /// `[height, width, channels]`.
    pub samples: PixelValues,
}

impl Pixels {
    /// Bits per channel: 8 or 16.
    pub fn bits(&self) -> usize {
        match self.samples {
            PixelValues::U8(_) => 8,
            PixelValues::U16(_) => 16,
        }
    }

    /// Bytes of the samples.
    pub fn size_bytes(&self) -> usize {
        self.width * self.height * self.channels * self.bits() / 8
    }
}
