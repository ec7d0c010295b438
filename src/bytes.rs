//! Amounts of memory as people write and read them: `6GiB`, `512MiB`, `800000`; 1 MiB is 2^20 bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Mebibytes, for a message.
pub fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Gibibytes, for a message.
pub fn gib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// In the unit that is easiest to read, with one digit: `97.7 KiB`, `10.3 MiB`.
pub fn readable(bytes: usize) -> String {
    match bytes {
        0..=99_999 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", mib(bytes)),
    }
}

/// Bytes that processes can still allocate without swapping, as the kernel estimates them;
/// `None` where `/proc/meminfo` does not tell.
pub fn available_memory_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (number, unit) = UNITS
            .iter()
            .find_map(|(name, unit)| {
                let split = text.len().checked_sub(name.len())?;
                let suffix = text.get(split..)?;
                suffix
                    .eq_ignore_ascii_case(name)
                    .then(|| (&text[..split], *unit))
            })
            .unwrap_or((text, 1));
        let bytes = number.trim().parse::<f64>().ok().map(|n| n * unit as f64);
        match bytes {
            Some(bytes) if bytes.is_finite() && (0.0..9e18).contains(&bytes) => {
                Ok(Self(bytes.round() as u64))
            }
            _ => Err(format!(
                "expected an amount of memory such as 6GiB or 512MiB, found `{text}`"
            )),
        }
    }
}

impl fmt::Display for ByteSize {
    /// In the largest binary unit that divides it, so that it reads back exactly.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, unit) in &UNITS[..3] {
            if self.0 >= *unit && self.0.is_multiple_of(*unit) {
                return write!(f, "{}{name}", self.0 / unit);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected an amount of memory such as \"6GiB\"")]
        enum Given {
            Number(u64),
            Text(String),
        }
        match Given::deserialize(deserializer)? {
            Given::Number(bytes) => Ok(Self(bytes)),
            Given::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_written() {
        let read = |text: &str| text.parse::<ByteSize>().map(|b| b.0);
        assert_eq!(read("6GiB"), Ok(6 << 30));
        assert_eq!(read(" 1.5 gib "), Ok(3 << 29));
        assert_eq!(read("800"), Ok(800));
        assert_eq!(read("2GB"), Ok(2_000_000_000));
        for bad in ["", "GiB", "-1MiB", "six", "1e30", "NaN", "é"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        for bytes in [0, 1, 1 << 10, 3 << 29, 6 << 30, 12345] {
            assert_eq!(read(&ByteSize(bytes).to_string()), Ok(bytes));
        }
    }
}
