//! Every layout that the readers know, laid out as small folders, and every way in which one can be wrong.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use image::{DynamicImage, GrayImage, ImageBuffer, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use medfusion::data::{
    DataError, DataFormat, DataProblem, Dataset, DatasetReport, LeftOutReason, OnMismatch,
    OpenOptions, PixelValues, Pixels, Split, UnknownPolicy, contact_sheet,
};
use tempfile::TempDir;

use crate::shared::{present, shared};

fn save(path: &Path, image: impl Into<DynamicImage>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image.into().save(path).unwrap();
}

/// A small image whose pixels depend on `seed`.
fn tile(seed: u32, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([
            (x * 7 + seed) as u8,
            (y * 5 + seed * 3) as u8,
            (seed * 11) as u8,
        ])
    })
}

fn open(path: &Path) -> Result<Dataset, DataError> {
    Dataset::open(path, &OpenOptions::default())
}

fn lenient() -> OpenOptions {
    OpenOptions {
        on_mismatch: OnMismatch::Skip,
        ..OpenOptions::default()
    }
}

fn problems(path: &Path, options: &OpenOptions) -> Vec<DataProblem> {
    Dataset::inspect(path, options).unwrap().problems().to_vec()
}

/// A real set, below `MEDFUSION_DATA` or where they are shared.
pub fn real(name: &str) -> Option<PathBuf> {
    match std::env::var_os("MEDFUSION_DATA") {
        Some(root) => present(Path::new(&root).join(name)),
        None => shared(&format!("data/{name}")),
    }
}

#[test]
fn image_folder_with_every_extension() {
    let dir = TempDir::new().unwrap();
    for (i, name) in [
        "a/1.png",
        "a/2.JPG",
        "a/3.jpeg",
        "b/4.tif",
        "b/5.tiff",
        "b/deep/er/6.bmp",
    ]
    .iter()
    .enumerate()
    {
        save(&dir.path().join(name), tile(i as u32, 9, 6));
    }
    fs::write(dir.path().join("a/notes.txt"), "x").unwrap();
    fs::write(dir.path().join("a/.hidden.png"), "x").unwrap();
    let set = open(dir.path()).unwrap();
    assert_eq!(set.format(), DataFormat::Folder);
    assert_eq!(set.classes(), ["a", "b"]);
    assert_eq!(set.counts(), [3, 3]);
    assert!(set.splits().is_empty());
    let extension = "txt".to_owned();
    assert_eq!(
        set.left_out().count(&LeftOutReason::NoImage { extension }),
        1
    );
    assert_eq!(set.left_out().count(&LeftOutReason::Hidden), 1);
    let ids: Vec<&str> = set.samples().iter().map(|s| s.id.as_str()).collect();
    assert_eq!(ids, ["a/1", "a/2", "a/3", "b/4", "b/5", "b/deep/er/6"]);
    for index in 0..set.len() {
        let pixels = set.pixels(index).unwrap();
        assert_eq!((pixels.width, pixels.height, pixels.channels), (9, 6, 3));
    }
    assert_eq!(
        set.select(Split::Test).unwrap().len(),
        6,
        "an unsplit set is one split"
    );
}

#[test]
fn image_folder_with_splits() {
    let dir = TempDir::new().unwrap();
    for (i, name) in [
        "train/a/1.png",
        "train/b/2.png",
        "valid/a/1.png",
        "valid/b/9.png",
        "Testing/a/3.png",
        "Testing/b/4.png",
    ]
    .iter()
    .enumerate()
    {
        save(&dir.path().join(name), tile(i as u32, 4, 4));
    }
    let set = open(dir.path()).unwrap();
    assert_eq!(set.splits(), Split::ALL);
    assert_eq!(set.classes(), ["a", "b"]);
    assert_eq!(set.select(Split::Val).unwrap().counts(), [1, 1]);
    fs::remove_dir_all(dir.path().join("Testing")).unwrap();
    let error = open(dir.path())
        .unwrap()
        .select(Split::Test)
        .unwrap_err()
        .to_string();
    assert!(error.contains("test split, only train and val"), "{error}");
}

#[test]
fn a_class_named_like_a_split_stays_a_class() {
    let dir = TempDir::new().unwrap();
    save(&dir.path().join("control/1.png"), tile(0, 4, 4));
    save(&dir.path().join("test/1.png"), tile(1, 4, 4));
    let set = open(dir.path()).unwrap();
    assert_eq!(set.classes(), ["control", "test"]);
    assert!(set.splits().is_empty());
}

/// A folder beside the splits is neither a split nor a class, and its images are not silently trained on.
#[test]
fn a_stray_folder_beside_the_splits_is_named() {
    let dir = TempDir::new().unwrap();
    for name in ["train/a/1.png", "test/a/2.png", "masks/1.png"] {
        save(&dir.path().join(name), tile(0, 4, 4));
    }
    let error = open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("masks/1.png` has no label"), "{error}");
    let set = Dataset::open(dir.path(), &lenient()).unwrap();
    assert_eq!((set.len(), set.classes().len()), (2, 1));
}

#[test]
fn a_flat_folder_is_one_class() {
    let dir = TempDir::new().unwrap();
    let flat = dir.path().join("scans");
    save(&flat.join("1.png"), tile(0, 4, 4));
    let set = open(&flat).unwrap();
    assert_eq!(set.classes(), ["scans"]);
}

#[test]
fn image_folder_problems() {
    let dir = TempDir::new().unwrap();
    save(&dir.path().join("a/1.png"), tile(0, 4, 4));
    save(&dir.path().join("a/1.bmp"), tile(1, 4, 4));
    save(&dir.path().join("stray.png"), tile(2, 4, 4));
    fs::create_dir(dir.path().join("b")).unwrap();
    let found = problems(dir.path(), &OpenOptions::default());
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(matches!(&found[0], DataProblem::Unlabelled { path } if path.ends_with("stray.png")));
    assert!(matches!(&found[1], DataProblem::EmptyClass { class, split: None } if class == "b"));
    let error = open(dir.path()).unwrap_err().to_string();
    for part in ["stray.png", "class `b` has no image"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    let set = Dataset::open(dir.path(), &lenient()).unwrap();
    assert_eq!((set.len(), set.classes().len()), (2, 2));
    let ids: Vec<&str> = set.samples().iter().map(|s| s.id.as_str()).collect();
    assert_eq!(
        ids,
        ["a/1.bmp", "a/1.png"],
        "names that differ in the extension alone are two"
    );
}

#[test]
fn a_class_missing_from_one_split_is_named() {
    let dir = TempDir::new().unwrap();
    for name in ["train/a/1.png", "train/b/1.png", "test/a/1.png"] {
        save(&dir.path().join(name), tile(0, 4, 4));
    }
    let error = open(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("class `b` has no image in the test split"),
        "{error}"
    );
}

#[test]
fn nothing_to_read() {
    let dir = TempDir::new().unwrap();
    let error = open(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("is not a data set") && error.contains("0 folders"),
        "{error}"
    );
    let error = open(&dir.path().join("absent")).unwrap_err().to_string();
    assert!(error.contains("absent"), "{error}");
    let file = dir.path().join("x.txt");
    fs::write(&file, "").unwrap();
    assert!(matches!(open(&file), Err(DataError::Unrecognised { .. })));
    let folder = OpenOptions {
        format: DataFormat::Folder,
        ..OpenOptions::default()
    };
    assert!(
        Dataset::open(&file, &folder)
            .unwrap_err()
            .to_string()
            .contains("is a file")
    );
    assert!(Dataset::open(dir.path(), &folder).is_err());
}

#[test]
fn crcdx_is_recognised_and_its_classes_are_fixed() {
    let dir = TempDir::new().unwrap();
    save(
        &dir.path().join("CRC_DX_TRAIN/MSIH/blk-1.png"),
        tile(0, 8, 8),
    );
    save(
        &dir.path().join("CRC_DX_TRAIN/nonMSIH/blk-2.png"),
        tile(1, 8, 8),
    );
    save(
        &dir.path().join("CRC_DX_TEST/MSIH/blk-3.png"),
        tile(2, 8, 8),
    );
    save(
        &dir.path().join("CRC_DX_TEST/nonMSIH/blk-4.png"),
        tile(3, 8, 8),
    );
    let set = open(dir.path()).unwrap();
    assert_eq!(set.format(), DataFormat::Crcdx);
    assert_eq!(set.classes(), ["MSIH", "nonMSIH"]);
    assert_eq!(set.splits(), [Split::Train, Split::Test]);

    let dir = TempDir::new().unwrap();
    save(&dir.path().join("MSIH/1.png"), tile(0, 8, 8));
    save(&dir.path().join("MSS/2.png"), tile(0, 8, 8));
    let options = OpenOptions {
        format: DataFormat::Crcdx,
        ..OpenOptions::default()
    };
    let found = problems(dir.path(), &options);
    assert!(matches!(&found[0], DataProblem::Unlabelled { path } if path.ends_with("MSS/2.png")));
    assert!(matches!(&found[1], DataProblem::EmptyClass { class, .. } if class == "nonMSIH"));
}

fn airogs(dir: &Path, csv: &str, images: &[&str]) {
    fs::write(dir.join("train_labels.csv"), csv).unwrap();
    for (i, name) in images.iter().enumerate() {
        save(&dir.join(name), tile(i as u32, 5, 5));
    }
}

#[test]
fn airogs_layout() {
    let dir = TempDir::new().unwrap();
    let csv = "challenge_id,class\nTRAIN000002,RG\nTRAIN000001,NRG\nTRAIN000000,NRG\n";
    airogs(
        dir.path(),
        csv,
        &[
            "img/TRAIN000000.jpg",
            "img/TRAIN000001.jpg",
            "img/TRAIN000002.jpg",
        ],
    );
    let set = open(dir.path()).unwrap();
    assert_eq!(set.format(), DataFormat::Airogs);
    assert_eq!(set.classes(), ["NRG", "RG"]);
    assert_eq!(set.counts(), [2, 1]);
    assert_eq!(set.samples()[2].id, "TRAIN000002");
}

#[test]
fn airogs_labels_that_disagree_with_the_folder() {
    let dir = TempDir::new().unwrap();
    let csv = "challenge_id,class\nT0,RG\nT1,NRG\nT2,NRG\nT3,maybe\nT0,NRG\n";
    airogs(
        dir.path(),
        csv,
        &["img/T0.jpg", "img/T1.jpg", "img/T3.jpg", "img/T4.jpg"],
    );
    let found = problems(dir.path(), &OpenOptions::default());
    let expected = |p: &DataProblem| match p {
        DataProblem::MissingImage { id, line } => id == "T2" && *line == 4,
        DataProblem::UnknownClass {
            id, class, line, ..
        } => id == "T3" && class == "maybe" && *line == 5,
        DataProblem::DuplicateId { id, places } => id == "T0" && places == "lines 2 and 6",
        DataProblem::Unlabelled { path } => path.ends_with("img/T4.jpg"),
        _ => false,
    };
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.iter().all(expected), "{found:?}");
    assert!(matches!(
        open(dir.path()),
        Err(DataError::Inconsistent { .. })
    ));
    assert_eq!(
        Dataset::open(dir.path(), &lenient()).unwrap().counts(),
        [1, 1]
    );
}

#[test]
fn airogs_twice_the_same_file_name_and_a_broken_csv() {
    let dir = TempDir::new().unwrap();
    airogs(
        dir.path(),
        "challenge_id,class\nT0,RG\nT1,NRG\nT2,RG\n",
        &["a/T0.jpg", "b/T0.jpg", "a/T1.jpg", "a/T2.jpg"],
    );
    let found = problems(dir.path(), &OpenOptions::default());
    assert!(
        matches!(&found[..], [DataProblem::DuplicateId { id, .. }] if id == "T0"),
        "{found:?}"
    );
    fs::write(
        dir.path().join("train_labels.csv"),
        "challenge_id,class\nT0\n",
    )
    .unwrap();
    let error = open(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("train_labels.csv") && error.contains("line 2"),
        "{error}"
    );
}

const CHEXPERT_HEADER: &str = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Cardiomegaly,Edema\n";

fn chexpert(dir: &Path, rows: &[(&str, &str, &str)]) -> PathBuf {
    let mut csv = CHEXPERT_HEADER.to_owned();
    for (path, view, finding) in rows {
        csv += &format!("{path},Female,68,{view},AP,,{finding},1.0\n");
        save(
            &dir.join(path),
            GrayImage::from_pixel(6, 6, Luma([path.len() as u8])),
        );
    }
    let table = dir.join("train.csv");
    fs::write(&table, csv).unwrap();
    table
}

const CHEXPERT_ROWS: [(&str, &str, &str); 5] = [
    (
        "CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg",
        "Frontal",
        "1.0",
    ),
    (
        "CheXpert-v1.0/train/patient00001/study1/view2_lateral.jpg",
        "Lateral",
        "1.0",
    ),
    (
        "CheXpert-v1.0/train/patient00002/study1/view1_frontal.jpg",
        "Frontal",
        "0.0",
    ),
    (
        "CheXpert-v1.0/train/patient00003/study1/view1_frontal.jpg",
        "Frontal",
        "-1.0",
    ),
    (
        "CheXpert-v1.0/train/patient00004/study2/view1_frontal.jpg",
        "Frontal",
        "",
    ),
];

#[test]
fn chexpert_layout_and_unknown_findings() {
    let dir = TempDir::new().unwrap();
    chexpert(dir.path(), &CHEXPERT_ROWS);
    let set = open(dir.path()).unwrap();
    assert_eq!(set.format(), DataFormat::Chexpert);
    assert_eq!(set.classes(), ["No Cardiomegaly", "Cardiomegaly"]);
    assert_eq!(set.counts(), [3, 1], "unknown counts as negative");
    assert_eq!(set.splits(), [Split::Train]);
    assert!(set.notes()[0].contains("1 lateral"), "{:?}", set.notes());
    assert!(set.notes()[1].contains("1 uncertain finding (-1) counts as negative"));
    assert!(set.notes()[2].contains("1 empty finding (not mentioned) counts as negative"));
    let with = |policy| OpenOptions {
        uncertain: policy,
        not_mentioned: policy,
        ..OpenOptions::default()
    };
    let counts = |o: &OpenOptions| Dataset::open(dir.path(), o).unwrap().counts();
    assert_eq!(counts(&with(UnknownPolicy::Positive)), [1, 3]);
    assert_eq!(counts(&with(UnknownPolicy::Skip)), [1, 1]);
    let apart = OpenOptions {
        uncertain: UnknownPolicy::Positive,
        not_mentioned: UnknownPolicy::Skip,
        ..OpenOptions::default()
    };
    assert_eq!(counts(&apart), [1, 2], "two policies");
    let edema = OpenOptions {
        finding: "Edema".to_owned(),
        ..lenient()
    };
    assert_eq!(Dataset::open(dir.path(), &edema).unwrap().counts(), [0, 4]);
    let wrong = OpenOptions {
        finding: "Cardiomegalie".to_owned(),
        ..OpenOptions::default()
    };
    let error = Dataset::open(dir.path(), &wrong).unwrap_err().to_string();
    assert!(
        error.contains("no column `Cardiomegalie`") && error.contains("Edema"),
        "{error}"
    );
    assert_eq!(set.pixels(0).unwrap().channels, 1);
}

/// The released archive has the tables inside the folder that their paths start with.
#[test]
fn chexpert_with_the_tables_inside() {
    let dir = TempDir::new().unwrap();
    chexpert(dir.path(), &CHEXPERT_ROWS);
    let inner = dir.path().join("CheXpert-v1.0");
    fs::rename(dir.path().join("train.csv"), inner.join("train.csv")).unwrap();
    let renamed = dir.path().join("chexpert-small");
    fs::rename(inner, &renamed).unwrap();
    assert_eq!(open(&renamed).unwrap().counts(), [3, 1]);
}

#[test]
fn chexpert_labels_that_disagree_with_the_folder() {
    let dir = TempDir::new().unwrap();
    let table = chexpert(dir.path(), &CHEXPERT_ROWS);
    fs::remove_file(dir.path().join(CHEXPERT_ROWS[2].0)).unwrap();
    let extra = "CheXpert-v1.0/train/patient00009/study1/view1_frontal.jpg";
    save(&dir.path().join(extra), GrayImage::new(4, 4));
    let mut file = fs::OpenOptions::new().append(true).open(&table).unwrap();
    writeln!(file, "{},Male,1,Frontal,AP,,0.0,", CHEXPERT_ROWS[0].0).unwrap();
    let fifth = "CheXpert-v1.0/train/patient00005/study1/view1_frontal.jpg";
    save(&dir.path().join(fifth), GrayImage::new(4, 4));
    writeln!(file, "{fifth},Male,1,Frontal,AP,,2.0,").unwrap();
    let found = problems(dir.path(), &OpenOptions::default());
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(matches!(
        &found[0],
        DataProblem::MissingImage { line: 4, .. }
    ));
    assert!(
        matches!(&found[1], DataProblem::DuplicateId { places, .. } if places.contains("line 7"))
    );
    assert!(
        matches!(&found[2], DataProblem::UnknownClass { class, line: 8, .. } if class == "2.0")
    );
    assert!(matches!(&found[3], DataProblem::Unlabelled { path } if path.ends_with(extra)));
}

/// Writes arrays of `u8` with the given shapes as an `.npz` file.
fn npz(path: &Path, arrays: &[(&str, &[u64], Vec<u8>)]) {
    use npyz::WriterBuilder;
    let mut bytes = Vec::new();
    {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(&mut bytes));
        for (name, shape, values) in arrays {
            let options = zip::write::SimpleFileOptions::default();
            zip.start_file(format!("{name}.npy"), options).unwrap();
            let mut writer = npyz::WriteOptions::new()
                .default_dtype()
                .shape(shape)
                .writer(&mut zip)
                .begin_nd()
                .unwrap();
            writer.extend(values.iter().copied()).unwrap();
            writer.finish().unwrap();
        }
        zip.finish().unwrap();
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn medmnist_grey_and_rgb() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("toy.npz");
    npz(
        &file,
        &[
            ("train_images", &[3, 2, 4], (0..24).collect()),
            ("train_labels", &[3, 1], vec![0, 2, 1]),
            ("test_images", &[1, 2, 4], vec![9; 8]),
            ("test_labels", &[1], vec![2]),
        ],
    );
    let set = Dataset::inspect(&file, &OpenOptions::default()).unwrap();
    assert_eq!(set.classes(), ["0", "1", "2"]);
    assert_eq!(set.splits(), [Split::Train, Split::Test]);
    let second = Pixels {
        width: 4,
        height: 2,
        channels: 1,
        samples: PixelValues::U8((8..16).collect()),
    };
    assert_eq!(set.pixels(1).unwrap(), second);
    assert_eq!(
        set.problems().len(),
        2,
        "classes 0 and 1 are missing from the test split"
    );

    let rgb = dir.path().join("PneumoniaMNIST_64.npz");
    npz(
        &rgb,
        &[
            ("train_images", &[2, 1, 1, 3], vec![1, 2, 3, 4, 5, 6]),
            ("train_labels", &[2, 1], vec![0, 1]),
        ],
    );
    let set = open(&rgb).unwrap();
    assert_eq!(set.classes(), ["normal", "pneumonia"]);
    assert_eq!(
        set.pixels(1).unwrap().samples,
        PixelValues::U8(vec![4, 5, 6])
    );
}

#[test]
fn medmnist_files_that_are_wrong() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("toy.npz");
    let error = || open(&file).unwrap_err().to_string();
    npz(
        &file,
        &[
            ("train_images", &[2, 2, 2], vec![0; 8]),
            ("train_labels", &[3], vec![0; 3]),
        ],
    );
    assert!(
        error().contains("2 images but `train_labels` 3 labels"),
        "{}",
        error()
    );
    npz(&file, &[("train_images", &[2, 2, 2], vec![0; 8])]);
    assert!(
        error().contains("`train_labels`: the array is missing"),
        "{}",
        error()
    );
    npz(
        &file,
        &[
            ("train_images", &[1, 2, 2, 2], vec![0; 8]),
            ("train_labels", &[1], vec![0]),
        ],
    );
    assert!(error().contains("shape [1, 2, 2, 2]"), "{}", error());
    npz(
        &file,
        &[
            ("train_images", &[1, 2, 2], vec![0; 4]),
            ("train_labels", &[1, 14], vec![0; 14]),
        ],
    );
    assert!(error().contains("one class index per image"), "{}", error());
    npz(&file, &[("foo", &[1], vec![0])]);
    assert!(error().contains("the arrays are foo"), "{}", error());
    npz(
        &file,
        &[
            ("train_images", &[2, 2, 2], vec![0; 8]),
            ("train_labels", &[2], vec![0, 2]),
        ],
    );
    assert!(error().contains("class `1` has no image"), "{}", error());
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    assert!(error().contains("toy.npz"), "{}", error());
    fs::write(&file, "not a zip").unwrap();
    assert!(error().contains("toy.npz"), "{}", error());
}

/// A header that promises more pixels than the file stores must not make anyone allocate them.
#[test]
fn medmnist_header_that_lies() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("toy.npz");
    let mut npy = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    let shape = "(99999999999, 9, 9)";
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}");
    npy.extend(format!("{header:117}\n").bytes());
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in ["train_images.npy", "train_labels.npy"] {
        archive
            .start_file(name, zip::write::SimpleFileOptions::default())
            .unwrap();
        archive.write_all(&npy).unwrap();
    }
    fs::write(&file, archive.finish().unwrap().into_inner()).unwrap();
    let error = open(&file).unwrap_err().to_string();
    assert!(error.contains("needs more than"), "{error}");
}

/// Damage anywhere in a file ends in an error or in other pixels, never in a panic or a giant allocation.
#[test]
fn damaged_files_never_panic() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("toy.npz");
    npz(
        &file,
        &[
            ("train_images", &[3, 2, 4], (0..24).collect()),
            ("train_labels", &[3], vec![0, 1, 0]),
        ],
    );
    save(&dir.path().join("x.png"), tile(1, 20, 10));
    save(&dir.path().join("x.jpg"), tile(1, 20, 10));
    save(&dir.path().join("x.tif"), tile(1, 20, 10));
    save(&dir.path().join("x.bmp"), tile(1, 20, 10));
    for name in ["toy.npz", "x.png", "x.jpg", "x.tif", "x.bmp"] {
        let bytes = fs::read(dir.path().join(name)).unwrap();
        for (at, value) in (0..bytes.len()).flat_map(|at| [0x01, 0xff].map(|v| (at, v))) {
            let mut damaged = bytes.clone();
            damaged[at] ^= value;
            if name == "toy.npz" {
                fs::write(&file, &damaged).unwrap();
                let _ = Dataset::inspect(&file, &OpenOptions::default());
            } else {
                let _ = Pixels::decode(&damaged);
            }
        }
    }
}

#[test]
fn pixel_kinds() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let read = |name: &str| Pixels::read(&at(name)).unwrap();
    let deep: ImageBuffer<Luma<u16>, Vec<u16>> = ImageBuffer::from_pixel(2, 1, Luma([40_000]));
    save(&at("g16.png"), deep.clone());
    save(&at("g16.tif"), deep);
    let colour: ImageBuffer<Rgb<u16>, Vec<u16>> =
        ImageBuffer::from_pixel(1, 1, Rgb([1, 2, 65_535]));
    save(&at("c16.png"), colour);
    save(
        &at("rgba.png"),
        RgbaImage::from_pixel(1, 1, Rgba([1, 2, 3, 4])),
    );
    assert_eq!(read("g16.png").samples, PixelValues::U16(vec![40_000; 2]));
    assert_eq!(read("g16.tif").samples, PixelValues::U16(vec![40_000; 2]));
    assert_eq!(
        read("c16.png").samples,
        PixelValues::U16(vec![1, 2, 65_535])
    );
    assert_eq!(read("rgba.png").samples, PixelValues::U8(vec![1, 2, 3]));
    let mut palette = Vec::new();
    let mut encoder = png::Encoder::new(&mut palette, 2, 1);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_palette(vec![10, 20, 30, 40, 50, 60]);
    encoder
        .write_header()
        .unwrap()
        .write_image_data(&[1, 0])
        .unwrap();
    fs::write(at("p.png"), palette).unwrap();
    assert_eq!(
        read("p.png").samples,
        PixelValues::U8(vec![40, 50, 60, 10, 20, 30])
    );
    fs::rename(at("rgba.png"), at("rgba.jpg")).unwrap();
    assert_eq!(
        read("rgba.jpg").channels,
        3,
        "content decides, not the extension"
    );
}

/// Every truncation of a PNG, a JPEG and a BMP is an error and none a panic; so is text under an image's name.
#[test]
fn truncated_images_are_corrupt() {
    let dir = TempDir::new().unwrap();
    for name in ["x.png", "x.jpg", "x.bmp", "x.tif"] {
        let path = dir.path().join(name);
        save(&path, tile(3, 40, 30));
        let bytes = fs::read(&path).unwrap();
        assert!(Pixels::decode(&bytes).is_ok());
        for length in (0..bytes.len() - 13).step_by(7) {
            // A PNG's last 12 bytes are its end mark, a TIFF's directory may come last or first.
            let whole = Pixels::decode(&bytes[..length]).is_ok();
            assert!(!whole, "{name} cut to {length} of {} bytes", bytes.len());
        }
    }
    fs::write(dir.path().join("t.png"), "hello").unwrap();
    let error = Pixels::read(&dir.path().join("t.png"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("t.png"), "{error}");
}

#[test]
fn report_and_contact_sheet() {
    let dir = TempDir::new().unwrap();
    for i in 0..4 {
        save(&dir.path().join(format!("train/a/{i}.png")), tile(i, 8, 8));
        save(
            &dir.path().join(format!("train/b/{i}.png")),
            tile(10 + i, 8 + i, 6),
        );
    }
    save(&dir.path().join("test/a/9.png"), tile(0, 8, 8));
    save(&dir.path().join("test/b/9.png"), tile(50, 8, 8));
    fs::write(dir.path().join("train/a/bad.jpg"), [0xff, 0xd8, 0xff]).unwrap();
    let set = open(dir.path()).unwrap();
    let report = DatasetReport::new(&set);
    assert_eq!(
        report.counts,
        [
            (Some(Split::Train), vec![5, 4]),
            (Some(Split::Test), vec![1, 1])
        ]
    );
    assert_eq!(report.sizes[0], ([8, 8], 6));
    assert_eq!(report.unreadable.len(), 1);
    assert_eq!(report.unreadable[0].0, "train/a/bad");
    assert_eq!(report.repeated, [["train/a/0", "test/a/9"]]);
    assert_eq!(report.leaked, 1);
    let text = report.to_string();
    for part in [
        "11 images in 2 classes (folder)",
        "unreadable: 1",
        "train/a/bad: the JPEG ends",
        "8 x 8 (6)",
        "more than one split",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let sheet = contact_sheet(&set, 3, [16, 16]).unwrap();
    assert_eq!(sheet.channels, 3);
    assert_eq!(sheet.height, 2 * (16 + 2) + 2);
    assert!(sheet.width > 3 * 18 + 2, "room for the class names");
}

#[test]
fn fingerprints_follow_content() {
    let dir = TempDir::new().unwrap();
    save(&dir.path().join("a/1.png"), tile(0, 8, 8));
    save(&dir.path().join("b/1.png"), tile(1, 8, 8));
    let before = open(dir.path()).unwrap().fingerprint();
    assert_eq!(before, open(dir.path()).unwrap().fingerprint());
    save(&dir.path().join("b/1.png"), tile(2, 9, 8));
    assert_ne!(before, open(dir.path()).unwrap().fingerprint());
    let file = dir.path().join("t.npz");
    let write = |v| {
        npz(
            &file,
            &[
                ("train_images", &[1, 1, 1], vec![v]),
                ("train_labels", &[1], vec![0]),
            ],
        )
    };
    write(1);
    let before = open(&file).unwrap().fingerprint();
    write(2);
    assert_ne!(before, open(&file).unwrap().fingerprint());
}

#[test]
fn blood_cells() {
    let Some(path) = real("blood-cells-64") else {
        return;
    };
    let set = open(&path).unwrap();
    assert_eq!(set.classes(), ["platelets", "rbc", "wbc"]);
    assert_eq!(set.select(Split::Train).unwrap().counts(), [248, 849, 176]);
    assert_eq!(set.select(Split::Test).unwrap().counts(), [67, 251, 46]);
    let train = open(&path.join("train")).unwrap();
    assert_eq!(train.counts(), [248, 849, 176]);
    let report = DatasetReport::new(&set);
    assert_eq!(report.sizes, [([64, 64], 1637)]);
    assert!(report.unreadable.is_empty(), "{report}");
    assert_eq!(report.leaked, 0, "{report}");
}

#[test]
fn pneumonia_mnist() {
    let Some(path) = real("pneumoniamnist.npz") else {
        return;
    };
    let set = open(&path).unwrap();
    assert_eq!(set.classes(), ["normal", "pneumonia"]);
    let counts = |split| set.select(split).unwrap().counts();
    assert_eq!(counts(Split::Train), [388, 3494]);
    assert_eq!(counts(Split::Val).iter().sum::<usize>(), 524);
    assert_eq!(counts(Split::Test).iter().sum::<usize>(), 624);
    let pixels = set.pixels(0).unwrap();
    assert_eq!((pixels.width, pixels.height, pixels.channels), (28, 28, 1));
}
