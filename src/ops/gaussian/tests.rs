use crate::graph::Graph;
use crate::testing::{check, check_nan_shows};

#[test]
fn samples_and_their_gradients() {
    for shape in [vec![1, 1, 1, 1], vec![3, 5, 7, 3], vec![2, 64, 64, 8]] {
        check(|g| {
            let mean = g.parameter("mean", shape.clone())?;
            let logvar = g.parameter("logvar", shape.clone())?;
            let noise = g.parameter("noise", shape.clone())?;
            g.reparameterize(mean, logvar, noise)
        });
    }
}

#[test]
fn divergence_and_its_gradients() {
    for (shape, scale) in [
        (vec![1, 1], 1.0),
        (vec![3, 5, 7, 3], 8.0),
        (vec![2, 64, 64, 8], 0.01),
    ] {
        check(|g| {
            let mean = g.parameter("mean", shape.clone())?;
            let logvar = g.parameter("logvar", shape.clone())?;
            let logvar = g.scale(logvar, scale)?;
            let mean = g.scale(mean, scale)?;
            g.gaussian_kl(mean, logvar)
        });
    }
}

#[test]
fn nan_shows() {
    check_nan_shows(|g| {
        let mean = g.parameter("mean", [2, 33])?;
        let logvar = g.parameter("logvar", [2, 33])?;
        let noise = g.parameter("noise", [2, 33])?;
        g.reparameterize(mean, logvar, noise)
    });
    check_nan_shows(|g| {
        let mean = g.parameter("mean", [2, 33])?;
        let logvar = g.parameter("logvar", [2, 33])?;
        g.gaussian_kl(mean, logvar)
    });
}

#[test]
fn shapes_must_agree() {
    let mut g = Graph::new();
    let mean = g.parameter("mean", [2, 3]).unwrap();
    let logvar = g.parameter("logvar", [2, 4]).unwrap();
    let error = g.gaussian_kl(mean, logvar).unwrap_err().to_string();
    assert!(error.ends_with("found f32[2, 3], f32[2, 4]"), "{error}");
    assert!(g.reparameterize(mean, mean, logvar).is_err());
}
