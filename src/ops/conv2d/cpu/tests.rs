//! Every method on every instruction set against a plain f64 convolution, forward and both gradients.

use super::*;
use crate::kernel::cpu::gemm::Isa;

/// Uniform in [-1, 1), a function of index and seed.
fn values(len: usize, seed: u32) -> Vec<f32> {
    (0..len as u32)
        .map(|i| {
            let h = i.wrapping_mul(0x9e37_79b9) ^ seed.wrapping_mul(0x85eb_ca6b);
            let h = (h ^ (h >> 16)).wrapping_mul(0x7feb_352d);
            let h = (h ^ (h >> 15)).wrapping_mul(0x846c_a68b);
            ((h ^ (h >> 16)) >> 8) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

/// Calls `f(y index, x index, w index)` for every product of the convolution, batch and channels included.
fn each_product(g: &ConvGeometry, mut f: impl FnMut(usize, usize, usize)) {
    let up = if g.upsample { 2 } else { 1 };
    let (oh, ow) = (g.output_height(), g.output_width());
    for n in 0..g.batch {
        for oy in 0..oh {
            for ox in 0..ow {
                for ky in 0..g.kernel[0] {
                    for kx in 0..g.kernel[1] {
                        let uy = (oy * g.stride + ky).wrapping_sub(g.padding[0]);
                        let ux = (ox * g.stride + kx).wrapping_sub(g.padding[1]);
                        if uy >= g.height * up || ux >= g.width * up {
                            continue;
                        }
                        let x = ((n * g.height + uy / up) * g.width + ux / up) * g.in_channels;
                        let y = ((n * oh + oy) * ow + ox) * g.out_channels;
                        for o in 0..g.out_channels {
                            for c in 0..g.in_channels {
                                let w =
                                    ((o * g.in_channels + c) * g.kernel[0] + ky) * g.kernel[1] + kx;
                                f(y + o, x + c, w);
                            }
                        }
                    }
                }
            }
        }
    }
}

struct Case {
    g: ConvGeometry,
    x: Vec<f32>,
    w: Vec<f32>,
    dy: Vec<f32>,
    bias: Vec<f32>,
    residual: Vec<f32>,
    y: Vec<f64>,
    dx: Vec<f64>,
    dw: Vec<f64>,
}

impl Case {
    fn new(g: ConvGeometry) -> Case {
        let (x, w, dy) = (
            values(g.input_len(), 1),
            values(g.weight_len(), 2),
            values(g.output_len(), 3),
        );
        let (bias, residual) = (values(g.out_channels, 4), values(g.output_len(), 5));
        let mut y: Vec<f64> = residual
            .iter()
            .enumerate()
            .map(|(i, r)| *r as f64 + bias[i % g.out_channels] as f64)
            .collect();
        let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
        each_product(&g, |iy, ix, iw| {
            y[iy] += x[ix] as f64 * w[iw] as f64;
            dx[ix] += dy[iy] as f64 * w[iw] as f64;
            dw[iw] += dy[iy] as f64 * x[ix] as f64;
        });
        Case {
            g,
            x,
            w,
            dy,
            bias,
            residual,
            y,
            dx,
            dw,
        }
    }

    /// Checks whichever of the three computations `strategy` applies to; returns how many did.
    fn check(&self, strategy: Strategy, isa: Isa, bound: f64) -> usize {
        let g = &self.g;
        let mut checked = 0;
        if let Some(forward) = Forward::with(g, strategy, isa) {
            let mut packed = vec![f32::NAN; forward.packed_len()];
            forward.pack(&self.w, &mut packed);
            let mut workspace = vec![f32::NAN; forward.workspace_len()];
            let mut y = vec![f32::NAN; g.output_len()];
            forward.run(
                &packed,
                &self.x,
                Some(&self.bias),
                Some(&self.residual),
                &mut y,
                &mut workspace,
            );
            assert_close("y", &y, &self.y, bound, (g, strategy, isa));
            let mut plain = vec![f32::NAN; g.output_len()];
            workspace.fill(f32::NAN);
            forward.run(&packed, &self.x, None, None, &mut plain, &mut workspace);
            for (i, plain) in plain.iter().enumerate() {
                let with =
                    *plain as f64 + self.bias[i % g.out_channels] as f64 + self.residual[i] as f64;
                assert!(
                    (with - y[i] as f64).abs() <= 1e-5 * (1.0 + with.abs()),
                    "bias and residual at {i} of {g:?}"
                );
            }
            checked += 1;
        }
        if let Some(grad) = InputGrad::with(g, strategy, isa) {
            let mut packed = vec![f32::NAN; grad.packed_len()];
            grad.pack(&self.w, &mut packed);
            let mut workspace = vec![f32::NAN; grad.workspace_len()];
            let mut dx = vec![f32::NAN; g.input_len()];
            grad.run(&packed, &self.dy, None, &mut dx, &mut workspace);
            assert_close("dx", &dx, &self.dx, bound, (g, strategy, isa));
            // With x as residual.
            let mut with = vec![f32::NAN; g.input_len()];
            workspace.fill(f32::NAN);
            grad.run(&packed, &self.dy, Some(&self.x), &mut with, &mut workspace);
            for (i, (dx, residual)) in dx.iter().zip(&self.x).enumerate() {
                let sum = *dx as f64 + *residual as f64;
                assert!(
                    (sum - with[i] as f64).abs() <= 1e-5 * (1.0 + sum.abs()),
                    "residual of dx at {i} of {g:?}"
                );
            }
            checked += 1;
        }
        if let Some(grad) = WeightGrad::with(g, strategy, isa) {
            let mut workspace = vec![f32::NAN; grad.workspace_len()];
            let mut dw = vec![f32::NAN; g.weight_len()];
            grad.run(&self.x, &self.dy, &mut dw, &mut workspace);
            assert_close("dw", &dw, &self.dw, bound, (g, strategy, isa));
            checked += 1;
        }
        checked
    }
}

fn assert_close(
    name: &str,
    got: &[f32],
    expected: &[f64],
    bound: f64,
    what: (&ConvGeometry, Strategy, Isa),
) {
    let error: f64 = got
        .iter()
        .zip(expected)
        .map(|(a, b)| (*a as f64 - b).powi(2))
        .sum();
    let norm: f64 = expected.iter().map(|b| b * b).sum();
    let relative = (error / norm.max(1e-30)).sqrt();
    assert!(
        relative <= bound,
        "{name} of {what:?}: relative error {relative:.2e}, at most {bound:.0e}"
    );
}

fn geometry(
    batch: usize,
    size: [usize; 2],
    channels: [usize; 2],
    kernel: [usize; 2],
) -> ConvGeometry {
    ConvGeometry {
        batch,
        height: size[0],
        width: size[1],
        in_channels: channels[0],
        out_channels: channels[1],
        kernel,
        stride: 1,
        padding: kernel.map(|side| side / 2),
        upsample: false,
    }
}

/// Sums of at most a few thousand f32 products in order: rounding grows as the square root of their number, norm-wise.
const DIRECT_BOUND: f64 = 1e-6;

#[test]
fn direct_matches_f64_over_awkward_shapes() {
    let mut checked = 0;
    for kernel in [[1, 1], [2, 2], [3, 3], [5, 5], [1, 3], [3, 2]] {
        for stride in 1..=3 {
            for padding in 0..=2 {
                for upsample in [false, true] {
                    for (batch, size, channels) in [
                        (1, [1, 1], [3, 8]),
                        (3, [5, 7], [8, 3]),
                        (1, [9, 4], [20, 33]),
                        (2, [6, 6], [1, 20]),
                    ] {
                        let g = ConvGeometry {
                            stride,
                            padding: [padding; 2],
                            upsample,
                            ..geometry(batch, size, channels, kernel)
                        };
                        let up = if upsample { 2 } else { 1 };
                        if (0..2).any(|i| size[i] * up + 2 * padding < kernel[i]) {
                            continue;
                        }
                        let case = Case::new(g);
                        for &isa in Isa::available() {
                            checked += case.check(Strategy::Direct, isa, DIRECT_BOUND);
                        }
                    }
                }
            }
        }
    }
    assert!(checked > 1000, "only {checked} checks ran");
}

#[test]
fn direct_matches_f64_at_limits() {
    let cases = [
        // More channels than a block of depth, more columns than a panel.
        geometry(1, [3, 5], [1100, 50], [3, 3]),
        geometry(2, [4, 4], [50, 1100], [1, 1]),
        geometry(3, [8, 8], [96, 96], [3, 3]),
        // More pixels than a block of rows, than a product of the weight gradient, than a chunk of images.
        geometry(3, [70, 61], [3, 20], [3, 3]),
        // The largest kernel, stride and tap count.
        geometry(1, [9, 9], [8, 3], [7, 7]),
        ConvGeometry {
            upsample: true,
            ..geometry(2, [7, 5], [33, 8], [7, 7])
        },
        ConvGeometry {
            stride: 4,
            padding: [1; 2],
            ..geometry(2, [9, 11], [8, 20], [3, 3])
        },
        ConvGeometry {
            stride: 4,
            padding: [3; 2],
            upsample: true,
            ..geometry(1, [9, 11], [8, 20], [7, 5])
        },
        // Padding wider than the kernel: whole windows of zeros.
        ConvGeometry {
            padding: [4; 2],
            ..geometry(1, [3, 3], [8, 8], [3, 3])
        },
        // Kernel narrower than the stride: inputs that no output reads.
        ConvGeometry {
            stride: 3,
            padding: [0; 2],
            ..geometry(1, [7, 8], [1100, 8], [1, 1])
        },
    ];
    for g in cases {
        let case = Case::new(g);
        for &isa in Isa::available() {
            assert_eq!(case.check(Strategy::Direct, isa, DIRECT_BOUND), 3);
        }
    }
}

/// F(2×2, 3×3) adds and halves; F(4×4, 3×3) multiplies by up to (9/4)² and loses about three bits.
const WINOGRAD_BOUNDS: [(Strategy, f64); 2] =
    [(Strategy::Winograd2, 1e-6), (Strategy::Winograd4, 1e-5)];

#[test]
fn winograd_matches_f64_over_awkward_shapes() {
    let mut checked = 0;
    let cases = [
        (1, [1, 1], [3, 8]),
        (3, [5, 7], [8, 3]),
        (1, [9, 4], [20, 33]),
        (2, [6, 6], [1, 20]),
        (3, [8, 8], [96, 96]),
        (1, [13, 16], [33, 100]),
        // More depth than a block.
        (1, [4, 5], [1040, 8]),
        // More tiles than a chunk of the weight gradient, and blocks that threads take whole.
        (2, [95, 97], [3, 5]),
        (1, [128, 130], [20, 20]),
    ];
    for (batch, size, channels) in cases {
        for padding in 0..=2 {
            for upsample in [false, true] {
                let large = size[0] > 90 && (upsample || padding == 2);
                let enlarge = if upsample { 2 } else { 1 };
                if large || size.iter().any(|len| len * enlarge + 2 * padding < 3) {
                    continue;
                }
                let case = Case::new(ConvGeometry {
                    padding: [padding; 2],
                    upsample,
                    ..geometry(batch, size, channels, [3, 3])
                });
                for &isa in Isa::available() {
                    for (strategy, bound) in WINOGRAD_BOUNDS {
                        checked += case.check(strategy, isa, bound);
                    }
                }
            }
        }
    }
    assert!(checked > 700, "only {checked} checks ran");
}

#[test]
fn winograd_applies_to_three_by_three_of_stride_one_only() {
    let g = geometry(1, [8, 8], [8, 8], [3, 3]);
    let others = [
        geometry(1, [8, 8], [8, 8], [5, 5]),
        ConvGeometry { stride: 2, ..g },
        ConvGeometry {
            padding: [3; 2],
            ..g
        },
        geometry(1, [8, 8], [8, 8], [1, 3]),
    ];
    for strategy in [Strategy::Winograd2, Strategy::Winograd4] {
        assert!(Forward::with(&g, strategy, Isa::detect()).is_some());
        for g in &others {
            assert!(Forward::with(g, strategy, Isa::detect()).is_none());
            assert!(InputGrad::with(g, strategy, Isa::detect()).is_none());
            assert!(WeightGrad::with(g, strategy, Isa::detect()).is_none());
        }
    }
}

/// Forward, input gradient and weight gradient of one strategy on some threads.
fn run_all(
    g: &ConvGeometry,
    (strategy, isa, threads): (Strategy, Isa, usize),
    (x, w, dy): (&[f32], &[f32], &[f32]),
) -> [Vec<f32>; 3] {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    pool.install(|| {
        let forward = Forward::with(g, strategy, isa).unwrap();
        let mut packed = vec![f32::NAN; forward.packed_len()];
        forward.pack(w, &mut packed);
        let mut y = vec![f32::NAN; g.output_len()];
        let mut workspace = vec![f32::NAN; forward.workspace_len()];
        forward.run(&packed, x, None, None, &mut y, &mut workspace);
        let grad = InputGrad::with(g, strategy, isa).unwrap();
        let mut packed = vec![f32::NAN; grad.packed_len()];
        grad.pack(w, &mut packed);
        let mut dx = vec![f32::NAN; g.input_len()];
        grad.run(
            &packed,
            dy,
            None,
            &mut dx,
            &mut vec![f32::NAN; grad.workspace_len()],
        );
        let grad = WeightGrad::with(g, strategy, isa).unwrap();
        let mut dw = vec![f32::NAN; g.weight_len()];
        grad.run(x, dy, &mut dw, &mut vec![f32::NAN; grad.workspace_len()]);
        [y, dx, dw]
    })
}

#[test]
fn results_depend_neither_on_threads_nor_on_batch() {
    let geometries = [
        geometry(5, [11, 9], [40, 70], [3, 3]),
        // A handful of tiles alone, more than that together; several runs of depth.
        geometry(6, [8, 8], [150, 52], [3, 3]),
        ConvGeometry {
            upsample: true,
            ..geometry(5, [3, 4], [70, 33], [3, 3])
        },
        // Many tiles.
        geometry(2, [41, 38], [33, 40], [3, 3]),
    ];
    for g in geometries {
        let (x, w) = (values(g.input_len(), 1), values(g.weight_len(), 2));
        let dy = values(g.output_len(), 3);
        let one = ConvGeometry { batch: 1, ..g };
        for strategy in [Strategy::Direct, Strategy::Winograd2, Strategy::Winograd4] {
            for &isa in Isa::available() {
                let all = run_all(&g, (strategy, isa, 1), (&x, &w, &dy));
                for threads in [2, 3] {
                    let same = run_all(&g, (strategy, isa, threads), (&x, &w, &dy)) == all;
                    assert!(same, "{strategy:?} {isa:?} on {threads} threads: {g:?}");
                }
                for image in 0..g.batch {
                    let of = |all: &[f32]| {
                        let len = all.len() / g.batch;
                        all[image * len..(image + 1) * len].to_vec()
                    };
                    let [y, dx, _] = run_all(&one, (strategy, isa, 2), (&of(&x), &w, &of(&dy)));
                    assert!(
                        y == of(&all[0]),
                        "{strategy:?} {isa:?} y of image {image}: {g:?}"
                    );
                    assert!(
                        dx == of(&all[1]),
                        "{strategy:?} {isa:?} dx of image {image}: {g:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_choice_does_not_depend_on_the_batch() {
    let layers = [
        (
            geometry(1, [8, 8], [1024, 1024], [3, 3]),
            Strategy::Winograd4,
        ),
        (geometry(1, [32, 32], [8, 256], [3, 3]), Strategy::Direct),
        (geometry(1, [16, 16], [512, 512], [1, 1]), Strategy::Direct),
        (
            ConvGeometry {
                stride: 2,
                ..geometry(1, [32, 32], [256, 256], [3, 3])
            },
            Strategy::Direct,
        ),
        (geometry(1, [1, 1], [64, 64], [3, 3]), Strategy::Direct),
    ];
    for (g, expected) in layers {
        for batch in [1, 2, 64] {
            let g = ConvGeometry { batch, ..g };
            assert_eq!(Forward::new(&g).strategy(), expected, "{g:?}");
            assert_eq!(InputGrad::new(&g).strategy(), expected, "{g:?}");
            assert_eq!(WeightGrad::new(&g).strategy(), expected, "{g:?}");
        }
    }
}
