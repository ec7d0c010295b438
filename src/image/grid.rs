//! Many images in one: rows and columns on a background, with optional text beside each row.

use super::font;
use super::png::Image8;

/// How tiles are laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GridOptions {
    /// Tiles per row.
    pub columns: usize,
    /// Pixels between tiles and around them.
    pub gap: usize,
    /// Each tile is enlarged this many times by repeating pixels, at least 1.
    pub scale: usize,
    /// Text at the left of each row; rows beyond the list have none.
    pub row_labels: Vec<String>,
}

impl GridOptions {
    /// `columns` tiles per row, 2 pixels apart, at their own size, without text.
    pub fn new(columns: usize) -> Self {
        Self {
            columns,
            gap: 2,
            scale: 1,
            row_labels: Vec::new(),
        }
    }
}

const BACKGROUND: u8 = 255;
const INK: u8 = 0;

/// The grid of `tiles`, row by row. Tiles may differ in size: a cell is as large as the largest, and smaller tiles sit
/// in its centre. Grey and RGB tiles may be mixed. Without tiles the result is a blank image.
pub fn compose(tiles: &[Image8], options: &GridOptions) -> Image8 {
    let columns = options.columns.clamp(1, tiles.len().max(1));
    let rows = tiles.len().div_ceil(columns).max(1);
    let (scale, gap) = (options.scale.max(1), options.gap);
    let cell_width = tiles.iter().map(|t| t.width).max().unwrap_or(1) * scale;
    let cell_height = tiles.iter().map(|t| t.height).max().unwrap_or(1) * scale;
    let channels = tiles.iter().map(|t| t.channels).max().unwrap_or(1);
    // Text grows with the tiles so that it stays readable beside large ones.
    let text_scale = (cell_height / 64).clamp(1, 4);
    let labels = &options.row_labels[..options.row_labels.len().min(rows)];
    let text_width = labels
        .iter()
        .map(|label| font::width(label) * text_scale)
        .max()
        .unwrap_or(0);
    let left = if text_width > 0 {
        text_width + 2 * gap.max(2)
    } else {
        0
    };

    let width = left + gap + columns * (cell_width + gap);
    let height = gap + rows * (cell_height + gap);
    let mut grid = Image8::filled(width, height, channels, BACKGROUND);
    for (index, tile) in tiles.iter().enumerate() {
        let x = left
            + gap
            + index % columns * (cell_width + gap)
            + (cell_width - tile.width * scale) / 2;
        let y =
            gap + index / columns * (cell_height + gap) + (cell_height - tile.height * scale) / 2;
        paste(&mut grid, tile, [x, y], scale);
    }
    for (row, label) in labels.iter().enumerate() {
        let centre = gap + row * (cell_height + gap) + cell_height / 2;
        let top = centre.saturating_sub(font::HEIGHT * text_scale / 2);
        draw_text(&mut grid, label, [gap.max(2), top], text_scale);
    }
    grid
}

fn paste(grid: &mut Image8, tile: &Image8, [left, top]: [usize; 2], scale: usize) {
    for y in 0..tile.height * scale {
        for x in 0..tile.width * scale {
            let from = ((y / scale) * tile.width + x / scale) * tile.channels;
            let to = ((top + y) * grid.width + left + x) * grid.channels;
            for c in 0..grid.channels {
                grid.values[to + c] = tile.values[from + c % tile.channels];
            }
        }
    }
}

/// Draws text in ink; what falls outside the image is cut off.
fn draw_text(image: &mut Image8, text: &str, [left, top]: [usize; 2], scale: usize) {
    font::dots(text, |x, y| {
        for dy in 0..scale {
            for dx in 0..scale {
                let (px, py) = (left + x * scale + dx, top + y * scale + dy);
                if px < image.width && py < image.height {
                    let at = (py * image.width + px) * image.channels;
                    image.values[at..at + image.channels].fill(INK);
                }
            }
        }
    });
}
