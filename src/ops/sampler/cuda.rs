//! Launches `kernels/sampler_step.cu`.

use super::{FreshNoise, Prediction, SamplerStep};
use crate::kernel::Unsupported;
use crate::kernel::cuda::{
    CudaCall, CudaOperator, DevicePtr, Kernel, element, params::SamplerStepParams,
};
use crate::ops::cuda::check_len;
use crate::ops::strides::narrow;

const THREADS: usize = 256;

impl CudaOperator for SamplerStep {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let (x, prediction) = (call.in_type(0), call.in_type(1));
        let count = x.len();
        check_len(call, prediction.len())?;
        // Without a variance behind every pixel the whole sample is one run.
        let (channels, wide) = match self.learned_variance {
            true => (x.channels(), prediction.channels()),
            false => (count.max(1), count),
        };
        let half = match self.guidance {
            true => prediction.len() / 2,
            false => 0,
        };
        let length = x.shape[1..].iter().product::<usize>();
        let null = DevicePtr::NULL;
        // If 4 divides a sample's length, four neighbours are one block of the generator.
        let (z, seed, images, purpose, noise_extent) = match self.noise {
            FreshNoise::None => (null, null, null, 0, 0),
            FreshNoise::Given => (call.input(4), null, null, 0, 0),
            FreshNoise::Philox(purpose) => {
                (null, call.input(4), call.input(5), purpose as u32, length)
            }
        };
        let aligned = [channels, wide, half, noise_extent]
            .iter()
            .all(|n| n.is_multiple_of(4));
        let (entry, per_thread) = match aligned {
            true => ("sampler_step_4", 4),
            false => ("sampler_step_any", 1),
        };
        let kernel = Kernel::new("sampler_step.cu", entry).with("T", element(prediction.dtype));
        let params = SamplerStepParams {
            x: call.input(0),
            prediction: call.input(1),
            table: call.input(2),
            counter: call.input(3),
            arrived: call.counters(1),
            z,
            seed,
            images,
            x_0: call.output(0),
            eps: call.output(1),
            count: narrow(count),
            rows: narrow(call.in_type(2).shape[0]),
            channels: narrow(channels),
            wide: narrow(wide),
            half: narrow(half),
            length: narrow(length),
            purpose,
            predicts_sample: i32::from(self.prediction == Prediction::Sample),
            clip: i32::from(self.clip),
            guidance: i32::from(self.guidance),
            learned_variance: i32::from(self.learned_variance),
        };
        // A step of an empty sample is counted too.
        let blocks = count.div_ceil(THREADS * per_thread).max(1);
        call.launch(kernel, [blocks, 1, 1], [THREADS, 1, 1], 0, &params);
        Ok(())
    }
}
