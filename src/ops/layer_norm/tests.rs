use crate::graph::Graph;
use crate::testing::{check, check_nan_shows};

#[test]
fn values_and_gradients_over_awkward_shapes() {
    for shape in [
        vec![1, 4],
        vec![2, 7, 12],
        vec![3, 5, 33],
        vec![2, 3, 3, 20],
        vec![1, 96],
        vec![2, 90, 100],
    ] {
        check(|g| {
            let x = g.parameter("x", shape.clone())?;
            // Twice, so that the first result may be overwritten in place.
            let x = g.scale(x, 2.0)?;
            let channels = *shape.last().unwrap();
            let (gamma, beta) = (
                g.parameter("gamma", [channels])?,
                g.parameter("beta", [channels])?,
            );
            g.layer_norm(x, gamma, beta, 1e-5)
        });
    }
}

#[test]
fn mismatches_are_named() {
    let mut g = Graph::new();
    let x = g.parameter("x", [2, 5]).unwrap();
    let gamma = g.parameter("gamma", [4]).unwrap();
    assert_eq!(
        g.layer_norm(x, gamma, gamma, 1e-5).unwrap_err().to_string(),
        "layer_norm at '' expects x […,C], gamma [C], beta [C], found f32[2, 5], f32[4], f32[4]"
    );
}

#[test]
fn nan_is_not_hidden() {
    check_nan_shows(|g| {
        let x = g.parameter("x", [3, 37])?;
        let (gamma, beta) = (g.parameter("gamma", [37])?, g.parameter("beta", [37])?);
        g.layer_norm(x, gamma, beta, 1e-5)
    });
}
