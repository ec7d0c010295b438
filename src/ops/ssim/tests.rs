use std::collections::HashMap;

use crate::graph::{Graph, GraphError};
use crate::kernel::reference::Array;
use crate::tensor::DType;
use crate::testing::{check, check_nan_shows, check_with, hashed};

fn correlated(
    g: &mut Graph,
    shape: &[usize],
    sign: f32,
    metric: bool,
) -> Result<crate::graph::Value, GraphError> {
    // Beyond [-1, 1] here and there, so that the clamp shows.
    let x = g.parameter("x", shape)?;
    let x = g.scale(x, 1.3)?;
    let noise = g.input("noise", shape, DType::F32)?;
    let pattern = g.input("pattern", shape, DType::F32)?;
    let pattern = g.scale(pattern, 0.9 * sign)?;
    let noise = g.scale(noise, 0.2)?;
    let target = g.add(pattern, noise)?;
    let pattern = g.scale(pattern, sign)?;
    let prediction = g.add(x, pattern)?;
    match metric {
        true => g.ssim_metric(prediction, target),
        false => g.ssim(prediction, target),
    }
}

/// Extents on both sides of the window, one window exactly, anticorrelated images (where the
/// loss is cut at 0) and both forms.
#[test]
fn similarities_and_gradients() {
    for shape in [
        [1, 11, 11, 1],
        [2, 13, 11, 3],
        [1, 5, 17, 1],
        [1, 17, 10, 2],
        [3, 3, 4, 3],
    ] {
        for sign in [1.0, -1.0] {
            for metric in [false, true] {
                check(|g| correlated(g, &shape, sign, metric));
            }
        }
    }
}

#[test]
fn larger_images_match_in_all_blocks() {
    check(|g| correlated(g, &[2, 43, 29, 3], 1.0, false));
}

/// A bright, smooth image and a nearly equal one: variances of 1e-5 beside squares of 0.8.
#[test]
fn smooth_bright_images_keep_their_digits() {
    let shape = [1, 37, 45, 1];
    let (height, width) = (shape[1], shape[2]);
    let smooth = |k: usize| {
        let (y, x) = (
            (k / width) as f64 / height as f64,
            (k % width) as f64 / width as f64,
        );
        0.75 + 0.05 * (3.0 * x).sin() * (2.0 * y).cos()
    };
    let image = |noise: &str| {
        let noise = hashed(noise, height * width);
        let values = noise.iter().enumerate();
        let values = values.map(|(k, v)| f64::from((smooth(k) + 0.004 * v) as f32));
        Array::new(shape, values.collect())
    };
    let leaves = HashMap::from([("a".to_owned(), image("a")), ("b".to_owned(), image("b"))]);
    check_with(
        |g| {
            let a = g.parameter("a", shape)?;
            let b = g.input("b", shape, DType::F32)?;
            g.ssim(a, b)
        },
        &leaves,
        2e-5,
    );
}

#[test]
fn nan_shows() {
    check_nan_shows(|g| {
        let a = g.parameter("a", [1, 13, 12, 2])?;
        let b = g.parameter("b", [1, 13, 12, 2])?;
        g.ssim(a, b)
    });
    check_nan_shows(|g| {
        let a = g.parameter("a", [1, 13, 12, 2])?;
        let b = g.parameter("b", [1, 13, 12, 2])?;
        let similarity = g.ssim(a, b)?;
        // Of the gradient only NaN can be checked here.
        let loss = g.sum_to(similarity, &[])?;
        let grad = g.gradients(loss, &[a])?[0];
        Ok(grad.expect("the loss depends on a"))
    });
}
