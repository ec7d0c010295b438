//! What can go wrong between the engine and a CUDA driver.

use std::path::PathBuf;

use thiserror::Error;

/// What can go wrong when a CUDA device is opened, programs are compiled or a plan runs on it.
#[derive(Debug, Error)]
pub enum CudaError {
    /// NVIDIA's driver is not installed.
    #[error("no CUDA driver here: libcuda.so.1 cannot be loaded")]
    NoDriver,
    /// The driver loads but does not initialise.
    #[error("the CUDA driver is there but answers {code}")]
    DriverSilent {
        /// The driver's code and its name.
        code: String,
    },
    /// The driver works but sees no GPU.
    #[error("the CUDA driver sees no GPU")]
    NoDevice,
    /// No GPU has this number.
    #[error("there is no cuda:{ordinal}: the driver sees {count} GPU(s), counted from 0")]
    NoSuchDevice {
        /// The number that was asked for, from 0.
        ordinal: usize,
        /// How many GPUs the driver sees.
        count: usize,
    },
    /// The GPU is older than the kernels allow.
    #[error("{name} has compute capability {capability}; the kernels need 8.0 (Ampere) or later")]
    OldDevice {
        /// Name of the GPU.
        name: String,
        /// Its compute capability, such as `7.5`.
        capability: String,
    },
    /// A process loads one driver: this one is loaded, the other was asked for.
    #[error("this process already uses {0}; start another for the other driver")]
    OtherDriver(&'static str),
    /// The library of the emulated GPU was not found.
    #[error(
        "the emulated GPU's library libcuda_emulator.so was not found beside the program or in {}; build it with \
         `cargo build --release -p cuda-emulator`, or name it in MEDFUSION_EMULATOR",
        looked.display()
    )]
    NoEmulator {
        /// The path that MEDFUSION_EMULATOR names, else the folder of the program.
        looked: PathBuf,
    },
    /// A library is there but cannot be loaded.
    #[error("{} cannot be loaded: {source}", path.display())]
    Library {
        /// Path of the library.
        path: PathBuf,
        /// The loader's reason.
        source: libloading::Error,
    },
    /// NVRTC was not found.
    #[error(
        "NVRTC, which compiles the kernels, was not found ({tried}); run `cargo xtask setup`, or \
         `pip install nvidia-cuda-nvrtc-cu12` and name its libnvrtc.so.12 in MEDFUSION_NVRTC"
    )]
    NoNvrtc {
        /// Names and paths that were tried.
        tried: String,
    },
    /// NVRTC is there without the library of its device headers.
    #[error(
        "{missing}; install the whole package, such as `pip install nvidia-cuda-nvrtc-cu12`, or name another NVRTC in MEDFUSION_NVRTC"
    )]
    NoBuiltins {
        /// Which NVRTC lacks which file.
        missing: String,
    },
    /// NVRTC is older than the kernels' language.
    #[error(
        "NVRTC {major}.{minor} at {} is too old; 12.0 or later is needed: run `cargo xtask setup`, or name a newer one \
         in MEDFUSION_NVRTC",
        path.display()
    )]
    OldNvrtc {
        /// Major version.
        major: i32,
        /// Minor version.
        minor: i32,
        /// Path of its library.
        path: PathBuf,
    },
    /// NVRTC knows no architecture that the GPU runs and that the kernels can use.
    #[error(
        "NVRTC {}.{} at {} compiles for nothing between the kernels' need (8.0) and the GPU's compute capability \
         {capability}: name another NVRTC in MEDFUSION_NVRTC",
        nvrtc.0,
        nvrtc.1,
        path.display()
    )]
    UnknownDevice {
        /// NVRTC's version.
        nvrtc: (i32, i32),
        /// Path of its library.
        path: PathBuf,
        /// Compute capability of the GPU.
        capability: String,
    },
    /// The driver takes nothing that NVRTC makes.
    #[error(
        "the driver (CUDA {}.{}) takes none of the code that NVRTC {}.{} makes: {refusals}; update the driver, or name an \
         NVRTC of the driver's release in MEDFUSION_NVRTC, such as that of `pip install {package}`",
        driver.0,
        driver.1,
        nvrtc.0,
        nvrtc.1,
        package = nvrtc_package(*driver)
    )]
    CodeRefused {
        /// The driver's CUDA release.
        driver: (i32, i32),
        /// NVRTC's version.
        nvrtc: (i32, i32),
        /// Each form that was tried, with the driver's answer.
        refusals: String,
    },
    /// NVRTC rejects a program.
    #[error("kernel program {program} does not compile:\n{log}")]
    Compile {
        /// Name of the program.
        program: String,
        /// NVRTC's log.
        log: String,
    },
    /// A call of the driver failed.
    #[error("{what}: the CUDA driver answers {code}{report}")]
    Driver {
        /// What was being done.
        what: String,
        /// The driver's code and its name.
        code: String,
        /// The emulator's report behind a line break, or empty.
        report: String,
    },
    /// An allocation failed.
    #[error("{what}: the device has no room for {bytes} bytes more")]
    NoRoom {
        /// What it was for.
        what: String,
        /// Its size in bytes.
        bytes: usize,
    },
}

/// The requirement of the wheel that brings NVRTC of a CUDA release.
fn nvrtc_package((major, minor): (i32, i32)) -> String {
    match major {
        ..=12 => format!("nvidia-cuda-nvrtc-cu{major}=={major}.{minor}.*"),
        _ => format!("nvidia-cuda-nvrtc=={major}.{minor}.*"),
    }
}
