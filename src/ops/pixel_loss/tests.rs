use super::Distance;
use crate::testing::{check, check_nan_shows};

#[test]
fn losses_and_gradients() {
    for distance in [Distance::L1, Distance::L2] {
        for shape in [vec![1], vec![3, 5, 7, 3], vec![2, 100, 101, 3]] {
            check(|g| {
                let a = g.parameter("a", shape.clone())?;
                let b = g.parameter("b", shape.clone())?;
                // Scaled, so that the gradient may take over the operand's memory.
                let a = g.scale(a, 1.5)?;
                g.pixel_loss(distance, a, b, 0.25)
            });
            check(|g| {
                let a = g.parameter("a", shape.clone())?;
                let b = g.parameter("b", shape.clone())?;
                g.mean_pixel_loss(distance, a, b)
            });
        }
    }
}

#[test]
fn nan_shows() {
    for distance in [Distance::L1, Distance::L2] {
        check_nan_shows(|g| {
            let a = g.parameter("a", [2, 33])?;
            let b = g.parameter("b", [2, 33])?;
            g.mean_pixel_loss(distance, a, b)
        });
    }
}
