//! Naive definitions in `f64`.

use super::{Adam, Ema};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

impl ReferenceOperator for Adam {
    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let [p, grad, m, v] = [0, 1, 2, 3].map(|i| inputs[i].clone());
        let (mut p, mut m, mut v) = (p, m, v);
        if self.gated && inputs.last().expect("a gate").data[0] == 0.0 {
            return vec![p, m, v];
        }
        let c = self.config;
        let lr = inputs[4].data[0];
        let n = inputs[5].data[0] + 1.0;
        let clip = if self.clipped { inputs[6].data[0] } else { 1.0 };
        for i in 0..p.data.len() {
            let mut g = clip * grad.data[i];
            if c.decoupled {
                p.data[i] -= lr * c.weight_decay * p.data[i];
            } else {
                g += c.weight_decay * p.data[i];
            }
            m.data[i] = c.beta1 * m.data[i] + (1.0 - c.beta1) * g;
            v.data[i] = c.beta2 * v.data[i] + (1.0 - c.beta2) * g * g;
            let unbiased = [
                m.data[i] / (1.0 - c.beta1.powf(n)),
                v.data[i] / (1.0 - c.beta2.powf(n)),
            ];
            p.data[i] -= lr * unbiased[0] / (unbiased[1].sqrt() + c.eps);
        }
        vec![p, m, v]
    }
}

impl ReferenceOperator for Ema {
    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let mut ema = inputs[0].clone();
        if self.gated && inputs[3].data[0] == 0.0 {
            return vec![ema];
        }
        let s = (inputs[2].data[0] - 1.0).max(0.0);
        let decay = match s {
            0.0 => 0.0,
            s => (1.0 - (1.0 + s).powf(-self.power)).min(self.max_decay),
        };
        for (ema, p) in ema.data.iter_mut().zip(&inputs[1].data) {
            *ema = decay * *ema + (1.0 - decay) * p;
        }
        vec![ema]
    }
}
