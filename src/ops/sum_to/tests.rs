use crate::graph::{Graph, Value};
use crate::testing::check;

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
    // Sums that are split over blocks, columns that fill several, and rows for threads, warps and blocks.
    to(&[2, 40, 33, 24], &[24]);
    to(&[2, 40, 33, 24], &[2, 1, 1, 24]);
    to(&[3, 9, 7, 160], &[3, 1, 1, 160]);
    to(&[30, 5], &[30, 1]);
    to(&[6, 1000], &[6, 1]);
    to(&[2, 5000], &[2, 1]);
    to(&[4, 5, 2, 16], &[5, 1, 1]);
    to(&[1, 4], &[4]);
}
