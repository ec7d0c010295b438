//! Convolution on the CPU: f32, NHWC activations, OIHW filters.
//!
//! [`Forward`], [`InputGrad`] and [`WeightGrad`] are made once per geometry; each decides how it computes
//! ([`Strategy`]) and says how much packed filter and workspace it needs, all of which the caller owns. Nothing is
//! allocated when they run, outputs and workspace may hold anything beforehand, and every output is summed in an
//! order that depends neither on the number of threads nor on the batch.

mod direct;
mod direct_wgrad;
mod few_tiles;
mod filter;
mod filter_points;
mod scheme;
#[cfg(test)]
mod tests;
mod tiles;
mod winograd;
mod winograd_wgrad;

use super::geometry::{ConvGeometry, Direction};
use crate::kernel::cpu::gemm::Isa;
use direct::Direct;
use direct_wgrad::DirectWeightGrad;
use tiles::WinogradTile;
use winograd::Winograd;
use winograd_wgrad::WinogradWeightGrad;

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Implicit matrix product, no algebra: any geometry.
    Direct,
    /// Winograd F(2×2, 3×3): 2.25 times fewer products, 16/9 of the filter's bytes; 3×3 kernels of stride 1.
    Winograd2,
    /// Winograd F(4×4, 3×3): 4 times fewer products, 4 times the filter's bytes; 3×3 kernels of stride 1.
    Winograd4,
}

impl Strategy {
    /// The tile of a Winograd strategy.
    fn tile(self) -> Option<WinogradTile> {
        match self {
            Strategy::Direct => None,
            Strategy::Winograd2 => Some(WinogradTile::Two),
            Strategy::Winograd4 => Some(WinogradTile::Four),
        }
    }

    /// Whether it can compute `geometry`.
    fn applies(self, geometry: &ConvGeometry) -> bool {
        self == Strategy::Direct || Winograd::applies(geometry)
    }

    /// The strategy with the least cost, counted in multiply-adds per pair of channels.
    ///
    /// A direct convolution costs its products, `direct` of them per image (fewer than the textbook's through an
    /// upsample). Winograd costs its points' products, a quarter more for the passes over activations, and
    /// [`FILTER_COST`] once for the filter, whatever the batch. The choice must not depend on the batch, or an image's
    /// last bits would, so that one is spread over [`NOMINAL_BATCH`] images. Below [`FEWEST_CHANNELS`] on
    /// either side the passes over activations outweigh what the products save.
    fn choose(geometry: &ConvGeometry, map: [usize; 2], direct: usize) -> Strategy {
        if !Winograd::applies(geometry)
            || geometry.in_channels.min(geometry.out_channels) < FEWEST_CHANNELS
        {
            return Strategy::Direct;
        }
        let winograd = |strategy: Strategy, tile: WinogradTile| {
            let tiles: usize = map.map(|len| len.div_ceil(tile.outputs())).iter().product();
            (
                tiles * tile.points() * NOMINAL_BATCH * 5 / 4 + FILTER_COST,
                strategy,
            )
        };
        [
            winograd(Strategy::Winograd4, WinogradTile::Four),
            winograd(Strategy::Winograd2, WinogradTile::Two),
            (direct * NOMINAL_BATCH, Strategy::Direct),
        ]
        .into_iter()
        .min_by_key(|(cost, _)| *cost)
        .map_or(Strategy::Direct, |(_, strategy)| strategy)
    }
}

/// Images over which the work on a filter is spread: what a sampler with guidance runs at least is 2, training 8.
const NOMINAL_BATCH: usize = 4;

/// Work on a filter in Winograd's passes, in multiply-adds per pair of channels: 170 cycles per vector of 16 pairs to
/// transform it and to pass its points through L2, where two multiply-adds fit a cycle (512→512 at 8×8, one thread).
const FILTER_COST: usize = 340;

/// Fewest channels for Winograd.
const FEWEST_CHANNELS: usize = 32;

/// The forward convolution of one geometry.
#[derive(Clone, Copy, Debug)]
pub struct Forward(Filtered);

/// The gradient of a convolution with respect to its input.
#[derive(Clone, Copy, Debug)]
pub struct InputGrad(Filtered);

/// What forward and input gradient share: a filter packed once and a map from one activation to another.
#[derive(Clone, Copy, Debug)]
struct Filtered {
    isa: Isa,
    geometry: ConvGeometry,
    direction: Direction,
    strategy: Strategy,
}

impl Filtered {
    fn quickest(geometry: &ConvGeometry, direction: Direction) -> Filtered {
        geometry.assert_supported();
        let map = match direction {
            Direction::Forward => geometry.output(),
            Direction::InputGrad => geometry.input().map(|len| len * geometry.fold()),
        };
        let strategy = Strategy::choose(geometry, map, Direct::new(geometry, direction).products());
        Filtered::new(geometry, direction, strategy, Isa::detect())
            .expect("the chosen strategy applies")
    }

    fn new(
        geometry: &ConvGeometry,
        direction: Direction,
        strategy: Strategy,
        isa: Isa,
    ) -> Option<Filtered> {
        geometry.assert_supported();
        assert!(
            Isa::available().contains(&isa),
            "this processor has no {isa:?}"
        );
        if !strategy.applies(geometry) {
            return None;
        }
        Some(Filtered {
            isa,
            geometry: *geometry,
            direction,
            strategy,
        })
    }

    fn direct(&self) -> Direct {
        Direct::new(&self.geometry, self.direction)
    }

    fn winograd(&self, tile: WinogradTile) -> Winograd {
        Winograd::new(&self.geometry, self.direction, tile)
    }

    fn packed_len(&self) -> usize {
        match self.strategy.tile() {
            None => self.direct().packed_len(),
            Some(tile) => self.winograd(tile).packed_len(),
        }
    }

    fn pack(&self, weight: &[f32], packed: &mut [f32]) {
        let g = &self.geometry;
        assert_eq!(weight.len(), g.weight_len(), "conv2d: filter of {g:?}");
        assert!(
            packed.len() >= self.packed_len(),
            "conv2d: packed filter of {g:?}"
        );
        match self.strategy.tile() {
            None => self.direct().pack(weight, packed),
            Some(tile) => self.winograd(tile).pack(self.isa, weight, packed),
        }
    }

    /// With room to start on a cache line.
    fn workspace_len(&self) -> usize {
        LINE + match self.strategy.tile() {
            None => self.direct().workspace_len(),
            Some(tile) => self.winograd(tile).workspace_len(),
        }
    }

    fn run(
        &self,
        packed: &[f32],
        x: &[f32],
        bias: Option<&[f32]>,
        residual: Option<&[f32]>,
        y: &mut [f32],
        workspace: &mut [f32],
    ) {
        let g = &self.geometry;
        assert!(
            bias.is_none_or(|b| b.len() == g.out_channels),
            "conv2d: bias of {g:?}"
        );
        assert!(
            residual.is_none_or(|r| r.len() == y.len()),
            "conv2d: residual of {g:?}"
        );
        assert!(
            packed.len() >= self.packed_len(),
            "conv2d: packed filter of {g:?}"
        );
        assert!(
            workspace.len() >= self.workspace_len(),
            "conv2d: workspace of {g:?}"
        );
        let workspace = aligned(workspace);
        match self.strategy.tile() {
            None => self
                .direct()
                .run(self.isa, packed, x, bias, residual, y, workspace),
            Some(tile) => self
                .winograd(tile)
                .run(self.isa, packed, x, bias, residual, y, workspace),
        }
    }
}

/// Floats of a cache line.
const LINE: usize = 16;

/// The workspace from its first whole cache line on.
fn aligned(workspace: &mut [f32]) -> &mut [f32] {
    let skip = workspace.as_ptr().addr().next_multiple_of(4 * LINE) - workspace.as_ptr().addr();
    &mut workspace[skip / 4..]
}

impl Forward {
    /// The forward convolution of `geometry`, by the quickest method on this processor.
    ///
    /// # Panics
    /// If the geometry is not supported (kernel above [`MAX_KERNEL`](super::MAX_KERNEL), stride above
    /// [`MAX_STRIDE`](super::MAX_STRIDE), a zero size).
    pub fn new(geometry: &ConvGeometry) -> Forward {
        Forward(Filtered::quickest(geometry, Direction::Forward))
    }

    /// The forward convolution by a given method; `None` where it does not apply.
    pub fn with(geometry: &ConvGeometry, strategy: Strategy, isa: Isa) -> Option<Forward> {
        Filtered::new(geometry, Direction::Forward, strategy, isa).map(Forward)
    }

    /// How it is computed.
    pub fn strategy(&self) -> Strategy {
        self.0.strategy
    }

    /// Floats of the packed filter.
    pub fn packed_len(&self) -> usize {
        self.0.packed_len()
    }

    /// Packs an OIHW filter; once per set of weights.
    pub fn pack(&self, weight_oihw: &[f32], packed: &mut [f32]) {
        self.0.pack(weight_oihw, packed);
    }

    /// Floats of workspace that [`Forward::run`] needs.
    pub fn workspace_len(&self) -> usize {
        self.0.workspace_len()
    }

    /// `y = conv(x) + bias + residual`: `x` `[batch, height, width, in_channels]`, `bias` `[out_channels]`, `y` and
    /// `residual` `[batch, output_height, output_width, out_channels]`. Overwrites `y`.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub fn run(
        &self,
        packed: &[f32],
        x: &[f32],
        bias: Option<&[f32]>,
        residual: Option<&[f32]>,
        y: &mut [f32],
        workspace: &mut [f32],
    ) {
        let g = &self.0.geometry;
        assert_eq!(x.len(), g.input_len(), "conv2d: x of {g:?}");
        assert_eq!(y.len(), g.output_len(), "conv2d: y of {g:?}");
        self.0.run(packed, x, bias, residual, y, workspace);
    }
}

impl InputGrad {
    /// The input gradient of `geometry`, by the quickest method on this processor.
    ///
    /// # Panics
    /// If the geometry is not supported, as for [`Forward::new`].
    pub fn new(geometry: &ConvGeometry) -> InputGrad {
        InputGrad(Filtered::quickest(geometry, Direction::InputGrad))
    }

    /// The input gradient by a given method; `None` where it does not apply.
    pub fn with(geometry: &ConvGeometry, strategy: Strategy, isa: Isa) -> Option<InputGrad> {
        Filtered::new(geometry, Direction::InputGrad, strategy, isa).map(InputGrad)
    }

    /// How it is computed.
    pub fn strategy(&self) -> Strategy {
        self.0.strategy
    }

    /// Floats of the packed filter (not the forward's).
    pub fn packed_len(&self) -> usize {
        self.0.packed_len()
    }

    /// Packs an OIHW filter for this direction; once per set of weights.
    pub fn pack(&self, weight_oihw: &[f32], packed: &mut [f32]) {
        self.0.pack(weight_oihw, packed);
    }

    /// Floats of workspace that [`InputGrad::run`] needs.
    pub fn workspace_len(&self) -> usize {
        self.0.workspace_len()
    }

    /// `dx = gradient + residual` (both of the shape of `x`) from `dy` (shape of `y`). Overwrites `dx`.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub fn run(
        &self,
        packed: &[f32],
        dy: &[f32],
        residual: Option<&[f32]>,
        dx: &mut [f32],
        workspace: &mut [f32],
    ) {
        let g = &self.0.geometry;
        assert_eq!(dy.len(), g.output_len(), "conv2d: dy of {g:?}");
        assert_eq!(dx.len(), g.input_len(), "conv2d: dx of {g:?}");
        self.0.run(packed, dy, None, residual, dx, workspace);
    }
}

/// The gradient of a convolution with respect to its filter.
#[derive(Clone, Copy, Debug)]
pub struct WeightGrad {
    isa: Isa,
    geometry: ConvGeometry,
    strategy: Strategy,
}

impl WeightGrad {
    /// The weight gradient of `geometry`, by the quickest method on this processor.
    ///
    /// # Panics
    /// If the geometry is not supported, as for [`Forward::new`].
    pub fn new(geometry: &ConvGeometry) -> WeightGrad {
        geometry.assert_supported();
        let map = geometry.output();
        let strategy = Strategy::choose(geometry, map, DirectWeightGrad::new(geometry).products());
        WeightGrad::with(geometry, strategy, Isa::detect()).expect("the chosen strategy applies")
    }

    /// The weight gradient by a given method; `None` where it does not apply.
    pub fn with(geometry: &ConvGeometry, strategy: Strategy, isa: Isa) -> Option<WeightGrad> {
        geometry.assert_supported();
        assert!(
            Isa::available().contains(&isa),
            "this processor has no {isa:?}"
        );
        if !strategy.applies(geometry) {
            return None;
        }
        Some(WeightGrad {
            isa,
            geometry: *geometry,
            strategy,
        })
    }

    /// How it is computed.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// Floats of workspace that [`WeightGrad::run`] needs.
    pub fn workspace_len(&self) -> usize {
        LINE + match self.strategy.tile() {
            None => DirectWeightGrad::new(&self.geometry).workspace_len(),
            Some(tile) => WinogradWeightGrad::new(&self.geometry, tile).workspace_len(),
        }
    }

    /// `dw` `[out_channels, in_channels, kernel[0], kernel[1]]`, summed over the batch in image order. Overwrites `dw`.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub fn run(&self, x: &[f32], dy: &[f32], dw: &mut [f32], workspace: &mut [f32]) {
        let g = &self.geometry;
        assert_eq!(x.len(), g.input_len(), "conv2d: x of {g:?}");
        assert_eq!(dy.len(), g.output_len(), "conv2d: dy of {g:?}");
        assert_eq!(dw.len(), g.weight_len(), "conv2d: dw of {g:?}");
        assert!(
            workspace.len() >= self.workspace_len(),
            "conv2d: workspace of {g:?}"
        );
        let workspace = aligned(workspace);
        match self.strategy.tile() {
            None => DirectWeightGrad::new(g).run(self.isa, x, dy, dw, workspace),
            Some(tile) => WinogradWeightGrad::new(g, tile).run(self.isa, x, dy, dw, workspace),
        }
    }
}
