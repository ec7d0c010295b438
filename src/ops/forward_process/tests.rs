use std::collections::HashMap;

use crate::kernel::reference::Array;
use crate::tensor::DType;
use crate::testing::{check_updates, check_with};

fn leaves(t: Vec<f64>, table: Vec<f64>, columns: usize) -> HashMap<String, Array> {
    // Values that f32 represents exactly.
    let table: Vec<f64> = table.iter().map(|&v| f64::from(v as f32)).collect();
    HashMap::from([
        ("t".to_owned(), Array::new([t.len()], t)),
        (
            "table".to_owned(),
            Array::new([table.len() / columns, columns], table),
        ),
    ])
}

#[test]
fn noise_is_added_by_time_step() {
    let leaves = leaves(
        vec![-1.0, 0.0, 2.0, 3.0],
        vec![0.9, 0.1, 0.5, 0.6, 0.2, 0.95],
        2,
    );
    for shape in [vec![4], vec![4, 5, 7, 3], vec![4, 80, 80, 4]] {
        check_updates(
            |g| {
                let x_0 = g.input("x_0", shape.clone(), DType::F32)?;
                let noise = g.input("noise", shape.clone(), DType::F32)?;
                let table = g.input("table", [3, 2], DType::F32)?;
                let t = g.input("t", [4], DType::I32)?;
                let x_t = g.add_noise(x_0, noise, table, t)?;
                g.output("x_t", x_t);
                Ok(())
            },
            &leaves,
            1e-6,
        );
    }
}

/// Variances above the floor, where the gradient is the derivative; the estimate is constant,
/// since the divergence does not pass its gradient on.
#[test]
fn variance_loss_and_its_gradient() {
    let table = vec![-3.0, -1.0, 0.7, -2.5, -2.0, 0.6, -1.5, -1.2, 0.3];
    for shape in [vec![4], vec![4, 5, 7, 3], vec![4, 70, 70, 2]] {
        check_with(
            |g| {
                let variance = g.parameter("variance", shape.clone())?;
                let x_0 = g.input("x_0", shape.clone(), DType::F32)?;
                let estimate = g.input("estimate", shape.clone(), DType::F32)?;
                let table = g.input("table", [3, 3], DType::F32)?;
                let t = g.input("t", [4], DType::I32)?;
                g.variance_loss(variance, x_0, estimate, table, t)
            },
            &leaves(vec![1.0, 0.0, 2.0, 0.0], table.clone(), 3),
            1e-5,
        );
    }
}

/// At time step 0 the likelihood trains the estimate too.
#[test]
fn likelihood_trains_the_estimate() {
    check_with(
        |g| {
            let variance = g.parameter("variance", [2, 33])?;
            let x_0 = g.input("x_0", [2, 33], DType::F32)?;
            let estimate = g.parameter("estimate", [2, 33])?;
            let table = g.input("table", [1, 3], DType::F32)?;
            let t = g.input("t", [2], DType::I32)?;
            g.variance_loss(variance, x_0, estimate, table, t)
        },
        &leaves(vec![0.0, 0.0], vec![-3.0, -1.0, 0.7], 3),
        1e-5,
    );
}

/// The real schedule has a posterior variance of 1e-20 at time step 0: below the floor, where the
/// reference lets the gradient through, and where the other branch would overflow.
#[test]
fn variances_below_the_floor_stay_finite() {
    let table = vec![1e-20f64.ln(), -6.0, 1.0, -6.5, -6.0, 0.5];
    check_updates(
        |g| {
            let variance = g.parameter("variance", [3, 50])?;
            let variance = g.scale(variance, 1.5)?;
            let x_0 = g.input("x_0", [3, 50], DType::F32)?;
            let estimate = g.parameter("estimate", [3, 50])?;
            let table = g.input("table", [2, 3], DType::F32)?;
            let t = g.input("t", [3], DType::I32)?;
            let loss = g.variance_loss(variance, x_0, estimate, table, t)?;
            let grads = g.gradients(loss, &[variance, estimate])?;
            g.output("loss", loss);
            g.output("dvariance", grads[0].expect("depends"));
            g.output("destimate", grads[1].expect("depends"));
            Ok(())
        },
        &leaves(vec![0.0, 1.0, 0.0], table, 3),
        // logvar reaches -46, where one ulp is 4e-6 and e^logvar has that relative error.
        1e-5,
    );
}
