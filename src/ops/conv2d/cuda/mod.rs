//! The convolution and its gradients on CUDA: what is to be computed, and which algorithm computes it.
//!
//! [`tensor`] and [`tensor_weight_grad`] take the f16 and bf16 problems that tensor cores are quick at, [`simt`] takes every
//! problem.

mod problem;
mod simt;
mod tensor;
mod tensor_weight_grad;
#[cfg(test)]
mod tests;
mod tile;
mod work;

use super::geometry::Direction;
use super::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad};
use crate::graph::TensorType;
use crate::kernel::Unsupported;
use crate::kernel::cuda::{
    CudaCall, CudaOperand, CudaOperator, CudaPackedOperand, Target, WORKSPACE_ALIGNMENT,
};
use crate::ops::{Concat, GroupNormStats, Operator};
pub(crate) use problem::{Algorithm, Problem};
use simt::{Gather, SimtWeightGrad};
use tensor::Gemm;
use tensor_weight_grad::TensorWeightGrad;

/// The algorithm for the convolution itself, of one `x`.
pub(crate) fn forward(problem: &Problem) -> Box<dyn Algorithm> {
    gather(problem, Direction::Forward)
}

/// The algorithm for the gradient of the input.
pub(crate) fn input_grad(problem: &Problem) -> Box<dyn Algorithm> {
    gather(problem, Direction::InputGrad)
}

fn gather(problem: &Problem, direction: Direction) -> Box<dyn Algorithm> {
    match Gemm::new(problem, direction) {
        Some(gemm) => Box::new(gemm),
        None => Box::new(Gather::new(problem, direction)),
    }
}

/// The algorithm for the gradient of the filter.
pub(crate) fn weight_grad(problem: &Problem) -> Box<dyn Algorithm> {
    match TensorWeightGrad::new(problem) {
        Some(gradient) => Box::new(gradient),
        None => Box::new(SimtWeightGrad::new(problem)),
    }
}

/// How a [`Conv2d`] is computed.
struct Chosen {
    algorithm: Box<dyn Algorithm>,
    /// The type of the concatenation, if the operand is two arrays and the algorithm reads one.
    x: Option<TensorType>,
    /// The statistics, if they take a pass of their own.
    stats: Option<GroupNormStats>,
}

impl Chosen {
    /// Bytes of `x` in front of the algorithm's workspace.
    fn x_bytes(&self) -> usize {
        let bytes = self.x.as_ref().map_or(0, TensorType::bytes);
        bytes.next_multiple_of(WORKSPACE_ALIGNMENT)
    }
}

impl Conv2d {
    fn choose(&self, inputs: &[TensorType], target: &Target) -> Chosen {
        let geometry = self.windows().geometry(&inputs[0].shape, &inputs[1].shape);
        let mut problem = Problem {
            geometry,
            dtype: inputs[0].dtype,
            bias: self.bias,
            residual: self.residual,
            concat_channels: geometry.in_channels - inputs[0].channels(),
            stats: self.stats,
            target: *target,
        };
        let (algorithm, x): (Box<dyn Algorithm>, _) = match Gemm::new(&problem, Direction::Forward)
        {
            Some(gemm) => (Box::new(gemm), None),
            None => {
                let x = [
                    geometry.batch,
                    geometry.height,
                    geometry.width,
                    geometry.in_channels,
                ];
                let x = self.concat.then(|| TensorType::new(x, problem.dtype));
                problem.concat_channels = 0;
                (forward(&problem), x)
            }
        };
        let stats = self.stats.filter(|_| !algorithm.leaves_statistics());
        Chosen {
            algorithm,
            x,
            stats,
        }
    }

    /// Whether both arrays of a concatenated operand are read where they are, without a copy.
    fn reads_concat(&self, inputs: &[TensorType], target: &Target) -> bool {
        self.concat && self.choose(inputs, target).x.is_none()
    }

    /// Whether computing the statistics in this convolution's epilogue saves a pass over the result.
    fn leaves_statistics(&self, inputs: &[TensorType], target: &Target) -> bool {
        let y = self.infer(inputs).ok();
        let is_a_pass = |stats: GroupNormStats| y.is_some_and(|y| stats.is_a_pass(&y[0]));
        self.stats.is_some_and(is_a_pass) && self.choose(inputs, target).stats.is_none()
    }
}

impl Conv2dInputGrad {
    fn algorithm(
        &self,
        inputs: &[TensorType],
        outputs: &[TensorType],
        target: &Target,
    ) -> Box<dyn Algorithm> {
        input_grad(&Problem {
            geometry: self.windows().geometry(&outputs[0].shape, &inputs[1].shape),
            dtype: inputs[0].dtype,
            bias: false,
            residual: self.residual,
            concat_channels: 0,
            stats: None,
            target: *target,
        })
    }
}

impl Conv2dWeightGrad {
    fn algorithm(
        &self,
        inputs: &[TensorType],
        outputs: &[TensorType],
        target: &Target,
    ) -> Box<dyn Algorithm> {
        weight_grad(&Problem {
            geometry: self.windows().geometry(&inputs[0].shape, &outputs[0].shape),
            dtype: inputs[0].dtype,
            bias: false,
            residual: false,
            concat_channels: 0,
            stats: None,
            target: *target,
        })
    }
}

impl CudaOperator for Conv2d {
    fn prefers_fused(&self, inputs: &[TensorType], target: &Target) -> bool {
        match self.stats {
            Some(_) => self.leaves_statistics(inputs, target),
            None => self.reads_concat(inputs, target),
        }
    }

    fn workspace_bytes(
        &self,
        inputs: &[TensorType],
        outputs: &[TensorType],
        target: &Target,
    ) -> usize {
        let chosen = self.choose(inputs, target);
        let stats = |stats: GroupNormStats| stats.workspace_bytes(outputs, &outputs[1..], target);
        // The statistics follow the convolution and use the same memory.
        let behind = chosen.stats.map_or(0, stats);
        chosen.x_bytes() + chosen.algorithm.workspace_bytes().max(behind)
    }

    fn packed_operand(
        &self,
        inputs: &[TensorType],
        _: &[TensorType],
        target: &Target,
    ) -> Option<CudaPackedOperand> {
        let bytes = self.choose(inputs, target).algorithm.packed_bytes();
        Some(CudaPackedOperand { index: 1, bytes })
    }

    fn pack(&self, call: &mut CudaCall<'_>) {
        let chosen = self.choose(&call.in_types(), call.target());
        chosen.algorithm.pack(call);
    }

    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let chosen = self.choose(&call.in_types(), call.target());
        let (mut inputs, outputs) = (call.inputs().to_vec(), call.outputs().to_vec());
        let front = call.workspace();
        let behind = front.add(chosen.x_bytes());
        if let (Some(ty), Some(index)) = (&chosen.x, self.concat_input()) {
            let parts = [inputs[0].clone(), inputs[index].clone()];
            let ty = ty.clone();
            inputs[0] = CudaOperand { at: front, ty };
            call.within(&parts, &inputs[..1], front, |call| {
                Concat { axis: 3 }.launch(call)
            })?;
        }
        call.within(&inputs, &outputs, behind, |call| {
            chosen.algorithm.launch(call);
        });
        if let Some(stats) = chosen.stats {
            let (y, result) = outputs.split_at(1);
            call.within(y, result, behind, |call| stats.launch(call))?;
        }
        Ok(())
    }
}

impl CudaOperator for Conv2dInputGrad {
    fn workspace_bytes(
        &self,
        inputs: &[TensorType],
        outputs: &[TensorType],
        target: &Target,
    ) -> usize {
        self.algorithm(inputs, outputs, target).workspace_bytes()
    }

    fn packed_operand(
        &self,
        inputs: &[TensorType],
        outputs: &[TensorType],
        target: &Target,
    ) -> Option<CudaPackedOperand> {
        let bytes = self.algorithm(inputs, outputs, target).packed_bytes();
        Some(CudaPackedOperand { index: 1, bytes })
    }

    fn pack(&self, call: &mut CudaCall<'_>) {
        self.algorithm(&call.in_types(), &call.out_types(), call.target())
            .pack(call);
    }

    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        self.algorithm(&call.in_types(), &call.out_types(), call.target())
            .launch(call);
        Ok(())
    }
}

impl CudaOperator for Conv2dWeightGrad {
    fn workspace_bytes(
        &self,
        inputs: &[TensorType],
        outputs: &[TensorType],
        target: &Target,
    ) -> usize {
        self.algorithm(inputs, outputs, target).workspace_bytes()
    }

    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        self.algorithm(&call.in_types(), &call.out_types(), call.target())
            .launch(call);
        Ok(())
    }
}
