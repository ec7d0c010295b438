use crate::graph::{Graph, Value};
use crate::ops::testing::check;

#[test]
fn sums_over_any_axes() {
    let to = |from: &[usize], to: &[usize]| {
        let (from, to) = (from.to_vec(), to.to_vec());
        check(|g: &mut Graph| -> Result<Value, _> {
            let x = g.parameter("x", from.clone())?;
            g.sum_to(x, &to)
        });
    };
    to(&[2, 3, 4, 5], &[5]);
    to(&[2, 3, 4, 5], &[2, 1, 1, 5]);
    to(&[2, 3, 4, 5], &[2, 1, 1, 1]);
    to(&[2, 3, 4, 5], &[1, 3, 1, 5]);
    to(&[2, 3, 4, 5], &[4, 1]);
    to(&[2, 3, 4, 5], &[]);
    to(&[1, 1, 1, 1], &[]);
    to(&[3, 40, 33, 3], &[3]);
    to(&[3, 40, 33, 3], &[]);
}
