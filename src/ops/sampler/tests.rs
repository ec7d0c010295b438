use std::collections::HashMap;

use super::{COEFFICIENTS, Prediction, SamplerStep};
use crate::device::reference::Array;
use crate::graph::Graph;
use crate::ops::testing::{check_updates, hashed};
use crate::tensor::DType;

/// Every combination of flags on shapes with odd extents.
#[test]
fn steps_match_the_formula_in_f64() {
    // Positive coefficients, so that the divisor stays away from zero.
    let table: Vec<f64> = hashed("table", 3 * COEFFICIENTS)
        .iter()
        .map(|v| f64::from((0.75 + 0.5 * v) as f32))
        .collect();
    for flags in 0..32u32 {
        let on = |bit: u32| flags >> bit & 1 == 1;
        let op = SamplerStep {
            prediction: if on(0) {
                Prediction::Sample
            } else {
                Prediction::Noise
            },
            clip: on(1),
            guidance: on(2),
            learned_variance: on(3),
            noise: on(4),
        };
        for shape in [vec![1, 1, 1, 1], vec![3, 5, 7, 3], vec![2, 60, 61, 4]] {
            let mut wide = shape.clone();
            wide[0] *= 1 + usize::from(op.guidance);
            wide[3] *= 1 + usize::from(op.learned_variance);
            let leaves = HashMap::from([
                ("k".to_owned(), Array::new([1], vec![1.0])),
                (
                    "table".to_owned(),
                    Array::new([3, COEFFICIENTS], table.clone()),
                ),
            ]);
            check_updates(
                |g| {
                    let x = g.state("x", shape.clone(), DType::F32)?;
                    let p = g.input("p", wide.clone(), DType::F32)?;
                    let table = g.state("table", [3, COEFFICIENTS], DType::F32)?;
                    let k = g.state("k", [1], DType::I32)?;
                    let z = match op.noise {
                        true => Some(g.input("z", shape.clone(), DType::F32)?),
                        false => None,
                    };
                    let estimates = g.sampler_step(op, x, p, table, k, z)?;
                    g.output("x_0", estimates.x_0);
                    g.output("eps", estimates.noise);
                    Ok(())
                },
                &leaves,
                1e-6,
            );
        }
    }
}

#[test]
fn a_prediction_of_the_wrong_size_is_named() {
    let mut g = Graph::new();
    let x = g.state("x", [1, 2, 2, 4], DType::F32).unwrap();
    let p = g.input("p", [1, 2, 2, 8], DType::F32).unwrap();
    let table = g.state("table", [3, COEFFICIENTS], DType::F32).unwrap();
    let k = g.state("k", [1], DType::I32).unwrap();
    let op = SamplerStep {
        prediction: Prediction::Noise,
        clip: false,
        guidance: true,
        learned_variance: false,
        noise: false,
    };
    let error = g.sampler_step(op, x, p, table, k, None).unwrap_err();
    assert!(
        error.to_string().contains("prediction f32[2, 2, 2, 4]"),
        "{error}"
    );
}
