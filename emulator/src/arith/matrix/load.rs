//! `ldmatrix` and `movmatrix`: 8×8 matrices of 16-bit elements between shared memory and registers.

use crate::arith::{Lanes, WARP};

/// The lane whose address operand names row `row` (0 to 7) of matrix `matrix` in `ldmatrix.x1/.x2/.x4`.
pub const fn ldmatrix_row_lane(matrix: usize, row: usize) -> usize {
    8 * matrix + row
}

/// `ldmatrix.sync.aligned.m8n8{.trans}.b16`: register `i` of the result from matrix `i`, given as its eight rows of
/// eight elements. Lane l holds elements (l / 4, 2·(l % 4)) and the next in the row, the first in the low half; with
/// `.trans` the elements of the transposed matrix.
pub fn ldmatrix(rows: &[[u16; 8]; 8], transpose: bool) -> Lanes {
    let mut register = [0; WARP];
    for (lane, out) in register.iter_mut().enumerate() {
        let (g, t) = (lane / 4, 2 * (lane % 4));
        let (low, high) = if transpose {
            (rows[t][g], rows[t + 1][g])
        } else {
            (rows[g][t], rows[g][t + 1])
        };
        *out = u32::from(high) << 16 | u32::from(low);
    }
    register
}

/// `movmatrix.sync.aligned.m8n8.trans.b16`: the 8×8 matrix of a register, transposed.
pub fn movmatrix(register: &Lanes) -> Lanes {
    let mut rows = [[0; 8]; 8];
    for (lane, &pair) in register.iter().enumerate() {
        let (g, t) = (lane / 4, 2 * (lane % 4));
        rows[g][t] = pair as u16;
        rows[g][t + 1] = (pair >> 16) as u16;
    }
    ldmatrix(&rows, true)
}
