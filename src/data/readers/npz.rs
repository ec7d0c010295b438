//! MedMNIST: `{train,val,test}_images` and `_labels` in one `.npz` file.
//!
//! Images are `[N, H, W]` (grey) or `[N, H, W, 3]` of `u8` or `u16`; labels are `[N]` or `[N, 1]` of any integer type.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use npyz::{DType, NpyFile, Order, TypeChar};

use super::files::{list, stem_of};
use crate::data::dataset::{Dataset, Format, Sample, Source};
use crate::data::error::DataError;
use crate::data::pixels::{ImageArray, Samples};
use crate::data::split::Split;

type Archive = npyz::npz::NpzArchive<BufReader<File>>;

/// Shape, and element kind with its size in bytes.
type Header = (Vec<usize>, (TypeChar, u64));

/// More classes than this are taken for labels that are no classes.
const MAX_CLASSES: i64 = 4096;

/// Class names of the published two-dimensional single-label sets, by file name without the size suffix.
const KNOWN_CLASSES: [(&str, &[&str]); 9] = [
    (
        "bloodmnist",
        &[
            "basophil",
            "eosinophil",
            "erythroblast",
            "immature granulocyte",
            "lymphocyte",
            "monocyte",
            "neutrophil",
            "platelet",
        ],
    ),
    ("breastmnist", &["malignant", "normal or benign"]),
    (
        "dermamnist",
        &[
            "actinic keratosis",
            "basal cell carcinoma",
            "benign keratosis",
            "dermatofibroma",
            "melanoma",
            "melanocytic nevus",
            "vascular lesion",
        ],
    ),
    (
        "octmnist",
        &[
            "choroidal neovascularization",
            "diabetic macular edema",
            "drusen",
            "normal",
        ],
    ),
    ("organamnist", ORGANS),
    ("organcmnist", ORGANS),
    ("organsmnist", ORGANS),
    (
        "pathmnist",
        &[
            "adipose",
            "background",
            "debris",
            "lymphocytes",
            "mucus",
            "smooth muscle",
            "normal colon mucosa",
            "cancer-associated stroma",
            "colorectal adenocarcinoma epithelium",
        ],
    ),
    ("pneumoniamnist", &["normal", "pneumonia"]),
];

const ORGANS: &[&str] = &[
    "bladder",
    "femur left",
    "femur right",
    "heart",
    "kidney left",
    "kidney right",
    "liver",
    "lung left",
    "lung right",
    "pancreas",
    "spleen",
];

/// The one `.npz` file in a folder, if there is exactly one.
pub(super) fn inside(folder: &Path) -> Result<Option<PathBuf>, DataError> {
    let is_npz = |p: &PathBuf| p.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz"));
    let mut files: Vec<PathBuf> = list(folder)?.others.into_iter().filter(is_npz).collect();
    Ok(if files.len() == 1 { files.pop() } else { None })
}

pub(super) fn read(path: &Path) -> Result<Dataset, DataError> {
    let file = if path.is_dir() {
        inside(path)?.ok_or_else(|| {
            DataError::malformed(path, None, "expected exactly one .npz file in the folder")
        })?
    } else {
        path.to_owned()
    };
    let mut archive =
        Archive::open(&file).map_err(|e| DataError::malformed(&file, None, e.to_string()))?;
    let mut samples = Vec::new();
    for split in Split::ALL {
        let image_name = format!("{split}_images");
        let Some(array) = read_images(&mut archive, &file, &image_name)? else {
            continue;
        };
        let label_name = format!("{split}_labels");
        let labels = read_labels(&mut archive, &file, &label_name)?;
        let count = match &array.samples {
            Samples::U8(v) => v.len(),
            Samples::U16(v) => v.len(),
        } / (array.height * array.width * array.channels);
        if labels.len() != count {
            let message = format!(
                "`{image_name}` holds {count} images but `{label_name}` {} labels",
                labels.len()
            );
            return Err(DataError::malformed(&file, None, message));
        }
        let array = Arc::new(array);
        for (index, label) in labels.into_iter().enumerate() {
            if !(0..MAX_CLASSES).contains(&label) {
                let message = format!(
                    "label {index} of `{label_name}` is {label}, expected a class index from 0"
                );
                return Err(DataError::malformed(&file, None, message));
            }
            samples.push(Sample {
                id: format!("{split}/{index:06}"),
                source: Source::Array {
                    array: Arc::clone(&array),
                    index,
                },
                class: label as usize,
                split: Some(split),
            });
        }
    }
    if samples.is_empty() {
        let found: Vec<&str> = archive.array_names().collect();
        let message = format!(
            "no `train_images`, `val_images` or `test_images` with images; the arrays are {}",
            if found.is_empty() {
                "none".to_owned()
            } else {
                found.join(", ")
            }
        );
        return Err(DataError::malformed(&file, None, message));
    }
    let count = samples
        .iter()
        .map(|s| s.class + 1)
        .max()
        .unwrap_or_default();
    Ok(Dataset {
        root: file.clone(),
        format: Format::Medmnist,
        classes: class_names(&file, count),
        samples,
        problems: Vec::new(),
        notes: Vec::new(),
    })
}

fn class_names(file: &Path, count: usize) -> Vec<String> {
    let stem = stem_of(file).to_ascii_lowercase();
    let known = KNOWN_CLASSES
        .iter()
        .find(|(name, names)| stem.split('_').next() == Some(*name) && names.len() == count);
    match known {
        Some((_, names)) => names.iter().map(|&n| n.to_owned()).collect(),
        None => (0..count).map(|c| c.to_string()).collect(),
    }
}

fn read_images(
    archive: &mut Archive,
    file: &Path,
    name: &str,
) -> Result<Option<ImageArray>, DataError> {
    let error = |message: String| DataError::malformed(file, None, format!("`{name}`: {message}"));
    let Some((shape, kind)) = header(archive, file, name)? else {
        return Ok(None);
    };
    let (height, width, channels) = match shape[..] {
        [_, h, w] => (h, w, 1),
        [_, h, w, c @ (1 | 3)] => (h, w, c),
        _ => {
            return Err(error(format!(
                "shape {shape:?}, expected [N, H, W], [N, H, W, 1] or [N, H, W, 3]"
            )));
        }
    };
    if height == 0 || width == 0 || shape[0] == 0 {
        return Ok(None);
    }
    let samples = match kind {
        (TypeChar::Uint, 1) => Samples::U8(values(archive, file, name)?),
        (TypeChar::Uint, 2) => Samples::U16(values(archive, file, name)?),
        (kind, size) => {
            return Err(error(format!(
                "elements of type {}{size}, expected 8 or 16 bit unsigned integers",
                kind.to_str()
            )));
        }
    };
    Ok(Some(ImageArray {
        height,
        width,
        channels,
        samples,
    }))
}

fn read_labels(archive: &mut Archive, file: &Path, name: &str) -> Result<Vec<i64>, DataError> {
    let error = |message: String| DataError::malformed(file, None, format!("`{name}`: {message}"));
    let Some((shape, kind)) = header(archive, file, name)? else {
        return Err(error("the array is missing".to_owned()));
    };
    if !matches!(shape[..], [_] | [_, 1]) {
        return Err(error(format!(
            "shape {shape:?}, expected one class index per image: [N] or [N, 1]"
        )));
    }
    Ok(match kind {
        (TypeChar::Uint, 1) => widen(values::<u8>(archive, file, name)?),
        (TypeChar::Uint, 2) => widen(values::<u16>(archive, file, name)?),
        (TypeChar::Uint, 4) => widen(values::<u32>(archive, file, name)?),
        (TypeChar::Int, 1) => widen(values::<i8>(archive, file, name)?),
        (TypeChar::Int, 2) => widen(values::<i16>(archive, file, name)?),
        (TypeChar::Int, 4) => widen(values::<i32>(archive, file, name)?),
        (TypeChar::Int, 8) => values::<i64>(archive, file, name)?,
        (TypeChar::Uint, 8) => values::<u64>(archive, file, name)?
            .into_iter()
            .map(|v| i64::try_from(v).unwrap_or(i64::MAX))
            .collect(),
        (kind, size) => {
            return Err(error(format!(
                "elements of type {}{size}, expected integers",
                kind.to_str()
            )));
        }
    })
}

fn widen<T: Into<i64>>(values: Vec<T>) -> Vec<i64> {
    values.into_iter().map(Into::into).collect()
}

/// Shape and element type of an array, checked against the bytes that the archive says it has, so that a header cannot
/// ask for more memory than the file accounts for.
fn header(archive: &mut Archive, file: &Path, name: &str) -> Result<Option<Header>, DataError> {
    let error = |message: String| DataError::malformed(file, None, format!("`{name}`: {message}"));
    let stored = match archive.zip_archive().by_name(&format!("{name}.npy")) {
        // Deflate cannot shrink data further than this, whatever size the entry claims.
        Ok(entry) => entry
            .size()
            .min(entry.compressed_size().saturating_mul(1032)),
        Err(_) => return Ok(None),
    };
    let Some(array) = archive.by_name(name).map_err(|e| error(e.to_string()))? else {
        return Ok(None);
    };
    let DType::Plain(kind) = array.dtype() else {
        return Err(error(
            "structured elements, expected plain integers".to_owned(),
        ));
    };
    if array.order() != Order::C {
        return Err(error("Fortran order, expected C order".to_owned()));
    }
    let bytes = array
        .shape()
        .iter()
        .try_fold(kind.size_field(), |product, &dim| product.checked_mul(dim));
    if bytes.is_none_or(|bytes| bytes > stored) {
        return Err(error(format!(
            "shape {:?} needs more than the {stored} bytes stored",
            array.shape()
        )));
    }
    let shape = array.shape().iter().map(|&dim| dim as usize).collect();
    Ok(Some((shape, (kind.type_char(), kind.size_field()))))
}

fn values<T: npyz::Deserialize>(
    archive: &mut Archive,
    file: &Path,
    name: &str,
) -> Result<Vec<T>, DataError> {
    archive
        .by_name(name)
        .and_then(|array| match array {
            Some(array) => NpyFile::into_vec(array),
            None => Err(std::io::ErrorKind::NotFound.into()),
        })
        .map_err(|e| DataError::malformed(file, None, format!("`{name}`: {e}")))
}
