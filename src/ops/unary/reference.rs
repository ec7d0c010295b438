//! Naive definition in `f64`.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use super::{Unary, UnaryGrad};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Unary {
    fn value(self, x: f64) -> f64 {
        match self {
            Unary::Swish => x * sigmoid(x),
            Unary::Gelu => 0.5 * x * (1.0 + libm::erf(x * FRAC_1_SQRT_2)),
            Unary::Relu => x.max(0.0),
            Unary::Exp => x.exp(),
            Unary::Abs => x.abs(),
            Unary::Square => x * x,
            Unary::Affine { scale, shift } => f64::from(scale) * x + f64::from(shift),
            Unary::Clamp { low, high } => x.max(f64::from(low)).min(f64::from(high)),
        }
    }

    fn derivative(self, x: f64) -> f64 {
        match self {
            Unary::Swish => sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x))),
            Unary::Gelu => {
                let density = (-0.5 * x * x).exp() / (2.0 * PI).sqrt();
                0.5 * (1.0 + libm::erf(x * FRAC_1_SQRT_2)) + x * density
            }
            Unary::Relu => f64::from(u8::from(x > 0.0)),
            Unary::Exp => x.exp(),
            Unary::Abs => f64::from(i8::from(x > 0.0) - i8::from(x < 0.0)),
            Unary::Square => 2.0 * x,
            Unary::Affine { scale, .. } => f64::from(scale),
            Unary::Clamp { low, high } => {
                f64::from(u8::from(x >= f64::from(low) && x <= f64::from(high)))
            }
        }
    }
}

impl ReferenceOperator for Unary {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let data = inputs[0].data.iter().map(|&x| self.value(x)).collect();
        vec![Array::new(outputs[0].shape.clone(), data)]
    }
}

impl ReferenceOperator for UnaryGrad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let pairs = inputs[0].data.iter().zip(&inputs[1].data);
        let data = pairs.map(|(&x, &dy)| self.of.derivative(x) * dy).collect();
        vec![Array::new(outputs[0].shape.clone(), data)]
    }
}
