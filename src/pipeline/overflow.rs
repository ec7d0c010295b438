//! Weights that are numbers where they are stored, and infinite in the precision that a device computes in.

use half::{bf16, f16};
use rayon::prelude::*;
use thiserror::Error;

use crate::compile::Precision;
use crate::tensor::{DType, Tensor, TensorMap};

/// A finite weight that is infinite in the precision of the device.
#[derive(Clone, Debug, PartialEq, Error)]
#[error(
    "weight `{name}` holds {value}, which overflows in {precision}: its numbers end at {largest}; the file is sound"
)]
pub struct WeightOverflow {
    /// Its name in the state dict.
    pub name: String,
    /// The first such element.
    pub value: f64,
    /// What the device computes in.
    pub precision: Precision,
    /// The largest number of the precision.
    pub largest: f64,
}

/// The largest number of a precision.
fn largest(precision: Precision) -> f64 {
    match precision.storage() {
        DType::F16 => f16::MAX.to_f64(),
        DType::BF16 => bf16::MAX.to_f64(),
        _ => f64::from(f32::MAX),
    }
}

/// Checks the operands of products, which a device packs into its precision; vectors stay f32.
///
/// # Errors
/// The first weight by name that overflows.
pub(super) fn check_weights(
    weights: &TensorMap,
    precision: Precision,
) -> Result<(), WeightOverflow> {
    let may_overflow = |tensor: &Tensor| {
        let fits = match tensor.dtype() {
            DType::F64 => false,
            DType::F16 => true,
            // A stored f32 that is finite stays so.
            _ => precision == Precision::F32,
        };
        tensor.shape().len() >= 2 && !fits
    };
    let found = weights.par_iter().find_map_first(|(name, tensor)| {
        if !may_overflow(tensor) {
            return None;
        }
        let value = first_overflow(tensor, precision);
        tensor.release();
        let value = value?;
        Some(WeightOverflow {
            name: name.clone(),
            value,
            precision,
            largest: largest(precision),
        })
    });
    found.map_or(Ok(()), Err)
}

fn first_overflow(tensor: &Tensor, precision: Precision) -> Option<f64> {
    let overflows = |value: f64| {
        value.is_finite()
            && match precision.storage() {
                DType::F16 => f16::from_f64(value).is_infinite(),
                DType::BF16 => bf16::from_f64(value).is_infinite(),
                _ => (value as f32).is_infinite(),
            }
    };
    match tensor.dtype() {
        DType::F64 => tensor
            .to_f64()
            .ok()?
            .into_iter()
            .find(|&value| overflows(value)),
        _ => {
            let values = tensor.to_f32().ok()?;
            let mut values = values.iter().map(|&value| f64::from(value));
            values.find(|&value| overflows(value))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(value: f32, dtype: DType) -> TensorMap {
        let filter = Tensor::from_f32([2, 2], &[1.0, value, 0.0, -1.0]);
        let scale = Tensor::from_f32([2], &[1e30, 1.0]);
        [
            ("conv.weight".to_owned(), filter.cast(dtype).unwrap()),
            ("norm.weight".to_owned(), scale),
        ]
        .into()
    }

    #[test]
    fn a_weight_beyond_a_precision_is_named_with_it() {
        for precision in [Precision::F16, Precision::F16Fast] {
            assert_eq!(
                check_weights(&weights(65504.0, DType::F32), precision),
                Ok(())
            );
            for dtype in [DType::F32, DType::BF16, DType::F64] {
                let error = check_weights(&weights(-1e5, dtype), precision).unwrap_err();
                assert_eq!((&*error.name, error.precision), ("conv.weight", precision));
                let text = error.to_string();
                assert!(text.contains("65504") && text.contains(&precision.to_string()));
                assert!(!text.contains("damaged"), "{text}");
            }
        }
        assert_eq!(
            check_weights(&weights(1e5, DType::F32), Precision::BF16),
            Ok(())
        );
        assert_eq!(
            check_weights(&weights(1e5, DType::F32), Precision::F32),
            Ok(())
        );
        assert!(check_weights(&weights(f32::MAX, DType::F32), Precision::BF16).is_err());
        let huge = Tensor::from_f32([1, 1], &[1.0]).cast(DType::F64).unwrap();
        let mut bytes = huge.bytes().to_vec();
        bytes.copy_from_slice(&1e300f64.to_le_bytes());
        let huge = Tensor::from_bytes(DType::F64, [1, 1], bytes).unwrap();
        let huge: TensorMap = [("w".to_owned(), huge)].into();
        assert_eq!(
            check_weights(&huge, Precision::F32).unwrap_err().value,
            1e300
        );
    }
}
