//! What the tests share: a device, a module, buffers, launches.

use std::sync::{Arc, LazyLock};

use cuda_emulator::{
    Checks, DeviceMemory, Fault, FaultKind, Instance, LaunchConfig, LaunchCounters, LaunchError,
    LaunchReport, Module, Options, launch,
};

/// The kernels of `kernels.cu`, compiled once.
static KERNELS: LazyLock<Arc<Module>> = LazyLock::new(|| {
    Arc::new(
        Module::compile(include_str!("kernels.ptx"), "kernels.ptx")
            .unwrap_or_else(|e| panic!("{e}")),
    )
});

/// An argument of a kernel.
pub enum Arg {
    Ptr(u64),
    I32(i32),
}

/// A device with a module on it.
pub struct Lab {
    pub memory: DeviceMemory,
    pub instance: Instance,
    pub options: Options,
}

impl Lab {
    pub fn new() -> Lab {
        Lab::with(KERNELS.clone())
    }

    /// A device with a module of this text (without the header).
    pub fn ptx(body: &str) -> Lab {
        let text = format!(".version 8.0\n.target sm_86\n.address_size 64\n{body}");
        Lab::with(Arc::new(
            Module::compile(&text, "test").unwrap_or_else(|e| panic!("{e}")),
        ))
    }

    fn with(module: Arc<Module>) -> Lab {
        let memory = DeviceMemory::new(cuda_emulator::limits::TOTAL_MEMORY).expect("address space");
        let instance = Instance::new(&module, &memory).expect("variables fit");
        Lab {
            memory,
            instance,
            options: Options {
                threads: 2,
                counters: true,
                ..Options::default()
            },
        }
    }

    pub fn unchecked(mut self) -> Lab {
        self.options.checks = Checks::NONE;
        self
    }

    pub fn seed(mut self, seed: u64) -> Lab {
        self.options.seed = seed;
        self
    }

    /// A buffer with these contents.
    pub fn put<T: bytemuck::Pod>(&self, data: &[T]) -> u64 {
        let bytes = bytemuck::cast_slice(data);
        let at = self.memory.alloc(bytes.len() as u64, "data").expect("fits");
        self.memory.write(at, bytes).expect("just allocated");
        at
    }

    /// A buffer that nobody wrote.
    pub fn room<T>(&self, count: usize) -> u64 {
        self.memory
            .alloc((count * size_of::<T>()) as u64, "out")
            .expect("fits")
    }

    pub fn get<T: bytemuck::Pod + bytemuck::Zeroable>(&self, at: u64, count: usize) -> Vec<T> {
        assert_eq!(
            self.memory
                .first_uninit(at, (count * size_of::<T>()) as u64),
            None,
            "the kernel left a hole"
        );
        let mut out = vec![T::zeroed(); count];
        self.memory
            .read(at, bytemuck::cast_slice_mut(&mut out))
            .expect("allocated");
        out
    }

    pub fn try_launch(
        &self,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        args: &[Arg],
    ) -> Result<LaunchReport, LaunchError> {
        let mut params = Vec::new();
        for arg in args {
            match arg {
                Arg::Ptr(p) => {
                    params.resize(params.len().next_multiple_of(8), 0);
                    params.extend(p.to_le_bytes());
                }
                Arg::I32(v) => params.extend(v.to_le_bytes()),
            }
        }
        let config = LaunchConfig {
            kernel,
            grid,
            block,
            dynamic_shared_bytes: shared,
            params: &params,
            cooperative: false,
        };
        launch(&self.memory, &self.instance, &config, &self.options)
    }

    pub fn run(&self, kernel: &str, grid: u32, block: u32, args: &[Arg]) -> LaunchReport {
        self.try_launch(kernel, [grid, 1, 1], [block, 1, 1], 0, args)
            .unwrap_or_else(|e| panic!("{kernel}: {e}"))
    }

    /// The fault that a launch must end with.
    pub fn fault(&self, kernel: &str, grid: u32, block: u32, args: &[Arg]) -> Fault {
        match self.try_launch(kernel, [grid, 1, 1], [block, 1, 1], 0, args) {
            Err(LaunchError::Fault(f)) => *f,
            Err(e) => panic!("{kernel}: {e}"),
            Ok(_) => panic!("{kernel}: nothing was found"),
        }
    }

    pub fn counters(
        &self,
        kernel: &str,
        block: [u32; 3],
        shared: u32,
        args: &[Arg],
    ) -> LaunchCounters {
        self.try_launch(kernel, [1, 1, 1], block, shared, args)
            .unwrap_or_else(|e| panic!("{kernel}: {e}"))
            .counters
            .expect("asked for")
    }
}

/// Launches with a fresh device must fault with this kind under every seed.
pub fn always(kind: FaultKind, launch: impl Fn(&Lab) -> Fault) -> Fault {
    let mut last = None;
    for seed in 0..8 {
        let fault = launch(&Lab::new().seed(seed));
        assert_eq!(fault.kind, kind, "seed {seed}: {fault}");
        last = Some(fault);
    }
    last.expect("launched")
}
