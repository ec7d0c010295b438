use std::collections::HashMap;

use crate::kernel::reference::Array;
use crate::tensor::DType;
use crate::testing::{check, check_nan_shows, check_updates, hashed};

#[test]
fn distances_and_gradients() {
    for shape in [
        vec![1, 1, 1, 2],
        vec![3, 5, 7, 3],
        vec![1, 9, 4, 33],
        vec![2, 17, 19, 64],
    ] {
        check(|g| {
            let a = g.parameter("a", shape.clone())?;
            let b = g.parameter("b", shape.clone())?;
            g.feature_distance(a, b)
        });
    }
}

/// A ReLU may make whole pixels zero: the value is right and the gradient finite.
#[test]
fn pixels_without_features_are_finite() {
    let shape = [2, 3, 3, 5];
    let mut a = hashed("a", 90);
    a[10..25].fill(0.0);
    let leaves = HashMap::from([("a".to_owned(), Array::new(shape, a))]);
    check_updates(
        |g| {
            let a = g.parameter("a", shape)?;
            let b = g.input("b", shape, DType::F32)?;
            let y = g.feature_distance(a, b)?;
            let loss = g.sum_to(y, &[])?;
            let da = g.gradients(loss, &[a])?[0].expect("the loss depends on a");
            g.output("y", y);
            g.output("da", da);
            Ok(())
        },
        &leaves,
        1e-5,
    );
}

#[test]
fn nan_shows() {
    check_nan_shows(|g| {
        let a = g.parameter("a", [1, 2, 3, 5])?;
        let b = g.parameter("b", [1, 2, 3, 5])?;
        g.feature_distance(a, b)
    });
    check_nan_shows(|g| {
        let a = g.parameter("a", [1, 2, 3, 5])?;
        let b = g.parameter("b", [1, 2, 3, 5])?;
        let distance = g.feature_distance(a, b)?;
        let loss = g.sum_to(distance, &[])?;
        let grad = g.gradients(loss, &[a])?[0];
        Ok(grad.expect("the loss depends on a"))
    });
}
