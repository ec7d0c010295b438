use crate::graph::Graph;
use crate::testing::check;

#[test]
fn values_and_gradients_of_slices() {
    for (axis, start, len) in [
        (3, 2, 5),
        (3, 0, 1),
        (3, 6, 1),
        (0, 1, 2),
        (1, 0, 5),
        (2, 3, 1),
    ] {
        check(|g| {
            let x = g.parameter("x", [3, 5, 4, 7])?;
            g.slice_along(axis, x, start, len)
        });
    }
    check(|g| {
        let x = g.parameter("x", [100, 300])?;
        g.slice(x, 17, 200)
    });
}

#[test]
fn values_and_gradients_of_padding() {
    for (axis, before, after) in [(3, 2, 5), (2, 0, 1), (1, 1, 1), (0, 3, 0), (3, 0, 0)] {
        check(|g| {
            let x = g.parameter("x", [2, 3, 4, 5])?;
            g.pad_along(axis, x, before, after)
        });
    }
}

#[test]
fn slices_beyond_the_end_are_refused() {
    let mut g = Graph::new();
    let x = g.parameter("x", [2, 3]).unwrap();
    assert_eq!(
        g.slice(x, 2, 2).unwrap_err().to_string(),
        "slice at '' expects a float array with at least 4 elements along axis 1, found f32[2, 3]"
    );
    assert!(g.pad_along(2, x, 1, 1).is_err());
}
