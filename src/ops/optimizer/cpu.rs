//! CPU kernels: one pass over the arrays; each element is updated alone, so threads do not matter.

use super::{Adam, Ema};
use crate::kernel::cpu::parallel::{for_joint_ranges, for_ranges};
use crate::kernel::cpu::simd::vectorised;
use crate::kernel::cpu::{CpuCall, CpuOperator};

impl CpuOperator for Adam {
    fn run(&self, call: &CpuCall<'_>) {
        if self.gated && call.f32(call.input_count() - 1)[0] == 0.0 {
            return;
        }
        let c = self.config;
        let lr = f64::from(call.f32(4)[0]);
        let n = call.i32(5)[0].saturating_add(1);
        let clip = if self.clipped { call.f32(6)[0] } else { 1.0 };
        let (keep, couple) = match c.decoupled {
            true => ((1.0 - lr * c.weight_decay) as f32, 0.0),
            false => (1.0, c.weight_decay as f32),
        };
        let toward = (1.0 - c.beta1) as f32;
        let (beta2, square) = (c.beta2 as f32, (1.0 - c.beta2) as f32);
        let step = (lr / (1.0 - c.beta1.powi(n))) as f32;
        let root = (1.0 - c.beta2.powi(n)).sqrt() as f32;
        let eps = c.eps as f32;
        let grad = call.f32(1);
        let updated = [call.update(0), call.update(2), call.update(3)];
        for_joint_ranges(updated, |range, [p, m, v]| {
            let grad = &grad[range];
            vectorised(|| {
                let moments = m.iter_mut().zip(v);
                for ((p, grad), (m, v)) in p.iter_mut().zip(grad).zip(moments) {
                    let g = clip * grad + couple * *p;
                    *m += toward * (g - *m);
                    *v = beta2 * *v + square * g * g;
                    *p = keep * *p - step * (*m / (v.sqrt() / root + eps));
                }
            });
        });
    }
}

impl CpuOperator for Ema {
    fn run(&self, call: &CpuCall<'_>) {
        if self.gated && call.f32(3)[0] == 0.0 {
            return;
        }
        let decay = self.decay(call.i32(2)[0]);
        let (decay, share) = (decay as f32, (1.0 - decay) as f32);
        let p = call.f32(1);
        for_ranges(call.update(0), |range, ema| {
            let p = &p[range];
            vectorised(|| {
                for (ema, p) in ema.iter_mut().zip(p) {
                    // The first average may find anything in its memory, even NaN.
                    *ema = if decay == 0.0 {
                        *p
                    } else {
                        decay * *ema + share * p
                    };
                }
            });
        });
    }
}
