//! Linear maps on CUDA: `kernels/linear.cu` for few rows, else the convolution of a row of pixels with a kernel of one.

use super::{Linear, LinearInputGrad, LinearWeightGrad};
use crate::graph::TensorType;
use crate::kernel::Unsupported;
use crate::kernel::cuda::{
    CudaCall, CudaOperator, CudaPackedOperand, DevicePtr, Kernel, Target, element,
    params::LinearRowsParams,
};
use crate::ops::conv2d::ConvGeometry;
use crate::ops::conv2d::cuda::{Algorithm, Problem, forward, input_grad, weight_grad};
use crate::tensor::DType;

/// Rows up to which reading the matrix takes longer than multiplying with it.
const FEW_ROWS: usize = 32;
/// Rows that share one reading of the matrix, `ROWS` in `linear.cu`.
const ROWS: usize = 8;
/// Warps of a block, `WARPS` in `linear.cu`.
const WARPS: usize = 8;
const WARP: usize = 32;

/// A map of `samples * rows` rows.
struct LinearExtents {
    samples: usize,
    /// Rows of one sample.
    rows: usize,
    inputs: usize,
    outputs: usize,
    dtype: DType,
}

impl LinearExtents {
    /// The layer with activations `x` and results `y`.
    fn new(x: &TensorType, y: &TensorType) -> Self {
        let samples = match x.shape[..] {
            [samples, _, ..] => samples,
            _ => 1,
        };
        Self {
            samples,
            rows: x.rows() / samples,
            inputs: x.channels(),
            outputs: y.channels(),
            dtype: x.dtype,
        }
    }

    /// The two algorithms add in different orders. Where a sample's bits may not depend on the batch, neither may the choice.
    fn has_few_rows(&self, target: &Target) -> bool {
        let samples = if target.deterministic {
            1
        } else {
            self.samples
        };
        samples * self.rows <= FEW_ROWS
    }

    fn problem(&self, bias: bool, residual: bool, target: &Target) -> Problem {
        Problem {
            geometry: ConvGeometry {
                batch: self.samples,
                height: 1,
                width: self.rows,
                in_channels: self.inputs,
                out_channels: self.outputs,
                kernel: [1, 1],
                stride: 1,
                padding: [0, 0],
                upsample: false,
            },
            dtype: self.dtype,
            bias,
            residual,
            concat_channels: 0,
            stats: None,
            target: *target,
        }
    }

    fn rows_params(&self, call: &CudaCall<'_>) -> LinearRowsParams {
        let int = |n: usize| i32::try_from(n).expect("extents are below 2^31");
        LinearRowsParams {
            x: call.input(0),
            matrix: call.input(1),
            bias: DevicePtr::NULL,
            residual: DevicePtr::NULL,
            y: call.output(0),
            rows: int(self.samples * self.rows),
            inputs: int(self.inputs),
            outputs: int(self.outputs),
        }
    }

    fn launch_rows(
        &self,
        call: &mut CudaCall<'_>,
        entry: &'static str,
        columns: usize,
        params: &LinearRowsParams,
    ) {
        let kernel = Kernel::new("linear.cu", entry)
            .with("T", element(self.dtype))
            .with("VEC", if self.inputs.is_multiple_of(4) { 4 } else { 1 });
        let grid = [columns, (self.samples * self.rows).div_ceil(ROWS), 1];
        call.launch(kernel, grid, [WARPS * WARP, 1, 1], 0, params);
    }
}

fn packed(algorithm: Option<Box<dyn Algorithm>>) -> Option<CudaPackedOperand> {
    let bytes = algorithm?.packed_bytes();
    Some(CudaPackedOperand { index: 1, bytes })
}

fn workspace_bytes(algorithm: Option<Box<dyn Algorithm>>) -> usize {
    algorithm.map_or(0, |algorithm| algorithm.workspace_bytes())
}

impl Linear {
    /// The convolution that computes the map, unless rows are few.
    fn convolution(
        &self,
        x: &TensorType,
        y: &TensorType,
        target: &Target,
    ) -> Option<Box<dyn Algorithm>> {
        let layer = LinearExtents::new(x, y);
        let problem = layer.problem(self.bias, self.residual, target);
        (!layer.has_few_rows(target)).then(|| forward(&problem))
    }
}

impl CudaOperator for Linear {
    fn workspace_bytes(
        &self,
        inputs: &[TensorType],
        outputs: &[TensorType],
        target: &Target,
    ) -> usize {
        workspace_bytes(self.convolution(&inputs[0], &outputs[0], target))
    }

    fn packed_operand(
        &self,
        inputs: &[TensorType],
        outputs: &[TensorType],
        target: &Target,
    ) -> Option<CudaPackedOperand> {
        packed(self.convolution(&inputs[0], &outputs[0], target))
    }

    fn pack(&self, call: &mut CudaCall<'_>) {
        if let Some(algorithm) = self.convolution(call.in_type(0), call.out_type(0), call.target())
        {
            algorithm.pack(call);
        }
    }

    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        if let Some(algorithm) = self.convolution(call.in_type(0), call.out_type(0), call.target())
        {
            algorithm.launch(call);
            return Ok(());
        }
        let layer = LinearExtents::new(call.in_type(0), call.out_type(0));
        let mut params = layer.rows_params(call);
        if self.bias {
            params.bias = call.input(2);
        }
        if let Some(index) = self.residual_input() {
            params.residual = call.input(index);
        }
        layer.launch_rows(call, "linear_rows", layer.outputs.div_ceil(WARPS), &params);
        Ok(())
    }
}

impl LinearInputGrad {
    /// The input gradient of a convolution that computes the gradient, unless rows are few.
    fn convolution(
        &self,
        dy: &TensorType,
        dx: &TensorType,
        target: &Target,
    ) -> Option<Box<dyn Algorithm>> {
        let layer = LinearExtents::new(dx, dy);
        (!layer.has_few_rows(target))
            .then(|| input_grad(&layer.problem(false, self.residual, target)))
    }
}

impl CudaOperator for LinearInputGrad {
    fn workspace_bytes(
        &self,
        inputs: &[TensorType],
        outputs: &[TensorType],
        target: &Target,
    ) -> usize {
        workspace_bytes(self.convolution(&inputs[0], &outputs[0], target))
    }

    fn packed_operand(
        &self,
        inputs: &[TensorType],
        outputs: &[TensorType],
        target: &Target,
    ) -> Option<CudaPackedOperand> {
        packed(self.convolution(&inputs[0], &outputs[0], target))
    }

    fn pack(&self, call: &mut CudaCall<'_>) {
        if let Some(algorithm) = self.convolution(call.in_type(0), call.out_type(0), call.target())
        {
            algorithm.pack(call);
        }
    }

    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        if let Some(algorithm) = self.convolution(call.in_type(0), call.out_type(0), call.target())
        {
            algorithm.launch(call);
            return Ok(());
        }
        let layer = LinearExtents::new(call.out_type(0), call.in_type(0));
        let mut params = layer.rows_params(call);
        if self.residual {
            params.residual = call.input(Self::RESIDUAL);
        }
        let columns = layer.inputs.div_ceil(WARP);
        layer.launch_rows(call, "linear_rows_input_grad", columns, &params);
        Ok(())
    }
}

impl LinearWeightGrad {
    fn convolution(&self, x: &TensorType, dy: &TensorType, target: &Target) -> Box<dyn Algorithm> {
        weight_grad(&LinearExtents::new(x, dy).problem(false, false, target))
    }
}

impl CudaOperator for LinearWeightGrad {
    fn workspace_bytes(&self, inputs: &[TensorType], _: &[TensorType], target: &Target) -> usize {
        self.convolution(&inputs[0], &inputs[1], target)
            .workspace_bytes()
    }

    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        self.convolution(call.in_type(0), call.in_type(1), call.target())
            .launch(call);
        Ok(())
    }
}
