//! What can go wrong between the engine and a CUDA driver.

use std::path::PathBuf;

use thiserror::Error;

/// What can go wrong when a CUDA device is opened, programs are compiled or a plan runs on it.
#[derive(Debug, Error)]
pub enum CudaError {
    #[error(
        "no CUDA driver here: libcuda.so.1 cannot be loaded; install NVIDIA's driver, or use --device cpu or emulated"
    )]
    NoDriver,
    #[error(
        "the CUDA driver is there but answers {code}; `nvidia-smi` says more; or use --device cpu"
    )]
    DriverSilent { code: String },
    #[error(
        "the CUDA driver sees no GPU; check `nvidia-smi` and CUDA_VISIBLE_DEVICES, or use --device cpu"
    )]
    NoDevice,
    #[error("there is no cuda:{ordinal}: the driver sees {count} GPU(s), counted from 0")]
    NoSuchDevice { ordinal: usize, count: usize },
    #[error(
        "{name} has compute capability {capability}; the kernels need 8.0 (Ampere) or later: use --device cpu"
    )]
    OldDevice { name: String, capability: String },
    #[error("this process already uses {0}; start another for the other driver")]
    OtherDriver(&'static str),
    #[error(
        "the emulated GPU's library libcuda_emulator.so was not found beside the program or in {}; build it with \
         `cargo build --release -p cuda-emulator`, or name it in MEDFUSION_EMULATOR",
        looked.display()
    )]
    NoEmulator { looked: PathBuf },
    #[error("{} cannot be loaded: {source}", path.display())]
    Library {
        path: PathBuf,
        source: libloading::Error,
    },
    #[error(
        "NVRTC, which compiles the kernels, was not found ({tried}); run `cargo xtask setup`, or \
         `pip install nvidia-cuda-nvrtc-cu12` and name its libnvrtc.so.12 in MEDFUSION_NVRTC"
    )]
    NoNvrtc { tried: String },
    #[error(
        "NVRTC {major}.{minor} at {} is too old for compute capability {capability}; 12.0 or later is needed: \
         run `cargo xtask setup`, or name a newer one in MEDFUSION_NVRTC",
        path.display()
    )]
    OldNvrtc {
        major: i32,
        minor: i32,
        path: PathBuf,
        capability: String,
    },
    #[error("kernel program {program} does not compile:\n{log}")]
    Compile { program: String, log: String },
    #[error("{what}: the CUDA driver answers {code}{report}")]
    Driver {
        what: String,
        code: String,
        /// The emulator's report behind a line break, or empty.
        report: String,
    },
    #[error("{what}: the device has no room for {bytes} bytes more")]
    NoRoom { what: String, bytes: usize },
}
