//! Naive definitions in `f64`.

use super::{Distance, PixelLoss, PixelLossGrad};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

impl ReferenceOperator for PixelLoss {
    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let pairs = inputs[0].data.iter().zip(&inputs[1].data);
        let sum: f64 = match self.distance {
            Distance::L1 => pairs.map(|(a, b)| (a - b).abs()).sum(),
            Distance::L2 => pairs.map(|(a, b)| (a - b).powi(2)).sum(),
        };
        vec![Array::scalar(f64::from(self.factor) * sum)]
    }
}

impl ReferenceOperator for PixelLossGrad {
    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let scale = f64::from(self.of.factor) * inputs[2].data[0];
        let mut da = inputs[0].clone();
        for (da, b) in da.data.iter_mut().zip(&inputs[1].data) {
            let difference = *da - b;
            *da = scale
                * match self.of.distance {
                    Distance::L1 if difference == 0.0 => 0.0,
                    Distance::L1 => difference.signum(),
                    Distance::L2 => 2.0 * difference,
                };
        }
        vec![da]
    }
}
