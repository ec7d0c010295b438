//! Convolution on the CPU: f32, NHWC activations, OIHW filters.
//!
//! [`Forward`], [`InputGrad`] and [`WeightGrad`] are made once per geometry; each decides how it computes
//! ([`Strategy`]) and says how much packed filter and workspace it needs, all of which the caller owns. Nothing is
//! allocated when they run, outputs and workspace may hold anything beforehand, and every output is summed in an
//! order that depends neither on the number of threads nor on the batch.

mod direct;
mod direct_wgrad;
mod filter;
mod geometry;
#[cfg(test)]
mod tests;

pub use geometry::{ConvGeometry, MAX_KERNEL, MAX_STRIDE};

use crate::device::cpu::gemm::Isa;
use direct::Direct;
use direct_wgrad::DirectWeightGrad;
use filter::Side;

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Implicit matrix product, no algebra: any geometry.
    Direct,
}

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
    method: Direct,
}

impl Filtered {
    fn with(geometry: &ConvGeometry, side: Side, _strategy: Strategy, isa: Isa) -> Option<Filtered> {
        geometry.assert_supported();
        assert!(Isa::available().contains(&isa), "this processor has no {isa:?}");
        Some(Filtered { isa, geometry: *geometry, method: Direct::new(geometry, side) })
    }

    fn strategy(&self) -> Strategy {
        Strategy::Direct
    }

    fn packed_len(&self) -> usize {
        self.method.packed_len()
    }

    fn pack(&self, weight: &[f32], packed: &mut [f32]) {
        assert_eq!(weight.len(), self.geometry.weight_len(), "conv2d: filter of {:?}", self.geometry);
        assert!(packed.len() >= self.packed_len(), "conv2d: packed filter of {} floats", packed.len());
        self.method.pack(weight, packed);
    }

    fn workspace_len(&self) -> usize {
        self.method.workspace_len()
    }
}

impl Forward {
    /// The forward convolution of `geometry`, by the quickest method on this processor.
    ///
    /// # Panics
    /// If the geometry is not supported (kernel above [`MAX_KERNEL`], stride above [`MAX_STRIDE`], a zero size).
    pub fn new(geometry: &ConvGeometry) -> Forward {
        Forward(Filtered::with(geometry, Side::Forward, Strategy::Direct, Isa::detect()).expect("direct always applies"))
    }

    /// The forward convolution by a given method; `None` where it does not apply.
    pub fn with(geometry: &ConvGeometry, strategy: Strategy, isa: Isa) -> Option<Forward> {
        Filtered::with(geometry, Side::Forward, strategy, isa).map(Forward)
    }

    /// How it is computed.
    pub fn strategy(&self) -> Strategy {
        self.0.strategy()
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
        assert!(bias.is_none_or(|b| b.len() == g.out_channels), "conv2d: bias of {g:?}");
        assert!(residual.is_none_or(|r| r.len() == y.len()), "conv2d: residual of {g:?}");
        assert!(packed.len() >= self.packed_len(), "conv2d: packed filter of {g:?}");
        assert!(workspace.len() >= self.workspace_len(), "conv2d: workspace of {g:?}");
        self.0.method.run(self.0.isa, packed, x, bias, residual, y, workspace);
    }
}

impl InputGrad {
    /// The input gradient of `geometry`, by the quickest method on this processor.
    ///
    /// # Panics
    /// If the geometry is not supported, as for [`Forward::new`].
    pub fn new(geometry: &ConvGeometry) -> InputGrad {
        InputGrad(
            Filtered::with(geometry, Side::InputGrad, Strategy::Direct, Isa::detect()).expect("direct always applies"),
        )
    }

    /// The input gradient by a given method; `None` where it does not apply.
    pub fn with(geometry: &ConvGeometry, strategy: Strategy, isa: Isa) -> Option<InputGrad> {
        Filtered::with(geometry, Side::InputGrad, strategy, isa).map(InputGrad)
    }

    /// How it is computed.
    pub fn strategy(&self) -> Strategy {
        self.0.strategy()
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

    /// `dx` (shape of `x`) from `dy` (shape of `y`). Overwrites `dx`.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub fn run(&self, packed: &[f32], dy: &[f32], dx: &mut [f32], workspace: &mut [f32]) {
        let g = &self.0.geometry;
        assert_eq!(dy.len(), g.output_len(), "conv2d: dy of {g:?}");
        assert_eq!(dx.len(), g.input_len(), "conv2d: dx of {g:?}");
        assert!(packed.len() >= self.packed_len(), "conv2d: packed filter of {g:?}");
        assert!(workspace.len() >= self.workspace_len(), "conv2d: workspace of {g:?}");
        self.0.method.run(self.0.isa, packed, dy, None, None, dx, workspace);
    }
}

/// The gradient of a convolution with respect to its filter.
#[derive(Clone, Copy, Debug)]
pub struct WeightGrad {
    isa: Isa,
    geometry: ConvGeometry,
    method: DirectWeightGrad,
}

impl WeightGrad {
    /// The weight gradient of `geometry`, by the quickest method on this processor.
    ///
    /// # Panics
    /// If the geometry is not supported, as for [`Forward::new`].
    pub fn new(geometry: &ConvGeometry) -> WeightGrad {
        WeightGrad::with(geometry, Strategy::Direct, Isa::detect()).expect("direct always applies")
    }

    /// The weight gradient by a given method; `None` where it does not apply.
    pub fn with(geometry: &ConvGeometry, _strategy: Strategy, isa: Isa) -> Option<WeightGrad> {
        geometry.assert_supported();
        assert!(Isa::available().contains(&isa), "this processor has no {isa:?}");
        Some(WeightGrad { isa, geometry: *geometry, method: DirectWeightGrad::new(geometry) })
    }

    /// How it is computed.
    pub fn strategy(&self) -> Strategy {
        Strategy::Direct
    }

    /// Floats of workspace that [`WeightGrad::run`] needs.
    pub fn workspace_len(&self) -> usize {
        self.method.workspace_len()
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
        assert!(workspace.len() >= self.workspace_len(), "conv2d: workspace of {g:?}");
        self.method.run(self.isa, x, dy, dw, workspace);
    }
}
