//! CPU kernels: pixel by pixel, in a fixed number of chunks of each sample.

use rayon::prelude::*;

use super::{EPSILON, FeatureDistance, FeatureDistanceGrad};
use crate::graph::TensorType;
use crate::kernel::cpu::parallel::sum_pairs;
use crate::kernel::cpu::simd::vectorised;
use crate::kernel::cpu::{CpuCall, CpuOperator};

/// Partial sums per sample, whatever the number of threads.
const PIECES: usize = 16;

/// Norm of a pixel's features and `1 / (norm + epsilon)`.
fn norm(pixel: &[f32]) -> (f64, f64) {
    let norm = sum_pairs(pixel, pixel, |a, b| a * b).sqrt();
    (norm, 1.0 / (norm + EPSILON))
}

impl CpuOperator for FeatureDistance {
    fn workspace_len(&self, inputs: &[TensorType], _: &[TensorType]) -> usize {
        2 * PIECES * inputs[0].shape[0]
    }

    fn run(&self, call: &CpuCall<'_>) {
        let (a, b, ty) = (call.f32(0), call.f32(1), call.in_type(0));
        let channels = ty.channels();
        let pixels = ty.shape[1] * ty.shape[2];
        let per_piece = pixels.div_ceil(PIECES);
        let partials: &mut [f64] = bytemuck::cast_slice_mut(call.workspace());
        partials.par_iter_mut().enumerate().for_each(|(i, sum)| {
            let (n, piece) = (i / PIECES, i % PIECES);
            *sum = 0.0;
            for pixel in (piece * per_piece).min(pixels)..((piece + 1) * per_piece).min(pixels) {
                let at = (n * pixels + pixel) * channels;
                let (a, b) = (&a[at..][..channels], &b[at..][..channels]);
                let (ra, rb) = (norm(a).1 as f32, norm(b).1 as f32);
                *sum += sum_pairs(a, b, |a, b| {
                    let difference = a * ra - b * rb;
                    difference * difference
                });
            }
        });
        for (y, partials) in call.out(0).iter_mut().zip(partials.chunks(PIECES)) {
            *y = (partials.iter().sum::<f64>() / pixels as f64) as f32;
        }
    }
}

impl CpuOperator for FeatureDistanceGrad {
    fn run(&self, call: &CpuCall<'_>) {
        let (a, b, dy, ty) = (call.f32(0), call.f32(1), call.f32(2), call.in_type(0));
        let channels = ty.channels();
        let pixels = ty.shape[1] * ty.shape[2];
        if channels == 0 {
            return;
        }
        let rows = call.out(0).par_chunks_mut(channels).with_min_len(64);
        rows.enumerate().for_each(|(i, da)| {
            let (a, b) = (
                &a[i * channels..][..channels],
                &b[i * channels..][..channels],
            );
            let scale = 2.0 * dy[i / pixels] / pixels as f32;
            let ((r, ra), (_, rb)) = (norm(a), norm(b));
            // The component along a, which the normalisation of a takes out.
            let along = sum_pairs(a, b, |x, y| (x * ra as f32 - y * rb as f32) * x);
            let along = match r > 0.0 {
                true => (along * ra / r) as f32,
                // A pixel without features has 0 here, or NaN.
                false => along as f32,
            };
            let (ra, rb) = (ra as f32, rb as f32);
            vectorised(|| {
                for (da, (&a, &b)) in da.iter_mut().zip(a.iter().zip(b)) {
                    *da = scale * ra * (a * ra - b * rb - along * a);
                }
            });
        });
    }
}
