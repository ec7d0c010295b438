//! How kernels walk over arrays of several shapes at once.

/// An axis of a walk over `N` arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StridedAxis<const N: usize> {
    pub extent: usize,
    /// Elements from one index to the next, in each of the arrays.
    pub strides: [usize; N],
}

/// Distance of neighbours along each axis of a densely packed array that is broadcast to `full`; 0 where it repeats.
pub(crate) fn broadcast_strides(shape: &[usize], full: &[usize]) -> Vec<usize> {
    let mut strides = vec![0; full.len()];
    let mut stride = 1;
    for (axis, &extent) in shape.iter().enumerate().rev() {
        if extent != 1 {
            strides[axis + full.len() - shape.len()] = stride;
        }
        stride *= extent;
    }
    strides
}

/// The axes of `shape`, innermost first, without axes of extent 1. Neighbouring axes are merged where one stride covers both
/// in all arrays. At least one axis.
pub(crate) fn merged_axes<const N: usize>(
    shape: &[usize],
    strides: [&[usize]; N],
) -> Vec<StridedAxis<N>> {
    let mut merged: Vec<StridedAxis<N>> = Vec::new();
    for axis in (0..shape.len()).rev().filter(|&axis| shape[axis] != 1) {
        let own = strides.map(|strides| strides[axis]);
        match merged.last_mut() {
            Some(inner) if inner.strides.map(|stride| stride * inner.extent) == own => {
                inner.extent *= shape[axis];
            }
            _ => merged.push(StridedAxis {
                extent: shape[axis],
                strides: own,
            }),
        }
    }
    if merged.is_empty() {
        merged.push(StridedAxis {
            extent: 1,
            strides: [0; N],
        });
    }
    merged
}

/// `value` as a kernel's parameter.
///
/// # Panics
/// For 2^32 and more: callers check the arrays first, with `check_len`.
pub(crate) fn narrow(value: usize) -> u32 {
    u32::try_from(value).expect("arrays are below 2^32 elements")
}

/// The largest unit, in bytes, that divides all `extents` (in bytes): 16, 8, 4 or 2.
pub(crate) fn common_unit(extents: impl IntoIterator<Item = usize>) -> usize {
    let bits = extents.into_iter().fold(16, |bits, extent| bits | extent);
    1 << bits.trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis<const N: usize>(extent: usize, strides: [usize; N]) -> StridedAxis<N> {
        StridedAxis { extent, strides }
    }

    #[test]
    fn units_divide_all_extents() {
        assert_eq!(common_unit([32, 0, 160]), 16);
        assert_eq!(common_unit([32, 40]), 8);
        assert_eq!(common_unit([6, 32]), 2);
    }

    #[test]
    fn axes_merge_where_all_arrays_go_on_alike() {
        let shape = [2, 3, 1, 4, 5];
        let dense = broadcast_strides(&shape, &shape);
        assert_eq!(dense, [60, 20, 0, 5, 1]);
        assert_eq!(merged_axes(&shape, [&dense]), [axis(120, [1])]);
        let channels = broadcast_strides(&[5], &shape);
        let per_sample = broadcast_strides(&[2, 1, 1, 1, 5], &shape);
        assert_eq!(
            merged_axes(&shape, [&dense, &channels]),
            [axis(5, [1, 1]), axis(24, [5, 0])]
        );
        assert_eq!(
            merged_axes(&shape, [&dense, &per_sample]),
            [axis(5, [1, 1]), axis(12, [5, 0]), axis(2, [60, 5])]
        );
        assert_eq!(merged_axes(&[1, 1], [&[1, 1]]), [axis(1, [0])]);
    }
}
