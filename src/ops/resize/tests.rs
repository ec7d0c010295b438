use crate::graph::Graph;
use crate::testing::check;

#[test]
fn integer_factors() {
    for (shape, factor) in [
        ([1, 1, 1, 1], 2),
        ([2, 3, 5, 3], 2),
        ([3, 2, 1, 20], 3),
        ([1, 4, 4, 33], 1),
        ([2, 20, 30, 8], 2),
    ] {
        check(|g| {
            let x = g.parameter("x", shape)?;
            g.upsample(x, factor)
        });
    }
}

#[test]
fn any_size() {
    for (shape, height, width) in [
        ([2, 8, 12, 2], 4, 3),
        ([1, 7, 5, 3], 3, 4),
        ([2, 3, 4, 8], 7, 5),
        ([1, 5, 9, 20], 1, 1),
        ([1, 1, 1, 3], 4, 3),
        ([1, 9, 10, 3], 8, 7),
    ] {
        check(|g| {
            let x = g.parameter("x", shape)?;
            g.resize_nearest(x, height, width)
        });
    }
}

#[test]
fn mismatches_are_named() {
    let mut g = Graph::new();
    let x = g.parameter("x", [2, 3, 4]).unwrap();
    assert_eq!(
        g.upsample(x, 2).unwrap_err().to_string(),
        "upsample at '' expects x [N,H,W,C] and a factor above 0, found f32[2, 3, 4]"
    );
    let x = g.parameter("y", [2, 3, 4, 5]).unwrap();
    assert!(g.upsample(x, 0).is_err());
    assert!(g.resize_nearest(x, 0, 3).is_err());
}
