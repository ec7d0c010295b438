//! Nearest-neighbour resizing and its gradients.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::{Operator, PrecisionRule, nhwc};
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};

/// Every pixel of `x` `[N,H,W,C]` becomes `factor`×`factor` pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upsample {
    /// Pixels of the result per pixel of the image, along both axes.
    pub factor: usize,
}

/// Gradient of [`Upsample`]: sums of `factor`×`factor` pixels. Input: `dy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpsampleGrad {
    /// Pixels of the result per pixel of the image, along both axes.
    pub factor: usize,
}

/// Pixel `(i, j)` of the `height`×`width` result is pixel `floor((i + 1/2) H / height)`,
/// `floor((j + 1/2) W / width)` of `x` `[N,H,W,C]`: interpolation "nearest-exact".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResizeNearest {
    /// Rows of the result.
    pub height: usize,
    /// Columns of the result.
    pub width: usize,
}

/// Gradient of [`ResizeNearest`] for an `x` of `height`×`width`. Input: `dy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResizeNearestGrad {
    /// Rows of the resized image.
    pub height: usize,
    /// Columns of the resized image.
    pub width: usize,
}

/// The image with `resize([H, W])` as its size.
fn resized(
    inputs: &[TensorType],
    resize: impl Fn([usize; 2]) -> Option<[usize; 2]>,
    expected: &str,
) -> Result<Vec<TensorType>, Mismatch> {
    let result = || {
        let [x] = inputs else { return None };
        let [n, h, w, c] = nhwc(x)?;
        let [height, width] = resize([h, w]).filter(|size| !size.contains(&0))?;
        Some(vec![TensorType::new([n, height, width, c], x.dtype)])
    };
    result().ok_or_else(|| Mismatch::inputs(expected, inputs))
}

impl Operator for Upsample {
    fn name(&self) -> &'static str {
        "upsample"
    }

    fn describe(&self) -> String {
        format!("upsample {}", self.factor)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let scaled = |size: [usize; 2]| Some(size.map(|n| n * self.factor));
        resized(inputs, scaled, "x [N,H,W,C] and a factor above 0")
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> u64 {
        0
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let (factor, dy) = (self.factor, cx.dy());
        Ok(Some(vec![Some(
            cx.graph.apply(UpsampleGrad { factor }, &[dy])?,
        )]))
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::FOLLOWS
    }
}

impl Operator for UpsampleGrad {
    fn name(&self) -> &'static str {
        "upsample_grad"
    }

    fn describe(&self) -> String {
        format!("upsample_grad {}", self.factor)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let factor = self.factor;
        let shrunk = |size: [usize; 2]| {
            let divides = factor > 0 && size.iter().all(|n| n.is_multiple_of(factor));
            divides.then(|| size.map(|n| n / factor))
        };
        resized(
            inputs,
            shrunk,
            &format!("dy [N,H,W,C] with sides divisible by {factor}"),
        )
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        inputs[0].len() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::FOLLOWS
    }
}

impl Operator for ResizeNearest {
    fn name(&self) -> &'static str {
        "resize_nearest"
    }

    fn describe(&self) -> String {
        format!("resize_nearest {}x{}", self.height, self.width)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        resized(
            inputs,
            |_| Some([self.height, self.width]),
            "x [N,H,W,C] and a size above 0",
        )
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> u64 {
        0
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let shape = cx.graph.shape(cx.inputs[0]);
        let op = ResizeNearestGrad {
            height: shape[1],
            width: shape[2],
        };
        let dy = cx.dy();
        Ok(Some(vec![Some(cx.graph.apply(op, &[dy])?)]))
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::FOLLOWS
    }
}

impl Operator for ResizeNearestGrad {
    fn name(&self) -> &'static str {
        "resize_nearest_grad"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        resized(
            inputs,
            |_| Some([self.height, self.width]),
            "dy [N,H,W,C] and a size above 0",
        )
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        inputs[0].len() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::FOLLOWS
    }
}

impl Graph {
    /// Repeats every pixel of `x` `[N,H,W,C]` `factor` times in both directions.
    ///
    /// # Errors
    /// If `x` is no image or the factor is 0.
    pub fn upsample(&mut self, x: Value, factor: usize) -> Result<Value, GraphError> {
        self.apply(Upsample { factor }, &[x])
    }

    /// Resizes `x` `[N,H,W,C]` to `height`×`width` by taking the pixel under each new centre.
    ///
    /// # Errors
    /// If `x` is no image or a size is 0.
    pub fn resize_nearest(
        &mut self,
        x: Value,
        height: usize,
        width: usize,
    ) -> Result<Value, GraphError> {
        self.apply(ResizeNearest { height, width }, &[x])
    }
}
