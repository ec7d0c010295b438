use crate::graph::Graph;
use crate::testing::{check, check_nan_shows};

#[test]
fn values_and_gradients() {
    // Halves that are whole vectors of 16 bytes in all types, in f32 alone, and in no type; more rows than one block takes.
    for shape in [
        vec![2, 3, 16],
        vec![2, 3, 8],
        vec![2, 3, 10],
        vec![3, 2],
        vec![1, 70, 48],
        vec![3, 5, 7, 2000],
    ] {
        check(|g| {
            let x = g.parameter("x", shape.clone())?;
            // Twice, so that the gradient may overwrite what it reads.
            let x = g.scale(x, 3.0)?;
            g.geglu(x)
        });
    }
}

#[test]
fn an_odd_number_of_channels_is_refused() {
    let mut g = Graph::new();
    let x = g.parameter("x", [2, 3]).unwrap();
    assert_eq!(
        g.geglu(x).unwrap_err().to_string(),
        "geglu at '' expects an even number of channels, found f32[2, 3]"
    );
}

#[test]
fn nan_is_not_hidden() {
    check_nan_shows(|g| {
        let x = g.parameter("x", [3, 10])?;
        g.geglu(x)
    });
}
