//! Two-dimensional convolution and its two gradients.

pub mod cpu;
pub(crate) mod cuda;
mod geometry;
mod kernel;
mod reference;
#[cfg(test)]
mod tests;

pub use geometry::{ConvGeometry, MAX_KERNEL, MAX_STRIDE};

use super::{GroupNormStats, Operator, PrecisionRule, nhwc};
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};
use geometry::ConvWindows;

/// `y[n,oy,ox,o] = sum_{i,ky,kx} x[n, s oy + ky - p, s ox + kx - p, i] w[o,i,ky,kx]
/// (+ bias[o]) (+ residual[n,oy,ox,o])` with zeros outside `x`.
///
/// Inputs: `x` `[N,H,W,I]`, `w` `[O,I,kH,kW]`, then `bias` `[O]` and `residual` of the result's
/// shape where their flags are set. With `upsample` every pixel of `x` first becomes 2×2 pixels.
///
/// With `concat` the input is a concatenated operand: `x` has the first of the `I` channels, and a last input `[N,H,W,J]`
/// has the last `J`. With `stats` a second result holds the statistics of `y` as it is stored. Model code uses ops of their
/// own for both. For a device whose convolutions do their work without a further pass, producer fusion moves them here
/// after autodiff, so there is no gradient then: see `compile/passes/fuse_for_device.rs`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv2d {
    /// Distance of neighbouring windows along both axes, 1 to [`MAX_STRIDE`].
    pub stride: usize,
    /// Zeros around the (upsampled) input: above and below, left and right.
    pub padding: [usize; 2],
    /// Whether every pixel of the input first becomes 2×2 pixels.
    pub upsample: bool,
    /// Whether input 2 is a bias.
    pub bias: bool,
    /// Whether an input behind the bias is added to the result.
    pub residual: bool,
    /// Whether the last input has the last channels of `x`.
    pub concat: bool,
    /// The statistics that are a second result.
    pub stats: Option<GroupNormStats>,
}

/// Gradient of [`Conv2d`] with respect to its input `(+ residual)`. Inputs: `dy` `[N,OH,OW,O]`, `w` `[O,I,kH,kW]`, then
/// `residual` of the result's shape if its flag is set; result `[N,height,width,I]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dInputGrad {
    /// As in [`Conv2d`].
    pub stride: usize,
    /// As in [`Conv2d`].
    pub padding: [usize; 2],
    /// As in [`Conv2d`].
    pub upsample: bool,
    /// Rows of the convolution's input, before the upsample.
    pub height: usize,
    /// Columns of the convolution's input, before the upsample.
    pub width: usize,
    /// Adds a third operand to the input gradient, for values with several readers.
    pub residual: bool,
}

/// Gradient of [`Conv2d`] with respect to its filter. Inputs: `x` `[N,H,W,I]`, `dy` `[N,OH,OW,O]`;
/// result `[O,I,kH,kW]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dWeightGrad {
    /// As in [`Conv2d`].
    pub stride: usize,
    /// As in [`Conv2d`].
    pub padding: [usize; 2],
    /// As in [`Conv2d`].
    pub upsample: bool,
    /// Rows and columns of the filter.
    pub kernel: [usize; 2],
}

/// Extents of a filter `[O,I,kH,kW]` of floats.
fn filter(ty: &TensorType) -> Option<[usize; 4]> {
    nhwc(ty)
}

fn flops(result: &TensorType, filter: &[usize]) -> u64 {
    let per_pixel: usize = filter.iter().product();
    2 * (result.rows() * per_pixel) as u64
}

impl Conv2d {
    fn windows(&self) -> ConvWindows {
        ConvWindows {
            stride: self.stride,
            padding: self.padding,
            upsample: self.upsample,
        }
    }

    /// Position of the residual among the inputs, if there is one.
    fn residual_input(&self) -> Option<usize> {
        self.residual.then_some(2 + usize::from(self.bias))
    }

    /// Position of the concatenated operand's last channels among the inputs, if there are any.
    fn concat_input(&self) -> Option<usize> {
        let before = 2 + usize::from(self.bias) + usize::from(self.residual);
        self.concat.then_some(before)
    }
}

impl Conv2dInputGrad {
    /// Position of the residual among the inputs.
    const RESIDUAL: usize = 2;

    fn windows(&self) -> ConvWindows {
        ConvWindows {
            stride: self.stride,
            padding: self.padding,
            upsample: self.upsample,
        }
    }
}

impl Conv2dWeightGrad {
    fn windows(&self) -> ConvWindows {
        ConvWindows {
            stride: self.stride,
            padding: self.padding,
            upsample: self.upsample,
        }
    }
}

impl Operator for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn describe(&self) -> String {
        let mut text = format!("conv2d {}", self.windows().describe());
        for (flag, name) in [
            (self.bias, " +bias"),
            (self.residual, " +residual"),
            (self.concat, " +concat"),
            (self.stats.is_some(), " +stats"),
        ] {
            if flag {
                text.push_str(name);
            }
        }
        text
    }

    /// Filter and bias stay f32.
    fn precision_rule(&self) -> PrecisionRule {
        let bit = |input: Option<usize>| input.map_or(0, |index| 1 << index);
        PrecisionRule::Reduced {
            inputs: 1 | bit(self.residual_input()) | bit(self.concat_input()),
            results: 1,
        }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let y = || {
            let [x, w, rest @ ..] = inputs else {
                return None;
            };
            let ([n, h, width, i], [o, wi, kh, kw]) = (nhwc(x)?, filter(w)?);
            let [oh, ow] = self.windows().output([h, width], [kh, kw])?;
            let y = TensorType::new([n, oh, ow, o], x.dtype);
            let bias = TensorType::new([o], w.dtype);
            let others = wi.checked_sub(i)?;
            let missing = TensorType::new([n, h, width, others], x.dtype);
            let expected = [
                (self.bias, &bias),
                (self.residual, &y),
                (self.concat, &missing),
            ];
            let expected = expected
                .into_iter()
                .filter_map(|(flag, ty)| flag.then_some(ty));
            if (others > 0) != self.concat || !rest.iter().eq(expected) {
                return None;
            }
            let stats = match self.stats {
                Some(stats) => stats.infer(std::slice::from_ref(&y)).ok()?,
                None => Vec::new(),
            };
            Some([vec![y], stats].concat())
        };
        y().ok_or_else(|| {
            let mut expected = format!(
                "x [N,H,W,I], weight [O,I,kH,kW] with kernel sides up to {MAX_KERNEL} that fit \
                 {}",
                self.windows().describe()
            );
            for (flag, name) in [
                (self.bias, ", bias [O]"),
                (self.residual, ", residual like the result"),
                (self.concat, ", the other channels of x"),
                (self.stats.is_some(), ", O divisible by the groups"),
            ] {
                if flag {
                    expected.push_str(name);
                }
            }
            Mismatch::inputs(expected, inputs)
        })
    }

    fn flops(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        let stats = self.stats.map(|s| s.flops(outputs, &outputs[1..]));
        flops(&outputs[0], &inputs[1].shape) + stats.unwrap_or(0)
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        if self.concat || self.stats.is_some() {
            return Ok(None);
        }
        let Conv2d {
            stride,
            padding,
            upsample,
            ..
        } = *self;
        let (x, w, dy) = (cx.inputs[0], cx.inputs[1], cx.dy());
        let g = &mut *cx.graph;
        let mut grads = vec![None; cx.inputs.len()];
        if cx.wanted[0] {
            let (height, width) = (g.shape(x)[1], g.shape(x)[2]);
            let op = Conv2dInputGrad {
                stride,
                padding,
                upsample,
                height,
                width,
                residual: false,
            };
            grads[0] = Some(g.apply(op, &[dy, w])?);
        }
        if cx.wanted[1] {
            let kernel = [g.shape(w)[2], g.shape(w)[3]];
            let op = Conv2dWeightGrad {
                stride,
                padding,
                upsample,
                kernel,
            };
            grads[1] = Some(g.apply(op, &[x, dy])?);
        }
        if self.bias && cx.wanted[2] {
            let shape = g.shape(cx.inputs[2]).to_vec();
            grads[2] = Some(g.sum_to(dy, &shape)?);
        }
        if let Some(residual) = self.residual_input() {
            grads[residual] = Some(dy);
        }
        Ok(Some(grads))
    }
}

impl Operator for Conv2dInputGrad {
    fn name(&self) -> &'static str {
        "conv2d_input_grad"
    }

    fn describe(&self) -> String {
        let residual = if self.residual { " +residual" } else { "" };
        format!("conv2d_input_grad {}{residual}", self.windows().describe())
    }

    /// The filter stays f32.
    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::Reduced {
            inputs: 1 | u64::from(self.residual) << Self::RESIDUAL,
            results: 1,
        }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let dx = || {
            let [dy, w, rest @ ..] = inputs else {
                return None;
            };
            let ([n, oh, ow, o], [wo, i, kh, kw]) = (nhwc(dy)?, filter(w)?);
            let output = self.windows().output([self.height, self.width], [kh, kw])?;
            let dx = TensorType::new([n, self.height, self.width, i], dy.dtype);
            let residual = self.residual.then_some(&dx);
            (o == wo && output == [oh, ow] && rest.iter().eq(residual)).then_some(vec![dx])
        };
        dx().ok_or_else(|| {
            let residual = match self.residual {
                true => ", residual like the result",
                false => "",
            };
            Mismatch::inputs(
                format!(
                    "dy [N,OH,OW,O] of a convolution of {}x{} pixels, weight [O,I,kH,kW]{residual}",
                    self.height, self.width
                ),
                inputs,
            )
        })
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        flops(&inputs[0], &inputs[1].shape)
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }
}

impl Operator for Conv2dWeightGrad {
    fn name(&self) -> &'static str {
        "conv2d_weight_grad"
    }

    fn describe(&self) -> String {
        format!("conv2d_weight_grad {}", self.windows().describe())
    }

    /// The filter's gradient stays f32.
    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::Reduced {
            inputs: 0b11,
            results: 0,
        }
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let dw = || {
            let [x, dy] = inputs else { return None };
            let ([n, h, w, i], [dn, oh, ow, o]) = (nhwc(x)?, nhwc(dy)?);
            let output = self.windows().output([h, w], self.kernel)?;
            let dw = TensorType::new([o, i, self.kernel[0], self.kernel[1]], x.dtype);
            (n == dn && output == [oh, ow]).then_some(vec![dw])
        };
        dw().ok_or_else(|| {
            Mismatch::inputs(
                format!(
                    "x [N,H,W,I] and dy [N,OH,OW,O] of a {}x{} convolution",
                    self.kernel[0], self.kernel[1]
                ),
                inputs,
            )
        })
    }

    fn flops(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        flops(&inputs[1], &outputs[0].shape)
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }
}

impl Graph {
    /// Convolution of `x` `[N,H,W,I]` with `w` `[O,I,kH,kW]` and optional `bias` `[O]`, `padding`
    /// zeros on every side: `[N,(H+2p-kH)/s+1,(W+2p-kW)/s+1,O]`.
    ///
    /// # Errors
    /// If channels differ, the kernel does not fit, or kernel or stride is larger than
    /// [`MAX_KERNEL`], [`MAX_STRIDE`].
    pub fn conv2d(
        &mut self,
        x: Value,
        w: Value,
        bias: Option<Value>,
        stride: usize,
        padding: usize,
    ) -> Result<Value, GraphError> {
        self.conv2d_padded(x, w, bias, stride, [padding; 2])
    }

    /// [`Graph::conv2d`] with `padding[0]` zeros above and below and `padding[1]` left and right.
    ///
    /// # Errors
    /// As [`Graph::conv2d`].
    pub fn conv2d_padded(
        &mut self,
        x: Value,
        w: Value,
        bias: Option<Value>,
        stride: usize,
        padding: [usize; 2],
    ) -> Result<Value, GraphError> {
        let op = Conv2d {
            stride,
            padding,
            upsample: false,
            bias: bias.is_some(),
            residual: false,
            concat: false,
            stats: None,
        };
        let inputs: Vec<Value> = [x, w].into_iter().chain(bias).collect();
        self.apply(op, &inputs)
    }
}
