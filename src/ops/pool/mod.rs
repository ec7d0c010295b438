//! Average and maximum over windows, and their gradients.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::{Operator, PrecisionRule, nhwc};
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};

/// Mean over `kernel`×`kernel` windows of `x` `[N,H,W,C]`, `stride` apart, with `padding` zeros on
/// every side. The divisor is `kernel²` with `count_padding`, else the pixels inside the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvgPool {
    /// Rows and columns of a window.
    pub kernel: usize,
    /// Distance of neighbouring windows along both axes.
    pub stride: usize,
    /// Pixels outside the image on every side that windows may cover; smaller than the window.
    pub padding: usize,
    /// Whether the divisor counts the padding.
    pub count_padding: bool,
}

/// Gradient of [`AvgPool`] over `height`×`width` pixels. Input: `dy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvgPoolGrad {
    /// The pooling.
    pub pool: AvgPool,
    /// Rows of the pooled image.
    pub height: usize,
    /// Columns of the pooled image.
    pub width: usize,
}

/// Mean over `height`×`width` regions that cover `x` `[N,H,W,C]`: rows `floor(iH/height)` to
/// `ceil((i+1)H/height)`, and columns likewise. This is interpolation by area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptiveAvgPool {
    /// Rows of the result.
    pub height: usize,
    /// Columns of the result.
    pub width: usize,
}

/// Gradient of [`AdaptiveAvgPool`] over `height`×`width` pixels. Input: `dy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptiveAvgPoolGrad {
    /// Rows of the pooled image.
    pub height: usize,
    /// Columns of the pooled image.
    pub width: usize,
}

/// Maximum over `kernel`×`kernel` windows of `x` `[N,H,W,C]`, `stride` apart; `padding` on every side
/// never wins. NaN wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool {
    /// Rows and columns of a window.
    pub kernel: usize,
    /// Distance of neighbouring windows along both axes.
    pub stride: usize,
    /// Pixels outside the image on every side that windows may cover; smaller than the window.
    pub padding: usize,
}

/// Gradient of [`MaxPool`]: `dy` goes to the first largest pixel of each window in row-major
/// order. Inputs: `x`, `dy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPoolGrad {
    /// The pooling.
    pub pool: MaxPool,
}

/// Which pixels each result covers.
#[derive(Clone, Copy)]
enum PoolWindows {
    /// `kernel`×`kernel` pixels, `stride` apart, from `padding` before the image on.
    Fixed {
        kernel: usize,
        stride: usize,
        padding: usize,
    },
    /// Regions that cover an image of extents `input`, one for each result of extents `output`.
    Regions {
        input: [usize; 2],
        output: [usize; 2],
    },
}

impl PoolWindows {
    /// The regions of an image `[N,H,W,C]` that is pooled to `pooled` `[N,OH,OW,C]`.
    fn regions(image: &TensorType, pooled: &TensorType) -> Self {
        let extents = |ty: &TensorType| [ty.shape[1], ty.shape[2]];
        PoolWindows::Regions {
            input: extents(image),
            output: extents(pooled),
        }
    }

    /// What an input has to be, for the message of a mismatch.
    fn expected(self) -> String {
        match self {
            PoolWindows::Fixed {
                kernel,
                stride,
                padding,
            } => format!(
                "x [N,H,W,C] that windows of {kernel}x{kernel} fit, padding {padding} smaller than they, stride \
                 {stride} above 0"
            ),
            PoolWindows::Regions { .. } => "x [N,H,W,C] and a size above 0".to_owned(),
        }
    }

    /// For people: size and place of the windows.
    fn describe(self) -> String {
        match self {
            PoolWindows::Fixed {
                kernel,
                stride,
                padding,
            } => format!("kernel {kernel} stride {stride} padding {padding}"),
            PoolWindows::Regions { output: [h, w], .. } => format!("{h}x{w}"),
        }
    }

    /// Operations of pooling `image` to `pooled`, or of the gradient.
    fn flops(self, image: &TensorType, pooled: &TensorType) -> u64 {
        match self {
            PoolWindows::Fixed { kernel, .. } => (pooled.len() * kernel * kernel) as u64,
            PoolWindows::Regions { .. } => image.len() as u64,
        }
    }

    /// Extents of the result for an image of these extents, if every window meets the image.
    fn output(self, input: [usize; 2]) -> Option<[usize; 2]> {
        match self {
            PoolWindows::Fixed {
                kernel,
                stride,
                padding,
            } => {
                let along = |len: usize| {
                    let fits = stride > 0 && padding < kernel && len + 2 * padding >= kernel;
                    fits.then(|| (len + 2 * padding - kernel) / stride + 1)
                };
                Some([along(input[0])?, along(input[1])?])
            }
            PoolWindows::Regions { output, .. } => (!output.contains(&0)).then_some(output),
        }
    }

    /// Pixels of an image of `len` along `axis` that result `o` covers.
    fn span(self, axis: usize, o: usize, len: usize) -> Range<usize> {
        match self {
            PoolWindows::Fixed {
                kernel,
                stride,
                padding,
            } => {
                let start = (o * stride).saturating_sub(padding);
                start..(o * stride + kernel - padding).min(len)
            }
            PoolWindows::Regions { input, output } => {
                let (from, to) = (input[axis], output[axis]);
                o * from / to..((o + 1) * from).div_ceil(to)
            }
        }
    }

    /// True if no two windows of a column share a row.
    fn disjoint(self) -> bool {
        match self {
            PoolWindows::Fixed { kernel, stride, .. } => kernel <= stride,
            PoolWindows::Regions { input, output } => input[0].is_multiple_of(output[0]),
        }
    }
}

impl AvgPool {
    fn windows(&self) -> PoolWindows {
        PoolWindows::Fixed {
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
        }
    }

    /// What sums are divided by, if that is the same for all windows.
    fn divisor(&self) -> Option<usize> {
        self.count_padding.then_some(self.kernel * self.kernel)
    }
}

impl MaxPool {
    fn windows(&self) -> PoolWindows {
        PoolWindows::Fixed {
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
        }
    }
}

impl AdaptiveAvgPool {
    /// The regions of an image of these extents.
    fn windows(&self, image: [usize; 2]) -> PoolWindows {
        PoolWindows::Regions {
            input: image,
            output: [self.height, self.width],
        }
    }
}

impl AdaptiveAvgPoolGrad {
    /// The regions of an image that is pooled to these extents.
    fn windows(&self, pooled: [usize; 2]) -> PoolWindows {
        PoolWindows::Regions {
            input: [self.height, self.width],
            output: pooled,
        }
    }
}

/// Result type of pooling the only input by the windows for an image of its extents.
fn pooled(
    windows: impl Fn([usize; 2]) -> PoolWindows,
    inputs: &[TensorType],
) -> Result<Vec<TensorType>, Mismatch> {
    let pooled = || {
        let [x] = inputs else { return None };
        let [n, h, w, c] = nhwc(x)?;
        let [oh, ow] = windows([h, w]).output([h, w])?;
        Some(vec![TensorType::new([n, oh, ow, c], x.dtype)])
    };
    pooled().ok_or_else(|| Mismatch::inputs(windows([0, 0]).expected(), inputs))
}

/// Type of an image of `height`×`width` whose pooled form is like `dy`, by the windows for a result of its extents.
fn unpooled(
    windows: impl Fn([usize; 2]) -> PoolWindows,
    dy: &TensorType,
    [height, width]: [usize; 2],
) -> Option<TensorType> {
    let [n, oh, ow, c] = nhwc(dy)?;
    let output = windows([oh, ow]).output([height, width]);
    let fits = height > 0 && width > 0 && output == Some([oh, ow]);
    fits.then(|| TensorType::new([n, height, width, c], dy.dtype))
}

fn image_extents(g: &Graph, x: Value) -> [usize; 2] {
    [g.shape(x)[1], g.shape(x)[2]]
}

impl Operator for AvgPool {
    fn name(&self) -> &'static str {
        "avg_pool"
    }

    fn describe(&self) -> String {
        format!("avg_pool {}", self.windows().describe())
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        pooled(|_| self.windows(), inputs)
    }

    fn flops(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        self.windows().flops(&inputs[0], &outputs[0])
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let [height, width] = image_extents(cx.graph, cx.inputs[0]);
        let op = AvgPoolGrad {
            pool: *self,
            height,
            width,
        };
        let dy = cx.dy();
        Ok(Some(vec![Some(cx.graph.apply(op, &[dy])?)]))
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::FOLLOWS
    }
}

impl Operator for AvgPoolGrad {
    fn name(&self) -> &'static str {
        "avg_pool_grad"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let dx = match inputs {
            [dy] => unpooled(|_| self.pool.windows(), dy, [self.height, self.width]),
            _ => None,
        };
        let expected = || format!("dy [N,OH,OW,C] of {}x{} pixels", self.height, self.width);
        dx.map(|dx| vec![dx])
            .ok_or_else(|| Mismatch::inputs(expected(), inputs))
    }

    fn flops(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        self.pool.windows().flops(&outputs[0], &inputs[0])
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::FOLLOWS
    }
}

impl Operator for AdaptiveAvgPool {
    fn name(&self) -> &'static str {
        "adaptive_avg_pool"
    }

    fn describe(&self) -> String {
        format!("adaptive_avg_pool {}", self.windows([0, 0]).describe())
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        pooled(|image| self.windows(image), inputs)
    }

    fn flops(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        self.windows([0, 0]).flops(&inputs[0], &outputs[0])
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let [height, width] = image_extents(cx.graph, cx.inputs[0]);
        let dy = cx.dy();
        let dx = cx
            .graph
            .apply(AdaptiveAvgPoolGrad { height, width }, &[dy])?;
        Ok(Some(vec![Some(dx)]))
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::FOLLOWS
    }
}

impl Operator for AdaptiveAvgPoolGrad {
    fn name(&self) -> &'static str {
        "adaptive_avg_pool_grad"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let dx = match inputs {
            [dy] => unpooled(|pooled| self.windows(pooled), dy, [self.height, self.width]),
            _ => None,
        };
        dx.map(|dx| vec![dx])
            .ok_or_else(|| Mismatch::inputs("dy [N,OH,OW,C]", inputs))
    }

    fn flops(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        self.windows([0, 0]).flops(&outputs[0], &inputs[0])
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::FOLLOWS
    }
}

impl Operator for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }

    fn describe(&self) -> String {
        format!("max_pool {}", self.windows().describe())
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        pooled(|_| self.windows(), inputs)
    }

    fn flops(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        self.windows().flops(&inputs[0], &outputs[0])
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let dy = cx.dy();
        let dx = cx
            .graph
            .apply(MaxPoolGrad { pool: *self }, &[cx.inputs[0], dy])?;
        Ok(Some(vec![Some(dx)]))
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::FOLLOWS
    }
}

impl Operator for MaxPoolGrad {
    fn name(&self) -> &'static str {
        "max_pool_grad"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let dx = match inputs {
            [x, dy] => nhwc(x)
                .and_then(|[_, h, w, _]| unpooled(|_| self.pool.windows(), dy, [h, w]))
                .filter(|dx| dx == x),
            _ => None,
        };
        dx.map(|dx| vec![dx])
            .ok_or_else(|| Mismatch::inputs("x [N,H,W,C] and dy [N,OH,OW,C]", inputs))
    }

    fn flops(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        self.pool.windows().flops(&outputs[0], &inputs[1])
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::FOLLOWS
    }
}

impl Graph {
    /// Mean over windows of `x` `[N,H,W,C]` with `padding` zeros on every side that count in the
    /// divisor.
    ///
    /// # Errors
    /// If no window fits or the padding is not smaller than the window.
    pub fn avg_pool(
        &mut self,
        x: Value,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Result<Value, GraphError> {
        let op = AvgPool {
            kernel,
            stride,
            padding,
            count_padding: true,
        };
        self.apply(op, &[x])
    }

    /// Maximum over windows of `x` `[N,H,W,C]`.
    ///
    /// # Errors
    /// If no window fits or the padding is not smaller than the window.
    pub fn max_pool(
        &mut self,
        x: Value,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Result<Value, GraphError> {
        let op = MaxPool {
            kernel,
            stride,
            padding,
        };
        self.apply(op, &[x])
    }

    /// Shrinks `x` `[N,H,W,C]` to `height`×`width` by averaging areas.
    ///
    /// # Errors
    /// If a size is 0.
    pub fn resize_area(
        &mut self,
        x: Value,
        height: usize,
        width: usize,
    ) -> Result<Value, GraphError> {
        self.apply(AdaptiveAvgPool { height, width }, &[x])
    }
}
