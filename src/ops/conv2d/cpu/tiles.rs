//! Moving activations between NHWC and Winograd's points: the vectorised passes over tiles.

use super::scheme::{F2, F4, MAX_POINTS, MAX_TILE, Scheme};
use crate::kernel::cpu::gemm::Isa;
use crate::kernel::cpu::gemm::kernel::PANEL;
use crate::kernel::cpu::gemm::pack::panel;
use crate::kernel::cpu::gemm::simd::{Simd, SimdJob};

/// The two schemes, as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WinogradTile {
    /// F(2×2, 3×3).
    Two,
    /// F(4×4, 3×3).
    Four,
}

impl WinogradTile {
    /// Outputs per side.
    pub fn outputs(self) -> usize {
        match self {
            WinogradTile::Two => F2::TILE,
            WinogradTile::Four => F4::TILE,
        }
    }

    /// Points per side.
    pub fn side(self) -> usize {
        match self {
            WinogradTile::Two => F2::POINTS,
            WinogradTile::Four => F4::POINTS,
        }
    }

    /// Points of a tile: products per tile and pair of channels.
    pub fn points(self) -> usize {
        self.side() * self.side()
    }
}

/// An NHWC activation seen as tiles. A tile covers pixels `step * (row, column) + origin` and on.
#[derive(Clone, Copy, Debug)]
pub struct Tiled {
    /// Rows and columns that are stored.
    pub size: [usize; 2],
    /// Channels.
    pub channels: usize,
    /// Whether tiles are laid over the activation enlarged to twice its side (to read), or over one whose 2×2 blocks
    /// are summed into the stored pixels (to write).
    pub doubled: bool,
    /// First pixel of the first tile, in both directions.
    pub origin: isize,
    /// From tile to tile, in both directions.
    pub step: usize,
    /// Rows and columns of tiles.
    pub tiles: [usize; 2],
}

impl Tiled {
    /// The image of a tile and its first pixel.
    fn place(&self, tile: usize) -> (usize, isize, isize) {
        let [rows, columns] = self.tiles;
        let (x, y) = (tile % columns, tile / columns % rows);
        (
            tile / (rows * columns),
            (y * self.step) as isize + self.origin,
            (x * self.step) as isize + self.origin,
        )
    }

    /// The offset of a pixel of an image in the stored activation; none outside.
    fn offset(&self, image: usize, y: isize, x: isize) -> Option<usize> {
        let shift = usize::from(self.doubled);
        let (y, x) = (
            usize::try_from(y).ok()? >> shift,
            usize::try_from(x).ok()? >> shift,
        );
        (y < self.size[0] && x < self.size[1])
            .then(|| ((image * self.size[0] + y) * self.size[1] + x) * self.channels)
    }
}

/// Where a tile's channel lies in a buffer of points.
#[derive(Clone, Copy, Debug)]
pub enum PointLayout {
    /// `[point][tile][channel]`: rows of `A`, or of `C`.
    Rows {
        /// From tile to tile.
        tile_stride: usize,
    },
    /// `[point][panel of 48 channels][tile][channel]`: panels of `B` whose `k` is the tile.
    Panels {
        /// Tiles in the buffer.
        tiles: usize,
    },
}

impl PointLayout {
    #[inline(always)]
    fn offset(self, tile: usize, channel: usize, channels: usize) -> usize {
        match self {
            PointLayout::Rows { tile_stride } => tile * tile_stride + channel,
            PointLayout::Panels { tiles } => {
                let panel = panel(channels, channel / PANEL);
                panel.first * tiles + tile * panel.width + channel - panel.first
            }
        }
    }
}

/// A buffer of points.
#[derive(Clone, Copy, Debug)]
pub struct Points {
    /// Its start.
    pub start: *mut f32,
    /// Floats from point to point.
    pub point_stride: usize,
    /// Order within a point.
    pub layout: PointLayout,
}

/// What the pass over activations transforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gathered {
    /// Inputs: `Bᵀ d B`.
    Input,
    /// Gradients of outputs: `A dy Aᵀ`.
    OutputGrad,
}

/// Transforms tiles of an activation to points.
pub struct GatherTiles<'a> {
    /// Which scheme.
    pub tile: WinogradTile,
    /// Which transform.
    pub what: Gathered,
    /// The activation.
    pub from: &'a [f32],
    /// Its tiles.
    pub tiled: &'a Tiled,
    /// A row of `channels` zeros, for pixels outside.
    pub zeros: &'a [f32],
    /// Where the points go; tile `tiles.start` is the buffer's `first`.
    pub to: Points,
    /// The first tile's index in the buffer.
    pub first: usize,
    /// The tiles.
    pub tiles: std::ops::Range<usize>,
}

impl GatherTiles<'_> {
    /// Runs the pass.
    ///
    /// # Safety
    /// `isa` is available; `from` holds every image of the tiles; `zeros` holds a pixel; `to` has room, channels
    /// rounded up to whole vectors, and nothing else uses those tiles of it.
    pub unsafe fn run(self, isa: Isa) {
        // SAFETY: passed on.
        unsafe { isa.run(self) }
    }

    #[inline(always)]
    unsafe fn each<S: Simd, F: Scheme>(&self) {
        let side = match self.what {
            Gathered::Input => F::POINTS,
            Gathered::OutputGrad => F::TILE,
        };
        let channels = self.tiled.channels;
        for (index, tile) in self.tiles.clone().enumerate() {
            let (image, y, x) = self.tiled.place(tile);
            let mut pixels = [[self.zeros.as_ptr(); MAX_POINTS]; MAX_POINTS];
            for (i, row) in pixels.iter_mut().enumerate().take(side) {
                for (j, pixel) in row.iter_mut().enumerate().take(side) {
                    if let Some(offset) = self.tiled.offset(image, y + i as isize, x + j as isize) {
                        *pixel = self.from[offset..].as_ptr();
                    }
                }
            }
            let mut channel = 0;
            while channel < channels {
                // SAFETY: pixels hold `channels` floats; the caller vouches for `to`.
                unsafe {
                    let to = self.to.start.add(self.to.layout.offset(
                        self.first + index,
                        channel,
                        channels,
                    ));
                    if channel + S::LANES <= channels {
                        self.one::<S, F>(|i, j| S::load(pixels[i][j].add(channel)), to);
                    } else {
                        let rest = channels - channel;
                        self.one::<S, F>(|i, j| S::load_head(pixels[i][j].add(channel), rest), to);
                    }
                }
                channel += S::LANES;
            }
        }
    }

    /// One vector of channels of one tile.
    #[inline(always)]
    unsafe fn one<S: Simd, F: Scheme>(&self, load: impl Fn(usize, usize) -> S::V, to: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe {
            let mut half = [[S::zero(); MAX_POINTS]; MAX_POINTS];
            match self.what {
                Gathered::Input => {
                    for j in 0..F::POINTS {
                        let mut d = [S::zero(); MAX_POINTS];
                        for (i, d) in d.iter_mut().enumerate().take(F::POINTS) {
                            *d = load(i, j);
                        }
                        let points = F::input::<S>(&d);
                        for (half, point) in half.iter_mut().zip(points) {
                            half[j] = point;
                        }
                    }
                    for (i, half) in half.iter().enumerate().take(F::POINTS) {
                        let points = F::input::<S>(half);
                        for (j, &point) in points.iter().enumerate().take(F::POINTS) {
                            S::store(to.add((i * F::POINTS + j) * self.to.point_stride), point);
                        }
                    }
                }
                Gathered::OutputGrad => {
                    for j in 0..F::TILE {
                        let mut d = [S::zero(); MAX_TILE];
                        for (i, d) in d.iter_mut().enumerate().take(F::TILE) {
                            *d = load(i, j);
                        }
                        let points = F::output_grad::<S>(&d);
                        for (half, point) in half.iter_mut().zip(points) {
                            half[j] = point;
                        }
                    }
                    for (i, half) in half.iter().enumerate().take(F::POINTS) {
                        let mut row = [S::zero(); MAX_TILE];
                        row[..F::TILE].copy_from_slice(&half[..F::TILE]);
                        let points = F::output_grad::<S>(&row);
                        for (j, &point) in points.iter().enumerate().take(F::POINTS) {
                            S::store(to.add((i * F::POINTS + j) * self.to.point_stride), point);
                        }
                    }
                }
            }
        }
    }
}

impl SimdJob for GatherTiles<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: passed on.
        unsafe {
            match self.tile {
                WinogradTile::Two => self.each::<S, F2>(),
                WinogradTile::Four => self.each::<S, F4>(),
            }
        }
    }
}

/// Transforms points to tiles of an output: `Aᵀ m A + bias + residual`.
pub struct ScatterTiles<'a> {
    /// Which scheme.
    pub tile: WinogradTile,
    /// The points, by rows.
    pub from: Points,
    /// The first tile's index in the buffer.
    pub first: usize,
    /// The tiles.
    pub tiles: std::ops::Range<usize>,
    /// Their place in the output.
    pub tiled: &'a Tiled,
    /// The output.
    pub to: *mut f32,
    /// One float per channel.
    pub bias: Option<&'a [f32]>,
    /// Same shape as the output.
    pub residual: Option<&'a [f32]>,
}

impl ScatterTiles<'_> {
    /// Runs the pass.
    ///
    /// # Safety
    /// `isa` is available; `from` holds the tiles, channels rounded up to whole vectors; `to`, `bias` and `residual`
    /// fit `tiled`, and nothing else uses these tiles of `to`.
    pub unsafe fn run(self, isa: Isa) {
        // SAFETY: passed on.
        unsafe { isa.run(self) }
    }

    #[inline(always)]
    unsafe fn each<S: Simd, F: Scheme>(&self) {
        let channels = self.tiled.channels;
        for (index, tile) in self.tiles.clone().enumerate() {
            let (image, y, x) = self.tiled.place(tile);
            let stride = if self.tiled.doubled { 2 } else { 1 };
            let mut offsets = [[None; MAX_TILE]; MAX_TILE];
            for i in (0..F::TILE).step_by(stride) {
                for j in (0..F::TILE).step_by(stride) {
                    offsets[i][j] = self.tiled.offset(image, y + i as isize, x + j as isize);
                }
            }
            let mut channel = 0;
            while channel < channels {
                let count = (channels - channel).min(S::LANES);
                // SAFETY: the caller vouches for the buffers.
                unsafe {
                    let at = self
                        .from
                        .layout
                        .offset(self.first + index, channel, channels);
                    let mut y = self.one::<S, F>(self.from.start.add(at));
                    if self.tiled.doubled {
                        for i in (0..F::TILE).step_by(2) {
                            for j in (0..F::TILE).step_by(2) {
                                y[i][j] = S::add(
                                    S::add(y[i][j], y[i][j + 1]),
                                    S::add(y[i + 1][j], y[i + 1][j + 1]),
                                );
                            }
                        }
                    }
                    for (y, offsets) in y.iter().zip(&offsets) {
                        for (&y, offset) in y.iter().zip(offsets) {
                            if let Some(offset) = offset {
                                self.put::<S>(y, offset + channel, channel, count);
                            }
                        }
                    }
                }
                channel += S::LANES;
            }
        }
    }

    #[inline(always)]
    unsafe fn one<S: Simd, F: Scheme>(&self, from: *const f32) -> [[S::V; MAX_TILE]; MAX_TILE] {
        // SAFETY: the caller's contract.
        unsafe {
            let mut half = [[S::zero(); MAX_POINTS]; MAX_TILE];
            for j in 0..F::POINTS {
                let mut m = [S::zero(); MAX_POINTS];
                for (i, m) in m.iter_mut().enumerate().take(F::POINTS) {
                    *m = S::load(from.add((i * F::POINTS + j) * self.from.point_stride));
                }
                let y = F::output::<S>(&m);
                for (half, y) in half.iter_mut().zip(y) {
                    half[j] = y;
                }
            }
            let mut out = [[S::zero(); MAX_TILE]; MAX_TILE];
            for i in 0..F::TILE {
                out[i] = F::output::<S>(&half[i]);
            }
            out
        }
    }

    #[inline(always)]
    unsafe fn put<S: Simd>(&self, mut y: S::V, at: usize, channel: usize, count: usize) {
        // SAFETY: the caller's contract: `count` channels from `channel` exist.
        unsafe {
            let to = self.to.add(at);
            if count == S::LANES {
                if let Some(bias) = self.bias {
                    y = S::add(y, S::load(bias.as_ptr().add(channel)));
                }
                if let Some(residual) = self.residual {
                    y = S::add(y, S::load(residual.as_ptr().add(at)));
                }
                S::store(to, y);
            } else {
                if let Some(bias) = self.bias {
                    y = S::add(y, S::load_head(bias.as_ptr().add(channel), count));
                }
                if let Some(residual) = self.residual {
                    y = S::add(y, S::load_head(residual.as_ptr().add(at), count));
                }
                S::store_head(to, y, count);
            }
        }
    }
}

impl SimdJob for ScatterTiles<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: passed on.
        unsafe {
            match self.tile {
                WinogradTile::Two => self.each::<S, F2>(),
                WinogradTile::Four => self.each::<S, F4>(),
            }
        }
    }
}
