//! The layout of a packed `B`: panels of 48 columns, each `[k][width]`, one after the other.

use super::kernel::{LANE_MULTIPLE, PANEL};

/// `columns` rounded up to whole vectors.
pub fn padded(columns: usize) -> usize {
    columns.next_multiple_of(LANE_MULTIPLE)
}

/// One panel of a packed matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panel {
    /// Its first column in the matrix.
    pub first: usize,
    /// Columns that exist.
    pub columns: usize,
    /// Columns stored: `columns` rounded up to whole vectors.
    pub width: usize,
}

/// Number of panels of a matrix with `columns` columns.
pub fn panel_count(columns: usize) -> usize {
    columns.div_ceil(PANEL)
}

/// Panel `index` of a matrix with `columns` columns. It starts `first * k` floats into the packed matrix.
pub fn panel(columns: usize, index: usize) -> Panel {
    let first = index * PANEL;
    let existing = (columns - first).min(PANEL);
    Panel {
        first,
        columns: existing,
        width: padded(existing),
    }
}

/// Packs one panel: `to[k][j] = scale * from[k * row_stride + (panel.first + j) * column_stride]`, zeros in the padding.
pub fn pack_panel(
    panel: Panel,
    k: usize,
    from: &[f32],
    row_stride: usize,
    column_stride: usize,
    scale: f32,
    to: &mut [f32],
) {
    let to = &mut to[..k * panel.width];
    if column_stride == 1 {
        for (row, to) in to.chunks_exact_mut(panel.width).enumerate() {
            let from = &from[row * row_stride + panel.first..][..panel.columns];
            for (to, from) in to.iter_mut().zip(from) {
                *to = scale * from;
            }
            to[panel.columns..].fill(0.0);
        }
        return;
    }
    // Sixteen rows at a time keep the written lines in L1 while each column is read along its length.
    const BAND: usize = 16;
    for (band, to) in to.chunks_mut(BAND * panel.width).enumerate() {
        let rows = to.len() / panel.width;
        let start = band * BAND * row_stride;
        for j in 0..panel.columns {
            let column = start + (panel.first + j) * column_stride;
            for row in 0..rows {
                to[row * panel.width + j] = scale * from[column + row * row_stride];
            }
        }
        for row in to.chunks_exact_mut(panel.width) {
            row[panel.columns..].fill(0.0);
        }
    }
}
