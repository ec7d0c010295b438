use crate::testing::{check, check_nan_shows};

#[test]
fn values_and_gradients() {
    for shape in [vec![1], vec![5, 33], vec![2, 3, 16], vec![3, 90, 100]] {
        check(|g| {
            let x = g.parameter("x", shape.clone())?;
            let x = g.scale(x, 6.0)?;
            g.softmax(x)
        });
    }
}

#[test]
fn nan_is_not_hidden() {
    check_nan_shows(|g| {
        let x = g.parameter("x", [3, 37])?;
        g.softmax(x)
    });
}
