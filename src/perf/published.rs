//! Honesty: the model against measurements that others published of kernels that are not ours.
//!
//! Each kernel is described by what its published structure does, and no constant is fitted to any of them. One form was
//! chosen with a measurement in sight: that DRAM fills up as `1 - exp(-x)`, where a plain minimum would have said that a
//! quarter of the threads suffices. What the model misses stays in the table.

use std::fmt::Write as _;

use super::gpu::Gpu;
use super::model::{KernelWork, predict};

/// A published measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The measurements that belong together.
    pub family: &'static str,
    /// The kernel.
    pub name: String,
    /// What was measured.
    pub measured: f64,
    /// What the model says, in the same unit.
    pub predicted: f64,
    /// Unit of both.
    pub unit: &'static str,
    /// Who measured it.
    pub source: &'static str,
}

impl Case {
    /// By how much the prediction is too high, relative to the measurement.
    pub fn error(&self) -> f64 {
        self.predicted / self.measured - 1.0
    }

    /// The largest error that counts as held.
    pub fn bar(&self) -> f64 {
        match self.family {
            HGEMM => 0.20,
            _ => 0.25,
        }
    }

    /// Whether the error is within the bar.
    pub fn held(&self) -> bool {
        self.error().abs() <= self.bar()
    }
}

const HGEMM: &str = "HGEMM, f16 sums, RTX 3090";
const SGEMM: &str = "SGEMM 4096³, RTX A6000";
const STREAM: &str = "DRAM read by occupancy, A40";
const FLASH: &str = "flash attention, 4096 tokens, 128 channels, RTX 3090";
/// Mean error that HGEMM has to stay within.
pub const HGEMM_MEAN_BAR: f64 = 0.08;

fn gpu(name: &str) -> &'static Gpu {
    Gpu::named(name).expect("one of the data files")
}

/// All measurements with what the model says of them.
pub fn cases() -> Vec<Case> {
    let mut cases = hgemm();
    cases.extend(sgemm());
    cases.extend(streams());
    cases.extend(flash_attention());
    cases
}

/// Square products, block tile 256 × 128 × 32, eight warps of 64 × 64, four stages of `cp.async`.
fn hgemm() -> Vec<Case> {
    let seen = [
        (512.0, 10.4),
        (768.0, 25.5),
        (1024.0, 46.5),
        (1536.0, 106.4),
        (2048.0, 99.5),
        (3072.0, 112.7),
        (4096.0, 118.1),
        (5120.0, 124.5),
        (6144.0, 122.7),
        (8192.0, 119.9),
    ];
    let [m, n, k] = [256.0, 128.0, 32.0];
    let case = |(size, measured): (f64, f64)| {
        let blocks = (size / m).ceil() * (size / n).ceil();
        let steps = size / k;
        let copied = blocks * steps * (m + n) * k * 2.0;
        // Four fragments of rows and eight of columns for each warp and 16 of k: eight ldmatrix of four wavefronts.
        let ldmatrix = blocks * steps * 8.0 * (k / 16.0) * 8.0;
        let mma = size * size * size / 2048.0;
        let work = KernelWork {
            blocks,
            threads: 256.0,
            registers: 255.0,
            shared_bytes: 4.0 * (m + n) * k * 2.0,
            mma_half: mma,
            instructions: 1.6 * mma,
            shared_wavefronts: 4.0 * ldmatrix + copied / 128.0,
            sectors: (copied + size * size * 2.0) / 32.0,
            dram_bytes: 3.0 * size * size * 2.0,
            in_flight_bytes: 3.0 * (m + n) * k * 2.0 / 256.0,
            pipelined: true,
            ..KernelWork::default()
        };
        // Measured as launches in a stream.
        let card = gpu("rtx3090");
        let seconds = predict(card, &work).seconds + card.stream_gap_seconds.value;
        Case {
            family: HGEMM,
            name: format!("{size}³"),
            measured,
            predicted: 2e-12 * size * size * size / seconds,
            unit: "TFLOP/s",
            source: "Bruce-Lee-LY/cuda_hgemm, plot",
        }
    };
    seen.into_iter().map(case).collect()
}

/// The ladder of one matrix product from naive to warp tiles.
fn sgemm() -> Vec<Case> {
    const SIZE: f64 = 4096.0;
    let products = SIZE * SIZE * SIZE;
    // Multiply-adds of a warp.
    let fma = products / 32.0;
    let source = "siboehm, How to Optimize a CUDA Matmul Kernel";
    let case = |name: &str, measured: f64, work: KernelWork| Case {
        family: SGEMM,
        name: name.to_owned(),
        measured,
        predicted: 2e-9 * products / predict(gpu("a6000"), &work).seconds,
        unit: "GFLOP/s",
        source,
    };
    let matrices = 3.0 * SIZE * SIZE * 4.0;
    let plain = |tile: f64, threads: f64| KernelWork {
        blocks: (SIZE / tile) * (SIZE / tile),
        threads,
        fma,
        sectors: (SIZE / tile) * 2.0 * SIZE * SIZE * 4.0 / 32.0,
        dram_bytes: matrices,
        in_flight_bytes: 8.0,
        ..KernelWork::default()
    };
    // A thread computes one result: a load of each operand for each product.
    let one_each = |lines_of_a: f64| KernelWork {
        registers: 32.0,
        instructions: 4.0 * fma,
        l1_lines: fma * (lines_of_a + 1.0),
        l1_bytes: fma * 2.0 * 128.0,
        ..plain(32.0, 1024.0)
    };
    // Tiles in shared memory: loads of shared memory for each product, and what each step waits for.
    let tiled = |[m, n, k]: [f64; 3], threads: f64, registers: f64, wavefronts: f64, loads: f64| {
        let blocks = (SIZE / m) * (SIZE / n);
        let copied = blocks * SIZE * (m + n) * 4.0;
        KernelWork {
            blocks,
            threads,
            registers,
            shared_bytes: (m + n) * k * 4.0,
            fma,
            instructions: fma * (1.0 + loads) + 3.0 * copied / 128.0,
            shared_wavefronts: fma * wavefronts + copied / 128.0,
            sectors: copied / 32.0,
            dram_bytes: matrices,
            in_flight_bytes: (m + n) * k * 4.0 / threads,
            // No copy is in flight while products are computed: each step waits for L2 and two barriers.
            chain_clocks: SIZE / k
                * (gpu("a6000").l2_latency_clocks.value + 2.0 * gpu("a6000").barrier_clocks.value),
            ..KernelWork::default()
        }
    };
    vec![
        // Neighbouring threads are in different rows of A.
        case("naive", 309.0, one_each(32.0)),
        case("coalesced", 1986.0, one_each(1.0)),
        case(
            "shared memory",
            2980.0,
            tiled([32.0, 32.0, 32.0], 1024.0, 32.0, 2.0, 2.0),
        ),
        // Eight results in a column: nine loads for eight products.
        case(
            "1-D register tile",
            8475.0,
            tiled([64.0, 64.0, 8.0], 512.0, 42.0, 9.0 / 8.0, 9.0 / 8.0),
        ),
        // 8 × 8 results: eight loads of A, and two of four numbers of B that two lanes in a row find in the same banks.
        case(
            "2-D register tile",
            15972.0,
            tiled([128.0, 128.0, 8.0], 256.0, 128.0, 16.0 / 64.0, 10.0 / 64.0),
        ),
        case(
            "vectorised",
            18237.0,
            tiled([128.0, 128.0, 8.0], 256.0, 128.0, 10.0 / 64.0, 4.0 / 64.0),
        ),
        case(
            "autotuned",
            19721.0,
            tiled([128.0, 128.0, 16.0], 256.0, 128.0, 10.0 / 64.0, 4.0 / 64.0),
        ),
        // Warps of 64 × 64 in blocks of 128 × 128 × 16.
        case(
            "warp tile",
            21779.0,
            tiled([128.0, 128.0, 16.0], 128.0, 168.0, 8.0 / 64.0, 4.0 / 64.0),
        ),
    ]
}

/// One number of eight bytes a thread, at a part of the threads that a multiprocessor has room for.
fn streams() -> Vec<Case> {
    let card = gpu("a40");
    let case = |(percent, measured): (f64, f64)| {
        const BYTES: f64 = 4e9;
        let threads = percent / 100.0 * card.threads.value;
        // Shared memory keeps more blocks away.
        let blocks_at_once = (threads / 128.0).floor();
        let work = KernelWork {
            blocks: BYTES / (128.0 * 8.0),
            threads: 128.0,
            registers: 32.0,
            shared_bytes: (card.shared_bytes.value / blocks_at_once - 1024.0).floor(),
            sectors: BYTES / 32.0,
            dram_bytes: BYTES,
            in_flight_bytes: 8.0,
            ..KernelWork::default()
        };
        Case {
            family: STREAM,
            name: format!("{percent} % of the threads"),
            measured,
            predicted: 1e-9 * BYTES / predict(card, &work).seconds,
            unit: "GB/s",
            source: "RRZE gpu-stream",
        }
    };
    [(25.0, 0.64 * 680.0), (50.0, 680.0), (100.0, 680.0)]
        .into_iter()
        .map(case)
        .collect()
}

/// Blocks of 64 queries, four warps of 16, and blocks of 64 keys. Without the swizzle the eight rows of an `ldmatrix`, 256
/// bytes apart, lie in the same banks.
fn flash_attention() -> Vec<Case> {
    const REFERENCE: f64 = 67.3;
    let (tokens, d, heads) = (4096.0, 128.0, 32.0);
    let flops = 4.0 * tokens * tokens * d * heads;
    let case = |(name, conflicts, share): (&str, f64, f64)| {
        let blocks = heads * tokens / 64.0;
        let steps = tokens / 64.0;
        let mma = flops / 2.0 / 2048.0;
        // Half an ldmatrix of four wavefronts for each product.
        let ldmatrix = mma / 2.0;
        let operand = heads * tokens * d * 2.0;
        let copied = operand + blocks * steps * 2.0 * 64.0 * d * 2.0;
        let scores = heads * tokens * tokens / 32.0;
        let work = KernelWork {
            blocks,
            threads: 128.0,
            registers: 255.0,
            shared_bytes: 3.0 * 64.0 * d * 2.0,
            mma,
            instructions: mma + ldmatrix + 6.0 * scores,
            shared_wavefronts: 4.0 * conflicts * ldmatrix + copied / 128.0,
            sectors: (copied + operand) / 32.0,
            dram_bytes: 4.0 * operand,
            in_flight_bytes: 64.0 * d * 2.0 / 128.0,
            pipelined: true,
            ..KernelWork::default()
        };
        Case {
            family: FLASH,
            name: name.to_owned(),
            measured: share * REFERENCE,
            predicted: 1e-12 * flops / predict(gpu("rtx3090"), &work).seconds,
            unit: "TFLOP/s",
            source: "shares of FlashAttention-2's 67.3 TFLOP/s on the same card",
        }
    };
    vec![
        case(("without swizzle", 8.0, 0.495)),
        case(("with swizzle", 1.0, 0.983)),
    ]
}

/// Mean of the errors' magnitudes of a family.
pub fn mean_error(family: &str) -> f64 {
    let errors: Vec<f64> = cases()
        .iter()
        .filter(|case| case.family == family)
        .map(|case| case.error().abs())
        .collect();
    errors.iter().sum::<f64>() / errors.len().max(1) as f64
}

/// The model's mean error on products on tensor cores, which is what stands beside predictions.
pub fn tensor_error() -> f64 {
    mean_error(HGEMM)
}

/// All cases as a table, with what holds and what does not.
pub fn report() -> String {
    let mut text = String::new();
    let mut family = "";
    for case in cases() {
        if case.family != family {
            family = case.family;
            writeln!(
                text,
                "{family}: mean error {:.1} %, allowed at worst {:.0} %; {}",
                100.0 * mean_error(family),
                100.0 * case.bar(),
                case.source
            )
            .expect("a string");
        }
        writeln!(
            text,
            "  {:<22} {:>9.1} {:<8} predicted {:>9.1}  {:>+6.1} %{}",
            case.name,
            case.measured,
            case.unit,
            case.predicted,
            100.0 * case.error(),
            if case.held() { "" } else { "  MISSED" }
        )
        .expect("a string");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the model misses today, and why as far as is known. A case that holds and is listed here fails, so that the
    /// list shrinks.
    const MISSED: [(&str, &str); 5] = [
        (
            "shared memory",
            "all warps of the only block load from shared memory at once, and none has products meanwhile",
        ),
        ("2-D register tile", CLOCK),
        ("vectorised", CLOCK),
        ("autotuned", CLOCK),
        ("warp tile", CLOCK),
    ];
    const CLOCK: &str = "multiply-adds at the boost clock of 1.8 GHz are taken for granted; what clock the card held is not \
         published, and the model knows nothing of how registers feed 128 lanes";

    #[test]
    fn published_measurements_are_predicted() {
        println!("{}", report());
        assert!(tensor_error() <= HGEMM_MEAN_BAR, "{}", tensor_error());
        for case in cases() {
            let missed = MISSED.iter().find(|(name, _)| *name == case.name);
            let missed = missed.is_some_and(|(name, why)| {
                println!("missed: {name}: {why}");
                true
            });
            assert_eq!(
                !case.held(),
                missed,
                "{} {}: {:+.1} %",
                case.family,
                case.name,
                100.0 * case.error()
            );
        }
    }
}
