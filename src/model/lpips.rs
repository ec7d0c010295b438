//! LPIPS: the perceptual distance of two images in the features of VGG16, without learned
//! weights of the layers.
//!
//! Sources: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual
//! Metric", CVPR 2018; Simonyan, Zisserman, "Very Deep Convolutional Networks", ICLR 2015,
//! configuration D.

use crate::graph::{Graph, GraphError, Parameter, Value};
use crate::ops::{Binary, Unary};

/// Path under which the reference's checkpoints hold the network's weights, beside a VAE's.
pub const PATH: &str = "perceiver.loss_fn";

/// One convolution: its index among torchvision's VGG16 features, and its channels.
type Layer = (usize, usize);

/// Convolutions between poolings, 3×3 with padding 1 and ReLU; features are taken after the last
/// of each slice.
const SLICES: [&[Layer]; 5] = [
    &[(0, 64), (2, 64)],
    &[(5, 128), (7, 128)],
    &[(10, 256), (12, 256), (14, 256)],
    &[(17, 512), (19, 512), (21, 512)],
    &[(24, 512), (26, 512), (28, 512)],
];

/// Names of the slices' features, for labels.
const FEATURES: [&str; 5] = ["relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"];

/// Mean and standard deviation of the network's training images, for inputs in [-1, 1].
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];

/// Shortest image side: four poolings leave one pixel.
const SHORTEST_SIDE: usize = 16;

/// Names and shapes `[O, I, kH, kW]` or `[O]` of the network's parameters relative to the module
/// path: `net.slice1.0.weight`, …
pub fn parameters() -> Vec<(String, Vec<usize>)> {
    let mut channels = SHIFT.len();
    let mut list = Vec::new();
    for (slice, layers) in SLICES.iter().enumerate() {
        for &(index, outputs) in *layers {
            let name = format!("net.slice{}.{index}", slice + 1);
            list.push((format!("{name}.weight"), vec![outputs, channels, 3, 3]));
            list.push((format!("{name}.bias"), vec![outputs]));
            channels = outputs;
        }
    }
    list
}

/// Features of `x` `[N, H, W, 3]` in [-1, 1] after each slice, highest resolution first.
fn features(g: &mut Graph, x: Value) -> Result<Vec<Value>, GraphError> {
    let shift = g.constant([3], &SHIFT)?;
    let scale = g.constant([3], &SCALE)?;
    let centred = g.sub(x, shift)?;
    let mut h = g.apply(Binary::Div, &[centred, scale])?;
    let mut features = Vec::with_capacity(SLICES.len());
    for (slice, layers) in SLICES.iter().enumerate() {
        if slice > 0 {
            h = g.max_pool(h, 2, 2, 0)?;
        }
        for &(index, outputs) in *layers {
            let path = format!("net.slice{}.{index}", slice + 1);
            h = g.block(&path, |g| {
                let inputs = g.ty(h).channels();
                let frozen = Parameter {
                    trained: false,
                    ..Parameter::default()
                };
                let weight = g.parameter_with("weight", [outputs, inputs, 3, 3], frozen)?;
                let bias = g.parameter_with("bias", [outputs], frozen)?;
                let y = g.conv2d(h, weight, Some(bias), 1, 1)?;
                g.apply(Unary::Relu, &[y])
            })?;
        }
        features.push(h);
    }
    Ok(features)
}

/// Perceptual distance `[N]` of `prediction` and `target` `[N, H, W, 3]` in [-1, 1]: the sum over
/// the five slices of the distance of their features ([`Graph::feature_distance`]).
///
/// Parameters are named after the module path in force: call it under [`PATH`] for the names of
/// the reference's checkpoints. The features of the prediction (`relu1_2` …) and the distances of
/// the slices (`layer0` …) are labelled under that path.
///
/// # Errors
/// If the shapes differ, the images are not RGB or a side is shorter than 16 pixels.
pub fn lpips(g: &mut Graph, prediction: Value, target: Value) -> Result<Value, GraphError> {
    let shape = g.shape(prediction).to_vec();
    let fits = matches!(shape[..], [_, h, w, 3] if h.min(w) >= SHORTEST_SIDE);
    if !fits || g.shape(target) != shape {
        return Err(GraphError::Model(format!(
            "LPIPS at '{}' takes two RGB images [N, H, W, 3] with sides of at least \
             {SHORTEST_SIDE} pixels, found {} and {}",
            g.path(),
            g.ty(prediction),
            g.ty(target)
        )));
    }
    let predicted = features(g, prediction)?;
    let wanted = features(g, target)?;
    let mut total = None;
    for (i, (a, b)) in predicted.into_iter().zip(wanted).enumerate() {
        g.scope(FEATURES[i], |g| g.label(a));
        let distance = g.feature_distance(a, b)?;
        g.scope(&format!("layer{i}"), |g| g.label(distance));
        total = Some(match total {
            Some(total) => g.add(total, distance)?,
            None => distance,
        });
    }
    Ok(total.expect("five slices"))
}
