//! nvcuda::wmma from mma.h, compiled by NVRTC, against products in double precision or exact integers.

use crate::support::{Program, Random, scalar};
use half::{bf16, f16};

fn program() -> Option<Program> {
    Program::cuda(
        "wmma.cu",
        include_str!("nvrtc_sources/wmma.cu"),
        &["-std=c++17"],
    )
}

/// A kernel of one tile: m×n×k; whether A and B are column-major.
struct Tile {
    kernel: &'static str,
    m: usize,
    n: usize,
    k: usize,
    a_cols: bool,
    b_cols: bool,
}

const fn tile(
    kernel: &'static str,
    m: usize,
    n: usize,
    k: usize,
    a_cols: bool,
    b_cols: bool,
) -> Tile {
    Tile {
        kernel,
        m,
        n,
        k,
        a_cols,
        b_cols,
    }
}

impl Tile {
    fn a(&self, row: usize, k: usize) -> usize {
        if self.a_cols {
            k * self.m + row
        } else {
            row * self.k + k
        }
    }

    fn b(&self, k: usize, col: usize) -> usize {
        if self.b_cols {
            col * self.k + k
        } else {
            k * self.n + col
        }
    }

    /// The exact product plus C, and the sum of the terms' magnitudes, for each element.
    fn expected(&self, a: &[f64], b: &[f64], c: &[f64]) -> Vec<(f64, f64)> {
        (0..self.m * self.n)
            .map(|i| {
                let (row, col) = (i / self.n, i % self.n);
                (0..self.k).fold((c[i], c[i].abs()), |(sum, size), k| {
                    let product = a[self.a(row, k)] * b[self.b(k, col)];
                    (sum + product, size + product.abs())
                })
            })
            .collect()
    }

    /// Runs the kernel with one warp.
    fn run<In: bytemuck::NoUninit, Out: bytemuck::Pod>(
        &self,
        program: &Program,
        a: &[In],
        b: &[In],
        c: &[Out],
    ) -> Vec<Out> {
        let d = program.uninit::<Out>(self.m * self.n);
        let args = [
            (&program.upload(a)).into(),
            (&program.upload(b)).into(),
            (&program.upload(c)).into(),
            (&d).into(),
        ];
        program.launch(self.kernel, [1, 1, 1], [32, 1, 1], &args);
        program.download(&d)
    }
}

#[test]
fn float_tiles_multiply_in_every_shape_and_layout() {
    let Some(program) = program() else { return };
    let mut random = Random(1);
    let tiles = [
        tile("f16_16x16_rr", 16, 16, 16, false, false),
        tile("f16_16x16_rc", 16, 16, 16, false, true),
        tile("f16_16x16_cr", 16, 16, 16, true, false),
        tile("f16_16x16_cc", 16, 16, 16, true, true),
        tile("f16_8x32_rc", 8, 32, 16, false, true),
        tile("f16_32x8_rr", 32, 8, 16, false, false),
        tile("f16acc_16x16_rr", 16, 16, 16, false, false),
        tile("f16acc_32x8_rc", 32, 8, 16, false, true),
        tile("bf16_16x16_rr", 16, 16, 16, false, false),
        tile("bf16_8x32_cr", 8, 32, 16, true, false),
        tile("bf16_32x8_rc", 32, 8, 16, false, true),
        tile("tf32_16x16", 16, 16, 8, false, false),
    ];
    for tile in tiles {
        let mut numbers =
            |count: usize| -> Vec<f32> { (0..count).map(|_| random.normal() as f32).collect() };
        let (a, b, c) = (
            numbers(tile.m * tile.k),
            numbers(tile.k * tile.n),
            numbers(tile.m * tile.n),
        );
        let (a64, b64, got): (Vec<f64>, Vec<f64>, Vec<f64>);
        let mut c64: Vec<f64> = c.iter().map(|&x| f64::from(x)).collect();
        // Rounding of the sums: 2^-24 per step in f32; results in f16 add half a unit of their last place.
        let mut last = 0.0;
        if tile.kernel.starts_with("f16") {
            let halves = |x: &[f32]| -> Vec<f16> { x.iter().map(|&x| f16::from_f32(x)).collect() };
            let wide = |x: &[f16]| -> Vec<f64> { x.iter().map(|x| x.to_f64()).collect() };
            let (a, b) = (halves(&a), halves(&b));
            (a64, b64) = (wide(&a), wide(&b));
            let bits = |x: &[f16]| -> Vec<u16> { x.iter().map(|x| x.to_bits()).collect() };
            got = if tile.kernel.starts_with("f16acc") {
                last = 2f64.powi(-11);
                let c = halves(&c);
                c64 = wide(&c);
                tile.run(&program, &bits(&a), &bits(&b), &bits(&c))
                    .into_iter()
                    .map(|x| f16::from_bits(x).to_f64())
                    .collect()
            } else {
                tile.run(&program, &bits(&a), &bits(&b), &c)
                    .into_iter()
                    .map(f64::from)
                    .collect()
            };
        } else if tile.kernel.starts_with("bf16") {
            let halves =
                |x: &[f32]| -> Vec<bf16> { x.iter().map(|&x| bf16::from_f32(x)).collect() };
            let bits = |x: &[bf16]| -> Vec<u16> { x.iter().map(|x| x.to_bits()).collect() };
            let (a, b) = (halves(&a), halves(&b));
            a64 = a.iter().map(|x| x.to_f64()).collect();
            b64 = b.iter().map(|x| x.to_f64()).collect();
            got = tile
                .run(&program, &bits(&a), &bits(&b), &c)
                .into_iter()
                .map(f64::from)
                .collect();
        } else {
            // What __float_to_tf32 does: to nearest with 10 fraction bits, ties away from zero.
            let tf32 = |x: &[f32]| -> Vec<f64> {
                x.iter()
                    .map(|x| f64::from(f32::from_bits((x.to_bits() + 0x1000) & !0x1fff)))
                    .collect()
            };
            (a64, b64) = (tf32(&a), tf32(&b));
            got = tile
                .run(&program, &a, &b, &c)
                .into_iter()
                .map(f64::from)
                .collect();
        }
        for (i, (&got, (want, size))) in got.iter().zip(tile.expected(&a64, &b64, &c64)).enumerate()
        {
            let bound = (tile.k as f64 + 1.0) * 2f64.powi(-24) * size + last * want.abs();
            assert!(
                (got - want).abs() <= bound,
                "{} element {i}: {got}, not {want} ± {bound:e}",
                tile.kernel
            );
        }
    }
}

#[test]
fn double_tiles_multiply() {
    let Some(program) = program() else { return };
    let mut random = Random(2);
    for tile in [
        tile("f64_8x8_rr", 8, 8, 4, false, false),
        tile("f64_8x8_rc", 8, 8, 4, false, true),
    ] {
        let mut numbers =
            |count: usize| -> Vec<f64> { (0..count).map(|_| random.normal()).collect() };
        let (a, b, c) = (numbers(32), numbers(32), numbers(64));
        let got: Vec<f64> = tile.run(&program, &a, &b, &c);
        for (got, (want, size)) in got.iter().zip(tile.expected(&a, &b, &c)) {
            assert!(
                (got - want).abs() <= 8.0 * 2f64.powi(-53) * size,
                "{}: {got}, not {want}",
                tile.kernel
            );
        }
    }
}

#[test]
fn integer_tiles_multiply_exactly() {
    let Some(program) = program() else { return };
    let mut random = Random(3);
    let tiles = [
        tile("s8_16x16_rr", 16, 16, 16, false, false),
        tile("s8_32x8_rc", 32, 8, 16, false, true),
        tile("u8_8x32_cr", 8, 32, 16, true, false),
    ];
    for tile in tiles {
        let signed = tile.kernel.starts_with('s');
        let mut bytes =
            |count: usize| -> Vec<u8> { (0..count).map(|_| random.next() as u8).collect() };
        let (a, b) = (bytes(tile.m * tile.k), bytes(tile.k * tile.n));
        let c: Vec<i32> = (0..(tile.m * tile.n) as i32)
            .map(|i| i * 1000 - 70_000)
            .collect();
        let wide = |x: &[u8]| -> Vec<f64> {
            x.iter()
                .map(|&x| {
                    if signed {
                        f64::from(x as i8)
                    } else {
                        f64::from(x)
                    }
                })
                .collect()
        };
        let c64: Vec<f64> = c.iter().map(|&x| f64::from(x)).collect();
        let got: Vec<i32> = tile.run(&program, &a, &b, &c);
        for (got, (want, _)) in got.iter().zip(tile.expected(&wide(&a), &wide(&b), &c64)) {
            assert_eq!(f64::from(*got), want, "{}", tile.kernel);
        }
    }
    // 4-bit numbers, eight to a word, along k.
    let words: Vec<u32> = (0..64).map(|_| random.next() as u32).collect();
    let (a, b) = words.split_at(32);
    let c: Vec<i32> = (0..64).collect();
    let four = tile("s4_8x8", 8, 8, 32, false, true);
    let got: Vec<i32> = four.run(&program, a, b, &c);
    let nibble = |words: &[u32], i: usize| ((words[i / 8] >> (4 * (i % 8))) << 28) as i32 >> 28;
    for (i, got) in got.iter().enumerate() {
        let (row, col) = (i / 8, i % 8);
        let want: i32 = c[i]
            + (0..32)
                .map(|k| nibble(a, row * 32 + k) * nibble(b, col * 32 + k))
                .sum::<i32>();
        assert_eq!(*got, want, "s4 ({row}, {col})");
    }
    // Single bits: 128 along k, combined with xor and with and, then counted.
    let (dx, da) = (program.uninit::<i32>(64), program.uninit::<i32>(64));
    let args = [
        (&program.upload(a)).into(),
        (&program.upload(b)).into(),
        (&program.upload(&c)).into(),
        (&dx).into(),
        (&da).into(),
    ];
    program.launch("b1_8x8", [1, 1, 1], [32, 1, 1], &args);
    let (xor, and): (Vec<i32>, Vec<i32>) = (program.download(&dx), program.download(&da));
    for i in 0..64 {
        let (row, col) = (i / 8, i % 8);
        let count = |combine: fn(u32, u32) -> u32| -> i32 {
            (0..4)
                .map(|w| combine(a[row * 4 + w], b[col * 4 + w]).count_ones() as i32)
                .sum()
        };
        assert_eq!(xor[i], c[i] + count(|x, y| x ^ y), "b1 xor ({row}, {col})");
        assert_eq!(and[i], c[i] + count(|x, y| x & y), "b1 and ({row}, {col})");
    }
}

#[test]
fn a_tiled_product_through_shared_memory_is_right() {
    let Some(program) = program() else { return };
    let (m, n, k) = (128, 48, 80);
    let mut random = Random(4);
    let mut numbers =
        |count: usize| -> Vec<f16> { (0..count).map(|_| f16::from_f64(random.normal())).collect() };
    let (a, b) = (numbers(m * k), numbers(k * n));
    let bits = |x: &[f16]| -> Vec<u16> { x.iter().map(|x| x.to_bits()).collect() };
    let c = program.uninit::<f32>(m * n);
    let args = [
        (&program.upload(&bits(&a))).into(),
        (&program.upload(&bits(&b))).into(),
        (&c).into(),
        scalar(m as i32),
        scalar(n as i32),
        scalar(k as i32),
    ];
    program.launch(
        "gemm",
        [(n / 16) as u32, (m / 64) as u32, 1],
        [128, 1, 1],
        &args,
    );
    let got: Vec<f32> = program.download(&c);
    for row in 0..m {
        for col in 0..n {
            let terms = (0..k).map(|i| a[row * k + i].to_f64() * b[i * n + col].to_f64());
            let (want, size) = terms.fold((0.0, 0.0), |(sum, size): (f64, f64), term| {
                (sum + term, size + term.abs())
            });
            let got = f64::from(got[row * n + col]);
            assert!(
                (got - want).abs() <= k as f64 * 2f64.powi(-24) * size,
                "({row}, {col}): {got}, not {want}"
            );
        }
    }
}
