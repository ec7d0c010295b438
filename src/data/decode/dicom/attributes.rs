//! What the attributes of an object say about its pixels (PS3.3, C.7.6.3 and the functional groups of C.7.6.16).

use dicom_core::Tag;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

use super::lut::{LookupTable, VoiWindow, WindowShape};
use super::tags;

/// What the channel values are (photometric interpretation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Photometric {
    /// Grey; the smallest value is white.
    Monochrome1,
    /// Grey; the smallest value is black.
    Monochrome2,
    Palette,
    Rgb,
    /// Luma and chroma of each pixel.
    YbrFull,
    /// Two pixels share their chroma.
    YbrFull422,
    /// What JPEG 2000 makes of RGB, and its decoder undoes.
    YbrJpeg2000,
}

/// Form of the stored values.
#[derive(Clone, Debug)]
pub(super) struct StoredForm {
    pub rows: usize,
    pub columns: usize,
    pub samples: usize,
    pub photometric: Photometric,
    /// Each channel is a plane of its own.
    pub planar: bool,
    pub bits_allocated: usize,
    pub bits_stored: usize,
    /// Unused bits below the value.
    pub shift: usize,
    pub signed: bool,
    pub frames: usize,
}

impl StoredForm {
    /// # Errors
    /// If an attribute is missing or contradicts another.
    pub fn of(attributes: &InMemDicomObject) -> Result<Self, String> {
        let optional = |tag| integer(attributes, tag);
        let required = |tag, name: &str| {
            optional(tag).ok_or_else(|| format!("the DICOM object lacks {name} {tag}"))
        };
        let samples = optional(tags::SAMPLES_PER_PIXEL).unwrap_or(1);
        let bits_allocated = required(tags::BITS_ALLOCATED, "Bits Allocated")?;
        let bits_stored = optional(tags::BITS_STORED).unwrap_or(bits_allocated);
        let form = Self {
            rows: required(tags::ROWS, "Rows")?,
            columns: required(tags::COLUMNS, "Columns")?,
            samples,
            photometric: photometric(attributes, samples)?,
            planar: optional(tags::PLANAR_CONFIGURATION) == Some(1),
            bits_allocated,
            bits_stored,
            // The highest bit is meant to be the one above all stored bits; where it is not, bits below are unused.
            shift: (optional(tags::HIGH_BIT).unwrap_or(0) + 1).saturating_sub(bits_stored),
            signed: optional(tags::PIXEL_REPRESENTATION) == Some(1),
            frames: optional(tags::NUMBER_OF_FRAMES).unwrap_or(1).max(1),
        };
        form.check()?;
        Ok(form)
    }

    fn check(&self) -> Result<(), String> {
        if self.rows == 0 || self.columns == 0 {
            return Err(format!(
                "the image is {} x {} pixels",
                self.columns, self.rows
            ));
        }
        if !matches!(self.bits_allocated, 1 | 8 | 16 | 32)
            || !(1..=self.bits_allocated).contains(&self.bits_stored)
            || self.bits_stored + self.shift > self.bits_allocated
        {
            return Err(format!(
                "{} bits in {} bits of memory are not read, only up to 8, 16 or 32 bits in as many",
                self.bits_stored, self.bits_allocated
            ));
        }
        let expected = match self.photometric {
            Photometric::Monochrome1 | Photometric::Monochrome2 | Photometric::Palette => 1,
            _ => 3,
        };
        if self.samples != expected {
            return Err(format!(
                "the object has {} channels, its photometric interpretation {expected}",
                self.samples
            ));
        }
        if expected == 3 && !matches!(self.bits_allocated, 8 | 16) {
            return Err(format!(
                "colours of {} bits are not read, only of 8 or 16",
                self.bits_allocated
            ));
        }
        Ok(())
    }

    pub fn pixels(&self) -> usize {
        self.rows * self.columns
    }

    /// Bits of a frame that is not compressed.
    pub fn frame_bits(&self) -> usize {
        let samples = if self.photometric == Photometric::YbrFull422 {
            2
        } else {
            self.samples
        };
        self.pixels() * samples * self.bits_allocated
    }
}

fn photometric(attributes: &InMemDicomObject, samples: usize) -> Result<Photometric, String> {
    let name = text(attributes.get(tags::PHOTOMETRIC_INTERPRETATION)).unwrap_or_default();
    let refused = |name: &str| {
        Err(format!(
            "pixels of the photometric interpretation {name} are not read, only MONOCHROME1, MONOCHROME2, PALETTE COLOR, \
             RGB, YBR_FULL, YBR_FULL_422, YBR_ICT and YBR_RCT"
        ))
    };
    Ok(match name.as_str() {
        "" if samples == 1 => Photometric::Monochrome2,
        "MONOCHROME1" => Photometric::Monochrome1,
        "MONOCHROME2" => Photometric::Monochrome2,
        "PALETTE COLOR" => Photometric::Palette,
        "RGB" => Photometric::Rgb,
        "YBR_FULL" => Photometric::YbrFull,
        "YBR_FULL_422" => Photometric::YbrFull422,
        "YBR_ICT" | "YBR_RCT" => Photometric::YbrJpeg2000,
        "YBR_PARTIAL_420" | "YBR_PARTIAL_422" | "ARGB" | "HSV" | "CMYK" => return refused(&name),
        _ => return refused("that the file names"),
    })
}

/// From stored values to what they measure (modality LUT).
#[derive(Clone, Debug)]
pub(super) enum Modality {
    Linear { slope: f64, intercept: f64 },
    Table(LookupTable),
}

impl Modality {
    /// # Errors
    /// If its numbers cannot be used.
    pub fn of(attributes: &InMemDicomObject, frame: usize) -> Result<Self, String> {
        let linear = |tag| {
            first_number(functional(
                attributes,
                frame,
                tags::PIXEL_VALUE_TRANSFORMATION,
                tag,
            ))
        };
        let slope = linear(tags::RESCALE_SLOPE);
        let intercept = linear(tags::RESCALE_INTERCEPT);
        if slope.is_none()
            && intercept.is_none()
            && let Some(item) = first_item(attributes, tags::MODALITY_LUT_SEQUENCE)
        {
            return Ok(Self::Table(LookupTable::of(
                item,
                tags::LUT_DESCRIPTOR,
                tags::LUT_DATA,
                "modality LUT",
            )?));
        }
        let slope = slope.unwrap_or(1.0);
        if slope == 0.0 {
            return Err("the object's rescale slope is 0, so all values are one".to_owned());
        }
        Ok(Self::Linear {
            slope,
            intercept: intercept.unwrap_or(0.0),
        })
    }

    pub fn is_identity(&self) -> bool {
        matches!(self, Self::Linear { slope, intercept } if *slope == 1.0 && *intercept == 0.0)
    }

    pub fn apply(&self, stored: i64) -> f64 {
        match self {
            Self::Linear { slope, intercept } => stored as f64 * slope + intercept,
            Self::Table(table) => f64::from(table.entry(stored)),
        }
    }
}

/// How the file wants its values shown.
#[derive(Clone, Debug)]
pub(super) enum Voi {
    Window(VoiWindow),
    Table(LookupTable),
}

impl Voi {
    /// The first window, else the first table (VOI LUT).
    ///
    /// # Errors
    /// If its numbers cannot be used.
    pub fn of(attributes: &InMemDicomObject, frame: usize) -> Result<Option<Self>, String> {
        let get = |tag| functional(attributes, frame, tags::FRAME_VOI_LUT_SEQUENCE, tag);
        let center = first_number(get(tags::WINDOW_CENTER));
        let width = first_number(get(tags::WINDOW_WIDTH));
        if let (Some(center), Some(width)) = (center, width) {
            let shape = match text(get(tags::WINDOW_FUNCTION)).as_deref() {
                None | Some("" | "LINEAR") => WindowShape::Linear,
                Some("LINEAR_EXACT") => WindowShape::LinearExact,
                Some("SIGMOID") => WindowShape::Sigmoid,
                Some(_) => return Err(
                    "the object's VOI LUT function is not one of LINEAR, LINEAR_EXACT and SIGMOID"
                        .to_owned(),
                ),
            };
            return Ok(Some(Self::Window(VoiWindow::new(center, width, shape)?)));
        }
        let Some(item) = first_item(attributes, tags::VOI_LUT_SEQUENCE) else {
            return Ok(None);
        };
        let table = LookupTable::of(item, tags::LUT_DESCRIPTOR, tags::LUT_DATA, "VOI LUT")?;
        Ok(Some(Self::Table(table)))
    }

    /// From 0 (black) to 1 (white).
    pub fn apply(&self, value: f64) -> f64 {
        match self {
            Self::Window(window) => window.apply(value),
            Self::Table(table) => table.fraction(value.round() as i64),
        }
    }
}

/// Stored values that are no part of the image, from and to.
pub(super) fn padding(attributes: &InMemDicomObject, form: &StoredForm) -> Option<[i64; 2]> {
    // The VR does not always say how the value is signed.
    let stored = |tag| {
        let value = attributes.get(tag)?.to_int::<i64>().ok()?;
        Some(sign_extended(value, form.bits_allocated, form.signed))
    };
    let value = stored(tags::PIXEL_PADDING_VALUE)?;
    let limit = stored(tags::PIXEL_PADDING_RANGE_LIMIT).unwrap_or(value);
    Some([value.min(limit), value.max(limit)])
}

/// The lowest `bits` bits as a number.
pub(super) fn sign_extended(value: i64, bits: usize, signed: bool) -> i64 {
    let unused = 64 - bits as u32;
    if signed {
        value << unused >> unused
    } else {
        ((value as u64) << unused >> unused) as i64
    }
}

/// What a functional group says about a frame, else about all, else the object itself.
fn functional(
    attributes: &InMemDicomObject,
    frame: usize,
    group: Tag,
    tag: Tag,
) -> Option<&InMemElement> {
    let items = |tag| attributes.get(tag).and_then(InMemElement::items);
    let own = items(tags::PER_FRAME_GROUPS).and_then(|items| items.get(frame));
    let shared = items(tags::SHARED_GROUPS).and_then(|items| items.first());
    [own, shared]
        .into_iter()
        .flatten()
        .find_map(|item| item.get(group)?.items()?.first()?.get(tag))
        .or_else(|| attributes.get(tag))
}

fn first_item(attributes: &InMemDicomObject, tag: Tag) -> Option<&InMemDicomObject> {
    attributes.get(tag)?.items()?.first()
}

fn integer(attributes: &InMemDicomObject, tag: Tag) -> Option<usize> {
    let value = attributes.get(tag)?.to_int::<i64>().ok()?;
    usize::try_from(value).ok()
}

/// The first of the numbers of an element, if it is finite.
fn first_number(element: Option<&InMemElement>) -> Option<f64> {
    let number = element?.to_multi_float64().ok()?.first().copied();
    number.filter(|number| number.is_finite())
}

fn text(element: Option<&InMemElement>) -> Option<String> {
    let text = element?.to_str().ok()?;
    Some(text.trim_matches(['\0', ' ']).to_owned())
}

/// Class of the object, which is empty where the file does not say.
pub(super) fn class(attributes: &InMemDicomObject) -> String {
    text(attributes.get(tags::OBJECT_CLASS)).unwrap_or_default()
}
