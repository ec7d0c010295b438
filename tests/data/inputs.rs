//! Inputs that people have: a test for each kind, over the shared examples and over variants that the test makes.

use std::fs;
use std::path::{Path, PathBuf};

use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage};
use medfusion::data::{
    DataError, DataFormat, DataProblem, Dataset, DatasetReport, LabelColumns, LeftOutReason,
    Loader, LoaderOptions, OnMismatch, OpenOptions, PixelValues, Position, Split, Transform,
    UnknownPolicy, ValueRange,
};
use tempfile::TempDir;

/// A folder of shared examples.
fn shared(name: &str) -> Option<PathBuf> {
    crate::shared::shared(&format!("inputs/{name}"))
}

fn save(path: PathBuf, image: impl Into<DynamicImage>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image.into().save(path).unwrap();
}

/// Noise that depends on `seed`.
fn grey(seed: u32) -> GrayImage {
    GrayImage::from_fn(8, 8, |x, y| Luma([(seed * 37 + x * 11 + y * 5) as u8]))
}

fn open(path: &Path) -> Dataset {
    Dataset::open(path, &OpenOptions::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn error(path: &Path, options: &OpenOptions) -> String {
    Dataset::open(path, options).unwrap_err().to_string()
}

fn ids(set: &Dataset) -> Vec<&str> {
    set.samples()
        .iter()
        .map(|sample| sample.id.as_str())
        .collect()
}

/// The class of each sample by id.
fn labels(set: &Dataset) -> Vec<(&str, &str)> {
    let pairs = set.samples().iter();
    let mut pairs: Vec<(&str, &str)> = pairs
        .map(|s| (s.id.as_str(), set.classes()[s.class].as_str()))
        .collect();
    pairs.sort();
    pairs
}

#[test]
fn masks_are_left_out_and_counted() {
    let Some(path) = shared("masks") else { return };
    let set = open(&path);
    assert_eq!(set.classes(), ["benign", "malignant"]);
    assert_eq!(set.counts(), [3, 3]);
    assert_eq!(set.left_out().count(&LeftOutReason::Mask), 6);
    let report = DatasetReport::new(&set).to_string();
    assert!(
        report.contains("6 segmentation masks, such as `benign/a0_mask.png`"),
        "{report}"
    );
    let masks = OpenOptions {
        include: vec!["*_mask.png".to_owned()],
        ..OpenOptions::default()
    };
    let set = Dataset::open(&path, &masks).unwrap();
    assert_eq!(set.counts(), [3, 3]);
    assert!(
        ids(&set).iter().all(|id| id.ends_with("_mask")),
        "{:?}",
        ids(&set)
    );
    let none = OpenOptions {
        exclude: vec!["benign/*".to_owned()],
        ..OpenOptions::default()
    };
    assert!(error(&path, &none).contains("class `benign` has no image"));
}

#[test]
fn folders_of_masks_and_a_class_of_masks() {
    let dir = TempDir::new().unwrap();
    for class in ["COVID", "Normal"] {
        for i in 0..2 {
            save(dir.path().join(format!("{class}/images/{i}.png")), grey(i));
            save(dir.path().join(format!("{class}/masks/{i}.png")), grey(9));
        }
    }
    let set = open(dir.path());
    assert_eq!(set.counts(), [2, 2]);
    assert_eq!(set.left_out().count(&LeftOutReason::MaskFolder), 2);
    // People who wear masks are a class.
    let dir = TempDir::new().unwrap();
    save(dir.path().join("mask/1.png"), grey(1));
    save(dir.path().join("no mask/1.png"), grey(2));
    assert_eq!(open(dir.path()).classes(), ["mask", "no mask"]);
}

#[test]
fn bad_patterns_are_named() {
    let dir = TempDir::new().unwrap();
    save(dir.path().join("a/1.png"), grey(1));
    let options = OpenOptions {
        exclude: vec!["a[".to_owned()],
        ..OpenOptions::default()
    };
    assert!(error(dir.path(), &options).starts_with("data.exclude: "));
}

#[test]
fn a_table_with_semicolons_beats_the_parts_of_a_download() {
    let Some(path) = shared("parts") else { return };
    let set = open(&path);
    assert_eq!(set.format(), DataFormat::Airogs);
    assert_eq!(set.classes(), ["NRG", "RG"]);
    let expected = [
        ("a0", "RG"),
        ("a1", "RG"),
        ("a2", "RG"),
        ("b0", "NRG"),
        ("b1", "NRG"),
        ("b2", "NRG"),
    ];
    assert_eq!(labels(&set), expected);
    assert!(set.left_out().is_empty(), "{}", set.left_out());
}

/// Writes two folders of images and a table; returns the folder.
fn labelled(table: &str, content: &[u8]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (i, name) in ["p1/x1.png", "p1/x2.png", "p2/x3.png", "p2/x4.png"]
        .iter()
        .enumerate()
    {
        save(dir.path().join(name), grey(i as u32));
    }
    fs::write(dir.path().join(table), content).unwrap();
    dir
}

#[test]
fn tables_in_every_form_that_programs_save() {
    let expected = [("x1", "cat"), ("x2", "dog"), ("x3", "cat"), ("x4", "dog")];
    let plain = "file,label\nx1,cat\nx2,dog\nx3,cat\nx4,dog\n";
    let utf16: Vec<u8> = std::iter::once(0xfeff)
        .chain(plain.replace(',', "\t").encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    let forms: [Vec<u8>; 7] = [
        plain.into(),
        plain.replace('\n', "\r\n").into(),
        plain.replace(',', ";").into(),
        plain.replace(',', "\t").into(),
        format!("\u{feff}{plain}").into(),
        "\"file\",\"label\"\n\"x1\",\"cat\"\nx2 , dog\nx3,\"cat\"\nx4,dog".into(),
        utf16,
    ];
    for form in forms {
        let dir = labelled("labels.csv", &form);
        let set = open(dir.path());
        assert_eq!(set.format(), DataFormat::Labels);
        assert_eq!(labels(&set), expected, "{}", String::from_utf8_lossy(&form));
    }
}

#[test]
fn tables_by_other_names_and_columns() {
    let ham = "lesion_id,image_id,dx,age\nL1,x1,nv,50\nL1,x2,nv,50\nL2,x3,mel,60\nL3,x4,mel,70\n";
    let dir = labelled("HAM10000_metadata.csv", ham.as_bytes());
    let set = open(dir.path());
    assert_eq!(set.classes(), ["mel", "nv"]);
    assert_eq!(set.counts(), [2, 2]);
    assert_eq!(set.samples()[3].group.as_deref(), Some("L1"));
    // Columns of any name, if they are told.
    let odd = "wo,was\np1/x1.png,1\np1/x2.png,2\np2/x3.png,10\np2/x4.png,2\n";
    let dir = labelled("tabelle.csv", odd.as_bytes());
    let columns = LabelColumns {
        file: Some("wo".to_owned()),
        label: Some("was".to_owned()),
        ..LabelColumns::default()
    };
    let options = OpenOptions {
        columns,
        ..OpenOptions::default()
    };
    let set = Dataset::open(dir.path(), &options).unwrap();
    assert_eq!(set.classes(), ["1", "2", "10"], "numbers in order");
    assert_eq!(
        open(dir.path()).classes(),
        ["p1", "p2"],
        "a table of something else is left alone"
    );
}

#[test]
fn a_table_that_is_not_understood_stops_the_run() {
    let dir = labelled("train_labels.csv", b"name_of_it,glaucoma\nx1,yes\n");
    let message = error(dir.path(), &OpenOptions::default());
    for part in [
        "train_labels.csv",
        "a column for the file",
        "name_of_it, glaucoma",
        "data.file_column",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
    let folders = OpenOptions {
        format: DataFormat::Folder,
        ..OpenOptions::default()
    };
    assert_eq!(
        Dataset::open(dir.path(), &folders).unwrap().classes(),
        ["p1", "p2"]
    );
}

#[test]
fn rows_and_files_that_do_not_meet_are_counted() {
    let text = "file,label,split\nx1,cat,train\nx9,cat,train\nx2,,train\nx3,dog,holdout\n";
    let dir = labelled("labels.csv", text.as_bytes());
    let found = Dataset::inspect(dir.path(), &OpenOptions::default()).unwrap();
    let problems = found.problems();
    let has = |wanted: fn(&DataProblem) -> bool| problems.iter().any(wanted);
    assert!(has(
        |p| matches!(p, DataProblem::MissingImage { id, line: 3 } if id == "x9")
    ));
    assert!(has(
        |p| matches!(p, DataProblem::NoLabel { id, line: 4 } if id == "x2")
    ));
    assert!(has(
        |p| matches!(p, DataProblem::UnknownSplit { split, line: 5, .. } if split == "holdout")
    ));
    assert!(has(
        |p| matches!(p, DataProblem::Unlabelled { path } if path.ends_with("x4.png"))
    ));
    assert_eq!(problems.len(), 4, "{problems:?}");
    let lenient = OpenOptions {
        on_mismatch: OnMismatch::Skip,
        ..OpenOptions::default()
    };
    assert_eq!(Dataset::open(dir.path(), &lenient).unwrap().counts(), [1]);
}

#[test]
fn splits_and_patients_of_a_table() {
    let text =
        "path,class,split,patient\nx1,a,train,P1\nx2,b,train,P2\nx3,a,test,P1\nx4,b,valid,P3\n";
    let dir = labelled("labels.csv", text.as_bytes());
    let lenient = OpenOptions {
        on_mismatch: OnMismatch::Skip,
        ..OpenOptions::default()
    };
    let set = Dataset::open(dir.path(), &lenient).unwrap();
    assert_eq!(set.splits(), Split::ALL);
    let report = DatasetReport::new(&set).to_string();
    assert!(
        report.contains("1 patient has images in more than one split"),
        "{report}"
    );
    // One table for each split.
    let dir = labelled("train.csv", b"file,label\nx1,a\nx2,b\n");
    fs::write(dir.path().join("test.csv"), "file,label\nx3,a\nx4,b\n").unwrap();
    let set = open(dir.path());
    assert_eq!(set.select(Split::Test).unwrap().counts(), [1, 1]);
    assert_eq!(set.select(Split::Train).unwrap().counts(), [1, 1]);
}

#[test]
fn twelve_bits_are_reported_and_rescaled() {
    let Some(path) = shared("twelve-bit") else {
        return;
    };
    let set = open(&path);
    let report = DatasetReport::new(&set).to_string();
    assert!(report.contains("set data.bits = 12"), "{report}");
    assert!(
        set.glance()
            .range_warning
            .unwrap()
            .contains("data.bits = 12")
    );
    let brightest = |set: &Dataset| {
        let images = (0..set.len()).map(|i| match set.pixels(i).unwrap().samples {
            PixelValues::U16(v) => v.into_iter().max().unwrap(),
            PixelValues::U8(_) => panic!("expected 16 bits"),
        });
        images.max().unwrap()
    };
    assert!(brightest(&set) < 4096);
    for black_white in [ValueRange::Bits(12), ValueRange::Window([0.0, 4095.0])] {
        let options = OpenOptions {
            black_white,
            ..OpenOptions::default()
        };
        let scaled = Dataset::open(&path, &options).unwrap();
        assert!(brightest(&scaled) > 60_000, "{}", brightest(&scaled));
        assert_eq!(scaled.glance().range_warning, None);
        assert_ne!(scaled.fingerprint(), set.fingerprint());
    }
}

#[test]
fn a_window_maps_its_ends_to_black_and_white() {
    let dir = TempDir::new().unwrap();
    let image = ImageBuffer::<Luma<u16>, _>::from_vec(4, 1, vec![50, 100, 150, 300]).unwrap();
    save(dir.path().join("a/1.png"), image);
    let options = OpenOptions {
        black_white: ValueRange::Window([100.0, 200.0]),
        ..OpenOptions::default()
    };
    let set = Dataset::open(dir.path(), &options).unwrap();
    assert_eq!(
        set.pixels(0).unwrap().samples,
        PixelValues::U16(vec![0, 0, 32_768, 65_535])
    );
}

#[test]
fn bits_apply_to_files_that_have_more() {
    let dir = TempDir::new().unwrap();
    save(
        dir.path().join("a/8.png"),
        GrayImage::from_pixel(2, 2, Luma([200])),
    );
    save(
        dir.path().join("a/16.png"),
        ImageBuffer::<Luma<u16>, _>::from_pixel(2, 2, Luma([4095])),
    );
    let options = OpenOptions {
        black_white: ValueRange::Bits(12),
        ..OpenOptions::default()
    };
    let set = Dataset::open(dir.path(), &options).unwrap();
    assert_eq!(
        set.pixels(0).unwrap().samples,
        PixelValues::U16(vec![65_535; 4])
    );
    assert_eq!(
        set.pixels(1).unwrap().samples,
        PixelValues::U8(vec![200; 4])
    );
}

#[test]
fn chexpert_one_level_down_and_its_two_policies() {
    let Some(path) = shared("chexpert") else {
        return;
    };
    let set = open(&path);
    assert_eq!(set.format(), DataFormat::Chexpert);
    assert_eq!(set.classes(), ["No Cardiomegaly", "Cardiomegaly"]);
    assert_eq!(set.counts(), [3, 1]);
    let with = |uncertain, not_mentioned| OpenOptions {
        uncertain,
        not_mentioned,
        ..OpenOptions::default()
    };
    let counts = |o: &OpenOptions| Dataset::open(&path, o).unwrap().counts();
    assert_eq!(
        counts(&with(UnknownPolicy::Positive, UnknownPolicy::Negative)),
        [2, 2]
    );
    assert_eq!(
        counts(&with(UnknownPolicy::Skip, UnknownPolicy::Skip)),
        [1, 1]
    );
    let healthy = OpenOptions {
        finding: "No Finding".to_owned(),
        on_mismatch: OnMismatch::Skip,
        ..OpenOptions::default()
    };
    assert_eq!(
        Dataset::open(&path, &healthy).unwrap().classes(),
        ["Finding", "No Finding"]
    );
}

#[test]
fn chexpert_in_batch_folders() {
    let Some(path) = shared("chexpert-batches") else {
        return;
    };
    let set = open(&path);
    assert_eq!(set.format(), DataFormat::Chexpert);
    assert_eq!(set.counts(), [1, 1]);
    assert_eq!(set.samples()[0].group.as_deref(), Some("patient2"));
}

#[test]
fn the_official_test_labels_of_chexpert_name_no_view() {
    let dir = TempDir::new().unwrap();
    for name in [
        "patient1/study1/view1_frontal.jpg",
        "patient1/study1/view2_lateral.jpg",
        "patient2/study1/view1_frontal.jpg",
    ] {
        save(dir.path().join("test").join(name), grey(1));
    }
    let text = "Path,No Finding,Cardiomegaly\ntest/patient1/study1/view1_frontal.jpg,0,1\n\
                test/patient1/study1/view2_lateral.jpg,0,1\ntest/patient2/study1/view1_frontal.jpg,1,0\n";
    fs::write(dir.path().join("test_labels.csv"), text).unwrap();
    let set = open(dir.path());
    assert_eq!(
        (set.counts(), set.splits()),
        (vec![1, 1], vec![Split::Test])
    );
}

#[test]
fn every_extension_with_a_decoder_is_read() {
    let Some(path) = shared("extensions") else {
        return;
    };
    let set = open(&path);
    let has = |extension: &str| {
        let ends = |s: &&medfusion::data::Sample| format!("{:?}", s.source).contains(extension);
        set.samples().iter().filter(ends).count()
    };
    for extension in [".pgm", ".webp", ".jfif"] {
        assert_eq!(has(extension), 3, "{extension}");
    }
    for (index, sample) in set.samples().iter().enumerate() {
        if !format!("{:?}", sample.source).contains(".dcm") {
            set.pixels(index)
                .unwrap_or_else(|e| panic!("{}: {e}", sample.id));
        }
    }
}

#[test]
fn what_no_decoder_reads_is_counted_by_extension() {
    let dir = TempDir::new().unwrap();
    save(dir.path().join("a/1.png"), grey(1));
    for name in ["a/v.nii.gz", "a/w.nii.gz", "a/s.svs", "b.heic", "notes"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    let report = DatasetReport::new(&open(dir.path())).to_string();
    for part in [
        "2 .gz files that are no images, such as `a/v.nii.gz`; for volumes",
        "1 .svs file that is no image, such as `a/s.svs`; whole slides: cut",
        "1 .heic file that is no image",
        "1 file without extension",
    ] {
        assert!(report.contains(part), "{part} in {report}");
    }
}

#[test]
fn cmyk_has_the_colours_of_pillow() {
    let Some(path) = shared("cmyk") else { return };
    let set = open(&path);
    let index = ids(&set).iter().position(|id| *id == "a/cmyk").unwrap();
    let PixelValues::U8(values) = set.pixels(index).unwrap().samples else {
        panic!("expected 8 bits")
    };
    for pixel in values.chunks(3) {
        for (value, wanted) in pixel.iter().zip([230, 240, 221]) {
            assert!(value.abs_diff(wanted) <= 8, "{pixel:?}");
        }
    }
}

/// The same file as YCCK; the colour is what Pillow makes of it.
#[test]
fn ycck_has_the_colours_of_pillow() {
    let Some(path) = shared("cmyk") else { return };
    let mut bytes = fs::read(path.join("a/cmyk.jpg")).unwrap();
    let adobe = bytes.windows(5).position(|w| w == b"Adobe").unwrap();
    bytes[adobe + 11] = 2;
    let PixelValues::U8(values) = medfusion::data::Pixels::decode(&bytes).unwrap().samples else {
        panic!("expected 8 bits")
    };
    for pixel in values.chunks(3) {
        for (value, wanted) in pixel.iter().zip([0, 127, 0]) {
            assert!(value.abs_diff(wanted) <= 8, "{pixel:?}");
        }
    }
}

#[test]
fn images_are_turned_upright() {
    let Some(path) = shared("exif") else { return };
    let set = open(&path);
    let turned = |id: &str| {
        let index = ids(&set).iter().position(|i| *i == id).unwrap();
        let decoded = set.decode(index).unwrap();
        (
            decoded.facts.turned,
            decoded.pixels.width,
            decoded.pixels.height,
        )
    };
    let raw = image::ImageReader::open(path.join("a/turned.jpg"))
        .unwrap()
        .decode()
        .unwrap();
    assert_eq!(
        turned("a/turned"),
        (true, raw.height() as usize, raw.width() as usize)
    );
    assert!(!turned("b/plain").0);
    let report = DatasetReport::new(&set).to_string();
    assert!(
        report.contains("turned: 1 image, as its file says (EXIF)"),
        "{report}"
    );
}

#[test]
fn floating_point_is_read_where_its_range_is_known() {
    let Some(path) = shared("float-tiff") else {
        return;
    };
    let set = open(&path);
    let range = DatasetReport::new(&set)
        .values
        .into_iter()
        .find(|((kind, _), _)| kind.to_string().contains("float"));
    let unreadable = DatasetReport::new(&set).unreadable;
    match range {
        Some((_, seen)) => {
            assert_eq!(seen.images, 3);
            assert!(seen.range[0] >= 0.0 && seen.range[1] <= 1.0, "{seen:?}");
        }
        None => {
            // Values beyond 0 to 1: one clear reason, and a window that reads them.
            assert_eq!(unreadable.len(), 3);
            assert!(
                unreadable[0].1.contains("without a window"),
                "{unreadable:?}"
            );
        }
    }
    let options = OpenOptions {
        black_white: ValueRange::Window([0.0, 255.0]),
        ..OpenOptions::default()
    };
    let set = Dataset::open(&path, &options).unwrap();
    assert!(DatasetReport::new(&set).unreadable.is_empty());
}

#[test]
fn a_class_that_loses_every_image_stops_the_run() {
    let dir = TempDir::new().unwrap();
    for i in 0..4 {
        save(dir.path().join(format!("a/{i}.png")), grey(i));
        fs::create_dir_all(dir.path().join("b")).unwrap();
        fs::write(dir.path().join(format!("b/{i}.png")), "no image").unwrap();
    }
    let set = std::sync::Arc::new(open(dir.path()));
    let options = LoaderOptions::training(2, Transform::new([8, 8], 1).unwrap(), 1);
    let loader = Loader::new(set, options, Position::default()).unwrap();
    let error = loader
        .take(50)
        .find_map(Result::err)
        .expect("class b is lost");
    assert!(
        matches!(&error, DataError::ClassLost { class, count: 4, .. } if class == "b"),
        "{error}"
    );
}

#[test]
fn pages_are_images() {
    let Some(path) = shared("pages") else { return };
    let set = open(&path);
    assert_eq!(ids(&set), ["a/stack#1", "a/stack#2", "a/stack#3", "b/x"]);
    let pages: Vec<_> = (0..3).map(|page| set.pixels(page).unwrap()).collect();
    assert!(pages[0] != pages[1] && pages[1] != pages[2]);
    assert!(
        set.notes()[0].contains("3 images in total"),
        "{:?}",
        set.notes()
    );
}

#[test]
fn ghosts_are_no_classes_and_no_images() {
    let Some(path) = shared("ghosts") else { return };
    let set = open(&path);
    assert_eq!(set.classes(), ["a", "b"]);
    assert_eq!(set.counts(), [3, 3]);
    assert_eq!(
        set.left_out()
            .count(&LeftOutReason::System { is_folder: true }),
        2
    );
}

#[test]
fn val_is_the_held_out_part_where_there_is_no_test() {
    let Some(path) = shared("train-val-grey") else {
        return;
    };
    let set = open(&path);
    assert_eq!(set.held_out_split(Split::Train), Some(Split::Val));
    assert!(set.glance().grey);
    let report = DatasetReport::new(&set).to_string();
    assert!(report.contains("held out: the val images"), "{report}");
    assert!(report.contains("all images are grey"), "{report}");
}

#[test]
fn an_archive_in_a_folder_of_its_own_name_keeps_its_splits() {
    let dir = TempDir::new().unwrap();
    for name in [
        "train/a/1.png",
        "train/b/1.png",
        "test/a/2.png",
        "test/b/2.png",
    ] {
        save(dir.path().join("chest_xray").join(name), grey(1));
    }
    let set = open(dir.path());
    assert_eq!(set.classes(), ["a", "b"]);
    assert_eq!(set.splits(), [Split::Train, Split::Test]);
}

#[test]
fn a_set_is_recognised_by_its_content() {
    let dir = TempDir::new().unwrap();
    save(dir.path().join("one/a/1.png"), grey(1));
    let copy = dir.path().join("elsewhere/a/1.png");
    fs::create_dir_all(copy.parent().unwrap()).unwrap();
    fs::write(&copy, fs::read(dir.path().join("one/a/1.png")).unwrap()).unwrap();
    let print = |name: &str| open(&dir.path().join(name)).fingerprint();
    assert_eq!(
        print("one"),
        print("elsewhere"),
        "another place and another time"
    );
    // Other bytes of the same length.
    let mut bytes = fs::read(&copy).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&copy, bytes).unwrap();
    assert_ne!(print("one"), print("elsewhere"));
}

#[cfg(unix)]
#[test]
fn names_that_are_no_text_are_images_too() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = TempDir::new().unwrap();
    save(dir.path().join("a/1.png"), grey(1));
    for name in [&b"x\xff.png"[..], b"x\xfe.png"] {
        let path = dir.path().join("a").join(OsStr::from_bytes(name));
        fs::copy(dir.path().join("a/1.png"), path).unwrap();
    }
    assert_eq!(ids(&open(dir.path())), ["a/1", "a/x%FE", "a/x%FF"]);
}

#[test]
fn grey_pictures_saved_as_colour_are_grey() {
    let dir = TempDir::new().unwrap();
    let equal = RgbImage::from_fn(8, 8, |x, y| Rgb([(x * y) as u8; 3]));
    save(dir.path().join("a/1.png"), equal);
    assert!(open(dir.path()).glance().grey);
    save(
        dir.path().join("a/2.png"),
        RgbImage::from_pixel(8, 8, Rgb([1, 2, 3])),
    );
    assert!(!open(dir.path()).glance().grey);
}

/// A JPEG that says that it lies on its side.
fn turned_jpeg() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = std::io::Cursor::new(&mut bytes);
    let image = DynamicImage::from(GrayImage::from_fn(24, 16, |x, y| Luma([(x * 9 + y) as u8])));
    image.write_to(&mut writer, ImageFormat::Jpeg).unwrap();
    // One directory entry: tag 0x0112 (orientation), type short, count 1, value 6.
    let tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let length = (2 + 6 + tiff.len()) as u16;
    let segment = [&[0xff, 0xe1][..], &length.to_be_bytes(), b"Exif\0\0", tiff].concat();
    bytes.splice(2..2, segment);
    bytes
}

/// A TIFF with `pages` pages of floating-point values between 0 and 1.
fn float_pages(path: &Path, pages: usize) {
    use tiff::encoder::{TiffEncoder, colortype::Gray32Float};
    let mut encoder = TiffEncoder::new(fs::File::create(path).unwrap()).unwrap();
    for page in 0..pages {
        let values: Vec<f32> = (0..256).map(|i| (i + page) as f32 / 260.0).collect();
        encoder.write_image::<Gray32Float>(16, 16, &values).unwrap();
    }
}

/// A folder with more than ten of the faults that people meet.
fn mixed_folder(root: &Path) {
    let noise = |seed: u32| {
        GrayImage::from_fn(24, 24, |x, y| {
            Luma([(seed * 37 + x * 11 + y * 5 + x * y) as u8])
        })
    };
    for i in 0..4 {
        save(root.join(format!("benign/b{i}.png")), noise(i));
        save(root.join(format!("benign/b{i}_mask.png")), noise(90));
        save(root.join(format!("malignant/m{i}.png")), noise(50 + i));
    }
    let twelve_bits =
        ImageBuffer::<Luma<u16>, _>::from_fn(24, 24, |x, y| Luma([(x * y * 7 + x) as u16]));
    save(root.join("malignant/dark.png"), twelve_bits);
    save(root.join("malignant/again.png"), noise(3));
    fs::write(root.join("benign/turned.jpg"), turned_jpeg()).unwrap();
    float_pages(&root.join("benign/stack.tif"), 3);
    for name in [
        "__MACOSX/benign/b0.png",
        "benign/@eaDir/b0.png/thumb.jpg",
        "benign/.DS_Store",
        "malignant/volume.nii.gz",
        "malignant/slide.svs",
        "malignant/broken.png",
        "readme.txt",
    ] {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), "x").unwrap();
    }
}

#[test]
fn a_mixed_folder_prints_the_report_of_the_readme() {
    let dir = TempDir::new().unwrap();
    mixed_folder(&dir.path().join("scans"));
    let report = DatasetReport::new(&open(&dir.path().join("scans"))).to_string();
    let report = report.replace(&format!("{}/", dir.path().display()), "");
    println!("{report}");
    let readme =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    assert!(
        readme.contains(report.trim_end()),
        "the README shows another report than\n{report}"
    );
}

/// One array of an `.npz` file: its name, element type in NumPy's notation, order, shape and bytes.
struct Npy<'a>(&'a str, &'a str, bool, &'a [usize], Vec<u8>);

fn npz(path: &Path, compressed: bool, arrays: &[Npy]) {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
    for Npy(name, kind, fortran, shape, bytes) in arrays {
        let method = match compressed {
            true => zip::CompressionMethod::Deflated,
            false => zip::CompressionMethod::Stored,
        };
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        zip.start_file(format!("{name}.npy"), options).unwrap();
        let order = if *fortran { "True" } else { "False" };
        let shape: String = shape.iter().map(|n| format!("{n}, ")).collect();
        let mut header =
            format!("{{'descr': '{kind}', 'fortran_order': {order}, 'shape': ({shape}), }}");
        while (header.len() + 11) % 64 != 0 {
            header.push(' ');
        }
        header.push('\n');
        zip.write_all(b"\x93NUMPY\x01\x00").unwrap();
        zip.write_all(&(header.len() as u16).to_le_bytes()).unwrap();
        zip.write_all(header.as_bytes()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn arrays_as_people_save_them() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("set.npz");
    let u8s = |set: &Dataset, index: usize| match set.pixels(index).unwrap().samples {
        PixelValues::U8(v) => v,
        PixelValues::U16(v) => v.into_iter().map(|v| (v / 257) as u8).collect(),
    };
    for compressed in [false, true] {
        // Two RGB images of 1 x 2 pixels: [N, H, W, 3], [N, 3, H, W], and both in Fortran order.
        let nhwc: Vec<u8> = (1..=12).collect();
        let nchw = vec![1, 4, 2, 5, 3, 6, 7, 10, 8, 11, 9, 12];
        let fortran = |shape: [usize; 4], values: &[u8]| {
            let mut out = Vec::new();
            for l in 0..shape[3] {
                for k in 0..shape[2] {
                    for j in 0..shape[1] {
                        for i in 0..shape[0] {
                            out.push(values[((i * shape[1] + j) * shape[2] + k) * shape[3] + l]);
                        }
                    }
                }
            }
            out
        };
        let forms = [
            ([2, 1, 2, 3], false, nhwc.clone()),
            ([2, 3, 1, 2], false, nchw.clone()),
            ([2, 1, 2, 3], true, fortran([2, 1, 2, 3], &nhwc)),
            ([2, 3, 1, 2], true, fortran([2, 3, 1, 2], &nchw)),
        ];
        for (shape, order, bytes) in forms {
            npz(
                &file,
                compressed,
                &[
                    Npy("train_images", "|u1", order, &shape, bytes),
                    Npy("train_labels", "|u1", false, &[2], vec![0, 1]),
                ],
            );
            let set = open(&file);
            assert_eq!(u8s(&set, 0), [1, 2, 3, 4, 5, 6], "{shape:?} {order}");
            assert_eq!(u8s(&set, 1), [7, 8, 9, 10, 11, 12], "{shape:?} {order}");
        }
        // Floats between 0 and 1, one-hot labels, one split by another name.
        npz(
            &file,
            compressed,
            &[
                Npy(
                    "x",
                    "<f4",
                    false,
                    &[3, 1, 2],
                    f32s(&[0.0, 1.0, 0.2, 0.4, 0.6, 0.8]),
                ),
                Npy(
                    "y",
                    "<f4",
                    false,
                    &[3, 3],
                    f32s(&[0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]),
                ),
            ],
        );
        let set = open(&file);
        assert!(set.splits().is_empty());
        assert_eq!((u8s(&set, 0), u8s(&set, 1)), (vec![0, 255], vec![51, 102]));
        assert_eq!(set.counts(), [1, 1, 1]);
        assert_eq!(set.samples()[0].class, 1);
        // Labels from 1, as floats; big-endian 16-bit images.
        npz(
            &file,
            compressed,
            &[
                Npy(
                    "images",
                    ">u2",
                    false,
                    &[2, 1, 1],
                    vec![0x12, 0x34, 0xff, 0xff],
                ),
                Npy("labels", "<f4", false, &[2, 1], f32s(&[2.0, 1.0])),
            ],
        );
        let set = open(&file);
        assert_eq!(set.classes(), ["1", "2"]);
        assert_eq!(set.samples()[0].class, 1);
        assert!(set.notes()[0].contains("count from 1"), "{:?}", set.notes());
        assert_eq!(
            set.pixels(0).unwrap().samples,
            PixelValues::U16(vec![0x1234])
        );
    }
}

#[test]
fn arrays_that_have_no_black_and_white() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("set.npz");
    npz(
        &file,
        false,
        &[
            Npy("images", "<f4", false, &[2, 1, 1], f32s(&[-1.0, 0.5])),
            Npy("labels", "|u1", false, &[2], vec![0, 1]),
        ],
    );
    let error = open(&file).pixels(0).unwrap_err().to_string();
    assert!(error.contains("from -1 to -1: without a window"), "{error}");
    let options = OpenOptions {
        black_white: ValueRange::Window([-1.0, 1.0]),
        ..OpenOptions::default()
    };
    let set = Dataset::open(&file, &options).unwrap();
    assert_eq!(set.pixels(0).unwrap().samples, PixelValues::U16(vec![0]));
}

#[test]
fn an_array_that_lies_beyond_its_file_is_refused() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("set.npz");
    for compressed in [false, true] {
        npz(
            &file,
            compressed,
            &[
                Npy(
                    "images",
                    "<f8",
                    false,
                    &[1 << 40, 1 << 10, 1 << 10],
                    vec![0; 64],
                ),
                Npy("labels", "|u1", false, &[1], vec![0]),
            ],
        );
        assert!(
            error(&file, &OpenOptions::default()).contains("needs more than the 64 bytes stored")
        );
    }
}

/// Two grey images of 3 x 2 pixels with one-hot labels.
pub fn small_npz(path: &Path, compressed: bool) {
    npz(
        path,
        compressed,
        &[
            Npy("train_images", "|u1", false, &[2, 2, 3], (1..=12).collect()),
            Npy(
                "train_labels",
                "<i8",
                true,
                &[2, 2],
                [1u64, 0, 0, 1]
                    .iter()
                    .flat_map(|v| v.to_le_bytes())
                    .collect(),
            ),
        ],
    );
}
