//! What programs are compiled to: machine code of the very GPU where NVRTC makes it, else PTX, which the driver assembles.
//!
//! A driver takes PTX up to the version of its own CUDA release, so NVRTC 12.9 writes PTX that a driver of 12.2 refuses;
//! machine code (a cubin) it takes from any NVRTC of its major release (CUDA compatibility guide, minor version
//! compatibility). A GPU that NVRTC does not know yet has a newer driver, and that assembles PTX of an older architecture.
//! So there is an order of attempts, of which the driver's answers decide.

use std::fmt;

use medfusion_toolkit::Nvrtc;

/// A form of a compiled program; the numbers are a compute capability such as (8, 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Code {
    /// Machine code, for GPUs of this capability, and of the same major and a higher minor number.
    Cubin((u32, u32)),
    /// Text of the virtual machine, for GPUs of this capability and all later ones.
    Ptx((u32, u32)),
}

impl Code {
    /// The compiler's option.
    pub fn architecture(self) -> String {
        match self {
            Self::Cubin((major, minor)) => format!("--gpu-architecture=sm_{major}{minor}"),
            Self::Ptx((major, minor)) => format!("--gpu-architecture=compute_{major}{minor}"),
        }
    }

    /// The file name's end in the cache.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Cubin(_) => "cubin",
            Self::Ptx(_) => "ptx",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cubin((major, minor)) => write!(f, "machine code for sm_{major}{minor}"),
            Self::Ptx((major, minor)) => write!(f, "PTX for compute_{major}{minor}"),
        }
    }
}

/// What a compiler can do.
#[derive(Clone, Debug)]
pub(super) struct Compiler {
    /// Capabilities that it compiles for, ascending; empty where it cannot tell.
    pub architectures: Vec<(u32, u32)>,
    /// Whether it hands out machine code.
    pub machine_code: bool,
}

impl Compiler {
    pub fn of(nvrtc: &Nvrtc) -> Self {
        Self {
            architectures: nvrtc.architectures().to_vec(),
            machine_code: nvrtc.makes_machine_code(),
        }
    }
}

/// What to compile to for a GPU of capability `device`, in the order to be tried; empty where the compiler knows no
/// architecture that the GPU runs and the kernels can use (`least` or later). An emulated GPU runs PTX alone.
pub(super) fn attempts(
    compiler: &Compiler,
    device: (u32, u32),
    least: (u32, u32),
    emulated: bool,
) -> Vec<Code> {
    let known = compiler.architectures.is_empty() || compiler.architectures.contains(&device);
    let nearest = match known {
        true => Some(device),
        false => compiler
            .architectures
            .iter()
            .copied()
            .filter(|architecture| (least..=device).contains(architecture))
            .max(),
    };
    let Some(nearest) = nearest else {
        return Vec::new();
    };
    let cubin = (compiler.machine_code && !emulated && nearest.0 == device.0)
        .then_some(Code::Cubin(nearest));
    let ptx = Some(Code::Ptx(nearest));
    // PTX of an older architecture lets the driver use what the newer GPU adds; its machine code does not.
    let order = match known {
        true => [cubin, ptx],
        false => [ptx, cubin],
    };
    order.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: (u32, u32) = (8, 0);

    fn compiler(architectures: &[(u32, u32)], machine_code: bool) -> Compiler {
        Compiler {
            architectures: architectures.to_vec(),
            machine_code,
        }
    }

    #[test]
    fn machine_code_comes_first_where_the_compiler_knows_the_gpu() {
        let nvrtc = compiler(&[(7, 5), (8, 0), (8, 6), (9, 0), (12, 0)], true);
        for device in [(8, 0), (8, 6), (9, 0), (12, 0)] {
            assert_eq!(
                attempts(&nvrtc, device, LEAST, false),
                [Code::Cubin(device), Code::Ptx(device)]
            );
        }
    }

    #[test]
    fn the_emulator_and_a_compiler_without_machine_code_take_ptx() {
        let nvrtc = compiler(&[(8, 0), (8, 6)], true);
        assert_eq!(attempts(&nvrtc, (8, 6), LEAST, true), [Code::Ptx((8, 6))]);
        let old = compiler(&[], false);
        assert_eq!(attempts(&old, (8, 6), LEAST, false), [Code::Ptx((8, 6))]);
    }

    #[test]
    fn a_gpu_newer_than_the_compiler_takes_ptx_of_the_highest_architecture_below() {
        let nvrtc = compiler(&[(5, 2), (8, 0), (8, 6), (8, 9), (9, 0)], true);
        // Another generation: its machine code would not run.
        assert_eq!(attempts(&nvrtc, (12, 0), LEAST, false), [Code::Ptx((9, 0))]);
        // The same generation: machine code of a lower minor number runs.
        assert_eq!(
            attempts(&nvrtc, (9, 1), LEAST, false),
            [Code::Ptx((9, 0)), Code::Cubin((9, 0))]
        );
        // Between two that are known, never the one above.
        assert_eq!(
            attempts(&nvrtc, (8, 7), LEAST, false),
            [Code::Ptx((8, 6)), Code::Cubin((8, 6))]
        );
        assert_eq!(attempts(&nvrtc, (12, 0), LEAST, true), [Code::Ptx((9, 0))]);
    }

    #[test]
    fn a_compiler_that_ends_below_the_kernels_needs_has_no_attempt() {
        let nvrtc = compiler(&[(3, 5), (7, 0), (7, 5)], true);
        assert_eq!(attempts(&nvrtc, (8, 6), LEAST, false), []);
    }
}
