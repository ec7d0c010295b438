//! Parameters generated from their names, for full-size networks whose weights nobody wants to store.
//!
//! The recipe: FNV-1a 64 of the name seeds a SplitMix64 sequence; the top 24 bits of value `i` give `v` in [-1, 1).
//! Matrices and kernels are `v · gain · √(3 / fan_in)`, so their variance is `gain² / fan_in`; vectors are small biases
//! and scales around 1. Every step is exact or a single f32 operation, hence equal on every machine.

use rayon::prelude::*;

use crate::tensor::{Tensor, TensorMap};

/// FNV-1a 64 of a name.
pub fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Element `index` of the uniform sequence of `hash`, in [-1, 1).
pub fn uniform(hash: u64, index: u64) -> f32 {
    let mut z = hash.wrapping_add((index.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    // 24 bits fit an f32 exactly, and so does the product with a power of two.
    let unit = (z >> 40) as f32 * (1.0 / 16_777_216.0);
    2.0 * unit - 1.0
}

/// The `f32` parameter `name` of `shape`.
///
/// Vectors go by the end of their name: `running_var` is `1 + v/4`, `running_mean` and `bias` are `v/10`, and the
/// others, which are scales, `1 + v/10`.
pub fn hashed_parameter(name: &str, shape: &[usize], gain: f64) -> Tensor {
    let hash = name_hash(name);
    let count: usize = shape.iter().product();
    let (offset, factor) = if shape.len() >= 2 {
        let fan_in: usize = shape[1..].iter().product();
        (0.0, (gain * (3.0 / fan_in as f64).sqrt()) as f32)
    } else if name.ends_with("running_var") {
        (1.0, 0.25)
    } else if name.ends_with("running_mean") || name.ends_with("bias") {
        (0.0, 0.1)
    } else {
        (1.0, 0.1)
    };
    let values: Vec<f32> = (0..count as u64)
        .map(|index| offset + factor * uniform(hash, index))
        .collect();
    Tensor::from_f32(shape, &values)
}

/// Hashed values for a list of parameters, such as [`super::unet_parameters`] gives.
pub fn hashed_parameters(parameters: &[(String, Vec<usize>)], gain: f64) -> TensorMap {
    parameters
        .par_iter()
        .map(|(name, shape)| (name.clone(), hashed_parameter(name, shape, gain)))
        .collect()
}
