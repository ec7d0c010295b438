//! Event files, parsed back by a reader that shares nothing with the writer.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use medfusion::data::{Pixels, Samples};
use medfusion::image::png::Image8;
use medfusion::train::tensorboard::EventWriter;
use tempfile::TempDir;

/// CRC-32C bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 != 0 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

fn unmasked(stored: &[u8]) -> u32 {
    u32::from_le_bytes(stored.try_into().unwrap())
        .wrapping_sub(0xa282_ead8)
        .rotate_left(15)
}

/// The records of a TFRecord file; checks both sums of each. Ends at a record that is cut off.
fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while bytes.len() >= 12 {
        let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(unmasked(&bytes[8..12]), crc32c(&bytes[..8]));
        if bytes.len() < len + 16 {
            break;
        }
        assert_eq!(
            unmasked(&bytes[12 + len..16 + len]),
            crc32c(&bytes[12..12 + len])
        );
        found.push(bytes[12..12 + len].to_vec());
        bytes = &bytes[16 + len..];
    }
    found
}

#[derive(Clone, Debug, PartialEq)]
enum Field {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(Vec<u8>),
}

impl Field {
    fn number(&self) -> u64 {
        let Field::Varint(v) = self else {
            panic!("{self:?} is no number")
        };
        *v
    }

    fn bytes(&self) -> &[u8] {
        let Field::Bytes(v) = self else {
            panic!("{self:?} is no message")
        };
        v
    }

    fn text(&self) -> &str {
        std::str::from_utf8(self.bytes()).unwrap()
    }

    fn message(&self) -> BTreeMap<u64, Field> {
        message(self.bytes())
    }
}

fn message(mut bytes: &[u8]) -> BTreeMap<u64, Field> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut fields = BTreeMap::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut bytes)),
            1 => {
                let (value, rest) = bytes.split_at(8);
                bytes = rest;
                Field::Fixed64(u64::from_le_bytes(value.try_into().unwrap()))
            }
            2 => {
                let len = varint(&mut bytes) as usize;
                let (value, rest) = bytes.split_at(len);
                bytes = rest;
                Field::Bytes(value.to_vec())
            }
            5 => {
                let (value, rest) = bytes.split_at(4);
                bytes = rest;
                Field::Fixed32(u32::from_le_bytes(value.try_into().unwrap()))
            }
            other => panic!("wire type {other}"),
        };
        assert!(fields.insert(key >> 3, field).is_none(), "a field twice");
    }
    fields
}

fn events(path: &Path) -> Vec<BTreeMap<u64, Field>> {
    records(&fs::read(path).unwrap())
        .iter()
        .map(|r| message(r))
        .collect()
}

/// The one value of an event's summary.
fn value(event: &BTreeMap<u64, Field>) -> BTreeMap<u64, Field> {
    event[&5].message()[&1].message()
}

#[test]
fn scalars_images_and_text_come_back() {
    let dir = TempDir::new().unwrap();
    let mut writer = EventWriter::create(&dir.path().join("events"), 300).unwrap();
    writer.scalar(300, "loss/total", 0.25).unwrap();
    writer.scalar(1 << 40, "größe", f32::NAN).unwrap();
    let image = Image8 {
        width: 2,
        height: 1,
        channels: 3,
        values: vec![1, 2, 3, 4, 5, 6],
    };
    writer.image(301, "samples", &image).unwrap();
    writer.text(302, "run", "# a run file").unwrap();
    let path = writer.path().to_owned();
    drop(writer);

    let events = events(&path);
    assert_eq!(events.len(), 6);
    assert!(
        events
            .iter()
            .all(|e| matches!(&e[&1], Field::Fixed64(t) if f64::from_bits(*t) > 1.7e9))
    );
    assert_eq!(events[0][&3].text(), "brain.Event:2");
    assert_eq!(
        (events[1][&2].number(), events[1][&7].message()[&1].number()),
        (300, 1)
    );

    assert_eq!(events[2][&2].number(), 300);
    let scalar = value(&events[2]);
    assert_eq!(scalar[&1].text(), "loss/total");
    assert_eq!(scalar[&2], Field::Fixed32(0.25f32.to_bits()));
    assert_eq!(events[3][&2].number(), 1 << 40);
    assert!(matches!(value(&events[3])[&2], Field::Fixed32(bits) if f32::from_bits(bits).is_nan()));

    let picture = value(&events[4])[&4].message();
    assert_eq!([1, 2, 3].map(|k| picture[&k].number()), [1, 2, 3]);
    let pixels = Pixels::decode(picture[&4].bytes()).unwrap();
    assert_eq!(pixels.samples, Samples::U8(image.values));

    let text = value(&events[5]);
    assert_eq!(text[&9].message()[&1].message()[&1].text(), "text");
    let tensor = text[&8].message();
    assert_eq!(
        (tensor[&1].number(), tensor[&8].text()),
        (7, "# a run file")
    );
    assert_eq!(tensor[&2].message()[&2].message()[&1].number(), 1);
}

#[test]
fn a_resumed_run_writes_a_later_file() {
    let dir = TempDir::new().unwrap();
    let first = EventWriter::create(dir.path(), 0)
        .unwrap()
        .path()
        .to_owned();
    let second = EventWriter::create(dir.path(), 10)
        .unwrap()
        .path()
        .to_owned();
    assert!(
        first.file_name() < second.file_name(),
        "{first:?} {second:?}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

/// What a kill cuts off is ignored; what came before stays.
#[test]
fn a_truncated_file_keeps_its_whole_records() {
    let dir = TempDir::new().unwrap();
    let mut writer = EventWriter::create(dir.path(), 0).unwrap();
    for step in 0..10 {
        writer.scalar(step, "loss", step as f32).unwrap();
    }
    writer.flush().unwrap();
    let bytes = fs::read(writer.path()).unwrap();
    assert_eq!(records(&bytes).len(), 12);
    assert_eq!(records(&bytes[..bytes.len() - 3]).len(), 11);
}
