//! The geometry of a convolution, for every device: extents, windows and, axis by axis, phases and their taps.
//!
//! Along one axis, output `o` reads pixel `stride o + k - padding` of the input under kernel index `k`, or zero outside.
//! Where the input is enlarged first (`upsample`), enlarged pixel `j` is stored pixel `floor(j / 2)`; nobody makes the
//! enlarged array. [`ConvGeometry::source`] is this definition.
//!
//! Kernels gather: each result pixel sums over source pixels. Results whose source pixels lie alike form a *phase*, and
//! each distinct source pixel of a result is a *tap*, which stands for one or more kernel indices. Through an upsample a
//! 3×3 kernel has four phases of 2×2 taps, 4/9 of the products; the input gradient of a stride of 2 has four phases, which
//! skip the zeros of the dilated gradient.

#[cfg(test)]
mod tests;

/// Largest kernel side that devices take.
pub const MAX_KERNEL: usize = 7;
/// Largest stride that devices take.
pub const MAX_STRIDE: usize = 4;
/// Most taps of a phase: the input gradient through an upsample has one more than the kernel has entries.
const MAX_TAPS: usize = MAX_KERNEL + 1;

/// What a convolution and its two gradients have in common: where windows lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConvWindows {
    /// Distance of neighbouring windows along both axes.
    pub stride: usize,
    /// Zeros around the (upsampled) input: above and below, left and right.
    pub padding: [usize; 2],
    /// Whether the input is first enlarged to twice its side by nearest neighbour.
    pub upsample: bool,
}

impl ConvWindows {
    /// Extents `[OH, OW]` of the output for an input of stored extents `[H, W]`, if a window fits, devices take it and
    /// the padded extents can be counted.
    pub fn output(self, input: [usize; 2], kernel: [usize; 2]) -> Option<[usize; 2]> {
        let supported = (1..=MAX_STRIDE).contains(&self.stride);
        let along = |axis: usize| {
            let enlarged = input[axis].checked_mul(self.fold())?;
            let padded = enlarged.checked_add(self.padding[axis].checked_mul(2)?)?;
            let fits = supported && (1..=MAX_KERNEL).contains(&kernel[axis]);
            Some(padded.checked_sub(kernel[axis]).filter(|_| fits)? / self.stride + 1)
        };
        Some([along(0)?, along(1)?])
    }

    /// Enlarged pixels per stored pixel, along an axis.
    fn fold(self) -> usize {
        if self.upsample { 2 } else { 1 }
    }

    /// The convolution of `x` `[N,H,W,_]` with `w` `[O,I,kH,kW]`.
    pub fn geometry(self, x: &[usize], w: &[usize]) -> ConvGeometry {
        ConvGeometry {
            batch: x[0],
            height: x[1],
            width: x[2],
            in_channels: w[1],
            out_channels: w[0],
            kernel: [w[2], w[3]],
            stride: self.stride,
            padding: self.padding,
            upsample: self.upsample,
        }
    }

    /// For people: stride, padding, upsample.
    pub fn describe(self) -> String {
        let padding = match self.padding {
            [h, w] if h == w => h.to_string(),
            [h, w] => format!("{h}x{w}"),
        };
        let upsample = if self.upsample { " upsample 2" } else { "" };
        format!("stride {} padding {padding}{upsample}", self.stride)
    }
}

/// Which sum over the filter a kernel computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// Outputs gather from the input, over the input channels.
    Forward,
    /// Gradients of the input gather from the gradient of the output, over the output channels.
    InputGrad,
}

impl Direction {
    /// Channels summed over.
    pub fn depth(self, geometry: &ConvGeometry) -> usize {
        match self {
            Direction::Forward => geometry.in_channels,
            Direction::InputGrad => geometry.out_channels,
        }
    }

    /// Channels produced.
    pub fn columns(self, geometry: &ConvGeometry) -> usize {
        match self {
            Direction::Forward => geometry.out_channels,
            Direction::InputGrad => geometry.in_channels,
        }
    }
}

/// A convolution of NHWC activations with an OIHW filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvGeometry {
    /// Images.
    pub batch: usize,
    /// Rows of the stored input (before the upsample).
    pub height: usize,
    /// Columns of the stored input (before the upsample).
    pub width: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Rows and columns of the filter, 1 to [`MAX_KERNEL`].
    pub kernel: [usize; 2],
    /// Distance of neighbouring windows in both directions, 1 to [`MAX_STRIDE`].
    pub stride: usize,
    /// Zeros around the (upsampled) input: above and below, left and right.
    pub padding: [usize; 2],
    /// Whether the input is first enlarged to twice its side by nearest neighbour.
    pub upsample: bool,
}

impl ConvGeometry {
    fn windows(&self) -> ConvWindows {
        ConvWindows {
            stride: self.stride,
            padding: self.padding,
            upsample: self.upsample,
        }
    }

    /// Rows and columns of the stored input.
    pub(super) fn input(&self) -> [usize; 2] {
        [self.height, self.width]
    }

    /// Rows and columns of the output; 0 where no window fits.
    pub(super) fn output(&self) -> [usize; 2] {
        let output = self.windows().output(self.input(), self.kernel);
        output.unwrap_or([0, 0])
    }

    /// Enlarged pixels per stored pixel of the input, along an axis.
    pub(super) fn fold(&self) -> usize {
        self.windows().fold()
    }

    /// Rows and columns of the enlarged input with its padding.
    pub(super) fn padded(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.fold() * self.input()[axis] + 2 * self.padding[axis])
    }

    /// Rows of the output.
    pub fn output_height(&self) -> usize {
        self.output()[0]
    }

    /// Columns of the output.
    pub fn output_width(&self) -> usize {
        self.output()[1]
    }

    /// Floats of the input, `[batch, height, width, in_channels]`.
    pub fn input_len(&self) -> usize {
        self.batch * self.height * self.width * self.in_channels
    }

    /// Floats of the output, `[batch, output_height, output_width, out_channels]`.
    pub fn output_len(&self) -> usize {
        self.batch * self.output_height() * self.output_width() * self.out_channels
    }

    /// Floats of the filter, `[out_channels, in_channels, kernel[0], kernel[1]]`.
    pub fn weight_len(&self) -> usize {
        self.out_channels * self.in_channels * self.kernel[0] * self.kernel[1]
    }

    /// Floating-point operations of the textbook sum, padding included; each gradient takes as many.
    pub fn flops(&self) -> u64 {
        2 * (self.batch * self.output_height() * self.output_width()) as u64
            * self.weight_len() as u64
    }

    /// Extents `[rows, columns, channels]` of an image that `direction` reads.
    pub(super) fn source_extents(&self, direction: Direction) -> [usize; 3] {
        let [rows, columns] = match direction {
            Direction::Forward => self.input(),
            Direction::InputGrad => self.output(),
        };
        [rows, columns, direction.depth(self)]
    }

    /// Extents `[rows, columns, channels]` of an image that `direction` writes.
    pub(super) fn result_extents(&self, direction: Direction) -> [usize; 3] {
        let [rows, columns] = match direction {
            Direction::Forward => self.output(),
            Direction::InputGrad => self.input(),
        };
        [rows, columns, direction.columns(self)]
    }

    /// The stored pixel along `axis` that output `o` reads under kernel index `k`; none outside.
    pub(super) fn source(&self, axis: usize, o: usize, k: usize) -> Option<usize> {
        let pixel = (o * self.stride + k).checked_sub(self.padding[axis])? / self.fold();
        (pixel < self.input()[axis]).then_some(pixel)
    }

    /// The phases of both axes.
    pub(super) fn phases(&self, direction: Direction) -> ConvPhases {
        let [rows, columns] = [0, 1].map(|axis| ConvAxis::new(self, axis, direction));
        ConvPhases { rows, columns }
    }

    /// # Panics
    /// If a size is zero, the kernel or stride is larger than supported, or the kernel exceeds the padded input.
    pub(super) fn assert_supported(&self) {
        let sizes = [
            self.batch,
            self.in_channels,
            self.out_channels,
            self.height,
            self.width,
        ];
        let fits = self.windows().output(self.input(), self.kernel).is_some();
        assert!(
            fits && !sizes.contains(&0),
            "conv2d: unsupported geometry {self:?}"
        );
    }
}

/// One source pixel of a result, along one axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tap {
    /// The result at position `g` of the phase reads source `source_step * g + offset`, or zero where that is outside.
    pub offset: isize,
    /// The kernel indices whose weights are summed for it, as bits. They are neighbours.
    pub members: u8,
}

impl Tap {
    /// The kernel indices whose weights are summed for it.
    pub fn kernel_indices(self) -> std::ops::Range<usize> {
        self.members.trailing_zeros() as usize..8 - self.members.leading_zeros() as usize
    }
}

/// Results along one axis that share their taps: `first + step * g` for positions `g` in `0..count`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ConvPhase {
    /// The first result.
    pub first: usize,
    /// From one result to the next.
    pub step: usize,
    /// Number of results.
    pub count: usize,
    /// Source pixels from one result to the next.
    pub source_step: usize,
    taps: [Tap; MAX_TAPS],
    tap_count: usize,
}

impl ConvPhase {
    fn new(first: usize, step: usize, len: usize, source_step: usize) -> ConvPhase {
        ConvPhase {
            first,
            step,
            count: len.saturating_sub(first).div_ceil(step),
            source_step,
            ..ConvPhase::default()
        }
    }

    fn add(&mut self, offset: isize, kernel_index: usize) {
        let members = 1 << kernel_index;
        let known = &mut self.taps[..self.tap_count];
        match known.iter_mut().find(|tap| tap.offset == offset) {
            Some(tap) => tap.members |= members,
            None => {
                self.taps[self.tap_count] = Tap { offset, members };
                self.tap_count += 1;
            }
        }
    }

    /// The source pixels of each result, in the order of the kernel indices.
    pub fn taps(&self) -> &[Tap] {
        &self.taps[..self.tap_count]
    }

    /// The least offset of a tap; 0 without taps. The taps' offsets are this one and the ones that follow it.
    pub fn first_offset(&self) -> isize {
        self.taps()
            .iter()
            .map(|tap| tap.offset)
            .min()
            .unwrap_or_default()
    }

    /// The taps by ascending offset, which in an input gradient is the reverse of the kernel's order.
    pub fn ascending_taps(&self) -> impl Iterator<Item = Tap> {
        let mut taps = self.taps;
        taps[..self.tap_count].sort_unstable_by_key(|tap| tap.offset);
        taps.into_iter().take(self.tap_count)
    }

    /// The positions `g` whose source under `tap` lies in `0..source_len`, as a range.
    pub fn inside(&self, tap: Tap, source_len: usize) -> std::ops::Range<usize> {
        let step = self.source_step as isize;
        let start = (-tap.offset).max(0) + step - 1;
        let last = source_len as isize - 1 - tap.offset;
        let end = if last < 0 {
            0
        } else {
            (last / step + 1) as usize
        };
        let start = (start / step) as usize;
        start.min(self.count)..end.min(self.count).max(start.min(self.count))
    }
}

/// All results of one axis, by phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConvAxis {
    phases: [ConvPhase; MAX_STRIDE],
    count: usize,
}

impl ConvAxis {
    /// With `d` the greatest common divisor of the stride `s` and the fold `f` (2 through an upsample, else 1):
    ///
    /// - Output `(f / d) g + r` reads stored pixel `floor((s ((f / d) g + r) + k - p) / f)`, which is `(s / d) g` and what
    ///   `r` and `k` add: `f / d` phases.
    /// - Input `(s / d) g + r` was read, as one of its enlarged pixels `f ((s / d) g + r) + half`, by the output `o` for
    ///   which `s o + k - p` is that pixel, if there is one: `(f / d) g` and what `r`, `half` and `k` add: `s / d` phases.
    fn new(geometry: &ConvGeometry, axis: usize, direction: Direction) -> ConvAxis {
        let (stride, fold) = (geometry.stride, geometry.fold());
        let divisor = if stride.is_multiple_of(fold) { fold } else { 1 };
        let (count, source_step) = match direction {
            Direction::Forward => (fold / divisor, stride / divisor),
            Direction::InputGrad => (stride / divisor, fold / divisor),
        };
        let len = geometry.result_extents(direction)[axis];
        let padding = geometry.padding[axis] as isize;
        let mut phases = [ConvPhase::default(); MAX_STRIDE];
        for (r, phase) in phases.iter_mut().enumerate().take(count) {
            *phase = ConvPhase::new(r, count, len, source_step);
            match direction {
                Direction::Forward => {
                    for k in 0..geometry.kernel[axis] {
                        let pixel = (stride * r + k) as isize - padding;
                        phase.add(pixel.div_euclid(fold as isize), k);
                    }
                }
                Direction::InputGrad => {
                    for half in 0..fold {
                        for k in 0..geometry.kernel[axis] {
                            let pixel = (fold * r + half) as isize + padding - k as isize;
                            if pixel.rem_euclid(stride as isize) == 0 {
                                phase.add(pixel.div_euclid(stride as isize), k);
                            }
                        }
                    }
                }
            }
        }
        ConvAxis { phases, count }
    }

    /// The phases, in the order of their first results; every result is in exactly one.
    pub fn phases(&self) -> &[ConvPhase] {
        &self.phases[..self.count]
    }
}

/// The phases of rows and columns. Both axes have as many, because the stride is the same in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConvPhases {
    pub rows: ConvAxis,
    pub columns: ConvAxis,
}

impl ConvPhases {
    /// Every pair of a row phase and a column phase, row by row.
    pub fn iter(&self) -> impl Iterator<Item = [&ConvPhase; 2]> {
        let columns = self.columns.phases();
        let row = move |y| columns.iter().map(move |x| [y, x]);
        self.rows.phases().iter().flat_map(row)
    }

    /// Pairs of phases.
    pub fn count(&self) -> usize {
        self.rows.count * self.columns.count
    }

    /// Most taps of a window of rows and columns.
    pub fn most_taps(&self) -> usize {
        let taps = |[y, x]: [&ConvPhase; 2]| y.taps().len() * x.taps().len();
        self.iter().map(taps).max().unwrap_or(0)
    }

    /// Phases along an axis.
    pub fn per_axis(&self) -> usize {
        self.rows.count
    }

    /// Source pixels from one result of a phase to the next, along an axis.
    pub fn source_step(&self) -> usize {
        self.rows.phases[0].source_step
    }
}
