//! The numbers of a case: element types, `.npy` files, comparison.

use std::path::Path;

use half::{bf16, f16};
use serde_json::Value;

/// How the bits of an element are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberKind {
    /// IEEE 754 binary16, binary32, binary64.
    Float,
    /// bfloat16.
    BFloat,
    /// Two's complement.
    Signed,
    /// Unsigned, plain bits, or truth values.
    Unsigned,
}

/// An element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DType {
    /// How the bits are read.
    pub class: NumberKind,
    /// Bytes: 1, 2, 4 or 8.
    pub bytes: usize,
}

impl DType {
    /// Reads a name such as `f16`, `bf16`, `s32` or `i32`, `u8`, `b64`, `bool`.
    ///
    /// # Errors
    /// Lists the names that there are.
    pub fn parse(name: &str) -> Result<DType, String> {
        let (class, bytes) = match name {
            "f16" => (NumberKind::Float, 2),
            "bf16" => (NumberKind::BFloat, 2),
            "f32" => (NumberKind::Float, 4),
            "f64" => (NumberKind::Float, 8),
            "s8" | "i8" => (NumberKind::Signed, 1),
            "s16" | "i16" => (NumberKind::Signed, 2),
            "s32" | "i32" => (NumberKind::Signed, 4),
            "s64" | "i64" => (NumberKind::Signed, 8),
            "u8" | "b8" | "bool" | "pred" => (NumberKind::Unsigned, 1),
            "u16" | "b16" => (NumberKind::Unsigned, 2),
            "u32" | "b32" => (NumberKind::Unsigned, 4),
            "u64" | "b64" => (NumberKind::Unsigned, 8),
            _ => {
                return Err(format!(
                    "`dtype`: expected f16, bf16, f32, f64, s8–s64 (i8–i64), u8–u64, b8–b64 or bool, found `{name}`"
                ));
            }
        };
        Ok(DType { class, bytes })
    }

    /// The bytes of a JSON number (or a text: `"nan"`, `"-inf"`, `"0x1f"`) as this type, little-endian, zero-filled.
    ///
    /// # Errors
    /// When it is no number or does not fit the type.
    pub fn encode(self, value: &Value) -> Result<[u8; 8], String> {
        let wrong = || {
            format!(
                "`value`: expected a number of {} bytes, found {value}",
                self.bytes
            )
        };
        if matches!(self.class, NumberKind::Float | NumberKind::BFloat) {
            let number = match value {
                Value::String(text) => text.parse().map_err(|_| wrong())?,
                other => other.as_f64().ok_or_else(wrong)?,
            };
            let bits = match (self.class, self.bytes) {
                (NumberKind::BFloat, _) => u64::from(bf16::from_f64(number).to_bits()),
                (_, 2) => u64::from(f16::from_f64(number).to_bits()),
                (_, 4) => u64::from((number as f32).to_bits()),
                _ => number.to_bits(),
            };
            return Ok(bits.to_le_bytes());
        }
        let whole: i128 = match value {
            Value::Bool(truth) => i128::from(*truth),
            Value::String(text) => match text.strip_prefix("0x") {
                Some(digits) => i128::from_str_radix(digits, 16).map_err(|_| wrong())?,
                None => text.parse().map_err(|_| wrong())?,
            },
            Value::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
                (Some(n), _, _) => i128::from(n),
                (_, Some(n), _) => i128::from(n),
                (_, _, Some(f)) if f.fract() == 0.0 && f.abs() < 2f64.powi(64) => f as i128,
                _ => return Err(wrong()),
            },
            _ => return Err(wrong()),
        };
        // A bit pattern may be given as a signed or an unsigned number, so both ranges are accepted.
        let bits = 8 * self.bytes as u32;
        if whole >= 1i128 << bits || whole < -(1i128 << (bits - 1)) {
            return Err(wrong());
        }
        let mut bytes = (whole as u64).to_le_bytes();
        bytes[self.bytes..].fill(0);
        Ok(bytes)
    }

    fn is_float(self) -> bool {
        matches!(self.class, NumberKind::Float | NumberKind::BFloat)
    }

    /// The value of an element as f64; exact for all floats of up to 64 bits and integers below 2^53.
    fn value(self, bytes: &[u8]) -> f64 {
        let bits = bits_of(bytes);
        match (self.class, self.bytes) {
            (NumberKind::BFloat, _) => bf16::from_bits(bits as u16).to_f64(),
            (NumberKind::Float, 2) => f16::from_bits(bits as u16).to_f64(),
            (NumberKind::Float, 4) => f64::from(f32::from_bits(bits as u32)),
            (NumberKind::Float, _) => f64::from_bits(bits),
            (NumberKind::Signed, _) => self.signed(bits) as f64,
            (NumberKind::Unsigned, _) => bits as f64,
        }
    }

    fn signed(self, bits: u64) -> i64 {
        let unused = 64 - 8 * self.bytes as u32;
        ((bits << unused) as i64) >> unused
    }

    fn show(self, bytes: &[u8]) -> String {
        match self.class {
            NumberKind::Signed => self.signed(bits_of(bytes)).to_string(),
            NumberKind::Unsigned => bits_of(bytes).to_string(),
            _ => format!("{:e}", self.value(bytes)),
        }
    }
}

fn bits_of(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

/// The elements of a file, little-endian and in C order.
#[derive(Clone, Debug)]
pub struct Array {
    /// The type that the file says.
    pub dtype: DType,
    /// Elements one after the other.
    pub bytes: Vec<u8>,
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.bytes
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether the file can hold elements of a case's type: the same width, and for floats the same kind or bits.
    ///
    /// # Errors
    /// Says what the file holds.
    pub fn check_fits(&self, dtype: DType) -> Result<(), String> {
        let same_kind = self.dtype.is_float() == dtype.is_float()
            || !self.dtype.is_float()
            || !dtype.is_float();
        let float_mismatch =
            self.dtype.class == NumberKind::Float && dtype.class == NumberKind::BFloat;
        if self.dtype.bytes == dtype.bytes && same_kind && !float_mismatch {
            Ok(())
        } else {
            Err(format!(
                "`file` holds {:?} elements of {} bytes, `dtype` says {:?} of {} bytes",
                self.dtype.class, self.dtype.bytes, dtype.class, dtype.bytes
            ))
        }
    }
}

/// Reads a `.npy` file of numbers or truth values.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn read_npy(path: &Path) -> Result<Array, String> {
    let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let content = std::fs::read(path).map_err(|e| named(&e))?;
    let mut elements: &[u8] = &content;
    // After the header the reader stands at the elements.
    let npy = npyz::NpyFile::new(&mut elements).map_err(|e| named(&e))?;
    let npyz::DType::Plain(kind) = npy.dtype() else {
        return Err(named(&"structured arrays are not supported"));
    };
    let bytes = kind.size_field() as usize;
    let class = match kind.type_char() {
        npyz::TypeChar::Float => NumberKind::Float,
        npyz::TypeChar::Int => NumberKind::Signed,
        npyz::TypeChar::Uint | npyz::TypeChar::Bool => NumberKind::Unsigned,
        other => {
            return Err(named(&format!(
                "elements of type {other:?} are not supported"
            )));
        }
    };
    if !matches!(bytes, 1 | 2 | 4 | 8) {
        return Err(named(&format!(
            "elements of {bytes} bytes are not supported"
        )));
    }
    if kind.endianness() == npyz::Endianness::Big {
        return Err(named(
            &"big-endian elements are not supported; save the array little-endian",
        ));
    }
    if npy.order() == npyz::Order::Fortran && npy.shape().iter().filter(|n| **n > 1).count() > 1 {
        return Err(named(&"the array is in Fortran order; save it in C order"));
    }
    let total = npy
        .shape()
        .iter()
        .try_fold(bytes as u64, |all, n| all.checked_mul(*n))
        .and_then(|total| usize::try_from(total).ok());
    drop(npy);
    let elements = total
        .and_then(|total| elements.get(..total))
        .ok_or_else(|| named(&"the file is shorter than its header says"))?;
    Ok(Array {
        dtype: DType { class, bytes },
        bytes: elements.to_vec(),
    })
}

/// Compares what a buffer holds with what is wanted.
///
/// Integers must be equal. Floats: |got − want| ≤ atol + rtol·|want|, equal infinities and NaN for NaN. If a
/// float buffer's file holds integers of the same width, they are taken as the floats' bits.
///
/// # Errors
/// The first element that differs, how many do and the largest difference.
pub fn compare(
    dtype: DType,
    got: &[u8],
    want: &Array,
    rtol: f64,
    atol: f64,
) -> Result<f64, String> {
    let want_dtype =
        if dtype.is_float() && !want.dtype.is_float() && want.dtype.bytes == dtype.bytes {
            dtype
        } else {
            want.dtype
        };
    let exact = !dtype.is_float() && want_dtype.bytes == dtype.bytes && !want_dtype.is_float();
    let mut largest = 0f64;
    let mut first = None;
    let mut wrong = 0usize;
    let pairs = got
        .chunks_exact(dtype.bytes)
        .zip(want.bytes.chunks_exact(want_dtype.bytes));
    let count = pairs.len();
    for (index, (got, want)) in pairs.enumerate() {
        let (a, b) = (dtype.value(got), want_dtype.value(want));
        let error = if a == b || (a.is_nan() && b.is_nan()) {
            0.0
        } else {
            (a - b).abs()
        };
        let fits = if exact {
            got == want
        } else if dtype.is_float() {
            error == 0.0 || error <= atol + rtol * b.abs() && b.is_finite() && a.is_finite()
        } else {
            a == b
        };
        largest = if error.is_nan() {
            f64::INFINITY
        } else {
            largest.max(error)
        };
        if !fits {
            wrong += 1;
            first.get_or_insert_with(|| {
                format!(
                    "element {index}: got {}, want {}",
                    dtype.show(got),
                    want_dtype.show(want)
                )
            });
        }
    }
    match first {
        None => Ok(largest),
        Some(first) => Err(format!(
            "{wrong} of {count} elements differ (largest difference {largest:.3e}); {first}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn f32s(values: &[f32]) -> Array {
        Array {
            dtype: DType::parse("f32").unwrap(),
            bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }

    #[test]
    fn floats_compare_within_tolerance_and_nan_equals_nan() {
        let f32 = DType::parse("f32").unwrap();
        let want = f32s(&[1.0, f32::NAN, f32::INFINITY]);
        let near = f32s(&[1.0 + 1e-6, f32::NAN, f32::INFINITY]);
        assert!(compare(f32, &near.bytes, &want, 1e-5, 0.0).is_ok());
        assert!(compare(f32, &near.bytes, &want, 1e-8, 0.0).is_err());
        let finite = f32s(&[1.0, 0.0, f32::INFINITY]);
        assert!(compare(f32, &finite.bytes, &want, 1.0, 1.0).is_err());
        let infinite = f32s(&[f32::INFINITY, f32::NAN, 1.0]);
        let report = compare(f32, &infinite.bytes, &want, 1.0, 1.0).unwrap_err();
        assert!(report.starts_with("2 of 3 elements differ"), "{report}");
    }

    #[test]
    fn integers_compare_exactly_whatever_the_tolerance() {
        let s64 = DType::parse("i64").unwrap();
        let want = Array {
            dtype: s64,
            bytes: (i64::MAX - 1).to_le_bytes().to_vec(),
        };
        assert!(compare(s64, &i64::MAX.to_le_bytes(), &want, 1.0, 1e9).is_err());
    }

    #[test]
    fn scalars_are_encoded_in_their_type() {
        let encode = |dtype: &str, value| DType::parse(dtype).unwrap().encode(&value);
        assert_eq!(
            encode("s8", json!(-1)).unwrap(),
            [0xff, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(encode("f16", json!(1.5)).unwrap()[..2], [0x00, 0x3e]);
        assert_eq!(encode("bf16", json!("inf")).unwrap()[..2], [0x80, 0x7f]);
        assert_eq!(encode("u64", json!(u64::MAX)).unwrap(), [0xff; 8]);
        assert_eq!(
            encode("b32", json!("0xdeadbeef")).unwrap()[..4],
            [0xef, 0xbe, 0xad, 0xde]
        );
        assert!(encode("u8", json!(256)).is_err());
        assert!(encode("s32", json!(1.5)).is_err());
        assert!(encode("f32", json!([1])).is_err());
    }
}
