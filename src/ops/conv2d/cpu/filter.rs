//! Reading an OIHW filter in blocks, with channels as lanes, for packing.

use crate::ops::conv2d::geometry::{ConvGeometry, Direction};

/// Input channels of the product per block.
pub const DEPTH: usize = 16;
/// Output channels of the product per block: a panel.
pub const COLUMNS: usize = crate::kernel::cpu::gemm::kernel::PANEL;

/// Multiply-adds in the time that packing one float takes: about 1 ns.
pub const PACK_WORK: usize = 75;

impl Direction {
    /// Copies the block `depth0 .. depth0 + depth`, `column0 .. column0 + columns` of the filter to
    /// `to[kernel entry][depth][column]`, rows `COLUMNS` apart and entries `DEPTH * COLUMNS` apart. Columns beyond
    /// `columns` become zero.
    pub fn read_block(
        self,
        geometry: &ConvGeometry,
        weight: &[f32],
        (depth0, depth): (usize, usize),
        (column0, columns): (usize, usize),
        to: &mut [f32],
    ) {
        let entries = geometry.kernel[0] * geometry.kernel[1];
        let to = &mut to[..entries * DEPTH * COLUMNS];
        if columns < COLUMNS {
            to.fill(0.0);
        }
        // The inner two loops read a contiguous stretch of the filter.
        let (outer, inner) = match self {
            Direction::Forward => (columns, depth),
            Direction::InputGrad => (depth, columns),
        };
        for o in 0..outer {
            let (output, input) = match self {
                Direction::Forward => (column0 + o, depth0),
                Direction::InputGrad => (depth0 + o, column0),
            };
            let from =
                &weight[(output * geometry.in_channels + input) * entries..][..inner * entries];
            for (i, from) in from.chunks_exact(entries).enumerate() {
                let at = match self {
                    Direction::Forward => i * COLUMNS + o,
                    Direction::InputGrad => o * COLUMNS + i,
                };
                for (entry, &value) in from.iter().enumerate() {
                    to[entry * DEPTH * COLUMNS + at] = value;
                }
            }
        }
    }
}
