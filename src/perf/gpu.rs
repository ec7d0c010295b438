//! A GPU as constants, each with its source.

use std::sync::LazyLock;

use serde::Deserialize;
use thiserror::Error;

const FILES: [(&str, &str); 7] = [
    ("rtx3090", include_str!("gpus/rtx3090.toml")),
    ("rtx4090", include_str!("gpus/rtx4090.toml")),
    ("a40", include_str!("gpus/a40.toml")),
    ("a6000", include_str!("gpus/a6000.toml")),
    ("a100", include_str!("gpus/a100.toml")),
    ("h100", include_str!("gpus/h100.toml")),
    ("h200", include_str!("gpus/h200.toml")),
];

static GPUS: LazyLock<Vec<(&str, Gpu)>> = LazyLock::new(|| {
    let parse = |(name, text)| {
        let gpu = toml::from_str(text);
        (name, gpu.expect("the data files are tested"))
    };
    FILES.map(parse).into()
});

/// No data file describes this GPU.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("unknown GPU `{name}`: expected one of {}", Gpu::names().collect::<Vec<_>>().join(", "))]
pub struct UnknownGpu {
    /// The name that was asked for.
    pub name: String,
}

/// A number and where it is from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constant {
    /// In the unit that the constant's name says.
    pub value: f64,
    /// Who measured or published it, or `estimate`.
    pub source: String,
}

/// Constants of a GPU; rates and sizes are per multiprocessor unless the name says otherwise. Clocks are those of
/// [`Gpu::clock_hz`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// The product's name.
    pub name: String,
    /// Compute capability.
    pub capability: [u32; 2],
    /// Multiprocessors of the chip.
    pub multiprocessors: Constant,
    /// Clock.
    pub clock_hz: Constant,
    /// Device memory.
    pub memory_bytes: Constant,
    /// DRAM bandwidth on paper.
    pub dram_peak_bytes_per_second: Constant,
    /// DRAM bandwidth that a plain read reaches.
    pub dram_reached_bytes_per_second: Constant,
    /// From a load to its value, from DRAM.
    pub dram_latency_clocks: Constant,
    /// L2 cache of the chip.
    pub l2_bytes: Constant,
    /// From a load to its value, from L2.
    pub l2_latency_clocks: Constant,
    /// What a multiprocessor gets from L2 while all read.
    pub l2_bytes_per_clock: Constant,
    /// What a multiprocessor's L1 cache gives.
    pub l1_bytes_per_clock: Constant,
    /// From a load to its value, from L1.
    pub l1_latency_clocks: Constant,
    /// What shared memory gives.
    pub shared_bytes_per_clock: Constant,
    /// A barrier of a block.
    pub barrier_clocks: Constant,
    /// Registers of 32 bits.
    pub registers: Constant,
    /// Shared memory.
    pub shared_bytes: Constant,
    /// Most shared memory of a block.
    pub shared_bytes_per_block: Constant,
    /// Most resident threads.
    pub threads: Constant,
    /// Most resident blocks.
    pub blocks: Constant,
    /// Between two `mma.m16n8k16` with f32 sums on one of the four sub-cores.
    pub mma_clocks: Constant,
    /// The same with f16 sums.
    pub mma_half_clocks: Constant,
    /// Warp instructions of f32 multiply-adds.
    pub fma_per_clock: Constant,
    /// Warp instructions of any kind.
    pub issue_per_clock: Constant,
    /// From the start of one small kernel to the start of the next in a stream.
    pub stream_gap_seconds: Constant,
    /// The same as nodes of a CUDA graph.
    pub graph_gap_seconds: Constant,
}

/// Sub-cores of a multiprocessor, each with a tensor unit, since Volta.
pub(super) const SUB_CORES: f64 = 4.0;
/// Multiply-adds of an `mma.m16n8k16`.
const MMA_PRODUCTS: f64 = 2048.0;

impl Gpu {
    /// The GPU of this name, such as `rtx3090`.
    ///
    /// # Errors
    /// If no data file describes it.
    pub fn named(name: &str) -> Result<&'static Self, UnknownGpu> {
        let found = GPUS.iter().find(|(known, _)| *known == name);
        found.map(|(_, gpu)| gpu).ok_or_else(|| UnknownGpu {
            name: name.to_owned(),
        })
    }

    /// The names of all GPUs.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FILES.iter().map(|(name, _)| *name)
    }

    /// Bytes of device memory.
    pub fn memory(&self) -> usize {
        self.memory_bytes.value as usize
    }

    /// Floating-point operations per second at the peak of what computes them: tensor cores with f32 or f16 sums, or plain
    /// multiply-adds.
    pub fn peak_flops(&self, tensor: bool, half_sums: bool) -> f64 {
        let per_clock = match (tensor, half_sums) {
            (true, false) => SUB_CORES * MMA_PRODUCTS / self.mma_clocks.value,
            (true, true) => SUB_CORES * MMA_PRODUCTS / self.mma_half_clocks.value,
            (false, _) => 32.0 * self.fma_per_clock.value,
        };
        2.0 * per_clock * self.multiprocessors.value * self.clock_hz.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_constant_has_a_source() {
        for (name, text) in FILES {
            let table: toml::Table = text.parse().expect("TOML");
            for (key, value) in &table {
                if let Some(constant) = value.as_table() {
                    let source = constant["source"].as_str().expect("a text");
                    assert!(source.len() > 3, "{name}: {key} has no source");
                }
            }
            let gpu = Gpu::named(name).expect("a data file");
            assert!(gpu.dram_reached_bytes_per_second.value < gpu.dram_peak_bytes_per_second.value);
            assert!(gpu.shared_bytes_per_block.value < gpu.shared_bytes.value);
        }
    }

    /// The makers' figures for dense products, in TFLOP/s.
    #[test]
    fn peaks_are_the_makers() {
        let peaks = [
            ("rtx3090", 71.0, 142.0, 35.6),
            ("a6000", 154.8, 154.8, 38.7),
            ("a100", 312.0, 312.0, 19.5),
            ("rtx4090", 165.2, 330.3, 82.6),
        ];
        for (name, sums, half_sums, plain) in peaks {
            let gpu = Gpu::named(name).expect("a data file");
            let found = [
                gpu.peak_flops(true, false),
                gpu.peak_flops(true, true),
                gpu.peak_flops(false, false),
            ];
            for (found, published) in found.into_iter().zip([sums, half_sums, plain]) {
                let share = found / published * 1e-12;
                assert!(
                    (0.99..1.01).contains(&share),
                    "{name}: {found:e}, {published}"
                );
            }
        }
    }

    #[test]
    fn an_unknown_gpu_is_named_with_the_known_ones() {
        let error = Gpu::named("rtx5090").expect_err("unknown").to_string();
        assert!(
            error.contains("`rtx5090`") && error.contains("rtx3090"),
            "{error}"
        );
    }
}
