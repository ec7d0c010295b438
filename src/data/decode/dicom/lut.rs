//! Tables and windows between stored values and grey (PS3.3, C.11.1 and C.11.2).

use dicom_core::Tag;
use dicom_object::InMemDicomObject;

/// One value for each of a range of stored values; what lies outside gets the first or the last.
#[derive(Clone, Debug)]
pub(super) struct LookupTable {
    first: i64,
    entries: Vec<u16>,
    /// Bits of an entry, which say what is white.
    pub bits: u32,
}

impl LookupTable {
    /// Reads a table from its descriptor (entries, first stored value, bits of an entry) and its data.
    ///
    /// # Errors
    /// If it is damaged; `name` says which table it is.
    pub fn of(
        object: &InMemDicomObject,
        descriptor: Tag,
        data: Tag,
        name: &str,
    ) -> Result<Self, String> {
        let damaged = || format!("the object's {name} is damaged");
        let get = |tag| object.get(tag).ok_or_else(damaged);
        let numbers = get(descriptor)?
            .to_multi_int::<i64>()
            .map_err(|_| damaged())?;
        let &[count, first, bits] = &numbers[..] else {
            return Err(damaged());
        };
        // 16 bits hold no 65536, which is written as 0; some writers have signed numbers here.
        let count = match (count & 0xffff) as usize {
            0 => 1 << 16,
            count => count,
        };
        if !(8..=16).contains(&bits) {
            return Err(damaged());
        }
        let bytes = get(data)?.to_bytes().map_err(|_| damaged())?;
        // Tables of 8 bits may be packed, and only their length says so.
        let entries: Vec<u16> = if bytes.len() / 2 >= count {
            let words = bytes.chunks_exact(2).take(count);
            words.map(|w| u16::from_le_bytes([w[0], w[1]])).collect()
        } else if bits == 8 && bytes.len() >= count {
            bytes.iter().take(count).map(|&b| u16::from(b)).collect()
        } else {
            return Err(format!(
                "the object's {name} has {} bytes for {count} entries of {bits} bits",
                bytes.len()
            ));
        };
        Ok(Self {
            first,
            entries,
            bits: bits as u32,
        })
    }

    pub fn entry(&self, stored: i64) -> u16 {
        let last = self.entries.len() - 1;
        self.entries[(stored - self.first).clamp(0, last as i64) as usize]
    }

    /// The entry, from 0 (black) to 1 (white).
    pub fn fraction(&self, stored: i64) -> f64 {
        (f64::from(self.entry(stored)) / (2f64.powi(self.bits as i32) - 1.0)).min(1.0)
    }
}

/// Form of the step from black to white.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WindowShape {
    /// PS3.3, C.11.2.1.2.1: from `center - 0.5 - (width - 1) / 2` to `center - 0.5 + (width - 1) / 2`.
    Linear,
    /// PS3.3, C.11.2.1.3.2: from `center - width / 2` to `center + width / 2`.
    LinearExact,
    /// PS3.3, C.11.2.1.3.1: `1 / (1 + exp(-4 (value - center) / width))`.
    Sigmoid,
}

/// A window that is written in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct VoiWindow {
    center: f64,
    width: f64,
    shape: WindowShape,
}

impl VoiWindow {
    /// # Errors
    /// If the window has no width.
    pub fn new(center: f64, width: f64, shape: WindowShape) -> Result<Self, String> {
        let least = if shape == WindowShape::Linear {
            1.0
        } else {
            f64::MIN_POSITIVE
        };
        if width < least {
            return Err(format!(
                "the window in the file is {width} wide, so nothing lies between black and white: give a window"
            ));
        }
        Ok(Self {
            center,
            width,
            shape,
        })
    }

    /// From 0 (black) to 1 (white).
    pub fn apply(self, value: f64) -> f64 {
        let Self {
            center,
            width,
            shape,
        } = self;
        let (middle, width) = match shape {
            WindowShape::Sigmoid => return 1.0 / (1.0 + (-4.0 * (value - center) / width).exp()),
            WindowShape::Linear => (center - 0.5, width - 1.0),
            WindowShape::LinearExact => (center, width),
        };
        if value <= middle - width / 2.0 {
            0.0
        } else if value > middle + width / 2.0 {
            1.0
        } else {
            (value - middle) / width + 0.5
        }
    }
}
