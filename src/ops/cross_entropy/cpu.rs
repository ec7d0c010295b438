//! CPU kernels on one thread, because the arrays are a few thousand numbers.

use super::{CrossEntropy, CrossEntropyGrad};
use crate::kernel::cpu::{CpuCall, CpuOperator};

/// Largest score and the sum of exponentials relative to it; NaN makes the sum NaN.
fn softmax_parts(row: &[f32]) -> (f64, f64) {
    let largest = row
        .iter()
        .fold(f32::NEG_INFINITY, |a, &b| if b < a { a } else { b });
    let largest = f64::from(largest);
    let sum = row.iter().map(|&z| (f64::from(z) - largest).exp()).sum();
    (largest, sum)
}

/// The score of a row's label.
fn picked(row: &[f32], label: i32) -> f64 {
    let score = usize::try_from(label).ok().and_then(|k| row.get(k));
    score.map_or(f64::NAN, |&z| f64::from(z))
}

impl CpuOperator for CrossEntropy {
    fn run(&self, call: &CpuCall<'_>) {
        let (logits, labels) = (call.f32(0), call.i32(1));
        let rows = logits.chunks_exact(call.in_type(0).channels()).zip(labels);
        let sum: f64 = rows
            .map(|(row, &label)| {
                let (largest, sum) = softmax_parts(row);
                largest - picked(row, label) + sum.ln()
            })
            .sum();
        call.out(0)[0] = (sum / labels.len() as f64) as f32;
    }
}

impl CpuOperator for CrossEntropyGrad {
    fn run(&self, call: &CpuCall<'_>) {
        let (logits, labels) = (call.f32(0), call.i32(1));
        let classes = call.in_type(0).channels();
        let scale = f64::from(call.f32(2)[0]) / labels.len() as f64;
        let rows = logits.chunks_exact(classes).zip(labels);
        for (dz, (row, &label)) in call.out(0).chunks_exact_mut(classes).zip(rows) {
            let (largest, sum) = softmax_parts(row);
            // A label outside the classes makes its row NaN, as it makes the loss NaN.
            let valid = 0.0 * picked(row, label);
            for (k, (dz, &z)) in dz.iter_mut().zip(row).enumerate() {
                let share = (f64::from(z) - largest).exp() / sum;
                let target = f64::from(u8::from(usize::try_from(label) == Ok(k)));
                *dz = (scale * (share - target + valid)) as f32;
            }
        }
    }
}
