//! Transfer syntaxes: how a data set is written and its pixels are compressed (PS3.5, annex A; UIDs of PS3.6).

use super::structure::ElementEncoding;

/// A class of objects that is nothing but pixels.
pub(super) const SECONDARY_CAPTURE: &str = "1.2.840.10008.5.1.4.1.1.7";

/// How the pixels are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    /// The whole data set is deflated, its pixels are not compressed any further.
    DeflatedDataSet,
    /// Each frame is a fragment, as it is.
    Encapsulated,
    /// Each frame is deflated.
    DeflatedFrames,
    Rle,
    /// Baseline, extended and lossless JPEG.
    Jpeg,
    Jpeg2000,
}

impl Compression {
    /// True if the pixels are the value of their element rather than fragments inside it.
    pub fn is_native(self) -> bool {
        matches!(self, Self::None | Self::DeflatedDataSet)
    }

    /// Bytes of pixels that a byte of the file may become at most; `None` where it can be told exactly.
    pub fn name(self) -> &'static str {
        match self {
            Self::None | Self::DeflatedDataSet | Self::Encapsulated => "uncompressed",
            Self::DeflatedFrames => "deflated",
            Self::Rle => "RLE",
            Self::Jpeg => "JPEG",
            Self::Jpeg2000 => "JPEG 2000",
        }
    }
}

/// What to run where a transfer syntax is not read.
const DECOMPRESS: &str = "decompress the file with `gdcmconv --raw IN OUT` (GDCM)";

/// Compression and encoding of a transfer syntax.
///
/// # Errors
/// If it is not read; names it and says what to do.
pub(super) fn of(uid: &str) -> Result<(Compression, ElementEncoding), String> {
    let compression = match uid {
        "1.2.840.10008.1.2" => return Ok((Compression::None, ElementEncoding::IMPLICIT)),
        "1.2.840.10008.1.2.2" => return Ok((Compression::None, ElementEncoding::EXPLICIT_BIG)),
        "1.2.840.10008.1.2.1" => Compression::None,
        "1.2.840.10008.1.2.1.98" => Compression::Encapsulated,
        "1.2.840.10008.1.2.1.99" => Compression::DeflatedDataSet,
        "1.2.840.10008.1.2.8.1" => Compression::DeflatedFrames,
        "1.2.840.10008.1.2.5" => Compression::Rle,
        "1.2.840.10008.1.2.4.50"
        | "1.2.840.10008.1.2.4.51"
        | "1.2.840.10008.1.2.4.57"
        | "1.2.840.10008.1.2.4.70" => Compression::Jpeg,
        "1.2.840.10008.1.2.4.90"
        | "1.2.840.10008.1.2.4.91"
        | "1.2.840.10008.1.2.4.201"
        | "1.2.840.10008.1.2.4.202"
        | "1.2.840.10008.1.2.4.203" => jpeg_2000()?,
        other => return Err(refusal(other)),
    };
    Ok((compression, ElementEncoding::EXPLICIT))
}

fn jpeg_2000() -> Result<Compression, String> {
    if cfg!(feature = "openjp2") {
        return Ok(Compression::Jpeg2000);
    }
    Err(format!(
        "pixels compressed as JPEG 2000 are read by a build with the feature `openjp2` only: {DECOMPRESS}"
    ))
}

fn refusal(uid: &str) -> String {
    let name = match uid {
        "1.2.840.10008.1.2.4.80" | "1.2.840.10008.1.2.4.81" => {
            return "pixels compressed as JPEG-LS are not read: decompress the file with `dcmdjpls IN OUT` (DCMTK) or \
                    `gdcmconv --raw IN OUT` (GDCM)"
                .to_owned();
        }
        "1.2.840.10008.1.2.4.110" | "1.2.840.10008.1.2.4.111" | "1.2.840.10008.1.2.4.112" => {
            return "pixels compressed as JPEG XL are not read: convert the file to an uncompressed transfer syntax"
                .to_owned();
        }
        "1.2.840.10008.1.2.4.92" | "1.2.840.10008.1.2.4.93" => "multi-component JPEG 2000",
        "1.2.840.10008.1.2.4.94" | "1.2.840.10008.1.2.4.95" => {
            return "the pixels lie on a server (JPIP): fetch them first".to_owned();
        }
        _ if uid.starts_with("1.2.840.10008.1.2.4.10") => {
            return "the object is a video (MPEG or HEVC): extract its frames first, for example with `ffmpeg`"
                .to_owned();
        }
        _ if uid.starts_with("1.2.840.10008.1.2.4.") => "a rare or retired kind of JPEG",
        _ => {
            return format!("the DICOM file's transfer syntax is not known: {DECOMPRESS}");
        }
    };
    format!("pixels compressed as {name} are not read: {DECOMPRESS}")
}

/// UID of the uncompressed transfer syntax with this encoding.
pub(super) fn native_uid(encoding: ElementEncoding) -> &'static str {
    match (encoding.explicit, encoding.big_endian) {
        (false, _) => "1.2.840.10008.1.2",
        (true, false) => "1.2.840.10008.1.2.1",
        (true, true) => "1.2.840.10008.1.2.2",
    }
}

/// What an object is that has no pixels, by its class.
pub(super) fn without_pixels(class: &str) -> &'static str {
    const STORAGE: &str = "1.2.840.10008.5.1.4.1.1.";
    let Some(kind) = class.strip_prefix(STORAGE) else {
        return match class {
            "1.2.840.10008.1.3.10" => "it's a directory of other files (DICOMDIR)",
            _ => "it has no pixel data",
        };
    };
    let family = |prefix: &str| kind == prefix || kind.starts_with(&format!("{prefix}."));
    match kind {
        "481.3" => "it's a set of contours (RT structure set)",
        "481.5" | "481.8" => "it's a radiotherapy plan",
        "4.2" => "it's a spectrum",
        _ if family("481") => "it's a radiotherapy object without pixel data",
        _ if family("88") => "it's a structured report",
        _ if family("11") => "it's a presentation state",
        _ if family("104") => "it's a document",
        _ if family("9") => "it's a waveform",
        _ if family("66") => "it's a registration or raw data",
        _ => "it has no pixel data",
    }
}
