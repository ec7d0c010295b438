//! Linear layers on the CPU: `y = x·Wᵀ + b` for `[rows, in]` activations and an `[out, in]` matrix, and both gradients.
//!
//! Forward reads the matrix as it is stored, once: lanes run along `in`, so nothing is packed. A few rows (the time
//! embedding at batch 1 to 8) take as long as streaming the matrix from memory. An output's order of summation depends on
//! `in` only. The gradients are plain matrix products.

use crate::kernel::cpu::gemm::simd::{Simd, SimdJob};
use crate::kernel::cpu::gemm::{Isa, Strided, StridedMut, gemm_on, gemm_workspace_len};
use crate::kernel::cpu::threads::{Shared, parallel};

/// Outputs per register tile.
const TILE_OUT: usize = 4;

/// Outputs per task. With 1024 inputs they are 128 KiB of the matrix, which stay in L2 while the rows pass, and long
/// enough to stream for a single row.
const TASK_OUT: usize = 32;

/// Rows per task.
const TASK_ROWS: usize = 64;

/// Multiply-adds in the time that one weight takes to come from memory: 4 bytes at 12 GB/s, 75 G multiply-adds a second.
const STREAM_WORK: usize = 25;

/// The size of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinearGeometry {
    /// Rows of the activations.
    pub rows: usize,
    /// Features in.
    pub inputs: usize,
    /// Features out.
    pub outputs: usize,
}

impl LinearGeometry {
    /// Floating-point operations; each gradient takes as many.
    pub fn flops(&self) -> u64 {
        2 * (self.rows * self.inputs * self.outputs) as u64
    }

    fn assert_lens(&self, x: usize, y: usize, weight: usize) {
        assert!(
            x == self.rows * self.inputs
                && y == self.rows * self.outputs
                && weight == self.inputs * self.outputs,
            "linear: {x}, {y} and {weight} floats for {self:?}"
        );
    }
}

/// `y[r][o] = Σ_i x[r][i] · weight[o][i] + bias[o]`. Overwrites `y`.
///
/// # Panics
/// If a slice has the wrong length.
pub fn forward(
    geometry: &LinearGeometry,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    forward_on(Isa::detect(), geometry, x, weight, bias, y);
}

fn forward_on(
    isa: Isa,
    geometry: &LinearGeometry,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    geometry.assert_lens(x.len(), y.len(), weight.len());
    assert!(
        bias.is_none_or(|bias| bias.len() == geometry.outputs),
        "linear: bias of {geometry:?}"
    );
    let y = Shared::new(y);
    let row_blocks = geometry.rows.div_ceil(TASK_ROWS);
    let work = geometry.inputs * geometry.outputs * (geometry.rows + STREAM_WORK);
    parallel(
        work,
        row_blocks * geometry.outputs.div_ceil(TASK_OUT),
        |task| {
            let out0 = task / row_blocks * TASK_OUT;
            let row0 = task % row_blocks * TASK_ROWS;
            let rows = row0..geometry.rows.min(row0 + TASK_ROWS);
            let outputs = out0..geometry.outputs.min(out0 + TASK_OUT);
            // SAFETY: `isa` is available; lengths are asserted above; tasks write disjoint outputs.
            unsafe {
                isa.run(Dots {
                    inputs: geometry.inputs,
                    stride: geometry.outputs,
                    rows,
                    outputs,
                    x,
                    weight,
                    bias,
                    y,
                })
            }
        },
    );
}

/// Dot products of some rows with some rows of the matrix.
struct Dots<'a> {
    inputs: usize,
    stride: usize,
    rows: std::ops::Range<usize>,
    outputs: std::ops::Range<usize>,
    x: &'a [f32],
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    y: Shared,
}

impl SimdJob for Dots<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for out in self.outputs.clone().step_by(TILE_OUT) {
            let mut row = self.rows.start;
            // SAFETY: the caller's contract; a tile never leaves the two ranges.
            unsafe {
                if S::LANES == 16 {
                    while row + 4 <= self.rows.end {
                        self.tile::<S, 4>(row, out);
                        row += 4;
                    }
                }
                while row + 2 <= self.rows.end {
                    self.tile::<S, 2>(row, out);
                    row += 2;
                }
                if row < self.rows.end {
                    self.tile::<S, 1>(row, out);
                }
            }
        }
    }
}

impl Dots<'_> {
    /// `ROWS` rows by up to [`TILE_OUT`] outputs; outputs beyond the range repeat the last one and are not stored.
    #[inline(always)]
    unsafe fn tile<S: Simd, const ROWS: usize>(&self, row: usize, out: usize) {
        // SAFETY: rows and outputs lie inside their matrices; the last vector of a row is read up to its end only.
        unsafe {
            let x: [*const f32; ROWS] =
                std::array::from_fn(|i| self.x.as_ptr().add((row + i) * self.inputs));
            let last = self.outputs.end - 1;
            let w: [*const f32; TILE_OUT] = std::array::from_fn(|j| {
                self.weight.as_ptr().add((out + j).min(last) * self.inputs)
            });
            let mut acc = [[S::zero(); TILE_OUT]; ROWS];
            let whole = self.inputs - self.inputs % S::LANES;
            let mut at = 0;
            while at < whole {
                let wv: [S::V; TILE_OUT] = std::array::from_fn(|j| S::load(w[j].add(at)));
                for i in 0..ROWS {
                    let xv = S::load(x[i].add(at));
                    for j in 0..TILE_OUT {
                        acc[i][j] = S::fma(xv, wv[j], acc[i][j]);
                    }
                }
                at += S::LANES;
            }
            let rest = self.inputs - whole;
            if rest > 0 {
                for i in 0..ROWS {
                    let xv = S::load_head(x[i].add(at), rest);
                    for j in 0..TILE_OUT {
                        acc[i][j] = S::fma(xv, S::load_head(w[j].add(at), rest), acc[i][j]);
                    }
                }
            }
            for (i, acc) in acc.iter().enumerate() {
                for (j, &acc) in acc.iter().enumerate().take(self.outputs.end - out) {
                    let bias = self.bias.map_or(0.0, |bias| bias[out + j]);
                    *self.y.as_ptr().add((row + i) * self.stride + out + j) = S::sum(acc) + bias;
                }
            }
        }
    }
}

/// Floats of workspace that [`input_grad`] needs.
pub fn input_grad_workspace_len(geometry: &LinearGeometry) -> usize {
    gemm_workspace_len(geometry.rows, geometry.inputs, geometry.outputs)
}

/// `dx[r][i] = Σ_o dy[r][o] · weight[o][i]`. Overwrites `dx`.
///
/// # Panics
/// If a slice has the wrong length.
pub fn input_grad(
    geometry: &LinearGeometry,
    weight: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    workspace: &mut [f32],
) {
    input_grad_on(Isa::detect(), geometry, weight, dy, dx, workspace);
}

fn input_grad_on(
    isa: Isa,
    g: &LinearGeometry,
    weight: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    workspace: &mut [f32],
) {
    g.assert_lens(dx.len(), dy.len(), weight.len());
    gemm_on(
        isa,
        g.rows,
        g.inputs,
        g.outputs,
        1.0,
        Strided {
            data: dy,
            row_stride: g.outputs,
            column_stride: 1,
        },
        Strided {
            data: weight,
            row_stride: g.inputs,
            column_stride: 1,
        },
        0.0,
        StridedMut {
            data: dx,
            row_stride: g.inputs,
            column_stride: 1,
        },
        workspace,
    );
}

/// Floats of workspace that [`weight_grad`] needs.
pub fn weight_grad_workspace_len(geometry: &LinearGeometry) -> usize {
    gemm_workspace_len(geometry.outputs, geometry.inputs, geometry.rows)
}

/// `dw[o][i] = Σ_r dy[r][o] · x[r][i]`, in row order. Overwrites `dw`.
///
/// # Panics
/// If a slice has the wrong length.
pub fn weight_grad(
    geometry: &LinearGeometry,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    workspace: &mut [f32],
) {
    weight_grad_on(Isa::detect(), geometry, x, dy, dw, workspace);
}

fn weight_grad_on(
    isa: Isa,
    g: &LinearGeometry,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    workspace: &mut [f32],
) {
    g.assert_lens(x.len(), dy.len(), dw.len());
    gemm_on(
        isa,
        g.outputs,
        g.inputs,
        g.rows,
        1.0,
        Strided {
            data: dy,
            row_stride: 1,
            column_stride: g.outputs,
        },
        Strided {
            data: x,
            row_stride: g.inputs,
            column_stride: 1,
        },
        0.0,
        StridedMut {
            data: dw,
            row_stride: g.inputs,
            column_stride: 1,
        },
        workspace,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize, seed: u32) -> Vec<f32> {
        (0..len as u32)
            .map(|i| {
                let h = (i ^ seed.wrapping_mul(0x85eb_ca6b)).wrapping_mul(0x9e37_79b9);
                let h = (h ^ (h >> 15)).wrapping_mul(0x846c_a68b);
                ((h ^ (h >> 16)) >> 8) as f32 / 8_388_608.0 - 1.0
            })
            .collect()
    }

    /// In-order f32 sums of up to 1100 products of magnitude below one; norm-wise.
    const BOUND: f64 = 1e-6;

    fn assert_close(got: &[f32], expected: &[f64], what: &str) {
        let error: f64 = got
            .iter()
            .zip(expected)
            .map(|(a, b)| (*a as f64 - b).powi(2))
            .sum();
        let norm: f64 = expected.iter().map(|b| b * b).sum();
        assert!(
            (error / norm.max(1e-30)).sqrt() <= BOUND,
            "{what}: relative error {:.2e}",
            (error / norm).sqrt()
        );
    }

    #[test]
    fn linear_and_gradients_match_f64() {
        for (rows, inputs, outputs) in [
            (1, 1, 1),
            (1, 1030, 70),
            (2, 256, 1024),
            (3, 17, 5),
            (7, 96, 33),
            (8, 40, 50),
            (70, 33, 100),
        ] {
            let g = LinearGeometry {
                rows,
                inputs,
                outputs,
            };
            let (x, w) = (values(rows * inputs, 1), values(outputs * inputs, 2));
            let (dy, bias) = (values(rows * outputs, 3), values(outputs, 4));
            let mut y: Vec<f64> = (0..rows * outputs)
                .map(|i| bias[i % outputs] as f64)
                .collect();
            let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
            for r in 0..rows {
                for o in 0..outputs {
                    for i in 0..inputs {
                        y[r * outputs + o] += x[r * inputs + i] as f64 * w[o * inputs + i] as f64;
                        dx[r * inputs + i] += dy[r * outputs + o] as f64 * w[o * inputs + i] as f64;
                        dw[o * inputs + i] += dy[r * outputs + o] as f64 * x[r * inputs + i] as f64;
                    }
                }
            }
            for &isa in Isa::available() {
                let mut out = vec![f32::NAN; y.len()];
                forward_on(isa, &g, &x, &w, Some(&bias), &mut out);
                assert_close(&out, &y, &format!("y of {g:?} on {isa:?}"));
                let mut out = vec![f32::NAN; dx.len()];
                let mut workspace = vec![f32::NAN; input_grad_workspace_len(&g)];
                input_grad_on(isa, &g, &w, &dy, &mut out, &mut workspace);
                assert_close(&out, &dx, &format!("dx of {g:?} on {isa:?}"));
                let mut out = vec![f32::NAN; dw.len()];
                let mut workspace = vec![f32::NAN; weight_grad_workspace_len(&g)];
                weight_grad_on(isa, &g, &x, &dy, &mut out, &mut workspace);
                assert_close(&out, &dw, &format!("dw of {g:?} on {isa:?}"));
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        let g = LinearGeometry {
            rows: 7,
            inputs: 301,
            outputs: 37,
        };
        let (x, w) = (
            values(g.rows * g.inputs, 1),
            values(g.outputs * g.inputs, 2),
        );
        for &isa in Isa::available() {
            let mut together = vec![f32::NAN; g.rows * g.outputs];
            forward_on(isa, &g, &x, &w, None, &mut together);
            for (x, expected) in x.chunks(g.inputs).zip(together.chunks(g.outputs)) {
                let mut alone = vec![f32::NAN; g.outputs];
                forward_on(
                    isa,
                    &LinearGeometry { rows: 1, ..g },
                    x,
                    &w,
                    None,
                    &mut alone,
                );
                assert_eq!(alone, expected);
            }
        }
    }
}
