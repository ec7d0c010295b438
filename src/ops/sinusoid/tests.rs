use std::collections::HashMap;

use crate::graph::Graph;
use crate::kernel::reference::Array;
use crate::tensor::DType;
use crate::testing::check_with;

#[test]
fn values_over_the_range_of_time_steps() {
    for dim in [4, 5, 8, 32, 256] {
        let t = vec![0.0, 1.0, 17.0, 500.0, 998.0, 999.0];
        let leaves = HashMap::from([("t".to_owned(), Array::new([6], t))]);
        let build = |g: &mut Graph| {
            let t = g.input("t", [6], DType::I32)?;
            g.sinusoid(t, dim)
        };
        // A frequency rounded to f32 is off by up to 1e-7 of it, the angle at 999 by 1e-4.
        check_with(build, &leaves, 1e-4);
    }
}

#[test]
fn a_single_frequency_is_refused() {
    let mut g = Graph::new();
    let t = g.input("t", [2], DType::I32).unwrap();
    assert_eq!(
        g.sinusoid(t, 3).unwrap_err().to_string(),
        "sinusoid at '' expects i32 time steps [N] and a dimension of at least 4 (here 3), found i32[2]"
    );
}
