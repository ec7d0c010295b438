//! From stored colours to interleaved red, green and blue (PS3.3, C.7.6.3.1.2 and C.7.9).

use dicom_object::InMemDicomObject;

use super::attributes::{Photometric, StoredForm};
use super::frame::StoredFrame;
use super::lut::LookupTable;
use super::tags;

/// Channel values from 0 to `2^bits - 1`, `[rows, columns, 3]`.
pub(super) struct RgbValues {
    pub values: Vec<u16>,
    pub bits: usize,
}

/// # Errors
/// If a palette is missing or damaged.
pub(super) fn rgb(
    frame: &StoredFrame<'_>,
    form: &StoredForm,
    attributes: &InMemDicomObject,
) -> Result<RgbValues, String> {
    let bits = form.bits_stored;
    let stored = frame.values().map(|value| value as u16);
    let values = match frame.photometric {
        Photometric::Palette => return palette(frame, attributes),
        Photometric::YbrFull422 => share_chroma(stored.collect(), bits),
        Photometric::YbrFull => from_ybr(interleaved(stored.collect(), form, frame.planar), bits),
        _ => interleaved(stored.collect(), form, frame.planar),
    };
    Ok(RgbValues { values, bits })
}

fn interleaved(values: Vec<u16>, form: &StoredForm, planar: bool) -> Vec<u16> {
    if !planar {
        return values;
    }
    let pixels = form.pixels();
    let pixel = |at: usize| [values[at], values[pixels + at], values[2 * pixels + at]];
    (0..pixels).flat_map(pixel).collect()
}

/// Two pixels are written as their two lumas and their two chromas.
fn share_chroma(values: Vec<u16>, bits: usize) -> Vec<u16> {
    let pairs = values.chunks_exact(4);
    let spread = pairs.flat_map(|v| [v[0], v[2], v[3], v[1], v[2], v[3]]);
    from_ybr(spread.collect(), bits)
}

fn from_ybr(mut values: Vec<u16>, bits: usize) -> Vec<u16> {
    let most = 2f64.powi(bits as i32) - 1.0;
    let middle = 2f64.powi(bits as i32 - 1);
    for pixel in values.chunks_exact_mut(3) {
        let [y, b, r] = [pixel[0], pixel[1], pixel[2]].map(f64::from);
        let (b, r) = (b - middle, r - middle);
        let colours = [
            y + 1.402 * r,
            y - 0.344_136_286 * b - 0.714_136_286 * r,
            y + 1.772 * b,
        ];
        pixel.copy_from_slice(&colours.map(|c| c.round().clamp(0.0, most) as u16));
    }
    values
}

fn palette(frame: &StoredFrame<'_>, attributes: &InMemDicomObject) -> Result<RgbValues, String> {
    if attributes.get(tags::PALETTES[0]).is_none()
        && attributes.get(tags::SEGMENTED_RED_PALETTE).is_some()
    {
        return Err(
            "segmented palettes are not read: convert the file with `gdcmimg` or `dcmdjpeg +cn`, or to RGB"
                .to_owned(),
        );
    }
    let table = |channel: usize| {
        LookupTable::of(
            attributes,
            tags::PALETTE_DESCRIPTORS[channel],
            tags::PALETTES[channel],
            ["red palette", "green palette", "blue palette"][channel],
        )
    };
    let tables = [table(0)?, table(1)?, table(2)?];
    let bits = tables[0].bits.max(tables[1].bits).max(tables[2].bits) as usize;
    let values = frame
        .values()
        .flat_map(|index| tables.each_ref().map(|table| table.entry(index)))
        .collect();
    Ok(RgbValues { values, bits })
}
