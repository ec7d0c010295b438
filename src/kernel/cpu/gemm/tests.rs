//! The strided product against f64 on every instruction set, layout and awkward size.

use super::*;

fn value(i: usize, seed: usize) -> f32 {
    let h = (i as u32)
        .wrapping_mul(2_654_435_761)
        .wrapping_add((seed as u32).wrapping_mul(40_503))
        ^ 0x9e37_79b9;
    let h = (h ^ (h >> 15)).wrapping_mul(0x85eb_ca6b);
    ((h ^ (h >> 13)) >> 8) as f32 / 8_388_608.0 - 1.0
}

#[test]
fn strided_product_matches_f64() {
    let sizes = [
        (1, 1, 1),
        (3, 5, 7),
        (8, 48, 16),
        (9, 49, 17),
        (17, 100, 1030),
        (70, 33, 64),
        (5, 16, 0),
    ];
    for &isa in Isa::available() {
        for (m, n, k) in sizes {
            for layout in 0..8 {
                let strides = |rows: usize, columns: usize, by_row: bool| {
                    if by_row {
                        (columns + 3, 1)
                    } else {
                        (1, rows + 2)
                    }
                };
                let (ar, ac) = strides(m, k, layout & 1 == 0);
                let (br, bc) = strides(k, n, layout & 2 == 0);
                let (cr, cc) = strides(m, n, layout & 4 == 0);
                let a: Vec<f32> = (0..(m + 3) * (k + 3)).map(|i| value(i, 1)).collect();
                let b: Vec<f32> = (0..(k + 3) * (n + 3)).map(|i| value(i, 2)).collect();
                for (alpha, beta) in [(1.0, 0.0), (0.5, 1.0), (-2.0, 0.25)] {
                    let held = |i: usize| if beta == 0.0 { f32::NAN } else { value(i, 3) };
                    let mut c: Vec<f32> = (0..(m + 3) * (n + 3)).map(held).collect();
                    let before = c.clone();
                    let mut workspace = vec![f32::NAN; gemm_workspace_len(m, n, k)];
                    gemm_on(
                        isa,
                        m,
                        n,
                        k,
                        alpha,
                        Strided {
                            data: &a,
                            row_stride: ar,
                            column_stride: ac,
                        },
                        Strided {
                            data: &b,
                            row_stride: br,
                            column_stride: bc,
                        },
                        beta,
                        StridedMut {
                            data: &mut c,
                            row_stride: cr,
                            column_stride: cc,
                        },
                        &mut workspace,
                    );
                    let mut touched = vec![false; c.len()];
                    for i in 0..m {
                        for j in 0..n {
                            let mut sum = 0.0;
                            for p in 0..k {
                                sum += a[i * ar + p * ac] as f64 * b[p * br + j * bc] as f64;
                            }
                            let at = i * cr + j * cc;
                            touched[at] = true;
                            let old = if beta == 0.0 {
                                0.0
                            } else {
                                beta as f64 * before[at] as f64
                            };
                            let expected = alpha as f64 * sum + old;
                            // k products of magnitude below 2 each, rounded at 2^-24.
                            let bound = 1.2e-7 * (2.0 * k as f64 + 4.0);
                            assert!(
                                (c[at] as f64 - expected).abs() <= bound,
                                "{isa:?} {m}×{n}×{k} layout {layout} ({i}, {j}): {} expected {expected}",
                                c[at]
                            );
                        }
                    }
                    for (i, touched) in touched.iter().enumerate() {
                        assert!(
                            *touched || c[i].to_bits() == before[i].to_bits(),
                            "wrote outside c at {i}"
                        );
                    }
                }
            }
        }
    }
}
