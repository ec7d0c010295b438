//! PTX that Triton made for compute capability 8.6, against double precision on the host.
//!
//! The PTX is committed with the script that makes it, `fixtures/triton_kernels.py`; running it needs no GPU.

use crate::support::{Arg, Buffer, Program, Random, scalar};
use half::f16;

/// A Triton kernel and what its first line says about launching it.
struct Kernel {
    program: Program,
    entry: String,
    threads: u32,
    shared: u32,
}

impl Kernel {
    fn load(name: &str, ptx: &str) -> Kernel {
        let head = ptx.lines().next().expect("a first line");
        let value = |key: &str| {
            let word = head.split(' ').find_map(|word| word.strip_prefix(key));
            word.unwrap_or_else(|| panic!("{name}: `{head}` has no {key}"))
                .to_owned()
        };
        Kernel {
            program: Program::ptx(name, ptx),
            entry: value("entry="),
            threads: value("threads=").parse().expect("a number"),
            shared: value("shared=").parse().expect("a number"),
        }
    }

    /// Launches with the two scratch pointers that Triton appends to every kernel's parameters.
    fn launch(&self, grid: [u32; 3], mut args: Vec<Arg>) {
        args.extend([Arg::Address(0), Arg::Address(0)]);
        self.program.launch_with(
            &self.entry,
            grid,
            [self.threads, 1, 1],
            self.shared,
            false,
            &args,
        );
    }

    fn upload_halves(&self, values: &[f16]) -> Buffer {
        self.program
            .upload(&values.iter().map(|x| x.to_bits()).collect::<Vec<u16>>())
    }

    fn download_halves(&self, buffer: &Buffer) -> Vec<f64> {
        self.program
            .download::<u16>(buffer)
            .into_iter()
            .map(|bits| f16::from_bits(bits).to_f64())
            .collect()
    }
}

fn halves(random: &mut Random, count: usize) -> Vec<f16> {
    (0..count).map(|_| f16::from_f64(random.normal())).collect()
}

/// Half a unit of the last place of f16 at `x`, its subnormals included.
fn half_unit(x: f64) -> f64 {
    x.abs().max(2f64.powi(-14)) * 2f64.powi(-11)
}

fn matmul(kernel: &Kernel, m: usize, n: usize, k: usize) {
    let mut random = Random((m * n * k) as u64);
    let (a, b) = (halves(&mut random, m * k), halves(&mut random, k * n));
    let c = kernel.program.uninit::<u16>(m * n);
    let mut args: Vec<Arg> = vec![
        (&kernel.upload_halves(&a)).into(),
        (&kernel.upload_halves(&b)).into(),
        (&c).into(),
    ];
    args.extend([m, n, k, k, n, n].map(|x| scalar(x as i32)));
    let blocks = m.div_ceil(64) * n.div_ceil(64);
    kernel.launch([blocks as u32, 1, 1], args);
    let got = kernel.download_halves(&c);
    let (a, b): (Vec<f64>, Vec<f64>) = (
        a.iter().map(|x| x.to_f64()).collect(),
        b.iter().map(|x| x.to_f64()).collect(),
    );
    for row in 0..m {
        for col in 0..n {
            let (want, size) = (0..k).fold((0.0, 0.0), |(sum, size), i| {
                let product = a[row * k + i] * b[i * n + col];
                (sum + product, size + product.abs())
            });
            // f32 accumulation over k terms, then one rounding to f16.
            let bound = k as f64 * 2f64.powi(-24) * size + half_unit(want) * 1.01;
            let got = got[row * n + col];
            assert!(
                (got - want).abs() <= bound,
                "{m}×{n}×{k} at ({row}, {col}): {got}, not {want} ± {bound:e}"
            );
        }
    }
}

#[test]
fn triton_matmul_with_a_cp_async_pipeline() {
    let kernel = Kernel::load(
        "triton_matmul.ptx",
        include_str!("fixtures/triton_matmul.ptx"),
    );
    matmul(&kernel, 128, 192, 160);
    matmul(&kernel, 80, 48, 32);
}

#[test]
fn triton_matmul_of_ragged_sizes() {
    let kernel = Kernel::load(
        "triton_matmul_ragged.ptx",
        include_str!("fixtures/triton_matmul_ragged.ptx"),
    );
    matmul(&kernel, 77, 101, 53);
}

#[test]
fn triton_softmax_of_rows() {
    let kernel = Kernel::load(
        "triton_softmax.ptx",
        include_str!("fixtures/triton_softmax.ptx"),
    );
    let (rows, cols) = (19, 781);
    let mut random = Random(2);
    let x: Vec<f32> = (0..rows * cols)
        .map(|_| (4.0 * random.normal()) as f32)
        .collect();
    let y = kernel.program.uninit::<f32>(rows * cols);
    let args = vec![
        (&kernel.program.upload(&x)).into(),
        (&y).into(),
        scalar(cols as i32),
        scalar(cols as i32),
    ];
    kernel.launch([rows as u32, 1, 1], args);
    let got: Vec<f32> = kernel.program.download(&y);
    for (x, got) in x.chunks_exact(cols).zip(got.chunks_exact(cols)) {
        let largest = x.iter().copied().fold(f32::MIN, f32::max);
        let total: f64 = x.iter().map(|&x| f64::from(x - largest).exp()).sum();
        for (&x, &got) in x.iter().zip(got) {
            let want = f64::from(x - largest).exp() / total;
            // The exponent x − max, up to 40, is scaled by log2 e and rounded in f32: 40 · 2^-24 · 2 relative; ex2 and
            // the division add less.
            assert!(
                (f64::from(got) - want).abs() <= 6e-6 * want,
                "{got:e}, not {want:e}"
            );
        }
    }
}

#[test]
fn triton_layer_norm_of_rows() {
    let kernel = Kernel::load(
        "triton_layer_norm.ptx",
        include_str!("fixtures/triton_layer_norm.ptx"),
    );
    let (rows, cols, stride, eps) = (7, 600, 608, 1e-5f32);
    let mut random = Random(3);
    let x = halves(&mut random, rows * stride);
    let weight: Vec<f32> = (0..cols).map(|_| random.normal() as f32).collect();
    let bias: Vec<f32> = (0..cols).map(|_| random.normal() as f32).collect();
    let program = &kernel.program;
    let y = kernel.upload_halves(&vec![f16::ZERO; rows * stride]);
    let (mean, rstd) = (program.uninit::<f32>(rows), program.uninit::<f32>(rows));
    let args = vec![
        (&kernel.upload_halves(&x)).into(),
        (&y).into(),
        (&program.upload(&weight)).into(),
        (&program.upload(&bias)).into(),
        (&mean).into(),
        (&rstd).into(),
        scalar(stride as i32),
        scalar(cols as i32),
        scalar(eps),
    ];
    kernel.launch([rows as u32, 1, 1], args);
    let got = kernel.download_halves(&y);
    let (means, rstds): (Vec<f32>, Vec<f32>) = (program.download(&mean), program.download(&rstd));
    for row in 0..rows {
        let x: Vec<f64> = x[row * stride..][..cols]
            .iter()
            .map(|x| x.to_f64())
            .collect();
        let mean = x.iter().sum::<f64>() / cols as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / cols as f64;
        let rstd = 1.0 / (variance + f64::from(eps)).sqrt();
        assert!(
            (f64::from(means[row]) - mean).abs() <= 1e-6,
            "mean of row {row}"
        );
        assert!(
            (f64::from(rstds[row]) - rstd).abs() <= 2e-6 * rstd,
            "rstd of row {row}"
        );
        for col in 0..cols {
            let want = (x[col] - mean) * rstd * f64::from(weight[col]) + f64::from(bias[col]);
            // f32 arithmetic on numbers up to 20, then one rounding to f16.
            let bound = 2e-5 + half_unit(want);
            assert!(
                (got[row * stride + col] - want).abs() <= bound,
                "({row}, {col})"
            );
        }
        assert!(
            got[row * stride + cols..(row + 1) * stride]
                .iter()
                .all(|&x| x == 0.0),
            "row {row} was written past its end"
        );
    }
}

fn flash_attention(kernel: &Kernel, causal: bool) {
    let (heads, length, depth) = (2, 128, 64);
    let mut random = Random(4);
    let mut matrix = || halves(&mut random, heads * length * depth);
    let (q, k, v) = (matrix(), matrix(), matrix());
    let out = kernel.program.uninit::<u16>(q.len());
    let lse = kernel.program.uninit::<f32>(heads * length);
    let scale = 0.125f32;
    let args = vec![
        (&kernel.upload_halves(&q)).into(),
        (&kernel.upload_halves(&k)).into(),
        (&kernel.upload_halves(&v)).into(),
        (&out).into(),
        (&lse).into(),
        scalar(scale),
        scalar((length * depth) as i32),
        scalar(length as i32),
    ];
    kernel.launch([(length / 64) as u32, heads as u32, 1], args);
    let got = kernel.download_halves(&out);
    let got_lse: Vec<f32> = kernel.program.download(&lse);
    let row = |x: &[f16], head: usize, i: usize| -> Vec<f64> {
        x[(head * length + i) * depth..][..depth]
            .iter()
            .map(|x| x.to_f64())
            .collect()
    };
    for head in 0..heads {
        for i in 0..length {
            let query = row(&q, head, i);
            let seen = if causal { i + 1 } else { length };
            let scores: Vec<f64> = (0..seen)
                .map(|j| {
                    f64::from(scale)
                        * query
                            .iter()
                            .zip(row(&k, head, j))
                            .map(|(a, b)| a * b)
                            .sum::<f64>()
                })
                .collect();
            let largest = scores.iter().copied().fold(f64::MIN, f64::max);
            let powers: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
            let total: f64 = powers.iter().sum();
            let lse = (largest + total.ln()) * std::f64::consts::LOG2_E;
            assert!(
                (f64::from(got_lse[head * length + i]) - lse).abs() <= 1e-4,
                "log-sum of query {i}"
            );
            for d in 0..depth {
                let terms = (0..seen)
                    .map(|j| powers[j] / total * v[(head * length + j) * depth + d].to_f64());
                let (want, size) = terms.fold((0.0, 0.0), |(sum, size): (f64, f64), x| {
                    (sum + x, size + x.abs())
                });
                // The probabilities are rounded to f16 for the second product (2^-11 of each term), the result once more.
                let bound = size * 2f64.powi(-11) * 1.05 + half_unit(want) + 1e-5;
                let got = got[(head * length + i) * depth + d];
                assert!(
                    (got - want).abs() <= bound,
                    "head {head} query {i} element {d}: {got}, not {want} ± {bound:e}"
                );
            }
        }
    }
}

#[test]
fn triton_flash_attention() {
    flash_attention(
        &Kernel::load(
            "triton_flash_attention.ptx",
            include_str!("fixtures/triton_flash_attention.ptx"),
        ),
        false,
    );
}

#[test]
fn triton_causal_flash_attention() {
    let ptx = include_str!("fixtures/triton_flash_attention_causal.ptx");
    flash_attention(
        &Kernel::load("triton_flash_attention_causal.ptx", ptx),
        true,
    );
}

/// Runs a product of full 32×32 tiles; elements come and go as their bytes.
fn product<In: bytemuck::NoUninit, Out: bytemuck::Pod>(
    name: &str,
    ptx: &str,
    a: &[In],
    b: &[In],
) -> Vec<Out> {
    let kernel = Kernel::load(name, ptx);
    let c = kernel.program.uninit::<Out>(M * N);
    let upload = |x: &[In]| Arg::from(&kernel.program.upload(x));
    kernel.launch(
        [(M / 32) as u32, (N / 32) as u32, 1],
        vec![
            upload(a),
            upload(b),
            (&c).into(),
            scalar(N as i32),
            scalar(K as i32),
        ],
    );
    kernel.program.download(&c)
}

const M: usize = 64;
const N: usize = 96;
const K: usize = 160;

/// Each element of the product, with the sum of its terms' magnitudes.
fn exact(a: &[f64], b: &[f64]) -> Vec<(f64, f64)> {
    let element = |row: usize, col: usize| {
        (0..K).fold((0.0, 0.0), |(sum, size), i| {
            let term: f64 = a[row * K + i] * b[i * N + col];
            (sum + term, size + term.abs())
        })
    };
    (0..M * N).map(|i| element(i / N, i % N)).collect()
}

#[test]
fn triton_products_of_the_other_tensor_core_types() {
    let mut random = Random(5);
    let mut numbers =
        |count: usize| -> Vec<f32> { (0..count).map(|_| random.normal() as f32).collect() };
    let (a, b) = (numbers(M * K), numbers(K * N));
    // f32 accumulation over K terms.
    let steps = K as f64 * 2f64.powi(-24);

    let bits = |x: &[f32]| -> Vec<u16> {
        x.iter()
            .map(|&x| half::bf16::from_f32(x).to_bits())
            .collect()
    };
    let wide = |x: &[u16]| -> Vec<f64> {
        x.iter()
            .map(|&x| half::bf16::from_bits(x).to_f64())
            .collect()
    };
    let (left, right) = (bits(&a), bits(&b));
    let got: Vec<f32> = product(
        "bf16",
        include_str!("fixtures/triton_product_bf16.ptx"),
        &left,
        &right,
    );
    for (got, (want, size)) in got.iter().zip(exact(&wide(&left), &wide(&right))) {
        assert!(
            (f64::from(*got) - want).abs() <= steps * size,
            "bf16: {got}, not {want}"
        );
    }

    // Triton hands f32 to the tensor cores as it is, and they drop the low 13 bits: 2^-10 of each factor at most.
    let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|&x| f64::from(x)).collect() };
    let got: Vec<f32> = product(
        "tf32",
        include_str!("fixtures/triton_product_tf32.ptx"),
        &a,
        &b,
    );
    for (got, (want, size)) in got.iter().zip(exact(&wide(&a), &wide(&b))) {
        assert!(
            (f64::from(*got) - want).abs() <= (2.0 * 2f64.powi(-10) + steps) * size,
            "tf32: {got}, not {want}"
        );
    }

    let bytes = |x: &[f32]| -> Vec<i8> { x.iter().map(|&x| (x * 40.0) as i8).collect() };
    let wide = |x: &[i8]| -> Vec<f64> { x.iter().map(|&x| f64::from(x)).collect() };
    let (left, right) = (bytes(&a), bytes(&b));
    let got: Vec<i32> = product(
        "int8",
        include_str!("fixtures/triton_product_int8.ptx"),
        &left,
        &right,
    );
    for (got, (want, _)) in got.iter().zip(exact(&wide(&left), &wide(&right))) {
        assert_eq!(f64::from(*got), want, "int8");
    }

    let bits = |x: &[f32]| -> Vec<u16> { x.iter().map(|&x| f16::from_f32(x).to_bits()).collect() };
    let wide = |x: &[u16]| -> Vec<f64> { x.iter().map(|&x| f16::from_bits(x).to_f64()).collect() };
    let (left, right) = (bits(&a), bits(&b));
    let got: Vec<u16> = product(
        "f16 sums",
        include_str!("fixtures/triton_product_f16_sums.ptx"),
        &left,
        &right,
    );
    for (got, (want, size)) in wide(&got).iter().zip(exact(&wide(&left), &wide(&right))) {
        // The sum is rounded to f16 after every 16 terms.
        assert!(
            (got - want).abs() <= (K / 16) as f64 * 2f64.powi(-11) * size,
            "f16 sums: {got}, not {want}"
        );
    }
}

#[test]
fn triton_scans_sorts_counts_and_locks() {
    let kernel = Kernel::load(
        "scan_sort_count",
        include_str!("fixtures/triton_scan_sort_count.ptx"),
    );
    let mut random = Random(6);
    let rows = 5;
    let x: Vec<i32> = (0..rows * 256)
        .map(|_| random.uniform(0.0, 1e6) as i32)
        .collect();
    let program = &kernel.program;
    let (sums, ordered) = (
        program.uninit::<i32>(x.len()),
        program.uninit::<i32>(x.len()),
    );
    let (counts, total) = (program.upload(&[0i32; 16]), program.upload(&[0i32]));
    let args = vec![
        (&program.upload(&x)).into(),
        (&sums).into(),
        (&ordered).into(),
        (&counts).into(),
        (&total).into(),
    ];
    kernel.launch([rows as u32, 1, 1], args);
    let (sums, ordered): (Vec<i32>, Vec<i32>) =
        (program.download(&sums), program.download(&ordered));
    let mut histogram = [0; 16];
    for (row, x) in x.chunks_exact(256).enumerate() {
        let mut sum = 0;
        for (i, value) in x.iter().enumerate() {
            sum += value;
            histogram[*value as usize & 15] += 1;
            assert_eq!(sums[row * 256 + i], sum, "row {row} element {i}");
        }
        let mut sorted = x.to_vec();
        sorted.sort_unstable();
        assert_eq!(ordered[row * 256..][..256], sorted, "row {row}");
    }
    assert_eq!(program.download::<i32>(&counts), histogram);
    let largest = x.chunks_exact(256).map(|row| row.iter().sum::<i32>()).max();
    assert_eq!(program.download::<i32>(&total).first().copied(), largest);

    let kernel = Kernel::load("locked_sum", include_str!("fixtures/triton_locked_sum.ptx"));
    let rows = 6;
    let x: Vec<f32> = (0..rows * 256).map(|i| (i % 31) as f32).collect();
    let program = &kernel.program;
    let (sums, lock) = (program.upload(&[0f32; 256]), program.upload(&[0i32]));
    kernel.launch(
        [rows as u32, 1, 1],
        vec![(&program.upload(&x)).into(), (&sums).into(), (&lock).into()],
    );
    for (i, sum) in program.download::<f32>(&sums).into_iter().enumerate() {
        assert_eq!(
            sum,
            (0..rows).map(|row| x[row * 256 + i]).sum::<f32>(),
            "element {i}"
        );
    }
}
