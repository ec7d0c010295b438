use super::Binary;
use crate::graph::Graph;
use crate::testing::check;

#[test]
fn values_and_gradients_with_and_without_broadcasting() {
    for (a, b) in [
        (vec![2, 3, 5, 7], vec![2, 3, 5, 7]),
        (vec![2, 3, 5, 7], vec![2, 1, 1, 7]),
        (vec![3, 20], vec![20]),
        (vec![2, 4, 3], vec![2, 1, 1]),
        (vec![1, 4], vec![5, 1]),
        (vec![2, 3], vec![]),
        (vec![3, 1], vec![2, 3, 9000]),
    ] {
        for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div] {
            check(|g| {
                let a = g.parameter("a", a.clone())?;
                let b = g.parameter("b", b.clone())?;
                g.apply(op, &[a, b])
            });
        }
    }
}

#[test]
fn per_sample_channels_are_added_to_every_pixel() {
    check(|g| {
        let x = g.parameter("x", [2, 3, 4, 5])?;
        let e = g.parameter("e", [2, 5])?;
        g.add_channels(x, e)
    });
}

#[test]
fn shapes_that_do_not_broadcast_are_named() {
    let mut g = Graph::new();
    let a = g.parameter("a", [2, 3]).unwrap();
    let b = g.parameter("b", [2, 4]).unwrap();
    let error = g
        .scope("in_blocks.0", |g| g.add(a, b))
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "add at 'in_blocks.0' expects two arrays of one float type whose shapes broadcast, \
         found f32[2, 3], f32[2, 4]"
    );
}
