//! `medfusion doctor`: what this machine offers.

use super::error::CliError;
use super::process::print;
use crate::bytes::gib;
use crate::device::cpu::gemm::Isa;
use crate::device::cuda::diagnose;
use crate::device::{Device, available_memory_bytes};

#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_: &Args) -> Result<(), CliError> {
    print(format!("medfusion {}", env!("CARGO_PKG_VERSION")))?;
    let device = Device::open()?;
    print(format!("device auto    {device}"))?;
    print(format!("vectors        {}", vectors()))?;
    for finding in diagnose() {
        let mark = if finding.found { "" } else { "missing: " };
        print(format!("{:<14} {mark}{}", finding.subject, finding.text))?;
    }
    match available_memory_bytes() {
        Some(bytes) => print(format!("memory free    {:.1} GiB", gib(bytes)))?,
        None => print("memory free    unknown (/proc/meminfo cannot be read)")?,
    }
    match std::path::Path::new("weights").is_dir() {
        true => print("weights        weights/"),
        false => print(
            "weights        no folder 'weights' here: run from the project's root or give --model",
        ),
    }
}

/// The widest vector instructions that the CPU kernels use here.
fn vectors() -> &'static str {
    match Isa::detect() {
        Isa::Avx512 => "AVX-512",
        Isa::Avx2 => "AVX2 and FMA",
        Isa::Portable => "baseline of the target (kernels are fastest with AVX-512 or AVX2)",
    }
}
