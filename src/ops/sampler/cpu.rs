//! CPU kernel: one pass over the sample, which draws the noise where it is needed.

use super::{COEFFICIENTS, Coefficient, FreshNoise, Prediction, SamplerStep};
use crate::kernel::cpu::simd::{exp, vectorised};
use crate::kernel::cpu::{CpuCall, CpuOperator, Shared, parallel_ranges};
use crate::ops::philox_normal::seed_of;
use crate::tensor::philox::{fill_normal_from, stream_key};

/// Fresh normals that are drawn at a time.
const PIECE: usize = 256;

impl CpuOperator for SamplerStep {
    fn run(&self, call: &CpuCall<'_>) {
        let (prediction, table) = (call.f32(1), call.f32(2));
        let rows = call.in_type(2).shape[0];
        let counter = call.update_i32(3);
        let step = counter[0];
        let row = usize::try_from(step).unwrap_or(0).min(rows - 1);
        let row = &table[row * COEFFICIENTS..][..COEFFICIENTS];
        let at = |c: Coefficient| row[c as usize];
        let (recip, recip_m1) = (at(Coefficient::Recip), at(Coefficient::RecipM1));
        let (sample, direction) = (at(Coefficient::Sample), at(Coefficient::Direction));
        let (keep, noise) = (at(Coefficient::Keep), at(Coefficient::Noise));
        let (guidance, learned) = (at(Coefficient::Guidance), at(Coefficient::Learned));
        let (log_posterior, log_beta) = (at(Coefficient::LogPosterior), at(Coefficient::LogBeta));

        let given = (self.noise == FreshNoise::Given).then(|| call.f32(4));
        let stream = match self.noise {
            FreshNoise::Philox(purpose) => {
                Some((stream_key(seed_of(call.i32(4)), purpose), call.i32(5)))
            }
            FreshNoise::None | FreshNoise::Given => None,
        };
        let sample_len = call.in_type(0).shape[1..].iter().product::<usize>();
        let x = Shared::new(call.update(0));
        let x_0 = Shared::new(call.out(0));
        let eps = Shared::new(call.out(1));
        let half = prediction.len() / 2;
        // Without a variance behind every pixel the whole sample is one run.
        let (channels, wide) = match self.learned_variance {
            true => (call.in_type(0).channels(), call.in_type(1).channels()),
            false => (x.len.max(1), x.len.max(1)),
        };
        let clip = |v: f32| match () {
            // Comparisons, so that NaN stays NaN.
            () if self.clip && v < -1.0 => -1.0,
            () if self.clip && v > 1.0 => 1.0,
            () => v,
        };
        parallel_ranges(x.len, |range| {
            let mut piece = [0.0; PIECE];
            let mut start = range.start;
            while start < range.end {
                let pixel = start / channels;
                let mut end = ((pixel + 1) * channels).min(range.end);
                let made = match stream {
                    Some((key, images)) => {
                        let (n, element) = (start / sample_len, start % sample_len);
                        end = end.min(start + PIECE).min((n + 1) * sample_len);
                        let made = &mut piece[..end - start];
                        fill_normal_from(
                            key,
                            u64::from(images[n] as u32),
                            step as u32,
                            element,
                            made,
                        );
                        Some(&*made)
                    }
                    None => None,
                };
                let first = pixel * wide + start % channels;
                let run = start..end;
                // SAFETY: the ranges of different threads are disjoint, and so are these runs.
                let (x, x_0, eps) = unsafe {
                    (
                        x.slice_mut(run.clone()),
                        x_0.slice_mut(run.clone()),
                        eps.slice_mut(run.clone()),
                    )
                };
                let len = run.len();
                let with = &prediction[first..][..len];
                let without = match self.guidance {
                    true => &prediction[half + first..][..len],
                    false => with,
                };
                let variance = match self.learned_variance && learned != 0.0 {
                    true => Some(&prediction[first + channels..][..len]),
                    false => None,
                };
                let z = made.or_else(|| given.map(|z| &z[run]));
                vectorised(
                    #[inline(always)]
                    || {
                        for i in 0..len {
                            let p = match self.guidance {
                                true => without[i] + guidance * (with[i] - without[i]),
                                false => with[i],
                            };
                            (x_0[i], eps[i]) = match self.prediction {
                                Prediction::Noise => (clip(recip * x[i] - recip_m1 * p), p),
                                Prediction::Sample => {
                                    let clipped = clip(p);
                                    (clipped, (recip * x[i] - clipped) / recip_m1)
                                }
                            };
                            let mut next = sample * x_0[i] + direction * eps[i] + keep * x[i];
                            if let Some(z) = z {
                                let mut std = noise;
                                if let Some(variance) = variance {
                                    let v = 0.5 * (variance[i] + 1.0);
                                    let log = v * log_beta + (1.0 - v) * log_posterior;
                                    std += learned * exp(0.5 * log);
                                }
                                next += std * z[i];
                            }
                            x[i] = next;
                        }
                    },
                );
                start = end;
            }
        });
        counter[0] = step.wrapping_add(1);
    }
}
