//! PNG output: value mapping, text chunks, grids, and that nothing half-written survives a full disk.

use std::fs;
use std::path::Path;
use std::process::Command;

use medfusion::data::{Pixels, Samples};
use medfusion::image::grid::{GridOptions, compose};
use medfusion::image::png::{Image8, read_text, to_u8, write};
use tempfile::TempDir;

#[test]
fn values_are_mapped_as_the_reference_does() {
    for (x, expected) in [
        (-1.0, 0),
        (1.0, 255),
        (-7.0, 0),
        (7.0, 255),
        (0.0, 127),
        (0.999, 254),
        (f32::NAN, 0),
    ] {
        assert_eq!(to_u8(x), expected, "{x}");
    }
}

#[test]
fn pixels_and_text_come_back() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("x.png");
    let image = Image8::from_f32(&[-1.0, 0.0, 1.0, 1.0, 0.0, -1.0], [1, 2, 3]);
    let text = [
        ("seed", "18446744073709551615".to_owned()),
        ("class", "größer".to_owned()),
        ("note", "λ = ½ → 血球".to_owned()),
    ];
    write(&path, &image, &text).unwrap();
    assert_eq!(
        Pixels::read(&path).unwrap().samples,
        Samples::U8(vec![0, 127, 255, 255, 127, 0])
    );
    let read = read_text(&path).unwrap();
    assert_eq!(read, text.map(|(k, v)| (k.to_owned(), v)));
    let grey = Image8::filled(3, 2, 1, 9);
    write(&path, &grey, &[]).unwrap();
    assert_eq!(Pixels::read(&path).unwrap().channels, 1);
    assert!(read_text(&path).unwrap().is_empty());
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "no temporary file is left"
    );
}

#[test]
fn what_cannot_be_written_leaves_the_old_file() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("x.png");
    fs::write(&path, "old").unwrap();
    assert!(write(&path, &Image8::filled(0, 4, 1, 0), &[]).is_err());
    assert!(write(&path, &Image8::filled(4, 4, 1, 0), &[("", "x".into())]).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert!(
        write(
            &dir.path().join("none/x.png"),
            &Image8::filled(4, 4, 1, 0),
            &[]
        )
        .is_err()
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// The child half of [`a_full_disk_leaves_nothing_behind`]: writes a large image where it is told to.
#[test]
fn child_writes_a_large_image() {
    let Some(path) = std::env::var_os("MEDFUSION_TEST_PNG") else {
        return;
    };
    let mut image = Image8::filled(512, 512, 3, 0);
    let mut state = 1u32;
    image.values.fill_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let error =
        write(Path::new(&path), &image, &[]).expect_err("the limit is below the file's size");
    println!("REFUSED {error}");
}

/// A process that may write 64 KiB per file stands in for a full disk: the write fails in the middle.
#[test]
fn a_full_disk_leaves_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("x.png");
    fs::write(&path, "old").unwrap();
    let output = Command::new("bash")
        .args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" --exact png::child_writes_a_large_image --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .env("MEDFUSION_TEST_PNG", &path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("REFUSED"),
        "{text}"
    );
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "a temporary file is left"
    );
}

#[test]
fn grids() {
    let tiles: Vec<Image8> = (0..5).map(|i| Image8::filled(4, 4, 1, 10 * i)).collect();
    let plain = compose(
        &tiles,
        &GridOptions {
            gap: 1,
            ..GridOptions::new(3)
        },
    );
    assert_eq!((plain.width, plain.height, plain.channels), (16, 11, 1));
    let at = |x: usize, y: usize| plain.values[y * 16 + x];
    assert_eq!(
        (at(1, 1), at(6, 1), at(11, 4), at(1, 6), at(9, 9)),
        (0, 10, 20, 30, 40)
    );
    assert_eq!((at(0, 0), at(5, 3), at(12, 7)), (255, 255, 255));

    let mixed = [Image8::filled(2, 2, 3, 7), Image8::filled(6, 6, 1, 9)];
    let doubled = compose(
        &mixed,
        &GridOptions {
            scale: 2,
            gap: 0,
            ..GridOptions::new(2)
        },
    );
    assert_eq!(
        (doubled.width, doubled.height, doubled.channels),
        (24, 12, 3)
    );
    let at = |x: usize, y: usize| doubled.values[(y * 24 + x) * 3];
    assert_eq!(
        (at(0, 0), at(4, 4), at(7, 7), at(12, 0)),
        (255, 7, 7, 9),
        "small tiles sit in the centre"
    );

    let labels = vec!["platelets".to_owned(), "ß".to_owned()];
    let labelled = compose(
        &tiles,
        &GridOptions {
            row_labels: labels,
            ..GridOptions::new(3)
        },
    );
    let ink = labelled.values.iter().filter(|&&v| v == 0).count();
    assert!(
        labelled.width > 9 * 6 + 3 * 4 && ink > 60,
        "{} wide, {ink} dots",
        labelled.width
    );
    assert_eq!(compose(&[], &GridOptions::new(0)).height, 5);
}
