//! What identifies a model (a hash over its configuration and tensors), and whether its numbers are numbers.

use rayon::prelude::*;

use super::Problem;
use super::config::ModelConfig;
use crate::tensor::{DType, Tensor, TensorMap};

/// BLAKE3 over names, types, shapes and elements, in name order. Each tensor is hashed on its own first, so that all
/// cores work on it.
pub(super) fn digest_tensors(tensors: &TensorMap) -> blake3::Hash {
    let digests: Vec<(String, blake3::Hash)> = tensors
        .par_iter()
        .map(|(name, tensor)| {
            let head = format!("{name} {} {:?}", tensor.dtype(), tensor.shape());
            let digest = blake3::hash(tensor.bytes());
            tensor.release();
            (head, digest)
        })
        .collect();
    let mut hasher = blake3::Hasher::new();
    for (head, digest) in digests {
        // The length keeps two heads apart, whatever is in a name.
        hasher.update(&(head.len() as u64).to_le_bytes());
        hasher.update(head.as_bytes());
        hasher.update(digest.as_bytes());
    }
    hasher.finalize()
}

/// The model's identity in images and logs: 16 hex digits over the configuration and the digests of the parts.
pub(super) fn model_hash(config: &ModelConfig, unet: blake3::Hash, vae: blake3::Hash) -> String {
    let mut hasher = blake3::Hasher::new();
    // Serialising a configuration cannot fail: it has text keys and finite numbers only.
    let config = serde_json::to_vec(config).unwrap_or_default();
    hasher.update(&config);
    hasher.update(unet.as_bytes());
    hasher.update(vae.as_bytes());
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Checks that every tensor holds floats, and finite ones.
///
/// # Errors
/// The first tensor by name that does not, with the index of its first such element.
pub(super) fn check_finite(tensors: &TensorMap) -> Result<(), Problem> {
    let problem = tensors.par_iter().find_map_first(|(name, tensor)| {
        if !tensor.dtype().is_float() {
            return Some(Problem::tensor(
                name,
                format!("holds {}, expected floats", tensor.dtype()),
            ));
        }
        let flat = first_non_finite(tensor);
        tensor.release();
        let flat = flat?;
        Some(Problem::NotFinite {
            name: name.clone(),
            index: unravel(flat, tensor.shape()),
            value: element(tensor, flat),
        })
    });
    problem.map_or(Ok(()), Err)
}

/// A float is finite unless all bits of its exponent are set.
pub(super) fn first_non_finite(tensor: &Tensor) -> Option<usize> {
    let bytes = tensor.bytes();
    let half = |mask: u16| {
        let bits = |b: &[u8; 2]| u16::from_le_bytes(*b) & mask == mask;
        bytes.as_chunks::<2>().0.iter().position(bits)
    };
    match tensor.dtype() {
        DType::F16 => half(0x7c00),
        DType::BF16 => half(0x7f80),
        DType::F32 => {
            const MASK: u32 = 0x7f80_0000;
            let bits = |b: &[u8; 4]| u32::from_le_bytes(*b) & MASK == MASK;
            bytes.as_chunks::<4>().0.iter().position(bits)
        }
        DType::F64 => {
            const MASK: u64 = 0x7ff0_0000_0000_0000;
            let bits = |b: &[u8; 8]| u64::from_le_bytes(*b) & MASK == MASK;
            bytes.as_chunks::<8>().0.iter().position(bits)
        }
        _ => None,
    }
}

/// Row-major index of a flat element.
pub(super) fn unravel(flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut rest = flat;
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&extent| {
            let here = rest % extent.max(1);
            rest /= extent.max(1);
            here
        })
        .collect();
    index.reverse();
    index
}

/// One element of a float tensor.
pub(super) fn element(tensor: &Tensor, flat: usize) -> f64 {
    let size = tensor.dtype().size_bytes();
    let bytes = tensor.bytes()[flat * size..][..size].to_vec();
    Tensor::from_bytes(tensor.dtype(), [1], bytes)
        .and_then(|one| one.to_f64())
        .map_or(f64::NAN, |values| values[0])
}
