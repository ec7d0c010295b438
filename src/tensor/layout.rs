//! Conversion between the channel orders of files (`NCHW`) and of activations (`NHWC`).

/// `[n, c, h, w]` → `[n, h, w, c]`.
///
/// # Panics
/// If `src` does not hold `n * c * h * w` elements.
pub fn nchw_to_nhwc<T: Copy>(src: &[T], [n, c, h, w]: [usize; 4]) -> Vec<T> {
    assert_eq!(src.len(), n * c * h * w);
    let mut dst = Vec::with_capacity(src.len());
    for image in src.chunks_exact((c * h * w).max(1)).take(n) {
        for pixel in 0..h * w {
            dst.extend((0..c).map(|channel| image[channel * h * w + pixel]));
        }
    }
    dst
}

/// `[n, h, w, c]` → `[n, c, h, w]`.
///
/// # Panics
/// If `src` does not hold `n * h * w * c` elements.
pub fn nhwc_to_nchw<T: Copy>(src: &[T], [n, h, w, c]: [usize; 4]) -> Vec<T> {
    assert_eq!(src.len(), n * h * w * c);
    let mut dst = Vec::with_capacity(src.len());
    for image in src.chunks_exact((h * w * c).max(1)).take(n) {
        for channel in 0..c {
            dst.extend((0..h * w).map(|pixel| image[pixel * c + channel]));
        }
    }
    dst
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_inverse_and_place_channels_last() {
        let src: Vec<i32> = (0..2 * 3 * 4 * 5).collect();
        let nhwc = nchw_to_nhwc(&src, [2, 3, 4, 5]);
        // element (n=1, c=2, h=3, w=4)
        assert_eq!(
            nhwc[((4 + 3) * 5 + 4) * 3 + 2],
            src[((3 + 2) * 4 + 3) * 5 + 4]
        );
        assert_eq!(nhwc_to_nchw(&nhwc, [2, 4, 5, 3]), src);
    }
}
