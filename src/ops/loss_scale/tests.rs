use std::collections::HashMap;

use super::LossScale;
use crate::graph::Graph;
use crate::kernel::reference::Array;
use crate::tensor::DType;
use crate::testing::check_updates;

/// Halved by an overflow down to 1, doubled after good steps up to the largest, left alone by a closed gate.
#[test]
fn the_scale_follows_overflows() {
    let scales = [1.0, 2.0, 65536.0, f64::from(LossScale::LARGEST)];
    for scale in scales {
        for good in [
            0.0,
            f64::from(LossScale::INTERVAL - 2),
            f64::from(LossScale::INTERVAL - 1),
        ] {
            for (finite, gate) in [(0.0, None), (1.0, None), (0.0, Some(0.0)), (1.0, Some(1.0))] {
                let mut leaves = HashMap::from([
                    ("scale".to_owned(), Array::scalar(scale)),
                    ("good".to_owned(), Array::new([1], vec![good])),
                    ("finite".to_owned(), Array::scalar(finite)),
                ]);
                if let Some(gate) = gate {
                    leaves.insert("gate".to_owned(), Array::scalar(gate));
                }
                check_updates(
                    |g| {
                        let scale = g.state("scale", [], DType::F32)?;
                        let good = g.state("good", [1], DType::I32)?;
                        let finite = g.input("finite", [], DType::F32)?;
                        let gate = match gate {
                            Some(_) => Some(g.input("gate", [], DType::F32)?),
                            None => None,
                        };
                        let overflow = g.loss_scale(scale, good, finite, gate)?;
                        g.output("overflow", overflow);
                        Ok(())
                    },
                    &leaves,
                    0.0,
                );
            }
        }
    }
}

#[test]
fn steps_follow_the_rule() {
    let op = LossScale {
        interval: 3,
        gated: false,
    };
    assert_eq!(op.next(8.0, 0, true, true), (8.0, 1, false));
    assert_eq!(op.next(8.0, 2, true, true), (16.0, 0, false));
    assert_eq!(op.next(8.0, 2, false, true), (4.0, 0, true));
    // A scale of 1 cannot be lowered: a fault, no overflow.
    assert_eq!(op.next(1.0, 2, false, true), (1.0, 0, false));
    assert_eq!(op.next(8.0, 2, false, false), (8.0, 2, true));
    assert_eq!(
        op.next(LossScale::LARGEST, 2, true, true),
        (LossScale::LARGEST, 0, false)
    );
}

#[test]
fn types_are_checked() {
    let mut g = Graph::new();
    let scale = g.state("scale", [], DType::F32).unwrap();
    let good = g.state("good", [], DType::F32).unwrap();
    assert!(g.loss_scale(scale, good, scale, None).is_err());
}
