//! The geometry of a convolution and, axis by axis, which source pixels each output pixel sums over.

/// Largest kernel side.
pub const MAX_KERNEL: usize = 7;
/// Largest stride.
pub const MAX_STRIDE: usize = 4;
/// Distinct source offsets of one phase: the input gradient through an upsample sees one more than the kernel has.
const MAX_TAPS: usize = MAX_KERNEL + 1;

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
    /// Rows of the output.
    pub fn output_height(&self) -> usize {
        output_len(self.height, self.kernel[0], self.padding[0], self)
    }

    /// Columns of the output.
    pub fn output_width(&self) -> usize {
        output_len(self.width, self.kernel[1], self.padding[1], self)
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

    /// # Panics
    /// If a size is zero, the kernel or stride is larger than supported, or the kernel exceeds the padded input.
    pub(super) fn assert_supported(&self) {
        let up = if self.upsample { 2 } else { 1 };
        let size = [self.height, self.width];
        let fits = |axis: usize| size[axis] * up + 2 * self.padding[axis] >= self.kernel[axis];
        assert!(
            self.batch > 0
                && self.in_channels > 0
                && self.out_channels > 0
                && self.kernel.iter().all(|k| (1..=MAX_KERNEL).contains(k))
                && (1..=MAX_STRIDE).contains(&self.stride)
                && self.height > 0
                && self.width > 0
                && fits(0)
                && fits(1),
            "conv2d: unsupported geometry {self:?}"
        );
    }
}

fn output_len(len: usize, kernel: usize, padding: usize, geometry: &ConvGeometry) -> usize {
    let len = if geometry.upsample { 2 * len } else { len };
    (len + 2 * padding + 1)
        .saturating_sub(kernel)
        .div_ceil(geometry.stride)
}

/// One source pixel of an output pixel, along one axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tap {
    /// Output `first + step * g` reads source `source_step * g + offset`, or zero where that is outside.
    pub offset: isize,
    /// The kernel indices whose weights are summed for it, as bits.
    pub members: u8,
}

/// Output positions along one axis that share their taps: `first + step * g` for `g` in `0..count`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phase {
    /// The first position.
    pub first: usize,
    /// From one position to the next.
    pub step: usize,
    /// Number of positions.
    pub count: usize,
    /// Source pixels from one position to the next.
    pub source_step: usize,
    taps: [Tap; MAX_TAPS],
    tap_count: usize,
}

impl Phase {
    fn new(first: usize, step: usize, len: usize, source_step: usize) -> Phase {
        Phase {
            first,
            step,
            count: len.saturating_sub(first).div_ceil(step),
            source_step,
            ..Phase::default()
        }
    }

    fn add(&mut self, offset: isize, kernel_index: usize) {
        let bit = 1 << kernel_index;
        match self.taps[..self.tap_count]
            .iter_mut()
            .find(|tap| tap.offset == offset)
        {
            Some(tap) => tap.members |= bit,
            None => {
                self.taps[self.tap_count] = Tap {
                    offset,
                    members: bit,
                };
                self.tap_count += 1;
            }
        }
    }

    /// The source pixels of each position.
    pub fn taps(&self) -> &[Tap] {
        &self.taps[..self.tap_count]
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

/// All outputs of one axis, by phase.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    phases: [Phase; MAX_STRIDE],
    count: usize,
}

impl Axis {
    /// Outputs read the stored input. Through an upsample, output `2g + r` reads input `floor((s(2g + r) + k - p) / 2)`:
    /// two phases whose taps sum the kernel entries that fall on the same stored pixel.
    pub fn forward(len: usize, kernel: usize, padding: usize, geometry: &ConvGeometry) -> Axis {
        let out = output_len(len, kernel, padding, geometry);
        let (stride, padding) = (geometry.stride, padding as isize);
        let fold = if geometry.upsample { 2 } else { 1 };
        let mut phases = [Phase::default(); MAX_STRIDE];
        for (r, phase) in phases.iter_mut().enumerate().take(fold) {
            *phase = Phase::new(r, fold, out, stride);
            for k in 0..kernel {
                phase.add(
                    ((stride * r + k) as isize - padding).div_euclid(fold as isize),
                    k,
                );
            }
        }
        Axis {
            phases,
            count: fold,
        }
    }

    /// Inputs read the output's gradient: input `s·g + r` (of an upsampled axis: its pixels `2(s·g + r)` and the
    /// next) was read by output `o` under kernel index `k` where `s·o + k - p` is that pixel.
    pub fn input_grad(len: usize, kernel: usize, padding: usize, geometry: &ConvGeometry) -> Axis {
        let (stride, padding) = (geometry.stride, padding as isize);
        let fold = if geometry.upsample { 2 } else { 1 };
        let mut phases = [Phase::default(); MAX_STRIDE];
        for (r, phase) in phases.iter_mut().enumerate().take(stride) {
            *phase = Phase::new(r, stride, len, fold);
            for half in 0..fold {
                for k in 0..kernel {
                    let pixel = (fold * r + half) as isize + padding - k as isize;
                    if pixel.rem_euclid(stride as isize) == 0 {
                        phase.add(pixel.div_euclid(stride as isize), k);
                    }
                }
            }
        }
        Axis {
            phases,
            count: stride,
        }
    }

    /// The phases; every output position is in exactly one.
    pub fn phases(&self) -> &[Phase] {
        &self.phases[..self.count]
    }
}
