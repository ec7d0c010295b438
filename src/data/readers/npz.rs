//! Arrays of images and labels in one `.npz` file: MedMNIST's, and those that people save themselves.
//!
//! Images are `[N, H, W]`, `[N, H, W, C]` or `[N, C, H, W]`, integers or floating point, in C or Fortran order. Labels
//! are class indices `[N]` or `[N, 1]`, from 0 or from 1, or one-hot `[N, K]`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use npyz::{DType, Endianness, NpyHeader, Order, TypeChar};
use zip::{CompressionMethod, ZipArchive};

use super::files::Folder;
use super::paths::stem_of;
use crate::bytes::{available_memory_bytes, readable};
use crate::data::array::{ArrayBytes, Element, ImageArray, NumberArray};
use crate::data::dataset::{DataFormat, Dataset, PixelSource, Sample};
use crate::data::error::DataError;
use crate::data::split::Split;

/// More classes than this are taken for labels that are no classes.
const MAX_CLASSES: usize = 4096;

/// Deflate cannot shrink data further than this, whatever size an entry claims.
const MAX_EXPANSION: u64 = 1032;

/// Names of arrays of images and of labels, of sets that are split (`train_images`, `x_train`) and of those that are not.
const IMAGES: [&str; 6] = ["images", "imgs", "image", "x", "X", "data"];
const LABELS: [&str; 7] = ["labels", "label", "y", "Y", "targets", "target", "classes"];
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

/// The one `.npz` file in a folder.
pub(super) fn inside(folder: &Folder) -> Result<PathBuf, DataError> {
    let mut files = folder.with_extension("npz");
    match (files.next(), files.next()) {
        (Some(file), None) => Ok(file.clone()),
        _ => Err(DataError::malformed(
            &folder.path,
            None,
            "expected exactly one .npz file in the folder",
        )),
    }
}

/// Reads the arrays of `file`.
pub(super) fn read(file: &Path) -> Result<Dataset, DataError> {
    let mut archive = Archive::open(file)?;
    let mut samples = Vec::new();
    let mut notes = Vec::new();
    let mut labels_of_all = Vec::new();
    let mut parts = Vec::new();
    for split in Split::ALL {
        parts.push((
            Some(split),
            split_names(split, &IMAGES),
            split_names(split, &LABELS),
        ));
    }
    let plain = |names: &[&str], fallback: &str| {
        let names = names.iter().copied().chain([fallback]);
        names.map(str::to_owned).collect::<Vec<String>>()
    };
    parts.push((None, plain(&IMAGES, "arr_0"), plain(&LABELS, "arr_1")));
    for (split, image_names, label_names) in parts {
        // An array without a split counts where there is none with one.
        if split.is_none() && !samples.is_empty() {
            break;
        }
        let Some(image_name) = archive.first_of(&image_names) else {
            continue;
        };
        let array = archive.array(&image_name)?;
        let array = ImageArray::new(array).map_err(|e| archive.error(&image_name, &e))?;
        if array.is_empty() {
            continue;
        }
        let Some(label_name) = archive.first_of(&label_names) else {
            return Err(archive.error(&label_names[0], "the array is missing"));
        };
        let labels = class_indices(&archive.array(&label_name)?)
            .map_err(|message| archive.error(&label_name, &message))?;
        if labels.len() != array.len() {
            let message = format!(
                "{} images but `{label_name}` {} labels",
                array.len(),
                labels.len()
            );
            return Err(archive.error(&image_name, &message));
        }
        let array = Arc::new(array);
        let prefix = split.map_or("image", Split::name);
        for (index, &label) in labels.iter().enumerate() {
            samples.push(Sample {
                id: format!("{prefix}/{index:06}"),
                source: PixelSource::Array {
                    array: Arc::clone(&array),
                    index,
                },
                class: label,
                split,
                group: None,
            });
        }
        labels_of_all.extend(labels);
    }
    if samples.is_empty() {
        return Err(archive.without_images());
    }
    let first = labels_of_all.iter().copied().min().unwrap_or_default();
    let last = labels_of_all.iter().copied().max().unwrap_or_default();
    let from_one = first == 1 && last > 1;
    if from_one {
        notes.push(format!(
            "labels count from 1: class 1 has index 0, class {last} has index {}",
            last - 1
        ));
        samples.iter_mut().for_each(|sample| sample.class -= 1);
    }
    let count = if from_one { last } else { last + 1 };
    Ok(Dataset {
        classes: class_names(file, count, usize::from(from_one)),
        samples,
        notes,
        ..Dataset::empty(file, DataFormat::Medmnist)
    })
}

/// The names that an array of a split may have.
fn split_names(split: Split, kinds: &[&str]) -> Vec<String> {
    let words: &[&str] = match split {
        Split::Train => &["train"],
        Split::Val => &["val", "valid", "validation"],
        Split::Test => &["test"],
    };
    let mut names = Vec::new();
    for kind in kinds {
        for word in words {
            names.push(format!("{word}_{kind}"));
            names.push(format!("{kind}_{word}"));
        }
    }
    names
}

fn class_names(file: &Path, count: usize, first: usize) -> Vec<String> {
    let stem = stem_of(file).to_ascii_lowercase();
    let known = KNOWN_CLASSES
        .iter()
        .find(|(name, names)| stem.split('_').next() == Some(*name) && names.len() == count);
    match known {
        Some((_, names)) => names.iter().map(|&n| n.to_owned()).collect(),
        None => (first..first + count).map(|c| c.to_string()).collect(),
    }
}

/// The class index of each image, of `[N]`, `[N, 1]` or one-hot `[N, K]`.
fn class_indices(array: &NumberArray) -> Result<Vec<usize>, String> {
    let one_hot = match array.shape[..] {
        [_] | [_, 1] => false,
        [_, _] => true,
        _ => {
            return Err(format!(
                "shape {:?}, expected one class index per image ([N] or [N, 1]) or one-hot rows ([N, K])",
                array.shape
            ));
        }
    };
    let index = |(row, values): (usize, Vec<f64>)| {
        if one_hot {
            let ones: Vec<usize> = (0..values.len()).filter(|&k| values[k] == 1.0).collect();
            let zeros = values.iter().filter(|&&v| v == 0.0).count();
            return match ones[..] {
                [class] if zeros + 1 == values.len() => Ok(class),
                _ => Err(format!(
                    "row {row} is {values:?}, expected a single 1 among zeros, for one class index per image"
                )),
            };
        }
        let value = values[0];
        if value.fract() == 0.0 && (0.0..MAX_CLASSES as f64).contains(&value) {
            return Ok(value as usize);
        }
        Err(format!(
            "label {row} is {value}, expected a class index from 0"
        ))
    };
    array.rows().enumerate().map(index).collect()
}

/// An open `.npz` file.
struct Archive {
    path: PathBuf,
    zip: ZipArchive<BufReader<File>>,
    file_bytes: u64,
    map: Option<Arc<Mmap>>,
}

impl Archive {
    fn open(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::io("open", path))?;
        let file_bytes = file.metadata().map_err(DataError::io("read", path))?.len();
        let zip = ZipArchive::new(BufReader::new(file))
            .map_err(|e| DataError::malformed(path, None, format!("no .npz file: {e}")))?;
        Ok(Self {
            path: path.to_owned(),
            zip,
            file_bytes,
            map: None,
        })
    }

    fn error(&self, name: &str, message: &str) -> DataError {
        DataError::malformed(&self.path, None, format!("`{name}`: {message}"))
    }

    fn without_images(&self) -> DataError {
        let names = self.zip.file_names().flatten();
        let mut names: Vec<String> = names
            .map(|name| name.trim_end_matches(".npy").to_owned())
            .collect();
        names.sort_unstable();
        let found = if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        };
        let message = format!(
            "no `train_images`, `val_images` or `test_images`, nor `images`, with images; the arrays are {found}"
        );
        DataError::malformed(&self.path, None, message)
    }

    /// The first of `names` that the archive has.
    fn first_of(&self, names: &[String]) -> Option<String> {
        let has = |name: &&String| self.zip.index_for_name(&format!("{name}.npy")).is_some();
        names.iter().find(has).cloned()
    }

    /// The array `name`: mapped where it is stored as it is, read where it is compressed.
    fn array(&mut self, name: &str) -> Result<NumberArray, DataError> {
        let bytes = self.bytes(name)?;
        self.parse(bytes)
            .map_err(|message| self.error(name, &message))
    }

    fn bytes(&mut self, name: &str) -> Result<ArrayBytes, DataError> {
        let path = self.path.clone();
        let error =
            |message: String| DataError::malformed(&path, None, format!("`{name}`: {message}"));
        let mut entry = self
            .zip
            .by_name(&format!("{name}.npy"))
            .map_err(|e| error(e.to_string()))?;
        if entry.compression() == CompressionMethod::Stored
            && let Some(start) = entry.data_start()
        {
            let size = entry.size();
            drop(entry);
            let map = self.map()?;
            let end = start
                .checked_add(size)
                .filter(|&end| end <= map.len() as u64);
            let Some(end) = end else {
                return Err(error(format!(
                    "{size} bytes lie beyond the end of the file"
                )));
            };
            return Ok(ArrayBytes::Mapped(map, start as usize..end as usize));
        }
        // The claimed size is believed as far as the file can account for it.
        let stored = entry.compressed_size().min(self.file_bytes);
        let size = entry.size().min(stored.saturating_mul(MAX_EXPANSION));
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if let Some(free) = available_memory_bytes()
            && size > free
        {
            return Err(error(format!(
                "{} do not fit into the {} of memory that are free; saved uncompressed (numpy.savez) the array need not \
                 be read",
                readable(size),
                readable(free)
            )));
        }
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(size)
            .map_err(|e| error(e.to_string()))?;
        (&mut entry)
            .take(size as u64)
            .read_to_end(&mut bytes)
            .map_err(|e| error(e.to_string()))?;
        Ok(ArrayBytes::Owned(bytes))
    }

    fn map(&mut self) -> Result<Arc<Mmap>, DataError> {
        if let Some(map) = &self.map {
            return Ok(Arc::clone(map));
        }
        let file = File::open(&self.path).map_err(DataError::io("open", &self.path))?;
        // SAFETY: the map is read-only and private to this process. Who truncates a data set under a running program
        // gets a bus error, as with any memory-mapped format.
        let map = unsafe { Mmap::map(&file) }.map_err(DataError::io("map", &self.path))?;
        let map = Arc::new(map);
        self.map = Some(Arc::clone(&map));
        Ok(map)
    }

    /// Shape and element type of an array, checked against the bytes that there are.
    fn parse(&self, bytes: ArrayBytes) -> Result<NumberArray, String> {
        let all = bytes.as_slice();
        if header_bytes(all).is_none_or(|needed| needed > all.len()) {
            return Err("the header of the array is damaged".to_owned());
        }
        let mut rest = all;
        let header = NpyHeader::from_reader(&mut rest).map_err(|e| e.to_string())?;
        let start = all.len() - rest.len();
        let DType::Plain(kind) = header.dtype() else {
            return Err("structured elements, expected plain numbers".to_owned());
        };
        let size = kind.size_field() as usize;
        let element = match (kind.type_char(), size) {
            (TypeChar::Bool, 1) => Element::Bool,
            (TypeChar::Uint, 1 | 2 | 4 | 8) => Element::Unsigned(size),
            (TypeChar::Int, 1 | 2 | 4 | 8) => Element::Signed(size),
            (TypeChar::Float, 2 | 4 | 8) => Element::Float(size),
            (kind, size) => {
                return Err(format!(
                    "elements of type {}{size}, expected numbers",
                    kind.to_str()
                ));
            }
        };
        let shape: Vec<usize> = header.shape().iter().map(|&dim| dim as usize).collect();
        let needed = shape
            .iter()
            .try_fold(size, |product, &dim| product.checked_mul(dim));
        if needed.is_none_or(|needed| needed > rest.len()) {
            return Err(format!(
                "shape {shape:?} needs more than the {} bytes stored",
                rest.len()
            ));
        }
        Ok(NumberArray {
            strides: strides(&shape, header.order()),
            shape,
            element,
            big_endian: kind.endianness() == Endianness::Big,
            bytes: bytes.skip(start),
        })
    }
}

/// Bytes of an array's header as it says itself: a magic number, a version, and a length of 2 bytes or, from version 2
/// on, 4.
fn header_bytes(bytes: &[u8]) -> Option<usize> {
    let length = match *bytes.get(6)? {
        1 => usize::from(u16::from_le_bytes(*bytes.get(8..)?.first_chunk()?)),
        _ => u32::from_le_bytes(*bytes.get(8..)?.first_chunk()?) as usize,
    };
    length.checked_add(8)
}

/// Elements from one index to the next, by dimension.
fn strides(shape: &[usize], order: Order) -> Vec<usize> {
    let mut strides = vec![0; shape.len()];
    let mut step = 1;
    let mut visit = |dimension: usize| {
        strides[dimension] = step;
        step *= shape[dimension];
    };
    match order {
        Order::C => (0..shape.len()).rev().for_each(&mut visit),
        Order::Fortran => (0..shape.len()).for_each(&mut visit),
    }
    strides
}
