//! The attributes that pixels depend on (PS3.6). None of them says anything about a person.

use dicom_core::Tag;

pub(super) const TRANSFER_SYNTAX: Tag = Tag(0x0002, 0x0010);
pub(super) const OBJECT_CLASS: Tag = Tag(0x0008, 0x0016);
pub(super) const NUMBER_OF_FRAMES: Tag = Tag(0x0028, 0x0008);
pub(super) const SAMPLES_PER_PIXEL: Tag = Tag(0x0028, 0x0002);
pub(super) const PHOTOMETRIC_INTERPRETATION: Tag = Tag(0x0028, 0x0004);
pub(super) const PLANAR_CONFIGURATION: Tag = Tag(0x0028, 0x0006);
pub(super) const ROWS: Tag = Tag(0x0028, 0x0010);
pub(super) const COLUMNS: Tag = Tag(0x0028, 0x0011);
pub(super) const BITS_ALLOCATED: Tag = Tag(0x0028, 0x0100);
pub(super) const BITS_STORED: Tag = Tag(0x0028, 0x0101);
pub(super) const HIGH_BIT: Tag = Tag(0x0028, 0x0102);
pub(super) const PIXEL_REPRESENTATION: Tag = Tag(0x0028, 0x0103);
pub(super) const PIXEL_PADDING_VALUE: Tag = Tag(0x0028, 0x0120);
pub(super) const PIXEL_PADDING_RANGE_LIMIT: Tag = Tag(0x0028, 0x0121);
pub(super) const WINDOW_CENTER: Tag = Tag(0x0028, 0x1050);
pub(super) const WINDOW_WIDTH: Tag = Tag(0x0028, 0x1051);
pub(super) const WINDOW_FUNCTION: Tag = Tag(0x0028, 0x1056);
pub(super) const RESCALE_INTERCEPT: Tag = Tag(0x0028, 0x1052);
pub(super) const RESCALE_SLOPE: Tag = Tag(0x0028, 0x1053);
/// Descriptors of the red, green and blue palette; the tables are 0x100 further on.
pub(super) const PALETTE_DESCRIPTORS: [Tag; 3] = [
    Tag(0x0028, 0x1101),
    Tag(0x0028, 0x1102),
    Tag(0x0028, 0x1103),
];
pub(super) const PALETTES: [Tag; 3] = [
    Tag(0x0028, 0x1201),
    Tag(0x0028, 0x1202),
    Tag(0x0028, 0x1203),
];
pub(super) const SEGMENTED_RED_PALETTE: Tag = Tag(0x0028, 0x1221);
pub(super) const MODALITY_LUT_SEQUENCE: Tag = Tag(0x0028, 0x3000);
pub(super) const LUT_DESCRIPTOR: Tag = Tag(0x0028, 0x3002);
pub(super) const LUT_DATA: Tag = Tag(0x0028, 0x3006);
pub(super) const VOI_LUT_SEQUENCE: Tag = Tag(0x0028, 0x3010);
pub(super) const FRAME_VOI_LUT_SEQUENCE: Tag = Tag(0x0028, 0x9132);
pub(super) const PIXEL_VALUE_TRANSFORMATION: Tag = Tag(0x0028, 0x9145);
pub(super) const SHARED_GROUPS: Tag = Tag(0x5200, 0x9229);
pub(super) const PER_FRAME_GROUPS: Tag = Tag(0x5200, 0x9230);
pub(super) const EXTENDED_OFFSET_TABLE: Tag = Tag(0x7fe0, 0x0001);
pub(super) const FLOAT_PIXELS: Tag = Tag(0x7fe0, 0x0008);
pub(super) const DOUBLE_PIXELS: Tag = Tag(0x7fe0, 0x0009);
pub(super) const PIXEL_DATA: Tag = Tag(0x7fe0, 0x0010);
