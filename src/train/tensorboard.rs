//! TensorBoard event files: scalars, images and text.
//!
//! A file is a sequence of records `len: u64 | masked crc32c(len) | data | masked crc32c(data)` (TFRecord, all
//! little-endian); each record is an `Event` protobuf message. The few fields needed are written by hand:
//!
//! ```text
//! Event   { 1: wall_time f64, 2: step i64, 3: file_version string, 5: Summary, 7: SessionLog }
//! Summary { 1: repeated Value }
//! Value   { 1: tag string, 2: simple_value f32, 4: Image, 8: TensorProto, 9: SummaryMetadata }
//! Image   { 1: height, 2: width, 3: colorspace (1 grey, 3 RGB), 4: encoded_image_string }
//! TensorProto { 1: dtype (7 string), 2: shape { 2: dim { 1: size } }, 8: repeated string_val }
//! SummaryMetadata { 1: plugin_data { 1: plugin_name } }
//! SessionLog { 1: status (1 start) }
//! ```

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::image::png::{self, Image8};

/// Writes one event file. Records reach the file on [`EventWriter::flush`] and on drop; a kill loses at most the
/// records since, and readers ignore a record that is cut off.
pub struct EventWriter {
    path: PathBuf,
    out: BufWriter<File>,
}

impl EventWriter {
    /// Starts a new event file in `folder`, which is made if need be. `first_step` is the step that the run begins or
    /// resumes with: readers then drop what an interrupted run logged from that step on.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn create(folder: &Path, first_step: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        // Readers take files in name order, so a resumed run must sort behind the one before it.
        let name = format!(
            "events.out.tfevents.{:010}.{:09}.{}.medfusion",
            now.as_secs(),
            now.subsec_nanos(),
            std::process::id()
        );
        let path = folder.join(name);
        let file = File::options().write(true).create_new(true).open(&path)?;
        let mut writer = Self {
            path,
            out: BufWriter::new(file),
        };
        let mut version = Message::event(0);
        version.bytes(3, b"brain.Event:2");
        writer.record(&version)?;
        let mut start = Message::event(first_step);
        let mut session = Message::default();
        session.varint(1, 1);
        start.message(7, &session);
        writer.record(&start)?;
        writer.flush()?;
        Ok(writer)
    }

    /// The event file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One point of the curve `tag`, such as `loss/total`.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn scalar(&mut self, step: u64, tag: &str, value: f32) -> io::Result<()> {
        let mut point = Message::default();
        point.bytes(1, tag.as_bytes());
        point.float(2, value);
        self.value(step, &point)
    }

    /// An image for looking.
    ///
    /// # Errors
    /// If the image has no pixels, and what the operating system reports.
    pub fn image(&mut self, step: u64, tag: &str, image: &Image8) -> io::Result<()> {
        let mut picture = Message::default();
        picture.varint(1, image.height as u64);
        picture.varint(2, image.width as u64);
        picture.varint(3, image.channels as u64);
        picture.bytes(4, &png::encode(image, &[])?);
        let mut value = Message::default();
        value.bytes(1, tag.as_bytes());
        value.message(4, &picture);
        self.value(step, &value)
    }

    /// A text, shown as Markdown.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn text(&mut self, step: u64, tag: &str, text: &str) -> io::Result<()> {
        const STRING: u64 = 7;
        let mut dim = Message::default();
        dim.varint(1, 1);
        let mut shape = Message::default();
        shape.message(2, &dim);
        let mut tensor = Message::default();
        tensor.varint(1, STRING);
        tensor.message(2, &shape);
        tensor.bytes(8, text.as_bytes());
        let mut plugin = Message::default();
        plugin.bytes(1, b"text");
        let mut metadata = Message::default();
        metadata.message(1, &plugin);
        let mut value = Message::default();
        value.bytes(1, tag.as_bytes());
        value.message(8, &tensor);
        value.message(9, &metadata);
        self.value(step, &value)
    }

    /// Hands all records to the operating system.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn value(&mut self, step: u64, value: &Message) -> io::Result<()> {
        let mut summary = Message::default();
        summary.message(1, value);
        let mut event = Message::event(step);
        event.message(5, &summary);
        self.record(&event)
    }

    fn record(&mut self, event: &Message) -> io::Result<()> {
        let length = (event.0.len() as u64).to_le_bytes();
        self.out.write_all(&length)?;
        self.out.write_all(&masked_crc32c(&length).to_le_bytes())?;
        self.out.write_all(&event.0)?;
        self.out.write_all(&masked_crc32c(&event.0).to_le_bytes())
    }
}

/// A protobuf message in the making.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// An `Event` of this moment.
    fn event(step: u64) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut event = Self::default();
        event.key(1, 1);
        event.0.extend(now.as_secs_f64().to_le_bytes());
        event.varint(2, step);
        event
    }

    fn key(&mut self, field: u64, wire_type: u64) {
        self.raw_varint(field << 3 | wire_type);
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.raw_varint(value);
    }

    fn float(&mut self, field: u64, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, 2);
        self.raw_varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn message(&mut self, field: u64, value: &Message) {
        self.bytes(field, &value.0);
    }
}

/// CRC-32C (Castagnoli), rotated and offset as TFRecord does, so that a CRC of data that holds CRCs stays useful.
fn masked_crc32c(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut crc = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 {
                    crc >> 1 ^ 0x82f6_3b78
                } else {
                    crc >> 1
                };
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, &byte| {
        crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check value of the CRC catalogue and two vectors of RFC 3720, appendix B.4.
    #[test]
    fn crc32c_known_answers() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }
}
