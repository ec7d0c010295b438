use crate::graph::Graph;
use crate::testing::{check, check_nan_shows};

#[test]
fn values_and_gradients_of_self_and_cross_attention() {
    for (n, queries, keys, heads, d) in [
        (1, 1, 1, 1, 1),
        (3, 5, 1, 2, 4),
        (2, 6, 11, 4, 15),
        (1, 9, 7, 8, 3),
        (1, 65, 66, 1, 20),
        (2, 3, 130, 1, 33),
        (1, 70, 4, 2, 64),
        (2, 66, 130, 3, 16),
        (1, 35, 70, 2, 40),
        (1, 20, 33, 1, 128),
        (1, 3, 18, 1, 136),
    ] {
        check(|g| {
            let q = g.parameter("q", [n, queries, heads * d])?;
            let k = g.parameter("k", [n, keys, heads * d])?;
            let v = g.parameter("v", [n, keys, heads * d])?;
            // Large enough for the softmax to be far from uniform.
            let q = g.scale(q, 4.0)?;
            g.attention(q, k, v, heads, (d as f32).powf(-0.5))
        });
    }
}

#[test]
fn mismatches_are_named() {
    let mut g = Graph::new();
    let q = g.parameter("q", [1, 3, 10]).unwrap();
    let k = g.parameter("k", [1, 4, 10]).unwrap();
    assert_eq!(
        g.attention(q, k, k, 3, 1.0).unwrap_err().to_string(),
        "attention at '' expects q [N,Tq,C], k and v [N,Tk,C] with C divisible by 3 heads, \
         found f32[1, 3, 10], f32[1, 4, 10], f32[1, 4, 10]"
    );
    assert!(
        g.attention(q, k, q, 2, 1.0).is_err(),
        "values of another length"
    );
    assert!(g.attention(q, k, k, 0, 1.0).is_err());
}

#[test]
fn nan_is_not_hidden() {
    check_nan_shows(|g| {
        let q = g.parameter("q", [1, 5, 6])?;
        let (k, v) = (
            g.parameter("k", [1, 140, 6])?,
            g.parameter("v", [1, 140, 6])?,
        );
        g.attention(q, k, v, 2, 0.5)
    });
}
