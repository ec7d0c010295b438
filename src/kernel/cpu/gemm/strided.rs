//! `C = alpha·A·B + beta·C` for strided row- or column-major matrices.

use super::kernel::{Block, LANE_MULTIPLE, ROWS, Segment, block};
use super::pack::{pack_panel, padded, panel, panel_count};
use super::simd::Isa;
use crate::kernel::cpu::threads::{Shared, parallel};

/// Depth of a packed block of `B`: a panel of 48 columns takes 192 KiB, a tenth of a 2 MiB L2, and the tile of `C`
/// is read and written once per 24 576 multiply-adds.
const K_BLOCK: usize = 1024;

/// Rows of `C` per task: 64 rows of `A` at full depth are 256 KiB and stay in L2 beside the panel of `B`.
const M_BLOCK: usize = 64;

/// Steps of depth that a task packs of a transposed `A`.
const PACK_STEPS: usize = 32;

/// Where the block of rows that starts at `row` lies in the packed `A`. Blocks are a line more than a power of two apart:
/// packing writes to all of them in turn.
fn a_block(row: usize, depth: usize) -> usize {
    row * depth + row / ROWS * LANE_MULTIPLE
}

/// A matrix: element `(i, j)` is `data[i * row_stride + j * column_stride]`.
#[derive(Clone, Copy)]
pub struct Strided<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// From row to row.
    pub row_stride: usize,
    /// From column to column.
    pub column_stride: usize,
}

impl Strided<'_> {
    fn transposed(self) -> Self {
        Strided {
            data: self.data,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    fn assert_holds(&self, rows: usize, columns: usize, name: &str) {
        let last = (rows.max(1) - 1) * self.row_stride + (columns.max(1) - 1) * self.column_stride;
        assert!(
            rows * columns == 0 || last < self.data.len(),
            "gemm: {name} is {rows}×{columns} with strides {} and {}, but holds {} floats",
            self.row_stride,
            self.column_stride,
            self.data.len()
        );
    }
}

/// A matrix that is written. One of its strides is 1.
pub struct StridedMut<'a> {
    /// The elements.
    pub data: &'a mut [f32],
    /// From row to row.
    pub row_stride: usize,
    /// From column to column.
    pub column_stride: usize,
}

/// Floats of workspace that [`gemm`] needs for an `m × n × k` product.
pub fn gemm_workspace_len(m: usize, n: usize, k: usize) -> usize {
    let depth = k.min(K_BLOCK);
    // Either operand may end up on either side (a column-major C swaps them).
    let [m, n] = [m, n].map(|len| depth * padded(len) + len.div_ceil(ROWS) * LANE_MULTIPLE);
    m + n
}

/// `c = alpha * a · b + beta * c` with `a` m×k, `b` k×n, `c` m×n. With `beta == 0` what `c` held is ignored.
/// Every element is summed in an order that depends only on `k`.
///
/// # Panics
/// If an operand is too short for its strides, neither stride of `c` is 1, rows of `c` overlap, or the workspace is
/// shorter than [`gemm_workspace_len`].
#[allow(clippy::too_many_arguments)]
pub fn gemm(
    m: usize,
    n: usize,
    k: usize,
    alpha: f32,
    a: Strided<'_>,
    b: Strided<'_>,
    beta: f32,
    c: StridedMut<'_>,
    workspace: &mut [f32],
) {
    gemm_on(Isa::detect(), m, n, k, alpha, a, b, beta, c, workspace);
}

/// [`gemm`] with the kernels of a given instruction set.
///
/// # Panics
/// As [`gemm`], and if the processor does not have `isa`.
#[allow(clippy::too_many_arguments)]
pub fn gemm_on(
    isa: Isa,
    m: usize,
    n: usize,
    k: usize,
    alpha: f32,
    a: Strided<'_>,
    b: Strided<'_>,
    beta: f32,
    c: StridedMut<'_>,
    workspace: &mut [f32],
) {
    assert!(
        Isa::available().contains(&isa),
        "this processor has no {isa:?}"
    );
    if c.column_stride != 1 {
        assert!(
            c.row_stride == 1,
            "gemm: one stride of c must be 1, not {} and {}",
            c.row_stride,
            c.column_stride
        );
        let c = StridedMut {
            data: c.data,
            row_stride: c.column_stride,
            column_stride: 1,
        };
        return row_major(
            isa,
            n,
            m,
            k,
            alpha,
            b.transposed(),
            a.transposed(),
            beta,
            c,
            workspace,
        );
    }
    row_major(isa, m, n, k, alpha, a, b, beta, c, workspace);
}

#[allow(clippy::too_many_arguments)]
fn row_major(
    isa: Isa,
    m: usize,
    n: usize,
    k: usize,
    alpha: f32,
    a: Strided<'_>,
    b: Strided<'_>,
    beta: f32,
    c: StridedMut<'_>,
    workspace: &mut [f32],
) {
    if m == 0 || n == 0 {
        return;
    }
    a.assert_holds(m, k, "a");
    b.assert_holds(k, n, "b");
    let held = Strided {
        data: c.data,
        row_stride: c.row_stride,
        column_stride: 1,
    };
    held.assert_holds(m, n, "c");
    assert!(
        m == 1 || c.row_stride >= n,
        "gemm: rows of c overlap: {n} columns, {} apart",
        c.row_stride
    );
    assert!(
        workspace.len() >= gemm_workspace_len(m, n, k),
        "gemm: workspace of {} floats",
        workspace.len()
    );
    let c_stride = c.row_stride;
    if k == 0 || (beta != 0.0 && beta != 1.0) {
        for row in c.data.chunks_mut(c_stride).take(m) {
            let row = &mut row[..n];
            if beta == 0.0 {
                row.fill(0.0);
            } else {
                row.iter_mut().for_each(|x| *x *= beta);
            }
        }
    }
    let out = Shared::new(c.data);
    let panels = panel_count(n);
    let pack_a = a.column_stride != 1;
    let mut k0 = 0;
    while k0 < k {
        let depth = (k - k0).min(K_BLOCK);
        let (packed_b, packed_a) = workspace.split_at_mut(depth * padded(n));
        let shared_b = Shared::new(packed_b);
        parallel(m * n * k, panels, |p| {
            let panel = panel(n, p);
            // SAFETY: panels are disjoint.
            let to = unsafe {
                shared_b.slice_mut(panel.first * depth..panel.first * depth + depth * panel.width)
            };
            pack_panel(
                panel,
                depth,
                &b.data[k0 * b.row_stride..],
                b.row_stride,
                b.column_stride,
                alpha,
                to,
            );
        });
        if pack_a {
            let shared_a = Shared::new(packed_a);
            // Some steps at a time: a column is read along its length, and what is written stays in L2.
            parallel(m * n * k, depth.div_ceil(PACK_STEPS), |band| {
                for step in band * PACK_STEPS..depth.min((band + 1) * PACK_STEPS) {
                    let column = &a.data[(k0 + step) * a.column_stride..];
                    for first in (0..m).step_by(ROWS) {
                        let rows = (m - first).min(ROWS);
                        // SAFETY: tasks write different steps of each block of rows.
                        let to = unsafe {
                            shared_a.slice_mut(
                                a_block(first, depth) + step * rows
                                    ..a_block(first, depth) + step * rows + rows,
                            )
                        };
                        if a.row_stride == 1 && rows == ROWS {
                            // A length that the compiler knows: a register or two, not a call.
                            to[..ROWS].copy_from_slice(&column[first..first + ROWS]);
                        } else {
                            for (i, to) in to.iter_mut().enumerate() {
                                *to = column[(first + i) * a.row_stride];
                            }
                        }
                    }
                }
            });
        }
        let (packed_a, packed_b) = (&*packed_a, &*packed_b);
        let segment = Segment { b_row: 0, k: depth };
        let accumulate = k0 > 0 || beta != 0.0;
        let m_blocks = m.div_ceil(M_BLOCK);
        parallel(m * n * k, m_blocks * panels, |task| {
            let panel = panel(n, task / m_blocks);
            let first = task % m_blocks * M_BLOCK;
            for row in (first..m.min(first + M_BLOCK)).step_by(ROWS) {
                let rows = (m - row).min(ROWS);
                let mut pointers = [std::ptr::null(); ROWS];
                let mut offsets = [0; ROWS];
                for i in 0..rows {
                    // Inside the operand by the assertions above.
                    pointers[i] = if pack_a {
                        packed_a.as_ptr().wrapping_add(a_block(row, depth) + i)
                    } else {
                        a.data.as_ptr().wrapping_add((row + i) * a.row_stride + k0)
                    };
                    offsets[i] = (row + i) * c_stride;
                }
                // SAFETY: rows of A lie in `a` or in its packed copy and the panel in the workspace, by the
                // assertions above; each task writes its own rows and columns of C.
                unsafe {
                    block(
                        isa,
                        &Block {
                            segments: &segment,
                            segment_count: 1,
                            a: pointers.as_ptr(),
                            a_segment: 0,
                            a_offset: 0,
                            a_step: if pack_a { rows } else { 1 },
                            b: packed_b[panel.first * depth..].as_ptr(),
                            b_width: panel.width,
                            b_step: 1,
                            c: out.as_ptr(),
                            c_rows: offsets.as_ptr(),
                            column: panel.first,
                            accumulate,
                            bias: std::ptr::null(),
                            residual: std::ptr::null(),
                            rows,
                            columns: panel.columns,
                        },
                    );
                }
            }
        });
        k0 += depth;
    }
}
