//! Single layers with their parameters, under the reference's names.

use crate::graph::{Graph, GraphError, Init, Value};

/// Numerical floor of every group norm and layer norm of the reference.
pub(super) const NORM_EPS: f32 = 1e-5;

/// How a layer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Weight and bias uniform within `1 / sqrt(fan_in)`.
    Uniform,
    /// With zeros: what ends a residual branch, so that its block begins as its skip, and output heads.
    Zeros,
}

/// The reference's padding rule: `trunc((kernel - stride + 1) / 2)`.
pub(super) fn padding(kernel: usize, stride: usize) -> usize {
    (kernel + 1).saturating_sub(stride) / 2
}

/// Channels of an activation.
pub(super) fn channels(g: &Graph, x: Value) -> usize {
    g.ty(x).channels()
}

/// `weight` of a shape `[out, in, …]` and `bias` `[out]` under the current path.
pub(super) fn weight_and_bias(
    g: &mut Graph,
    shape: &[usize],
    begin: Begin,
) -> Result<(Value, Value), GraphError> {
    let init = initial(shape, begin);
    let weight = g.parameter_with("weight", shape, init)?;
    let bias = g.parameter_with("bias", [shape[0]], init)?;
    Ok((weight, bias))
}

/// As [`weight_and_bias`], of a layer that files hold and nothing reads.
pub(super) fn stored_weight_and_bias(
    g: &mut Graph,
    shape: &[usize],
    begin: Begin,
) -> Result<(), GraphError> {
    let init = initial(shape, begin);
    g.stored_parameter("weight", shape, init)?;
    g.stored_parameter("bias", [shape[0]], init)
}

fn initial(shape: &[usize], begin: Begin) -> Init {
    match begin {
        Begin::Uniform => Init::Uniform {
            fan_in: shape[1..].iter().product(),
        },
        Begin::Zeros => Init::Zeros,
    }
}

/// `weight` and `bias` `[C]` of a norm under the current path: 1 and 0.
pub(super) fn norm_parameters(g: &mut Graph, c: usize) -> Result<(Value, Value), GraphError> {
    let gamma = g.parameter_with("weight", [c], Init::Ones)?;
    let beta = g.parameter_with("bias", [c], Init::Zeros)?;
    Ok((gamma, beta))
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
        conv_here(g, x, out_channels, kernel, stride, Begin::Uniform)
    })
}

/// A convolution of stride 1 that begins with zeros.
pub(super) fn zero_conv(
    g: &mut Graph,
    name: &str,
    x: Value,
    out_channels: usize,
    kernel: usize,
) -> Result<Value, GraphError> {
    g.scope(name, |g| {
        conv_here(g, x, out_channels, kernel, 1, Begin::Zeros)
    })
}

/// An output head, a block of its own: a 1×1 convolution that begins with zeros. Keys `{block}.{rest}.weight`, `….bias`.
pub(super) fn head(
    g: &mut Graph,
    block: &str,
    rest: &str,
    x: Value,
    out_channels: usize,
) -> Result<Value, GraphError> {
    g.block(block, |g| zero_conv(g, rest, x, out_channels, 1))
}

/// [`conv`] under the current path.
pub(super) fn conv_here(
    g: &mut Graph,
    x: Value,
    out_channels: usize,
    kernel: usize,
    stride: usize,
    begin: Begin,
) -> Result<Value, GraphError> {
    let shape = [out_channels, channels(g, x), kernel, kernel];
    let (weight, bias) = weight_and_bias(g, &shape, begin)?;
    g.conv2d(x, weight, Some(bias), stride, padding(kernel, stride))
}

/// A linear layer over the last axis: keys `{name}.weight` `[out, in]`, `{name}.bias`.
pub(super) fn linear(
    g: &mut Graph,
    name: &str,
    x: Value,
    out_features: usize,
) -> Result<Value, GraphError> {
    g.scope(name, |g| linear_here(g, x, out_features))
}

/// [`linear`] under the current path.
pub(super) fn linear_here(
    g: &mut Graph,
    x: Value,
    out_features: usize,
) -> Result<Value, GraphError> {
    let shape = [out_features, channels(g, x)];
    let (weight, bias) = weight_and_bias(g, &shape, Begin::Uniform)?;
    g.linear(x, weight, Some(bias))
}

/// Affine group norm: keys `{name}.weight`, `{name}.bias` `[C]`.
pub(super) fn group_norm(
    g: &mut Graph,
    name: &str,
    x: Value,
    groups: usize,
) -> Result<Value, GraphError> {
    g.scope(name, |g| group_norm_here(g, x, groups))
}

/// [`group_norm`] under the current path.
pub(super) fn group_norm_here(g: &mut Graph, x: Value, groups: usize) -> Result<Value, GraphError> {
    let c = channels(g, x);
    let (gamma, beta) = norm_parameters(g, c)?;
    g.group_norm(x, gamma, beta, groups, NORM_EPS)
}
