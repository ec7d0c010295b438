//! Single layers with their parameters, under the reference's names.

use crate::graph::{Graph, GraphError, Value};

/// Numerical floor of every group norm and layer norm of the reference.
pub(super) const NORM_EPS: f32 = 1e-5;

/// The reference's padding rule: `trunc((kernel - stride + 1) / 2)`.
pub(super) fn padding(kernel: usize, stride: usize) -> usize {
    (kernel + 1).saturating_sub(stride) / 2
}

/// Channels of an activation.
pub(super) fn channels(g: &Graph, x: Value) -> usize {
    g.ty(x).channels()
}

/// A square convolution with bias: keys `{name}.weight` `[out, in, k, k]`, `{name}.bias`.
pub(super) fn conv(
    g: &mut Graph,
    name: &str,
    x: Value,
    out_channels: usize,
    kernel: usize,
    stride: usize,
) -> Result<Value, GraphError> {
    g.scope(name, |g| {
        let weight = g.parameter("weight", [out_channels, channels(g, x), kernel, kernel])?;
        let bias = g.parameter("bias", [out_channels])?;
        g.conv2d(x, weight, Some(bias), stride, padding(kernel, stride))
    })
}

/// A linear layer over the last axis: keys `{name}.weight` `[out, in]`, `{name}.bias`.
pub(super) fn linear(
    g: &mut Graph,
    name: &str,
    x: Value,
    out_features: usize,
) -> Result<Value, GraphError> {
    g.scope(name, |g| {
        let weight = g.parameter("weight", [out_features, channels(g, x)])?;
        let bias = g.parameter("bias", [out_features])?;
        g.linear(x, weight, Some(bias))
    })
}

/// Affine group norm: keys `{name}.weight`, `{name}.bias` `[C]`.
pub(super) fn group_norm(
    g: &mut Graph,
    name: &str,
    x: Value,
    groups: usize,
) -> Result<Value, GraphError> {
    g.scope(name, |g| {
        let c = channels(g, x);
        let gamma = g.parameter("weight", [c])?;
        let beta = g.parameter("bias", [c])?;
        g.group_norm(x, gamma, beta, groups, NORM_EPS)
    })
}
