//! What the headers of JPEG and JPEG 2000 code streams promise, compared with what the object says before anything is decoded.

use super::attributes::StoredForm;

/// The frame header of a JPEG (ITU-T T.81, B.2.2).
pub(super) struct JpegHead {
    pub precision: usize,
    /// Offsets of the bytes that name the components.
    component_names: Vec<usize>,
    /// A marker says what the colours are.
    colours_named: bool,
    /// Lossless decoders leave colours as they are.
    pub lossless: bool,
}

impl JpegHead {
    /// # Errors
    /// If it is damaged, of a kind that is not read, or not as the object says.
    pub fn of(stream: &[u8], form: &StoredForm) -> Result<Self, String> {
        let damaged = || "the compressed JPEG is damaged".to_owned();
        let (mut at, mut colours_named) = (2, false);
        loop {
            let &[0xff, marker, high, low] = stream
                .get(at..)
                .and_then(<[u8]>::first_chunk)
                .ok_or_else(damaged)?
            else {
                return Err(damaged());
            };
            let length = usize::from(u16::from_be_bytes([high, low]));
            let body = stream.get(at + 4..at + 2 + length).ok_or_else(damaged)?;
            match marker {
                0xff => at += 1,
                0xc0..=0xc3 => return Self::frame(body, at + 4, colours_named, marker, form),
                0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                    return Err(
                        "hierarchical and arithmetic-coded JPEG is not read: decompress the file with `dcmdjpeg IN OUT` \
                         (DCMTK)"
                            .to_owned(),
                    );
                }
                0xda | 0xd9 => return Err(damaged()),
                _ => {
                    colours_named |= body.starts_with(b"JFIF") || body.starts_with(b"Adobe");
                    at += 2 + length;
                }
            }
        }
    }

    fn frame(
        body: &[u8],
        start: usize,
        colours_named: bool,
        marker: u8,
        form: &StoredForm,
    ) -> Result<Self, String> {
        let &[precision, h0, h1, w0, w1, components] = body
            .first_chunk()
            .ok_or_else(|| "the compressed JPEG is damaged".to_owned())?;
        let rows = usize::from(u16::from_be_bytes([h0, h1]));
        let columns = usize::from(u16::from_be_bytes([w0, w1]));
        same_size(form, "JPEG", columns, rows, usize::from(components))?;
        let lossless = marker == 0xc3;
        if precision != 8 && !lossless {
            return Err(format!(
                "JPEG with {precision} bits is not read, only with 8: decompress the file with `dcmdjpeg IN OUT` (DCMTK)"
            ));
        }
        if !(2..=16).contains(&precision) {
            return Err("the compressed JPEG is damaged".to_owned());
        }
        Ok(Self {
            precision: usize::from(precision),
            component_names: (0..usize::from(components))
                .map(|c| start + 6 + 3 * c)
                .collect(),
            colours_named,
            lossless,
        })
    }

    /// Names the components R, G and B in the frame header and the scan header, so that a decoder converts nothing. What
    /// the object says counts where the JPEG itself is silent.
    pub fn name_rgb(&self, stream: &mut [u8]) {
        if self.colours_named || self.component_names.len() != 3 {
            return;
        }
        let mut names = [0; 3];
        for ((name, &at), new) in names.iter_mut().zip(&self.component_names).zip(*b"RGB") {
            let Some(byte) = stream.get_mut(at) else {
                return;
            };
            *name = std::mem::replace(byte, new);
        }
        let mut at = 2;
        while let Some(&[0xff, marker, high, low]) = stream.get(at..).and_then(<[u8]>::first_chunk)
        {
            if marker == 0xda {
                let count = stream.get(at + 4).copied().unwrap_or(0);
                for component in 0..usize::from(count) {
                    if let Some(byte) = stream.get_mut(at + 5 + 2 * component)
                        && let Some(index) = names.iter().position(|name| name == byte)
                    {
                        *byte = b"RGB"[index];
                    }
                }
                return;
            }
            at += 2 + usize::from(u16::from_be_bytes([high, low]));
        }
    }
}

/// The size header of a JPEG 2000 code stream (ITU-T T.800, A.5.1).
pub(super) struct Jpeg2000Head {
    pub precision: usize,
    /// The code stream undoes a transform of colours itself.
    pub transforms_colours: bool,
}

impl Jpeg2000Head {
    /// # Errors
    /// If it is damaged, of a kind that is not read, or not as the object says.
    pub fn of(stream: &[u8], form: &StoredForm) -> Result<Self, String> {
        let damaged = || "the compressed JPEG 2000 is damaged".to_owned();
        // Some files wrap the code stream in the boxes of a JP2 file.
        let start = stream
            .windows(4)
            .take(4096)
            .position(|w| w == [0xff, 0x4f, 0xff, 0x51])
            .ok_or_else(damaged)?;
        let size = &stream[start + 4..];
        let long = |at: usize| -> Result<usize, String> {
            let bytes = size
                .get(at..)
                .and_then(<[u8]>::first_chunk)
                .ok_or_else(damaged)?;
            Ok(u32::from_be_bytes(*bytes) as usize)
        };
        let length = long(0)? >> 16;
        let columns = long(4)?.checked_sub(long(12)?).ok_or_else(damaged)?;
        let rows = long(8)?.checked_sub(long(16)?).ok_or_else(damaged)?;
        let components = long(36)? >> 16;
        same_size(form, "JPEG 2000", columns, rows, components)?;
        let mut precision = 0;
        for component in 0..components {
            let &[depth, across, down] = size
                .get(38 + 3 * component..)
                .and_then(<[u8]>::first_chunk)
                .ok_or_else(damaged)?;
            if (across, down) != (1, 1) {
                return Err("JPEG 2000 with channels of several sizes is not read".to_owned());
            }
            precision = precision.max(usize::from(depth & 0x7f) + 1);
        }
        if precision > 16 {
            return Err(format!("JPEG 2000 with {precision} bits is not read"));
        }
        Ok(Self {
            precision,
            transforms_colours: colour_transform(size.get(length..).unwrap_or_default()),
        })
    }
}

/// The flag of the coding style that says whether colours are transformed (A.6.1).
fn colour_transform(mut segments: &[u8]) -> bool {
    while let Some(&[0xff, marker, high, low]) = segments.first_chunk() {
        if marker == 0x52 {
            return segments.get(8).is_some_and(|&flag| flag != 0);
        }
        let next = 2 + usize::from(u16::from_be_bytes([high, low]));
        segments = segments.get(next..).unwrap_or_default();
    }
    false
}

fn same_size(
    form: &StoredForm,
    name: &str,
    columns: usize,
    rows: usize,
    components: usize,
) -> Result<(), String> {
    if (columns, rows, components) == (form.columns, form.rows, form.samples) {
        return Ok(());
    }
    Err(format!(
        "the {name} is {columns} x {rows} pixels with {components} channels, the DICOM object says {} x {} with {}",
        form.columns, form.rows, form.samples
    ))
}
