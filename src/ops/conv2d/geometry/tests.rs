//! Phases, taps and extents against the definition of a convolution along one axis.

use proptest::prelude::*;

use super::*;

/// Any supported convolution whose two axes differ, with one channel.
fn geometry() -> impl Strategy<Value = ConvGeometry> {
    let side = || 1..=MAX_KERNEL;
    (
        [1..14usize, 1..14],
        [side(), side()],
        1..=MAX_STRIDE,
        [0..5usize, 0..5],
        any::<bool>(),
    )
        .prop_map(|(size, kernel, stride, padding, upsample)| ConvGeometry {
            batch: 1,
            height: size[0],
            width: size[1],
            in_channels: 1,
            out_channels: 1,
            kernel,
            stride,
            padding,
            upsample,
        })
        .prop_filter("a window fits", |g| g.output() != [0, 0])
}

/// The axes of `direction` with the extents of what they read and write.
fn axes(g: &ConvGeometry, direction: Direction) -> [(ConvAxis, usize, usize); 2] {
    let phases = g.phases(direction);
    let (source, result) = (g.source_extents(direction), g.result_extents(direction));
    [
        (phases.rows, source[0], result[0]),
        (phases.columns, source[1], result[1]),
    ]
}

/// Every product of the axis as `(result, kernel index, source)`, sorted.
fn products(axis: &ConvAxis, source_len: usize) -> Vec<[usize; 3]> {
    let mut products = Vec::new();
    for phase in axis.phases() {
        for tap in phase.taps() {
            for position in 0..phase.count {
                let source = (position * phase.source_step) as isize + tap.offset;
                if !(0..source_len as isize).contains(&source) {
                    continue;
                }
                let result = phase.first + phase.step * position;
                let product = |k| [result, k, source as usize];
                products.extend(tap.kernel_indices().map(product));
            }
        }
    }
    products.sort_unstable();
    products
}

/// One axis convolved by phases: weights of a tap are summed first, as packed filters are.
fn convolve(axis: &ConvAxis, source: &[i64], weights: &[i64], len: usize) -> Vec<i64> {
    let mut result = vec![0; len];
    for phase in axis.phases() {
        for tap in phase.taps() {
            let weight: i64 = weights[tap.kernel_indices()].iter().sum();
            for position in phase.inside(*tap, source.len()) {
                let from = (position * phase.source_step) as isize + tap.offset;
                result[phase.first + phase.step * position] += weight * source[from as usize];
            }
        }
    }
    result
}

const DIRECTIONS: [Direction; 2] = [Direction::Forward, Direction::InputGrad];

proptest! {
    #[test]
    fn every_result_is_in_exactly_one_phase(g in geometry()) {
        for direction in DIRECTIONS {
            for (axis, _, len) in axes(&g, direction) {
                let results = |p: &ConvPhase| (0..p.count).map(move |i| p.first + p.step * i).collect::<Vec<_>>();
                let mut all: Vec<usize> = axis.phases().iter().flat_map(results).collect();
                all.sort_unstable();
                prop_assert_eq!(all, (0..len).collect::<Vec<_>>());
            }
            let phases = g.phases(direction);
            prop_assert_eq!(phases.rows.phases().len(), phases.columns.phases().len());
            prop_assert_eq!(phases.iter().count(), phases.count());
            prop_assert_eq!(phases.count(), phases.per_axis().pow(2));
            prop_assert!(phases.iter().flatten().all(|phase| phase.source_step == phases.source_step()));
        }
    }

    /// Taps are what a packed filter and the kernels' parameters take for granted: neighbours that share out the kernel's
    /// indices.
    #[test]
    fn taps_are_neighbours_with_neighbouring_kernel_indices(g in geometry()) {
        for direction in DIRECTIONS {
            for (axis, ..) in axes(&g, direction) {
                for phase in axis.phases() {
                    let offsets: Vec<isize> = phase.ascending_taps().map(|tap| tap.offset).collect();
                    let first = phase.first_offset();
                    prop_assert_eq!(&offsets, &(first..first + offsets.len() as isize).collect::<Vec<_>>());
                    for tap in phase.taps() {
                        let mask: u8 = tap.kernel_indices().map(|k| 1 << k).sum();
                        prop_assert_eq!(mask, tap.members);
                    }
                }
            }
        }
    }

    #[test]
    fn forward_taps_are_the_products_of_the_definition(g in geometry()) {
        for (index, (axis, source_len, len)) in axes(&g, Direction::Forward).into_iter().enumerate() {
            let mut expected = Vec::new();
            for o in 0..len {
                for k in 0..g.kernel[index] {
                    expected.extend(g.source(index, o, k).map(|source| [o, k, source]));
                }
            }
            prop_assert_eq!(products(&axis, source_len), expected);
        }
    }

    #[test]
    fn the_input_gradients_windows_are_the_transpose_of_the_forward_ones(g in geometry()) {
        let (forward, backward) = (axes(&g, Direction::Forward), axes(&g, Direction::InputGrad));
        for ((forward, source_len, _), (backward, output_len, _)) in forward.into_iter().zip(backward) {
            let mut transposed: Vec<[usize; 3]> =
                products(&forward, source_len).into_iter().map(|[o, k, i]| [i, k, o]).collect();
            transposed.sort_unstable();
            prop_assert_eq!(products(&backward, output_len), transposed);
        }
    }

    /// Enlarges and pads the input explicitly, and convolves that.
    #[test]
    fn phases_give_what_the_enlarged_and_padded_array_gives(
        g in geometry(),
        values in prop::collection::vec(-9i64..10, 14),
        weights in prop::collection::vec(-9i64..10, MAX_KERNEL),
    ) {
        for (index, (axis, source_len, len)) in axes(&g, Direction::Forward).into_iter().enumerate() {
            let weights = &weights[..g.kernel[index]];
            let zeros = vec![0; g.padding[index]];
            let stored = &values[..source_len];
            let enlarged = stored.iter().flat_map(|&value| vec![value; g.fold()]).collect();
            let padded: Vec<i64> = [zeros.clone(), enlarged, zeros].concat();
            let expected: Vec<i64> = padded
                .windows(weights.len())
                .step_by(g.stride)
                .map(|window| window.iter().zip(weights).map(|(a, b)| a * b).sum())
                .collect();
            prop_assert_eq!(expected.len(), len);
            prop_assert_eq!(convolve(&axis, stored, weights, len), expected);
        }
    }

    #[test]
    fn positions_inside_are_those_whose_source_exists(g in geometry()) {
        for direction in DIRECTIONS {
            for (axis, source_len, _) in axes(&g, direction) {
                for phase in axis.phases() {
                    for tap in phase.taps() {
                        let source = |position: usize| (position * phase.source_step) as isize + tap.offset;
                        let exists = |&position: &usize| (0..source_len as isize).contains(&source(position));
                        let expected: Vec<usize> = (0..phase.count).filter(exists).collect();
                        prop_assert_eq!(phase.inside(*tap, source_len).collect::<Vec<_>>(), expected);
                    }
                }
            }
        }
    }

    /// Whatever the extents, the answer is a count of windows or none, never an overflow.
    #[test]
    fn extents_are_counted_or_refused(
        input in any::<[usize; 2]>(),
        kernel in any::<[usize; 2]>(),
        stride in any::<usize>(),
        padding in any::<[usize; 2]>(),
        small in any::<bool>(),
        upsample in any::<bool>(),
    ) {
        let bound = |values: [usize; 2], most: usize| values.map(|v| if small { v % most } else { v });
        let (input, kernel, padding) = (bound(input, 20), bound(kernel, 10), bound(padding, 5));
        let stride = if small { stride % 6 } else { stride };
        let windows = ConvWindows { stride, padding, upsample };
        let fold = if upsample { 2 } else { 1 };
        let supported = (1..=MAX_STRIDE).contains(&stride) && kernel.iter().all(|k| (1..=MAX_KERNEL).contains(k));
        let along = |axis: usize| {
            let padded = input[axis] as u128 * fold + 2 * padding[axis] as u128;
            let countable = padded <= usize::MAX as u128 && padded >= kernel[axis] as u128;
            (supported && countable).then(|| ((padded - kernel[axis] as u128) / stride as u128 + 1) as usize)
        };
        let expected = along(0).zip(along(1)).map(|(rows, columns)| [rows, columns]);
        prop_assert_eq!(windows.output(input, kernel), expected);
    }
}

#[test]
fn phases_that_an_upsample_and_an_even_stride_would_repeat_are_one() {
    let g = ConvGeometry {
        batch: 1,
        height: 6,
        width: 5,
        in_channels: 1,
        out_channels: 1,
        kernel: [3, 3],
        stride: 1,
        padding: [1, 1],
        upsample: true,
    };
    // Stride, phases and source step of the convolution, and of its input gradient.
    for (stride, forward, input_grad) in [
        (1, (2, 1), (1, 2)),
        (2, (1, 1), (1, 1)),
        (3, (2, 3), (3, 2)),
        (4, (1, 2), (2, 1)),
    ] {
        let g = ConvGeometry { stride, ..g };
        let of = |direction| {
            (
                g.phases(direction).per_axis(),
                g.phases(direction).source_step(),
            )
        };
        assert_eq!(of(Direction::Forward), forward, "stride {stride}");
        assert_eq!(of(Direction::InputGrad), input_grad, "stride {stride}");
    }
}

#[test]
#[should_panic(expected = "unsupported geometry")]
fn a_size_of_zero_is_not_supported() {
    let g = ConvGeometry {
        batch: 0,
        height: 4,
        width: 4,
        in_channels: 1,
        out_channels: 1,
        kernel: [3, 3],
        stride: 1,
        padding: [1, 1],
        upsample: false,
    };
    g.assert_supported();
}
