use crate::graph::Graph;
use crate::testing::check;

#[test]
fn values_and_gradients_along_any_axis() {
    for (axis, shapes) in [
        (
            3,
            vec![vec![2, 3, 5, 7], vec![2, 3, 5, 1], vec![2, 3, 5, 20]],
        ),
        (3, vec![vec![1, 50, 40, 8], vec![1, 50, 40, 8]]),
        (0, vec![vec![2, 3], vec![1, 3]]),
        (1, vec![vec![3, 2, 4], vec![3, 1, 4], vec![3, 5, 4]]),
        (0, vec![vec![5]]),
    ] {
        check(|g| {
            let values = shapes.iter().enumerate();
            let values: Result<Vec<_>, _> = values
                .map(|(i, shape)| g.parameter(&format!("x{i}"), shape.clone()))
                .collect();
            g.concat_along(axis, &values?)
        });
    }
}

#[test]
fn mismatches_are_named() {
    let mut g = Graph::new();
    let a = g.parameter("a", [2, 3, 4]).unwrap();
    let b = g.parameter("b", [2, 2, 4]).unwrap();
    assert_eq!(
        g.concat(&[a, b]).unwrap_err().to_string(),
        "concat at '' expects float arrays that differ in axis 2 only, found f32[2, 3, 4], f32[2, 2, 4]"
    );
    assert!(g.concat(&[]).is_err());
    assert!(g.concat_along(3, &[a, a]).is_err());
}
