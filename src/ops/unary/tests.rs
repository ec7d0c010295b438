use super::Unary;
use crate::testing::{check, check_nan_shows};

#[test]
fn values_and_gradients() {
    for op in [
        Unary::Swish,
        Unary::Gelu,
        Unary::Relu,
        Unary::Exp,
        Unary::Abs,
        Unary::Square,
        Unary::Affine {
            scale: -2.5,
            shift: 0.75,
        },
        Unary::Clamp {
            low: -0.5,
            high: 0.3,
        },
    ] {
        for shape in [vec![7], vec![2, 5, 3, 8], vec![3, 70, 70, 3]] {
            check(|g| {
                let x = g.parameter("x", shape.clone())?;
                // Twice, so that the first result may be overwritten in place.
                let x = g.scale(x, 3.0)?;
                g.apply(op, &[x])
            });
        }
    }
}

#[test]
fn nan_is_not_hidden() {
    for op in [
        Unary::Swish,
        Unary::Gelu,
        Unary::Relu,
        Unary::Exp,
        Unary::Abs,
        Unary::Clamp {
            low: -0.5,
            high: 0.3,
        },
    ] {
        check_nan_shows(|g| {
            let x = g.parameter("x", [3, 7])?;
            g.apply(op, &[x])
        });
    }
}
