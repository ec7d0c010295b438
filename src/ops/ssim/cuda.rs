//! Launches `kernels/ssim.cu`: tiles of one channel each.

use super::{Ssim, SsimGrad, SsimWindow, TAPS};
use crate::graph::TensorType;
use crate::kernel::Unsupported;
use crate::kernel::cuda::{CudaCall, CudaOperator, Kernel, Target, params::SsimParams};
use crate::ops::cuda::sums;

/// Windows of a tile of the forward kernel, rows and columns.
const FORWARD: [usize; 2] = [16, 32];
/// Pixels of a tile of the backward kernel along both axes.
const BACKWARD: usize = 16;

struct BatchGeometry {
    batch: usize,
    height: usize,
    width: usize,
    channels: usize,
    vertical: SsimWindow,
    horizontal: SsimWindow,
}

impl BatchGeometry {
    fn new(ty: &TensorType) -> Self {
        let [batch, height, width, channels] = ty.shape[..] else {
            unreachable!("checked by infer")
        };
        Self {
            batch,
            height,
            width,
            channels,
            vertical: SsimWindow::along(height),
            horizontal: SsimWindow::along(width),
        }
    }

    /// Forward tiles of a channel.
    fn tiles(&self) -> usize {
        self.vertical.positions(self.height).div_ceil(FORWARD[0])
            * self.horizontal.positions(self.width).div_ceil(FORWARD[1])
    }

    /// Backward tiles of a channel.
    fn backward_tiles(&self) -> usize {
        self.height.div_ceil(BACKWARD) * self.width.div_ceil(BACKWARD)
    }

    fn partial_bytes(&self) -> usize {
        sums::partial_bytes(self.batch * self.channels * self.tiles())
    }

    fn params(&self, op: Ssim, call: &CudaCall<'_>) -> SsimParams {
        let taps = |window: &SsimWindow| -> [f32; TAPS] { window.weights.map(|w| w as f32) };
        SsimParams {
            a: call.input(0),
            b: call.input(1),
            partials: call.workspace(),
            y: sums::NONE,
            dy: sums::NONE,
            dx: sums::NONE,
            height: self.height as i32,
            width: self.width as i32,
            channels: self.channels as i32,
            tiles: self.tiles() as i32,
            metric: op.metric.into(),
            vertical: taps(&self.vertical),
            horizontal: taps(&self.horizontal),
        }
    }

    fn launch(
        &self,
        call: &mut CudaCall<'_>,
        entry: &'static str,
        grid: [usize; 3],
        params: &SsimParams,
    ) {
        let kernel = Kernel::new("ssim.cu", entry)
            .with("VERTICAL", self.vertical.len)
            .with("HORIZONTAL", self.horizontal.len);
        call.launch(kernel, grid, sums::BLOCK, 0, params);
    }

    fn launch_partials(&self, call: &mut CudaCall<'_>, params: &SsimParams) {
        let grid = [self.channels * self.tiles(), self.batch, 1];
        self.launch(call, "ssim_partial", grid, params);
    }
}

impl CudaOperator for Ssim {
    fn workspace_bytes(&self, inputs: &[TensorType], _: &[TensorType], _: &Target) -> usize {
        BatchGeometry::new(&inputs[0]).partial_bytes()
    }

    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let geometry = BatchGeometry::new(call.in_type(0));
        let params = SsimParams {
            y: call.output(0),
            ..geometry.params(*self, call)
        };
        geometry.launch_partials(call, &params);
        geometry.launch(call, "ssim_mean", [geometry.batch, 1, 1], &params);
        Ok(())
    }
}

impl CudaOperator for SsimGrad {
    fn workspace_bytes(&self, inputs: &[TensorType], _: &[TensorType], _: &Target) -> usize {
        match self.of.metric {
            true => 0,
            false => BatchGeometry::new(&inputs[0]).partial_bytes(),
        }
    }

    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let geometry = BatchGeometry::new(call.in_type(0));
        let params = SsimParams {
            dy: call.input(2),
            dx: call.output(0),
            ..geometry.params(self.of, call)
        };
        // The loss cuts channels by their means, so these are computed first.
        if !self.of.metric {
            geometry.launch_partials(call, &params);
        }
        let grid = [
            geometry.channels * geometry.backward_tiles(),
            geometry.batch,
            1,
        ];
        geometry.launch(call, "ssim_grad", grid, &params);
        Ok(())
    }
}
